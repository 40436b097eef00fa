/** `GET /api/admin/usage`: the usage of everyone, and of a page of users. */
import type { AppContext, Deps } from '../context.ts'
import { everyoneLimits, limitsOfUser } from '../ledger/plans.ts'
import { datesTo } from '../ledger/windows.ts'
import { inOrder, modelStats, quotasToday, userReport } from '../reports/usage.ts'
import { formatCursor } from '../store/cursor.ts'
import { storeAnswer, storeOf } from '../store/required.ts'
import { readUserQuery } from './user-query.ts'

const EVENTS = 20
const AUDITS = 20

/** Answers `?sort&limit&cursor&q`. */
export const usageHandler =
  (deps: Deps) =>
  async (c: AppContext): Promise<Response> => {
    const { config, now } = deps
    const { sort, limit, from, q } = readUserQuery(c.req.query())
    const at = now()
    const store = storeOf(deps)
    const users = { sort, limit: q === undefined ? limit : 0, from, now: at }
    const [{ days, page, events, quotas, policy }, audit, asked] = await storeAnswer(
      Promise.all([
        store.overview({ dates: datesTo(at, config.statsDays), users, events: EVENTS }),
        store.audit(AUDITS),
        q === undefined ? undefined : store.user(q),
      ]),
    )
    const found = asked ? [asked] : inOrder(page.users, users)
    return c.json({
      users: found.map((user) => {
        const { plan, limits } = limitsOfUser(config.limits, user, policy, at)
        return userReport(user, limits, at, plan)
      }),
      stats: modelStats(days, quotas, everyoneLimits(config.globalLimits, policy.settings), at),
      days: days.map(({ date, total }) => ({ date, ...total })),
      quotas: quotasToday(quotas, at),
      events,
      audit,
      nextCursor: page.next ? formatCursor(page.next) : null,
      ...store.health(),
      timestamp: at,
    })
  }
