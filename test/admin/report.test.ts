import { expect, test } from 'vitest'
import type { Admit, Command } from '../../src/ledger/commands.ts'
import type { Reported } from '../../src/ledger/answers.ts'
import { newDay, newProfile, newRow, newUsage } from '../../src/ledger/new-documents.ts'
import type { Limits, ModelLimits } from '../../src/ledger/policy.ts'
import type { Amounts } from '../../src/ledger/units.ts'
import type {
  Block,
  DayDoc,
  DayRow,
  QuotaDoc,
  ThinRow,
  UsageDoc,
} from '../../src/ledger/documents.ts'
import type { User } from '../../src/store/store.ts'
import {
  inOrder,
  modelStats,
  quotasToday,
  syncReport,
  tokensLeftToday,
  userLimits,
  userReport,
} from '../../src/reports/usage.ts'
import { keysReport } from '../../src/reports/people.ts'
import { amounts } from '../support/amounts.ts'
import { admitOf, failureOf, NOON, settleOf } from '../support/commands.ts'
import { usedToday, windowsOf } from '../support/seed.ts'
import { reducerState } from '../support/state.ts'

const DAY = 86_400_000
const LIMITS: ModelLimits = {
  default: { tokensPerDay: 1000, requestsPerDay: 10 },
  total: { tokensPerDay: 1500, requestsPerDay: 20 },
  models: { 'a/one': { tokensPerDay: 500, requestsPerDay: 5 } },
}

type Fields = Partial<UsageDoc> & { rows?: Record<string, ThinRow> }

const userOf = (
  { rows = {}, ...fields }: Fields = {},
  blocks: Record<string, Block> = {},
): User => ({
  usage: { ...newUsage('alice', NOON), ...usedToday(rows, NOON), ...fields },
  profile: { ...newProfile('alice'), blocks },
})

const rowOf = (charged: number, fields = {}) => ({ ...newRow(), requests: 1, charged, ...fields })

const modelsOf = (user: User, limits = LIMITS, now = NOON) => userReport(user, limits, now).models
const blockedOf = (blocks: Record<string, Block>, rows = { 'a/one': newRow() }) =>
  modelsOf(userOf({ rows }, blocks)).map(({ model, blocked, blockReason, blockedUntil }) => [
    model,
    blocked,
    blockReason,
    blockedUntil,
  ])

/** A user after some commands. */
function after(...commands: Command[]): User {
  const state = reducerState({ userDays: 7 })
  for (const command of commands) state.do(command)
  const usage = state.usage.get('alice')
  if (!usage) throw new Error('Nobody was admitted.')
  return { usage, profile: newProfile('alice') }
}

test('a request that never ended is reported as lost when it can no longer be running', () => {
  const admit = admitOf({ id: '1' })
  const told = (now: number) =>
    modelsOf(after(admit), LIMITS, now).map(({ running, lost }) => [running, lost])
  expect(told(NOON + admit.lasts - 1)).toEqual([[1, 0]])
  expect(told(NOON + admit.lasts)).toEqual([[0, 1]])
})

test('running requests of another model, or of yesterday, do not count for a model without any', () => {
  const reserved = amounts(1, 100)
  const lease = {
    model: 'a/one',
    at: NOON,
    reserved,
    until: NOON + 1,
    windows: { day: 1 },
  } as const
  const told = (one: UsageDoc['leases'][string]) =>
    modelsOf(userOf({ rows: { 'a/one': rowOf(100) }, leases: { 1: one } })).map(
      ({ running, lost }) => [running, lost],
    )
  expect(told(lease)).toEqual([[1, 0]])
  expect(told({ ...lease, model: 'b/two' })).toEqual([[0, 1]])
  expect(told({ ...lease, at: NOON - DAY })).toEqual([[0, 1]])
})

test('a request that has been running since yesterday does not count today', () => {
  const { usage } = after(admitOf({ id: '1', lasts: DAY }))
  const user = { usage, profile: { ...newProfile('alice'), blocks: { 'a/one': { at: 1 } } } }
  expect(modelsOf(user, LIMITS, NOON)).toMatchObject([{ requestsDay: 1, running: 1, lost: 0 }])
  const tomorrow = NOON + DAY / 2 + 1
  expect(modelsOf(user, LIMITS, tomorrow)).toMatchObject([{ requestsDay: 0, running: 0, lost: 0 }])
})

