/**
 * Random inputs for everything that reads what somebody else wrote. The short form is fuzz.test.ts, the long one `npm
 * run fuzz`. Every input has its own seed, so that the target's name and the seed reproduce a finding.
 */
import type { AdminKey } from '../../src/config/admins.ts'
import assert from 'node:assert/strict'
import { Hono } from 'hono'
import { generateSignedCookie } from 'hono/cookie'
import { createApp } from '../../src/app.ts'
import { ConfigError, readConfig } from '../../src/config/config.ts'
import type { AppContext, AppEnv } from '../../src/context.ts'
import { ApiError } from '../../src/errors.ts'
import { createLog } from '../../src/log.ts'
import { createIdentify } from '../../src/identity/caller.ts'
import { createSessions, SESSION_COOKIE } from '../../src/identity/sessions.ts'
import { readProxyRequest } from '../../src/gateway/body.ts'
import { parseBody, parseForUpstream } from '../../src/gateway/body-json.ts'
import { atOnce } from '../../src/gateway/steps.ts'
import { headersDown, headersUp } from '../../src/gateway/headers.ts'
import { streamPipe } from '../../src/gateway/pipe.ts'
import { readUserQuery } from '../../src/routes/user-query.ts'
import { STATIC_PATHS, staticFiles } from '../../src/platform/node/static-files.ts'
import { ASSETS } from '../../src/views/assets.ts'
import { formatCursor, parseCursor } from '../../src/store/cursor.ts'
import { withFallback } from '../../src/store/fallback/store.ts'
import { memoryQueue } from '../../src/store/fallback/queue.ts'
import { reservationOf, type MeteredRoute } from '../../src/metering/reservation.ts'
import { createMeter } from '../../src/metering/meter.ts'
import { createIds } from '../../src/identity/ids.ts'
import { randomOf, type Random } from './random.ts'
import { localStore } from './stores.ts'
import { transcripts } from './transcripts.ts'

type Finding = { target: string; seed: number; error: unknown; input: string }

/** A target of random inputs; if it throws, that is a finding. `note` keeps the input for the report. */
type Target = {
  name: string
  /** Its share of a thousand inputs. */
  share: number
  run(random: Random, note: (input: string) => void): void | Promise<void>
}

/** The longest time for one input, in ms; even a busy machine is faster. */
const HANG_MS = 20_000

const MODELS = [
  'openai/gpt-oss-20b',
  'a',
  '__proto__',
  'constructor',
  'groq/compound',
  'a:b',
  '',
  '*',
]

/** Pieces that often break readers. */
const PIECES = [
  '"', '\\', '{', '}', '[', ']', ':', ',', '\\"', '\\u0000', '\\ud800', '\0', '\r\n', '\n', '\r', '\t', ' ',
  'null', 'true', '-1', '0', '1e999', '1e308', '9007199254740993', '-0', '0.1', '1E1', 'NaN', '"model"',
  '"Model"', '"m\\u006fdel"', '"mode\u017f"', '"\u212a"', '"__proto__"', '"constructor"', '"usage"', '"delta"',
  '"n"', '"max_tokens"', '"stream"', '"messages"', '"input"', '"tools"', '"prompt"', '"userToken"', '"content"',
  'data:', 'data: ', 'data: [DONE]', 'event: x', ': comment', 'id: 1', '\ufeff', '\u2028', '\u00ff', '\u{1f600}',
  '%', '%2e', '%00', '%0d%0a', '%2f', '%ff', '..', '/', '//', '?', '#', '&', '=', ';', '~', '*', '[]', '1~', 'data: {"usage":\r\ndata: {"prompt_tokens":1,"completion_tokens":2}}\r\n\r\n', '::ffff:', '1970',
  '<script>', '"><img src=x onerror=x>', "'", '=1+1', 'Bearer ', 'weir_session=', '__Host-weir_session=', 'chunked', 'gzip', 'a'.repeat(300), '['.repeat(500), '1'.repeat(40),
] // prettier-ignore

/** A text of pieces and random characters. */
function words(random: Random, most = 12): string {
  let text = ''
  for (let left = random.int(0, most); left > 0; left -= 1) {
    text += random.chance(0.7)
      ? random.pick(PIECES)
      : String.fromCharCode(random.int(0, random.pick([127, 255, 0xffff])))
  }
  return text
}

