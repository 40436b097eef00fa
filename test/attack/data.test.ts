/**
 * Attacks through a client's texts, which could become database keys, log lines, object properties or cache entries.
 */
import { describe, expect, test } from 'vitest'
import { asApiError } from '../../src/errors.ts'
import { createLog } from '../../src/log.ts'
import { adminGet, BEARER } from '../support/admin.ts'
import { eventOf, KINDS, type Gateway } from '../support/gateways.ts'
import { mayBeIn } from '../support/secrets.ts'
import { useWorld } from '../support/world.ts'

const world = useWorld()

const MODEL = 'openai/gpt-oss-20b'
const CHAT = '/api/groq/openai/v1/chat/completions'
const USER = 'A'.repeat(22)

type Init = { method?: string; headers?: Record<string, string>; body?: string }

const ask = (gateway: Gateway, path: string, init: Init = {}) => fetch(gateway.url + path, init)
const post = (
  gateway: Gateway,
  path: string,
  body: unknown,
  headers: Record<string, string> = {},
) =>
  ask(gateway, path, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: typeof body === 'string' ? body : JSON.stringify(body),
  })

/** Texts that have a meaning in a key, a pattern, a protocol, a script or a path. */
const WORDS = [
  '*',
  '?',
  '[a-z]*',
  'weir:{2}:users',
  'x:weir:{2}:quota',
  '../../etc',
  'a b c d e f',
  '"}],"x":[{"',
  "'); redis.call('FLUSHALL') --",
  '\r\n*1\r\n$8\r\nFLUSHALL\r\n',
  '\n$8\nFLUSHALL',
  '\0\0\0\0\0\0\0\0',
  '\u2028\u2029\u0085',
  '\u001b[2J\u009b31m',
  '{hash}tag{tag}',
  '__proto__',
  'constructor',
  '%0d%0aFLUSHALL',
  'ünïcödé-😀',
]

/** All keys of the layout. Users, sessions and turns are hashes, days are dates. */
const KEY =
  /^weir:\{2\}:(users|new-users|models|events|refused|audit|blocks|quota|probe:[0-9a-f-]{36}|(usage|windows|past|profile|erased):[\w-]{22}|refused:[\w-]{22}:[a-z_]+:\d+|session:[\w-]{43}|once:[0-9a-f-]{36}|(day|models|refusals):\d{4}-\d\d-\d\d)$/

/** The only text of a client in a key is a model name. It has no characters with a meaning in keys. */
const OF_MODEL = /^weir:\{2\}:(quota|day:\d{4}-\d\d-\d\d):[A-Za-z0-9][\w./-]{0,127}$/

/** The keys of `@upstash/ratelimit`. */
const TURNS = /^weir:\{2\}:turns:[\w:]*?:[\w-]{22}:\d+$/

