/**
 * The database over the REST protocol of Upstash. It sends the same requests as the Upstash client, at a lower cost.
 */
import type { Redis, Requester } from '@upstash/redis'
import { withDeadline } from './deadline.ts'
import { PlainRedis } from './plain-redis.ts'

export type RestOptions = { url: string; token: string; timeoutMs: number }

/** Sends one request: the part of `fetch` that this needs. */
export type Send = (
  url: string,
  init: {
    method: 'POST'
    headers: Record<string, string>
    body: string
    signal: AbortSignal
    redirect: 'manual'
  },
) => Promise<Pick<Response, 'ok' | 'text'> & { headers: Pick<Headers, 'get'> }>

/** Read-your-writes: the token of an answer is sent with the next call. */
const SYNC = 'upstash-sync-token'

/**
 * A client that sends each command once, because a repeated script call could count twice, and gives up on a call after
 * `timeoutMs`.
 */
export function restClient({ url, token, timeoutMs }: RestOptions, send: Send = fetch): Redis {
  const address = url.replace(/\/$/, '')
  const headers: Record<string, string> = {
    authorization: `Bearer ${token}`,
    'content-type': 'application/json',
    [SYNC]: '',
  }
  const request: Requester['request'] = ({ body }) =>
    withDeadline(timeoutMs, async (signal) => {
      const answer = await send(address, {
        method: 'POST',
        headers,
        body: JSON.stringify(body),
        signal,
        redirect: 'manual',
      })
      const reply = JSON.parse(await answer.text())
      if (!answer.ok) return { error: String(reply.error) }
      headers[SYNC] = answer.headers.get(SYNC) ?? ''
      return reply
    })
  return new PlainRedis({ request })
}
