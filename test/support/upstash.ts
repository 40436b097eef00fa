/**
 * The Upstash REST protocol in front of a real redis-server, with a log of every HTTP request and with faults on
 * demand.
 *
 * Not supported: commands in the path (`/get/key`), the `_token` parameter, server-sent events, the RESP2 answer
 * format, sync tokens and the read-only token.
 */
import { ErrorReply } from '@redis/client'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { connection } from './redis.ts'
import type { Redis } from './redis.ts'

/** One HTTP request, as it arrived. Times are `performance.now()`. */
interface Call {
  path: string
  commands: string[][]
  at: number
  /** When the answer was sent; absent until then. */
  answered?: number
}

export interface FaultAction {
  /** Milliseconds to wait before anything else; with `apply`, between running and answering. */
  delay?: number
  /** Answers with this status instead of the real answer. */
  status?: number
  /** Answers with this body instead of the real answer, by default with status 200. */
  body?: string
  /** Destroys the socket without an answer. */
  reset?: boolean
  /** Runs the commands first, so that only the answer is lost or late. */
  apply?: boolean
  /** Never answers. */
  hang?: boolean
}

/** Called for every request that is authorised and well formed, before its commands run. */
type Fault = (call: Call) => void | undefined | FaultAction | Promise<FaultAction | undefined>

export interface Upstash {
  readonly url: string
  readonly token: string
  /** Every HTTP request, also refused ones, in the order in which they were complete. */
  readonly log: Call[]
  fault(fault: Fault | undefined): void
  /** Clears the log and the fault, and drops the requests that a fault is holding. */
  reset(): void
  close(): Promise<void>
}

type Json = string | number | boolean | null | Json[]
type Reply = { result: Json } | { error: string }
type Answer = [status: number, body: string]
type Client = Awaited<ReturnType<ReturnType<typeof connection>['client']>>

const FLAG = /^#!lua flags=allow-key-locking(?=\r?\n|$)/

// Upstash does not support these over REST, and our one connection would not survive them.
const UNAVAILABLE = new Set(
  (
    'watch unwatch multi exec discard subscribe psubscribe ssubscribe unsubscribe punsubscribe ' +
    'sunsubscribe monitor blpop brpop brpoplpush blmove blmpop bzpopmin bzpopmax bzmpop wait ' +
    'waitaof select hello auth reset quit client config cluster debug shutdown sync psync ' +
    'replicaof slaveof failover migrate'
  ).split(' '),
)

export async function startUpstash(redis: Redis): Promise<Upstash> {
  const token = randomBytes(16).toString('hex')
  const bearer = `Bearer ${token}`
  const log: Call[] = []
  const line = connection(redis.port, 'bytes')
  const held = new Set<() => void>()
  const run = runner()
  let fault: Fault | undefined
  let round = 0

  /** Waits, by default for ever. Returns false if its round ends first. */
  const hold = (mine: number, ms?: number): Promise<boolean> =>
    new Promise((resolve) => {
      if (mine !== round) return resolve(false)
      const end = (kept: boolean): void => {
        clearTimeout(timer)
        held.delete(drop)
        resolve(kept)
      }
      const drop = (): void => end(false)
      const timer = ms === undefined ? undefined : setTimeout(end, ms, true)
      held.add(drop)
    })

  const release = (): void => {
    round++
    for (const drop of [...held]) drop()
  }

  /** The answer to one request; undefined for a destroyed socket. */
  const answer = async (
    req: IncomingMessage,
    call: Call,
    body: string,
  ): Promise<Answer | undefined> => {
    const refusal = check(req, bearer) ?? parse(call, body)
    log.push(call)
    if (refusal) return refusal

    const apply = async (): Promise<Answer> =>
      run(await line.client(), call, req.headers['upstash-encoding'] === 'base64')

    if (fault === undefined) return apply()
    const mine = round
    const action = (await fault(call)) ?? {}
    if (mine !== round) return undefined
    const applied = action.apply ? await apply() : undefined
    if (action.delay !== undefined && !(await hold(mine, action.delay))) return undefined
    if (action.hang) await hold(mine)
    if (action.hang || action.reset) return undefined
    if (action.status !== undefined || action.body !== undefined) {
      return [action.status ?? 200, action.body ?? failure(`ERR fault ${action.status}`)]
    }
    return applied ?? apply()
  }

  const serve = async (req: IncomingMessage, res: ServerResponse, call: Call, body: string) => {
    let outcome: Answer | undefined
    try {
      outcome = await answer(req, call, body)
    } catch (error) {
      // Redis is unreachable, or the fault itself threw.
      outcome = [503, failure(`ERR ${String(error)}`)]
    }
    if (res.destroyed) return
    if (outcome === undefined) return void req.socket.destroy()
    const [status, text] = outcome
    res.writeHead(status, {
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(text),
    })
    call.answered = performance.now()
    res.end(text)
  }

  const server = createServer((req, res) => {
    const call: Call = { path: req.url ?? '/', commands: [], at: performance.now() }
    const chunks: Buffer[] = []
    req.on('data', (chunk: Buffer) => chunks.push(chunk))
    req.on('end', () => void serve(req, res, call, Buffer.concat(chunks).toString()))
  })
  server.keepAliveTimeout = 600_000
  server.requestTimeout = 0
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('no port')

  return {
    url: `http://127.0.0.1:${address.port}`,
    token,
    log,
    fault(next) {
      fault = next
    },
    reset() {
      log.length = 0
      fault = undefined
      release()
    },
    async close() {
      const closed = once(server, 'close')
      server.close()
      release()
      server.closeAllConnections()
      await closed
      line.close()
    },
  }
}

