/** What the two edge entries share: an app per isolate, on Redis or on a store that is bound to it. */
import type { Context, Hono } from 'hono'
import { createApp } from './app.ts'
import { ConfigError, readConfig, type Vars } from './config.ts'
import type { AppEnv, Environment } from './context.ts'
import { ApiError } from './errors.ts'
import { createLog } from './log.ts'
import { transformPipe, type Pipe } from './proxy/pipe.ts'
import type { RelayPlatform } from './proxy/relay.ts'
import { withFallback } from './store/fallback.ts'
import { memoryQueue } from './store/queue.ts'
import { CONNECTED, createRedisStore } from './store/redis.ts'
import { LEDGER_SCRIPT } from './store/redis/script-inlined.ts'
import { restClient } from './store/rest.ts'
import type { Store } from './store/store.ts'

export type EdgeOptions = {
  platform: Environment['platform']
  vars: Vars
  /** Calls upstream. */
  fetch: typeof fetch
  clientIp(c: Context): string | undefined
  /** Used instead of a database. */
  store?: Store | undefined
}

type App = Pick<Hono<AppEnv>, 'fetch'>

const RELAY: RelayPlatform = {
  pipe: 'IdentityTransformStream' in globalThis ? workerdPipe : transformPipe,
  headers: {},
  // Waiting after the answer is bounded on the edge, and so is memory.
  drain: { ms: 20_000, bytes: 1024 * 1024, atOnce: 64 },
}

/**
 * On workerd a write to a standard TransformStream may hang for ever once the client has gone (seen with
 * compatibility dates of 2026); to its own kind of pipe it fails as it should.
 * https://developers.cloudflare.com/workers/runtime-apis/streams/transformstream/#identitytransformstream
 */
function workerdPipe(): Pipe {
  const { IdentityTransformStream } = globalThis as unknown as {
    IdentityTransformStream: typeof TransformStream
  }
  const { readable, writable } = new IdentityTransformStream()
  const writer = writable.getWriter()
  return { readable, writer, fail: (error) => void writer.abort(error).catch(() => undefined) }
}

/** Builds the app of an isolate. With an environment that cannot be used it answers `not_configured` and logs why. */
export function createEdgeApp({ platform, vars, fetch, clientIp, store }: EdgeOptions): App {
  const write = (line: string) => console.log(line)
  try {
    const config = readConfig(vars, 'edge')
    const log = createLog({ level: config.logLevel, format: 'json', write })
    const { storeTimeoutMs: timeoutMs, retention } = config
    // Here it is never anything else.
    const rest = config.redis?.kind === 'rest' ? config.redis : undefined
    const { cap, limits, globalLimits } = config
    if (rest) log.info('start', { cap, limits, globalLimits, users: 'tokens are not verified' })
    else if (!store) {
      log.error('start.no_store', { help: 'set KV_REST_API_URL and KV_REST_API_TOKEN' })
    }
    const chosen =
      store ??
      (rest &&
        createRedisStore({
          redis: restClient({ ...rest, timeoutMs }),
          retention,
          script: LEDGER_SCRIPT,
          batch: false,
          warn: log.warn,
        }))
    const fallback =
      chosen &&
      withFallback({
        store: chosen,
        mode: config.onStoreDown,
        queue: memoryQueue(log),
        retention,
        connected: store ? undefined : CONNECTED,
        now: Date.now,
        log,
      })
    const storage = store ? 'file' : rest ? 'database' : 'none'
    return createApp({
      config,
      store: fallback,
      fetch,
      now: Date.now,
      log,
      clientIp,
      relay: RELAY,
      environment: { platform, storage },
    })
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    createLog({ level: 'error', format: 'json', write }).error('start.config', { error })
    const failure = new ApiError('not_configured', 'This gateway is not configured: see its log.')
    return { fetch: () => Response.json(failure, { status: failure.status }) }
  }
}
