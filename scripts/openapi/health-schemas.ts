/** Schemas of the health of an instance. */
import * as z from 'zod/mini'
import { named, say, time, STORAGE } from './words.ts'
import { health } from './usage-schemas.ts'
import { TOKEN_KINDS, type TokenKind } from '../../src/config/tokens.ts'

export const servesAnswer = z.object({ status: z.literal('ok') })

export const healthAnswer = named(
  'Health',
  z.object({
    database: z.object({
      connected: say(z.nullable(z.boolean()), 'Null until the first check ends.'),
      latencyMs: z.nullable(z.number()),
      reason: health.reason,
    }),
    checkedAt: time('When the database was checked, at most every ten seconds.'),
    degraded: health.degraded,
    queued: health.queued,
    evicts: health.evicts,
    stopping: health.stopping,
    storageType: STORAGE,
    userTokens: z.object({
      kinds: say(z.array(z.enum(Object.keys(TOKEN_KINDS) as TokenKind[])), '`USER_TOKENS`.'),
      notes: say(z.array(z.string()), 'What that means, for people to read.'),
      warnings: say(z.array(z.string()), 'What is risky about it.'),
    }),
    environment: z.object({
      platform: z.enum(['vercel', 'workerd', 'node']),
      isVercel: z.boolean(),
    }),
    version: z.string(),
    timestamp: time(),
  }),
)