describe.each(KINDS)('on %s', (kind) => {
  test('no word of a client becomes part of a key or a command, but for the name of a model', async () => {
    const gateway = await world.gateway(kind)
    const header = (word: string) => encodeURIComponent(word).slice(0, 200)
    for (const word of WORDS) {
      const long = word.padEnd(8, '~')
      const encoded = `${header(word)}~~~~~~~~`
      // The same word is the reason of a block and the name of a model.
      for (const token of [long, encoded]) mayBeIn(['a document', 'an error'], token)
      await Promise.all(
        [
          post(gateway, '/api/groq', { prompt: 'x', userToken: long }),
          post(gateway, '/api/groq', { prompt: 'x', model: word, userToken: 'token-of-a-user' }),
          post(gateway, CHAT, { model: word, messages: [] }, { 'x-user-token': 'token-of-a-user' }),
          post(
            gateway,
            CHAT,
            { model: MODEL, messages: [] },
            { 'x-user-token': encoded, 'x-session-id': header(word) },
          ),
          post(gateway, '/api/tracking/sync', { userToken: long, modelUsage: {} }),
          post(gateway, '/api/tracking/sync', {
            userToken: 'token-of-a-user',
            modelUsage: { [word]: { day: { tokens: 1, requests: 1, resetAt: 1 } } },
          }),
          post(gateway, '/api/admin/usage', { userId: word, model: '*', blocked: true }, BEARER),
          post(gateway, '/api/admin/usage', { userId: USER, model: word, blocked: true }, BEARER),
          post(
            gateway,
            '/api/admin/usage',
            { userId: USER, model: '*', blocked: true, reason: word },
            BEARER,
          ),
          ask(gateway, `/api/admin/users/${encodeURIComponent(word)}`, {
            method: 'DELETE',
            headers: BEARER,
          }),
          ...['cursor', 'q', 'limit', 'sort'].map((name) =>
            ask(gateway, `/api/admin/usage?${name}=${encodeURIComponent(word)}`, {
              headers: BEARER,
            }),
          ),
          ask(gateway, `/api/admin/usage?sort=lastActive&cursor=1~${encodeURIComponent(word)}`, {
            headers: BEARER,
          }),
          ask(gateway, `/api/admin/export?kind=${encodeURIComponent(word)}`, { headers: BEARER }),
          ask(gateway, `/api/tokens?days=${encodeURIComponent(word)}`, { headers: BEARER }),
          ask(gateway, '/api/tokens', { headers: { cookie: `weir_session=${header(word)}` } }),
        ].map(async (answer) => {
          const response = await answer
          expect(response.status).toBeLessThan(500)
          await response.arrayBuffer()
        }),
      )
    }
    const keys = (await world.redis.command(['KEYS', '*'])) as string[]
    const isKnown = (key: string) => [KEY, OF_MODEL, TURNS].some((known) => known.test(key))
    expect(keys.filter((key) => !isKnown(key))).toEqual([])
    const told = new Set(
      world.upstash.log.flatMap(({ commands }) =>
        commands.map(([name = '']) => name.toUpperCase()),
      ),
    )
    for (const name of ['FLUSHALL', 'KEYS', 'SCAN', 'CONFIG', 'DEBUG'])
      expect(told).not.toContain(name)
  })

  test('no body and no query adds a property to all objects', async () => {
    const gateway = await world.gateway(kind)
    const evil = '{"polluted":"yes","blocked":true,"admin":true,"tokensPerDay":0,"key":"x"}'
    const bodies = [
      `{"__proto__":${evil}}`,
      `{"constructor":{"prototype":${evil}}}`,
      `{"model":"${MODEL}","messages":[],"__proto__":${evil}}`,
      `{"model":"${MODEL}","messages":[{"__proto__":${evil}}],"constructor":{"prototype":${evil}}}`,
      `{"prompt":"x","__proto__":${evil}}`,
      `{"userToken":"token-of-a-user","modelUsage":{"__proto__":{"day":{"tokens":1,"requests":1,"resetAt":1}}}}`,
      `{"userToken":"token-of-a-user","modelUsage":{},"__proto__":${evil}}`,
      `{"userId":"${USER}","model":"__proto__","blocked":true}`,
      `{"userId":"${USER}","model":"*","blocked":true,"__proto__":${evil}}`,
      `{"__proto__":{"key":"admin-key-of-the-tests"}}`,
    ]
    const paths = ['/api/groq', CHAT, '/api/tracking/sync', '/api/admin/usage', '/api/admin/login']
    for (const path of paths) {
      for (const body of bodies) {
        const headers = path.includes('admin/usage')
          ? BEARER
          : { 'x-user-token': 'token-of-a-user' }
        const response = await post(gateway, path, body, headers)
        expect(response.status).toBeLessThan(500)
        expect(response.headers.get('set-cookie')).toBeNull()
        await response.arrayBuffer()
      }
      const query =
        '__proto__[polluted]=yes&__proto__.polluted=yes&constructor[prototype][polluted]=yes&__proto__=x'
      for (const method of ['GET', 'POST']) {
        const response = await ask(gateway, `${path}?${query}`, { method, headers: BEARER })
        expect(response.status).toBeLessThan(500)
        await response.arrayBuffer()
      }
    }
    // The Node gateway runs in this process.
    expect(Object.hasOwn(Object.prototype, 'polluted')).toBe(false)
    expect(({} as Record<string, unknown>).blocked).toBeUndefined()
    const after = await post(
      gateway,
      CHAT,
      { model: MODEL, messages: [] },
      { 'x-user-token': 'token-of-somebody-else' },
    )
    expect(after.status).toBe(200)
    await after.arrayBuffer()
    const unknown = await ask(gateway, '/api/tokens')
    expect(unknown.status).toBe(401)
  })

  test('a form with a name from above logs nobody in', async () => {
    // A separate gateway, because a gateway remembers wrong keys.
    const gateway = await world.gateway(kind, { MAX_COMPLETION_TOKENS: '2503' })
    for (const body of [
      '__proto__[key]=x',
      '__proto__.key=x',
      'key[]=x',
      'constructor=x',
      '%',
      '&&==',
    ]) {
      const response = await ask(gateway, '/api/admin/login', {
        method: 'POST',
        headers: { 'content-type': 'application/x-www-form-urlencoded' },
        body,
      })
      // Each request counts as a wrong key.
      expect([401, 429]).toContain(response.status)
      expect(response.headers.get('set-cookie')).toBeNull()
    }
  })

  test('a type that is nearly a form, or a broken one, is refused as what it is', async () => {
    // A separate gateway, because a gateway remembers wrong keys.
    const gateway = await world.gateway(kind, { MAX_COMPLETION_TOKENS: '2504' })
    for (const type of [
      'application/x-www-form-urlencoded-x',
      'application/x-www-form-urlencoded; boundary=x',
      'application/x-www-form-urlencoded;charset=utf-16',
      'application/x-www-form-urlencoded, application/json',
      'multipart/form-data',
      'multipart/form-data; boundary=',
      'text/plain',
      'application/json; charset=utf-7',
      ';',
    ]) {
      for (const path of [
        '/api/admin/login',
        '/api/admin/logout',
        '/api/tracking/sync',
        '/api/groq',
      ]) {
        const response = await ask(gateway, path, {
          method: 'POST',
          headers: { 'content-type': type, 'x-user-token': 'token-of-a-user' },
          body: '--x\r\nContent-Disposition: form-data; name="key"\r\n\r\n\xff',
        })
        expect([type, path, response.status < 500]).toEqual([type, path, true])
        await response.arrayBuffer()
      }
    }
  })

  test('whatever a client sends, a line of the log stays one line and its words stay out', async () => {
    const gateway = await world.gateway(kind)
    const before = gateway.log.length
    const mark = 'FORGED'
    const evil = `${mark}\n{"level":"error","msg":"${mark}"}\r\n\u001b[31m\u009b2J\u2028${mark}`
    await post(gateway, '/api/groq', { prompt: evil, model: evil, userToken: 'token-of-a-user' })
    await post(gateway, '/api/groq', { prompt: evil, [evil]: 1, userToken: evil })
    await post(
      gateway,
      CHAT,
      { model: evil, messages: evil },
      { 'x-user-token': 'token-of-a-user' },
    )
    await post(gateway, '/api/tracking/sync', { userToken: evil, modelUsage: { [evil]: 1 } })
    await post(gateway, '/api/admin/login', { key: evil })
    await post(
      gateway,
      '/api/admin/usage',
      { userId: USER, model: '*', blocked: true, reason: evil },
      BEARER,
    )
    await post(gateway, '/api/admin/usage', `{"${mark}`, BEARER)
    await ask(gateway, `/api/admin/export?kind=${encodeURIComponent(evil)}`, { headers: BEARER })
    await ask(gateway, `/${encodeURIComponent(evil)}`, { headers: { 'user-agent': `${mark}` } })
    const used = await post(
      gateway,
      CHAT,
      { model: MODEL, messages: [{ role: 'user', content: evil }], user: evil },
      {
        'x-user-token': `${mark}-token`,
        'x-session-id': `${mark}`,
        'user-agent': `${mark}`,
        'idempotency-key': mark,
        'x-stainless-lang': mark,
      },
    )
    await eventOf(world.store, used.headers.get('x-weir-id'))
    const lines = gateway.log.slice(before)
    expect(lines.length).toBeGreaterThan(0)
    for (const line of lines) {
      expect(() => JSON.parse(line) as unknown).not.toThrow()
      expect(line).not.toMatch(/[\r\n\u007f-\u009f\u2028\u2029]/)
      expect(line).not.toContain(mark)
    }
  })

  test('no shared cache may keep what a token opened, or hand out what another host asked for', async () => {
    const gateway = await world.gateway(kind)
    const token = { 'x-user-token': 'token-of-a-user' }
    world.upstream.on('', {
      headers: {
        'cache-control': 'public, s-maxage=3600',
        'cdn-cache-control': 'max-age=3600',
        'vercel-cdn-cache-control': 'max-age=3600',
        'surrogate-control': 'max-age=3600',
      },
    })
    for (const path of ['models', 'models/x/y', 'models?x=1.css', 'models/a.css']) {
      const response = await ask(gateway, `/api/groq/openai/v1/${path}`, { headers: token })
      expect(response.status).toBe(200)
      expect(response.headers.get('cache-control')).toBe('private, no-store')
      for (const [name] of response.headers) expect(name).not.toMatch(/cdn-cache|surrogate/)
      await response.arrayBuffer()
    }
    const synced = await post(gateway, '/api/tracking/sync', { modelUsage: {} }, token)
    expect(synced.headers.get('cache-control')).toBe('no-store')
    const refused = await ask(gateway, '/api/groq/openai/v1/models/%00', { headers: token })
    expect(refused.headers.get('cache-control') ?? '').not.toMatch(/public|max-age/)
    for (const path of ['/', '/api/test', '/api/admin/auth']) {
      const response = await ask(gateway, path, {
        headers: {
          'x-forwarded-host': 'evil.example',
          'x-forwarded-proto': 'https',
          'x-forwarded-port': '9',
          'x-host': 'evil.example',
          'x-original-url': '/evil.example',
          forwarded: 'host=evil.example',
        },
      })
      const text = JSON.stringify([...response.headers]) + (await response.text())
      expect(text).not.toContain('evil.example')
      expect(text).not.toContain(':9/')
      expect(response.headers.get('cache-control')).toBe('no-store')
    }
  })

  test('a made-up token and one that is known are told the same', async () => {
    const gateway = await world.gateway(kind)
    const shape = async (token: string) => {
      const answers = [
        await ask(gateway, '/api/groq/openai/v1/models', { headers: { 'x-user-token': token } }),
        await post(gateway, CHAT, { model: MODEL, messages: [] }, { 'x-user-token': token }),
        await post(gateway, CHAT, { model: 'a:b' }, { 'x-user-token': token }),
        await post(
          gateway,
          '/api/tracking/sync',
          { modelUsage: { 'other/model': { day: { tokens: 1, requests: 1, resetAt: 1 } } } },
          { 'x-user-token': token },
        ),
      ]
      return Promise.all(
        answers.map(async (answer) => ({
          status: answer.status,
          headers: [...answer.headers]
            .map(([name, value]) =>
              /^ratelimit$|server-timing|weir-id|date|content-length/.test(name)
                ? name
                : `${name}: ${value}`,
            )
            .sort(),
          fields: (await answer.text())
            .replace(/"id":"[\da-f-]{36}"/, '"id"')
            .replace(/\d+/g, '0')
            .replace(/"openai\/gpt-oss-20b":\{[^}]*\},?/, ''),
        })),
      )
    }
    const made = await shape('token-made-up-just-now')
    const known = await shape('token-made-up-just-now')
    expect(known).toEqual(made)
  })

  test('a token opens nothing of the admin, and the admin API tells no token', async () => {
    const gateway = await world.gateway(kind)
    const token = 'token-to-be-looked-for'
    const used = await post(
      gateway,
      CHAT,
      { model: MODEL, messages: [] },
      { 'x-user-token': token },
    )
    await eventOf(world.store, used.headers.get('x-weir-id'))
    const all = JSON.stringify(await adminGet(gateway, '/api/admin/usage'))
    expect(all).not.toContain(token)
    const refused = await ask(gateway, '/api/admin/usage', {
      headers: { authorization: `Bearer ${token}` },
    })
    expect(refused.status).toBe(401)
  })
})

test.each(['json', 'text'] as const)(
  'a %s line has nothing in it that a terminal obeys or a reader of lines ends at',
  (format) => {
    const lines: string[] = []
    const log = createLog({ level: 'debug', format, write: (line) => lines.push(line) })
    const evil = 'a\u007f\u0080\u0085\u009b31m\u009d0;x\u0007\u2028\u2029é😀'
    log.info('a.thing', { evil, deep: { [evil]: [evil] }, error: new Error(evil) })
    expect(lines).toHaveLength(1)
    expect(lines[0]).not.toMatch(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]/)
    expect(lines[0]).toContain('é😀')
    expect(lines[0]).toContain('\\u009b31m')
  },
)

test('of an error that nobody expected a client is told one sentence', () => {
  const error = asApiError(new TypeError('what only the log is told'))
  expect([error.status, error.code]).toEqual([500, 'internal_error'])
  expect(JSON.stringify(error)).not.toContain('only the log')
})
