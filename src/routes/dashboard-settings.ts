/** `/admin/settings`: the page of what holds for everyone, and its forms. */
import { tokenNotes } from '../config/tokens.ts'
import type { AppContext, Deps } from '../context.ts'
import { ApiError } from '../errors.ts'
import type { Admin } from '../http/admin.ts'
import { formOf } from '../http/form.ts'
import { fields } from '../http/json-body.ts'
import { DEFAULT_PLAN } from '../ledger/plans.ts'
import { own } from '../ledger/records.ts'
import { settingsReport } from '../reports/people.ts'
import type { Fields, Refused } from '../views/form.tsx'
import { exact } from '../views/format.ts'
import { settingsPage, type Variable } from '../views/settings.tsx'
import { answerPage, seeOther } from './answer-page.ts'
import { frameOf, framed } from './dashboard-frame.tsx'
import { isRefresh } from './dashboard-refresh.ts'
import { knownModels, refusedForm, rowsIn, textOrNone } from './form-fields.ts'
import { SETTINGS_REFUSAL, storeSettings } from './settings.ts'
import { settingsBody } from './settings-schemas.ts'

/** Answers with the page. */
export const settingsPageHandler =
  (deps: Deps) =>
  (c: AppContext): Response | Promise<Response> =>
    isRefresh(c) ? c.body(null, 304) : answerSettings(c, deps)

async function answerSettings(c: AppContext, deps: Deps, refused?: Refused): Promise<Response> {
  const { config } = deps
  const { policy, days } = await framed(deps)
  const { plans, settings } = policy
  const page = settingsPage({
    ...frameOf(c, deps, days),
    still: true,
    settings: settingsReport(settings, config),
    plans: [...new Set([DEFAULT_PLAN, ...Object.keys(plans)])].sort(),
    names: knownModels(config),
    tokens: tokenNotes(config),
    environment: environmentOf(config),
    refused,
  })
  return answerPage(c, page, refused ? 400 : 200)
}

const CAPS = {
  balanced: 'balanced: a token is reserved for every two bytes of a request',
  strict: 'strict: the most that a request can use is reserved',
}
const STORE_DOWN = {
  open: 'open: calls are served while the database is away, and counted later',
  closed: 'closed: calls are refused while the database is away',
}
const ADDRESSES = {
  full: 'full: whole addresses are kept',
  truncated: 'truncated: only networks are kept',
  off: 'off: no address is kept',
}

/** What an admin needs to know of the environment. Nothing of it is a secret. */
function environmentOf(config: Deps['config']): Variable[] {
  const { retention, admins, groqKey, metricsKey, allowedModels, newUsersPerMinute } = config
  return [
    ['GROQ_API_KEY', groqKey === undefined ? 'not set: no model can be called' : 'set', !groqKey],
    ['ADMIN_KEY, ADMIN_KEYS', admins.map(({ name, role }) => `${name} (${role})`).join(', ')],
    ['METRICS_KEY', metricsKey === undefined ? 'not set: there is no /metrics' : 'set'],
    ['DEFAULT_MODEL', config.defaultModel],
    ['ALLOWED_MODELS', allowedModels.includes('*') ? 'all models' : allowedModels.join(', ')],
    ['CAP', CAPS[config.cap]],
    ['MAX_COMPLETION_TOKENS', `${exact(config.maxCompletionTokens)} tokens`],
    [
      'UNVERIFIED_SHARE',
      `${config.unverifiedShare}% of the limits of everyone, for users of the kind any`,
    ],
    [
      'NEW_USERS_PER_MINUTE',
      newUsersPerMinute === 0 ? 'no limit' : `${exact(newUsersPerMinute)} from one network`,
    ],
    ['ON_STORE_DOWN', STORE_DOWN[config.onStoreDown]],
    ['IP_STORAGE', ADDRESSES[config.ipStorage]],
    ['USER_RETENTION_DAYS', `${exact(retention.userDays)} days`],
    ['HISTORY_RETENTION_DAYS', `${exact(retention.historyDays)} days`],
  ]
}

/** The forms of the page, as the bodies of the admin API. */
const FORMS: Record<string, (typed: Fields) => object> = {
  limits: (typed) => ({ globalLimits: rowsIn(typed) }),
  'unset-limits': () => ({ globalLimits: null }),
  plan: ({ defaultPlan }) => ({
    defaultPlan: defaultPlan === DEFAULT_PLAN ? null : textOrNone(defaultPlan),
  }),
}

/** Runs a form of the page: leads back to the page, or shows it with what is wrong. */
export const settingsFormHandler =
  (deps: Deps, admin: Admin) =>
  async (c: AppContext): Promise<Response> => {
    const form = c.req.param('form') ?? ''
    const bodyOf = own(FORMS, form)
    if (!bodyOf) throw new ApiError('not_found', 'There is no such form.')
    const typed = await formOf(c)
    try {
      const body = fields(bodyOf(typed), settingsBody, SETTINGS_REFUSAL)
      await storeSettings(deps, admin.stamp(c), body)
    } catch (error) {
      if (!(error instanceof ApiError) || error.code !== 'invalid_request') throw error
      return answerSettings(c, deps, refusedForm(form, typed, error))
    }
    return seeOther(c, '/admin/settings?done=saved')
  }
