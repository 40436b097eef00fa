/** The database over TCP, for Node: the Upstash client, with one TCP connection for all its commands. */
import { createClient, ErrorReply } from '@redis/client'
import type { Redis, Requester } from '@upstash/redis'
import { withDeadline } from './deadline.ts'
import { PlainRedis } from './plain-redis.ts'

/** From the first packet to the first command; long enough for TLS and a distant database. */
const CONNECT_MS = 2000

/** The wait before a new connection. It doubles after each failure. */
const RETRY_MS = { first: 25, most: 1000 }

export type TcpOptions = {
  /** `redis://` or `rediss://`, optionally with a user, a password and a database number. */
  url: string
  timeoutMs: number
}

export type TcpClient = { redis: Redis; close(): void }

/** Why a command was not sent or not answered: a code such as ECONNREFUSED or WRONGPASS, and nothing else. */
class ConnectionError extends Error {
  override readonly name = 'ConnectionError'
}

/**
 * Builds a client that keeps one connection and gives up on a command after `timeoutMs`.
 *
 * A command is sent at most once, and never after its deadline. While a connection is being opened, a command waits
 * for it until its deadline. Between two attempts to connect, a command fails at once.
 */
export function tcpClient({ url, timeoutMs }: TcpOptions): TcpClient {
  let failures = 0
  let connection: Connection
  let connected: Promise<Connection>
  let retry: ReturnType<typeof setTimeout> | undefined
  let closed = false

  function open(): void {
    const opening = connect(url, (code) => {
      connected = Promise.reject(new ConnectionError(code))
      connected.catch(() => undefined)
      if (closed) return
      retry = setTimeout(open, Math.min(RETRY_MS.first * 2 ** failures, RETRY_MS.most))
      failures += 1
    })
    connection = opening
    connected = opening.ready.then(() => {
      failures = 0
      return opening
    })
    connected.catch(() => undefined)
  }

  const requester: Requester = {
    request: async <T>({ body }: { body?: unknown }) => {
      const command = (body as unknown[]).map(String)
      try {
        const result = await withDeadline(timeoutMs, (givenUp) => send(connected, command, givenUp))
        return { result: result as T }
      } catch (error) {
        // The rest of an error reply may quote the command.
        if (error instanceof ErrorReply) return { error: codeOf(error) }
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
    },
  }
}

/**
 * Sends a command once there is a connection, and returns the reply. Ends a connection on which nothing was heard
 * between the sending of a command and its deadline.
 */
async function send(
  connected: Promise<Connection>,
  command: string[],
  givenUp: AbortSignal,
): Promise<unknown> {
  const line = await connected
  const sent = performance.now()
  const check = () => {
    // First reads the data that arrived while this process was busy.
    setImmediate(() => {
      if (line.heard < sent) line.end('ETIMEDOUT')
    })
  }
  givenUp.addEventListener('abort', check)
  try {
    // If the command still waits to be written at its deadline, it is not written.
    const reply = await line.client.sendCommand(command, { abortSignal: givenUp })
    line.heard = performance.now()
    return reply
  } catch (error) {
    if (!(error instanceof ErrorReply)) throw new ConnectionError(codeOf(error))
    line.heard = performance.now()
    throw error
  } finally {
    givenUp.removeEventListener('abort', check)
  }
}

type Connection = ReturnType<typeof connect>

/** One connection. `lost` is called once, when the connection has ended or could not be opened. */
function connect(url: string, lost: (code: string) => void) {
  const socketOver = new AbortController()
  const client = createClient({
    url,
    // RESP2 gives the same answers as REST.
    RESP: 2,
    disableOfflineQueue: true,
    // The code above handles deadlines and new connections.
    commandOptions: { timeout: undefined },
    socket: { reconnectStrategy: false, connectTimeout: CONNECT_MS, signal: socketOver.signal },
  })
  let over: string | undefined

  function end(code: string): void {
    if (over) return
    over = code
    clearTimeout(slow)
    client.destroy()
    // Before the client is connected, `destroy` does not close the socket.
    socketOver.abort()
    lost(code)
  }

  const slow = setTimeout(end, CONNECT_MS, 'ETIMEDOUT')
  // The cause may also be an answer that cannot be parsed. Then no later answer can be parsed either.
  client.on('error', (error) => end(codeOf(error)))
  const ready = client.connect().then(
    () => clearTimeout(slow),
    (error: unknown) => {
      end(codeOf(error))
      throw new ConnectionError(over)
    },
  )
  /** `heard` is the time of the last answer. */
  return { client, ready, end, heard: 0 }
}

/** The code of a system error, or the first word of an error reply. */
function codeOf(error: unknown): string {
  if (error instanceof ErrorReply) return /^[A-Z]+\b/.exec(error.message)?.[0] ?? 'ERR'
  const code = error instanceof Error && 'code' in error ? error.code : undefined
  return typeof code === 'string' ? code : 'ECONNRESET'
}
