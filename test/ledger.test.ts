import fc from 'fast-check'
import { expect, test } from 'vitest'
import { newDay } from '../src/usage/documents.ts'
import {
  activityOf,
  dateOf,
  datesTo,
  minuteOf,
  type Enter,
  type Event,
  type Limits,
} from '../src/usage/record.ts'
import { admitOf, AMPLE, commandSequence, eventOf, failureOf, NOON, settleOf } from './commands.ts'
import { reducerState } from './state.ts'

const HOUR = 3_600_000
const KEEP = { userDays: 7 }
const TODAY = dateOf(NOON)

/** The state of a few users and days, to which commands are applied one after another. */
function ledger() {
  const { users, days, ...state } = reducerState(KEEP)
  return {
    ...state,
    user: (id = 'alice') => users.get(id),
    row: (model = 'a/one') => users.get('alice')?.rows[model],
    day: (date = TODAY) => days.get(date),
  }
}

const limits = (tokensPerDay: number, more: Partial<Limits> = {}): Limits => ({
  ...AMPLE,
  tokensPerDay,
  ...more,
})

test('charges the bound at once and the real tokens in its place at the end', () => {
  const book = ledger()
  const admit = admitOf({ id: '1', bound: 100 })
  expect(book.do(admit)).toEqual({
    ok: true,
    at: NOON,
    day: { tokens: 100, requests: 1 },
    minute: { tokens: 100, requests: 1 },
  })
  expect(book.row()).toMatchObject({ requests: 1, settled: 0, charged: 100, held: 100 })
  expect(book.do(settleOf(admit))).toEqual({ applied: true })
  expect(book.row()).toMatchObject({ requests: 1, settled: 1, charged: 15, held: 0 })
  expect(book.day()?.total).toMatchObject({ requests: 1, settled: 1, charged: 15, users: 1 })
})

test('counts cached tokens as part of the prompt, where upstream told of them', () => {
  const book = ledger()
  const of = (id: string) => admitOf({ id })
  for (const id of ['1', '2', '3', '4']) book.do(of(id))
  book.do(settleOf(of('1'), { cached: 7 }))
  book.do(settleOf(of('2'), { cached: 0 }))
  book.do(settleOf(of('3')))
  book.do(failureOf(of('4')))
  const sums = { charged: 45, prompt: 30, cached: 7, completion: 15 }
  expect(book.row()).toMatchObject(sums)
  expect(book.day()?.total).toMatchObject(sums)
  expect(book.day()?.models['a/one']).toMatchObject(sums)
  book.do(admitOf({ id: '5', now: NOON + 24 * HOUR }))
  expect(book.user()?.past[TODAY]).toEqual({ 'a/one': { requests: 4, charged: 45 } })
})

test('admits up to the limit and not a token past it', () => {
  const book = ledger()
  const of = (id: string, bound: number) => admitOf({ id, bound, limits: { model: limits(250) } })
  expect(book.do(of('1', 100))).toMatchObject({ ok: true })
  expect(book.do(of('2', 151))).toEqual({
    ok: false,
    reason: 'limit',
    of: 'user',
    model: 'a/one',
    per: 'day',
    unit: 'tokens',
    limit: 250,
    used: 100,
    asked: 151,
    resetAt: NOON + 12 * HOUR,
  })
  expect(book.do(of('3', 150))).toMatchObject({ ok: true, day: { tokens: 250, requests: 2 } })
  expect(book.row()).toMatchObject({ requests: 2, charged: 250 })
})

test('frees what a request did not use, and everything that a failed one held', () => {
  const book = ledger()
  const of = (id: string) => admitOf({ id, bound: 200, limits: { model: limits(250) } })
  book.do(of('1'))
  expect(book.do(of('2'))).toMatchObject({ ok: false })
  book.do(settleOf(of('1'), { charged: 40 }))
  expect(book.do(of('2'))).toMatchObject({ ok: true, day: { tokens: 240 } })
  book.do(failureOf(of('2')))
  expect(book.row()).toMatchObject({ requests: 2, settled: 1, failed: 1, charged: 40, held: 0 })
})

