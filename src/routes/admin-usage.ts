/** `GET /api/admin/usage`: the usage of everyone, and of a page of users. */
import type { AppContext, Deps } from '../context.ts'
import { auditFor, withoutAddress } from '../http/admin.ts'
import { everyoneLimits, limitsOfUser } from '../ledger/plans.ts'
import { datesTo } from '../ledger/windows.ts'
import { refusalsReport, refusedReport } from '../reports/refusals.ts'
import { tagStats } from '../reports/tags.ts'
import { daysReport, inOrder, modelStats, quotasToday, userReport } from '../reports/usage.ts'
import { formatCursor } from '../store/cursor.ts'
import { storeAnswer, storeOf } from '../store/required.ts'
import { readUserQuery } from './user-query.ts'

const EVENTS = 20
/** The latest events among which those with a tag are looked for. */
const LOOKED_AT = 1000
const AUDITS = 20
const REFUSED = 20

/** Answers `?sort&limit&cursor&q&tag`. */
export const usageHandler =
  (deps: Deps) =>
  async (c: AppContext): Promise<Response> => {
    const { config, now } = deps
    const { prices } = config
    const { sort, limit, from, q, tag } = readUserQuery(c.req.query())
    const at = now()
    const store = storeOf(deps)
    const dates = datesTo(at, config.statsDays)
    const users = { sort, limit: q === undefined ? limit : 0, from, now: at }
    const [{ days, page, events, quotas, policy }, audit, refusals, asked] = await storeAnswer(
      Promise.all([
        store.overview({ dates, users, events: tag === undefined ? EVENTS : LOOKED_AT }),
        store.audit(AUDITS),
        store.refusals(dates, REFUSED),
        q === undefined ? undefined : store.user(q),
      ]),
    )
    const found = asked ? [asked] : inOrder(page.users, users)
    const global = everyoneLimits(config.globalLimits, policy.settings)
    return c.json({
      users: found.map((user) => {
        const { plan, limits } = limitsOfUser(config.limits, user, policy, at)
        return withoutAddress(c, userReport(user, limits, at, plan, prices))
      }),
      stats: modelStats(days, quotas, { limits: global, prices }, at),
      days: daysReport(days, prices),
      quotas: quotasToday(quotas, at),
      events: tag === undefined ? events : events.filter((one) => one.tag === tag).slice(0, EVENTS),
      tags: tagStats(days, at),
      audit: auditFor(c, audit),
      refusals: refusalsReport(refusals.days),
      refused: refusals.latest.map(refusedReport),
      nextCursor: page.next ? formatCursor(page.next) : null,
      ...store.health(),
      timestamp: at,
    })
  }
