/** The database over the REST protocol of Upstash. */
import { Redis } from '@upstash/redis/cloudflare'

export type RestOptions = { url: string; token: string; timeoutMs: number }

/** A client that connects with each call and gives a call up after `timeoutMs`. */
export const restClient = ({ url, token, timeoutMs }: RestOptions): Redis =>
  new Redis({
    url,
    token,
    // A repeated script call could count twice, so nothing is sent a second time.
    retry: { retries: 0 },
    signal: () => AbortSignal.timeout(timeoutMs),
    automaticDeserialization: false,
    enableAutoPipelining: false,
    enableTelemetry: false,
    responseEncoding: false,
  })