/** A JSON value, sometimes with keys that have a meaning. */
function json(random: Random, depth = 3): unknown {
  const kind = random.int(0, depth > 0 ? 7 : 4)
  if (kind === 0) return random.pick([null, true, false, 0, -1, 1.5, 2 ** 53, 1e308, '', 'x'])
  if (kind === 1) return random.int(-5, 100_000)
  if (kind <= 3) return random.chance(0.5) ? words(random, 3) : random.pick(MODELS)
  if (kind === 4)
    return random.pick(['user', 'image_url', 'data:image/png;base64,AAAA', 'function'])
  const length = random.int(0, 4)
  if (kind === 5) return Array.from({ length }, () => json(random, depth - 1))
  return Object.fromEntries(Array.from({ length }, () => [field(random), json(random, depth - 1)]))
}

const FIELDS = [
  'model', 'stream', 'n', 'messages', 'input', 'prompt', 'max_tokens', 'max_completion_tokens', 'max_output_tokens',
  'tools', 'previous_response_id', 'conversation', 'documents', 'userToken', 'type', 'role', 'content', 'image_url', 'url',
  'usage', 'prompt_tokens', 'completion_tokens', 'total_tokens', 'x_groq', 'delta', 'choices', 'response', 'error',
  'modelUsage', 'day', 'minute', 'tokens', 'requests', 'resetAt', 'userId', 'blocked', 'reason', 'until', 'key',
] // prettier-ignore

const field = (random: Random) => (random.chance(0.8) ? random.pick(FIELDS) : words(random, 2))

/** Bytes with some of them changed, removed, doubled or added. */
function mutated(random: Random, bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  let result = new Uint8Array(bytes)
  for (let left = random.int(0, 4); left > 0; left -= 1) {
    const at = random.int(0, result.length)
    const end = Math.min(result.length, at + random.int(0, random.pick([1, 4, 40])))
    const insert = random.chance(0.5)
      ? new TextEncoder().encode(words(random, 2))
      : Uint8Array.from({ length: random.int(0, 3) }, () => random.int(0, 255))
    const next = new Uint8Array(result.length - (end - at) + insert.length)
    next.set(result.subarray(0, at))
    next.set(insert, at)
    next.set(result.subarray(end), at + insert.length)
    result = next
  }
  return result
}

const encoder = new TextEncoder()
const ROUTES: MeteredRoute[] = ['chat/completions', 'responses', 'embeddings']
const BALANCED = readConfig(
  { ADMIN_KEY: 'admin-key-of-the-fuzz', GROQ_API_KEY: 'gsk_of_the_fuzz' },
  'node',
)
const STRICT = readConfig({ CAP: 'strict', ALLOWED_MODELS: 'a,openai/*,*b*c*' }, 'node')

/** A body that is almost valid for its route. */
function body(random: Random): Uint8Array<ArrayBuffer> {
  const whole = {
    model: random.pick(MODELS),
    ...(random.chance(0.8) && { messages: [{ role: 'user', content: json(random, 2) }] }),
    ...(random.chance(0.3) && { input: json(random, 2) }),
    ...Object.fromEntries(
      Array.from({ length: random.int(0, 3) }, () => [field(random), json(random, 2)]),
    ),
  }
  const text = JSON.stringify(random.chance(0.85) ? whole : json(random)) ?? ''
  const bytes = encoder.encode(text)
  return random.chance(0.5) ? mutated(random, bytes) : bytes
}

/** Runs it. Anything thrown except our own errors is a finding. */
function refusable<T>(run: () => T): T | undefined {
  try {
    return run()
  } catch (error) {
    if (error instanceof ApiError && error.status < 500) return undefined
    throw error
  }
}

