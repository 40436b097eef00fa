/** The query of the token history. */
import * as z from 'zod/mini'

/** The query, if `historyDays` days are kept. */
export const tokensQuery = (historyDays: number) =>
  z.object({
    action: z._default(z.enum(['all', 'today', 'history', 'stats']), 'all'),
    days: z.optional(z.coerce.number().check(z.int(), z.minimum(1), z.maximum(historyDays))),
  })

export type Action = z.infer<ReturnType<typeof tokensQuery>>['action']
