import { expect, test } from 'vitest'
import { headersDown, headersUp } from '../../src/gateway/headers.ts'

const up = (client: Record<string, string>) =>
  Object.entries(headersUp(new Headers(client), 'the-key'))
const down = (upstream: Record<string, string> | [string, string][], ours = {}) => [
  ...headersDown(new Headers(upstream), { headers: ours }),
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
  'openai-organization',
  'openai-beta',
  'OpenAI-Project',
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
  'x-api-key',
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
  'openai',
  'my-openai-key',
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
  'set-cookie',
  'alt-svc',
  'strict-transport-security',
  'nel',
  'report-to',
  'access-control-allow-origin',
  'access-control-allow-credentials',
  'Access-Control-Expose-Headers',
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

test.each<Record<string, string>>([
  {},
  { 'content-encoding': 'gzip' },
  { 'content-encoding': 'identity' },
])('drops the length and the encoding, because fetch and the relay change them: %j', (encoding) => {
  const headers = { ...encoding, 'content-length': '10', 'content-type': 'a/b' }
  expect(down(headers)).toEqual([['content-type', 'a/b']])
})

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
  expect([...headersDown(given, { headers: {} })]).toEqual([['vary', 'Origin, Accept']])
  expect(given.getSetCookie()).toEqual(['a=1'])
})
