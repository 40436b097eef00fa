import { createLog } from '../../src/log.ts'
import { expect, test } from 'vitest'
import { readConfig, type Vars } from '../../src/config/config.ts'
import { ApiError } from '../../src/errors.ts'
import { createGate, type Entrant } from '../../src/gateway/gate.ts'
import { createRefusalCounter } from '../../src/gateway/refusal-counts.ts'
import type { Admit, Command } from '../../src/ledger/commands.ts'
import type { Admitted, Refusal } from '../../src/ledger/answers.ts'
import type { FallbackStore } from '../../src/store/fallback/store.ts'
import { NewerError, StoreError } from '../../src/store/store.ts'

const NOON = Date.UTC(2026, 10, 22, 12)
const MIDNIGHT = Date.UTC(2026, 10, 23)

type Limit = Extract<Refusal, { reason: 'limit' }>

const ADMITTED: Admitted = {
  ok: true,
  at: NOON,
  limits: [
    {
      of: 'user',
      model: 'a/one',
      limits: { tokensPerDay: 200_000 },
      used: { day: { tokens: 100, requests: 1, usd: 0 } },
    },
  ],
}
const BLOCKED: Refusal = { ok: false, reason: 'blocked', model: '*' }
const SPENT: Limit = {
  ok: false,
  reason: 'limit',
  of: 'user',
  model: 'a/one',
  window: 'day',
  unit: 'tokens',
  limit: 200_000,
  used: 199_950,
  asked: 100,
  resetAt: MIDNIGHT,
}
const MINUTE: Limit = { ...SPENT, window: 'minute', limit: 1000, used: 950, resetAt: NOON + 20_000 }

/** A store with this `admit`. The gate uses nothing else. */
const storeOf = (admit: (command: Admit) => Promise<Admitted | Refusal>) => ({
  execute: ((command: Command) =>
    command.op === 'admit'
      ? admit(command)
      : Promise.reject(new Error('The gate only admits.'))) as FallbackStore['execute'],
})

const log = createLog({ level: 'silent', format: 'json', write: () => undefined })

const gateOf = (store: ReturnType<typeof storeOf>, now: () => number, vars: Vars = {}) =>
  createGate({ config: readConfig(vars, 'node'), now, log }, store, createRefusalCounter(now))

/** A request whose client sent a maximum of completion tokens, so that its reservation is not cut. */
const of = (tokens: number): Entrant['reservation'] => ({ tokens, completion: 0, sent: 0 })

type Asking = Partial<Entrant> & { user?: string; reserved?: number }

/** A gate with a store that returns `answer`. The test sets the clock. */
function world(vars: Vars = {}) {
  const asked: Admit[] = []
  const state: { now: number; answer: Admitted | Refusal } = { now: NOON, answer: ADMITTED }
  const store = storeOf((command) => {
    asked.push(command)
    return Promise.resolve(state.answer)
  })
  const gate = gateOf(store, () => state.now, vars)
  const enter = (fields: Asking = {}) => {
    const { user = 'alice', reserved = 100, ...entrant } = fields
    const reservation = of(reserved)
    return gate({ id: 'id', caller: { id: user }, model: 'a/one', reservation, ...entrant })
  }
  const refusal = async (fields?: Parameters<typeof enter>[0]): Promise<ApiError> => {
    const error: unknown = await enter(fields).then(
      () => new Error('It was admitted.'),
      (error: unknown) => error,
    )
    if (error instanceof ApiError) return error
    throw error
  }
  return { state, asked, enter, refusal, gate }
}

