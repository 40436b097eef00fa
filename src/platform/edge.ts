/** The common part of the edge entries: one app per isolate, on Redis or on a bound store. */
import type { Context, Hono } from 'hono'
import { createAlerts } from '../alerts/alerts.ts'
import { ConfigError, readConfig, type Config, type Vars } from '../config/config.ts'
import type { AppEnv, Deps } from '../context.ts'
import { ApiError } from '../errors.ts'
import { tokenNotes } from '../config/tokens.ts'
import { createLog, type Log } from '../log.ts'
import { claimReader } from './claimed-ip.ts'
import { transformPipe } from '../gateway/pipe.ts'
import type { Environment, Fetch, RelayPlatform } from '../ports.ts'
import { withFallback, type FallbackStore } from '../store/fallback/store.ts'
import { memoryQueue } from '../store/fallback/queue.ts'
import type { Sharing } from '../store/redis/commands.ts'
import { CONNECTED, createRedisStore } from '../store/redis/store.ts'
import { LEDGER_SCRIPT } from '../store/redis/script-files.ts'
import { restClient } from '../store/redis/rest.ts'
import type { Store } from '../store/store.ts'
import { drainBody, isWorkerd, workerdPipe } from './workerd.ts'

/** A part of the app that is a bundle of its own. */
export type EdgePart = {
  createApp(deps: Deps): App
  /** Counts turns in the database, if the part needs that. Its package would be a tenth of the proxy's bundle. */
  turnTaker?(redis: ReturnType<typeof restClient>, how: { batch: boolean }): Store['takeTurn']
}

type EdgeOptions = EdgePart & {
  platform: Environment['platform']
  /** What the runtime lets requests share. */
  sharing: Sharing
  vars: Vars
  /** Calls upstream. */
  fetch: typeof fetch
  clientIp(c: Context): string | undefined
  /** Headers in which a proxy in front of the platform tells the address of a client. */
  proxyHeaders?: readonly string[]
  /** Replaces the database. */
  store?: Store | undefined
}

type App = Pick<Hono<AppEnv>, 'fetch'>

/**
 * Copies the headers to plain values, because each read from the headers of a `Response` leaves JavaScript, and costs as
 * much as the copy.
 */
const withPlainHeaders =
  (send: typeof fetch): Fetch =>
  async (url, init) => {
    const { status, statusText, ok, headers, body } = await send(url, init)
    return { status, statusText, ok, headers: new Map(headers), body }
  }

/**
 * The Content-Encodings that `fetch` decodes. workerd decodes only these two, in this spelling; other runtimes decode a
 * list of them.
 */
const DECODED = isWorkerd
  ? /^(gzip|br)$/
  : /^\s*((x-)?gzip|deflate|br)(\s*,\s*((x-)?gzip|deflate|br))*\s*$/i

const RELAY: RelayPlatform = {
  pipe: isWorkerd ? workerdPipe : transformPipe,
  headers: {},
  isDecoded: (contentEncoding) => DECODED.test(contentEncoding),
  // The edge limits the time after the answer, and the memory.
  drain: { ms: 20_000, bytes: 1024 * 1024, atOnce: 64 },
}

/** Builds the app of an isolate. With an invalid environment, the app answers `not_configured` and logs the reason. */
export function createEdgeApp(options: EdgeOptions): App {
  const { createApp, platform, vars, fetch, clientIp, proxyHeaders = [] } = options
  const write = (line: string) => console.log(line)
  try {
    const config = readConfig(vars, 'edge')
    const log = createLog({ level: config.logLevel, format: 'json', write })
    const { store, storage } = openStore(config, options, log)
    const claimed = claimReader(config, proxyHeaders, log)
    const { alerts: receiver, onStoreDown: mode } = config
    const call: Fetch = (url, init) => globalThis.fetch(url, init)
    const alerts =
      receiver && store && createAlerts({ receiver, store, mode, fetch: call, now: Date.now, log })
    const app = createApp({
      config,
      store,
      alerts,
      fetch: withPlainHeaders(fetch),
      fetchKeys: call,
      now: Date.now,
      log,
      clientIp,
      claimedIp: (c) => claimed((name) => c.req.header(name)),
      relay: RELAY,
      environment: { platform, storage },
    })
    return isWorkerd ? withDrain(app) : app
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    createLog({ level: 'error', format: 'json', write }).error('start.config', { error })
    const failure = new ApiError('not_configured', 'This gateway is not configured: see its log.')
    return { fetch: () => Response.json(failure, { status: failure.status }) }
  }
}

/** The app. It also receives the bodies of requests that were refused before anyone read them. */
const withDrain = (app: App): App => ({
  async fetch(request, ...rest) {
    const response = await app.fetch(request, ...rest)
    await drainBody(request)
    return response
  },
})

/** The bound store or the database, or undefined if there is neither. Logs the settings in force. */
function openStore(
  config: Readonly<Config>,
  { store: bound, turnTaker, sharing }: EdgeOptions,
  log: Log,
): { store?: FallbackStore; storage: Environment['storage'] } {
  const { storeTimeoutMs: timeoutMs, retention } = config
  // On the edge, the kind is always `rest`.
  const rest = config.redis?.kind === 'rest' ? config.redis : undefined
  const { cap, limits, globalLimits } = config
  const { notes, warnings } = tokenNotes(config)
  if (rest) log.info('start', { cap, limits, globalLimits, users: notes })
  else if (!bound) {
    log.error('start.no_store', { help: 'set KV_REST_API_URL and KV_REST_API_TOKEN' })
  }
  for (const warning of warnings) log.warn('start.user_tokens', { help: warning })
  const redis = rest && restClient({ ...rest, timeoutMs })
  const chosen =
    bound ??
    (redis &&
      createRedisStore({
        redis,
        takeTurn: turnTaker?.(redis, { batch: sharing === 'calls' }),
        retention,
        script: LEDGER_SCRIPT,
        sharing,
        warn: log.warn,
      }))
  if (!chosen) return { storage: 'none' }
  const store = withFallback({
    store: chosen,
    mode: config.onStoreDown,
    queue: memoryQueue(log),
    retention,
    connected: bound ? undefined : CONNECTED,
    now: Date.now,
    log,
  })
  return { store, storage: bound ? 'file' : 'database' }
}
