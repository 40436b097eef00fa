/** `/api/admin/settings`: the limits of everyone together, and the plan of users without one. */
import type * as z from 'zod/mini'
import type { AppContext, Deps } from '../context.ts'
import { ApiError } from '../errors.ts'
import type { Admin, Stamp } from '../http/admin.ts'
import { jsonBody } from '../http/json-body.ts'
import type { SettingsFields } from '../ledger/commands.ts'
import { DEFAULT_PLAN } from '../ledger/plans.ts'
import type { SettingsDoc } from '../ledger/documents.ts'
import { settingsReport } from '../reports/people.ts'
import { storeAnswer, storeOf } from '../store/required.ts'
import { changeOf, refusalOf, storedRows, type Change } from './fields.ts'
import { settingsBody } from './settings-schemas.ts'

export const SETTINGS_REFUSAL = refusalOf(Object.keys(settingsBody.shape))

/** `GET /api/admin/settings`. */
export const settingsHandler =
  (deps: Deps) =>
  async (c: AppContext): Promise<Response> => {
    const { settings } = await storeAnswer(storeOf(deps).policy())
    return c.json(settingsReport(settings, deps.config))
  }

/** `PUT /api/admin/settings`: changes what is given; null brings back the value of the environment. */
export const storeSettingsHandler =
  (deps: Deps, admin: Admin) =>
  async (c: AppContext): Promise<Response> => {
    const body = await jsonBody(c, settingsBody, SETTINGS_REFUSAL)
    return c.json(settingsReport(await storeSettings(deps, admin.stamp(c), body), deps.config))
  }

/** Changes what is given of the settings. */
export async function storeSettings(
  deps: Deps,
  stamp: Stamp,
  body: z.infer<typeof settingsBody>,
): Promise<SettingsDoc> {
  const change = settingsOf(body)
  const store = storeOf(deps)
  const { defaultPlan } = change.set
  if (defaultPlan !== undefined && defaultPlan !== DEFAULT_PLAN) {
    const { plans } = await storeAnswer(store.policy())
    if (!Object.hasOwn(plans, defaultPlan)) throw noPlan(defaultPlan)
  }
  const { settings } = await storeAnswer(store.execute({ op: 'settings', ...change, ...stamp }))
  return settings
}

/** What a body changes. */
export const settingsOf = ({
  globalLimits,
  defaultPlan,
}: z.infer<typeof settingsBody>): Change<SettingsFields> =>
  changeOf<SettingsFields>({
    globalLimits: globalLimits && storedRows(globalLimits),
    defaultPlan,
  })

const noPlan = (name: string) =>
  new ApiError(
    'invalid_request',
    `There is no plan \`${name}\`; PUT /api/admin/plans/${name} stores it.`,
    { param: 'defaultPlan' },
  )