test('browser reports are shown beside the metered usage, for today only', () => {
  const user = userOf({
    rows: { 'a/one': rowOf(30) },
    reported: { 'a/one': { tokens: 40, requests: 2 }, 'b/two': { tokens: 7, requests: 1 } },
  })
  const told = (now: number) =>
    modelsOf(user, LIMITS, now).map((row) => [
      row.model,
      row.tokensUsedDay,
      row.reportedTokensDay,
      row.reportedRequestsDay,
    ])
  expect(told(NOON)).toEqual([
    ['a/one', 30, 40, 2],
    ['b/two', 0, 7, 1],
  ])
  expect(told(NOON + DAY)).toEqual([])
})

test('reports the requests of a user', () => {
  const done = admitOf({ id: '1' })
  const broken = admitOf({ id: '2' })
  const failed = admitOf({ id: '3' })
  const user = after(
    { ...done, ip: '192.0.2.7' },
    broken,
    failed,
    admitOf({ id: '4' }),
    settleOf(done, { charged: 130, prompt: 100, completion: 30 }),
    settleOf(broken, { outcome: 'estimated', charged: 40 }),
    failureOf(failed),
  )
  expect(userReport(user, LIMITS, NOON + 2000)).toEqual({
    userId: 'alice',
    label: null,
    plan: 'default',
    ipAddress: '192.0.2.7',
    lastActive: NOON + 1000,
    monthCostUsd: null,
    models: [
      {
        model: 'a/one',
        tokensUsedDay: 270,
        tokensRemainingDay: 230,
        requestsDay: 4,
        exact: 1,
        estimated: 1,
        failed: 1,
        running: 1,
        lost: 0,
        reservedTokens: 100,
        overReservation: 30,
        audioSecondsDay: 0,
        charactersDay: 0,
        costUsd: null,
        reportedTokensDay: null,
        reportedRequestsDay: null,
        blocked: false,
        blockReason: null,
        blockedUntil: null,
      },
    ],
  })
})

const PRICE = { input: 75_000, output: 300_000 }
/** Reserves 10 tokens of input and 90 of output: 27,750 nano-USD. */
const priced = (id: string, fields: Partial<Admit> = {}) =>
  admitOf({ id, completion: 90, price: PRICE, ...fields })
/** Is charged 10 tokens of input and 5 of output: 2,250 nano-USD. */
const COSTS = { reservedCost: '27750', cost: '2250' }

test('a cost is what was recorded, without what running requests reserve', () => {
  const done = priced('1')
  const user = after(done, settleOf(done, COSTS), priced('2'))
  const dear = { 'a/one': { input: 9_000_000, output: 9_000_000 } }
  for (const prices of [{}, dear]) {
    expect(userReport(user, LIMITS, NOON, 'default', prices)).toMatchObject({
      monthCostUsd: 0.00000225,
      models: [{ tokensUsedDay: 115, reservedTokens: 100, costUsd: 0.00000225 }],
    })
  }
})

test('a cost is null where no price was known, and 0 for a free model or without a charge', () => {
  const done = admitOf({ id: '1' })
  const costs = (user: User, prices = {}) => {
    const { monthCostUsd, models } = userReport(user, LIMITS, NOON, 'default', prices)
    return [monthCostUsd, ...models.map(({ costUsd }) => costUsd)]
  }
  const user = after(done, settleOf(done))
  expect(costs(user)).toEqual([null, null])
  expect(costs(user, { 'a/one': PRICE })).toEqual([null, null])
  expect(costs(user, { 'a/one': { input: 0, output: 0 } })).toEqual([0, 0])
  expect(costs(after(admitOf({ id: '1' })))).toEqual([0, 0])
  const other = priced('2', { model: 'b/two' })
  expect(costs(after(done, settleOf(done), other, settleOf(other, COSTS)))).toEqual([
    0.00000225,
    null,
    0.00000225,
  ])
})

