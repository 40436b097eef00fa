/** The database over the REST protocol of Upstash. */
import { Redis } from '@upstash/redis/cloudflare'

export type RestOptions = { url: string; token: string; timeoutMs: number }

/** A client that sends each call as one HTTP request and gives up on it after `timeoutMs`. */
export const restClient = ({ url, token, timeoutMs }: RestOptions): Redis =>
  new Redis({
    url,
    token,
    // No retries: a repeated script call could count twice.
    retry: { retries: 0 },
    signal: () => AbortSignal.timeout(timeoutMs),
    automaticDeserialization: false,
    enableAutoPipelining: false,
    enableTelemetry: false,
    responseEncoding: false,
  })
