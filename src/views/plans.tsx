/** The page of all plans, with the forms that change them. */
import { DEFAULT_PLAN } from '../ledger/plans.ts'
import type { plansReport } from '../reports/people.ts'
import { Input, closedForm, modelFields, modelList, type Fields, type Refused } from './form.tsx'
import { exact } from './format.ts'
import {
  FIXED_ROWS,
  UNLIMITED_WORD,
  inFormOrder,
  limitRows,
  limitWords,
  rowFields,
  scopeTitle,
} from './limit-rows.tsx'
import { Page, type Frame } from './page.tsx'
import { Card, name, tag } from './parts.tsx'

type Plan = ReturnType<typeof plansReport>[number]

type PlansPage = Frame & {
  plans: Plan[]
  /** The plan of users without one. */
  defaultPlan: string
  /** Models to choose from. */
  names: string[]
  refused?: Refused | undefined
}

export const plansPage = ({ plans, defaultPlan, names, refused, ...frame }: PlansPage) => (
  <Page title="Plans" {...frame}>
    <h1>Plans</h1>
    <div class="two">
      {plans.map((plan) => planCard(plan, plan.name === defaultPlan, names, refused))}
    </div>
    <Card id="new" title="New plan">
      {closedForm({
        form: 'new',
        action: '/admin/plans/new',
        title: 'Create a plan',
        values: { ...rowFields({}, FIXED_ROWS), ...modelFields(null) },
        refused,
        button: 'Create plan',
        fields: (values) => (
          <>
            <label>
              Name
              <Input name="name" value={values['name']} required />
            </label>
            {planFields(values, names, 'new-models')}
          </>
        ),
      })}
    </Card>
  </Page>
)

function planCard(plan: Plan, isDefault: boolean, names: string[], refused: Refused | undefined) {
  const { limits, models, maxCompletionTokens, concurrentRequests, stored } = plan
  const number = (amount: number | null) => (amount === null ? '' : exact(amount))
  const facts = [
    ...inFormOrder(limits).map(([model, row]) => [
      scopeTitle(model),
      limitWords(row).join(' · ') || UNLIMITED_WORD,
    ]),
    ...(models ? [['Models', models.join(', ') || 'none']] : []),
    ...(maxCompletionTokens === null
      ? []
      : [['Completion tokens of a request', exact(maxCompletionTokens)]]),
    ...(concurrentRequests === null ? [] : [['Requests at once', exact(concurrentRequests)]]),
  ]
  return (
    <Card
      id={`plan-${plan.name}`}
      title={name(plan.name)}
      side={
        <>
          {isDefault && tag('default', 'plan', 'The plan of users without one')}
          {!stored && <small>from MODEL_LIMITS, until it is saved here</small>}
        </>
      }
    >
      {facts.length ? (
        <dl class="list">
          {facts.map(([title = '', fact = '']) => (
            <div>
              <dt>{name(title)}</dt>
              <dd>{name(fact)}</dd>
            </div>
          ))}
        </dl>
      ) : (
        <p class="empty">No limits.</p>
      )}
      {closedForm({
        form: `save-${plan.name}`,
        action: '/admin/plans/save',
        title: 'Edit',
        values: {
          ...rowFields(limits, FIXED_ROWS),
          ...modelFields(models),
          maxCompletionTokens: number(maxCompletionTokens),
          concurrentRequests: number(concurrentRequests),
        },
        refused,
        button: 'Save',
        fields: (values) => (
          <>
            <input type="hidden" name="name" value={plan.name} />
            {planFields(values, names, `models-${plan.name}`)}
          </>
        ),
      })}
      {stored &&
        closedForm({
          form: `delete-${plan.name}`,
          action: '/admin/plans/delete',
          title: 'Delete',
          values: {},
          refused,
          button: 'Delete plan',
          kind: 'danger',
          fields: () => (
            <>
              <p class="soft wide">
                {plan.name === DEFAULT_PLAN
                  ? 'The limits of MODEL_LIMITS hold again.'
                  : 'Its users have the default plan then.'}
              </p>
              <input type="hidden" name="name" value={plan.name} />
              <label class="tick">
                <span>
                  <input type="checkbox" name="sure" value="yes" required /> Delete the plan{' '}
                  {name(plan.name)} for good
                </span>
              </label>
            </>
          ),
        })}
    </Card>
  )
}

const planFields = (values: Fields, names: string[], id: string) => (
  <>
    <p class="soft wide">
      Enter a number (US dollars for money). Leave a field empty for no limit.
    </p>
    {limitRows({ values, empty: () => () => UNLIMITED_WORD, names, id })}
    <label>
      Completion tokens, at most
      <Input name="maxCompletionTokens" value={values['maxCompletionTokens']} />
    </label>
    <label>
      Requests at once, at most
      <Input name="concurrentRequests" value={values['concurrentRequests']} />
    </label>
    {modelList(values)}
  </>
)
