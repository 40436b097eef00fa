import { request } from 'node:http'
import { describe, expect, test } from 'vitest'
import { readConfig, type Vars } from '../../src/config/config.ts'
import type { Command } from '../../src/ledger/commands.ts'
import type { Admitted } from '../../src/ledger/answers.ts'
import { VERSION } from '../../src/ledger/shapes.ts'
import { createLog } from '../../src/log.ts'
import { createApp } from '../../src/app.ts'
import { startServer } from '../../src/platform/node/server.ts'
import type { FallbackStore } from '../../src/store/fallback/store.ts'
import { usageKey } from '../../src/store/redis/keys.ts'
import { ADMIN_KEY, eventOf, KINDS, type Gateway } from '../support/gateways.ts'
import { transcripts } from '../support/transcripts.ts'
import type { Behaviour } from '../support/upstream.ts'
import { useWorld } from '../support/world.ts'

const world = useWorld()

const MODEL = 'openai/gpt-oss-20b'
const CHAT = '/api/groq/openai/v1/chat/completions'
const TOKEN = { authorization: 'Bearer token-of-a-user' }
const messages = [{ role: 'user', content: 'hi' }]

type Ask = {
  path?: string
  method?: string
  headers?: Record<string, string>
  body?: BodyInit
  json?: unknown
}

function ask(url: string, { path = CHAT, method = 'POST', headers = TOKEN, body, json }: Ask) {
  const sent = json === undefined ? body : JSON.stringify(json)
  return fetch(`${url}${path}`, { method, headers, ...(sent !== undefined && { body: sent }) })
}

/** The calls that the database got, without settlements of the previous test. A call may carry some of these too. */
const asked = () =>
  world.upstash.log.filter(({ commands: [args] }) => !args?.at(-1)?.includes('"op":"settle"'))

const limits = (row: object, total?: object) =>
  JSON.stringify({
    '*': { tokensPerDay: 1e9, requestsPerDay: 1e6, ...row },
    ...(total && { total }),
  })

/**
 * Waits until the database works again and the queued usage of a call is counted, so that this does not happen during
 * another test.
 */
async function recovered(gateway: Gateway, call: Response): Promise<void> {
  world.upstash.fault(undefined)
  const counted = async () => {
    // On the edge, requests retry the database.
    await (await ask(gateway.url, { method: 'GET', path: '/api/test' })).arrayBuffer()
    return (await world.store.events(1000)).map(({ id }) => id)
  }
  await expect.poll(counted, { timeout: 20_000 }).toContain(call.headers.get('x-weir-id'))
}