test('the month of a user continues through its days, and the next one begins with nothing', () => {
  const done = priced('1')
  const user = after(done, settleOf(done, COSTS))
  const at = (now: number) => {
    const { monthCostUsd, models } = userReport(user, LIMITS, now)
    return [monthCostUsd, models.length]
  }
  expect(at(Date.UTC(2026, 10, 30, 23, 59, 59))).toEqual([0.00000225, 0])
  expect(at(Date.UTC(2026, 11, 1))).toEqual([0, 0])
})

test('what is used and what is reserved of a limit are apart, and at midnight both end', () => {
  const done = admitOf({ id: '1', lasts: DAY })
  const { usage } = after(done, settleOf(done), admitOf({ id: '2', lasts: DAY }))
  const lines = (now: number) =>
    userLimits(usage, 'a/one', LIMITS, now).map(({ used, reserved, left }) => [
      used,
      reserved,
      left,
    ])
  expect(lines(NOON + 5000)).toEqual([
    [1, 1, 3],
    [15, 100, 385],
  ])
  expect(lines(NOON + DAY / 2)).toEqual([
    [0, 0, 5],
    [0, 0, 500],
  ])
})

test('what a key was charged this month is told with the key', () => {
  const done = priced('1')
  const { usage } = after(done, settleOf(done, { ...COSTS, key: 'abc' }))
  const key = { hash: '', start: 'weir_1', last4: 'abcd', created: 1 }
  const told = (at: number) =>
    keysReport({ id: 'alice', keys: { abc: key, other: key } }, at, usage).map(
      ({ monthCostUsd }) => monthCostUsd,
    )
  expect(told(NOON)).toEqual([0.00000225, 0])
  expect(told(Date.UTC(2026, 11, 1))).toEqual([0, 0])
})

test('reports a user without address and without usage', () => {
  expect(userReport(userOf(), LIMITS, NOON)).toEqual({
    userId: 'alice',
    label: null,
    plan: 'default',
    ipAddress: null,
    lastActive: NOON,
    monthCostUsd: 0,
    models: [],
  })
})

test('reports a user who was blocked before the first call', () => {
  const usage = newUsage('alice', 0)
  const profile = { ...newProfile('alice'), blocks: { '*': { at: NOON, reason: 'spam' } } }
  expect(userReport({ usage, profile }, LIMITS, NOON)).toMatchObject({
    lastActive: null,
    models: [{ model: '*', tokensUsedDay: 0, tokensRemainingDay: 1500, blockReason: 'spam' }],
  })
})

test.each([
  ['a/one', 400, LIMITS, 100],
  ['a/one', 500, LIMITS, 0],
  ['a/one', 700, LIMITS, 0],
  ['b/two', 400, LIMITS, 600],
  ['constructor', 400, LIMITS, 600],
  ['__proto__', 400, LIMITS, 600],
  ['a/one', 400, { models: {} }, null],
  ['a/one', 400, { total: { requestsPerDay: 9, tokensPerMinute: 5 }, models: {} }, null],
])('after %s of %i tokens, reports the rest (%#)', (model, charged, limits, left) => {
  const rows = JSON.parse(JSON.stringify({ [model]: rowOf(charged) })) as Record<string, ThinRow>
  expect(modelsOf(userOf({ rows }), limits)).toMatchObject([
    { model, tokensUsedDay: charged, tokensRemainingDay: left },
  ])
})

test('begins a new day at midnight UTC', () => {
  const user = userOf({ rows: { 'a/one': rowOf(400) } }, { 'a/one': { at: 1 } })
  const midnight = Date.UTC(2026, 10, 23)
  const left = (now: number) => modelsOf(user, LIMITS, now).map((row) => row.tokensRemainingDay)
  expect(left(midnight - 1)).toEqual([100])
  expect(left(midnight)).toEqual([500])
  const unblocked = { ...user, profile: newProfile('alice') }
  expect(modelsOf(unblocked, LIMITS, midnight)).toEqual([])
})