test('shows what upstream reports beyond the bound, and refuses from then on', () => {
  const book = ledger()
  const of = (id: string) => admitOf({ id, bound: 100, limits: { model: limits(150) } })
  book.do(of('1'))
  book.do(settleOf(of('1'), { charged: 160 }))
  expect(book.row()).toMatchObject({ charged: 160, overshoot: 60 })
  expect(book.do(of('2'))).toMatchObject({ ok: false, used: 160, limit: 150 })
})

test('gives the same admission the same answer, and settles it once', () => {
  const book = ledger()
  const admit = admitOf({ id: '1' })
  const answer = book.do(admit)
  expect(book.do({ ...admit, now: NOON + 5 })).toEqual(answer)
  expect(book.row()).toMatchObject({ requests: 1, charged: 100 })
  expect(book.do(settleOf(admit))).toEqual({ applied: true })
  expect(book.do(settleOf(admit, { charged: 99 }))).toEqual({ applied: false })
  expect(book.row()).toMatchObject({ settled: 1, charged: 15 })
})

test('charges nothing without a lease', () => {
  const book = ledger()
  expect(book.do(settleOf(admitOf({ id: '1' })))).toEqual({ applied: false })
  book.do(admitOf({ id: '1' }))
  expect(book.do(settleOf(admitOf({ id: '2' })))).toEqual({ applied: false })
  expect(book.row()).toMatchObject({ requests: 1, charged: 100, held: 100 })
  expect(book.day()).toBeUndefined()
})

test('keeps the bound of a lease that never settles, and corrects it for 24 hours', () => {
  const book = ledger()
  const late = admitOf({ id: '1' })
  const lost = admitOf({ id: '2' })
  book.do(late)
  book.do(lost)
  expect(book.do(settleOf(late, {}, NOON + 24 * HOUR - 1))).toEqual({ applied: true })
  expect(book.do(settleOf(lost, {}, NOON + 24 * HOUR))).toEqual({ applied: false })
  expect(book.day()?.total).toMatchObject({ settled: 1, charged: 15 })
  expect(book.user()?.past[TODAY]).toMatchObject({
    'a/one': { requests: 2, charged: 115, held: 100 },
  })
})

test('charges the day and the minute of admission, whenever the request ends', () => {
  const book = ledger()
  const night = Date.UTC(2026, 10, 22, 23, 59, 59)
  const admit = admitOf({ id: '1', now: night })
  book.do(admit)
  const next = admitOf({ id: '2', now: night + 2000 })
  expect(book.do(next)).toMatchObject({ day: { tokens: 100, requests: 1 } })
  book.do(settleOf(admit, {}, night + 3000))
  expect(book.user()).toMatchObject({
    date: '2026-11-23',
    rows: { 'a/one': { requests: 1, charged: 100 } },
    minute: { rows: { 'a/one': { tokens: 100, requests: 1 } } },
    past: { '2026-11-22': { 'a/one': { requests: 1, charged: 15 } } },
  })
  expect(book.day('2026-11-22')?.total).toMatchObject({ charged: 15, hours: { 23: 15 } })
})

test('never lets a clock that steps back open a new day', () => {
  const book = ledger()
  const of = (id: string, now: number) => admitOf({ id, now, limits: { model: limits(150) } })
  book.do(of('1', NOON))
  expect(book.do(of('2', NOON - 24 * HOUR))).toMatchObject({ ok: false, used: 100 })
  expect(book.do(of('3', NOON + 12 * HOUR))).toMatchObject({ ok: true })
  expect(book.do(of('4', NOON))).toMatchObject({ ok: false, resetAt: NOON + 36 * HOUR })
})

