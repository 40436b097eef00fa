/** The page of what holds for everyone: stored settings, and what comes from the environment. */
import type { TokenNotes } from '../config/tokens.ts'
import { TOTAL } from '../ledger/plans.ts'
import type { settingsReport } from '../reports/people.ts'
import { closedForm, openForm, select, type Choice, type Refused } from './form.tsx'
import { UNLIMITED_WORD, limitRows, rowFields } from './limit-rows.tsx'
import { Page, type Frame } from './page.tsx'
import { Card, Notice, code, name } from './parts.tsx'

/** A variable and what it is set to, which is no secret. `isProblem`: calls fail by it. */
export type Variable = [name: string, value: string, isProblem?: boolean]

type SettingsPage = Frame & {
  settings: ReturnType<typeof settingsReport>
  /** The names of plans, the default one too. */
  plans: string[]
  /** Models to choose from. */
  names: string[]
  tokens: TokenNotes
  environment: Variable[]
  refused?: Refused | undefined
}

export function settingsPage(props: SettingsPage) {
  const { settings, plans, names, tokens, environment, refused, ...frame } = props
  const { globalLimits, effectiveGlobalLimits, defaultPlan, effectiveDefaultPlan } = settings
  const choices = plans.map((plan): Choice => [plan, plan])
  if (!plans.includes(effectiveDefaultPlan)) {
    choices.push([effectiveDefaultPlan, `${effectiveDefaultPlan} (not stored)`])
  }
  return (
    <Page title="Settings" {...frame}>
      <h1>Settings</h1>
      <div class="two">
        <Card
          id="limits"
          title="Limits of everyone together"
          side={<small>{globalLimits ? 'saved here' : 'from GLOBAL_LIMITS'}</small>}
        >
          {openForm({
            form: 'limits',
            action: '/admin/settings/limits',
            values: rowFields(effectiveGlobalLimits, [TOTAL]),
            refused,
            button: 'Save',
            fields: (values) => (
              <>
                <p class="soft wide">
                  Enter a number (US dollars for money). Leave a field empty for no limit.
                </p>
                {limitRows({
                  values,
                  empty: () => () => UNLIMITED_WORD,
                  names,
                  id: 'limit-models',
                })}
              </>
            ),
          })}
          {globalLimits &&
            closedForm({
              form: 'unset-limits',
              action: '/admin/settings/unset-limits',
              title: 'Use GLOBAL_LIMITS again',
              values: {},
              refused,
              button: 'Use GLOBAL_LIMITS again',
              kind: 'quiet',
            })}
        </Card>
        <div>
          <Card id="plan" title="Default plan">
            {openForm({
              form: 'plan',
              action: '/admin/settings/plan',
              values: { defaultPlan: effectiveDefaultPlan },
              refused,
              button: 'Save',
              fields: (values) => (
                <label class="wide">
                  Users without a plan have
                  {select('defaultPlan', choices, values['defaultPlan'])}
                </label>
              ),
            })}
            {defaultPlan !== null && !plans.includes(defaultPlan) && (
              <Notice bad>This plan is not stored: the limits of MODEL_LIMITS hold.</Notice>
            )}
          </Card>
          <Card id="tokens" title="User tokens" side={<small>from USER_TOKENS</small>}>
            {tokens.warnings.map((warning) => (
              <Notice bad>{warning}</Notice>
            ))}
            {tokens.notes.map((note) => (
              <p class="note">{note}</p>
            ))}
          </Card>
          <Card id="environment" title="From the environment" side={<small>read only</small>}>
            <dl class="list">
              {environment.map(([variable, value, isProblem]) => (
                <div>
                  <dt>{code(variable)}</dt>
                  <dd class={isProblem ? 'error' : undefined}>{name(value)}</dd>
                </div>
              ))}
            </dl>
          </Card>
        </div>
      </div>
    </Page>
  )
}
