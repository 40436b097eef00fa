import { expect, test } from 'vitest'
import { newRow } from '../src/usage/documents.ts'
import { reduce } from '../src/usage/ledger.ts'
import type { Block, Command, DayDoc, DayRow, ModelLimits, UserDoc } from '../src/usage/record.ts'
import { modelStats, syncReport, userReport } from '../src/usage/report.ts'
import { admitOf, failureOf, NOON, settleOf } from './commands.ts'

const DAY = 86_400_000
const LIMITS: ModelLimits = {
  default: { tokensPerDay: 1000, requestsPerDay: 10 },
  total: { tokensPerDay: 1500, requestsPerDay: 20 },
  models: { 'a/one': { tokensPerDay: 500, requestsPerDay: 5 } },
}

const userOf = (fields: Partial<UserDoc> = {}): UserDoc => ({
  v: 1,
  id: 'alice',
  at: NOON,
  date: '2026-11-22',
  rows: {},
  past: {},
  sessions: {},
  minute: { n: 0, rows: {} },
  leases: {},
  blocks: {},
  ...fields,
})

const rowOf = (charged: number, fields = {}) => ({ ...newRow(), requests: 1, charged, ...fields })

const modelsOf = (user: UserDoc, limits = LIMITS, now = NOON) =>
  userReport(user, limits, now).models
const blockedOf = (blocks: Record<string, Block>, rows = { 'a/one': newRow() }) =>
  modelsOf(userOf({ rows, blocks })).map(({ model, blocked, blockReason, blockedUntil }) => [
    model,
    blocked,
    blockReason,
    blockedUntil,
  ])

test('a request that never ended is told as expired once it cannot be running any more', () => {
  const running = admitOf({ id: '1' })
  const empty = { day: () => undefined, entered: () => false, erasedAt: () => undefined }
  const user = reduce(undefined, running, empty, { userDays: 7 }).user!
  const told = (now: number) =>
    userReport(user, LIMITS, now).models.map(({ unsettled, expired }) => [unsettled, expired])
  expect(told(NOON + running.lasts - 1)).toEqual([[1, 0]])
  expect(told(NOON + running.lasts)).toEqual([[1, 1]])
})

test('what runs with another model, or since yesterday, is none of a model that runs no more', () => {
  const lease = { model: 'a/one', at: NOON, bound: 100, until: NOON + 1 }
  const expired = (leases: UserDoc['leases']) =>
    modelsOf(userOf({ rows: { 'a/one': rowOf(100) }, leases })).map((row) => row.expired)
  expect(expired({ 1: lease })).toEqual([0])
  expect(expired({ 1: { ...lease, model: 'b/two' } })).toEqual([1])
  expect(expired({ 1: { ...lease, at: NOON - DAY } })).toEqual([1])
})

