/** The page of all plans, with the forms that change them. */
import { DEFAULT_PLAN, TOTAL } from '../ledger/plans.ts'
import { ALL_MODELS } from '../ledger/documents.ts'
import type { plansReport } from '../reports/people.ts'
import { closedForm, modelFields, modelList, type Fields, type Refused } from './form.tsx'
import { exact, limitText } from './format.ts'
import { LIMIT_TITLES, limitRows, rowFields, scopeTitle } from './limit-rows.tsx'
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
    {plans.map((plan) => planCard(plan, plan.name === defaultPlan, names, refused))}
    <Card id="new" title="New plan">
      {closedForm({
        form: 'new',
        action: '/admin/plans/new',
        title: 'Create a plan',
        values: { ...rowFields({}, ALWAYS), ...modelFields(null) },
        refused,
        button: 'Create plan',
        fields: (values) => (
          <>
            <label>
              Name
              <input name="name" value={values['name']} autocomplete="off" required />
            </label>
            {planFields(values, names, 'new-models')}
          </>
        ),
      })}
    </Card>
  </Page>
)

const ALWAYS = [TOTAL, ALL_MODELS]

function planCard(plan: Plan, isDefault: boolean, names: string[], refused: Refused | undefined) {
  const { limits, models, maxCompletionTokens, concurrentRequests, stored } = plan
  const number = (amount: number | null) => (amount === null ? '' : exact(amount))
  const facts = [
    ...Object.entries(limits).map(([model, row]) => [
      scopeTitle(model),
      Object.entries(row)
        .map(
          ([limit, amount]) =>
            `${LIMIT_TITLES[limit]}: ${amount === null ? 'no limit' : limitText(limit, amount)}`,
        )
        .join(', ') || 'no limit',
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
          ...rowFields(limits, ALWAYS),
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
                  <input type="checkbox" name="sure" value="yes" required /> Delete it for good
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
      Limits are numbers, those of money in dollars. What is empty has no limit, and{' '}
      <b>unlimited</b> says the same.
    </p>
    {limitRows({ values, empty: () => () => 'no limit', names, id })}
    <label>
      Completion tokens of a request, at most
      <input name="maxCompletionTokens" value={values['maxCompletionTokens']} autocomplete="off" />
    </label>
    <label>
      Requests at once, at most
      <input name="concurrentRequests" value={values['concurrentRequests']} autocomplete="off" />
    </label>
    {modelList(values)}
  </>
)
