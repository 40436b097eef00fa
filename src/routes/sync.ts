/** `/api/tracking/sync`: a browser says what it has used, and is told what the server knows. */
import { zValidator } from '@hono/zod-validator'
import { Hono } from 'hono/tiny'
import * as z from 'zod/mini'
import type { AppEnv, Deps } from '../context.ts'
import { ApiError } from '../errors.ts'
import { createIdentify } from '../middleware/caller.ts'
import { limitBody } from '../middleware/limit-body.ts'
import { only } from '../middleware/methods.ts'
import { secondsUntil } from '../middleware/retry-after.ts'
import { answered, storeOf } from '../middleware/store.ts'
import { MODELS_PER_USER } from '../ledger/commands.ts'
import { MODEL_NAME } from '../usage/models.ts'
import { syncReport } from '../usage/report.ts'

/** The tracker syncs every few seconds at most. */
export const SYNCS_PER_MINUTE = 20
const MAX_BODY_BYTES = 64 * 1024

/** More is no day's use of a person, and sums of it stay exact. */
const amount = z.int().check(z.nonnegative(), z.maximum(1_000_000_000_000))
const window = z.object({ tokens: amount, requests: amount, resetAt: z.int() })

export const syncBody = z.object({
  userToken: z.optional(z.string()),
  // Sent by older clients and not believed: the platform knows better.
  ipAddress: z.optional(z.nullable(z.string())),
  modelUsage: z
    .record(
      z.string().check(z.regex(MODEL_NAME)),
      z.object({ minute: z.optional(window), day: window }),
    )
    .check(z.refine((usage) => Object.keys(usage).length <= MODELS_PER_USER)),
})

/** The route of the browser's reports; they are never proof, and neither count nor lift anything. */
export function syncRoutes(deps: Deps): Hono<AppEnv> {
  const { config, now } = deps
  const identify = createIdentify(deps)
  const app = new Hono<AppEnv>()

  const validate = zValidator('json', syncBody, (result) => {
    if (result.success) return
    const path = result.error.issues[0]?.path.map(String) ?? []
    const param = (path.join('.') || 'modelUsage').slice(0, 200)
    throw new ApiError(
      'invalid_request',
      `\`${param}\` is wrong: send JSON {userToken?, modelUsage: {MODEL: {minute?, day: {tokens, requests, resetAt}}}} ` +
        `with whole numbers and at most ${MODELS_PER_USER} models.`,
      { param },
    )
  })

  app.post('/sync', limitBody(MAX_BODY_BYTES), validate, async (c) => {
    const { userToken, modelUsage } = c.req.valid('json')
    const caller = await identify(c, userToken)
    const store = storeOf(deps)
    const { taken, resetAt } = await answered(store.takeTurn(`sync:${caller.id}`, SYNCS_PER_MINUTE))
    if (!taken) {
      throw new ApiError(
        'rate_limit_exceeded',
        `A user may sync ${SYNCS_PER_MINUTE} times a minute.`,
        { headers: { 'retry-after': String(secondsUntil(resetAt, now())) } },
      )
    }
    const models = Object.fromEntries(
      Object.entries(modelUsage).map(([model, { day }]) => [model, day]),
    )
    const known = await answered(
      store.execute({
        op: 'report',
        now: now(),
        user: caller.id,
        models,
        limits: config.limits,
      }),
    )
    c.header('cache-control', 'no-store')
    return c.json({ success: true, ...syncReport(known) })
  })

  app.all('/sync', only('POST'))
  return app
}
