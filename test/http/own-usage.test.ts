/** What callers are told of their own use. */
import { afterEach, expect, test } from 'vitest'
import { OpenRouter } from '@openrouter/sdk'
import { HTTPClient } from '@openrouter/sdk/lib/http.js'
import { localApp, MODEL, type LocalApp } from '../support/local-app.ts'

let app: LocalApp
afterEach(() => app.close())

const LIMITS = JSON.stringify({
  '*': { tokensPerDay: 1000, requestsPerMinute: 10 },
  total: { usdPerMonth: 5 },
})
/** Dollars a million tokens: 20 prompt and 15 completion tokens cost 35 micro-dollars. */
const PRICES = JSON.stringify({ [MODEL]: { input: 1, output: 1 } })

/** The fields that the tests read. */
type Told = {
  userId: string
  blocked: object[]
  limits: { unit: string; used: number }[]
  data: object
}

const get = async (path: string, token: string) => {
  const { status, text, headers } = await app.send(path, {
    headers: { authorization: `Bearer ${token}` },
  })
  return { status, headers, json: JSON.parse(text) as Told }
}

test('a caller is told each limit, with what is used and left, and when it resets', async () => {
  app = await localApp({ MODEL_LIMITS: LIMITS, MODEL_PRICES: PRICES, DEFAULT_MODEL: MODEL })
  const { json: before } = await get('/api/usage', 'token-of-ann')
  expect(before.limits.map(({ unit, used }) => [unit, used])).toEqual([
    ['usd', 0],
    ['tokens', 0],
    ['requests', 0],
  ])
  expect(await app.store.user(before.userId)).toBeUndefined()
  await app.ask('token-of-ann')
  const { json, headers } = await get('/api/usage', 'token-of-ann')
  expect(headers.get('cache-control')).toBe('no-store')
  expect(json).toEqual({
    userId: before.userId,
    label: null,
    plan: 'default',
    blocked: [],
    limits: [
      {
        model: '*',
        unit: 'usd',
        window: 'month',
        limit: 5,
        used: 0.000035,
        reserved: 0,
        remaining: 4.999965,
        resetAt: Date.UTC(2026, 11, 1),
      },
      {
        model: MODEL,
        unit: 'tokens',
        window: 'day',
        limit: 1000,
        used: 35,
        reserved: 0,
        remaining: 965,
        resetAt: Date.UTC(2026, 10, 26),
      },
      {
        model: MODEL,
        unit: 'requests',
        window: 'minute',
        limit: 10,
        used: 1,
        reserved: 0,
        remaining: 9,
        resetAt: Date.UTC(2026, 10, 25, 12, 1),
      },
    ],
  })
  // Nobody sees the use of another.
  expect((await get('/api/usage', 'token-of-bob')).json.limits[1]?.used).toBe(0)
})

test('the plan and the blocks are those that hold now', async () => {
  app = await localApp({ MODEL_LIMITS: LIMITS })
  await app.ask('token-of-ann')
  const { userId } = (await get('/api/usage', 'token-of-ann')).json
  await app.admin('PUT', 'plans/pro', { limits: { '*': { tokensPerDay: 5000 } } })
  await app.admin('PATCH', `users/${userId}`, { plan: 'pro', label: 'Ann' })
  await app.admin('POST', 'usage', { userId, model: '*', blocked: true, reason: 'spam' })
  const { json } = await get('/api/usage', 'token-of-ann')
  expect(json).toMatchObject({ label: 'Ann', plan: 'pro' })
  expect(json.blocked).toEqual([{ model: '*', reason: 'spam', until: null }])
  expect(json.limits).toMatchObject([{ model: MODEL, unit: 'tokens', limit: 5000 }])
})

test("OpenRouter's shape tells dollars, and the key by its ends", async () => {
  app = await localApp({
    ...{ MODEL_LIMITS: LIMITS, MODEL_PRICES: PRICES },
    USER_TOKENS: 'issued',
  })
  const { json: made } = await app.admin('POST', 'keys', { user: 'ann', name: 'laptop' })
  await app.ask(made.key)
  const { json } = await get('/api/v1/key', made.key)
  expect(json).toMatchObject({
    data: {
      label: `${made.start}...${made.last4}`,
      limit: 5,
      limit_remaining: 4.999965,
      limit_reset: 'monthly',
      usage: 0.000035,
      usage_daily: 0.000035,
      usage_weekly: 0.000035,
      usage_monthly: 0.000035,
      is_free_tier: false,
      expires_at: null,
    },
  })
  await app.admin('DELETE', `keys/${made.id}`)
  for (const path of ['/api/v1/key', '/api/usage']) {
    expect(await get(path, made.key)).toMatchObject({
      status: 401,
      json: { error: { code: 'invalid_key' } },
    })
  }
})

test('without a limit in dollars there is none', async () => {
  app = await localApp({ MODEL_LIMITS: '{"*":{"tokensPerDay":1000}}' })
  expect((await get('/api/v1/key', 'token-of-ann')).json.data).toMatchObject({
    limit: null,
    limit_remaining: null,
    limit_reset: null,
    usage: 0,
  })
})

/** OpenRouter's own client, unmodified but for where it sends its calls: into this process. */
const openRouter = (apiKey: string) =>
  new OpenRouter({
    apiKey,
    serverURL: 'http://weir.test/api/v1',
    httpClient: new HTTPClient({
      async fetcher(input, init) {
        const request = new Request(input, init)
        const headers = Object.fromEntries(request.headers)
        const { pathname } = new URL(request.url)
        const { status, text, headers: told } = await app.send(pathname, { headers })
        return new Response(text, { status, headers: told })
      },
    }),
  })

test("OpenRouter's own client reads it: the limit with the least left, and refusals as such", async () => {
  const total = { usdPerMonth: 5, usdPerDay: 0.001, usdPerMinute: 0.01 }
  app = await localApp({ MODEL_PRICES: PRICES, USER_TOKENS: 'issued' })
  await app.admin('PUT', 'plans/small', { limits: { total } })
  await app.admin('PUT', 'plans/by-model', { limits: { '*': { usdPerDay: 0.5 } } })
  const { json: made } = await app.admin('POST', 'keys', { user: 'ann', plan: 'small' })
  await app.ask(made.key)
  const read = async () => (await openRouter(made.key).apiKeys.getCurrentKeyMetadata()).data
  expect(await read()).toMatchObject({
    limit: 0.001,
    limitRemaining: 0.000965,
    limitReset: 'daily',
    usageDaily: 0.000035,
    expiresAt: null,
    isFreeTier: false,
  })
  // A limit of each model is not one over all of them: the caller may use more than any of these.
  await app.admin('PATCH', `users/${made.userId}`, { plan: 'by-model' })
  expect(await read()).toMatchObject({ limit: null, limitRemaining: null, limitReset: null })
  await app.admin('DELETE', `keys/${made.id}`)
  await expect(read()).rejects.toMatchObject({ statusCode: 401 })
})
