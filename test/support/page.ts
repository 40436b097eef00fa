/**
 * The gateway as a page sees it: it serves pages and the tracker, takes syncs and checks their shape, and passes model
 * calls on to the upstream of the tests.
 */
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { createServer, request, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import * as z from 'zod/mini'

const count = z.int().check(z.nonnegative())
const oneWindow = z.strictObject({ tokens: count, requests: count, resetAt: count })
const syncBody = z.strictObject({
  userToken: z.string().check(z.minLength(8)),
  ipAddress: z.optional(z.string()),
  modelUsage: z.record(z.string(), z.strictObject({ minute: oneWindow, day: oneWindow })),
})

export type Sync = z.infer<typeof syncBody>
type Block = { model: string; reason?: string; until?: number | null }
type Quota = Record<
  string,
  {
    tokensUsedDay: number
    tokensReservedDay: number
    tokensRemainingDay: number
    requestsDay: number
    resetAt: number
  }
>
type Reply = { status: number; headers?: Record<string, string>; body?: string }

export type Site = {
  /** Its origin, and the same server as another origin. */
  url: string
  elsewhere: string
  /** HTML by path. */
  pages: Map<string, string>
  /** The syncs, in order of arrival. */
  syncs: Sync[]
  /** Syncs whose body did not have the agreed shape. */
  malformed: string[]
  /** The answer to a sync. */
  blocked: Block[]
  usage: Quota
  /** A reply instead of the usual answer to a sync. */
  reply: Reply | undefined
  /** A sync is answered after this. */
  hold: Promise<unknown> | undefined
  /** A preflight is answered after this. */
  preflight: Promise<unknown> | undefined
  /** If set, model calls are refused as for a blocked user. */
  refusal: string | undefined
  /** Resolves when this many syncs have arrived. */
  synced(count: number): Promise<void>
  reset(): void
  close(): Promise<void>
}

export async function startSite(upstream: string): Promise<Site> {
  let waiting: { count: number; resolve: () => void }[] = []
  const scripts = Object.fromEntries(
    await Promise.all(
      ['/tracker.js', '/banner.js'].map(async (path) => [
        path,
        await readFile(new URL(`../../static${path}`, import.meta.url), 'utf8'),
      ]),
    ),
  ) as Record<string, string>

  async function sync(req: IncomingMessage): Promise<Reply> {
    const text = await textOf(req)
    const body = syncBody.safeParse(parse(text))
    if (!body.success || req.headers['content-type'] !== 'application/json') {
      site.malformed.push(text)
      return {
        status: 400,
        body: '{"error":{"message":"malformed","type":"invalid_request_error"}}',
      }
    }
    site.syncs.push(body.data)
    const { usage, blocked } = site
    const reply = site.reply ?? {
      status: 200,
      body: JSON.stringify({ success: true, usage, blocked }),
    }
    waiting = waiting.filter(({ count, resolve }) => site.syncs.length < count || void resolve())
    await site.hold
    return reply
  }

  async function handle(req: IncomingMessage, res: ServerResponse): Promise<void> {
    const { pathname } = new URL(req.url ?? '/', 'http://host')
    const send = ({ status, headers, body = '' }: Reply, type = 'application/json') =>
      res.writeHead(status, { 'content-type': type, ...headers }).end(body)
    res.setHeader('access-control-allow-origin', '*')
    res.setHeader('access-control-expose-headers', 'retry-after')
    const page = site.pages.get(pathname)
    if (page !== undefined) return void send({ status: 200, body: page }, 'text/html')
    const script = scripts[pathname]
    if (script !== undefined) return void send({ status: 200, body: script }, 'text/javascript')
    if (pathname === '/ping') return void send({ status: 204 })
    if (req.method === 'OPTIONS') {
      await site.preflight
      const headers = {
        'access-control-allow-headers': 'content-type, authorization',
        'access-control-max-age': '0',
      }
      return void send({ status: 204, headers })
    }
    if (pathname === '/api/tracking/sync' && req.method === 'POST')
      return void send(await sync(req))
    if (pathname.startsWith('/api/groq/')) {
      if (site.refusal === undefined) return passOn(req, res)
      const error = { message: site.refusal, type: 'permission_error', code: 'user_blocked' }
      return void send({ status: 403, body: JSON.stringify({ error }) })
    }
    send({ status: 404 })
  }

  /** Passes bytes to upstream and back. A client that leaves also ends the call. */
  function passOn(req: IncomingMessage, res: ServerResponse): void {
    const { method, headers } = req
    const path = (req.url ?? '').replace('/api/groq', '')
    const call = request(upstream + path, { method, headers }, (answer) => {
      res.writeHead(answer.statusCode ?? 502, answer.headers)
      res.flushHeaders()
      answer.on('error', () => res.destroy()).pipe(res)
    })
    call.on('error', () => res.destroy())
    res.on('close', () => call.destroy())
    req.pipe(call)
  }

  const server = createServer((req, res) => void handle(req, res))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo

  const site: Site = {
    url: `http://127.0.0.1:${port}`,
    elsewhere: `http://localhost:${port}`,
    pages: new Map(),
    syncs: [],
    malformed: [],
    blocked: [],
    usage: {},
    reply: undefined,
    hold: undefined,
    preflight: undefined,
    refusal: undefined,
    synced: (count) =>
      new Promise((resolve) => {
        if (site.syncs.length >= count) resolve()
        else waiting.push({ count, resolve })
      }),
    reset() {
      site.pages.clear()
      site.syncs.length = 0
      site.malformed.length = 0
      site.blocked = []
      site.usage = {}
      site.reply = site.hold = site.preflight = site.refusal = undefined
      waiting = []
    },
    async close() {
      const closed = once(server, 'close')
      server.close()
      server.closeAllConnections()
      await closed
    },
  }
  return site
}

async function textOf(req: IncomingMessage): Promise<string> {
  const parts: Buffer[] = []
  for await (const part of req) parts.push(part as Buffer)
  return Buffer.concat(parts).toString()
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