const meter: Target = {
  name: 'meter',
  share: 250,
  run(random, note) {
    const sample = random.pick(Object.values(transcripts))
    const start = random.int(0, Math.max(0, sample.body.length - 600))
    const part = sample.body.subarray(start, start + random.int(0, 600))
    const bytes = mutated(random, random.chance(0.7) ? part : encoder.encode(words(random, 30)))
    note(Buffer.from(bytes).toString('base64'))
    const route = random.pick(ROUTES)
    const type = random.pick([
      'text/event-stream',
      'TEXT/Event-Stream; x',
      'application/json',
      null,
      '',
    ])
    const whole = createMeter(route, type)
    whole.write(bytes)
    const parts = createMeter(route, type)
    for (let at = 0; at < bytes.length;) {
      const end = at + random.int(1, random.pick([1, 3, 50, 600]))
      parts.write(bytes.subarray(at, end))
      at = end
    }
    const metered = whole.end()
    assert.deepEqual(parts.end(), metered, 'cuts change what is metered')
    assert(Number.isSafeInteger(metered.deltas) && metered.deltas >= 0, 'deltas are no count')
    if (!metered.usage) return
    const { prompt, completion, total, cached = 0, reasoning = 0 } = metered.usage
    for (const count of [prompt, completion, total, cached, reasoning]) {
      assert(Number.isSafeInteger(count) && count >= 0, 'a count is no count')
    }
    assert.equal(total, prompt + completion)
    assert(cached <= prompt, 'more is cached than there was')
  },
}

const reader: Target = {
  name: 'body',
  share: 250,
  run(random, note) {
    const bytes = body(random)
    note(Buffer.from(bytes).toString('base64'))
    const config = random.chance(0.5) ? BALANCED : STRICT
    refusable(() => parseBody(bytes))
    const request = refusable(() =>
      atOnce(
        readProxyRequest(
          random.pick(ROUTES),
          bytes,
          config,
          atOnce(parseForUpstream(bytes, config)),
        ),
      ),
    )
    if (!request) return
    const { tokens, promptBytes, splice } = request.reservation
    assert(Number.isSafeInteger(tokens) && tokens > 0, 'the reservation is no count')
    assert(promptBytes >= 0 && promptBytes <= bytes.length, 'more of a prompt than body')
    const up = JSON.parse(new TextDecoder().decode(request.bytes)) as Record<string, unknown>
    assert.equal(up.model, request.model)
    if (splice) assert.equal(up[splice.field], splice.tokens)
    else assert.equal(request.bytes, bytes)
  },
}

const reservation: Target = {
  name: 'reservation',
  share: 100,
  run(random, note) {
    const value = Object.fromEntries(
      Array.from({ length: random.int(0, 6) }, () => [
        random.chance(0.5) ? random.pick(FIELDS.slice(0, 10)) : field(random),
        random.chance(0.3) ? random.pick([-1, 0, 1.5, 1e308, 7, '9']) : json(random),
      ]),
    )
    note(JSON.stringify(value))
    const bytes = Buffer.from(JSON.stringify(value) + ' '.repeat(random.int(0, 10_000)))
    const rules = { cap: random.pick(['balanced', 'strict'] as const), maxCompletionTokens: 2500 }
    const found = refusable(() => atOnce(reservationOf(random.pick(ROUTES), value, bytes, rules)))
    if (found)
      assert(Number.isSafeInteger(found.tokens) && found.tokens > 0, 'the reservation is no count')
  },
}

const VARIABLES: Record<string, string[]> = {
  MODEL_LIMITS: [
    '{"*":{"tokensPerDay":1,"requestsPerDay":1}}',
    '{"*":{}}',
    '{"__proto__":{}}',
    '[]',
  ],
  GLOBAL_LIMITS: ['{}', '{"total":{"tokensPerDay":1,"requestsPerDay":1}}', '{"*":1}'],
  MODEL_PRICES: ['{}', '{"a":{"input":1,"output":2}}', '{"a":{"input":-1,"output":2}}'],
  GROQ_BASE_URL: ['http://x', 'https://x/openai/v1', 'file:///x', 'http://['],
  REDIS_URL: [
    'redis://x',
    'rediss://a:b@x.upstash.io:6379',
    'redis://%',
    'redis://x/y',
    'http://x',
  ],
  KV_REST_API_URL: ['https://x', 'x', 'ftp://x'],
  KV_REST_API_TOKEN: ['t', 'a b', 'ü'],
  UPSTASH_REDIS_REST_URL: ['https://y'],
  UPSTASH_REDIS_REST_TOKEN: ['u'],
  ADMIN_KEY: ['short', 'long-enough-to-be-a-key', 'with\nline-break-in-it'],
  GROQ_API_KEY: ['gsk_x', 'a\r\nb'],
  CAP: ['strict', 'soft', '__proto__'],
  MAX_BODY_BYTES: ['1024', '-1', '1e3', '99999999999999999999'],
  REQUEST_SECONDS: ['1', '0', '301', '0x10'],
  TRUST_PROXY: ['on', 'off', 'yes'],
  ON_STORE_DOWN: ['open', 'closed', 'constructor'],
  ALLOWED_MODELS: ['*', '', ',,,', 'a*b*c'],
  ALLOWED_ORIGINS: ['*', 'https://a', ' , '],
  IP_STORAGE: ['full', 'off', ''],
  PORT: ['0', '65536', ' 80 '],
}

