/** `/admin/users/:userId`: a user's page, whole or as a refresh. */
import type { AppContext, Deps } from '../context.ts'
import { ApiError } from '../errors.ts'
import { rowsOf } from '../ledger/rows.ts'
import { createIssuedKeys } from '../identity/issued-key.ts'
import { DEFAULT_PLAN, limitsOfUser } from '../ledger/plans.ts'
import { dateOf, datesTo } from '../ledger/windows.ts'
import { isViewer } from '../http/admin.ts'
import { blocksOf, userDay, userDays } from '../reports/dashboard.ts'
import { effectiveRows, keysReport, profileReport } from '../reports/people.ts'
import { lastActiveOf } from '../reports/usage.ts'
import { storeAnswer, storeOf } from '../store/required.ts'
import type { WholeUser } from '../store/store.ts'
import type { Refused } from '../views/form.tsx'
import { userPage, type UserLive } from '../views/user.tsx'
import { answerPage } from './answer-page.ts'
import { frameOf, framed, noticeOfBlock } from './dashboard-frame.tsx'
import { isRefresh, refreshed } from './dashboard-refresh.ts'
import { USER_ID } from './user-query.ts'

/** Past days on a user's page. */
const USER_DAYS = 7
/** The latest events of everyone, among which those of the user are searched. */
const LOOKED = 500
/** The most of them that are shown. The list of requests has all. */
const SHOWN_EVENTS = 20
/** The latest refusals of everyone, among which those of the user are searched. */
const REFUSED_LOOKED = 200

/** Answers with the page. Throws `not_found`. */
export const userHandler =
  (deps: Deps) =>
  (c: AppContext): Promise<Response> =>
    answerUser(c, deps)

/** What a form of the page led to: it was refused, or it made a key. */
type Outcome = { refused?: Refused; secret?: string; user?: string }

/** Answers with the page, after a form with what it led to. Throws `not_found`. */
export async function answerUser(
  c: AppContext,
  deps: Deps,
  { user: asked, ...outcome }: Outcome = {},
): Promise<Response> {
  const { config } = deps
  const at = deps.now()
  const [user, { policy, days, events: newest }] = await Promise.all([
    userOf(c, deps, asked),
    framed(deps, LOOKED),
  ])
  const frame = { ...frameOf(c, deps, days), ...noticeOfBlock(c, user, at) }
  const { usage, profile } = user
  const { id, ip } = usage
  const { limits } = limitsOfUser(config.limits, user, policy, at)
  const terms = { limits, prices: config.prices }
  const live: UserLive = {
    id,
    ip: isViewer(c) ? undefined : ip,
    at: lastActiveOf(usage),
    sessions: usage.date === dateOf(at) ? Object.keys(usage.sessions).length : 0,
    ...userDay(user, terms, at),
    days: userDays(user, datesTo(at, Math.min(USER_DAYS, config.retention.userDays) + 1)),
  }
  const ofUser = newest.filter((event) => event.user === id)
  const seen = { events: ofUser.slice(0, SHOWN_EVENTS), looked: LOOKED }
  if (isRefresh(c)) {
    return refreshed(c, frame, [live, seen], () => userPage({ ...frame, live, ...seen }))
  }
  const known = [...Object.keys(rowsOf(usage)), ...Object.keys(terms.limits.models)]
  const names = [...new Set([...known, config.defaultModel])].sort()
  const secret = config.userHashSecret
  const { boost: _, ...rest } = profile
  const plain = { usage, profile: { ...rest, limits: {} } }
  const { latest } = await storeAnswer(storeOf(deps).refusals([], REFUSED_LOOKED))
  const report = profileReport(user, config, policy, at)
  const open = c.req.query('open')
  const more = {
    refused: latest.filter((one) => one.user === id),
    refusedLooked: REFUSED_LOOKED,
    blocks: blocksOf(profile, at),
    names,
    profile: report,
    planStored: Object.hasOwn(policy.plans, report.effectivePlan),
    planLimits: effectiveRows(limitsOfUser(config.limits, plain, policy, at).limits),
    plans: [...new Set([DEFAULT_PLAN, ...Object.keys(policy.plans)])].sort(),
    defaultPlan: policy.settings?.defaultPlan ?? DEFAULT_PLAN,
    keys: keysReport(profile, at, usage),
    next: secret === undefined ? undefined : (await createIssuedKeys(secret).make(id)).id,
    taken: config.userTokens.includes('issued'),
    signed: config.userTokens.includes('signed'),
  }
  const refused = outcome.refused ?? (open === undefined ? undefined : { form: open })
  const page = userPage({ ...frame, live, ...seen, more, refused, secret: outcome.secret })
  return answerPage(c, page, outcome.refused ? 400 : 200)
}

/** The user in the path, or another one. Throws `not_found`. */
export async function userOf(
  c: AppContext,
  deps: Deps,
  id = c.req.param('userId') ?? '',
): Promise<WholeUser> {
  const user = USER_ID.test(id) && (await storeAnswer(storeOf(deps).user(id)))
  if (user) return user
  throw new ApiError('not_found', 'No data is stored for a user with this id.')
}
