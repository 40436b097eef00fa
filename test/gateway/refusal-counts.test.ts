/** Refusals through the whole gateway: which are counted, by whom, and what that costs the database. */
import { describe, expect, test } from 'vitest'
import { dateOf } from '../../src/ledger/windows.ts'
import { BEARER } from '../support/admin.ts'
import { eventOf, KINDS, type Gateway } from '../support/gateways.ts'
import { useWorld } from '../support/world.ts'

const world = useWorld()

const MODEL = 'openai/gpt-oss-20b'
const CHAT = '/openai/v1/chat/completions'
const messages: unknown[] = []

/** Each test has a gateway of its own: an instance counts what it refused until its next admission. */
let gateways = 0
const start = (kind: (typeof KINDS)[number], vars = {}) =>
  world.gateway(kind, { ...vars, EVENTS_KEPT: String(10_000 + (gateways += 1)) })

type Answer = { status: number; code: string | undefined }

async function post(
  gateway: Gateway,
  token: string | undefined,
  body: string | object,
  path = CHAT,
): Promise<Answer> {
  const response = await fetch(`${gateway.url}/api/groq${path}`, {
    method: 'POST',
    ...(token !== undefined && { headers: { authorization: `Bearer ${token}` } }),
    body: typeof body === 'string' ? body : JSON.stringify(body),
  })
  const text = await response.text()
  const code = (JSON.parse(text) as { error?: { code: string } }).error?.code
  if (response.ok) await eventOf(world.store, response.headers.get('x-weir-id'))
  return { status: response.status, code }
}

const ask = (gateway: Gateway, user: string, model = MODEL) =>
  post(gateway, `token-of-${user}`, { model, messages, max_tokens: 10 })

/** The counts of today, and the latest refusals of users. */
async function counted() {
  const today = dateOf(Date.now())
  const { days, latest } = await world.store.refusals([today], 100)
  return { counts: days[today] ?? {}, latest: latest.map(({ code, model }) => `${code} ${model}`) }
}

async function commandsOf(run: () => Promise<unknown>): Promise<Record<string, number>> {
  await world.redis.resetStats()
  await run()
  return { ...(await world.redis.commandstats()) }
}

const sum = (stats: Record<string, number>) => Object.values(stats).reduce((all, n) => all + n, 0)

const FEW = { MODEL_LIMITS: '{"*":{"requestsPerDay":1}}' }

