/** Which headers go upstream, and which go to the client. */
import type { AnswerHeaders, RelayPlatform } from '../ports.ts'
import { HEADERS_UP, PREFIXES_UP } from '../providers/groq.ts'

/** Headers that are hop-by-hop (RFC 9110, section 7.6.1), or that are about upstream's connection or site. */
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
  // They would overrule `cache-control` in the caches of our own platform (RFC 9213).
  'cdn-cache-control',
  'cloudflare-cdn-cache-control',
  'vercel-cdn-cache-control',
  'surrogate-control',
])

/** The headers of an upstream request: the client's headers that are allowed, and our key. */
export function headersUp(client: Headers, key: string): Record<string, string> {
  const up: Record<string, string> = {
    authorization: `Bearer ${key}`,
    // We have read the body as JSON in UTF-8, so upstream must not read it as anything else.
    'content-type': 'application/json',
    // No compression: a compressed stream would be buffered and decoded on the way.
    'accept-encoding': 'identity',
  }
  for (const [name, value] of client) {
    if (HEADERS_UP.has(name) || PREFIXES_UP.some((prefix) => name.startsWith(prefix)))
      up[name] = value
  }
  return up
}

/** The headers of the answer as upstream sent them, without the length, since the body is streamed. */
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