const config: Target = {
  name: 'config',
  share: 60,
  run(random, note) {
    const vars: Record<string, string> = {}
    const names = Object.keys(VARIABLES)
    for (let left = random.int(0, 6); left > 0; left -= 1) {
      const name = random.pick(names)
      const value = random.pick(VARIABLES[name] ?? [])
      vars[name] = random.chance(0.6) ? value : value + words(random, 3)
    }
    note(JSON.stringify(vars))
    try {
      readConfig(vars, random.pick(['node', 'edge'] as const))
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error
      for (const name of ['ADMIN_KEY', 'GROQ_API_KEY', 'KV_REST_API_TOKEN']) {
        const secret = vars[name]?.trim() ?? ''
        if (secret.length > 12) assert(!error.message.includes(secret), `${name} is told`)
      }
    }
  },
}

/** Runs a reader inside a request, where it finds its headers. */
async function within(headers: Headers, read: (c: AppContext) => Promise<unknown>): Promise<void> {
  const thrown: unknown[] = []
  const app = new Hono<AppEnv>()
  app.get('/', async (c) => {
    await read(c).catch((error: unknown) => thrown.push(error))
    return c.body(null)
  })
  await app.fetch(new Request('http://weir.example/', { headers }))
  for (const error of thrown) if (!(error instanceof ApiError)) throw error
}

/** Limits a text to what a header can carry. */
const headerText = (random: Random, most = 8) =>
  words(random, most)
    .replace(/[^\t\x20-\x7e\x80-\xff]/g, '')
    .trim()

const COOKIE_SECRET = 'admin-key-of-the-fuzz'
const ADMIN: AdminKey = { name: 'admin', role: 'admin', key: COOKIE_SECRET }
const sessions = createSessions({
  config: { ...BALANCED, admins: [ADMIN] },
  now: () => 1_000_000,
})
const identify = createIdentify({
  config: BALANCED,
  clientIp: () => undefined,
  claimedIp: () => undefined,
  fetchKeys: () => Promise.reject(new Error('nobody signs here')),
  now: Date.now,
  log: createLog({ level: 'silent', format: 'json', write: () => undefined }),
})

const cookies: Target = {
  name: 'cookies',
  share: 80,
  async run(random, note) {
    const value = `${random.int(0, 3_000_000)}.${headerText(random, 2)}.${headerText(random, 2)}`
    const cookie = random.pick([
      headerText(random),
      `weir_session=${headerText(random)}`,
      `weir_session=${value}`,
      `a=b; weir_session=${encodeURIComponent(value)}=; weir_session=${headerText(random, 3)}`,
    ])
    note(cookie)
    await within(new Headers({ cookie }), async (c) => {
      assert.equal(await sessions.read(c), undefined, 'a made-up cookie is a session')
    })
  },
}

const caller: Target = {
  name: 'caller',
  share: 60,
  async run(random, note) {
    const headers = new Headers()
    if (random.chance(0.7))
      headers.set(
        'authorization',
        `${random.pick(['Bearer ', 'bearer  ', ''])}${headerText(random)}`,
      )
    if (random.chance(0.5)) headers.set('x-user-token', headerText(random))
    if (random.chance(0.5)) headers.set('x-session-id', headerText(random))
    const bodyToken = random.chance(0.3) ? words(random) : undefined
    note(JSON.stringify([...headers, bodyToken]))
    await within(headers, async (c) => {
      const { id } = await identify(c, bodyToken)
      assert.match(id, /^[\w-]{22}$/)
    })
    const up = headersUp(headers, 'gsk_of_the_fuzz')
    assert.equal(up.authorization, 'Bearer gsk_of_the_fuzz')
    assert.equal(up['x-user-token'], undefined)
    headersDown(headers)
  },
}

