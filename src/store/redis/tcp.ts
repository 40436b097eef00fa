/** The database over TCP, for Node: the Upstash client, with one TCP connection for all its commands. */
import { ErrorReply, RedisClient } from '@redis/client'
import type { Redis, Requester } from '@upstash/redis'
import { isIP } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { withDeadline } from './deadline.ts'
import { PlainRedis } from './plain-redis.ts'
import { redirected, redirectionOf } from './redirection.ts'
import { withoutValues } from './words.ts'

/** From the first packet to the first command; long enough for TLS and a distant database. */
const CONNECT_MS = 4000

/**
 * The time for one of several addresses of a host, long enough for the second try of a lost packet, after a second.
 * Node's own 250 ms are too short for a distant host.
 */
const ADDRESS_MS = 1500

/** The wait before a new connection. It doubles after each failure. */
const RETRY_MS = { first: 25, most: 1000 }

/**
 * Replies of a node that does not take writes now. After a failover, the address leads to another node, but an old
 * connection still leads to this one.
 */
const UNFIT = new Set(['READONLY', 'MASTERDOWN', 'NOREPLICAS', 'CLUSTERDOWN', 'MISCONF', 'LOADING'])

/** How often one command follows a redirection, and how long it waits for keys that are being moved. */
const REDIRECTIONS = 16
const AGAIN_MS = 20

/**
 * It gives the same answers as REST. With `createClient`, each client with new options gets a new class with a method
 * for every command of Redis, and making that class holds up everyone for tens of milliseconds. `factory` keeps the
 * class of these options, which are the same for each connection.
 */
const RESP2 = { RESP: 2 } as const

export type TcpOptions = {
  /** `redis://` or `rediss://`, optionally with a user, a password and a database number. */
  url: string
  timeoutMs: number
}

export type TcpClient = { redis: Redis; close(): void }

/** Why a command was not sent or not answered: a code such as ECONNREFUSED, or what the database said, without values. */
class ConnectionError extends Error {
  override readonly name = 'ConnectionError'
}

/**
 * Builds a client that keeps one connection and gives up on a command after `timeoutMs`. All keys belong to one node
 * of a cluster, so one connection is enough there too: it follows the redirections of the cluster.
 *
 * A command is sent at most once, and never after its deadline. While a connection is being opened, a command waits
 * for it until its deadline. Between two attempts to connect, a command fails at once.
 */
export function tcpClient({ url, timeoutMs }: TcpOptions): TcpClient {
  const name = new URL(url).hostname
  let failures = 0
  let connection: Connection
  let connected: Promise<Connection>
  /** To the node that keys are being moved to. */
  let side: Connection | undefined
  let retry: ReturnType<typeof setTimeout> | undefined
  let closed = false

  function open(address = url): void {
    const opening = connect(address, name, (reason) => opening === connection && lost(reason))
    connection = opening
    connected = opening.ready.then(() => opening)
    connected.catch(() => undefined)
  }

  function lost(reason: string): void {
    connected = Promise.reject(new ConnectionError(reason))
    connected.catch(() => undefined)
    if (closed) return
    // To the address in the settings, because the address of a redirection may be out of date.
    retry = setTimeout(open, Math.min(RETRY_MS.first * 2 ** failures, RETRY_MS.most))
    failures += 1
  }

  /** Opens another connection after its node has refused a command. Other commands on it are still answered. */
  function leave(line: Connection, then: () => void): void {
    // Of several commands that were refused together, only the first one does this.
    if (line !== connection || line.isOver()) return
    line.retire(timeoutMs)
    then()
  }

  /** The connection to the node that keys are being moved to. */
  function sideLine(address: string): Promise<Connection> {
    let line = side
    if (line?.url !== address || line.isOver()) {
      line?.retire(timeoutMs)
      line = side = connect(address, name, () => undefined)
    }
    const opened = line
    return opened.ready.then(() => opened)
  }

  /** Sends a command to the node that has its keys. */
  async function run(command: string[], givenUp: AbortSignal): Promise<unknown> {
    let asked: string | undefined
    for (let sent = 1; ; sent += 1) {
      const line = await (asked === undefined ? connected : sideLine(asked))
      try {
        const reply = await send(line, { command, asking: asked !== undefined, givenUp })
        failures = 0
        return reply
      } catch (thrown) {
        if (!(thrown instanceof ErrorReply)) throw thrown
        const error = withoutLogin(thrown)
        const code = codeOf(error)
        if (UNFIT.has(code)) leave(line, () => lost(textOf(error, command.slice(1))))
        const next = redirectionOf(error.message)
        const isFinal = sent > REDIRECTIONS || givenUp.aborted
        if (isFinal || !(next || code === 'TRYAGAIN')) throw error
        asked = undefined
        if (!next) await sleep(AGAIN_MS)
        else if (next.ask) asked = redirected(line.url, next)
        else leave(line, () => open(redirected(line.url, next)))
      }
    }
  }

  const requester: Requester = {
    request: async <T>({ body }: { body?: unknown }) => {
      const command = (body as unknown[]).map(String)
      try {
        const result = await withDeadline(timeoutMs, (givenUp) => run(command, givenUp))
        return { result: result as T }
      } catch (error) {
        if (error instanceof ErrorReply) return { error: textOf(error, command.slice(1)) }
        throw error
      }
    },
  }

  open()
  return {
    redis: new PlainRedis(requester),
    close() {
      closed = true
      clearTimeout(retry)
      connection.end('ECONNABORTED')
      side?.end('ECONNABORTED')
    },
  }
}

