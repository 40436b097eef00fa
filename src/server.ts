/** The app as a server on Node: addresses from sockets, and work after the answer is waited for at the end. */
import { serve, type HttpBindings } from '@hono/node-server'
import type { Server as HttpServer, ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createApp } from './app.ts'
import type { Config } from './config.ts'
import type { Log } from './log.ts'
import { nodeFetch } from './node-http.ts'
import { streamPipe } from './proxy/pipe.ts'
import type { RelayPlatform } from './proxy/relay.ts'
import { STATIC_PATHS, staticFiles } from './static-files.ts'
import type { FallbackStore } from './store/fallback.ts'

export type ServerOptions = { config: Readonly<Config>; store: FallbackStore; log: Log }

export type Server = {
  port: number
  /** Takes no more connections, lets what is running end and settle. */
  close(): Promise<void>
}

const RELAY: RelayPlatform = {
  pipe: streamPipe,
  // Otherwise @hono/node-server waits for the first bytes before it sends the status, and turns an answer
  // that breaks off there into an error of its own.
  headers: { 'transfer-encoding': 'chunked' },
  // An answer whose client has gone is read on until the request's deadline, which is what bounds it here.
  drain: { ms: Infinity, bytes: Infinity, atOnce: 64 },
}

/** How often a store that is away is thought of where no requests come. */
const TEND_MS = 250

/** What a client has for the rest of its request once the server stops. */
const UPLOAD_MS = 3000

/** Listens on `config.port`; rejects when that is not possible. */
export async function startServer({ config, store, log }: ServerOptions): Promise<Server> {
  const pending = new Set<Promise<unknown>>()
  const context = {
    waitUntil(promise: Promise<unknown>) {
      const tracked = promise.catch(() => undefined).finally(() => pending.delete(tracked))
      pending.add(tracked)
    },
    passThroughOnException() {},
    props: {},
  }
  const app = createApp({
    config,
    store,
    fetch: nodeFetch,
    now: Date.now,
    log,
    clientIp(c) {
      const forwarded = config.trustProxy && c.req.header('x-forwarded-for')?.split(',').at(-1)
      return forwarded || (c.env as HttpBindings).incoming.socket.remoteAddress
    },
    relay: RELAY,
    environment: { platform: 'node', storage: config.redis ? 'database' : 'file' },
  })
  app.on('GET', STATIC_PATHS, staticFiles())

  const tending = setInterval(() => {
    const work = store.tend()
    if (work) context.waitUntil(work)
  }, TEND_MS).unref()

  /** Answers that are not out yet. */
  const running = new Set<ServerResponse>()
  let idle = () => {}
  let closing = false
  // A connection that is kept alive would bring request after request; and once a server closes, Node has no time-out any
  // more for a body that never comes.
  const hurry = (response: ServerResponse) => {
    response.shouldKeepAlive = false
    const { req } = response
    setTimeout(() => req.complete || req.destroy(), UPLOAD_MS).unref()
  }
  const fetchApp = async (request: Request, env: HttpBindings) => {
    const response = await app.fetch(request, env, context)
    // HTTP/1.0 knows no chunks: its answers end with the connection (RFC 9112, section 6.1).
    if (env.incoming.httpVersion === '1.0') response.headers.delete('transfer-encoding')
    // What is there by the end of this turn of the event loop, all of a short answer, goes out in one write.
    const { socket } = env.outgoing
    socket?.cork()
    setImmediate(() => socket?.uncork())
    return response
  }
  let server: HttpServer | undefined
  const { port } = await new Promise<AddressInfo>((resolve, reject) => {
    server = serve(
      { fetch: (request, env) => fetchApp(request, env as HttpBindings), port: config.port },
      resolve,
    ) as HttpServer
    server.once('error', reject)
    server.on('request', (_, response: ServerResponse) => {
      running.add(response)
      if (closing) hurry(response)
      response.once('close', () => {
        running.delete(response)
        if (running.size === 0) idle()
      })
    })
  })
  return {
    port,
    async close() {
      closing = true
      for (const response of running) hurry(response)
      server?.close()
      store.pause()
      if (running.size) await new Promise<void>((resolve) => (idle = resolve))
      clearInterval(tending)
      while (pending.size) await Promise.all(pending)
      // Those that have sent nothing, or half a request, would keep the server open for ever.
      server?.closeAllConnections()
    },
  }
}