const cursors: Target = {
  name: 'cursors',
  share: 100,
  run(random, note) {
    const text = random.chance(0.4)
      ? `${'9'.repeat(random.int(1, 30))}${random.pick(['', '.5'])}${random.pick(['', '~'])}${'A'.repeat(random.pick([0, 21, 22, 23]))}`
      : words(random, 4)
    note(text)
    const cursor = parseCursor(text)
    if (cursor) assert.deepEqual(parseCursor(formatCursor(cursor)), cursor)
    const query = Object.fromEntries(
      Array.from({ length: random.int(0, 4) }, () => [
        random.pick(['sort', 'limit', 'cursor', 'q', '__proto__']),
        random.pick([text, words(random, 2), 'tokens', 'lastActive', '1', '201', 'A'.repeat(22)]),
      ]),
    )
    refusable(() => readUserQuery(query))
  },
}

const METHODS = ['GET', 'POST', 'PUT', 'DELETE', 'PATCH', 'HEAD', 'OPTIONS', 'QUERY', 'post', 'X']
const USERS = 30
const tokenOf = (user: number) => `token-of-user-${user}`
const PATHS = [
  '/', '/api/groq', '/api/groq', '/api/groq', '/api/tracking/sync', '/api/tracking/sync', '/api/groq/openai/v1/chat/completions', '/api/groq/openai/v1/responses',
  '/api/groq/openai/v1/embeddings', '/api/groq/openai/v1/models', '/api/groq/openai/v1/models/x',
  '/api/groq/openai/v1/files', '/api/groq/openai/v1/audio/x', '/api/tracking/sync', '/api/admin/login', '/api/admin/logout',
  '/api/admin/auth', '/api/admin/usage', '/api/admin/usage', '/api/admin/export', '/api/admin/users/USER', '/api/tokens', '/api/test',
  '/admin', '/admin', '/admin/users/USER', '/admin/users/USER', '/admin/users/USER/block', '/admin/users/USER/block',
  '/admin/users/USER/unblock', '/admin/users/USER/erase', '/admin/find', '/admin/', '/admin/x', '/favicon.ico', '/.env', '/static',
  ...STATIC_PATHS, '/assets/x/admin.js', ASSETS.script.path,
] // prettier-ignore
/** Values for an id. */
const SEGMENTS = [
  '%0d%0aX:x',
  '%00',
  '%ff',
  '%2f%2fx',
  '..%2f..',
  'a%3fb%23c',
  '%5cx',
  '%F0%9F%98%80',
  '~',
  'A'.repeat(3000),
]
/** The admin's routes, without login, logout and the check of a login. */
const FOR_ADMINS = /^\/(admin|api\/tokens|api\/admin\/(usage|export|users\/))/
const QUERIES = [
  'done=blocked',
  'done=constructor',
  'cursor=1',
  'cursor=1~USER',
  'q=USER',
  'kind=users',
  'kind=days',
  'kind=events',
  'format=ndjson',
  'action=history',
  'days=3',
  'limit=2',
  'sort=tokens',
  'action=stats',
]
const TYPES = [
  'application/json',
  'text/plain',
  'application/x-www-form-urlencoded',
  'application/x-www-form-urlencoded; charset=x',
  'multipart/form-data; boundary=x',
  '',
]
const OWN_PAGES = ['same-origin', 'same-origin', 'same-origin', 'none', 'same-site', 'cross-site']
const FORM = 'application/x-www-form-urlencoded'

/** The fields of a form, almost valid. */
function form(random: Random, user: string): Uint8Array<ArrayBuffer> {
  const values: Record<string, () => string> = {
    q: () => random.pick([user, tokenOf(random.int(0, USERS)), words(random, 3)]),
    model: () => random.pick(['*', ...MODELS, words(random, 3)]),
    reason: () => words(random, 4),
    minutes: () => random.pick(['', '15', '1440', '-1', '1e3', words(random, 1)]),
    until: () => random.pick(['', '2999-01-01T00:00', '9e15', words(random, 2)]),
    sure: () => random.pick(['yes', 'no', '']),
    key: () => random.pick([COOKIE_SECRET, words(random, 3)]),
  }
  const fields = Object.entries(values).filter(() => random.chance(0.7))
  const text = new URLSearchParams(fields.map(([name, value]) => [name, value()])).toString()
  const bytes = encoder.encode(text)
  return random.chance(0.8) ? bytes : mutated(random, bytes)
}

