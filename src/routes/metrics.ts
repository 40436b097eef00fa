/** `GET /metrics`: today's numbers for Prometheus, with `METRICS_KEY`. */
import { Hono } from 'hono/tiny'
import type { AppEnv, Deps } from '../context.ts'
import { ApiError } from '../errors.ts'
import { allowMethods } from '../http/methods.ts'
import { isSame } from '../identity/admin-key.ts'
import { everyoneLimits } from '../ledger/plans.ts'
import { dateOf } from '../ledger/windows.ts'
import { metricsOf } from '../reports/metrics.ts'
import { storeAnswer, storeOf } from '../store/required.ts'

/** https://prometheus.io/docs/instrumenting/exposition_formats/#basic-info */
const TYPE = 'text/plain; version=0.0.4; charset=utf-8'

/** The route. It exists only with `METRICS_KEY`. */
export function metricsRoutes(deps: Deps): Hono<AppEnv> {
  const { config, now } = deps
  const { metricsKey } = config
  const app = new Hono<AppEnv>()
  if (metricsKey === undefined) return app

  app.get('/metrics', async (c) => {
    c.header('cache-control', 'no-store')
    const [, key] = /^bearer +(.*)$/i.exec(c.req.header('authorization') ?? '') ?? []
    if (key === undefined) {
      throw new ApiError('missing_token', 'Send METRICS_KEY as `Authorization: Bearer KEY`.')
    }
    if (!isSame(key, metricsKey)) throw new ApiError('invalid_token', 'That is not METRICS_KEY.')
    const at = now()
    const today = dateOf(at)
    const store = storeOf(deps)
    const users = { sort: 'lastActive', limit: 0, now: at } as const
    const [overview, refusals] = await storeAnswer(
      Promise.all([
        store.overview({ dates: [today], users, events: 0 }),
        store.refusals([today], 0),
      ]),
    )
    const limits = everyoneLimits(config.globalLimits, overview.policy.settings)
    return c.text(metricsOf(overview, refusals.days[today] ?? {}, limits, at), 200, {
      'content-type': TYPE,
    })
  })
  app.all('/metrics', allowMethods('GET'))
  return app
}
