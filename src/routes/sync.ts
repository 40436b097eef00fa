/** `/api/tracking/sync`: a browser reports its usage, and gets the server's counts. */
import { Hono } from 'hono/tiny'
import type { AppEnv, Deps } from '../context.ts'
import { ApiError } from '../errors.ts'
import { SYNCS_PER_MINUTE } from '../ledger/commands.ts'
import { createIdentify } from '../identity/caller.ts'
import { pageJsonBody } from '../http/json-body.ts'
import { OWN_BODY_BYTES, limitBody } from '../http/limit-body.ts'
import { allowMethods } from '../http/methods.ts'
import { secondsUntil } from '../retry-after.ts'
import { storeAnswer, storeOf } from '../store/required.ts'
import { syncReport } from '../reports/usage.ts'
import { SYNC_REFUSAL, syncBody } from './sync-schemas.ts'

/** The route of browser reports. Reports are not trusted: they neither count as usage nor lift a limit. */
export function syncRoutes(deps: Deps): Hono<AppEnv> {
  const { config, now } = deps
  const identify = createIdentify(deps)
  const app = new Hono<AppEnv>()

  app.post('/sync', limitBody(OWN_BODY_BYTES), pageJsonBody(syncBody, SYNC_REFUSAL), async (c) => {
    const { userToken, modelUsage } = c.req.valid('json')
    const caller = await identify(c, userToken)
    const store = storeOf(deps)
    const models = Object.fromEntries(
      Object.entries(modelUsage).map(([model, { day }]) => [model, day]),
    )
    const answer = await storeAnswer(
      store.execute({
        op: 'report',
        now: now(),
        user: caller.id,
        models,
        limits: config.limits,
      }),
    )
    if (!answer.ok) {
      throw new ApiError(
        'rate_limit_exceeded',
        `A user may sync ${SYNCS_PER_MINUTE} times a minute.`,
        { headers: { 'retry-after': String(secondsUntil(answer.resetAt, now())) } },
      )
    }
    c.header('cache-control', 'no-store')
    return c.json({ success: true, ...syncReport(answer) })
  })

  app.all('/sync', allowMethods('POST'))
  return app
}