describe.each(KINDS)('on %s', (kind) => {
  const chat = (fields: object) => ({ json: { model: MODEL, messages, ...fields } })

  test.each<[string, Ask, number, string, string?]>([
    ['no token', { headers: {}, ...chat({}) }, 401, 'missing_token'],
    [
      'two different tokens',
      { headers: { ...TOKEN, 'x-user-token': 'another-token' }, ...chat({}) },
      400,
      'invalid_request',
    ],
    [
      'a token of seven characters',
      { headers: { 'x-user-token': 'seven77' }, ...chat({}) },
      401,
      'invalid_token',
    ],
    [
      'a token of 513 characters',
      { headers: { 'x-user-token': 'x'.repeat(513) }, ...chat({}) },
      401,
      'invalid_token',
    ],
    [
      'a scheme other than Bearer',
      { headers: { authorization: 'Digest dXNlcjpwYXNz' }, ...chat({}) },
      401,
      'invalid_token',
    ],
    [
      'the password of a proxy in front, and no token',
      { headers: { authorization: 'Basic dXNlcjpwYXNz' }, ...chat({}) },
      401,
      'missing_token',
    ],
    ['an empty body', { body: '' }, 400, 'invalid_json'],
    ['a body that is not JSON', { body: '{"model":' }, 400, 'invalid_json'],
    ['a body that is a list', { body: '[]' }, 400, 'invalid_json'],
    [
      'a body that is not UTF-8',
      { body: new Uint8Array([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d]) },
      400,
      'invalid_json',
    ],
    [
      'a key that is there twice',
      { body: `{"model":"${MODEL}","model":"x","messages":[]}` },
      400,
      'invalid_request',
      'model',
    ],
    [
      'a key twice in another case',
      { body: `{"model":"${MODEL}","MODEL":"x","messages":[]}` },
      400,
      'invalid_request',
      'MODEL',
    ],
    [
      'a key in another case',
      { body: `{"model":"${MODEL}","Max_Tokens":1,"messages":[]}` },
      400,
      'invalid_request',
      'Max_Tokens',
    ],
    [
      'a gzip body',
      { headers: { ...TOKEN, 'content-encoding': 'gzip' }, ...chat({}) },
      415,
      'unsupported_encoding',
    ],
    ['no model', { json: { messages } }, 400, 'invalid_request', 'model'],
    ['a model that is a number', chat({ model: 7 }), 400, 'invalid_request', 'model'],
    [
      'a model name that begins with a colon',
      chat({ model: ':b' }),
      400,
      'invalid_request',
      'model',
    ],
    ['a model name with NUL', chat({ model: 'a\0b' }), 400, 'invalid_request', 'model'],
    ['a model name with a newline', chat({ model: 'a\nb' }), 400, 'invalid_request', 'model'],
    [
      'a model name of 300 characters',
      chat({ model: 'a'.repeat(300) }),
      400,
      'invalid_request',
      'model',
    ],
    ['stream that is a text', chat({ stream: 'yes' }), 400, 'invalid_request', 'stream'],
    ['messages that are a text', chat({ messages: 'hi' }), 400, 'invalid_request', 'messages'],
    [
      '10,000 messages',
      chat({ messages: Array(10_000).fill(messages[0]) }),
      400,
      'invalid_request',
      'messages',
    ],
    ['n of -1', chat({ n: -1 }), 400, 'invalid_request', 'n'],
    ['n of 1.5', chat({ n: 1.5 }), 400, 'invalid_request', 'n'],
    ['n of 1e308', chat({ n: 1e308 }), 400, 'invalid_request', 'n'],
    [
      'embeddings without input',
      { path: '/api/groq/openai/v1/embeddings', json: { model: MODEL } },
      400,
      'invalid_request',
      'input',
    ],
    [
      'the simple form with a field too many',
      { path: '/api/groq', json: { prompt: 'x', tools: [] } },
      400,
      'invalid_request',
      'tools',
    ],
    [
      'the simple form with an empty prompt',
      { path: '/api/groq', json: { prompt: '' } },
      400,
      'invalid_request',
      'prompt',
    ],
    [
      'the simple form with no prompt',
      { path: '/api/groq', json: { model: MODEL } },
      400,
      'invalid_request',
      'prompt',
    ],
    [
      'the simple form with max_tokens of -1',
      { path: '/api/groq', json: { prompt: 'x', max_tokens: -1 } },
      400,
      'invalid_request',
      'max_tokens',
    ],
    [
      'a token in the body of the messages form',
      { path: '/api/groq', json: { model: MODEL, messages, userToken: 'token-of-a-user' } },
      400,
      'invalid_request',
      'userToken',
    ],
    [
      'two tokens, one in the body',
      { path: '/api/groq', json: { prompt: 'x', userToken: 'another-token' } },
      400,
      'invalid_request',
    ],
    ['GET where POST is meant', { method: 'GET' }, 405, 'method_not_allowed'],
    [
      'DELETE of a model',
      { method: 'DELETE', path: '/api/groq/openai/v1/models/x' },
      405,
      'method_not_allowed',
    ],
    ['POST to models', { path: '/api/groq/openai/v1/models', json: {} }, 405, 'method_not_allowed'],
    [
      'a models path that climbs',
      { method: 'GET', path: '/api/groq/openai/v1/models/..%2f..%2fv1' },
      400,
      'invalid_request',
    ],
    [
      'a models path with NUL',
      { method: 'GET', path: '/api/groq/openai/v1/models/a%00b' },
      400,
      'invalid_request',
    ],
    [
      'a models path that is badly escaped',
      { method: 'GET', path: '/api/groq/openai/v1/models/a%zz' },
      400,
      'invalid_request',
    ],
    [
      'audio that is no form',
      { path: '/api/groq/openai/v1/audio/transcriptions', json: {} },
      415,
      'unsupported_audio',
    ],
    ['other audio', { path: '/api/groq/openai/v1/audio/voices', json: {} }, 404, 'not_found'],
    ['batches', { path: '/api/groq/openai/v1/batches', json: {} }, 404, 'not_found'],
    ['files', { method: 'GET', path: '/api/groq/openai/v1/files/x/content' }, 404, 'not_found'],
    [
      'a models path that is escaped to reach files',
      { method: 'GET', path: '/api/groq/open%61i/v1/models/openai/v1/files/file_1/content' },
      404,
      'not_found',
    ],
    [
      'a models path with an escaped letter',
      { method: 'GET', path: '/api/groq/openai/v1/m%6fdels/x' },
      404,
      'not_found',
    ],
    ['an unknown path', { path: '/api/groq/openai/v1/nothing', json: {} }, 404, 'not_found'],
    [
      'a doubled slash',
      { path: '/api/groq/openai/v1//chat/completions', json: {} },
      404,
      'not_found',
    ],
    [
      'an encoded slash',
      { path: '/api/groq/openai/v1/chat%2fcompletions', json: {} },
      404,
      'not_found',
    ],
  ])(
    '%s is refused with a clear error, and nothing reaches upstream',
    async (_, request, status, code, param) => {
      const gateway = await world.gateway(kind)
      const response = await ask(gateway.url, request)
      const body = (await response.json()) as { error: Record<string, unknown> }
      expect([response.status, body.error.code]).toEqual([status, code])
      expect(typeof body.error.type).toBe('string')
      expect(String(body.error.message).length).toBeGreaterThan(10)
      expect(body.error.param).toBe(param)
      expect(response.headers.get('x-weir-id')).toMatch(/^[0-9a-f-]{36}$/)
      expect(world.upstream.seen).toEqual([])
      expect(asked()).toEqual([])
    },
  )

  test('a body over the limit is refused', async () => {
    const gateway = await world.gateway(kind)
    const body = 'x'.repeat(5 * 1024 * 1024)
    // workerd answers and closes the connection while the body is still being sent. A client may see the close first.
    await expect
      .poll(() => ask(gateway.url, { body }).then(({ status }) => status), { timeout: 5000 })
      .toBe(413)
    expect(world.upstream.seen).toEqual([])
  })

  test('a body over the limit without a Content-Length is refused', async () => {
    const gateway = await world.gateway(kind)
    // A separate connection, because the server closes it without reading the rest.
    const { hostname, port } = new URL(gateway.url)
    const options = { method: 'POST', hostname, port, path: CHAT, headers: TOKEN, agent: false }
    const status = await new Promise((resolve, reject) => {
      const upload = request(options, (response) => resolve(response.resume().statusCode))
      upload.once('error', reject)
      for (let i = 0; i < 20; i += 1) upload.write(Buffer.alloc(256 * 1024))
      upload.end()
    })
    expect(status).toBe(413)
    expect(world.upstream.seen).toEqual([])
  })

  test('the request goes up as the same bytes, with allowed headers and our key only', async () => {
    const gateway = await world.gateway(kind)
    const body = `{ "messages" : [{"role":"user","content":"\\u00fc \u{1F9EE}"}],\n "model":"${MODEL}", "seed": 1.0 }`
    await ask(gateway.url, {
      path: `${CHAT}?trace=1`,
      headers: {
        ...TOKEN,
        'x-user-token': 'token-of-a-user',
        'content-type': 'application/json',
        'x-stainless-lang': 'js',
        'x-groq-region': 'eu',
        'openai-organization': 'org',
        'idempotency-key': 'key',
        'user-agent': 'Groq/JS 1.6.0',
        cookie: 'secret=1',
        'x-forwarded-for': '1.2.3.4',
        'x-custom': 'no',
        accept: 'application/json',
      },
      body,
    })
    const [seen] = world.upstream.seen
    expect(new TextDecoder().decode(seen?.body)).toBe(body)
    expect(seen?.path).toBe('/openai/v1/chat/completions?trace=1')
    const own =
      /^(host|connection|content-length|transfer-encoding|accept-language|sec-fetch-mode|cf-.*|mf-.*)$/
    const headers = Object.entries(seen?.headers ?? {}).filter(([name]) => !own.test(name))
    expect(Object.fromEntries(headers)).toEqual({
      accept: 'application/json',
      'accept-encoding': 'identity',
      authorization: 'Bearer gsk_server_key',
      'content-type': 'application/json',
      'idempotency-key': expect.stringMatching(/^[\w-]{43}$/) as string,
      'user-agent': 'Groq/JS 1.6.0',
      'x-groq-region': 'eu',
      'x-stainless-lang': 'js',
    })
  })

  test('an idempotency key is that of its user alone, and says nothing of them', async () => {
    const gateway = await world.gateway(kind)
    for (const [token, key] of [
      ['token-of-a-user', 'key'],
      ['token-of-a-user', 'key'],
      ['token-of-a-user', 'another key'],
      ['token-of-another', 'key'],
    ]) {
      const headers = { 'x-user-token': token ?? '', 'idempotency-key': key ?? '' }
      await ask(gateway.url, { path: CHAT, headers, ...chat({}) })
    }
    const [first, again, other, elsewhere] = world.upstream.seen.map(
      ({ headers }) => headers['idempotency-key'],
    )
    expect(again).toBe(first)
    expect(new Set([first, other, elsewhere, 'key', 'another key']).size).toBe(5)
  })

  test('the simple form answers content, usage and model', async () => {
    const gateway = await world.gateway(kind)
    const response = await ask(gateway.url, {
      path: '/api/groq',
      headers: {},
      json: {
        prompt: 'two and two?',
        temperature: 0.5,
        max_tokens: 9,
        userToken: 'token-of-a-user',
      },
    })
    expect(response.status).toBe(200)
    expect(await response.json()).toEqual({
      content: 'Four. 🧮\n\nAnything else?',
      usage: { prompt_tokens: 16, completion_tokens: 19, total_tokens: 35 },
      model: 'qwen/qwen3.8-27b',
    })
    expect(JSON.parse(new TextDecoder().decode(world.upstream.seen[0]?.body))).toEqual({
      model: MODEL,
      messages: [{ role: 'user', content: 'two and two?' }],
      temperature: 0.5,
      max_tokens: 9,
    })
    const event = await eventOf(world.store, response.headers.get('x-weir-id'))
    expect(event).toMatchObject({ outcome: 'exact', charged: 35 })
  })

  test("the simple form passes upstream's errors on unchanged", async () => {
    const gateway = await world.gateway(kind)
    world.upstream.on(MODEL, { transcript: transcripts['rate-limited'] })
    const response = await ask(gateway.url, { path: '/api/groq', json: { prompt: 'x' } })
    expect(response.status).toBe(429)
    expect(response.headers.get('retry-after')).toBe('6')
    expect(new Uint8Array(await response.arrayBuffer())).toEqual(transcripts['rate-limited'].body)
  })

  test('HEAD is not possible, and holds nothing open', async () => {
    const gateway = await world.gateway(kind)
    for (const path of ['/api/groq/openai/v1/models', CHAT]) {
      expect((await ask(gateway.url, { method: 'HEAD', path })).status).toBe(405)
    }
    expect(world.upstream.seen).toEqual([])
  })

  test('models are passed through undecoded; the database is asked once, for what the caller may call', async () => {
    const gateway = await world.gateway(kind)
    const paths = ['models', 'models/openai%2Fgpt-oss-20b', 'models/qwen/qwen3.8-27b']
    for (const path of paths) {
      const response = await ask(gateway.url, {
        method: 'GET',
        path: `/api/groq/openai/v1/${path}`,
      })
      expect(response.status).toBe(200)
      await response.arrayBuffer()
    }
    expect(world.upstream.seen.map(({ path }) => path)).toEqual(
      paths.map((path) => `/openai/v1/${path}`),
    )
    const commands = asked().flatMap((call) => call.commands)
    expect(commands.map(([name]) => name)).toEqual(['mget', 'mget'])
    const refused = await ask(gateway.url, {
      method: 'GET',
      path: '/api/groq/openai/v1/models',
      headers: {},
    })
    expect(refused.status).toBe(401)
  })

  test('an answer has the rest of the limits and its duration', async () => {
    const gateway = await world.gateway(kind, {
      MODEL_LIMITS: limits({ tokensPerDay: 100_000, requestsPerDay: 50, requestsPerMinute: 10 }),
    })
    const response = await ask(gateway.url, chat({ max_tokens: 100 }))
    const { reserved } = await eventOf(world.store, response.headers.get('x-weir-id'))
    expect(response.headers.get('ratelimit-policy')).toBe(
      '"requests-day";q=50;w=86400, "tokens-day";q=100000;qu="tokens";w=86400, "requests-minute";q=10;w=60',
    )
    const left = response.headers.get('ratelimit') ?? ''
    expect(left.replace(/t=\d+/g, 't=…')).toBe(
      `"requests-day";r=49;t=…, "tokens-day";r=${100_000 - reserved};t=…, "requests-minute";r=9;t=…`,
    )
    expect(response.headers.get('server-timing')).toMatch(
      /^gate;dur=\d+\.\d, upstream;dur=\d+\.\d$/,
    )
  })

  test('the rest is that of the user and the model only, as in the ledger', async () => {
    const gateway = await world.gateway(kind, {
      MODEL_LIMITS: limits({}, { tokensPerDay: 70_000, requestsPerDay: 70 }),
      GLOBAL_LIMITS: `{"total":{"tokensPerDay":90000,"requestsPerDay":90},"${MODEL}":{"tokensPerDay":80000,"requestsPerDay":80}}`,
    })
    const left = (response: Response) => response.headers.get('ratelimit')?.replace(/;t=\d+/g, '')
    const ended = async (response: Response) =>
      (await eventOf(world.store, response.headers.get('x-weir-id'))).charged
    const first = await ask(gateway.url, chat({ max_tokens: 100 }))
    const charged = await ended(first)
    // The charge has replaced the reservation. The usage of another user and of another model does not count.
    const other = { headers: { 'x-user-token': 'token-of-another' } }
    expect(left(await ask(gateway.url, { ...chat({ max_tokens: 100 }), ...other }))).toBe(
      left(first),
    )
    expect(
      left(await ask(gateway.url, chat({ model: 'openai/gpt-oss-21b', max_tokens: 100 }))),
    ).toBe(left(first))
    const again = await ask(gateway.url, chat({ max_tokens: 100 }))
    const { reserved } = await eventOf(world.store, again.headers.get('x-weir-id'))
    expect(left(again)).toBe(
      `"requests-day";r=${1e6 - 2}, "tokens-day";r=${1e9 - charged - reserved}`,
    )
  })

  test('a page of another origin may call and read what it needs', async () => {
    const gateway = await world.gateway(kind)
    const preflight = await ask(gateway.url, {
      method: 'OPTIONS',
      headers: {
        origin: 'https://app.example',
        'access-control-request-method': 'POST',
        'access-control-request-headers': 'x-user-token,content-type',
      },
    })
    expect(preflight.status).toBe(204)
    expect(preflight.headers.get('access-control-allow-origin')).toBe('*')
    expect(preflight.headers.get('access-control-allow-headers')).toBe('x-user-token,content-type')
    for (const request of [chat({}), { headers: {}, ...chat({}) }]) {
      const response = await ask(gateway.url, request)
      expect(response.headers.get('access-control-allow-origin')).toBe('*')
      expect(response.headers.get('access-control-expose-headers')).toContain('x-weir-id')
    }
  })

  test('a page of an origin that is not listed is refused before anything is served', async () => {
    const gateway = await world.gateway(kind, {
      ALLOWED_ORIGINS: 'https://a.example, https://*.b.example',
    })
    const { host } = new URL(gateway.url)
    const answers = async (headers: Record<string, string>) => {
      const response = await ask(gateway.url, { headers: { ...TOKEN, ...headers }, ...chat({}) })
      const { error } = (await response.json()) as { error?: { code: string } }
      expect(response.headers.get('vary')).toBe('Origin')
      const allowed = response.headers.get('access-control-allow-origin')
      return [response.status, error?.code ?? 'served', allowed]
    }
    const served = (origin: string | null) => [200, 'served', origin]
    const refused = [403, 'cross_origin', null]
    for (const origin of ['https://a.example', 'https://app.b.example']) {
      expect(await answers({ origin })).toEqual(served(origin))
    }
    // Programs send no Origin, and our own pages send ours, as the proxy in front of us knows it.
    expect(await answers({})).toEqual(served(null))
    expect(await answers({ origin: `http://${host}` })).toEqual(served(null))
    const own = { origin: 'https://weir.example', 'x-forwarded-host': 'weir.example' }
    expect(await answers(own)).toEqual(served(null))
    const before = world.upstream.seen.length
    for (const origin of [
      'https://evil.example',
      'null',
      'http://a.example',
      'https://a.example:8443',
      'https://a.example.evil.example',
      'https://axexample',
      'https://b.example',
      'https://evil.example.b.example.evil',
      'https://app.evil.b.example',
      'https://a.example, https://a.example',
    ]) {
      expect([origin, ...(await answers({ origin }))]).toEqual([origin, ...refused])
    }
    expect(world.upstream.seen).toHaveLength(before)
  })

  test('a form or a text of another page, which needs no preflight, spends nothing', async () => {
    const gateway = await world.gateway(kind, { ALLOWED_ORIGINS: 'https://a.example' })
    const evil = { origin: 'https://evil.example', 'sec-fetch-site': 'cross-site' }
    const body = '{"prompt":"hi","userToken":"token-of-an-evil-page"}'
    for (const path of ['/api/groq', '/api/groq/', '/api/tracking/sync']) {
      const response = await fetch(gateway.url + path, {
        method: 'POST',
        headers: { ...evil, 'content-type': 'text/plain' },
        body,
      })
      expect([path, response.status]).toEqual([path, 403])
    }
    expect(world.upstream.seen).toEqual([])
    expect(world.upstash.log).toEqual([])
  })

  test.each([{}, { ALLOWED_ORIGINS: 'https://a.example' }])(
    "an answer has each CORS header once, and never upstream's: %o",
    async (vars) => {
      const gateway = await world.gateway(kind, vars)
      world.upstream.on('cors/model', {
        headers: {
          vary: 'Origin',
          'access-control-allow-origin': 'https://other.example',
          'access-control-allow-credentials': 'true',
        },
      })
      for (const path of ['', '/openai/v1/chat/completions']) {
        const response = await fetch(`${gateway.url}/api/groq${path}`, {
          method: 'POST',
          headers: { ...TOKEN, origin: 'https://a.example' },
          body: JSON.stringify({ model: 'cors/model', messages: [] }),
        })
        expect(response.headers.get('vary')).toBe('Origin')
        const allowed = response.headers.get('access-control-allow-origin')
        expect(allowed).toBe('ALLOWED_ORIGINS' in vars ? 'https://a.example' : '*')
        expect(response.headers.get('access-control-allow-credentials')).toBeNull()
      }
    },
  )

  test.each(['100 Continue', '103 Early Hints', '101 Switching Protocols'])(
    'an informational answer of upstream, %s, is never the answer, and no error of ours',
    async (status) => {
      const gateway = await world.gateway(kind)
      const body = '{"id":"after"}'
      const final = `HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n\r\n${body}`
      world.upstream.on(MODEL, { raw: `HTTP/1.1 ${status}\r\nLink: x\r\n\r\n${final}` })
      const response = await ask(gateway.url, chat({}))
      // workerd gives no final answer after an informational one.
      const isSkipped = kind === 'node' && !status.startsWith('101')
      expect(response.status).toBe(isSkipped ? 200 : 502)
      expect(await response.text()).toContain(isSkipped ? 'after' : 'upstream_unreachable')
    },
  )

  test('models outside ALLOWED_MODELS are refused', async () => {
    const gateway = await world.gateway(kind, { ALLOWED_MODELS: 'openai/*, qwen/qwen3*' })
    expect((await ask(gateway.url, chat({}))).status).toBe(200)
    const response = await ask(gateway.url, chat({ model: 'groq/compound' }))
    expect(response.status).toBe(403)
    expect(await response.json()).toMatchObject({
      error: { code: 'model_not_allowed', param: 'model' },
    })
  })

  test('without a provider key a call answers 503 and is not counted', async () => {
    const gateway = await world.gateway(kind, { GROQ_API_KEY: '' })
    const response = await ask(gateway.url, chat({}))
    expect(response.status).toBe(503)
    expect(await response.json()).toMatchObject({ error: { code: 'upstream_not_configured' } })
    expect(asked()).toEqual([])
  })

  test('an unreachable upstream is a 502 that only costs a request', async () => {
    const gateway = await world.gateway(kind, { GROQ_BASE_URL: 'http://127.0.0.1:1' })
    const response = await ask(gateway.url, chat({}))
    expect(response.status).toBe(502)
    expect(await response.json()).toMatchObject({ error: { code: 'upstream_unreachable' } })
    const event = await eventOf(world.store, response.headers.get('x-weir-id'))
    expect(event).toMatchObject({ outcome: 'failed', status: 502, charged: 0 })
  })

  test.each([400, 401, 404, 413, 422, 424, 498, 499, 500, 502, 503])(
    "upstream's %d is passed on unchanged and only costs a request",
    async (status) => {
      const gateway = await world.gateway(kind)
      const body =
        '{"error":{"message":"no","type":"x"},"usage":{"prompt_tokens":9,"completion_tokens":9}}'
      world.upstream.on(MODEL, { status, body })
      const response = await ask(gateway.url, chat({}))
      expect(response.status).toBe(status)
      expect(await response.text()).toBe(body)
      const event = await eventOf(world.store, response.headers.get('x-weir-id'))
      expect(event).toMatchObject({ outcome: 'failed', status, charged: 0, error: 'x' })
    },
  )

  test.each([404, 429, 500])(
    "upstream's %d counts for the user but not for everyone",
    async (status) => {
      const gateway = await world.gateway(kind, {
        MODEL_LIMITS: limits({ requestsPerDay: 2 }),
        GLOBAL_LIMITS: `{"total":{"tokensPerDay":1000000,"requestsPerDay":1},"${MODEL}":{"tokensPerDay":1000000,"requestsPerDay":1}}`,
      })
      const call = async (user: string) => {
        // Refusals are remembered for two seconds.
        const headers = { 'x-user-token': `token-of-${user}-${status}` }
        const { length } = world.upstream.seen
        const response = await ask(gateway.url, { ...chat({}), headers })
        const answer = await response.text()
        if (world.upstream.seen.length > length)
          await eventOf(world.store, response.headers.get('x-weir-id'))
        return { status: response.status, answer }
      }
      world.upstream.on(MODEL, { status, body: '{"error":{"message":"no"}}' })
      for (let n = 0; n < 2; n += 1) {
        expect(await call('a-user')).toMatchObject({ status })
      }
      const { users } = await world.store.listUsers({
        ...{ sort: 'lastActive', limit: 9, now: Date.now() },
      })
      expect(users.map(({ usage }) => usage.models[MODEL]?.row)).toEqual([
        { requests: 2, failed: 2 },
      ])
      const { windows, models } = users[0]?.usage ?? {}
      for (const day of [windows?.day, models?.[MODEL]?.windows.day]) {
        expect(day).toMatchObject({ requests: 2, tokens: 0 })
      }
      // The user's own limit is reached, but not everyone's.
      expect(await call('a-user')).toMatchObject({
        status: 429,
        answer: expect.stringContaining('All of your 2 requests a day') as string,
      })
      world.upstream.on(MODEL, {})
      expect(await call('another')).toMatchObject({ status: 200 })
      expect(await call('a-third')).toMatchObject({
        status: 429,
        answer: expect.stringContaining("All of everyone's 1 request a day") as string,
      })
    },
  )

  test.each<[string, Vars, Behaviour]>([
    ['an answer that is no JSON', {}, { body: 'x'.repeat(402) }],
    ['an answer without usage', {}, { body: '{"choices":[]}'.padEnd(402) }],
    [
      'an answer with a usage that nobody can read',
      {},
      { body: '{"usage":{"prompt_tokens":"9"}}'.padEnd(402) },
    ],
  ])('%s is charged for its prompt and the received text', async (_, vars, behaviour) => {
    const gateway = await world.gateway(kind, vars)
    world.upstream.on(MODEL, behaviour)
    const json = { model: MODEL, messages }
    const response = await ask(gateway.url, { json })
    expect(response.status).toBe(200)
    const event = await eventOf(world.store, response.headers.get('x-weir-id'))
    expect(event).toMatchObject({
      outcome: 'estimated',
      charged: Math.ceil(JSON.stringify(json).length / 4) + Math.ceil(402 / 4),
    })
  })

  test('text beyond the reservation is not charged without usage', async () => {
    const gateway = await world.gateway(kind)
    world.upstream.on(MODEL, { body: 'x'.repeat(100_000) })
    const response = await ask(gateway.url, chat({ max_tokens: 10 }))
    const event = await eventOf(world.store, response.headers.get('x-weir-id'))
    expect(event).toMatchObject({ outcome: 'estimated', charged: event.reserved })
    expect(event.reserved).toBeLessThan(1000)
  })

  test('strict, an answer without usage is charged its reservation, and one with usage that', async () => {
    const gateway = await world.gateway(kind, { CAP: 'strict' })
    world.upstream.on('no/usage', { body: '{"choices":[]}' })
    world.upstream.on('cut/stream', { transcript: transcripts.stream, cut: 700 })
    for (const [fields, charged] of [
      [{ model: 'no/usage' }, undefined],
      [{ model: 'cut/stream', stream: true }, undefined],
      [{}, 35],
    ] as const) {
      const response = await ask(gateway.url, chat(fields))
      await response.arrayBuffer().catch(() => undefined)
      const event = await eventOf(world.store, response.headers.get('x-weir-id'))
      expect(event).toMatchObject(
        charged === undefined
          ? { outcome: 'estimated', charged: event.reserved }
          : { outcome: 'exact', charged },
      )
    }
  })

  test('a user whose document a newer version wrote gets a 503, and the document stays', async () => {
    const gateway = await world.gateway(kind)
    const first = await ask(gateway.url, chat({}))
    const { user } = await eventOf(world.store, first.headers.get('x-weir-id'))
    const key = usageKey(user)
    const stored = String(await world.redis.command(['GET', key]))
    const newer = JSON.stringify({ ...(JSON.parse(stored) as object), v: VERSION + 1, more: [] })
    await world.redis.command(['SET', key, newer])
    const before = world.upstream.seen.length
    const response = await ask(gateway.url, chat({}))
    expect(response.status).toBe(503)
    expect(await response.json()).toMatchObject({ error: { code: 'store_unavailable' } })
    expect(response.headers.get('x-weir-degraded')).toBeNull()
    expect(world.upstream.seen).toHaveLength(before)
    expect(await world.redis.command(['GET', key])).toBe(newer)
    // The database works, and other users are served.
    const other = { headers: { 'x-user-token': 'token-of-another' } }
    const served = await ask(gateway.url, { ...chat({}), ...other })
    expect([served.status, served.headers.get('x-weir-degraded')]).toEqual([200, null])
    // Nothing was recorded for the refused request.
    await eventOf(world.store, served.headers.get('x-weir-id'))
    expect(await world.store.events(9)).toHaveLength(2)
  })

  test('closed, a database that does not answer is a 503, and nothing is sent upstream or counted later', async () => {
    const gateway = await world.gateway(kind, { STORE_TIMEOUT_MS: '200', ON_STORE_DOWN: 'closed' })
    world.upstash.fault(() => ({ hang: true }))
    const response = await ask(gateway.url, chat({}))
    expect(response.status).toBe(503)
    expect(await response.json()).toMatchObject({ error: { code: 'store_unavailable' } })
    expect(world.upstream.seen).toEqual([])
    const queued = async () => {
      // On the edge, requests retry the database.
      const health = await ask(gateway.url, { method: 'GET', path: '/api/test' })
      return ((await health.json()) as { queued: number }).queued
    }
    await expect.poll(queued, { timeout: 20_000 }).toBe(1)
    world.upstash.fault(undefined)
    await expect.poll(queued, { timeout: 20_000 }).toBe(0)
    expect(await world.store.events(9)).toEqual([])
  })

  test('open, a failure of upstream says too that the database was away', async () => {
    const gateway = await world.gateway(kind, {
      STORE_TIMEOUT_MS: '201',
      GROQ_BASE_URL: 'http://127.0.0.1:1',
    })
    world.upstash.fault(() => ({ hang: true }))
    const response = await ask(gateway.url, chat({}))
    expect(response.status).toBe(502)
    expect(response.headers.get('x-weir-degraded')).toBe('1')
    await recovered(gateway, response)
  })

  test('closed, an admission with a lost answer is settled as failed', async () => {
    const gateway = await world.gateway(kind, { ON_STORE_DOWN: 'closed' })
    let first = true
    world.upstash.fault(() => {
      const lost = first
      first = false
      return lost ? { apply: true, reset: true } : undefined
    })
    await ask(gateway.url, chat({})).then((response) => expect(response.status).toBe(503))
    await expect
      .poll(async () => (await world.store.events(1))[0], { timeout: 5000 })
      .toMatchObject({ outcome: 'failed', charged: 0 })
  })

  test.each([
    { max_completion_tokens: 0 },
    { max_tokens: -1 },
    { max_completion_tokens: '9' },
    { max_tokens: 1.5, max_completion_tokens: null },
  ])('%j goes up as it is, and upstream judges it', async (fields) => {
    const gateway = await world.gateway(kind)
    const response = await ask(gateway.url, chat(fields))
    expect(response.status).toBe(200)
    await response.text()
    const sent = new TextDecoder().decode(world.upstream.seen[0]?.body)
    expect(JSON.parse(sent)).toEqual({ model: MODEL, messages, ...fields })
    await expect
      .poll(async () => (await world.store.events(1))[0]?.reserved, { timeout: 5000 })
      .toBeGreaterThan(2500)
  })

  test('strict mode puts a missing maximum into the body and announces it', async () => {
    const gateway = await world.gateway(kind, { CAP: 'strict', MAX_COMPLETION_TOKENS: '77' })
    const response = await ask(gateway.url, chat({}))
    expect(response.headers.get('x-weir-max-completion-tokens')).toBe('77')
    const sent = new TextDecoder().decode(world.upstream.seen[0]?.body)
    expect(JSON.parse(sent)).toEqual({ model: MODEL, messages, max_completion_tokens: 77 })
    const given = await ask(gateway.url, chat({ max_tokens: 5 }))
    expect(given.headers.get('x-weir-max-completion-tokens')).toBeNull()
  })

  test.each([
    ['a compound model', { model: 'groq/compound-mini' }],
    ['a built-in tool', { tools: [{ type: 'browser_search' }] }],
    ['tools that are not a list', { tools: { type: 'mcp' } }],
    ['a remote tool', { tools: [{ type: 'mcp', server_url: 'https://x' }] }],
    ['a text kept upstream', { previous_response_id: 'resp_1' }],
  ])('strict mode refuses %s', async (_, fields) => {
    const gateway = await world.gateway(kind, { CAP: 'strict' })
    const response = await ask(gateway.url, chat(fields))
    expect(response.status).toBe(400)
    expect(await response.json()).toMatchObject({ error: { code: 'cost_unbounded' } })
    expect(world.upstream.seen).toEqual([])
  })

  test.each([
    ['a tool of two types', '"tools":[{"type":"browser_search","type":"function"}]'],
    ['a tool whose type is misspelt', '"tools":[{"type":"function","Type":"mcp"}]'],
    ['a part of two types', '"messages":[{"content":[{"type":"file","type":"text"}]}]'],
  ])('strict mode refuses %s', async (_, fields) => {
    const gateway = await world.gateway(kind, { CAP: 'strict' })
    const rest = fields.startsWith('"messages"') ? '' : ',"messages":[]'
    const response = await ask(gateway.url, { body: `{"model":"${MODEL}",${fields}${rest}}` })
    expect(response.status).toBe(400)
    expect(await response.json()).toMatchObject({ error: { code: 'invalid_request' } })
    expect(world.upstream.seen).toEqual([])
  })

  test.each<[string, Vars, object, number, string, RegExp]>([
    [
      'tokens of the day',
      { MODEL_LIMITS: limits({ tokensPerDay: 300 }) },
      { max_tokens: 500 },
      429,
      'insufficient_quota',
      /may need up to \d+ tokens of openai\/gpt-oss-20b, and 300 tokens of your 300 tokens a day are left. Waiting will not help/,
    ],
    [
      'requests of the day',
      { MODEL_LIMITS: limits({ requestsPerDay: 0 }) },
      {},
      429,
      'insufficient_quota',
      /No use of openai\/gpt-oss-20b is allowed: your limit is 0 requests a day. Waiting will not help/,
    ],
    [
      'tokens of all models',
      { MODEL_LIMITS: limits({}, { tokensPerDay: 9, requestsPerDay: 9 }) },
      {},
      429,
      'insufficient_quota',
      /of all models together/,
    ],
    [
      "everyone's tokens",
      { GLOBAL_LIMITS: '{"total":{"tokensPerDay":9,"requestsPerDay":9}}' },
      {},
      429,
      'global_quota',
      /everyone's 9 tokens a day/,
    ],
    [
      "everyone's requests of a model",
      { GLOBAL_LIMITS: `{"${MODEL}":{"tokensPerDay":1000000,"requestsPerDay":0}}` },
      {},
      429,
      'global_quota',
      /No use of openai\/gpt-oss-20b is allowed: everyone's limit is 0 requests a day/,
    ],
    [
      'tokens of a minute, more than it ever has',
      { MODEL_LIMITS: limits({ tokensPerMinute: 9 }) },
      {},
      429,
      'rate_limit_exceeded',
      /tokens a minute/,
    ],
  ])('%s spent: refused without a retry-after', async (_, vars, fields, status, code, message) => {
    const gateway = await world.gateway(kind, vars)
    const response = await ask(gateway.url, chat(fields))
    expect(response.status).toBe(status)
    expect(response.headers.get('x-should-retry')).toBe('false')
    expect(response.headers.get('retry-after')).toBeNull()
    const { error } = (await response.json()) as { error: { code: string; message: string } }
    expect(error.code).toBe(code)
    expect(error.message).toMatch(message)
    expect(world.upstream.seen).toEqual([])
  })

  test('requests of a minute spent: refused with a small retry-after', async () => {
    const gateway = await world.gateway(kind, { MODEL_LIMITS: limits({ requestsPerMinute: 1 }) })
    const [first, second] = [await ask(gateway.url, chat({})), await ask(gateway.url, chat({}))]
    // A minute may have ended between the two requests.
    const last = second.status === 200 ? await ask(gateway.url, chat({})) : second
    expect(first.status).toBe(200)
    expect(last.status).toBe(429)
    expect(Number(last.headers.get('retry-after'))).toBeGreaterThanOrEqual(1)
    expect(Number(last.headers.get('retry-after'))).toBeLessThanOrEqual(60)
    expect(last.headers.get('x-should-retry')).toBeNull()
    expect(await last.json()).toMatchObject({ error: { code: 'rate_limit_exceeded' } })
  })

  test('many requests after a refusal ask the database once', async () => {
    const gateway = await world.gateway(kind, { MODEL_LIMITS: limits({ requestsPerDay: 0 }) })
    for (let i = 0; i < 20; i += 1) expect((await ask(gateway.url, chat({}))).status).toBe(429)
    expect(
      world.upstash.log.filter(({ commands }) => commands[0]?.[0] === 'evalsha').length,
    ).toBeLessThanOrEqual(2)
  })

  test('neither a log line nor the database gets a token, a key, a prompt or an answer', async () => {
    const gateway = await world.gateway(kind)
    world.upstream.on('secret/cut', { transcript: transcripts.stream, cut: 900 })
    const secret = { headers: { 'x-user-token': 'SECRET-TOKEN-1' } }
    const prompt = [{ role: 'user', content: 'SECRET-PROMPT' }]
    const calls: Ask[] = [
      { ...secret, ...chat({ messages: prompt }) },
      { ...secret, ...chat({ messages: prompt, model: 'secret/cut', stream: true }) },
      { ...secret, ...chat({ messages: prompt, n: -1 }) },
      { ...secret, body: '{"SECRET-PROMPT' },
      { path: '/api/admin/usage', headers: { authorization: 'Bearer SECRET-ADMIN-KEY' } },
    ]
    world.upstream.on('secret/text', { body: 'SECRET-ANSWER that is no JSON' })
    const text = { path: '/api/groq', ...secret, json: { prompt: 'x', model: 'secret/text' } }
    expect((await ask(gateway.url, text)).status).toBe(502)
    for (const call of calls) await (await ask(gateway.url, call)).text().catch(() => undefined)
    world.upstash.fault(() => ({ status: 500, body: 'SECRET-ANSWER of the database' }))
    const uncounted = await ask(gateway.url, { ...secret, ...chat({ messages: prompt }) })
    await uncounted.text()
    const log = gateway.log.join('\n')
    expect(log).toContain('request.failed')
    expect(log).not.toMatch(/SECRET|gsk_server_key|Hello|Four/)
    expect(log).not.toContain(ADMIN_KEY)
    const sent = JSON.stringify(world.upstash.log)
    expect(sent).not.toMatch(/SECRET|gsk_server_key|Hello|Four/)
    expect(sent).not.toContain(ADMIN_KEY)
    expect(log).not.toContain(world.upstash.token)
    await recovered(gateway, uncounted)
  })
})