test('asks the store with everything that it needs, and passes its answer on', async () => {
  const row = (tokensPerDay: number) => ({ tokensPerDay, requestsPerDay: 5 })
  const { enter, asked } = world({
    MODEL_LIMITS: JSON.stringify({ '*': row(1), total: row(2), 'a/one': row(3) }),
    GLOBAL_LIMITS: JSON.stringify({ total: row(4), 'a/one': row(5) }),
    REQUEST_SECONDS: '60',
  })
  expect(await enter({ caller: { id: 'alice', ip: '192.0.2.7' } })).toBe(ADMITTED)
  expect(asked).toEqual([
    {
      op: 'admit',
      id: 'id',
      user: 'alice',
      ip: '192.0.2.7',
      model: 'a/one',
      reserved: 100,
      completion: 0,
      maximum: 0,
      now: NOON,
      lasts: 60_000,
      limits: { model: row(3), total: row(2) },
      everyone: { total: row(4), model: row(5) },
    },
  ])
})

test.each(['b/two', 'constructor', '__proto__', 'total'])(
  'gives the model %s the limits of every model without a row',
  async (model) => {
    const { enter, asked } = world()
    await enter({ model })
    expect(asked[0]).toMatchObject({
      limits: { model: { tokensPerDay: 200_000, requestsPerDay: 1000 } },
      everyone: { total: { tokensPerDay: 2_000_000 } },
    })
    expect(asked[0]?.everyone?.model).toBeUndefined()
    expect(asked[0]).not.toHaveProperty('ip')
  },
)

test('sends no limits of everyone if there are none', async () => {
  const { enter, asked } = world({ GLOBAL_LIMITS: '{}' })
  await enter()
  expect(asked[0]).not.toHaveProperty('everyone')
})

test('reports the limits of the answer, with any configuration', async () => {
  const { state, refusal } = world({
    MODEL_LIMITS: '{"*":{"tokensPerDay":5,"requestsPerDay":5}}',
    GLOBAL_LIMITS: '{}',
  })
  state.answer = SPENT
  expect((await refusal()).message).toContain('50 tokens of your 200,000 tokens a day')
  state.now += 2000
  state.answer = { ...MINUTE, of: 'everyone', model: 'b/two' }
  expect((await refusal()).message).toContain(
    "of b/two, and 50 tokens of everyone's 1,000 tokens a minute",
  )
})

test.each([
  ['the store did not answer', new StoreError('gone')],
  ['the store cannot run the command', new NewerError('newer')],
])('passes on that %s, and does not remember it', async (_, error) => {
  let calls = 0
  const failing = storeOf(() => (calls++, Promise.reject(error)))
  const gate = gateOf(failing, () => NOON)
  const entrant = { id: 'id', caller: { id: 'alice' }, model: 'a/one', reservation: of(100) }
  await expect(gate(entrant)).rejects.toBe(error)
  await expect(gate(entrant)).rejects.toBe(error)
  expect(calls).toBe(2)
})

test('never remembers an admission', async () => {
  const { enter, asked } = world()
  await enter()
  await enter()
  expect(asked).toHaveLength(2)
})

test.each<[string, Refusal, number]>([
  ['a block', BLOCKED, 2000],
  ['a block that ends later', { ...BLOCKED, until: NOON + 2001 }, 2000],
  ['a block that ends sooner', { ...BLOCKED, until: NOON + 700 }, 700],
  ['a block that has just ended', { ...BLOCKED, until: NOON }, 0],
  ['a spent day', SPENT, 2000],
  ['a spent day just before midnight', { ...SPENT, resetAt: NOON + 3 }, 3],
  ['a spent minute', { ...MINUTE, resetAt: NOON + 900 }, 900],
  ['a refusal by a clock that is behind', { ...MINUTE, resetAt: NOON - 5000 }, 0],
])('remembers %s for the right time', async (_, answer, ms) => {
  const { state, asked, refusal, enter } = world()
  state.answer = answer
  const first = await refusal()
  state.answer = ADMITTED
  if (ms > 0) {
    state.now = NOON + ms - 1
    expect((await refusal()).code).toBe(first.code)
    expect(asked).toHaveLength(1)
  }
  state.now = NOON + ms
  await enter()
  expect(asked).toHaveLength(2)
})

test('does not remember longer after further requests', async () => {
  const { state, asked, refusal } = world()
  state.answer = BLOCKED
  for (state.now = NOON; state.now < NOON + 10_000; state.now += 100) await refusal()
  expect(asked.map(({ now }) => now - NOON)).toEqual([0, 2000, 4000, 6000, 8000])
})