test.each<[string, Partial<Limits>, number]>([
  ['tokens', { tokensPerMinute: 150 }, 150],
  ['requests', { requestsPerMinute: 1 }, 1],
])('holds the %s of a minute until it is over', (unit, more, limit) => {
  const book = ledger()
  const of = (id: string, now: number) => admitOf({ id, now, limits: { model: limits(1e6, more) } })
  book.do(of('1', NOON + 59_998))
  expect(book.do(of('2', NOON + 59_999))).toMatchObject({
    ok: false,
    per: 'minute',
    unit,
    limit,
    resetAt: NOON + 60_000,
  })
  expect(book.do(of('2', NOON + 60_000))).toMatchObject({ ok: true })
})

test('holds all models of a user together, and all users', () => {
  const book = ledger()
  const total = limits(250)
  const of = (id: string, user: string, model: string) =>
    admitOf({ id, user, model, limits: { model: AMPLE, total }, global: { total: limits(350) } })
  book.do(of('1', 'alice', 'a/one'))
  book.do(of('2', 'alice', 'b/two'))
  expect(book.do(of('3', 'alice', 'c/three'))).toMatchObject({ of: 'user', model: '*', used: 200 })
  book.do(of('4', 'bob', 'a/one'))
  expect(book.do(of('5', 'bob', 'a/one'))).toMatchObject({ of: 'everyone', model: '*', used: 300 })
  book.do(settleOf(of('1', 'alice', 'a/one')))
  expect(book.do(of('5', 'bob', 'a/one'))).toMatchObject({ ok: true })
  expect(book.day()?.quota['*']).toEqual({ tokens: 315, requests: 4 })
})

test('refuses a blocked user, one model or all of them, until the block ends or is lifted', () => {
  const book = ledger()
  const block = (model: string, until?: number) =>
    book.do({
      op: 'block',
      now: NOON,
      user: 'alice',
      model,
      block: { at: NOON, reason: 'spam', ...(until && { until }) },
    })
  const ask = (model: string, now = NOON) => book.do(admitOf({ id: `${model} ${now}`, model, now }))
  block('a/one', NOON + 1000)
  expect(ask('a/one')).toEqual({
    ok: false,
    reason: 'blocked',
    model: 'a/one',
    why: 'spam',
    until: NOON + 1000,
  })
  expect(ask('b/two')).toMatchObject({ ok: true })
  expect(ask('a/one', NOON + 1000)).toMatchObject({ ok: true })
  block('*')
  expect(ask('b/two', NOON + 1001)).toEqual({
    ok: false,
    reason: 'blocked',
    model: '*',
    why: 'spam',
  })
  book.do({ op: 'block', now: NOON + 1002, user: 'alice', model: '*' })
  expect(ask('b/two', NOON + 1003)).toMatchObject({ ok: true })
})

test('counts 64 models a user and a day, and one in the totals only when it has answered', () => {
  const book = ledger()
  for (let i = 0; i < 64; i += 1) {
    const admit = admitOf({ id: `${i}`, model: `m/${i}` })
    book.do(admit)
    book.do(i === 0 ? settleOf(admit) : failureOf(admit))
  }
  expect(book.do(admitOf({ id: 'x', model: 'm/64' }))).toEqual({ ok: false, reason: 'models' })
  expect(book.do(admitOf({ id: 'y', model: 'm/63' }))).toMatchObject({ ok: true })
  expect(Object.keys(book.day()?.models ?? {})).toEqual(['m/0'])
  expect(book.day()?.total).toMatchObject({ requests: 64, settled: 1, failed: 63, users: 1 })
})

/** The entry of a request that was served without a lease, at noon unless told. */
const enterOf = (id: string, fields: Partial<Event> = {}, scopes?: string[]): Enter => {
  const event = eventOf({ id, user: 'alice', at: NOON, ...fields })
  const command: Enter = { op: 'enter', now: event.at, user: event.user, event }
  return scopes ? { ...command, scopes } : command
}