/** The JSON of the other routes, almost valid. */
function message(random: Random, path: string, user: string): Uint8Array<ArrayBuffer> {
  const count = () => (random.chance(0.9) ? random.int(0, 1e6) : random.pick([-1, 1.5, 1e13, '1']))
  const used = () => ({ tokens: count(), requests: count(), resetAt: Date.now() + 3_600_000 })
  const named = Array.from({ length: random.int(0, 3) }, () => [
    random.pick(MODELS),
    { day: used(), ...(random.chance(0.5) && { minute: used() }) },
  ])
  const value = path.includes('sync')
    ? { userToken: tokenOf(random.int(0, USERS)), modelUsage: Object.fromEntries(named) as unknown }
    : path.includes('admin')
      ? {
          userId: user,
          model: random.pick(['*', ...MODELS]),
          blocked: random.chance(0.5),
          ...(random.chance(0.6) && { reason: words(random, 4) }),
          ...(random.chance(0.3) && {
            until: random.pick([4e12, 9e15, -1, '2999-01-01T00:00Z', words(random, 2)]),
          }),
          ...(random.chance(0.1) && { key: random.pick([COOKIE_SECRET, words(random, 3)]) }),
        }
      : {
          prompt: words(random, 5) + '.',
          ...(random.chance(0.5) && { model: random.pick(MODELS) }),
        }
  const bytes = encoder.encode(JSON.stringify(value))
  return random.chance(0.7) ? bytes : mutated(random, bytes)
}

/** The codes that an answer of 5xx may have. */
const DOCUMENTED = new Set(['upstream_unreachable', 'upstream_timeout', 'store_unavailable'])