test('remembers from the time of the answer, also of a slow store', async () => {
  const asked: number[] = []
  let now = NOON
  const slow = storeOf(() => {
    asked.push(now)
    now += 1500
    return Promise.resolve(BLOCKED)
  })
  const gate = gateOf(slow, () => now)
  const entrant = { id: 'id', caller: { id: 'alice' }, model: 'a/one', reservation: of(100) }
  for (let i = 0; i < 8; i += 1, now += 500) await gate(entrant).catch(() => undefined)
  expect(asked).toEqual([NOON, NOON + 3500])
})

test.each<[string, Refusal, Asking]>([
  ['another user', BLOCKED, { user: 'bob' }],
  ['another user', SPENT, { user: 'bob' }],
  ['another model', BLOCKED, { model: 'b/two' }],
  ['another model', SPENT, { model: 'b/two' }],
  ['a smaller request', SPENT, { reserved: 99 }],
  ['a smaller request', MINUTE, { reserved: 99 }],
])('asks the store again for %s', async (_, answer, fields) => {
  const { state, asked, refusal, enter } = world()
  state.answer = answer
  await refusal()
  state.answer = ADMITTED
  await enter(fields)
  expect(asked).toHaveLength(2)
  await refusal()
  expect(asked).toHaveLength(2)
})

test.each<[string, Refusal, number]>([
  ['the same', SPENT, 100],
  ['a larger one', SPENT, 101],
  ['a larger one', MINUTE, 5000],
  ['any', BLOCKED, 1],
])('refuses %s without asking the store', async (_, answer, reserved) => {
  const { state, asked, refusal } = world()
  state.answer = answer
  const first = await refusal()
  state.answer = ADMITTED
  expect((await refusal({ reserved })).code).toBe(first.code)
  expect(asked).toHaveLength(1)
})

test('shows a larger request its own amount', async () => {
  const { state, refusal } = world()
  state.answer = SPENT
  expect((await refusal()).message).toContain('may need up to 100 tokens')
  expect((await refusal({ reserved: 5000 })).message).toContain('may need up to 5,000 tokens')

  state.now += 5000
  state.answer = MINUTE
  expect((await refusal()).headers).toHaveProperty('retry-after')
  const never = await refusal({ reserved: 1001 })
  expect(never.headers).toEqual({ 'x-should-retry': 'false' })
  expect(never.message).toContain('1,001')
})

test('counts one request for any number of tokens', async () => {
  const { state, refusal } = world()
  state.answer = { ...SPENT, unit: 'requests', limit: 10, used: 10, asked: 1 }
  for (const reserved of [100, 5000]) {
    expect((await refusal({ reserved })).message).toContain('All of your 10 requests')
  }
})

test('remembers a block and a limit at once', async () => {
  const { state, asked, refusal, enter } = world()
  state.answer = { ...SPENT, asked: 1000 }
  await refusal({ reserved: 1000 })
  state.answer = BLOCKED
  expect((await refusal({ reserved: 10 })).code).toBe('user_blocked')
  state.answer = ADMITTED
  expect((await refusal({ reserved: 1000 })).code).toBe('user_blocked')
  expect((await refusal({ reserved: 1 })).code).toBe('user_blocked')
  expect(asked).toHaveLength(2)
  state.now += 2000
  await enter({ reserved: 1000 })
})

test('uses a smaller refused request also for larger ones', async () => {
  const { state, asked, refusal } = world()
  state.answer = { ...SPENT, asked: 1000 }
  await refusal({ reserved: 1000 })
  state.answer = { ...SPENT, asked: 400 }
  await refusal({ reserved: 400 })
  await refusal({ reserved: 500 })
  await refusal({ reserved: 1000 })
  expect(asked.map(({ reserved }) => reserved)).toEqual([1000, 400])
})

