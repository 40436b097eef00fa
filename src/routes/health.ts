/**
 * `/api/test`: whether the database answers, and the platform. `/api/health`: the same as a status. They show no secret
 * and no address.
 */
import { Hono } from 'hono/tiny'
import { version } from '../../package.json'
import { tokenNotes } from '../config/tokens.ts'
import type { AppEnv, Deps } from '../context.ts'
import { ApiError, errorResponse } from '../errors.ts'
import { notConfigured } from '../gateway/upstream.ts'
import { allowMethods } from '../http/methods.ts'
import { StoreError } from '../store/store.ts'

/** How long a result is reused: the check writes, and anyone may call it. */
const REMEMBER_MS = { good: 10_000, bad: 1000 }

/** `connected` is null before the first check has ended. */
type Database = { connected: boolean | null; latencyMs: number | null; reason?: string }

type Checked = { database: Database; checkedAt: number }

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

  app.get('/health', async (c) => {
    const { database } = await look()
    const problem = problemOf(deps, database)
    const answer = problem ? errorResponse(c, problem, config.helpUrl) : c.json({ status: 'ok' })
    answer.headers.set('cache-control', 'no-store')
    return answer
  })

  app.all('/test', allowMethods('GET'))
  app.all('/health', allowMethods('GET'))
  return app
}

/** The check of the database, reused for a while. */
function rememberedCheck({ store, now }: Deps): () => Promise<Checked> {
  let known: Checked | undefined
  let wasDegraded = false

  async function check(): Promise<Database> {
    const started = performance.now()
    try {
      await store?.probe()
    } catch (error) {
      if (!(error instanceof StoreError)) throw error
      return away(error.reason)
    }
    const latencyMs = Math.round((performance.now() - started) * 10) / 10
    return store ? { connected: true, latencyMs } : away()
  }

  return async () => {
    const checkedAt = now()
    const { degraded, reason } = store?.health() ?? {}
    // Then the store is tried in the background, and checked here as soon as that succeeds.
    if (degraded) {
      wasDegraded = true
      return (known = { database: away(reason), checkedAt })
    }
    const wait = known?.database.connected === false ? REMEMBER_MS.bad : REMEMBER_MS.good
    if (!known || wasDegraded || checkedAt - known.checkedAt >= wait) {
      wasDegraded = false
      // Concurrent callers get the previous result, so that many calls do not cause many writes.
      known = { database: known?.database ?? { connected: null, latencyMs: null }, checkedAt }
      known = { database: await check(), checkedAt }
    }
    return known
  }
}

const away = (reason?: string): Database => ({
  connected: false,
  latencyMs: null,
  ...(reason !== undefined && { reason }),
})

/** Why model calls are answered with 503, if they are. */
function problemOf({ config, store }: Deps, { connected }: Database): ApiError | undefined {
  if (!store) return new ApiError('not_configured', 'This gateway has no database yet.')
  if (config.groqKey === undefined) return notConfigured()
  const { degraded, stopping } = store.health()
  if (stopping) return new ApiError('store_unavailable', 'This instance is stopping.')
  if (config.onStoreDown === 'closed' && (degraded || connected === false)) {
    return new ApiError('store_unavailable', 'The database does not answer.')
  }
  return undefined
}
