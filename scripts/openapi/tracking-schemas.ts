/** Schemas of the report of a browser. */
import { named, sayOf, say, count, left, time } from './words.ts'
import { syncBody } from '../../src/routes/sync-schemas.ts'
import { MODELS_PER_USER } from '../../src/ledger/capacity.ts'
import type { syncReport } from '../../src/reports/usage.ts'
import * as z from 'zod/mini'

// The browser's report.

named('SyncReport', syncBody, 'The counts of a browser.')
sayOf(syncBody, {
  userToken: 'The user token, if no header has it.',
  ipAddress: 'Ignored and not stored.',
  modelUsage: {
    description: `By model, at most ${MODELS_PER_USER}: the usage in the window that ends at \`resetAt\`, epoch milliseconds.`,
    maxProperties: MODELS_PER_USER,
  },
})

type SyncAnswer = { success: true } & ReturnType<typeof syncReport>
const syncAnswer: z.ZodMiniType<SyncAnswer> = z.object({
  success: z.literal(true),
  usage: say(
    z.record(
      z.string(),
      z.object({
        tokensUsedDay: count('Without what running requests reserve.'),
        tokensReservedDay: count('What running requests reserve. The usage of each replaces it.'),
        tokensRemainingDay: left(),
        requestsDay: count('With running requests.'),
        resetAt: time(),
      }),
    ),
    'Usage by model, metered by the gateway.',
  ),
  blocked: z.array(
    z.object({
      model: say(z.string(), 'The name of a model, or `*` for all.'),
      reason: z.nullable(z.string()),
      until: z.nullable(time()),
    }),
  ),
})
export const synced = named('SyncAnswer', syncAnswer)
