/** The database over the REST protocol of Upstash, for Node: what the client of Upstash sends, on calls that cost less. */
import type { Redis, Requester } from '@upstash/redis'
import { nodeFetch, textOf } from '../node-http.ts'
import { PlainRedis } from './plain-redis.ts'
import type { RestOptions } from './rest.ts'

/** Read-your-writes: what an answer brings goes with the next call. */
const SYNC = 'upstash-sync-token'

/** A client that sends each command once and gives a call up after `timeoutMs`. */
export function restNodeClient({ url, token, timeoutMs }: RestOptions): Redis {
  const address = url.replace(/\/$/, '')
  const headers: Record<string, string> = {
    authorization: `Bearer ${token}`,
    'content-type': 'application/json',
    [SYNC]: '',
  }
  const request: Requester['request'] = async ({ body }) => {
    const deadline = new AbortController()
    const timer = setTimeout(() => {
      deadline.abort(new DOMException('The database did not answer in time.', 'TimeoutError'))
    }, timeoutMs)
    try {
      const answer = await nodeFetch(address, {
        method: 'POST',
        headers,
        body: Buffer.from(JSON.stringify(body)),
        signal: deadline.signal,
        redirect: 'manual',
      })
      const reply = JSON.parse(await textOf(answer))
      if (!answer.ok) return { error: String(reply.error) }
      headers[SYNC] = answer.headers.get(SYNC) ?? ''
      return reply
    } finally {
      clearTimeout(timer)
    }
  }
  return new PlainRedis({ request })
}