/** A request whose client sent no maximum: 100 tokens of a prompt, and up to 2,500 of each completion. */
const open = (prompt: number, count = 1): Entrant['reservation'] => ({
  tokens: prompt + count * 2500,
  completion: count * 2500,
  room: { field: 'max_completion_tokens', isNull: false, completions: count, tokens: 2500 },
})
const USD: Limit = { ...SPENT, unit: 'usd', limit: 1_000_000, used: 900_000 }
const PRICES = { MODEL_PRICES: '{"a/one":{"input":1,"output":2}}' }

test.each<[string, Limit, Entrant['reservation'], Entrant['reservation'], boolean]>([
  ['the same', { ...SPENT, asked: 456 }, open(200), open(200), true],
  ['a larger prompt', { ...SPENT, asked: 456 }, open(200), open(201), true],
  ['a smaller prompt', { ...SPENT, asked: 456 }, open(200), open(199), false],
  ['more completions', { ...SPENT, asked: 456 }, open(200), open(100, 2), true],
  ['a maximum that is larger than the least', { ...SPENT, asked: 456 }, open(200), of(456), true],
  ['a maximum that is smaller', { ...SPENT, asked: 456 }, open(200), of(455), false],
  ['no maximum after a large one', { ...SPENT, asked: 2700 }, of(2700), open(200), false],
  ['no maximum after a small one', { ...SPENT, asked: 456 }, of(456), open(200), true],
  // A minute is not fitted, so all of the default is asked for.
  [
    'a minute: a smaller prompt',
    { ...MINUTE, limit: 9000, asked: 2700 },
    open(200),
    open(199),
    false,
  ],
  ['a minute: the same', { ...MINUTE, limit: 9000, asked: 2700 }, open(200), open(200), true],
  // A minute of less than the default is.
  ['a short minute: the same', { ...MINUTE, asked: 456 }, open(200), open(200), true],
  ['a short minute: a smaller prompt', { ...MINUTE, asked: 456 }, open(200), open(199), false],
  // A minute that fits this request is no hint of one that does not.
  [
    'a minute: a larger prompt',
    { ...MINUTE, limit: 2750, asked: 2700 },
    open(200),
    open(251),
    false,
  ],
  // The plan allows 100 completion tokens.
  ['a plan: the same', { ...SPENT, maximum: 100, asked: 300 }, open(200), open(200), true],
  ['a plan: a smaller prompt', { ...SPENT, maximum: 100, asked: 300 }, open(200), open(199), false],
  [
    'a plan: more, with less prompt',
    { ...SPENT, maximum: 100, asked: 300 },
    open(200),
    open(99, 2),
    false,
  ],
  [
    'a plan and a minute',
    { ...MINUTE, limit: 9000, maximum: 500, asked: 700 },
    open(200),
    open(199),
    false,
  ],
  // Money: $1 a million tokens of input, $2 of output.
  ['dollars: the same', { ...USD, asked: 712_000 }, open(200), open(200), true],
  ['dollars: a smaller prompt', { ...USD, asked: 712_000 }, open(200), open(199), false],
  ['dollars: more tokens for less money', { ...USD, asked: 712_000 }, open(200), of(711), false],
  ['dollars: as much money', { ...USD, asked: 712_000 }, open(200), of(712), true],
])(
  'a refusal is remembered only for requests that cannot fit either: %s',
  async (...[, answer, first, second, isRefused]) => {
    const { state, asked, refusal } = world(PRICES)
    state.answer = answer
    await refusal({ reservation: first })
    await refusal({ reservation: second })
    expect(asked).toHaveLength(isRefused ? 1 : 2)
  },
)

test('a remembered refusal tells the smallest request that fits, in the unit of the limit', async () => {
  const { state, asked, refusal } = world(PRICES)
  state.answer = { ...SPENT, asked: 456 }
  await refusal({ reservation: open(200) })
  expect((await refusal({ reservation: open(300) })).message).toContain(' 556 tokens of a/one')
  expect((await refusal({ reservation: open(300, 2) })).message).toContain(' 812 tokens of a/one')
  expect(asked).toHaveLength(1)
})