test('what a browser reports is told beside what was metered, of today only', () => {
  const user = userOf({
    rows: { 'a/one': rowOf(30) },
    reported: { 'a/one': { tokens: 40, requests: 2 }, 'b/two': { tokens: 7, requests: 1 } },
  })
  const told = (now: number) =>
    userReport(user, LIMITS, now).models.map((row) => [
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

test('tells of a user what their requests have done', () => {
  const done = admitOf({ id: '1' })
  const broken = admitOf({ id: '2' })
  const failed = admitOf({ id: '3' })
  const running = admitOf({ id: '4' })
  const commands: Command[] = [
    { ...done, ip: '192.0.2.7' },
    broken,
    failed,
    running,
    settleOf(done, { charged: 130, prompt: 100, completion: 30 }),
    settleOf(broken, { outcome: 'partial', charged: 40 }),
    failureOf(failed),
  ]
  const empty = { day: () => undefined, entered: () => false, erasedAt: () => undefined }
  let user: UserDoc | undefined
  for (const command of commands) {
    user = reduce(user, command, empty, { userDays: 7 }).user ?? user
  }
  if (!user) throw new Error('Nobody was admitted.')
  expect(userReport(user, LIMITS, NOON + 2000)).toEqual({
    userId: 'alice',
    ipAddress: '192.0.2.7',
    lastActive: NOON + 1000,
    models: [
      {
        model: 'a/one',
        tokensUsedDay: 270,
        tokensRemainingDay: 230,
        requestsDay: 4,
        settled: 1,
        partial: 1,
        failed: 1,
        unsettled: 1,
        heldTokens: 100,
        overshoot: 30,
        expired: 0,
        reportedTokensDay: null,
        reportedRequestsDay: null,
        blocked: false,
        blockReason: null,
        blockedUntil: null,
      },
    ],
  })
})

test('tells of a user without address and without use', () => {
  expect(userReport(userOf(), LIMITS, NOON)).toEqual({
    userId: 'alice',
    ipAddress: null,
    lastActive: NOON,
    models: [],
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
])('after a use of %s of %i tokens tells what is left (%#)', (model, charged, limits, left) => {
  const rows = JSON.parse(JSON.stringify({ [model]: rowOf(charged) })) as UserDoc['rows']
  expect(modelsOf(userOf({ rows }), limits)).toMatchObject([
    { model, tokensUsedDay: charged, tokensRemainingDay: left },
  ])
})

test('starts afresh at midnight UTC', () => {
  const user = userOf({ rows: { 'a/one': rowOf(400) } })
  const midnight = Date.UTC(2026, 10, 23)
  expect(modelsOf(user, LIMITS, midnight - 1)).toHaveLength(1)
  expect(modelsOf(user, LIMITS, midnight)).toEqual([])
})

test('tells of models without use today that a user is blocked from', () => {
  const user = userOf({
    date: '2026-11-21',
    rows: { 'a/one': rowOf(400) },
    blocks: { 'b/two': { at: 1, reason: 'spam', until: NOON + 1 } },
  })
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
])('tells what is in force of blocks: %s', (_, blocks, expected) => {
  expect(blockedOf(blocks)).toEqual(expected)
})

test.each(['constructor', '__proto__'])('tells of a block from a model named %s', (model) => {
  const blocks = JSON.parse(`{"${model}":{"at":1}}`) as UserDoc['blocks']
  expect(modelsOf(userOf({ blocks }))).toMatchObject([
    { model, tokensUsedDay: 0, tokensRemainingDay: 1000, unsettled: 0, blocked: true },
  ])
})

test('reckons what is left of all models together from all of them', () => {
  const user = userOf({
    rows: { 'a/one': rowOf(300), 'b/two': rowOf(200) },
    blocks: { '*': { at: 1 } },
  })
  expect(modelsOf(user)).toMatchObject([
    { model: 'a/one', tokensRemainingDay: 200 },
    { model: 'b/two', tokensRemainingDay: 800 },
    { model: '*', tokensUsedDay: 0, tokensRemainingDay: 1000, requestsDay: 0 },
  ])
  expect(modelsOf(user, { ...LIMITS, total: undefined })[2]).toMatchObject({
    tokensRemainingDay: null,
  })
})

test('tells a browser what is counted of the models it knows and asks about, and what is blocked', () => {
  const rows = { 'a/one': { tokens: 300, requests: 3 }, 'b/two': { tokens: 200, requests: 1 } }
  const blocks = {
    'a/one': { at: 1, until: NOON },
    'b/two': { at: 1, until: NOON + 1, reason: 'spam' },
    '*': { at: 1 },
  }
  const reported = { ok: true, at: NOON, rows, blocks } as const
  const resetAt = Date.UTC(2026, 10, 23)
  const total = { tokensPerDay: 1100, requestsPerDay: 20 }
  const asked = ['b/two', 'c/new', 'constructor']
  expect(syncReport(reported, asked, { ...LIMITS, total })).toEqual({
    usage: {
      'a/one': { tokensUsedDay: 300, tokensRemainingDay: 200, requestsDay: 3, resetAt },
      'b/two': { tokensUsedDay: 200, tokensRemainingDay: 600, requestsDay: 1, resetAt },
      'c/new': { tokensUsedDay: 0, tokensRemainingDay: 600, requestsDay: 0, resetAt },
      constructor: { tokensUsedDay: 0, tokensRemainingDay: 600, requestsDay: 0, resetAt },
    },
    blocked: [
      { model: 'b/two', reason: 'spam', until: NOON + 1 },
      { model: '*', reason: null, until: null },
    ],
  })
})

const dayRow = (charged: number, fields: Partial<DayRow> = {}): DayRow => ({
  requests: 2,
  settled: 2,
  partial: 0,
  failed: 0,
  charged,
  prompt: 0,
  cached: 0,
  completion: 0,
  overshoot: 0,
  users: 1,
  hours: {},
  at: NOON,
  ...fields,
})

const dayOf = (date: string, models: DayDoc['models'], quota: DayDoc['quota'] = {}): DayDoc => ({
  v: 1,
  date,
  total: dayRow(0),
  sessions: 0,
  models,
  quota,
  minute: { n: 0, rows: {} },
})

const today = (models: DayDoc['models'], quota?: DayDoc['quota']) =>
  dayOf('2026-11-22', models, quota)

test('tells of each model what today and the days before have seen of it', () => {
  const days = [
    today({ 'a/one': dayRow(100, { users: 3 }) }),
    dayOf('2026-11-21', {
      'a/one': dayRow(50, { at: NOON - DAY }),
      'b/two': dayRow(7, { at: NOON - DAY + 5 }),
    }),
  ]
  expect(modelStats(days, undefined, NOON)).toEqual([
    {
      model: 'a/one',
      tokensUsedDay: 100,
      tokensRemainingDay: null,
      requestsDay: 2,
      totalTokensUsed: 150,
      totalRequests: 4,
      activeUsers: 3,
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
      lastUpdated: NOON - DAY + 5,
    },
  ])
})

test('tells nothing of no days', () => {
  expect(modelStats([], LIMITS, NOON)).toEqual([])
  expect(modelStats([today({})], LIMITS, NOON)).toEqual([])
})

test.each([
  ['what requests in flight hold', { 'a/one': { tokens: 450, requests: 5 } }, 50],
  ['what has ended where nothing is held', {}, 400],
  ['no less than nothing', { 'a/one': { tokens: 600, requests: 5 } }, 0],
])("reckons what is left of everyone's limit from %s", (_, quota, left) => {
  const days = [today({ 'a/one': dayRow(100), 'b/two': dayRow(100) }, quota)]
  const [one, two] = modelStats(days, LIMITS, NOON)
  expect(one).toMatchObject({ model: 'a/one', tokensUsedDay: 100, tokensRemainingDay: left })
  // Everyone's limits have no row for the models without one.
  expect(two).toMatchObject({ model: 'b/two', tokensRemainingDay: null })
})

test("leaves all of everyone's limit on a new day", () => {
  const [one] = modelStats([today({ 'a/one': dayRow(100) })], LIMITS, NOON + DAY)
  expect(one).toMatchObject({ tokensUsedDay: 0, tokensRemainingDay: 500, totalTokensUsed: 100 })
})

test.each(['constructor', '__proto__', 'toString'])(
  'takes %s for a model like any other',
  (model) => {
    const models = JSON.parse(JSON.stringify({ [model]: dayRow(100) })) as DayDoc['models']
    const days = [today(models), dayOf('2026-11-21', { 'a/one': dayRow(1) })]
    expect(modelStats(days, LIMITS, NOON)).toMatchObject([
      { model, tokensUsedDay: 100, totalTokensUsed: 100, tokensRemainingDay: null },
      { model: 'a/one', tokensUsedDay: 0, totalTokensUsed: 1 },
    ])
  },
)
