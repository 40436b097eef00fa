/** What an admin decides about a user: name and plan, limits, a boost, models, tokens, resets. */
import { TOTAL } from '../ledger/plans.ts'
import { ALL_MODELS } from '../ledger/documents.ts'
import { own } from '../ledger/records.ts'
import { WINDOW_NAMES } from '../ledger/windows.ts'
import {
  Input,
  TextArea,
  closedForm,
  modelFields,
  modelList,
  openForm,
  select,
  timeField,
  type Choice,
  type Refused,
} from './form.tsx'
import { limitField } from './format.ts'
import { FIXED_ROWS, UNLIMITED_WORD, limitRows, rowFields } from './limit-rows.tsx'
import { limitsInForce, type UserLimits } from './user-limits.tsx'
import { Card, NAME_CHARS, name, time } from './parts.tsx'

export type UserProfile = UserLimits & {
  /** The names of plans that are stored, and that of the default one. */
  plans: string[]
  defaultPlan: string
  /** Models to choose from. */
  names: string[]
  /** Whether the gateway takes signed tokens. */
  signed: boolean
}

/** The card of the user whose page is at `path`. */
export function profileCard(
  path: string,
  of: UserProfile,
  refused: Refused | undefined,
  now: number,
) {
  const { profile, planLimits, plans, defaultPlan, names, signed } = of
  const { ownLabel, label, note, plan, effectivePlan, boost, models, notBefore } = profile
  const facts = {
    Plan: name(effectivePlan),
    ...(boost && { 'Boost ends': time(boost.until, now) }),
    ...(models && { Models: models.length ? name(models.join(', ')) : 'none' }),
    ...(notBefore !== null && { 'Tokens refused before': time(notBefore, now) }),
  }
  const choices: Choice[] = [
    ['', `that of their token, else ${defaultPlan}`],
    ...plans.map((one): Choice => [one, one]),
  ]
  if (plan !== null && !plans.includes(plan)) choices.push([plan, `${plan} (not stored)`])
  const inPlan = (model: string) => {
    const row = own(planLimits, model) ?? (model === TOTAL ? {} : own(planLimits, ALL_MODELS))
    return (limit: string) => {
      // What holds for a model that is still to be named is not known.
      if (model === '') return ''
      const amount = row?.[limit] ?? null
      return amount === null ? UNLIMITED_WORD : limitField(limit, amount)
    }
  }
  const form = (form: string) => ({ form, action: `${path}/${form}`, refused })
  return (
    <Card id="profile" title="Plan and limits">
      <dl class="facts">
        {Object.entries(facts).map(([title, fact]) => (
          <div>
            <dt>{title}</dt>
            <dd>{fact}</dd>
          </div>
        ))}
      </dl>
      {limitsInForce(of)}
      {note !== null && (
        <p class="note">
          <b>Note:</b> {name(note)}
        </p>
      )}
      {openForm({
        ...form('plan'),
        values: { plan: plan ?? '' },
        button: 'Set plan',
        kind: 'quiet',
        fields: (values) => (
          <label class="most">
            Set the plan
            {select('plan', choices, values['plan'])}
          </label>
        ),
      })}
      {closedForm({
        ...form('profile'),
        title: 'Label and note',
        values: { label: ownLabel ?? '', note: note ?? '' },
        button: 'Save',
        fields: (values) => (
          <>
            <label>
              Label
              <Input
                name="label"
                value={values['label']}
                placeholder={label?.slice(0, NAME_CHARS)}
              />
            </label>
            <label class="wide">
              Note, not shown to the user
              <TextArea name="note">{values['note']}</TextArea>
            </label>
          </>
        ),
      })}
      {closedForm({
        ...form('limits'),
        title: 'Limits of their own',
        values: rowFields(profile.limits, FIXED_ROWS),
        button: 'Save',
        fields: (values) => (
          <>
            <p class="soft wide">
              Enter a number (US dollars for money) or “{UNLIMITED_WORD}”. An empty field takes the
              plan’s limit, which is shown in grey for the models listed.
            </p>
            {limitRows({ values, empty: inPlan, names, id: 'limit-models' })}
          </>
        ),
      })}
      {closedForm({
        ...form('boost'),
        title: 'Boost',
        values: {
          until: timeField(boost?.until ?? null),
          ...rowFields(boost?.limits ?? {}, FIXED_ROWS),
        },
        button: 'Boost',
        fields: (values) => (
          <>
            <p class="soft wide">
              These amounts (US dollars for money) are added to the limits until the end time.
            </p>
            <label>
              Ends (UTC)
              <Input name="until" type="datetime-local" value={values['until']} required />
            </label>
            {limitRows({ values, empty: () => () => '0', names, id: 'boost-models' })}
          </>
        ),
      })}
      {boost &&
        closedForm({
          ...form('unboost'),
          title: 'End the boost',
          values: {},
          button: 'End it now',
        })}
      {closedForm({
        ...form('models'),
        title: 'Models',
        values: modelFields(models),
        button: 'Save',
        fields: modelList,
      })}
      {signed &&
        closedForm({
          ...form('sign-out'),
          title: 'Refuse earlier tokens',
          values: {},
          button: 'Refuse earlier tokens',
          fields: () => (
            <p class="soft wide">
              Signed tokens that were issued before now are refused. Keys stay valid, and so do
              tokens that are not signed (<code>any</code> in USER_TOKENS).
            </p>
          ),
        })}
      {notBefore !== null &&
        closedForm({
          ...form('sign-in'),
          title: 'Take earlier tokens again',
          values: {},
          button: 'Take earlier tokens again',
        })}
      {closedForm({
        ...form('reset'),
        title: 'Reset',
        values: {},
        button: 'Reset',
        fields: ({ window }) => (
          <>
            <p class="soft wide">
              Sets this user’s usage to zero, except what running requests reserve. The days in the
              chart stay, and so does what counts against the limits of everyone.
            </p>
            <label>
              Window
              {select(
                'window',
                [['', 'all'], ...WINDOW_NAMES.map((one): Choice => [one, one])],
                window,
              )}
            </label>
          </>
        ),
      })}
    </Card>
  )
}