test('notices a lifted block within two seconds', async () => {
  const { state, asked, refusal, enter } = world()
  state.answer = { ...BLOCKED, until: NOON + 86_400_000 }
  await refusal()
  state.now += 500
  state.answer = ADMITTED
  const tries: boolean[] = []
  for (; state.now <= NOON + 2000; state.now += 250) {
    tries.push(
      await enter().then(
        () => true,
        () => false,
      ),
    )
  }
  expect(tries).toEqual([false, false, false, false, false, false, true])
  expect(asked).toHaveLength(2)
})

test('remembers a thousand refusals, and forgets the oldest first', async () => {
  const { state, asked, refusal } = world()
  state.answer = BLOCKED
  for (let i = 0; i < 1001; i += 1) await refusal({ user: `user-${i}` })
  expect(asked).toHaveLength(1001)
  for (let i = 1; i < 1001; i += 1) await refusal({ user: `user-${i}` })
  expect(asked).toHaveLength(1001)
  await refusal({ user: 'user-0' })
  expect(asked).toHaveLength(1002)
  await refusal({ user: 'user-1' })
  expect(asked).toHaveLength(1003)
})

test('asks the store each time about one model too many', async () => {
  const { state, asked, refusal } = world()
  state.answer = { ok: false, reason: 'models', window: 'day' }
  await refusal()
  const error = await refusal()
  expect(asked).toHaveLength(2)
  expect(error).toMatchObject({ code: 'model_not_allowed', status: 403, param: 'model' })
  expect(error.message).toBe(
    'You have used 64 different models, the maximum of a day; a/one would be one more.',
  )
})

test.each<[Refusal, string]>([
  [BLOCKED, 'You are blocked from all models.'],
  [{ ...BLOCKED, model: 'a/one' }, 'You are blocked from the model a/one.'],
  [{ ...BLOCKED, why: 'spam' }, 'You are blocked from all models: spam'],
  [
    { ...BLOCKED, model: 'a/one', why: 'spam', until: MIDNIGHT },
    'You are blocked from the model a/one until 2026-11-23T00:00:00Z: spam',
  ],
])('reports the model, the end and the reason of a block (%#)', async (answer, message) => {
  const { state, refusal } = world()
  state.answer = answer
  const error = await refusal()
  expect(error).toMatchObject({ code: 'user_blocked', status: 403, message, headers: {} })
})

const NO_RETRY = { 'x-should-retry': 'false' }
const requests = { unit: 'requests', limit: 1000, used: 1000, asked: 1 } as const

const AT_MIDNIGHT = 'They reset at 2026-11-23T00:00:00Z, in 12 hours.'
const AT_MINUTE = 'They reset at 2026-11-22T12:00:20Z, in 20 seconds.'
const NEVER = 'Waiting will not help: this is more than the whole limit.'
const LESS = 'Send less text.'
const FEWER = 'Send less text, or ask for fewer completion tokens.'
const HOUR: Partial<Limit> = { window: 'hour', resetAt: NOON + 3_600_000 }