test('without a database the worker answers 503 and keeps nothing in memory', async () => {
  const vars = { KV_REST_API_URL: '', KV_REST_API_TOKEN: '' }
  const gateway = await world.gateway('workerd', vars)
  const response = await ask(gateway.url, { json: { model: MODEL, messages } })
  expect(response.status).toBe(503)
  expect(await response.json()).toMatchObject({ error: { code: 'not_configured' } })
})

test('an isolate logs the limits in force at its start', async () => {
  const MODEL_LIMITS = '{"*":{"tokensPerDay":200001,"requestsPerDay":1000}}'
  const gateway = await world.gateway('workerd', { MODEL_LIMITS })
  await ask(gateway.url, { json: { model: MODEL, messages } })
  const start = () =>
    gateway.log
      .filter((line) => line.startsWith('{'))
      .map((line) => JSON.parse(line) as Record<string, unknown>)
      .find(({ msg }) => msg === 'start')
  await expect.poll(start).toMatchObject({
    cap: 'balanced',
    limits: { default: { tokensPerDay: 200_001, requestsPerDay: 1000 } },
  })
})

test('a worker with an invalid environment answers 503 and logs every problem', async () => {
  const gateway = await world.gateway('workerd', { CAP: 'soft', PORT: 'x' })
  const response = await ask(gateway.url, { json: { model: MODEL, messages } })
  expect(response.status).toBe(503)
  expect(await response.json()).toMatchObject({ error: { code: 'not_configured' } })
  await expect.poll(() => gateway.log.join('\n')).toMatch(/CAP must be one of.*PORT must be/)
})

