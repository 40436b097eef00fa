/** Which headers go upstream, and which go to the client. */
import type { AnswerHeaders, Frame, RelayPlatform } from '../ports.ts'
import { HEADERS_UP, PREFIXES_UP } from '../providers/groq.ts'

/** The headers of upstream's answer that are not meant for its reader. All other headers go to the client. */
const NOT_DOWN = new Set([
  // About one connection (RFC 9110, section 7.6.1).
  ...['connection', 'keep-alive', 'proxy-connection', 'te', 'trailer', 'transfer-encoding'],
  ...['upgrade', 'proxy-authenticate', 'proxy-authentication-info', 'proxy-authorization'],
  // Here the body has another length.
  'content-length',
  // They make browsers ask for a password, leave the page, load something or delete what they store for our origin.
  ...['www-authenticate', 'authentication-info', 'refresh', 'link', 'clear-site-data'],
  ...['service-worker-allowed', 'speculation-rules', 'sourcemap', 'x-sourcemap', 'set-login'],
  // They would set state or rules of our origin, which upstream must not do.
  ...['set-cookie', 'set-cookie2', 'alt-svc', 'strict-transport-security', 'expect-ct'],
  ...['public-key-pins', 'public-key-pins-report-only', 'accept-ch', 'accept-ch-lifetime'],
  ...['critical-ch', 'nel', 'report-to', 'reporting-endpoints', 'origin-agent-cluster'],
  ...['content-security-policy', 'content-security-policy-report-only', 'feature-policy'],
  ...['x-content-security-policy', 'x-webkit-csp', 'x-frame-options', 'x-xss-protection'],
  ...['permissions-policy', 'permissions-policy-report-only', 'referrer-policy'],
  ...['document-policy', 'require-document-policy', 'integrity-policy', 'timing-allow-origin'],
  ...['document-isolation-policy', 'x-permitted-cross-domain-policies', 'x-dns-prefetch-control'],
  ...['use-as-dictionary', 'supports-loading-mode', 'activate-storage-access', 'x-ua-compatible'],
  // They make the proxies and caches in front of us keep an answer, or name what was kept.
  ...['edge-control', 'edge-cache-tag', 'cache-tag', 'x-cache-tags', 'xkey'],
])

/**
 * Kinds of such names. With `x-accel-redirect`, `x-sendfile` and the like, proxies send a file or another answer, or
 * leave a server alone. A vendor's `cdn-cache-control` overrules `cache-control` in its caches (RFC 9213). Headers with
 * our own names must come from us, not from upstream.
 */
const KINDS_NOT_DOWN = new RegExp(
  [
    '^(access-control|cross-origin|sec|attribution-reporting|ad-auction|surrogate|netlify)-',
    '^x-(accel|lighttpd|litespeed|reproxy|envoy|middleware|weir)-',
    '^x-sendfile',
    '(^|-)cdn-cache-control$',
  ].join('|'),
)

/** The headers of an upstream request: the client's headers that are allowed, our key, and what we have read the body as. */
export function headersUp(
  client: Headers,
  key: string,
  contentType = 'application/json',
): Record<string, string> {
  const up: Record<string, string> = {
    authorization: `Bearer ${key}`,
    // Upstream must not read the body differently from us.
    'content-type': contentType,
    // No compression: a compressed stream would be buffered and decoded on the way.
    'accept-encoding': 'identity',
  }
  for (const [name, value] of client) {
    if (HEADERS_UP.has(name) || PREFIXES_UP.some((prefix) => name.startsWith(prefix)))
      up[name] = value
  }
  return up
}

/**
 * The headers of the answer as upstream sent them, without the length, since the body is streamed. The platform is
 * given if there is a body.
 */
export function headersDown(
  upstream: AnswerHeaders,
  platform?: Pick<RelayPlatform, 'headers' | 'isDecoded'>,
): Headers {
  const down = new Headers(platform?.headers)
  const hops = (upstream.get('connection') ?? '').toLowerCase().split(/[\s,]+/)
  for (const [name, value] of upstream) {
    if (NOT_DOWN.has(name) || KINDS_NOT_DOWN.test(name) || hops.includes(name)) continue
    if (name === 'content-encoding' && platform?.isDecoded(value) !== false) continue
    down.append(name, value)
  }
  return down
}

/** What the headers of upstream's answer say about the bytes that go to the client. */
export function frameOf(
  upstream: AnswerHeaders,
  { isDecoded }: Pick<RelayPlatform, 'isDecoded'>,
): Frame {
  const coding = upstream.get('content-encoding') ?? ''
  const length = upstream.get('content-length') ?? ''
  const isEventStream = /^text\/event-stream\b/i.test(upstream.get('content-type') ?? '')
  return {
    isEventStream: isEventStream && (coding === '' || isDecoded(coding)),
    // Decoded bytes have another length.
    ...(/^\d+$/.test(length) && !isDecoded(coding) && { length: Number(length) }),
  }
}
