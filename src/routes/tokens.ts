/** `/api/tokens`: the history of tokens by day. */
import { Hono } from 'hono/tiny'
import type { AppEnv, Deps } from '../context.ts'
import { ApiError } from '../errors.ts'
import type { Admin } from '../http/admin.ts'
import { allowMethods } from '../http/methods.ts'
import { sameOrigin } from '../http/same-origin.ts'
import { storeAnswer, storeOf } from '../store/required.ts'
import type { DayDoc } from '../ledger/documents.ts'
import { dateOf, datesTo } from '../ledger/windows.ts'
import type { Environment } from '../ports.ts'
import { historyRow, historyStats } from '../reports/history.ts'
import { tokensQuery, type Action } from './tokens-schemas.ts'

/** The routes of the history, for admins only. */
export function tokensRoutes(deps: Deps, admin: Admin): Hono<AppEnv> {
  const { config, now, environment } = deps
  const { historyDays } = config.retention
  const app = new Hono<AppEnv>()
  const query = tokensQuery(historyDays)
  app.use(sameOrigin, admin.adminOnly)

  app.get('/', async (c) => {
    const asked = query.safeParse(c.req.query())
    if (!asked.success) {
      throw new ApiError(
        'invalid_request',
        `\`action\` must be all, today, history or stats, and \`days\` 1 to ${historyDays}.`,
      )
    }
    const { action, days = historyDays } = asked.data
    const timestamp = now()
    const wanted = action === 'today' ? 1 : action === 'history' ? days : historyDays
    const kept = await storeAnswer(storeOf(deps).days(datesTo(timestamp, wanted)))
    return c.json(reportOf(action, kept, timestamp, environment))
  })

  app.delete('/', async (c) => {
    await storeAnswer(storeOf(deps).execute({ op: 'clear', ...admin.stamp(c) }))
    return c.json({ success: true })
  })

  app.all('/', allowMethods('GET', 'DELETE'))
  return app
}

/** The answer, made from the stored days. */
function reportOf(action: Action, kept: DayDoc[], timestamp: number, environment: Environment) {
  const today = dateOf(timestamp)
  const todayUsage = historyRow(
    today,
    kept.find(({ date }) => date === today),
  )
  /** Newest first, without days that have no requests. */
  const history = kept
    .filter(({ total }) => total.requests > 0)
    .map((day) => historyRow(day.date, day))
    .sort((a, b) => (a.date < b.date ? 1 : -1))
  const { platform, storage } = environment
  switch (action) {
    case 'today':
      return { todayUsage, timestamp }
    case 'history':
      return { history, timestamp }
    case 'stats':
      return { stats: historyStats(history), timestamp }
    case 'all':
      return {
        todayUsage,
        history,
        stats: historyStats(history),
        environment: { isVercel: platform === 'vercel', storageType: storage },
        timestamp,
      }
  }
}
