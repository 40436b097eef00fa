/** What clients of the provider send and expect: names of LoRA models, lists of models, handshakes, codings, paths. */
import { request } from 'node:http'
import { gzipSync } from 'node:zlib'
import { describe, expect, test } from 'vitest'
import { adminGet, BEARER, logIn } from '../support/admin.ts'
import { eventOf, KINDS } from '../support/gateways.ts'
import { useWorld } from '../support/world.ts'

const world = useWorld()

const BASE = '/api/groq/openai/v1'
const TOKEN = { authorization: 'Bearer token-of-a-user' }
const LORA = 'ft:llama-3.1-8b-instant:org_0/my-adapter-0a1b'
const ROW = { tokensPerDay: 1e6, requestsPerDay: 1e3 }

const call = (url: string, model: string, more: RequestInit = {}) =>
  fetch(`${url}${BASE}/chat/completions`, {
    method: 'POST',
    headers: TOKEN,
    body: JSON.stringify({ model, messages: [{ role: 'user', content: 'hi' }] }),
    ...more,
  })
const errorOf = async (answer: Response) => ({
  status: answer.status,
  ...((await answer.json()) as { error: { code: string; message: string } }).error,
})

/** The status of a WebSocket handshake; 101 if it succeeds. */
const handshake = (url: string, path: string, upgrade = 'websocket') =>
  new Promise((resolve, reject) => {
    const key = { 'sec-websocket-version': '13', 'sec-websocket-key': 'AAAAAAAAAAAAAAAAAAAAAA==' }
    const headers = { ...TOKEN, ...key, connection: 'Upgrade', upgrade }
    const asked = request(`${url}${path}`, { headers, agent: false })
    asked.on('response', (answer) => resolve(answer.resume().statusCode))
    asked.on('upgrade', () => resolve(101))
    asked.on('error', reject)
    asked.end()
  })