test.each<[string, Partial<Limit>, string, object, string]>([
  [
    'the tokens of the day',
    {},
    'insufficient_quota',
    NO_RETRY,
    `This request may need up to 100 tokens of a/one, and 50 tokens of your 200,000 tokens a day are left. ${AT_MIDNIGHT}`,
  ],
  [
    'the requests of the day',
    requests,
    'insufficient_quota',
    NO_RETRY,
    `All of your 1,000 requests a day of a/one are used. ${AT_MIDNIGHT}`,
  ],
  [
    'no requests at all',
    { ...requests, limit: 0, used: 0 },
    'insufficient_quota',
    NO_RETRY,
    'No use of a/one is allowed: your limit is 0 requests a day. Waiting will not help.',
  ],
  [
    'no tokens at all, of everyone',
    { of: 'everyone', model: '*', limit: 0, used: 0 },
    'global_quota',
    NO_RETRY,
    "No use of all models together is allowed: everyone's limit is 0 tokens a day. Waiting will not help.",
  ],
  [
    'the last token',
    { used: 199_999 },
    'insufficient_quota',
    NO_RETRY,
    `This request may need up to 100 tokens of a/one, and 1 token of your 200,000 tokens a day is left. ${AT_MIDNIGHT}`,
  ],
  [
    'the only request',
    { ...requests, limit: 1, used: 1 },
    'insufficient_quota',
    NO_RETRY,
    'All of your 1 request a day of a/one is used. It resets at 2026-11-23T00:00:00Z, in 12 hours.',
  ],
  [
    'all models together',
    { model: '*' },
    'insufficient_quota',
    NO_RETRY,
    `This request may need up to 100 tokens of all models together, and 50 tokens of your 200,000 tokens a day are left. ${AT_MIDNIGHT}`,
  ],
  [
    'more than the whole day',
    { asked: 300_000 },
    'insufficient_quota',
    NO_RETRY,
    `This request may need up to 300,000 tokens of a/one, and 50 tokens of your 200,000 tokens a day are left. ${NEVER} ${LESS}`,
  ],
  [
    'a day that was overshot',
    { used: 250_000 },
    'insufficient_quota',
    NO_RETRY,
    `This request may need up to 100 tokens of a/one, and 0 tokens of your 200,000 tokens a day are left. ${AT_MIDNIGHT}`,
  ],
  [
    'the day of everyone',
    { of: 'everyone', model: '*' },
    'global_quota',
    NO_RETRY,
    `This request may need up to 100 tokens of all models together, and 50 tokens of everyone's 200,000 tokens a day are left. ${AT_MIDNIGHT}`,
  ],
  [
    'the tokens of the minute',
    MINUTE,
    'rate_limit_exceeded',
    { 'retry-after': '20' },
    `This request may need up to 100 tokens of a/one, and 50 tokens of your 1,000 tokens a minute are left. ${AT_MINUTE}`,
  ],
  [
    'the requests of the minute',
    { ...MINUTE, ...requests },
    'rate_limit_exceeded',
    { 'retry-after': '20' },
    `All of your 1,000 requests a minute of a/one are used. ${AT_MINUTE}`,
  ],
  [
    'the minute of everyone',
    { ...MINUTE, of: 'everyone' },
    'rate_limit_exceeded',
    { 'retry-after': '20' },
    `This request may need up to 100 tokens of a/one, and 50 tokens of everyone's 1,000 tokens a minute are left. ${AT_MINUTE}`,
  ],
  [
    'more than a whole minute',
    { ...MINUTE, asked: 1001 },
    'rate_limit_exceeded',
    NO_RETRY,
    `This request may need up to 1,001 tokens of a/one, and 50 tokens of your 1,000 tokens a minute are left. ${NEVER} ${LESS}`,
  ],
  [
    'the hour',
    HOUR,
    'rate_limit_exceeded',
    { 'retry-after': '3600' },
    'This request may need up to 100 tokens of a/one, and 50 tokens of your 200,000 tokens an hour are left. They reset at 2026-11-22T13:00:00Z, in 60 minutes.',
  ],
  [
    'the week',
    { window: 'week', resetAt: NOON + 6.5 * 86_400_000 },
    'insufficient_quota',
    NO_RETRY,
    'This request may need up to 100 tokens of a/one, and 50 tokens of your 200,000 tokens a week are left. They reset at 2026-11-29T00:00:00Z, in 7 days.',
  ],
  [
    'the dollars of the month',
    { ...USD, window: 'month', asked: 100_001, resetAt: Date.UTC(2026, 11) },
    'insufficient_quota',
    NO_RETRY,
    'This request may need up to $0.000101 of a/one, and $0.0001 of your $0.001 a month is left. It resets at 2026-12-01T00:00:00Z, in 9 days.',
  ],
  [
    'more dollars than the whole hour',
    { ...HOUR, ...USD, ...HOUR, limit: 2_500_000_000, used: 0, asked: 3_000_000_000 },
    'rate_limit_exceeded',
    NO_RETRY,
    `This request may need up to $3 of a/one, and $2.5 of your $2.5 an hour is left. ${NEVER} ${LESS}`,
  ],
])(
  'reports what is needed, the rest and the reset: %s',
  async (_, fields, code, headers, message) => {
    const { state, refusal } = world(PRICES)
    const answer = { ...SPENT, ...fields }
    state.answer = answer
    // A token of input costs 1,000 nano-USD, which does not give every amount.
    const { unit, asked } = answer
    const tokens = unit === 'usd' ? asked / 1000 : unit === 'tokens' ? asked : 7
    const reserved = Math.floor(tokens)
    const error = await refusal({ reserved })
    expect(error).toMatchObject({ code, status: 429, message, headers })
    expect(Object.keys(error.headers)).toEqual(Object.keys(headers))
    if (Number.isInteger(tokens)) expect(await refusal({ reserved })).toEqual(error)
  },
)

