/** `/api/tokens`: the history of tokens by day. */
import { Hono } from 'hono/tiny'
import * as z from 'zod/mini'
import type { AppEnv, Deps } from '../context.ts'
import { ApiError } from '../errors.ts'
import type { Admin } from '../middleware/admin.ts'
import { only } from '../middleware/methods.ts'
import { sameOrigin } from '../middleware/same-origin.ts'
import { answered, storeOf } from '../middleware/store.ts'
import { dateOf, datesTo } from '../ledger/windows.ts'
import { historyRow, historyStats, type HistoryRow } from '../usage/history.ts'
import { wholeNumber } from './whole-number.ts'

/** What may be asked for, where so many days are kept. */
export const tokensQuery = (historyDays: number) =>
  z.object({
    action: z._default(z.enum(['all', 'today', 'history', 'stats']), 'all'),
    days: z.optional(wholeNumber(historyDays)),
  })

export function tokensRoutes(deps: Deps, admin: Admin): Hono<AppEnv> {
  const { config, now, environment } = deps
  const { historyDays } = config.retention
  const app = new Hono<AppEnv>()
  const query = tokensQuery(historyDays)
  app.use(sameOrigin, admin.only)

  app.get('/', async (c) => {
    const asked = query.safeParse(c.req.query())
    if (!asked.success) {
      throw new ApiError(
        'invalid_request',
        `\`action\` is all, today, history or stats, \`days\` 1 to ${historyDays}.`,
      )
    }
    const { action, days = historyDays } = asked.data
    const timestamp = now()
    const today = dateOf(timestamp)
    const wanted = action === 'today' ? 1 : action === 'history' ? Number(days) : historyDays
    const kept = await answered(storeOf(deps).days(datesTo(timestamp, wanted)))
    /** Newest first, days without any request left out. */
    const history: HistoryRow[] = kept
      .filter(({ total }) => total.requests > 0)
      .map((day) => historyRow(day.date, day))
      .sort((a, b) => (a.date < b.date ? 1 : -1))
    const todayUsage = historyRow(
      today,
      kept.find(({ date }) => date === today),
    )
    switch (action) {
      case 'today':
        return c.json({ todayUsage, timestamp })
      case 'history':
        return c.json({ history, timestamp })
      case 'stats':
        return c.json({ stats: historyStats(history), timestamp })
      case 'all':
        return c.json({
          todayUsage,
          history,
          stats: historyStats(history),
          environment: {
            isVercel: environment.platform === 'vercel',
            storageType: environment.storage,
          },
          timestamp,
        })
    }
  })

  app.delete('/', async (c) => {
    await answered(storeOf(deps).execute({ op: 'clear', ...admin.stamp(c) }))
    return c.json({ success: true })
  })

  app.all('/', only('GET', 'DELETE'))
  return app
}