test('reports blocked models without usage today', () => {
  const user = userOf(
    {
      date: '2026-11-21',
      ...usedToday({ 'a/one': rowOf(400) }, NOON - DAY),
    },
    { 'b/two': { at: 1, reason: 'spam', until: NOON + 1 } },
  )
  expect(modelsOf(user)).toMatchObject([
    {
      model: 'b/two',
      tokensUsedDay: 0,
      tokensRemainingDay: 1000,
      requestsDay: 0,
      blocked: true,
      blockReason: 'spam',
      blockedUntil: NOON + 1,
    },
  ])
})

test.each<[string, Record<string, Block>, unknown[]]>([
  ['none', {}, [['a/one', false, null, null]]],
  ['of the model', { 'a/one': { at: 1 } }, [['a/one', true, null, null]]],
  [
    'of another model',
    { 'b/two': { at: 1 } },
    [
      ['a/one', false, null, null],
      ['b/two', true, null, null],
    ],
  ],
  [
    'of all models',
    { '*': { at: 1, reason: 'spam' } },
    [
      ['a/one', true, 'spam', null],
      ['*', true, 'spam', null],
    ],
  ],
  ['that has ended', { 'a/one': { at: 1, until: NOON } }, [['a/one', false, null, null]]],
  ['of all models that has ended', { '*': { at: 1, until: 5 } }, [['a/one', false, null, null]]],
  [
    'of all models beside one of the model that has ended',
    { 'a/one': { at: 1, reason: 'old', until: NOON }, '*': { at: 1, reason: 'spam' } },
    [
      ['a/one', true, 'spam', null],
      ['*', true, 'spam', null],
    ],
  ],
])('reports blocks in force: %s', (_, blocks, expected) => {
  expect(blockedOf(blocks)).toEqual(expected)
})

test.each(['constructor', '__proto__'])('reports a block for a model named %s', (model) => {
  const blocks = JSON.parse(`{"${model}":{"at":1}}`) as Record<string, Block>
  expect(modelsOf(userOf({}, blocks))).toMatchObject([
    { model, tokensUsedDay: 0, tokensRemainingDay: 1000, running: 0, blocked: true },
  ])
})

test('computes the rest for all models from the usage of all models', () => {
  const rows = { 'a/one': rowOf(300), 'b/two': rowOf(200) }
  const user = userOf({ rows }, { '*': { at: 1 } })
  expect(modelsOf(user)).toMatchObject([
    { model: 'a/one', tokensRemainingDay: 200 },
    { model: 'b/two', tokensRemainingDay: 800 },
    { model: '*', tokensUsedDay: 0, tokensRemainingDay: 1000, requestsDay: 0 },
  ])
  const scarce = { ...LIMITS, total: { tokensPerDay: 600 } }
  expect(modelsOf(user, scarce).map((row) => row.tokensRemainingDay)).toEqual([100, 100, 100])
  expect(modelsOf(user, { ...LIMITS, total: undefined })[2]).toMatchObject({
    tokensRemainingDay: null,
  })
})

const standing = (model: string, limits: Limits | undefined, used: Amounts) =>
  ({ of: 'user', model, limits: limits ?? {}, used: { day: used } }) as const

test('reports to a browser the counts of known and requested models, and blocks', () => {
  const one = LIMITS.models['a/one']
  const other = LIMITS.default
  const blocks = { 'b/two': { at: 1, until: NOON + 1, reason: 'spam' }, '*': { at: 1 } }
  const nothing = amounts(0, 0)
  const reported: Reported = {
    ok: true,
    at: NOON,
    known: true,
    models: {
      'a/one': standing('a/one', one, amounts(3, 300)),
      'b/two': standing('b/two', other, amounts(1, 200)),
      'c/new': standing('c/new', other, nothing),
      constructor: standing('constructor', other, nothing),
    },
    total: standing('*', { tokensPerDay: 1100 }, amounts(4, 500)),
    blocks,
  }
  const resetAt = Date.UTC(2026, 10, 23)
  const used = (tokensUsedDay: number, tokensRemainingDay: number) => ({
    tokensUsedDay,
    tokensReservedDay: 0,
    tokensRemainingDay,
  })
  expect(syncReport(reported)).toEqual({
    usage: {
      'a/one': { ...used(300, 200), requestsDay: 3, resetAt },
      'b/two': { ...used(200, 600), requestsDay: 1, resetAt },
      'c/new': { ...used(0, 600), requestsDay: 0, resetAt },
      constructor: { ...used(0, 600), requestsDay: 0, resetAt },
    },
    blocked: [
      { model: 'b/two', reason: 'spam', until: NOON + 1 },
      { model: '*', reason: null, until: null },
    ],
  })
})