test('a request without a maximum is told what it needs at least, and what to do if waiting does not help', async () => {
  const { state, refusal } = world()
  state.answer = { ...SPENT, asked: 456 }
  expect((await refusal({ reservation: open(200) })).message).toBe(
    `This request needs at least 456 tokens of a/one, and 50 tokens of your 200,000 tokens a day are left. ${AT_MIDNIGHT}`,
  )
  state.now += 2000
  state.answer = { ...SPENT, limit: 400, used: 0, asked: 456 }
  expect((await refusal({ reservation: open(200) })).message).toBe(
    `This request needs at least 456 tokens of a/one, and 400 tokens of your 400 tokens a day are left. ${NEVER} ${FEWER}`,
  )
})

test.each<[string, Partial<Limit>, Entrant['reservation'], string]>([
  ['a chat', {}, { tokens: 300_000, completion: 1, sent: 1 }, FEWER],
  ['embeddings', {}, { tokens: 300_000, completion: 0 }, LESS],
  ['speech', USD, { tokens: 0, completion: 0, characters: 9 }, LESS],
  ['a recording', USD, { tokens: 0, completion: 0, audioMs: 20_000 }, 'Send a shorter recording.'],
])('where waiting does not help, says what does: %s', async (_, fields, reservation, help) => {
  const { state, refusal } = world(PRICES)
  state.answer = { ...SPENT, ...fields, limit: 1000, used: 0, asked: 300_000 }
  expect((await refusal({ reservation })).message).toMatch(`${NEVER} ${help}`)
})

test.each<[Refusal, string]>([
  [
    { ok: false, reason: 'running', limit: 1 },
    'At most 1 of your requests may run at once; wait until one has ended.',
  ],
  [
    { ok: false, reason: 'maximum', limit: 1 },
    'The maximum of completion tokens in a request of yours is 1; ask for fewer.',
  ],
  [
    { ok: false, reason: 'newUsers', perMinute: 1, resetAt: NOON + 20_000 },
    'New users of one network are limited to 1 a minute; try again in a minute.',
  ],
])('can be read with a limit of one (%#)', async (answer, message) => {
  const { state, refusal } = world()
  state.answer = answer
  expect((await refusal()).message).toBe(message)
})

test.each([
  [MINUTE.resetAt - 1, '1'],
  [MINUTE.resetAt - 1000, '1'],
  [MINUTE.resetAt - 1001, '2'],
  [MINUTE.resetAt - 59_999, '60'],
  [MINUTE.resetAt + 10, '1'],
])('rounds retry-after up to whole seconds, at least one (%#)', async (now, seconds) => {
  const { state, refusal } = world()
  state.now = now
  state.answer = MINUTE
  expect((await refusal()).headers).toEqual({ 'retry-after': seconds })
})

test('counts retry-after down while it remembers', async () => {
  const { state, refusal, asked } = world()
  state.answer = { ...MINUTE, resetAt: NOON + 5000 }
  expect((await refusal()).headers).toEqual({ 'retry-after': '5' })
  state.now += 1500
  expect((await refusal()).headers).toEqual({ 'retry-after': '4' })
  expect(asked).toHaveLength(1)
})