const failure = (error: string): string => JSON.stringify({ error })

const refuse = (status: number, error: string): Answer => [status, failure(error)]

function check(req: IncomingMessage, bearer: string): Answer | undefined {
  if (req.method !== 'POST') return refuse(405, 'ERR method not allowed')
  if (req.headers.authorization !== bearer) {
    return refuse(401, 'WRONGPASS invalid or missing auth token')
  }
  return undefined
}

/** Reads the commands of a request into its call. */
function parse(call: Call, body: string): Answer | undefined {
  let json: unknown
  try {
    json = JSON.parse(body)
  } catch {
    return refuse(400, 'ERR failed to parse the request body as JSON')
  }
  const many = call.path === '/pipeline' || call.path === '/multi-exec'
  if (!many && call.path !== '/') return refuse(400, 'ERR no such path here')
  const lists: unknown[] = !many ? [json] : Array.isArray(json) ? json : []
  if (lists.length === 0) return refuse(400, 'ERR empty pipeline request')
  for (const list of lists) {
    if (!Array.isArray(list) || list.length === 0) return refuse(400, 'ERR empty command')
    call.commands.push(list.map(text))
  }
  return undefined
}

const text = (value: unknown): string => (typeof value === 'string' ? value : JSON.stringify(value))

/** Runs the commands of a call: all written at once, in order, on one connection. */
function runner() {
  const scripts = flaggedScripts()

  const send = (client: Client, command: string[]): Promise<unknown> =>
    client.sendCommand(scripts.outgoing(command))

  const single = async (client: Client, command: string[], base64: boolean): Promise<Reply> => {
    const refused = unavailable(command)
    if (refused) return { error: refused }
    try {
      return { result: encode(scripts.incoming(command, await send(client, command)), base64) }
    } catch (error) {
      if (error instanceof ErrorReply) return { error: error.message }
      throw error
    }
  }

  const atomic = async (client: Client, call: Call, base64: boolean): Promise<Answer> => {
    for (const command of call.commands) {
      const refused = unavailable(command)
      if (refused) return refuse(400, refused)
    }
    const queued = [['MULTI'], ...call.commands].map((command) => send(client, command))
    const [replies] = await Promise.allSettled([client.sendCommand(['EXEC']), ...queued])
    if (replies.status === 'rejected') {
      if (replies.reason instanceof ErrorReply) return refuse(400, replies.reason.message)
      throw replies.reason
    }
    if (!Array.isArray(replies.value)) throw new Error('EXEC gave no array')
    const results = replies.value.map((value: unknown, i): Reply => {
      if (value instanceof ErrorReply) return { error: value.message }
      return { result: encode(scripts.incoming(call.commands[i] ?? [], value), base64) }
    })
    return [200, JSON.stringify(results)]
  }

  return async (client: Client, call: Call, base64: boolean): Promise<Answer> => {
    if (call.path === '/multi-exec') return atomic(client, call, base64)
    const replies = await Promise.all(call.commands.map((c) => single(client, c, base64)))
    if (call.path === '/pipeline') return [200, JSON.stringify(replies)]
    const [reply] = replies
    return [reply && 'error' in reply ? 400 : 200, JSON.stringify(reply)]
  }
}

function unavailable(command: string[]): string | undefined {
  const name = command[0]?.toLowerCase() ?? ''
  const blocks = name.startsWith('xread') && command.some((arg) => arg.toLowerCase() === 'block')
  if (!blocks && !UNAVAILABLE.has(name)) return undefined
  return `ERR Command is not available: '${name.toUpperCase()}'`
}

/** Strings arrive as bytes, so that base64 keeps bytes that are not UTF-8. Status replies are strings. */
function encode(value: unknown, base64: boolean): Json {
  if (value === null || typeof value === 'number' || typeof value === 'boolean') return value
  if (Array.isArray(value)) return value.map((item) => encode(item, base64))
  const bytes = Buffer.isBuffer(value)
    ? value
    : Buffer.from(value instanceof Error ? value.message : String(value))
  const plain = bytes.toString()
  return base64 && plain !== 'OK' ? bytes.toString('base64') : plain
}

/**
 * Upstash knows a script flag that Redis refuses. The server empties its line. This changes the digest, so both digests
 * are kept: EVALSHA with the client's digest works.
 */
function flaggedScripts() {
  const digests = new Map<string, string>()
  const sha1 = (source: string): string => createHash('sha1').update(source).digest('hex')

  const plain = (source: string): string => {
    if (!FLAG.test(source)) return source
    const stripped = source.replace(FLAG, '')
    digests.set(sha1(source), sha1(stripped))
    return stripped
  }

  const digest = (sha: string): string => digests.get(sha.toLowerCase()) ?? sha

  const loaded = (command: string[]): string | undefined =>
    /^script$/i.test(command[0] ?? '') && /^load$/i.test(command[1] ?? '') ? command[2] : undefined

  return {
    outgoing(command: string[]): string[] {
      const [name = '', first, ...rest] = command
      if (first === undefined) return command
      if (/^eval(_ro)?$/i.test(name)) return [name, plain(first), ...rest]
      if (/^evalsha(_ro)?$/i.test(name)) return [name, digest(first), ...rest]
      if (/^script$/i.test(name) && /^load$/i.test(first)) return [name, first, ...rest.map(plain)]
      if (/^script$/i.test(name) && /^exists$/i.test(first)) {
        return [name, first, ...rest.map(digest)]
      }
      return command
    },
    incoming(command: string[], reply: unknown): unknown {
      const source = loaded(command)
      return source !== undefined && FLAG.test(source) ? Buffer.from(sha1(source)) : reply
    },
  }
}
