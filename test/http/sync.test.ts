import fc from 'fast-check'
import { createHmac } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { DAY_MS, minuteOf, nextDay } from '../../src/ledger/windows.ts'
import { PREFIX } from '../../src/store/redis/keys.ts'
import { ADMIN_KEY, eventOf, KINDS, type Gateway } from '../support/gateways.ts'
import { useWorld } from '../support/world.ts'

const world = useWorld()

const MODEL = 'openai/gpt-oss-20b'
const LIMITS = {
  '*': { tokensPerDay: 1000, requestsPerDay: 50 },
  total: { tokensPerDay: 1500, requestsPerDay: 100 },
}
const LIMITED = { MODEL_LIMITS: JSON.stringify(LIMITS) }
const FILE = { KV_REST_API_URL: undefined, KV_REST_API_TOKEN: undefined }
const OLD_IP = '203.0.113.77'

const tokenOf = (user: string) => `token-of-${user}`
const idOf = (user: string) =>
  createHmac('sha256', 'secret-of-the-tests')
    .update(tokenOf(user))
    .digest()
    .subarray(0, 16)
    .toString('base64url')

const day = (tokens: number, requests = 1, days = 0) => ({
  day: { tokens, requests, resetAt: nextDay(Date.now()) + days * DAY_MS },
})
const usageOf = (tokens: number, requests?: number, days?: number) => ({
  [MODEL]: day(tokens, requests, days),
})

type Json = Record<string, unknown>
type Answer = { status: number; headers: Headers; body: Json; error?: Json; ms: number }

async function post(
  gateway: Gateway,
  body: string,
  headers: [string, string][] = [],
): Promise<Answer> {
  const start = performance.now()
  const response = await fetch(`${gateway.url}/api/tracking/sync`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...Object.fromEntries(headers) },
    body,
  })
  const json = (await response.json()) as Json
  const answer = { status: response.status, headers: response.headers, body: json }
  const ms = performance.now() - start
  return 'error' in json ? { ...answer, error: json.error as Json, ms } : { ...answer, ms }
}

const sync = (gateway: Gateway, user: string, modelUsage: unknown = {}) =>
  post(gateway, JSON.stringify({ userToken: tokenOf(user), modelUsage }))

/** Makes a proxy request of 35 tokens, and waits until it is counted. */
async function call(gateway: Gateway, user: string, settled = true): Promise<Response> {
  const response = await fetch(`${gateway.url}/api/groq`, {
    method: 'POST',
    headers: { 'x-user-token': tokenOf(user) },
    body: JSON.stringify({ model: MODEL, prompt: 'hi', max_tokens: 100 }),
  })
  await response.clone().arrayBuffer()
  if (settled) await eventOf(world.store, response.headers.get('x-weir-id'))
  return response
}

async function block(gateway: Gateway, user: string, fields: Json): Promise<void> {
  const response = await fetch(`${gateway.url}/api/admin/usage`, {
    method: 'POST',
    headers: { authorization: `Bearer ${ADMIN_KEY}` },
    body: JSON.stringify({ userId: idOf(user), model: '*', blocked: true, ...fields }),
  })
  expect(response.status).toBe(200)
}

/** Charges and limits: all data of users and days that an admin can read, without fields that change with time. */
async function charged(gateway: Gateway): Promise<unknown> {
  const response = await fetch(`${gateway.url}/api/admin/usage`, {
    headers: { authorization: `Bearer ${ADMIN_KEY}` },
  })
  const { users, stats, days, quotas, events } = (await response.json()) as Record<string, Json[]>
  return { users: users?.map(metered), stats, days, quotas, events }
}

/** A user's models, without reported amounts and without models that were only reported. */
function metered({ lastActive: _, models, ...user }: Json): unknown {
  const own = (models as Json[]).filter(({ requestsDay, blocked }) => requestsDay !== 0 || blocked)
  return {
    ...user,
    models: own.map(({ reportedTokensDay: _t, reportedRequestsDay: _r, ...model }) => model),
  }
}

/** A user's document in the database, without the fields that reports may change. */
async function documentOf(user: string): Promise<unknown> {
  const { usage, ...others } = (await world.store.user(idOf(user)))!
  const { at: _a, reported: _r, syncMinute: _m, syncs: _s, ...rest } = usage
  return { ...others, usage: rest }
}

