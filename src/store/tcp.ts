/** The database over TCP, for Node: the client of Upstash, whose commands go out on one connection of its own. */
import { createClient, ErrorReply } from '@redis/client'
import type { Redis, Requester } from '@upstash/redis'
import { PlainRedis } from './plain-redis.ts'

/** From the first packet to the first command, with TLS and a far database. */
const CONNECT_MS = 2000

/** The wait before a new connection doubles with every one that fails. */
const RETRY_MS = { first: 25, most: 1000 }

export type TcpOptions = {
  /** `redis://` or `rediss://`, with user, password and number of the database if need be. */
  url: string
  timeoutMs: number
}

export type TcpClient = { redis: Redis; close(): void }

/** Why a command was not sent or not answered: a code such as ECONNREFUSED or WRONGPASS, and nothing else. */
class ConnectionError extends Error {
  override readonly name = 'ConnectionError'
}

/**
 * A client that keeps one connection and gives a command up after `timeoutMs`.
 *
 * A command is sent at most once, and never after it was given up: while there is no connection it fails with
 * the attempt to get one, or at its deadline, and between attempts at once.
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

  async function exchange(command: string[], givenUp: AbortSignal): Promise<unknown> {
    const line = await connected
    const sent = performance.now()
    const check = () => {
      // What has come in while this process was busy is read first.
      setImmediate(() => {
        if (line.heard < sent) line.end('ETIMEDOUT')
      })
    }
    givenUp.addEventListener('abort', check)
    try {
      // One that is still waiting to be written when it is given up is not written any more.
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

  const requester: Requester = {
    request: <T>({ body }: { body?: unknown }) =>
      new Promise<{ result: T } | { error: string }>((resolve, reject) => {
        const giveUp = new AbortController()
        const timer = setTimeout(() => {
          reject(new DOMException('The database did not answer in time.', 'TimeoutError'))
          giveUp.abort()
        }, timeoutMs)
        exchange((body as unknown[]).map(String), giveUp.signal)
          .then((result) => resolve({ result: result as T }))
          .catch((error: unknown) => {
            // The rest of an error reply may quote the command.
            if (error instanceof ErrorReply) resolve({ error: codeOf(error) })
            else reject(error)
          })
          .finally(() => clearTimeout(timer))
      }),
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

type Connection = ReturnType<typeof connect>

/** One connection; `lost` is told once that it is over, or that it never came to be. */
function connect(url: string, lost: (code: string) => void) {
  const socketOver = new AbortController()
  const client = createClient({
    url,
    // The answers that REST gives.
    RESP: 2,
    disableOfflineQueue: true,
    // Deadlines and new connections are seen to above.
    commandOptions: { timeout: undefined },
    socket: { reconnectStrategy: false, connectTimeout: CONNECT_MS, signal: socketOver.signal },
  })
  let over: string | undefined

  function end(code: string): void {
    if (over) return
    over = code
    clearTimeout(slow)
    client.destroy()
    // Until it is connected the socket is not the client's to destroy.
    socketOver.abort()
    lost(code)
  }

  const slow = setTimeout(end, CONNECT_MS, 'ETIMEDOUT')
  // Besides a lost connection this may be an answer that cannot be read, and then the next one cannot either.
  client.on('error', (error) => end(codeOf(error)))
  const ready = client.connect().then(
    () => clearTimeout(slow),
    (error: unknown) => {
      end(codeOf(error))
      throw new ConnectionError(over)
    },
  )
  /** `heard` is when the last answer came. */
  return { client, ready, end, heard: 0 }
}

/** The code of a system error, or the first word of an error reply. */
function codeOf(error: unknown): string {
  if (error instanceof ErrorReply) return /^[A-Z]+\b/.exec(error.message)?.[0] ?? 'ERR'
  const code = error instanceof Error && 'code' in error ? error.code : undefined
  return typeof code === 'string' ? code : 'ECONNRESET'
}