test('reports to a browser the answer of a ledger, with the limits of that answer', () => {
  const state = reducerState({ userDays: 7 })
  state.do(admitOf({ id: '1' }))
  const models = { 'b/two': { tokens: 5, requests: 1, resetAt: Date.UTC(2026, 10, 23) } }
  const report = { op: 'report', now: NOON, user: 'alice', models, limits: LIMITS } as const
  const { usage } = syncReport(state.do(report) as Reported)
  expect(usage).toMatchObject({
    'a/one': { tokensUsedDay: 0, tokensReservedDay: 100, tokensRemainingDay: 400, requestsDay: 1 },
    'b/two': { tokensUsedDay: 0, tokensRemainingDay: 1000, requestsDay: 0 },
  })
  const unlimited = { ...report, limits: { models: {} } }
  expect(syncReport(state.do(unlimited) as Reported).usage).toMatchObject({
    'a/one': { tokensReservedDay: 100, tokensRemainingDay: null },
  })
})

test('the rest is the smallest rest of the limits of the day, for tokens only', () => {
  const used = amounts(9, 40)
  const left = (...limits: Limits[]) =>
    tokensLeftToday(
      limits.map((one) => standing('a/one', one, used)),
      NOON,
    )
  expect(left({ tokensPerDay: 100 }, { tokensPerDay: 50 })).toBe(10)
  expect(left({ tokensPerDay: 30 })).toBe(0)
  expect(left({ requestsPerDay: 9, tokensPerMinute: 1 })).toBeNull()
  expect(left()).toBeNull()
})

test.each(['lastActive', 'tokens'] as const)(
  'a page sorts its users by their present numbers: %s',
  (sort) => {
    const one = (id: string, seen: number, charged: number, date = '2026-11-22'): User => {
      const used = usedToday({ 'a/one': rowOf(charged) }, NOON)
      return { usage: { ...newUsage(id, NOON), ...used, seen, date }, profile: newProfile(id) }
    }
    const users = [
      one('a', NOON - 5, 30),
      one('b', NOON - 3, 10),
      one('c', NOON - 3, 20),
      one('d', NOON - DAY, 99, '2026-11-21'),
    ]
    const ids = (ascending: boolean, of = users) =>
      inOrder(of, { sort, ascending, now: NOON }).map(({ usage }) => usage.id)
    const expected = sort === 'tokens' ? ['a', 'c', 'b', 'd'] : ['c', 'b', 'a', 'd']
    expect(ids(false)).toEqual(expected)
    expect(ids(true)).toEqual(expected.toReversed())
    expect(ids(false, users.toReversed())).toEqual(expected)
  },
)

const dayRow = (charged: number, fields: Partial<DayRow> = {}): DayRow => ({
  requests: 2,
  exact: 2,
  estimated: 0,
  failed: 0,
  charged,
  prompt: 0,
  cached: 0,
  completion: 0,
  overReservation: 0,
  cost: 0,
  users: 1,
  hours: {},
  at: NOON,
  ...fields,
})

const dayOf = (date: string, models: DayDoc['models']): DayDoc => ({
  ...newDay(date),
  total: dayRow(0),
  models,
})

const today = (models: DayDoc['models']) => dayOf('2026-11-22', models)

const quotasOf = (used: Record<string, Amounts>, at = NOON): Record<string, QuotaDoc> =>
  Object.fromEntries(
    Object.entries(used).map(([model, amounts]) => [
      model,
      { v: 2, at, windows: windowsOf(amounts, at) },
    ]),
  )

