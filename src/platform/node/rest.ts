/**
 * The database over the Upstash REST protocol, for Node. It sends the same requests as the Upstash client, at a lower
 * cost.
 */
import type { Redis, Requester } from '@upstash/redis'
import { nodeFetch, textOf } from './http.ts'
import { withDeadline } from '../../store/redis/deadline.ts'
import { PlainRedis } from '../../store/redis/plain-redis.ts'
import type { RestOptions } from '../../store/redis/rest.ts'

/** Read-your-writes: the token of an answer is sent with the next call. */
const SYNC = 'upstash-sync-token'

/** Builds a client that sends each command once and gives up on a call after `timeoutMs`. */
export function restNodeClient({ url, token, timeoutMs }: RestOptions): Redis {
  const address = url.replace(/\/$/, '')
  const headers: Record<string, string> = {
    authorization: `Bearer ${token}`,
    'content-type': 'application/json',
    [SYNC]: '',
  }
  const request: Requester['request'] = ({ body }) =>
    withDeadline(timeoutMs, async (signal) => {
      const answer = await nodeFetch(address, {
        method: 'POST',
        headers,
        body: Buffer.from(JSON.stringify(body)),
        signal,
        redirect: 'manual',
      })
      const reply = JSON.parse(await textOf(answer))
      if (!answer.ok) return { error: String(reply.error) }
      headers[SYNC] = answer.headers.get(SYNC) ?? ''
      return reply
    })
  return new PlainRedis({ request })
}
