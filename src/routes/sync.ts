/** `/api/tracking/sync`: a browser reports its usage, and gets the server's counts. */
import { Hono } from 'hono/tiny'
import type { AppEnv, Deps } from '../context.ts'
import { ApiError } from '../errors.ts'
import { createIdentify } from '../identity/caller.ts'
import { pageJsonBody } from '../http/json-body.ts'
import { OWN_BODY_BYTES, limitBody } from '../http/limit-body.ts'
import { allowMethods } from '../http/methods.ts'
import { uncompressed } from '../http/uncompressed.ts'
import { secondsUntil } from '../retry-after.ts'
import { storeAnswer, storeOf } from '../store/required.ts'
import { syncReport } from '../reports/usage.ts'
import { SYNC_REFUSAL, syncBody } from './sync-schemas.ts'

/** The tracker syncs at most once in a few seconds. */
export const SYNCS_PER_MINUTE = 20

/** The route of browser reports. Reports are not trusted: they neither count as usage nor lift a limit. */
export function syncRoutes(deps: Deps): Hono<AppEnv> {
  const { config, now } = deps
  const identify = createIdentify(deps)
  const app = new Hono<AppEnv>()

  app.post('/sync', limitBody(OWN_BODY_BYTES), async function plain(c, next) {
    await uncompressed(c)
    await next()
  })
  app.post('/sync', pageJsonBody(syncBody, SYNC_REFUSAL), async (c) => {
    const { userToken, modelUsage } = c.req.valid('json')
    const caller = await identify(c, userToken)
    const store = storeOf(deps)
    const { taken, resetAt } = await storeAnswer(
      store.takeTurn(`sync:${caller.id}`, SYNCS_PER_MINUTE),
    )
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
    const known = await storeAnswer(
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

  app.all('/sync', allowMethods('POST'))
  return app
}