const termsOf = (limits: ModelLimits) => ({ limits, prices: {} })

const NOBODY: ModelLimits = { models: {} }
/** Everyone's limits have no row for models without one. */
const EVERYONE: ModelLimits = { total: LIMITS.total, models: LIMITS.models }

test('reports the usage of each model, today and on past days', () => {
  const days = [
    today({ 'a/one': dayRow(100, { users: 3, cost: 2_000_000_001 }) }),
    dayOf('2026-11-21', {
      'a/one': dayRow(50, { at: NOON - DAY, cost: 500_000_000 }),
      'b/two': dayRow(7, { at: NOON - DAY + 5 }),
    }),
  ]
  expect(modelStats(days, {}, termsOf(NOBODY), NOON)).toEqual([
    {
      model: 'a/one',
      tokensUsedDay: 100,
      tokensRemainingDay: null,
      requestsDay: 2,
      totalTokensUsed: 150,
      totalRequests: 4,
      activeUsers: 3,
      audioSecondsDay: 0,
      charactersDay: 0,
      costUsd: 2.000000001,
      totalCostUsd: 2.500000001,
      lastUpdated: NOON,
    },
    {
      model: 'b/two',
      tokensUsedDay: 0,
      tokensRemainingDay: null,
      requestsDay: 0,
      totalTokensUsed: 7,
      totalRequests: 2,
      activeUsers: 0,
      audioSecondsDay: 0,
      charactersDay: 0,
      costUsd: 0,
      totalCostUsd: null,
      lastUpdated: NOON - DAY + 5,
    },
  ])
})

test('reports nothing for no days', () => {
  expect(modelStats([], {}, termsOf(EVERYONE), NOON)).toEqual([])
  expect(modelStats([today({})], {}, termsOf(EVERYONE), NOON)).toEqual([])
})

test.each([
  ['what is used, reservations included', quotasOf({ 'a/one': amounts(5, 450) }), 50],
  ['nothing where nothing is counted', {}, 500],
  ['no more than there is', quotasOf({ 'a/one': amounts(5, 600) }), 0],
  ['a day that has ended', quotasOf({ 'a/one': amounts(5, 450) }, NOON - DAY), 500],
])("takes from everyone's limit %s", (_, quotas, left) => {
  const days = [today({ 'a/one': dayRow(100), 'b/two': dayRow(100) })]
  const [one, two] = modelStats(days, quotas, termsOf(EVERYONE), NOON)
  expect(one).toMatchObject({ model: 'a/one', tokensUsedDay: 100, tokensRemainingDay: left })
  expect(two).toMatchObject({ model: 'b/two', tokensRemainingDay: null })
})

test("leaves all of everyone's limit on a new day", () => {
  const quotas = quotasOf({ 'a/one': amounts(1, 100) })
  const [one] = modelStats([today({ 'a/one': dayRow(100) })], quotas, termsOf(EVERYONE), NOON + DAY)
  expect(one).toMatchObject({ tokensUsedDay: 0, tokensRemainingDay: 500, totalTokensUsed: 100 })
})

test('counters of everyone are reported for today only', () => {
  const used = amounts(1, 100, 2_500_000_000)
  const quotas = { ...quotasOf({ '*': used }), ...quotasOf({ old: used }, NOON - DAY) }
  expect(quotasToday(quotas, NOON)).toEqual({
    '*': { ...used, usd: 2.5 },
    old: amounts(0, 0),
  })
})

test.each(['constructor', '__proto__', 'toString'])(
  'takes %s for a model like any other',
  (model) => {
    const models = JSON.parse(JSON.stringify({ [model]: dayRow(100) })) as DayDoc['models']
    const days = [today(models), dayOf('2026-11-21', { 'a/one': dayRow(1) })]
    expect(modelStats(days, {}, termsOf(EVERYONE), NOON)).toMatchObject([
      { model, tokensUsedDay: 100, totalTokensUsed: 100, tokensRemainingDay: null },
      { model: 'a/one', tokensUsedDay: 0, totalTokensUsed: 1 },
    ])
  },
)
