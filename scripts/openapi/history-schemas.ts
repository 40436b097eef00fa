/** Schemas of the history, as the predecessor had it. */
import { tokensQuery } from '../../src/routes/tokens-schemas.ts'
import { sayOf, date, count, named, say, STORAGE, time } from './words.ts'
import * as z from 'zod/mini'
import type { HistoryRow, HistoryStats } from '../../src/reports/history.ts'

// The history.

/** Each gateway configures how far back the history goes, so the document states no maximum. */
export const historyQuery = tokensQuery(Number.MAX_SAFE_INTEGER)
sayOf(historyQuery, {
  action: 'The parts to return.',
  days: 'How many days of `history`. The default and the maximum are `HISTORY_RETENTION_DAYS`.',
})

const historyRow: z.ZodMiniType<HistoryRow> = z.object({
  date: date(),
  totalTokens: count(),
  completionTokens: count(),
  promptTokens: count(),
  requestCount: count(),
  uniqueUsers: count(),
  uniqueSessions: count(),
})
named('HistoryRow', historyRow)

const historyStats: z.ZodMiniType<HistoryStats> = z.object({
  totalTokensAllTime: count('Of all stored days.'),
  totalRequests: count(),
  avgTokensPerRequest: z.number(),
  mostActiveDate: z.nullable(date()),
  daysTracked: count('Days with any use.'),
})

export const historyAnswer = named(
  'History',
  z.object({
    todayUsage: say(z.optional(historyRow), 'With `action` all and today.'),
    history: say(
      z.optional(z.array(historyRow)),
      'With `action` all and history: days with usage, the newest first.',
    ),
    stats: say(z.optional(named('HistoryStats', historyStats)), 'With `action` all and stats.'),
    environment: say(
      z.optional(z.object({ isVercel: z.boolean(), storageType: STORAGE })),
      'With `action` all.',
    ),
    timestamp: time(),
  }),
)