test('counts an entry in the minute of its request, if that is not over', () => {
  const book = ledger()
  book.do(admitOf({ id: '1', global: { total: AMPLE } }))
  book.do(enterOf('2', { at: NOON + 5000 }, ['*']))
  expect(book.user()?.minute.rows).toEqual({ 'a/one': { tokens: 115, requests: 2 } })
  expect(book.day()?.minute.rows).toEqual({ '*': { tokens: 115, requests: 2 } })
  book.do(enterOf('3', { at: NOON - 5000 }, ['*']))
  expect(book.user()?.minute.rows).toEqual({ 'a/one': { tokens: 115, requests: 2 } })
  expect(book.day()?.minute.rows).toEqual({ '*': { tokens: 115, requests: 2 } })
  expect(book.day()?.quota['*']).toEqual({ tokens: 130, requests: 3 })
})

test("corrects everyone's minute of admission, and no later one", () => {
  const book = ledger()
  const of = (id: string, now: number) => admitOf({ id, now, global: { total: AMPLE } })
  book.do(of('1', NOON))
  book.do(of('2', NOON + 1000))
  book.do(settleOf(of('1', NOON)))
  expect(book.day()?.minute.rows['*']).toEqual({ tokens: 115, requests: 2 })
  book.do(of('3', NOON + 60_000))
  book.do(settleOf(of('2', NOON + 1000), {}, NOON + 60_001))
  expect(book.day()?.minute.rows['*']).toEqual({ tokens: 100, requests: 1 })
  expect(book.day()?.quota['*']).toEqual({ tokens: 130, requests: 3 })
})

test('counts a session once a day, and those that were answered only', () => {
  const book = ledger()
  const request = (id: string, fields: Partial<Event>, now = NOON) => {
    const admit = admitOf({ id, now })
    book.do(admit)
    book.do(settleOf(admit, fields))
  }
  request('1', { session: 'one' })
  request('2', { session: 'one' })
  request('3', { session: 'constructor' })
  request('4', {})
  request('5', { session: 'lost', outcome: 'failed', charged: 0 })
  expect(book.day()?.sessions).toBe(2)
  expect(book.user()?.sessions).toEqual({ one: 1, constructor: 1 })
  for (let n = 0; n < 63; n += 1) request(`n${n}`, { session: `${n}` })
  expect(book.day()?.sessions).toBe(64)
  expect(Object.keys(book.user()?.sessions ?? {})).toHaveLength(64)
  const late = admitOf({ id: 'late' })
  book.do(late)
  request('6', { session: 'one' }, NOON + 12 * HOUR)
  expect(book.do(settleOf(late, { session: 'two' }, NOON + 13 * HOUR))).toEqual({ applied: true })
  expect(book.day()?.sessions).toBe(64)
  expect(book.day('2026-11-23')?.sessions).toBe(1)
  expect(book.user()?.sessions).toEqual({ one: 1 })
})

test('counts a user once a day, and once per model, however the answers ended', () => {
  const book = ledger()
  const request = (id: string, outcome: Event['outcome'], user = 'alice', after = 1000) => {
    const admit = admitOf({ id, user })
    book.do(admit)
    book.do(settleOf(admit, { outcome }, NOON + after))
  }
  request('1', 'settled')
  request('2', 'partial')
  request('3', 'settled')
  request('4', 'failed', 'bob', 5000)
  request('5', 'settled', 'alice', 2000)
  const { total, models } = book.day() ?? {}
  expect([total?.users, models?.['a/one']?.users]).toEqual([1, 1])
  // The users' clocks differ, and the latest is the one that is told.
  expect([total?.at, models?.['a/one']?.at]).toEqual([NOON + 5000, NOON + 5000])
})

