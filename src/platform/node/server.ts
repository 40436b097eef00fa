/** The app as a server on Node. Client addresses come from sockets. Closing waits for background work. */
import { getRequestListener, type HttpBindings } from '@hono/node-server'
import type { Hono } from 'hono'
import {
  createServer,
  type IncomingMessage,
  type ServerOptions as HttpOptions,
  type ServerResponse,
} from 'node:http'
import type { AddressInfo } from 'node:net'
import { createAlerts } from '../../alerts/alerts.ts'
import type { AlertReceiver } from '../../config/alerts.ts'
import type { Config } from '../../config/config.ts'
import type { Log } from '../../log.ts'
import { claimReader } from '../claimed-ip.ts'
import { NODE_BODIES } from './bodies.ts'
import { bare, forwardedFor } from './client-address.ts'
import { isDecoded } from './decode.ts'
import { addDemoPage } from './demo/pages.ts'
import { nodeFetch } from './http.ts'
import { inTurn } from './in-turn.ts'
import { streamPipe } from '../../gateway/pipe.ts'
import type { AppEnv, Deps } from '../../context.ts'
import type { Fetch, RelayPlatform } from '../../ports.ts'
import { trackAnswers, trackWork } from './running.ts'
import { STATIC_PATHS, staticFiles } from './static-files.ts'
import type { FallbackStore } from '../../store/fallback/store.ts'

export type ServerOptions = {
  createApp: (deps: Deps) => Hono<AppEnv>
  config: Readonly<Config>
  store: FallbackStore
  log: Log
  /** Answers calls to the model. Without it, the provider does. */
  upstream?: Fetch | undefined
}

export type Server = {
  port: number
  /** Accepts no more connections, and waits until running requests have ended and are settled. */
  close(): Promise<void>
}

/** How long a client may take to read the part of a broken answer that has arrived, in ms. */
const LAST_BYTES_MS = 1000

/** Ends the connection of an incomplete answer, after the part that has arrived. */
function breakOff(answer: ServerResponse, taken: Promise<void>): void {
  const timer = setTimeout(() => answer.destroy(), LAST_BYTES_MS)
  answer.once('close', () => clearTimeout(timer))
  void taken.then(() => answer.socket?.destroySoon())
}

/** The answer to each request. */
const answers = new WeakMap<Request, ServerResponse>()

const RELAY: RelayPlatform = {
  pipe(_, client) {
    const answer = client && answers.get(client)
    return streamPipe(answer && ((taken) => breakOff(answer, taken)))
  },
  // Without this header, @hono/node-server waits for the first bytes before it sends the status, and replaces an
  // answer that breaks off there by its own error.
  headers: { 'transfer-encoding': 'chunked' },
  isDecoded,
  // After a client has disconnected, only the request's deadline limits how long its answer is read.
  drain: { ms: Infinity, bytes: Infinity, atOnce: 64 },
}

/** Headers in which proxies tell the address of a client. */
const FORWARDED = [
  'x-forwarded-for',
  'forwarded',
  'x-real-ip',
  'cf-connecting-ip',
  'true-client-ip',
  'fastly-client-ip',
  'x-client-ip',
  'x-cluster-client-ip',
]
/**
 * In ms. Proxies in front keep idle connections for up to 2 minutes (nginx and AWS 60 s, Traefik 90 s, Caddy 120 s). A server
 * that closes one first may do so just when the next request is on its way, and the proxy answers 502.
 */
const TIMEOUTS = {
  keepAliveTimeout: 125_000,
  // From the connection or the first byte: some proxies open connections before they need them.
  headersTimeout: 130_000,
  // For headers and body.
  requestTimeout: 130_000,
  connectionsCheckingInterval: 5000,
} satisfies HttpOptions

/** How often an unavailable store is retried while no requests arrive. */
const TEND_MS = 250

/**
 * Removes scheme and host from a target in absolute form (RFC 9112, section 3.2.2). Any client may write them, and
 * proxies in front do not check them as they check Host, so our own address must not come from them.
 */
function toOriginForm(request: IncomingMessage): void {
  const [, path] = /^https?:\/\/[^/?#]*(.*)$/i.exec(request.url ?? '') ?? []
  if (path !== undefined) request.url = path.startsWith('/') ? path : `/${path}`
}

/** Listens on `config.host` and `config.port`. Rejects if that is not possible. */
export async function startServer({
  createApp,
  config,
  store,
  log,
  upstream = nodeFetch,
}: ServerOptions): Promise<Server> {
  const work = trackWork()
  const running = trackAnswers()
  const claimed = claimReader(config, FORWARDED, log)
  const sender = (receiver: AlertReceiver) =>
    createAlerts({
      receiver,
      store,
      mode: config.onStoreDown,
      fetch: nodeFetch,
      now: Date.now,
      log,
    })
  const context = { waitUntil: work.waitUntil, passThroughOnException() {}, props: {} }
  const alerts = config.alerts && sender(config.alerts)
  const app = createApp({
    config,
    store,
    alerts,
    fetch: upstream,
    fetchKeys: nodeFetch,
    now: Date.now,
    log,
    clientIp(c) {
      const forwarded = config.trustProxy && c.req.header('x-forwarded-for')
      if (forwarded) return forwardedFor(forwarded, config.trustProxy)
      return bare((c.env as HttpBindings).incoming.socket.remoteAddress ?? '')
    },
    claimedIp(c) {
      const { headers } = (c.env as HttpBindings).incoming
      return claimed((name) => headers[name]?.toString())
    },
    relay: RELAY,
    bodies: NODE_BODIES,
    environment: { platform: 'node', storage: config.redis ? 'database' : 'file' },
  })
  app.on('GET', STATIC_PATHS, staticFiles())
  if (config.demo) addDemoPage(app)

  const tending = setInterval(() => {
    for (const tended of [store.tend(), alerts?.tend()]) if (tended) work.waitUntil(tended)
  }, TEND_MS).unref()

  const fetchApp = async (request: Request, env: HttpBindings) => {
    answers.set(request, env.outgoing)
    const response = await app.fetch(request, env, context)
    // HTTP/1.0 has no chunked encoding: an answer ends with the connection (RFC 9112, section 6.1).
    if (env.incoming.httpVersion === '1.0') response.headers.delete('transfer-encoding')
    // All data that is ready in this turn of the event loop, such as a whole short answer, goes out in one write.
    const { socket } = env.outgoing
    socket?.cork()
    setImmediate(() => socket?.uncork())
    return response
  }
  const listener = getRequestListener((request, env) => fetchApp(request, env as HttpBindings))
  const server = createServer(
    TIMEOUTS,
    inTurn((request, response) => {
      toOriginForm(request)
      running.add(response)
      void listener(request, response)
    }),
  )
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(config.port, config.host, resolve)
  })
  // What an earlier process left there.
  if (alerts) work.waitUntil(alerts.deliver())
  const { port } = server.address() as AddressInfo
  return {
    port,
    async close() {
      running.hurry()
      server.close()
      store.pause()
      await running.done()
      clearInterval(tending)
      await work.done()
      // Connections without a complete request would keep the server open for ever.
      server.closeAllConnections()
    },
  }
}