describe.each(KINDS)('on %s', (kind) => {
  test("a known user's refusal is counted at once and kept, at 5 commands; a remembered one costs nothing and is carried by the next admission", async () => {
    const gateway = await start(kind, FEW)
    await ask(gateway, 'alice')
    const refused = await commandsOf(async () => {
      expect(await ask(gateway, 'alice')).toEqual({ status: 429, code: 'insufficient_quota' })
    })
    expect(sum(refused)).toBe(5)
    const name = `insufficient_quota ${MODEL}`
    expect(await counted()).toEqual({ counts: { [name]: 1 }, latest: [name] })
    const remembered = await commandsOf(async () => {
      for (let n = 0; n < 3; n += 1) expect((await ask(gateway, 'alice')).status).toBe(429)
    })
    expect(remembered).toEqual({})
    const users = ['bob', 'carol']
    for (const user of users) expect((await ask(gateway, user)).status).toBe(200)
    expect(await counted()).toEqual({ counts: { [name]: 4 }, latest: [name] })
  })

  test('what is refused before the database is asked is carried too: tokens, bodies, models that are not offered', async () => {
    const gateway = await start(kind, { ALLOWED_MODELS: MODEL })
    expect((await ask(gateway, 'alice')).status).toBe(200)
    const nothing = await commandsOf(async () => {
      expect(await post(gateway, 'short', { model: MODEL, messages })).toMatchObject({
        code: 'invalid_token',
      })
      expect(await post(gateway, undefined, { model: MODEL })).toMatchObject({ status: 401 })
      expect(await post(gateway, 'token-of-bob', '{')).toMatchObject({ code: 'invalid_json' })
      expect(await post(gateway, 'token-of-bob', {})).toMatchObject({ code: 'invalid_request' })
      expect(await post(gateway, 'token-of-bob', '{"prompt":5}', '')).toMatchObject({ status: 400 })
      const made = await ask(gateway, 'bob', 'made/up')
      expect(made.code).toBe('model_not_allowed')
      // Nobody was refused: there is no such route.
      expect((await post(gateway, 'token-of-bob', {}, '/openai/v1/files')).status).toBe(404)
    })
    expect(nothing).toEqual({})
    expect((await counted()).counts).toEqual({})
    expect((await ask(gateway, 'alice')).status).toBe(200)
    expect(await counted()).toEqual({
      counts: {
        'invalid_token ?': 1,
        'missing_token ?': 1,
        'invalid_json ?': 1,
        'invalid_request ?': 2,
        'model_not_allowed ?': 1,
      },
      latest: [],
    })
    // Each was carried once.
    expect((await ask(gateway, 'alice')).status).toBe(200)
    expect(Object.values((await counted()).counts).reduce((all, n) => all + n)).toBe(6)
  })

  test("an unknown user's refusal leaves no trace of the user, and is carried by a refusal too", async () => {
    const gateway = await start(kind, {
      MODEL_LIMITS: '{"*":{"requestsPerDay":1},"no/requests":{"requestsPerDay":0}}',
    })
    await ask(gateway, 'alice')
    const before = (await world.redis.command(['KEYS', '*'])) as string[]
    const unknown = await commandsOf(async () => {
      expect((await ask(gateway, 'nobody', 'no/requests')).status).toBe(429)
    })
    expect(sum(unknown)).toBe(2)
    expect((await world.redis.command(['KEYS', '*'])) as string[]).toHaveLength(before.length)
    expect((await ask(gateway, 'alice')).status).toBe(429)
    expect(await counted()).toEqual({
      counts: { 'insufficient_quota ?': 1, [`insufficient_quota ${MODEL}`]: 1 },
      latest: [`insufficient_quota ${MODEL}`],
    })
  })

  test('made-up models are one counter, however many there are', async () => {
    const gateway = await start(kind, { MODEL_LIMITS: '{"*":{"requestsPerDay":0}}' })
    const known = await start(kind)
    await ask(known, 'alice')
    for (let n = 0; n < 20; n += 1) {
      expect((await ask(gateway, 'alice', `made/up-${n}`)).status).toBe(429)
      expect((await ask(gateway, 'nobody', `made/up-${n}`)).status).toBe(429)
      expect((await ask(gateway, 'nobody', `made/up-${n}`)).status).toBe(429)
    }
    await ask(gateway, 'alice')
    const { counts } = await counted()
    expect(counts).toEqual({
      'insufficient_quota ?': expect.any(Number) as number,
      [`insufficient_quota ${MODEL}`]: 1,
    })
    expect(counts['insufficient_quota ?']).toBe(60)
  })

  test('an admission that carries nothing costs what it did, and one that does a command more for each code and model', async () => {
    const gateway = await start(kind)
    for (let n = 0; n < 3; n += 1) await ask(gateway, 'alice')
    const settled = async (run: () => Promise<unknown>) => {
      const stats = await commandsOf(async () => {
        await run()
      })
      // The event was awaited by reading it.
      delete stats.lrange
      return sum(stats)
    }
    const plain = await settled(() => ask(gateway, 'alice'))
    for (let n = 0; n < 5; n += 1) await post(gateway, 'short', { model: MODEL, messages })
    for (let n = 0; n < 5; n += 1) await post(gateway, 'token-of-bob', '{')
    expect([plain, await settled(() => ask(gateway, 'alice'))]).toEqual([9, 11])
    expect(await settled(() => ask(gateway, 'alice'))).toBe(9)
  })

  test('while the database is down, counts wait for an admission that reaches it', async () => {
    const gateway = await start(kind, { STORE_TIMEOUT_MS: '500' })
    await ask(gateway, 'alice')
    for (let n = 0; n < 3; n += 1) await post(gateway, 'short', { model: MODEL, messages })
    world.upstash.fault(() => ({ status: 500 }))
    const body = JSON.stringify({ model: MODEL, messages, max_tokens: 10 })
    const headers = { authorization: 'Bearer token-of-alice' }
    const served = async () => {
      const sent = { method: 'POST', headers, body }
      const response = await fetch(`${gateway.url}/api/groq${CHAT}`, sent)
      await response.arrayBuffer()
      return [response.status, response.headers.get('x-weir-degraded')]
    }
    for (let n = 0; n < 4; n += 1) expect(await served()).toEqual([200, '1'])
    await post(gateway, 'short', { model: MODEL, messages })
    world.upstash.reset()
    await expect.poll(served, { timeout: 15_000 }).toEqual([200, null])
    expect((await counted()).counts).toEqual({ 'invalid_token ?': 4 })
  }, 20_000)

  test('what admins are refused, and reads, are no refusals of users', async () => {
    const gateway = await start(kind)
    for (const [path, headers] of [
      ['/api/admin/usage', {}],
      ['/api/groq/openai/v1/models', {}],
    ] as const) {
      expect((await fetch(gateway.url + path, { headers })).status).toBe(401)
    }
    const wrong = { method: 'POST', headers: BEARER, body: '{}' }
    expect((await fetch(`${gateway.url}/api/admin/usage`, wrong)).status).toBe(400)
    await ask(gateway, 'alice')
    expect((await counted()).counts).toEqual({})
  })
})