test('takes a past day on which all had failed for one without an answer', () => {
  const book = ledger()
  const failed = admitOf({ id: '1' })
  book.do(failed)
  book.do(failureOf(failed))
  book.do(admitOf({ id: '2', now: NOON + 24 * HOUR }))
  expect(book.user()?.past[TODAY]).toEqual({ 'a/one': { requests: 1, charged: 0 } })
  book.do(enterOf('3', { model: 'b/two', charged: 0 }))
  expect(book.day()?.total.users).toBe(1)
  book.do(enterOf('4', { charged: 0 }))
  expect(book.user()?.past[TODAY]?.['a/one']).toMatchObject({ requests: 2, failed: 1, settled: 1 })
  book.do(enterOf('5', { charged: 0 }))
  const { total, models } = book.day() ?? {}
  expect([total?.users, models?.['a/one']?.users]).toEqual([1, 1])
})

test('clearing forgets totals and days, and keeps what the limits of everyone hold on to', () => {
  const book = ledger()
  const of = (id: string, now: number) => admitOf({ id, now, global: { total: AMPLE } })
  const old = of('1', NOON - 20 * HOUR)
  book.do(old)
  book.do(of('2', NOON))
  book.do(settleOf(of('2', NOON)))
  const { quota, minute } = book.day() ?? {}
  expect(book.do({ op: 'clear', now: NOON + 2000 })).toEqual({ ok: true })
  expect(book.day()).toEqual({ ...newDay(TODAY), quota, minute, forgotten: 1 })
  expect(book.audit).toEqual([{ at: NOON + 2000, action: 'clear' }])
  // Nothing is left to correct of a day that is gone.
  expect(book.do(settleOf(old, {}, NOON + 3000))).toEqual({ applied: true })
  expect(book.day('2026-11-21')?.total).toMatchObject({ charged: 15 })
  expect(book.day('2026-11-21')?.quota).toEqual({})

  const empty = ledger()
  expect(empty.do({ op: 'clear', now: NOON })).toEqual({ ok: true })
  expect(empty.day()).toBeUndefined()
})

test('what admins do is answered, and goes on record', () => {
  const book = ledger()
  const session = { now: NOON, session: 'hash' }
  expect(book.do({ op: 'login', ...session, until: NOON + 5, ip: '192.0.2.7' })).toEqual({
    ok: true,
  })
  expect(book.sessions.get('hash')).toBe(NOON + 5)
  expect(book.do({ op: 'logout', ...session })).toEqual({ ok: true })
  expect(book.sessions.get('hash')).toBeUndefined()
  expect(book.do({ op: 'note', now: NOON, action: 'export' })).toEqual({ ok: true })
  expect(book.audit).toStrictEqual([
    { at: NOON, action: 'export' },
    { at: NOON, action: 'logout' },
    { at: NOON, action: 'login', ip: '192.0.2.7' },
  ])
})

test('activity is told to the minute, and below it by the first four characters of the id', () => {
  const at = (id: string) => activityOf({ id, seen: NOON + 59_999 }) - minuteOf(NOON)
  const hash = ((33 * 64 + 34) * 64 + 35) * 64 + 36
  expect(at('abcd')).toBe(hash / 2 ** 24)
  expect(at('abcde')).toBe(hash / 2 ** 24)
  expect(at('a')).toBe(33 / 64)
  expect(activityOf({ id: 'abcd' })).toBe(0)
})

test('dates are told with the latest first', () => {
  expect(datesTo(NOON, 3)).toEqual(['2026-11-22', '2026-11-21', '2026-11-20'])
})

function freeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value)
    for (const part of Object.values(value)) freeze(part)
  }
  return value
}

test('changes nothing that it is given, and gives the same for the same', () => {
  fc.assert(
    fc.property(commandSequence(60), (commands) => {
      const [first, second] = [reducerState(KEEP, freeze), reducerState(KEEP, freeze)]
      for (const command of freeze(commands)) expect(first.do(command)).toEqual(second.do(command))
      expect(first.users).toEqual(second.users)
      expect(first.days).toEqual(second.days)
    }),
    { numRuns: 300 },
  )
})