describe.each(KINDS)('on %s', (kind) => {
  test('a LoRA model has its own limits, price, counts, file and blocks', async () => {
    const gateway = await world.gateway(kind, {
      MODEL_LIMITS: JSON.stringify({ '*': ROW, [LORA]: { ...ROW, requestsPerDay: 1 } }),
      GLOBAL_LIMITS: JSON.stringify({ [LORA]: ROW }),
      MODEL_PRICES: JSON.stringify({ [LORA]: { input: 1, output: 1 } }),
      ALLOWED_MODELS: 'ft:*',
    })
    const answer = await call(gateway.url, LORA)
    expect(answer.status).toBe(200)
    await answer.text()
    const { user, model } = await eventOf(world.store, answer.headers.get('x-weir-id'))
    expect([model, world.upstream.seen[0]?.model]).toEqual([LORA, LORA])
    const spent = await errorOf(await call(gateway.url, LORA))
    expect([spent.code, spent.message]).toEqual([
      'insufficient_quota',
      expect.stringContaining(LORA),
    ])

    const date = new Date().toISOString().slice(0, 10)
    expect(await world.redis.command(['EXISTS', `weir:{2}:day:${date}:${LORA}`])).toBe(1)
    expect(await world.redis.command(['EXISTS', `weir:{2}:quota:${LORA}`])).toBe(1)
    const { users } = await adminGet<{ users: { models: { model: string }[] }[] }>(
      gateway,
      '/api/admin/usage',
    )
    expect(users[0]?.models[0]?.model).toBe(LORA)
    const page = await fetch(`${gateway.url}/admin/users/${user}`, {
      headers: await logIn(gateway),
    })
    expect(await page.text()).toContain(LORA)
    const file = await fetch(`${gateway.url}/api/admin/export?kind=events&format=csv`, {
      headers: BEARER,
    })
    expect(await file.text()).toContain(`,${LORA},`)

    const block = await fetch(`${gateway.url}/api/admin/usage`, {
      method: 'POST',
      headers: { ...BEARER, 'content-type': 'application/json' },
      body: JSON.stringify({ userId: user, model: LORA, blocked: true }),
    })
    expect(block.status).toBe(200)
    await expect
      .poll(async () => (await errorOf(await call(gateway.url, LORA))).code, { timeout: 5000 })
      .toBe('user_blocked')
    expect((await errorOf(await call(gateway.url, 'a/one'))).code).toBe('model_not_allowed')
  })

  describe('the list of models', () => {
    const list = async (url: string) =>
      (await fetch(`${url}${BASE}/models`, { headers: TOKEN })).text()
    const all = JSON.stringify({
      object: 'list',
      data: ['a/one', 'a/two', 'ft:a:b/c'].map((id) => ({ id, object: 'model', owned_by: 'x' })),
      more: 1,
    })

    test('has only models that may be called', async () => {
      world.upstream.on('', { body: all })
      const gateway = await world.gateway(kind, {
        ALLOWED_MODELS: 'a/t*,ft:*',
        DEFAULT_MODEL: 'a/two',
      })
      const shown = JSON.parse(await list(gateway.url)) as { data: object[]; more: number }
      expect(shown).toMatchObject({ object: 'list', more: 1 })
      expect(shown.data).toEqual([
        { id: 'a/two', object: 'model', owned_by: 'x' },
        { id: 'ft:a:b/c', object: 'model', owned_by: 'x' },
      ])
      const get = (name: string) =>
        fetch(`${gateway.url}${BASE}/models/${name}`, { headers: TOKEN })
      expect(await errorOf(await get('a%2Fone'))).toMatchObject({
        status: 403,
        code: 'model_not_allowed',
      })
      expect(world.upstream.seen).toHaveLength(1)
      expect((await get('a/two')).status).toBe(200)
      expect((await get('ft:a:b%2Fc')).status).toBe(200)
      // Now from what is kept of the first call.
      expect(JSON.parse(await list(gateway.url))).toEqual(shown)
      expect(world.upstream.seen).toHaveLength(3)
    })

    test('is what the provider sent where all models are offered, or where it is an error', async () => {
      world.upstream.on('', { body: all })
      const open = await world.gateway(kind)
      expect(await list(open.url)).toBe(all)
      world.upstream.on('', { status: 418, body: '{"error":{}}' })
      const some = await world.gateway(kind, { ALLOWED_MODELS: 'a/t*', DEFAULT_MODEL: 'a/two' })
      const answer = await fetch(`${some.url}${BASE}/models`, { headers: TOKEN })
      expect([answer.status, await answer.text()]).toEqual([418, '{"error":{}}'])
    })

    test.each(['no JSON', '{"data":1}', '{"data":[{}]}'])(
      'that cannot be read (%s) is not shown',
      async (body) => {
        world.upstream.on('', { body })
        const gateway = await world.gateway(kind, {
          ALLOWED_MODELS: 'a/t*',
          DEFAULT_MODEL: 'a/two',
        })
        const answer = await fetch(`${gateway.url}${BASE}/models`, { headers: TOKEN })
        expect((await errorOf(answer)).code).toBe('upstream_unreachable')
      },
    )
  })

  test.each([`${BASE}/responses`, `${BASE}/realtime?model=x`, '/api/groq', '/v1/responses'])(
    'a WebSocket handshake at %s is 426, so that clients go on with HTTP',
    async (path) => {
      const gateway = await world.gateway(kind)
      expect(await handshake(gateway.url, path)).toBe(426)
      expect(await handshake(gateway.url, path, 'h2c, WebSocket')).toBe(426)
    },
  )

  test.each(['gzip', 'br', 'deflate, gzip', 'identity, zstd'])(
    'a body in %s is 415 and names what is accepted',
    async (coding) => {
      const gateway = await world.gateway(kind)
      const headers = { ...TOKEN, 'content-encoding': coding }
      const answer = await call(gateway.url, 'a/one', { headers, body: gzipSync('{}') })
      expect(answer.headers.get('accept-encoding')).toBe('identity')
      const { status, code, message } = await errorOf(answer)
      expect([status, code]).toEqual([415, 'unsupported_encoding'])
      expect(message).toContain('uncompressed')
      const sync = await fetch(`${gateway.url}/api/tracking/sync`, {
        method: 'POST',
        headers: { ...headers, 'content-type': 'application/json' },
        body: gzipSync('{}'),
      })
      expect((await errorOf(sync)).code).toBe('unsupported_encoding')
      expect(sync.headers.get('access-control-allow-origin')).toBe('*')
    },
  )

  test('a body that is said to be uncompressed is taken', async () => {
    const gateway = await world.gateway(kind)
    const answer = await call(gateway.url, 'a/one', {
      headers: { ...TOKEN, 'content-encoding': 'Identity' },
    })
    expect(answer.status).toBe(200)
    await answer.text()
  })

  test.each([
    `${BASE}/completions`,
    `${BASE}/openai/v1/chat/completions`,
    '/api/groq/chat/completions',
    '/api/groq/v1/messages',
  ])('the wrong path %s under the right base names what is offered there', async (path) => {
    const gateway = await world.gateway(kind)
    const { status, code, message } = await errorOf(
      await fetch(`${gateway.url}${path}`, { method: 'POST', headers: TOKEN, body: '{}' }),
    )
    expect([status, code]).toEqual([404, 'not_found'])
    for (const offered of ['chat/completions', 'responses', 'embeddings', 'models', '/api/groq,']) {
      expect(message).toContain(offered)
    }
    expect(message).not.toContain('messages')
  })
})