const reportedOf = async (user: string) => (await world.store.user(idOf(user)))?.usage.reported

/** Lets a user sync as often as in a new minute. */
async function newTurns(user: string): Promise<void> {
  const key = `${PREFIX}usage:${idOf(user)}`
  const { syncs: _, ...usage } = JSON.parse(String(await world.redis.command(['GET', key]))) as Json
  await world.redis.command(['SET', key, JSON.stringify(usage), 'KEEPTTL'])
}

/** All contents of the database, as text. */
async function everything(): Promise<string> {
  const keys = (await world.redis.command(['KEYS', '*'])) as string[]
  const values = keys.toSorted().map(async (key) => {
    const type = String(await world.redis.command(['TYPE', key]))
    const read: Record<string, (string | number)[]> = {
      string: ['GET', key],
      list: ['LRANGE', key, 0, -1],
      zset: ['ZRANGE', key, 0, -1],
    }
    return [key, await world.redis.command(read[type] ?? ['DUMP', key])]
  })
  return JSON.stringify(await Promise.all(values))
}

describe.each(KINDS)('on %s', (kind) => {
  test('a page gets the counts of the server, with any report', async () => {
    const gateway = await world.gateway(kind, LIMITED)
    for (let n = 0; n < 2; n += 1) expect((await call(gateway, 'alice')).status).toBe(200)
    const resetAt = nextDay(Date.now())
    const { status, body, headers } = await sync(gateway, 'alice', {
      ...usageOf(999_999, 77),
      'never/used': day(5),
    })
    expect(status).toBe(200)
    expect(body).toEqual({
      success: true,
      usage: {
        [MODEL]: {
          ...{ tokensUsedDay: 70, tokensReservedDay: 0, tokensRemainingDay: 930 },
          ...{ requestsDay: 2, resetAt },
        },
        'never/used': {
          ...{ tokensUsedDay: 0, tokensReservedDay: 0, tokensRemainingDay: 1000 },
          ...{ requestsDay: 0, resetAt },
        },
      },
      blocked: [],
    })
    expect(headers.get('cache-control')).toBe('no-store')
    expect(headers.get('x-weir-id')).toMatch(/^[\da-f-]{36}$/)
    expect((await sync(gateway, 'alice')).body).toMatchObject({
      usage: { [MODEL]: { tokensUsedDay: 70 } },
    })
  })

  test("the rest is the smaller rest of the model's and the user's limit", async () => {
    const gateway = await world.gateway(kind, {
      MODEL_LIMITS: JSON.stringify({ ...LIMITS, total: { ...LIMITS.total, tokensPerDay: 100 } }),
    })
    await world.store.execute({
      op: 'admit',
      id: '1',
      user: idOf('alice'),
      model: 'other',
      reserved: 60,
      completion: 0,
      now: Date.now(),
      lasts: 1000,
      limits: { model: LIMITS['*'] },
    })
    const { body } = await sync(gateway, 'alice', usageOf(0, 0))
    expect(body.usage).toMatchObject({
      other: { tokensUsedDay: 0, tokensReservedDay: 60, tokensRemainingDay: 40 },
      [MODEL]: { tokensUsedDay: 0, tokensRemainingDay: 40 },
    })
  })

  test('what a running request reserves is told apart from what was used, and is not left', async () => {
    const gateway = await world.gateway(kind, { MODEL_LIMITS: undefined })
    await call(gateway, 'alice')
    let answer = () => {}
    const hold = new Promise<void>((resolve) => (answer = resolve))
    world.upstream.on(MODEL, { hold })
    const arrived = world.upstream.next()
    const asked = fetch(`${gateway.url}/api/groq`, {
      method: 'POST',
      headers: { 'x-user-token': tokenOf('alice') },
      body: '{"prompt":"Hello"}',
    })
    await arrived
    const said = async () => (await sync(gateway, 'alice')).body.usage
    // 2,500 of the default maximum, 183 of the prompt.
    expect(await said()).toMatchObject({
      [MODEL]: {
        ...{ tokensUsedDay: 35, tokensReservedDay: 2683, tokensRemainingDay: 200_000 - 35 - 2683 },
        requestsDay: 2,
      },
    })
    answer()
    const response = await asked
    await response.arrayBuffer()
    await eventOf(world.store, response.headers.get('x-weir-id'))
    expect(await said()).toMatchObject({
      [MODEL]: { tokensUsedDay: 70, tokensReservedDay: 0, tokensRemainingDay: 200_000 - 70 },
    })
  })

  test('a page gets blocks with reason and end until they are lifted', async () => {
    const gateway = await world.gateway(kind)
    await call(gateway, 'alice')
    const until = Date.now() + 60_000
    await block(gateway, 'alice', { reason: 'Too <much>.', until })
    await block(gateway, 'alice', { model: MODEL })
    const { body } = await sync(gateway, 'alice')
    const { blocked } = body as { blocked: { model: string }[] }
    expect(blocked.toSorted((a, b) => (a.model < b.model ? -1 : 1))).toEqual([
      { model: '*', reason: 'Too <much>.', until },
      { model: MODEL, reason: null, until: null },
    ])
    for (const model of ['*', MODEL]) await block(gateway, 'alice', { model, blocked: false })
    expect((await sync(gateway, 'alice')).body.blocked).toEqual([])
    await block(gateway, 'unseen', {})
    expect((await sync(gateway, 'unseen')).body.blocked).toHaveLength(1)
  })

  test('repeated reports, lower ones and those of other days change no charge', async () => {
    const gateway = await world.gateway(kind, LIMITED)
    await call(gateway, 'alice')
    const before = [await documentOf('alice'), await charged(gateway)]
    for (let n = 0; n < 100; n += 1) {
      if (n % 15 === 0) await newTurns('alice')
      expect((await sync(gateway, 'alice', usageOf(5000, 9))).status).toBe(200)
    }
    await newTurns('alice')
    const others = [usageOf(4000, 8), usageOf(9e9, 9e9, -1), usageOf(9e9, 9e9, 1), {}]
    for (const usage of others) expect((await sync(gateway, 'alice', usage)).status).toBe(200)
    expect(await reportedOf('alice')).toEqual({ [MODEL]: { tokens: 5000, requests: 9 } })
    expect([await documentOf('alice'), await charged(gateway)]).toEqual(before)
    expect((await call(gateway, 'alice')).status).toBe(200)
  })

  test('reports that arrive out of order end in the largest', async () => {
    const gateway = await world.gateway(kind)
    await call(gateway, 'alice')
    const amounts = [30, 10, 90, 20, 60]
    await Promise.all(amounts.map((tokens) => sync(gateway, 'alice', usageOf(tokens))))
    expect(await reportedOf('alice')).toEqual({ [MODEL]: { tokens: 90, requests: 1 } })
  })

  const models = (count: number) =>
    Object.fromEntries(Array.from({ length: count }, (_, n) => [`${n}`, day(1)]))
  const reset = nextDay(Date.now())
  const window = `{"tokens":1,"requests":1,"resetAt":${reset}}`
  const with_ = (usage: string) => `{"userToken":"token-of-alice","modelUsage":${usage}}`
  const one = (of: string) => with_(`{"${MODEL}":{"day":${of}}}`)
  const json: [string, string][] = []

  test.each<[string, string, [string, string][], number, string, string | undefined]>([
    [
      '1,000 models',
      with_(JSON.stringify(models(1000))),
      json,
      400,
      'invalid_request',
      'modelUsage',
    ],
    ['65 models', with_(JSON.stringify(models(65))), json, 400, 'invalid_request', 'modelUsage'],
    [
      'a negative number',
      one(`{"tokens":-1,"requests":1,"resetAt":${reset}}`),
      json,
      400,
      'invalid_request',
      `modelUsage.${MODEL}.day.tokens`,
    ],
    [
      '1e308',
      one(`{"tokens":1,"requests":1e308,"resetAt":${reset}}`),
      json,
      400,
      'invalid_request',
      `modelUsage.${MODEL}.day.requests`,
    ],
    [
      '1e999',
      one(`{"tokens":1e999,"requests":1,"resetAt":${reset}}`),
      json,
      400,
      'invalid_request',
      `modelUsage.${MODEL}.day.tokens`,
    ],
    [
      'a fraction',
      one(`{"tokens":1.5,"requests":1,"resetAt":${reset}}`),
      json,
      400,
      'invalid_request',
      `modelUsage.${MODEL}.day.tokens`,
    ],
    [
      'a number as text',
      one(`{"tokens":"1","requests":1,"resetAt":${reset}}`),
      json,
      400,
      'invalid_request',
      `modelUsage.${MODEL}.day.tokens`,
    ],
    [
      'more than is believable',
      one(`{"tokens":1000000000001,"requests":1,"resetAt":${reset}}`),
      json,
      400,
      'invalid_request',
      `modelUsage.${MODEL}.day.tokens`,
    ],
    [
      'no end of the day',
      one('{"tokens":1,"requests":1}'),
      json,
      400,
      'invalid_request',
      `modelUsage.${MODEL}.day.resetAt`,
    ],
    ['no day', with_(`{"${MODEL}":{}}`), json, 400, 'invalid_request', `modelUsage.${MODEL}.day`],
    [
      'a broken minute',
      with_(`{"${MODEL}":{"minute":{},"day":${window}}}`),
      json,
      400,
      'invalid_request',
      `modelUsage.${MODEL}.minute.tokens`,
    ],
    [
      'a model name with blanks',
      with_(`{"a b":{"day":${window}}}`),
      json,
      400,
      'invalid_request',
      'modelUsage.a b',
    ],
    [
      'a model without a name',
      with_(`{"":{"day":${window}}}`),
      json,
      400,
      'invalid_request',
      'modelUsage.',
    ],
    ['models as a list', with_('[]'), json, 400, 'invalid_request', 'modelUsage'],
    ['no models', '{"userToken":"token-of-alice"}', json, 400, 'invalid_request', 'modelUsage'],
    [
      'a token that is a number',
      '{"userToken":7,"modelUsage":{}}',
      json,
      400,
      'invalid_request',
      'userToken',
    ],
    ['null', 'null', json, 400, 'invalid_request', 'modelUsage'],
    ['a list', '[]', json, 400, 'invalid_request', 'modelUsage'],
    ['half a body', '{"userToken":"token', json, 400, 'invalid_json', undefined],
    ['nothing', '', json, 400, 'invalid_json', undefined],
    [
      'text by its type',
      one(window),
      [['content-type', 'text/plain']],
      400,
      'invalid_request',
      'modelUsage',
    ],
    ['a large body', with_(`{}${' '.repeat(65_536)}`), json, 413, 'body_too_large', undefined],
  ])(
    '%s is refused with a reason, and stores nothing',
    async (_, body, headers, status, code, param) => {
      const gateway = await world.gateway(kind, LIMITED)
      await call(gateway, 'alice')
      const before = await everything()
      const answer = await post(gateway, body, headers)
      expect([answer.status, answer.error?.code]).toEqual([status, code])
      expect(answer.error?.param).toBe(param)
      expect(String(answer.error?.message)).toMatch(/\bJSON\b|bytes/)
      expect(await everything()).toBe(before)
    },
  )

  test('a model named __proto__ is ignored and does no harm', async () => {
    const gateway = await world.gateway(kind)
    await call(gateway, 'alice')
    const usage = `{"__proto__":{"day":${window}},"constructor":{"day":${window}}}`
    const { status, body } = await post(gateway, with_(usage))
    expect(status).toBe(200)
    expect(Object.keys(body.usage as Json).sort()).toEqual(['constructor', MODEL])
    expect(await reportedOf('alice')).toEqual({ constructor: { tokens: 1, requests: 1 } })
  })

  test('a report counts for the user whose token it carries and for nobody else', async () => {
    const gateway = await world.gateway(kind)
    for (const user of ['alice', 'bob']) await call(gateway, user)
    const alice = await world.store.user(idOf('alice'))
    const body = JSON.stringify({ userToken: tokenOf('alice'), modelUsage: usageOf(500) })
    const both = await post(gateway, body, [['x-user-token', tokenOf('bob')]])
    expect([both.status, both.error?.code]).toEqual([400, 'invalid_request'])
    const bare = JSON.stringify({ modelUsage: usageOf(500), userId: idOf('alice') })
    const token: [string, string][] = [
      ['x-user-token', tokenOf('bob')],
      ['authorization', `Bearer ${tokenOf('bob')}`],
    ]
    for (const header of token) expect((await post(gateway, bare, [header])).status).toBe(200)
    expect(await world.store.user(idOf('alice'))).toEqual(alice)
    expect(await reportedOf('bob')).toEqual({ [MODEL]: { tokens: 500, requests: 1 } })
    const refused = [
      await post(gateway, bare),
      await post(gateway, bare, [['x-user-token', 'short']]),
    ]
    expect(refused.map(({ status, error }) => [status, error?.code])).toEqual([
      [401, 'missing_token'],
      [401, 'invalid_token'],
    ])
  })

  test("the old client's body is taken as it is, its address not believed, and no token kept", async () => {
    const gateway = await world.gateway(kind)
    await call(gateway, 'alice')
    const count = { tokens: 1500, requests: 3 }
    const { status } = await post(
      gateway,
      JSON.stringify({
        userToken: tokenOf('alice'),
        ipAddress: OLD_IP,
        modelUsage: {
          'llama-3.1-8b-instant': {
            minute: { ...count, resetAt: Date.now() + 30_000 },
            day: { ...count, resetAt: nextDay(Date.now()) },
          },
        },
      }),
    )
    expect(status).toBe(200)
    await post(
      gateway,
      JSON.stringify({ userToken: tokenOf('new'), ipAddress: null, modelUsage: {} }),
    )
    await post(gateway, `{"userToken":"${tokenOf('bad')}","ipAddress":"${OLD_IP}","modelUsage":1}`)
    expect(await reportedOf('alice')).toEqual({ 'llama-3.1-8b-instant': count })
    const kept = await everything()
    expect(kept).toContain(idOf('alice'))
    for (const secret of [OLD_IP, tokenOf('alice'), tokenOf('new'), tokenOf('bad')]) {
      expect(kept).not.toContain(secret)
      expect(gateway.log.join('\n')).not.toContain(secret)
    }
  })

  test('more than 20 a minute of one user are refused with the time to wait, others go on', async () => {
    const gateway = await world.gateway(kind)
    await call(gateway, 'busy')
    const minute = minuteOf(Date.now())
    const answers = await Promise.all(
      Array.from({ length: 60 }, (_, n) => sync(gateway, 'busy', usageOf(n))),
    )
    const taken = answers.filter(({ status }) => status === 200)
    expect(taken.length).toBeGreaterThanOrEqual(20)
    // A minute may have ended in between.
    expect(taken.length).toBeLessThanOrEqual(minuteOf(Date.now()) === minute ? 20 : 40)
    const refused = answers.filter(({ status }) => status === 429)
    expect(refused).toHaveLength(60 - taken.length)
    for (const { headers, error } of refused) {
      expect(error).toMatchObject({ code: 'rate_limit_exceeded', type: 'rate_limit_error' })
      expect(Number(headers.get('retry-after'))).toBeGreaterThanOrEqual(1)
      expect(Number(headers.get('retry-after'))).toBeLessThanOrEqual(60)
      expect(headers.get('access-control-allow-origin')).toBe('*')
      expect(headers.get('access-control-expose-headers')).toContain('retry-after')
    }
    expect((await sync(gateway, 'calm')).status).toBe(200)
    expect((await call(gateway, 'busy')).status).toBe(200)
  })

  test.each([
    ['hangs', '200', { hang: true }],
    ['breaks connections', '201', { reset: true }],
    ['answers with errors', '202', { status: 500 }],
  ] as const)(
    'a database that %s makes a sync fail within the deadline, and later syncs at once',
    async (_, STORE_TIMEOUT_MS, fault) => {
      const gateway = await world.gateway(kind, { STORE_TIMEOUT_MS })
      expect((await sync(gateway, 'alice')).status).toBe(200)
      world.upstash.fault(() => fault)
      for (let n = 0; n < 3; n += 1) {
        const { status, error, ms } = await sync(gateway, 'alice', usageOf(5))
        expect([status, error?.code]).toEqual([503, 'store_unavailable'])
        expect(ms).toBeLessThan(5000)
      }
      world.upstash.log.length = 0
      const answers = await Promise.all(Array.from({ length: 20 }, () => sync(gateway, 'alice')))
      expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([503]))
      // The breaker's probe runs the script without a command.
      const sent = world.upstash.log.flatMap(({ commands }) => commands.flat())
      expect(sent.filter((arg) => arg.includes('"op":"report"'))).toEqual([])
      world.upstash.reset()
      await expect
        .poll(async () => (await sync(gateway, 'alice')).status, { timeout: 15_000 })
        .toBe(200)
    },
    40_000,
  )

  test('a database that hangs after the turn was taken makes a sync fail within the deadline', async () => {
    const gateway = await world.gateway(kind, { STORE_TIMEOUT_MS: '203' })
    expect((await sync(gateway, 'alice')).status).toBe(200)
    world.upstash.fault(({ commands }) =>
      commands.flat().some((arg) => arg.includes('"op":"report"')) ? { hang: true } : undefined,
    )
    const { status, error, ms } = await sync(gateway, 'alice', usageOf(5))
    expect([status, error?.code]).toEqual([503, 'store_unavailable'])
    expect(ms).toBeLessThan(5000)
  })

  test('a page of another origin may sync and read the answer, where origins allow it', async () => {
    const preflight = async (gateway: Gateway, origin: string) => {
      const response = await fetch(`${gateway.url}/api/tracking/sync`, {
        method: 'OPTIONS',
        headers: {
          origin,
          'access-control-request-method': 'POST',
          'access-control-request-headers': 'content-type',
        },
      })
      const names = ['origin', 'headers', 'methods'] as const
      const told = names.map((name) => response.headers.get(`access-control-allow-${name}`))
      return [response.status, ...told]
    }
    const open = await world.gateway(kind)
    const [status, origin, headers, methods] = await preflight(open, 'https://app.example')
    expect([status, origin, headers]).toEqual([204, '*', 'content-type'])
    expect(methods).toContain('POST')
    const closed = await world.gateway(kind, { ALLOWED_ORIGINS: 'https://a.example' })
    expect((await preflight(closed, 'https://a.example'))[1]).toBe('https://a.example')
    expect((await preflight(closed, 'https://evil.example'))[1]).toBeNull()
    const answered = async (origin: string) => {
      const { headers } = await post(closed, '{}', [['origin', origin]])
      return headers.get('access-control-allow-origin')
    }
    expect(await answered('https://a.example')).toBe('https://a.example')
    expect(await answered('https://evil.example')).toBeNull()
  })

  test('other methods are refused', async () => {
    const gateway = await world.gateway(kind)
    const response = await fetch(`${gateway.url}/api/tracking/sync`)
    expect([response.status, response.headers.get('allow')]).toEqual([405, 'POST'])
    expect((await fetch(`${gateway.url}/api/tracking/other`)).status).toBe(404)
  })
})

