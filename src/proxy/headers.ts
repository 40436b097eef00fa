/** Which headers go up and which come down. */

import type { RelayPlatform } from './relay.ts'
import type { AnswerHeaders } from './upstream.ts'

/** Fixed names and prefixes that a client's request may carry upstream. */
const UP = new Set(['accept', 'user-agent'])
const UP_PREFIXES = ['x-stainless-', 'x-groq-', 'openai-']

/** Hop-by-hop (RFC 9110, section 7.6.1), or about a connection or a site that is not ours. */
const NOT_DOWN = new Set([
  'connection',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authorization',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  // `fetch` has decoded the body.
  'content-encoding',
  'content-length',
  'set-cookie',
  'alt-svc',
  'strict-transport-security',
  'nel',
  'report-to',
  // They would overrule `cache-control` with the caches of our own platform (RFC 9213).
  'cdn-cache-control',
  'cloudflare-cdn-cache-control',
  'vercel-cdn-cache-control',
  'surrogate-control',
])

/** The headers of an upstream request: what the client may say, and our key. */
export function headersUp(client: Headers, key: string): Record<string, string> {
  const up: Record<string, string> = {
    authorization: `Bearer ${key}`,
    // What was sent to us as JSON has been read as JSON in UTF-8, so nothing else may be made of it upstream.
    'content-type': 'application/json',
    // Bytes as they are: a compressed stream would be held back and unpacked on the way.
    'accept-encoding': 'identity',
  }
  for (const [name, value] of client) {
    if (UP.has(name) || UP_PREFIXES.some((prefix) => name.startsWith(prefix))) up[name] = value
  }
  return up
}

/** The headers of the answer, as upstream gave them; a body comes as a stream, so without its length. */
export function headersDown(
  upstream: AnswerHeaders,
  platform?: Pick<RelayPlatform, 'headers'>,
): Headers {
  const down = new Headers(platform?.headers)
  const hops = (upstream.get('connection') ?? '').toLowerCase().split(/[\s,]+/)
  for (const [name, value] of upstream) {
    if (NOT_DOWN.has(name) || name.startsWith('access-control-')) continue
    if (hops.includes(name)) continue
    down.append(name, value)
  }
  return down
}
