/** A client of a gateway that may leave before its answer has ended. */
import { request, type Agent, type IncomingHttpHeaders } from 'node:http'

export type Call = {
  method?: 'GET' | 'POST' | 'PUT'
  headers?: Record<string, string>
  body?: string | Buffer
  /** Without an agent, each call has a new connection. */
  agent?: Agent | undefined
  /** When the client leaves: this many ms after it was sent, or with the first bytes. */
  leave?: number | 'first bytes' | undefined
  /** The client never reads the body of the answer. */
  deaf?: boolean
  /** Gets the body of the answer, piece by piece. */
  take?(piece: Buffer): void
}

export type Heard = {
  /** The client has left and knows nothing of the rest. */
  left: boolean
  /** Absent if nothing came back. */
  status?: number
  headers: IncomingHttpHeaders
  /** How the connection broke, if the other side broke it. */
  broke?: Error
}

/** Sends one request and reads its answer to the end, or as far as it comes. */
export function call(url: string, { method = 'POST', ...options }: Call = {}): Promise<Heard> {
  const { headers = {}, body, agent, leave, deaf, take } = options
  const heard: Heard = { left: false, headers: {} }
  return new Promise((resolve) => {
    let timer: ReturnType<typeof setTimeout> | undefined
    const end = (broke?: Error) => {
      clearTimeout(timer)
      if (broke && !heard.left) heard.broke = broke
      resolve(heard)
    }
    const req = request(url, { agent: agent ?? false, method, headers })
    const go = () => {
      heard.left = true
      req.destroy()
      end()
    }
    req.on('error', end)
    req.on('response', (response) => {
      heard.status = response.statusCode ?? 0
      heard.headers = response.headers
      response.on('error', end)
      if (deaf) return
      response.on('data', (piece: Buffer) => {
        take?.(piece)
        if (leave === 'first bytes') go()
      })
      response.on('end', () => end())
    })
    req.end(body)
    if (typeof leave === 'number') timer = setTimeout(go, leave)
  })
}