/** The whole app on a local store, and an upstream that answers anything. */
async function openRoutes(): Promise<Target & { close(): Promise<void> }> {
  const local = await localStore()
  const problems: string[] = []
  const log = createLog({
    level: 'info',
    format: 'json',
    write(line) {
      const { msg, code } = JSON.parse(line) as { msg: string; code?: string }
      if (code === 'internal_error' || msg === 'usage.refused') problems.push(line)
      for (const secret of ['admin-key-of-the-fuzz', 'gsk_of_the_fuzz']) {
        if (line.includes(secret)) problems.push(`a secret is told: ${line}`)
      }
      if (/[\r\n\u007f-\u009f\u2028\u2029]/.test(line)) problems.push(`no single line: ${line}`)
    },
  })
  let random = randomOf(0)
  const upstream = (async () => {
    if (random.chance(0.05)) throw new TypeError('fetch failed')
    const sample = random.pick(Object.values(transcripts))
    const status = random.chance(0.7)
      ? 200
      : random.pick([200, 204, 301, 304, 400, 401, 404, 429, 500, 503])
    const empty = status === 204 || status === 304
    const bytes = random.chance(0.5) ? new Uint8Array(sample.body) : mutated(random, sample.body)
    return new Response(empty ? null : bytes, {
      status,
      headers: {
        'content-type': random.pick(['application/json', 'text/event-stream', 'text/html']),
      },
    })
  }) as typeof fetch
  const vars = {
    GLOBAL_LIMITS: '{}',
    NEW_USERS_PER_MINUTE: '1000000',
    MODEL_LIMITS: '{"*":{"tokensPerDay":100000000,"requestsPerDay":100000}}',
    EVENTS_KEPT: '200',
    ADMIN_KEY: 'admin-key-of-the-fuzz',
    GROQ_API_KEY: 'gsk_of_the_fuzz',
  }
  const config = readConfig(vars, 'node')
  const store = withFallback({
    store: local,
    mode: 'open',
    queue: memoryQueue(log),
    retention: config.retention,
    connected: undefined,
    now: Date.now,
    log,
  })
  const app = createApp({
    config,
    store,
    fetch: upstream,
    fetchKeys: upstream,
    now: Date.now,
    log,
    // Many addresses, since each has only a few wrong keys a minute.
    claimedIp: () => undefined,
    clientIp: () => `198.18.${random.int(0, 255)}.${random.int(0, 255)}`,
    relay: {
      pipe: () => streamPipe(),
      headers: {},
      isDecoded: () => true,
      drain: { ms: 1000, bytes: 1e6, atOnce: 64 },
    },
    environment: { platform: 'node', storage: 'file' },
  })
  app.on('GET', STATIC_PATHS, staticFiles())

  const ids = createIds(config.userHashSecret)
  const keys = createSessions({ config, now: Date.now })
  let session: { cookie: string; hash: string } | undefined

  const signed = async (id: string, until: number, key = COOKIE_SECRET) => {
    const value = `${until}.${id}`
    const cookie = await generateSignedCookie(SESSION_COOKIE, value, `weir admin session ${key}`)
    return cookie.split(';', 1)[0] ?? ''
  }

  /** The cookie of an open session; an input may have logged out the last one. */
  async function openSession(): Promise<string> {
    if (session && (await local.session(session.hash, Date.now()))) return session.cookie
    const { id, hash, until } = await keys.create(ADMIN)
    await local.execute({ op: 'login', session: hash, until, now: Date.now() })
    session = { cookie: await signed(id, until), hash }
    return session.cookie
  }

  /** A cookie that is almost valid and opens no session. */
  async function nearlySession(): Promise<string> {
    const open = await openSession()
    const [until = '', id = ''] = open.slice(SESSION_COOKIE.length + 1).split('.')
    const at = random.int(0, id.length - 1)
    return random.pick([
      () => signed('x'.repeat(43), Number(until)),
      () => signed(id, Date.now() - 1),
      () => signed(id, Number(until), 'another-admin-key'),
      async () => open.replace(until, String(Number(until) + random.int(1, 9))),
      async () =>
        open.replace(id, id.slice(0, at) + (id[at] === 'x' ? 'y' : 'x') + id.slice(at + 1)),
      async () => open.replace(/[^.]*$/, headerText(random, 3)),
    ])()
  }

  return {
    name: 'routes',
    share: 100,
    async run(given, note) {
      random = given
      const url = new URL('http://weir.example')
      const known = random.chance(0.8)
      const user = known ? await ids.user(tokenOf(random.int(0, USERS))) : 'A'.repeat(22)
      const written = random.pick(PATHS) + (random.chance(0.15) ? words(random, 3) : '')
      const path = written.replace('USER', random.chance(0.8) ? user : random.pick(SEGMENTS))
      const queries = Array.from({ length: random.int(0, 2) }, () =>
        random.chance(0.6) ? random.pick(QUERIES).replace('USER', user) : words(random, 3),
      )
      const address = `${url.origin}${path}${queries.length ? `?${queries.join('&')}` : ''}`
      if (!URL.canParse(address)) return
      const method = random.chance(0.6) ? random.pick(['GET', 'POST']) : random.pick(METHODS)
      const headers = new Headers()
      const admin = /admin|tokens/.test(path)
      const forms = path.startsWith('/admin') || (path.includes('admin') && random.chance(0.2))
      if (random.chance(0.25)) headers.set('content-type', random.pick(TYPES))
      else headers.set('content-type', forms ? FORM : 'application/json')
      for (let left = random.int(0, 3); left > 0; left -= 1) {
        const name = random.pick(['accept', 'origin', 'cookie', 'x-session-id', 'content-encoding', 'content-length',
          'sec-fetch-site', 'if-none-match', 'range', 'transfer-encoding', 'x-forwarded-for', 'user-agent', 'idempotency-key', 'x-forwarded-host']) // prettier-ignore
        headers.set(name, headerText(random, 3))
      }
      const who = admin
        ? random.pick(['session', 'session', 'key', 'token', 'nearly', ''])
        : 'token'
      if (who === 'session') headers.set('cookie', await openSession())
      if (who === 'key') headers.set('authorization', `Bearer ${COOKIE_SECRET}`)
      if (who === 'token' && random.chance(0.8))
        headers.set('x-user-token', tokenOf(random.int(0, USERS)))
      if (who === 'nearly') headers.set('cookie', await nearlySession())
      if (admin && random.chance(0.8)) headers.set('sec-fetch-site', random.pick(OWN_PAGES))
      if (path.startsWith('/admin') && random.chance(0.2)) headers.set('x-weir-live', '1')
      const bodies = forms ? () => form(random, user) : () => message(random, path, user)
      const sent =
        method === 'GET' || method === 'HEAD'
          ? null
          : random.chance(path.includes('openai') ? 0.05 : 0.7)
            ? bodies()
            : body(random)
      note(
        JSON.stringify([
          method,
          address,
          [...headers],
          sent && Buffer.from(sent).toString('base64'),
        ]),
      )
      const waiting: Promise<unknown>[] = []
      const context = {
        waitUntil: (work: Promise<unknown>) => void waiting.push(work),
        passThroughOnException() {},
        props: {},
      }
      const request = new Request(address, { method, headers, body: sent })
      const response = await app.fetch(request, {}, context)
      const text = await response.text().catch(() => '')
      await Promise.all(waiting)
      if (problems.length) throw new Error(problems.splice(0).join('\n'))
      const { pathname } = new URL(address)
      const statics = STATIC_PATHS.includes(decoded(pathname))
      if (who !== 'session' && who !== 'key' && FOR_ADMINS.test(decoded(pathname)) && !statics)
        assert(response.status >= 400, `${response.status} without being an admin`)
      const page = !path.includes('/groq') && response.headers.get('content-type')
      if (page && page.startsWith('text/html')) assert.doesNotMatch(text, /<script>|<img src=x/)
      if (statics) return assert(response.status < 500, String(response.status))
      assert.match(response.headers.get('x-weir-id') ?? '', /^[0-9a-f-]{36}$/)
      // Upstream's answers are passed on unchanged, so only our own errors must have our shape.
      const own = response.headers.get('server-timing') === null && !path.includes('/models')
      if (response.status < 400 || !own || method === 'HEAD') return
      // A form gets a page.
      if (response.headers.get('content-type')?.startsWith('text/html')) {
        assert(!text.includes(COOKIE_SECRET), 'a secret is told')
        return assert(response.status < 500 || response.status === 503, String(response.status))
      }
      const { error } = JSON.parse(text) as {
        error: { code: string; message: string; type: string }
      }
      assert.equal(typeof error.message, 'string')
      assert.equal(typeof error.type, 'string')
      if (response.status >= 500)
        assert(DOCUMENTED.has(error.code), `${response.status} ${error.code}`)
      assert(
        !text.includes('admin-key-of-the-fuzz') && !text.includes('gsk_of_the_fuzz'),
        'a secret is told',
      )
    },
    close: () => local.remove(),
  }
}

