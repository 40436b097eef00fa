/** The app as a server on Node. Client addresses come from sockets. Closing waits for background work. */
import { serve, type HttpBindings } from '@hono/node-server'
import type { Hono } from 'hono'
import type { Server as HttpServer, ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Config } from '../../config/config.ts'
import type { Log } from '../../log.ts'
import { bare, forwardedFor } from './client-address.ts'
import { nodeFetch } from './http.ts'
import { streamPipe } from '../../gateway/pipe.ts'
import type { AppEnv, Deps } from '../../context.ts'
import type { RelayPlatform } from '../../ports.ts'
import { trackAnswers, trackWork } from './running.ts'
import { STATIC_PATHS, staticFiles } from './static-files.ts'
import type { FallbackStore } from '../../store/fallback/store.ts'

export type ServerOptions = {
  createApp: (deps: Deps) => Hono<AppEnv>
  config: Readonly<Config>
  store: FallbackStore
  log: Log
}

export type Server = {
  port: number
  /** Accepts no more connections, and waits until running requests have ended and are settled. */
  close(): Promise<void>
}

const RELAY: RelayPlatform = {
  pipe: streamPipe,
  // Without this header, @hono/node-server waits for the first bytes before it sends the status, and replaces an
  // answer that breaks off there by its own error.
  headers: { 'transfer-encoding': 'chunked' },
  // After a client has disconnected, only the request's deadline limits how long its answer is read.
  drain: { ms: Infinity, bytes: Infinity, atOnce: 64 },
}

/** How often an unavailable store is retried while no requests arrive. */
const TEND_MS = 250

/** Listens on `config.host` and `config.port`. Rejects if that is not possible. */
export async function startServer({
  createApp,
  config,
  store,
  log,
}: ServerOptions): Promise<Server> {
  const work = trackWork()
  const answers = trackAnswers()
  const context = { waitUntil: work.waitUntil, passThroughOnException() {}, props: {} }
  const app = createApp({
    config,
    store,
    fetch: nodeFetch,
    now: Date.now,
    log,
    clientIp(c) {
      const forwarded = config.trustProxy && c.req.header('x-forwarded-for')
      if (forwarded) return forwardedFor(forwarded, config.trustProxy)
      return bare((c.env as HttpBindings).incoming.socket.remoteAddress ?? '')
    },
    relay: RELAY,
    environment: { platform: 'node', storage: config.redis ? 'database' : 'file' },
  })
  app.on('GET', STATIC_PATHS, staticFiles())

  const tending = setInterval(() => {
    const tended = store.tend()
    if (tended) work.waitUntil(tended)
  }, TEND_MS).unref()

  const fetchApp = async (request: Request, env: HttpBindings) => {
    const response = await app.fetch(request, env, context)
    // HTTP/1.0 has no chunked encoding: an answer ends with the connection (RFC 9112, section 6.1).
    if (env.incoming.httpVersion === '1.0') response.headers.delete('transfer-encoding')
    // All data that is ready in this turn of the event loop, such as a whole short answer, goes out in one write.
    const { socket } = env.outgoing
    socket?.cork()
    setImmediate(() => socket?.uncork())
    return response
  }
  const listen = { port: config.port, ...(config.host && { hostname: config.host }) }
  let server: HttpServer | undefined
  const { port } = await new Promise<AddressInfo>((resolve, reject) => {
    server = serve(
      { fetch: (request, env) => fetchApp(request, env as HttpBindings), ...listen },
      resolve,
    ) as HttpServer
    server.once('error', reject)
    server.on('request', (_, response: ServerResponse) => answers.add(response))
  })
  return {
    port,
    async close() {
      answers.hurry()
      server?.close()
      store.pause()
      await answers.done()
      clearInterval(tending)
      await work.done()
      // Connections without a complete request would keep the server open for ever.
      server?.closeAllConnections()
    },
  }
}
