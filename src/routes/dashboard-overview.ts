/** `/admin`: the overview, whole or as a refresh. */
import { tokenNotes } from '../config/tokens.ts'
import type { AppContext, Deps } from '../context.ts'
import { DEFAULT_PLAN, everyoneLimits, limitsOfUser, type Policy } from '../ledger/plans.ts'
import { own } from '../ledger/shapes.ts'
import { dateOf, datesTo } from '../ledger/windows.ts'
import { blocksOf, pastDays, today, userLine } from '../reports/dashboard.ts'
import { codesOf } from '../reports/refusals.ts'
import { inOrder } from '../reports/usage.ts'
import { formatCursor, parseCursor } from '../store/cursor.ts'
import { auditFor } from '../http/admin.ts'
import { storeAnswer, storeOf } from '../store/required.ts'
import type { Refusals, User } from '../store/store.ts'
import type { AdminActions } from '../views/overview-admin.tsx'
import type { Line } from '../views/overview-users.tsx'
import { overviewPage, type Live } from '../views/overview.tsx'
import { answerPage } from './answer-page.ts'
import { frameOf } from './dashboard-frame.tsx'
import { isRefresh, refreshed } from './dashboard-refresh.ts'

const USERS = 50
const EVENTS = 50
const BLOCKED = 100
const AUDIT = 20
const REFUSED = 20
const NO_REFUSALS: Refusals = { latest: [], days: {} }
/** Days of the long chart, if that many are kept. */
const HISTORY_DAYS = 90

/** Answers `?sort&cursor`. */
export const overviewHandler =
  (deps: Deps) =>
  async (c: AppContext): Promise<Response> => {
    const store = storeOf(deps)
    const { config } = deps
    const { prices } = config
    const frame = frameOf(c, deps)
    const at = frame.now
    const sort = c.req.query('sort') === 'tokens' ? 'tokens' : 'lastActive'
    const from = parseCursor(c.req.query('cursor') ?? '')
    const part = isRefresh(c)
    const dates = datesTo(at, part ? 2 : Math.min(HISTORY_DAYS, config.retention.historyDays))
    const users = { sort, from, limit: USERS, now: at } as const
    const [overview, blocked, audit, refusals] = await storeAnswer(
      Promise.all([
        store.overview({ dates, users, events: EVENTS }),
        part ? [] : store.blockedUsers(BLOCKED),
        part ? [] : store.audit(AUDIT),
        part ? NO_REFUSALS : store.refusals([dateOf(at)], REFUSED),
      ]),
    )
    const { days, page, events, policy } = overview
    const global = everyoneLimits(config.globalLimits, policy.settings)
    const live: Live = {
      health: store.health(),
      today: today(overview, { limits: global, prices }, at),
      users: inOrder(page.users, users).map((user) => lineOf(deps, user, policy, at)),
      sort,
      next: page.next && formatCursor(page.next),
      paged: from !== undefined,
      events,
    }
    if (part) return refreshed(c, frame, live, () => overviewPage({ ...frame, live }))
    const more = {
      history: pastDays(days, dates, { prices }),
      blocks: blocked.flatMap((profile) => blocksOf(profile, at)),
      cut: blocked.length >= BLOCKED,
      audit: auditFor(c, audit),
      refused: {
        codes: codesOf(own(refusals.days, dateOf(at)) ?? {}),
        latest: refusals.latest,
      },
      invoice: invoiceDays(deps, at),
      origin: new URL(c.req.url).origin,
      tokens: tokenNotes(config),
    }
    return answerPage(c, overviewPage({ ...frame, live, more }))
  }

/** The days that an invoice can have, and those of this month so far. */
function invoiceDays({ config }: Deps, at: number): AdminActions['invoice'] {
  const [to = ''] = datesTo(at, 1)
  const oldest = datesTo(at, config.retention.userDays + 1).at(-1) ?? to
  const first = `${to.slice(0, -2)}01`
  return { oldest, from: first < oldest ? oldest : first, to }
}

/** A user as lists show it, with the plan if it is not the default. */
export function lineOf({ config }: Deps, user: User, policy: Policy, at: number): Line {
  const { plan, limits } = limitsOfUser(config.limits, user, policy, at)
  const line = userLine(user, { limits, prices: config.prices }, at)
  return plan === (policy.settings?.defaultPlan ?? DEFAULT_PLAN) ? line : { ...line, plan }
}
