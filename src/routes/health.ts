/**
 * `/api/test`: whether the database answers, and the platform. `/api/health`, also as `/api/ready`: the same as a
 * status. They show no secret and no address.
 */
import { Hono } from 'hono/tiny'
import { version } from '../../package.json'
import { tokenNotes } from '../config/tokens.ts'
import type { AppEnv, Deps } from '../context.ts'
import { ApiError, errorResponse } from '../errors.ts'
import { notConfigured } from '../gateway/upstream.ts'
import { allowMethods } from '../http/methods.ts'
import { rememberedCheck, type DatabaseState } from './database-check.ts'

/** Probes ask for one or the other: https://kubernetes.io/docs/concepts/configuration/liveness-readiness-startup-probes/ */
const HEALTH_PATHS = ['/health', '/ready']

export function healthRoutes(deps: Deps): Hono<AppEnv> {
  const { config, store, environment, now } = deps
  const userTokens = tokenNotes(config)
  const app = new Hono<AppEnv>()
  const look = rememberedCheck(deps)

  app.get('/test', async (c) => {
    const checked = await look()
    const { platform, storage } = environment
    const { reason: _, ...health } = store?.health() ?? { degraded: false, queued: 0 }
    c.header('cache-control', 'no-store')
    return c.json({
      ...checked,
      ...health,
      storageType: storage,
      userTokens,
      environment: { platform, isVercel: platform === 'vercel' },
      version,
      timestamp: now(),
    })
  })

  app.on('GET', HEALTH_PATHS, async (c) => {
    const { database } = await look()
    const problem = problemOf(deps, database)
    const answer = problem ? errorResponse(c, problem, config.helpUrl) : c.json({ status: 'ok' })
    answer.headers.set('cache-control', 'no-store')
    return answer
  })

  for (const path of ['/test', ...HEALTH_PATHS]) app.all(path, allowMethods('GET'))
  return app
}

/** Why model calls are answered with 503, if they are. */
function problemOf({ config, store }: Deps, { connected }: DatabaseState): ApiError | undefined {
  if (!store) return new ApiError('not_configured', 'This gateway has no database yet.')
  if (config.groqKey === undefined) return notConfigured()
  const { degraded, stopping } = store.health()
  if (stopping) return new ApiError('store_unavailable', 'This instance is stopping.')
  if (config.onStoreDown === 'closed' && (degraded || connected === false)) {
    return new ApiError('store_unavailable', 'The database does not answer.')
  }
  return undefined
}