describe('the headers of what is left', () => {
  const at = Date.UTC(2026, 10, 22, 12, 0, 20)

  /** The headers of an answer after this admission, with any configuration. */
  async function headersOf(admitted: Admitted): Promise<Headers> {
    const store = {
      execute: (command: Command) =>
        Promise.resolve(command.op === 'admit' ? admitted : { applied: true }),
      ...{ tend: () => undefined, pause: () => undefined },
    } as unknown as FallbackStore
    const vars = { GROQ_API_KEY: 'gsk_server_key', GROQ_BASE_URL: world.upstream.url, PORT: '0' }
    const log = createLog({ level: 'silent', format: 'json', write: () => undefined })
    const server = await startServer({ createApp, config: readConfig(vars, 'node'), store, log })
    try {
      const url = `http://127.0.0.1:${server.port}`
      const response = await ask(url, { json: { model: MODEL, messages } })
      await response.arrayBuffer()
      expect(response.status).toBe(200)
      return response.headers
    } finally {
      await server.close()
    }
  }

  test('have the limits of the admission, at its own time', async () => {
    const headers = await headersOf({
      ok: true,
      at,
      limits: [
        {
          ...{ of: 'user', model: MODEL, limits: { tokensPerMinute: 70, requestsPerDay: 7 } },
          used: {
            minute: { requests: 2, tokens: 90, usd: 0 },
            day: { requests: 3, tokens: 4, usd: 0 },
          },
        },
        { of: 'user', model: '*', limits: { tokensPerDay: 5 }, used: {} },
        { of: 'everyone', model: MODEL, limits: { tokensPerDay: 6 }, used: {} },
      ],
    })
    expect(headers.get('ratelimit-policy')).toBe(
      '"requests-day";q=7;w=86400, "tokens-minute";q=70;qu="tokens";w=60',
    )
    expect(headers.get('ratelimit')).toBe('"requests-day";r=4;t=43180, "tokens-minute";r=0;t=40')
  })

  test('have each window by its own length, and dollars as integers of at most 15 digits', async () => {
    const used = { requests: 1, tokens: 30, usd: 1_500_001 }
    const headers = await headersOf({
      ok: true,
      at,
      limits: [
        {
          ...{ of: 'user', model: MODEL },
          limits: { usdPerMonth: 1e15, tokensPerWeek: 40, usdPerDay: 2_000_000, tokensPerHour: 50 },
          used: { month: used, week: used, day: used, hour: used },
        },
      ],
    })
    // November has 30 days. Noon of Sunday the 22nd is 12 hours before the end of the week.
    const policies = [
      '"usd-month";q=1000000000000;qu="micro-usd";w=2592000',
      '"tokens-week";q=40;qu="tokens";w=604800',
      '"usd-day";q=2000;qu="micro-usd";w=86400',
      '"tokens-hour";q=50;qu="tokens";w=3600',
    ]
    expect(headers.get('ratelimit-policy')).toBe(policies.join(', '))
    const standings = [
      '"usd-month";r=999999998499;t=734380',
      '"tokens-week";r=10;t=43180',
      '"usd-day";r=499;t=43180',
      '"tokens-hour";r=20;t=3580',
    ]
    expect(headers.get('ratelimit')).toBe(standings.join(', '))
  })

  test.each<[string, Admitted]>([
    ['no limits', { ok: true, at }],
    [
      'limits of all models and of everyone only',
      {
        ok: true,
        at,
        limits: [
          { of: 'user', model: '*', limits: { tokensPerDay: 5 }, used: {} },
          { of: 'everyone', model: MODEL, limits: { tokensPerDay: 6 }, used: {} },
        ],
      },
    ],
  ])('are left out if there are %s', async (_, admitted) => {
    const headers = await headersOf(admitted)
    for (const name of ['ratelimit', 'ratelimit-policy']) expect(headers.has(name)).toBe(false)
  })
})