type Sending = { command: string[]; asking: boolean; givenUp: AbortSignal }

/**
 * Sends a command and returns the reply. Ends a connection on which nothing was heard between the sending of a command
 * and its deadline.
 */
async function send(line: Connection, { command, asking, givenUp }: Sending): Promise<unknown> {
  const sent = performance.now()
  const check = () => {
    // First reads the data that arrived while this process was busy.
    setImmediate(() => {
      if (line.heard < sent) line.end('ETIMEDOUT')
    })
  }
  givenUp.addEventListener('abort', check)
  try {
    // It applies to the next command on the connection.
    if (asking) void line.client.sendCommand(['ASKING']).catch(() => undefined)
    // If the command still waits to be written at its deadline, it is not written.
    const reply = await line.client.sendCommand(command, { abortSignal: givenUp })
    line.heard = performance.now()
    return reply
  } catch (error) {
    if (!(error instanceof ErrorReply)) throw new ConnectionError(textOf(error))
    line.heard = performance.now()
    throw error
  } finally {
    givenUp.removeEventListener('abort', check)
  }
}

type Connection = ReturnType<typeof connect>

/**
 * One connection. `lost` is called once, when the connection has ended or could not be opened. Nodes of a cluster may
 * give each other's addresses as numbers; with TLS, their certificate is then that of `name`.
 */
function connect(url: string, name: string, lost: (reason: string) => void) {
  const socketOver = new AbortController()
  const { hostname, username, password } = new URL(url)
  const credentials = [username, password].map(decodeURIComponent)
  const client = RedisClient.factory(RESP2)({
    ...RESP2,
    url,
    disableOfflineQueue: true,
    // The code above handles deadlines and new connections.
    commandOptions: { timeout: undefined },
    socket: {
      reconnectStrategy: false,
      connectTimeout: CONNECT_MS,
      autoSelectFamilyAttemptTimeout: ADDRESS_MS,
      signal: socketOver.signal,
      ...(isIP(hostname) && !isIP(name) && { servername: name }),
    },
  })
  let over: string | undefined

  function end(reason: string): void {
    if (over) return
    over = reason
    clearTimeout(slow)
    client.destroy()
    // Before the client is connected, `destroy` does not close the socket.
    socketOver.abort()
    lost(reason)
  }

  /** Takes no more commands, and ends when the last one is answered, at the latest after `ms`. */
  function retire(ms: number): void {
    if (over) return
    over = 'ECONNABORTED'
    clearTimeout(slow)
    client.close().catch(() => undefined)
    setTimeout(() => {
      client.destroy()
      socketOver.abort()
    }, ms).unref()
  }

  const slow = setTimeout(end, CONNECT_MS, 'ETIMEDOUT')
  // The cause may also be an answer that cannot be parsed. Then no later answer can be parsed either.
  client.on('error', (error) => end(textOf(error, credentials)))
  const ready = client.connect().then(
    () => clearTimeout(slow),
    (error: unknown) => {
      end(textOf(error, credentials))
      throw new ConnectionError(over)
    },
  )
  /** `heard` is the time of the last answer. */
  return { url, client, ready, end, retire, isOver: () => over !== undefined, heard: 0 }
}

/** Before a login, Redis calls a command of more than ten words a protocol error: name what is missing. */
const withoutLogin = (error: ErrorReply): ErrorReply =>
  /\bunauthenticated\b/.test(error.message)
    ? new ErrorReply('NOAUTH Authentication required.')
    : error

/** The first word of an error reply. */
const codeOf = (error: ErrorReply) => /^[A-Z]+\b/.exec(error.message)?.[0] ?? 'ERR'

/** The code of a system error, or an error reply without these values. */
function textOf(error: unknown, values: string[] = []): string {
  if (error instanceof ErrorReply) {
    const text = withoutValues(error.message, values)
    return text.startsWith(codeOf(error)) ? text : `ERR ${text}`
  }
  const code = error instanceof Error && 'code' in error ? error.code : undefined
  return typeof code === 'string' ? code : 'ECONNRESET'
}