const amount = fc.oneof(
  fc.nat(3000),
  fc.constantFrom(0, 1e12, -1, 1.5, 1e308, '5', null, Number.MAX_SAFE_INTEGER),
)
const windows = fc.record({ tokens: amount, requests: amount, days: fc.constantFrom(0, 0, -1, 1) })
const bodies = fc.array(
  fc.dictionary(fc.constantFrom(MODEL, 'other', 'constructor', '*', 'a b'), windows),
  { minLength: 1, maxLength: 6 },
)

test.each([
  ['the database', 'node', {}],
  ['the database, from workerd', 'workerd', {}],
  ['the file', 'node', FILE],
] as const)('whatever is reported, %s keeps charges, limits and totals', async (_, kind, vars) => {
  const gateway = await world.gateway(kind, { ...LIMITED, ...vars })
  let n = 0
  await fc.assert(
    fc.asyncProperty(bodies, async (reports) => {
      const user = `user-${(n += 1)}`
      await call(gateway, user, vars !== FILE)
      await expect
        .poll(() => charged(gateway))
        .toMatchObject({ days: [{ exact: n, charged: 35 * n }] })
      const before = await charged(gateway)
      for (const report of reports) {
        const usage = Object.entries(report).map(([model, { tokens, requests, days }]) => [
          model,
          { day: { tokens, requests, resetAt: nextDay(Date.now()) + days * DAY_MS } },
        ])
        const { status, body } = await sync(gateway, user, Object.fromEntries(usage))
        expect([200, 400]).toContain(status)
        if (status === 200) {
          expect(body.usage).toMatchObject({
            [MODEL]: { tokensUsedDay: 35, tokensRemainingDay: 965, requestsDay: 1 },
          })
        }
      }
      expect(await charged(gateway)).toEqual(before)
    }),
    { numRuns: 12 },
  )
})
