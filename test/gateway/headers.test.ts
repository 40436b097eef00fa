import { expect, test } from 'vitest'
import { headersDown, headersUp } from '../../src/gateway/headers.ts'

const up = (client: Record<string, string>) =>
  Object.entries(headersUp(new Headers(client), 'the-key'))
const isDecoded = (contentEncoding: string) => contentEncoding === 'gzip'
const down = (upstream: Record<string, string> | [string, string][], ours = {}) => [
  ...headersDown(new Headers(upstream), { headers: ours, isDecoded }),
]

/** The headers of every upstream request. */
const ALWAYS = [
  ['authorization', 'Bearer the-key'],
  ['content-type', 'application/json'],
  ['accept-encoding', 'identity'],
]

test('sends little more than the key upstream if the client sends no headers', () => {
  expect(up({})).toEqual(ALWAYS)
})

test.each([
  'accept',
  'user-agent',
  'x-stainless-lang',
  'x-stainless-retry-count',
  'x-groq-region',
  'Groq-Model-Version',
  'groq-beta',
])('passes %s up', (name) => {
  expect(Object.fromEntries(up({ [name]: 'a value' }))).toEqual({
    ...Object.fromEntries(ALWAYS),
    [name.toLowerCase()]: 'a value',
  })
})

test.each([
  'cookie',
  'host',
  'origin',
  'referer',
  'forwarded',
  'via',
  'x-forwarded-for',
  'x-forwarded-host',
  'x-forwarded-proto',
  'x-real-ip',
  'cf-connecting-ip',
  'cf-ray',
  'x-vercel-id',
  'x-user-token',
  'X-User-Token',
  'proxy-authorization',
  'connection',
  'te',
  'upgrade',
  'transfer-encoding',
  'content-length',
  'content-encoding',
  'accept-language',
  'x-stainless',
  'x-groqs-region',
  'groqs-model-version',
  'groq',
  'my-groq-key',
  // Keys and accounts of other vendors, which a client sends to the address that it was given.
  'openai-organization',
  'OpenAI-Project',
  'openai-beta',
  'anthropic-version',
  'anthropic-beta',
  'x-api-key',
  'api-key',
  'x-goog-api-key',
  'x-goog-user-project',
  'x-amz-security-token',
  'x-amz-date',
  'x-ms-client-request-id',
  'azure-openai-deployment',
  'cf-access-client-secret',
  'cf-aig-authorization',
  'helicone-auth',
  'x-portkey-api-key',
  'x-litellm-api-key',
  'http-referer',
  'x-title',
])('never passes %s up', (name) => {
  expect(up({ [name]: 'a value' })).toEqual(ALWAYS)
})

test.each([
  ['authorization', 'Bearer a-user-token'],
  ['Authorization', 'Basic dTpw'],
  ['content-type', 'application/json; charset=utf-16'],
  ['accept-encoding', 'gzip, br'],
])('puts its own %s in the place of %s', (name, value) => {
  expect(up({ [name]: value })).toEqual(ALWAYS)
})

test.each([
  'content-type',
  'cache-control',
  'x-request-id',
  'x-groq-region',
  'x-ratelimit-remaining-tokens',
  'retry-after',
  'x-should-retry',
  'vary',
  'etag',
  'date',
  'server',
  'cf-ray',
])('brings %s down', (name) => {
  expect(down({ [name]: 'a value' })).toEqual([[name, 'a value']])
})

test.each([
  'connection',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authorization',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'Transfer-Encoding',
  'upgrade',
  'proxy-authentication-info',
  'access-control-allow-origin',
  'access-control-allow-credentials',
  'Access-Control-Expose-Headers',
  // To proxies in front of the gateway.
  'X-Accel-Redirect',
  'x-accel-buffering',
  'x-accel-expires',
  'x-sendfile',
  'x-sendfile2',
  'x-lighttpd-send-file',
  'x-lighttpd-send-tempfile',
  'x-litespeed-location',
  'x-litespeed-cache-control',
  'x-reproxy-url',
  'x-reproxy-file',
  'x-envoy-immediate-health-check-fail',
  'x-middleware-rewrite',
  'surrogate-control',
  'surrogate-key',
  'edge-control',
  'cache-tag',
  'cdn-cache-control',
  'cloudflare-cdn-cache-control',
  'Netlify-CDN-Cache-Control',
  'netlify-vary',
  // To browsers, about our origin.
  'set-cookie',
  'clear-site-data',
  'refresh',
  'www-authenticate',
  'link',
  'alt-svc',
  'strict-transport-security',
  'public-key-pins',
  'expect-ct',
  'accept-ch',
  'critical-ch',
  'content-security-policy',
  'Content-Security-Policy-Report-Only',
  'cross-origin-opener-policy',
  'cross-origin-embedder-policy-report-only',
  'permissions-policy',
  'referrer-policy',
  'x-frame-options',
  'nel',
  'report-to',
  'reporting-endpoints',
  'service-worker-allowed',
  'speculation-rules',
  'sourcemap',
  'sec-session-registration',
  'timing-allow-origin',
  'origin-agent-cluster',
  // Ours.
  'x-weir-degraded',
])('drops %s', (name) => {
  expect(down({ [name]: 'a value', 'x-kept': '1' })).toEqual([['x-kept', '1']])
})

test('drops every cookie', () => {
  expect(
    down([
      ['set-cookie', 'a=1'],
      ['set-cookie', 'b=2'],
    ]),
  ).toEqual([])
})

test.each(['x-hop, X-Other', 'x-hop,x-other', 'close , x-hop,, x-other ', 'X-HOP X-OTHER'])(
  'drops the headers that the Connection header lists: %s',
  (connection) => {
    expect(down({ connection, 'x-hop': '1', 'x-other': '2', 'x-ho': '3' })).toEqual([['x-ho', '3']])
  },
)

test.each<Record<string, string>>([{}, { 'content-encoding': 'gzip' }])(
  'drops the length, and the coding that fetch has undone: %j',
  (encoding) => {
    const headers = { ...encoding, 'content-length': '10', 'content-type': 'a/b' }
    expect(down(headers)).toEqual([['content-type', 'a/b']])
  },
)

test.each(['zstd', 'identity', 'gzip, zstd'])(
  'keeps a coding that fetch has not undone: %s',
  (coding) => {
    expect(down({ 'content-encoding': coding })).toEqual([['content-encoding', coding]])
  },
)

test('adds the headers of the platform, and nothing of upstream to them', () => {
  const ours = { 'transfer-encoding': 'chunked' }
  expect(down({ 'transfer-encoding': 'gzip', vary: 'Origin' }, ours)).toEqual([
    ['transfer-encoding', 'chunked'],
    ['vary', 'Origin'],
  ])
  expect(ours).toEqual({ 'transfer-encoding': 'chunked' })
})

test('keeps a header that is there twice, and changes nothing in what it was given', () => {
  const given = new Headers([
    ['vary', 'Origin'],
    ['vary', 'Accept'],
    ['set-cookie', 'a=1'],
  ])
  expect([...headersDown(given, { headers: {}, isDecoded })]).toEqual([['vary', 'Origin, Accept']])
  expect(given.getSetCookie()).toEqual(['a=1'])
})