/** Decodes a path as the router does. */
function decoded(pathname: string): string {
  try {
    return decodeURIComponent(pathname)
  } catch {
    return pathname
  }
}

export type FuzzOptions = {
  inputs: number
  seed: number
  /** Runs only this target. */
  only?: string | undefined
  onProgress?(line: string): void
}

/** Runs all targets. The first ten findings of each are kept. */
export async function fuzz({ inputs, seed, only, onProgress }: FuzzOptions) {
  const routes = await openRoutes()
  const targets: Target[] = [meter, reader, reservation, config, cookies, caller, cursors, routes]
  const findings: Finding[] = []
  let fed = 0
  try {
    for (const target of targets) {
      if (only !== undefined && target.name !== only) continue
      const count = only === undefined ? Math.round((inputs * target.share) / 1000) : inputs
      const started = performance.now()
      let found = 0
      for (let n = 0; n < count && found < 10; n += 1) {
        const own = seed + n
        let input = ''
        try {
          const running = target.run(randomOf(own), (text) => void (input = text))
          if (running) await within20s(running)
          fed += 1
        } catch (error) {
          found += 1
          findings.push({ target: target.name, seed: own, error, input })
        }
      }
      const ms = performance.now() - started
      onProgress?.(
        `${target.name}: ${count} inputs in ${(ms / 1000).toFixed(1)} s, ${found} findings`,
      )
    }
  } finally {
    await routes.close()
  }
  return { fed, findings }
}

async function within20s(running: Promise<void>): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined
  const hangs = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`it hangs: no end after ${HANG_MS} ms`)), HANG_MS)
  })
  await Promise.race([running, hangs]).finally(() => clearTimeout(timer))
}
