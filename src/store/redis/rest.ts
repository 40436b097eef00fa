/** The database over the REST protocol of Upstash. */
import { Redis } from '@upstash/redis/cloudflare'
import { withDeadline } from './deadline.ts'

export type RestOptions = { url: string; token: string; timeoutMs: number }

/** A client that sends each call as one HTTP request and gives up on it after `timeoutMs`. */
export function restClient({ url, token, timeoutMs }: RestOptions): Redis {
  const redis = new Redis({
    url,
    token,
    // No retries: a repeated script call could count twice.
    retry: { retries: 0 },
    automaticDeserialization: false,
    enableAutoPipelining: false,
    enableTelemetry: false,
    responseEncoding: false,
  })
  redis.use((request, next) => withDeadline(timeoutMs, (signal) => next({ ...request, signal })))
  return redis
}
