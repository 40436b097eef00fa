import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { Enter, Report } from '../../src/ledger/commands.ts'
import type { Admitted, Reported } from '../../src/ledger/answers.ts'
import { rowsOf, whole } from '../../src/ledger/rows.ts'
import { activityOf, INDEX_MS } from '../../src/ledger/activity.ts'
import { newDay, newProfile } from '../../src/ledger/new-documents.ts'
import { everyoneLimits, limitsOfUser } from '../../src/ledger/plans.ts'
import {
  windowsOf,
  LIMITS,
  limitName,
  limitsOf,
  linesOf,
  rowsFor,
  standingOf,
  usedIn,
  type Limits,
  type ModelLimits,
} from '../../src/ledger/policy.ts'
import { CLOCK_TOLERANCE_MS } from '../../src/ledger/rules.ts'
import { VERSION } from '../../src/ledger/shapes.ts'
import type { Event } from '../../src/ledger/events.ts'
import type { Windows } from '../../src/ledger/documents.ts'
import {
  DAY_MS,
  WINDOWS,
  WINDOW_NAMES,
  dateOf,
  datesTo,
  endOf,
  minuteOf,
  nextDay,
  startOf,
  type Window,
} from '../../src/ledger/windows.ts'
import {
  admitOf,
  AMPLE,
  commandSequence,
  eventOf,
  failureOf,
  NOON,
  settleOf,
} from '../support/commands.ts'
import { amounts, inLong } from '../support/amounts.ts'
import { reducerState } from '../support/state.ts'

const HOUR = 3_600_000
const KEEP = { userDays: 7 }
const TODAY = dateOf(NOON)
const TOMORROW = dateOf(NOON + DAY_MS)

/** The state of a few users and days. Commands are applied to it one after another. */
function ledger(clock?: { tolerance: number; time(): number }) {
  const { usage, past, profiles, days, quotas, ...state } = reducerState(KEEP, undefined, clock)
  const rowsOn = (date: string, id: string) => {
    const doc = usage.get(id)
    return doc?.date === date ? rowsOf(doc) : past.get(id)?.days[date]
  }
  return {
    ...state,
    user: (id = 'alice') => usage.get(id),
    past: (id = 'alice') => past.get(id)?.days,
    profile: (id = 'alice') => profiles.get(id),
    /** A row of a day, as stored. */
    thin: (model = 'a/one', date = TODAY, id = 'alice') => rowsOn(date, id)?.[model],
    row: (model = 'a/one', date = TODAY, id = 'alice') => whole(rowsOn(date, id)?.[model] ?? {}),
    day: (date = TODAY) => days.get(date),
    quota: (scope = '*') => quotas.get(scope),
    /** Everyone's use in a window. */
    everyone: (scope = '*', window: Window = 'day') => {
      const doc = quotas.get(scope)
      return usedIn(doc?.windows, window, doc?.at ?? 0)
    },
    /** A user's use in a window. */
    used: (scope = 'a/one', window: Window = 'day', id = 'alice') => {
      const doc = usage.get(id)
      return usedIn(doc && windowsOf(doc, scope), window, doc?.at ?? 0)
    },
  }
}

const limits = (tokensPerDay: number, more: Partial<Limits> = {}): Limits => ({
  ...AMPLE,
  tokensPerDay,
  ...more,
})

describe('an admission', () => {
  test('charges the reservation at once, and what was used takes its place', () => {
    const book = ledger()
    const admit = admitOf({ id: '1', reserved: 100 })
    expect(book.do(admit)).toEqual({
      ok: true,
      at: NOON,
      limits: [{ of: 'user', model: 'a/one', limits: AMPLE, used: { day: amounts(1, 100) } }],
    })
    expect(book.thin()).toEqual({ requests: 1, charged: 100, reserved: 100 })
    expect(book.user()?.leases).toEqual({
      1: {
        model: 'a/one',
        at: NOON,
        until: NOON + 300_000,
        reserved: amounts(1, 100),
        windows: inLong(1),
      },
    })
    expect(book.used()).toEqual(amounts(1, 100))
    expect(book.day()).toBeUndefined()

    expect(book.do(settleOf(admit))).toEqual({ applied: true })
    const sums = { requests: 1, exact: 1, charged: 15, prompt: 10, completion: 5 }
    expect(book.thin()).toEqual(sums)
    expect(book.user()).toMatchObject({ leases: {}, seen: NOON + 1000 })
    expect(book.used()).toEqual(amounts(1, 15))
    expect(book.used('*')).toEqual(amounts(1, 15))
    const row = { ...sums, users: 1, at: NOON + 1000, hours: { 12: 15 } }
    expect(book.day()?.total).toMatchObject(row)
    expect(book.day()?.models['a/one']).toMatchObject(row)
  })

  test('answers with its limits and their use, this request included, and no other limits', () => {
    const book = ledger()
    const everyone = { total: limits(1000), model: { requestsPerMinute: 9 } }
    const rows = { model: { tokensPerMinute: 500 }, total: {} }
    book.do(admitOf({ id: '1', user: 'bob', limits: {}, everyone: { total: AMPLE } }))
    const admitted = book.do(admitOf({ id: '2', limits: rows, everyone })) as Admitted
    const mine = amounts(1, 100)
    expect(admitted.limits).toEqual([
      { of: 'user', model: 'a/one', limits: rows.model, used: { minute: mine } },
      { of: 'user', model: '*', limits: {}, used: {} },
      {
        of: 'everyone',
        model: '*',
        limits: everyone.total,
        used: { day: amounts(2, 200) },
      },
      {
        of: 'everyone',
        model: 'a/one',
        limits: everyone.model,
        used: { minute: mine },
      },
    ])
    expect(book.do(admitOf({ id: '3', limits: {} }))).toEqual({ ok: true, at: NOON })
  })

  test('is granted up to the limit and not a token past it', () => {
    const book = ledger()
    const of = (id: string, reserved: number) =>
      admitOf({ id, reserved, limits: { model: limits(250) } })
    expect(book.do(of('1', 100))).toMatchObject({ ok: true })
    expect(book.do(of('2', 151))).toEqual({
      ok: false,
      counted: true,
      reason: 'limit',
      of: 'user',
      model: 'a/one',
      window: 'day',
      unit: 'tokens',
      limit: 250,
      used: 100,
      asked: 151,
      resetAt: NOON + 12 * HOUR,
    })
    expect(book.do(of('3', 150))).toMatchObject({
      ok: true,
      limits: [{ used: { day: amounts(2, 250) } }],
    })
    expect(book.row()).toMatchObject({ requests: 2, charged: 250 })
  })

  test('that is refused changes nothing', () => {
    const book = ledger()
    book.do(admitOf({ id: '1' }))
    const before = structuredClone([book.user(), book.quota(), book.quota('a/one')])
    const asked = admitOf({ id: '2', now: NOON + 5000, limits: { model: limits(0) } })
    expect(book.do(asked)).toMatchObject({ ok: false })
    expect([book.user(), book.quota(), book.quota('a/one')]).toEqual(before)
    expect(book.do(admitOf({ ...asked, user: 'bob' }))).toMatchObject({ ok: false })
    expect(book.user('bob')).toBeUndefined()
  })

  test('is given the same answer again, and is settled once', () => {
    const book = ledger()
    const admit = admitOf({ id: '1' })
    const answer = book.do(admit)
    expect(book.do({ ...admit, now: NOON + 5 })).toEqual(answer)
    // A new request would be refused here.
    const full = { model: limits(100) }
    expect(book.do({ ...admit, limits: full })).toMatchObject({ ok: true, at: NOON })
    expect(book.row()).toMatchObject({ requests: 1, charged: 100 })
    expect(book.do(settleOf(admit))).toEqual({ applied: true })
    expect(book.do(settleOf(admit, { charged: 99 }))).toEqual({ applied: false })
    expect(book.row()).toMatchObject({ exact: 1, charged: 15 })
  })

  test("keeps the user's latest known address", () => {
    const book = ledger()
    book.do(admitOf({ id: '1', ip: '192.0.2.7' }))
    book.do(admitOf({ id: '2' }))
    expect(book.user()?.ip).toBe('192.0.2.7')
    book.do(admitOf({ id: '3', ip: '192.0.2.8' }))
    expect(book.user()?.ip).toBe('192.0.2.8')
  })
})

describe('limits', () => {
  test('get back what a request did not use, and the whole reservation of a failed request', () => {
    const book = ledger()
    const of = (id: string) => admitOf({ id, reserved: 200, limits: { model: limits(250) } })
    book.do(of('1'))
    expect(book.do(of('2'))).toMatchObject({ ok: false })
    book.do(settleOf(of('1'), { charged: 40 }))
    expect(book.do(of('2'))).toMatchObject({
      ok: true,
      limits: [{ used: { day: { tokens: 240 } } }],
    })
    book.do(failureOf(of('2')))
    expect(book.thin()).toMatchObject({ requests: 2, exact: 1, failed: 1, charged: 40 })
    expect(book.row().reserved).toBe(0)
    expect(book.used()).toEqual(amounts(2, 40))
  })

  test('refuse after more than the reservation was used, and the excess is counted separately', () => {
    const book = ledger()
    const of = (id: string) => admitOf({ id, reserved: 100, limits: { model: limits(150) } })
    book.do(of('1'))
    book.do(settleOf(of('1'), { charged: 160 }))
    expect(book.row()).toMatchObject({ charged: 160, overReservation: 60 })
    expect(book.day()?.total.overReservation).toBe(60)
    expect(book.do(of('2'))).toMatchObject({ ok: false, used: 160, limit: 150 })
  })

  test.each<[string, Limits, Limits, object]>([
    ['one that is lowered', limits(1000), limits(150), { ok: false, used: 100, limit: 150 }],
    ['one that is raised', limits(150), limits(1000), { ok: true }],
    ['one that is removed', limits(150), {}, { ok: true }],
    ['one that is new', {}, { requestsPerDay: 1 }, { ok: false, used: 1, unit: 'requests' }],
  ])('count earlier use: %s', (_, before, after, expected) => {
    const book = ledger()
    book.do(admitOf({ id: '1', limits: { model: before } }))
    expect(book.do(admitOf({ id: '2', limits: { model: after } }))).toMatchObject(expected)
  })

  test.each<[string, Limits, number]>([
    ['tokens', { tokensPerMinute: 150 }, 150],
    ['requests', { requestsPerMinute: 1 }, 1],
  ])('hold the %s of a minute until it ends', (unit, row, limit) => {
    const book = ledger()
    const of = (id: string, now: number) => admitOf({ id, now, limits: { model: row } })
    book.do(of('1', NOON + 59_998))
    expect(book.do(of('2', NOON + 59_999))).toMatchObject({
      ok: false,
      window: 'minute',
      unit,
      limit,
      resetAt: NOON + 60_000,
    })
    expect(book.do(of('2', NOON + 60_000))).toMatchObject({ ok: true })
  })

  test('count minutes only if a limit names them', () => {
    const book = ledger()
    book.do(admitOf({ id: '1' }))
    expect(book.user()?.windows).not.toHaveProperty('minute')
    book.do(admitOf({ id: '2', limits: {}, everyone: { total: { requestsPerMinute: 9 } } }))
    expect(book.used('a/one', 'minute')).toEqual(amounts(1, 100))
    expect(book.everyone('a/one', 'minute')).toEqual(amounts(1, 100))
    expect(book.used()).toEqual(amounts(2, 200))
  })

  test('hold for all models of a user together, and for all users', () => {
    const book = ledger()
    const total = limits(250)
    const of = (id: string, user: string, model: string) =>
      admitOf({
        id,
        user,
        model,
        limits: { model: AMPLE, total },
        everyone: { total: limits(350) },
      })
    book.do(of('1', 'alice', 'a/one'))
    book.do(of('2', 'alice', 'b/two'))
    expect(book.do(of('3', 'alice', 'c/three'))).toMatchObject({
      of: 'user',
      model: '*',
      used: 200,
    })
    book.do(of('4', 'bob', 'a/one'))
    const last = of('5', 'bob', 'a/one')
    expect(book.do(last)).toMatchObject({ of: 'everyone', model: '*', used: 300 })
    book.do(settleOf(of('1', 'alice', 'a/one')))
    expect(book.do(last)).toMatchObject({ ok: true })
    expect(book.everyone()).toEqual(amounts(4, 315))
    expect(book.everyone('a/one')).toEqual(amounts(3, 215))
    expect(book.everyone('b/two')).toEqual(amounts(1, 100))
  })

  test('are checked in one order: the user before everyone, the model before all, long windows before short ones', () => {
    const book = ledger()
    const none = Object.fromEntries(LIMITS.map(({ name }) => [name, 0]))
    const price = { input: 1, output: 1 }
    const ask = (fields: Parameters<typeof admitOf>[0]) => book.do(admitOf({ price, ...fields }))
    const everyone = { model: none, total: none }
    const told = (of: string, model: string) => ({ of, model, window: 'month', unit: 'requests' })
    const all = { model: none, total: none }
    expect(ask({ id: '1', limits: all, everyone })).toMatchObject(told('user', 'a/one'))
    expect(ask({ id: '1', limits: { total: none }, everyone })).toMatchObject(told('user', '*'))
    expect(ask({ id: '1', limits: {}, everyone })).toMatchObject(told('everyone', '*'))
    const one = { model: none }
    expect(ask({ id: '1', limits: {}, everyone: one })).toMatchObject(told('everyone', 'a/one'))
    for (const [n, { unit, window }] of LIMITS.entries()) {
      const later = Object.fromEntries(Object.entries(none).slice(n))
      const all = { audioMs: 10_000, characters: 5 }
      expect(ask({ id: '1', limits: { model: later }, ...all })).toMatchObject({ unit, window })
    }
  })

  test('of everyone do not count failed requests, and limits of a user do', () => {
    const book = ledger()
    const one = { model: { requestsPerDay: 1 } }
    const of = (id: string, user: string) => admitOf({ id, user, limits: one, everyone: one })
    book.do(of('1', 'alice'))
    expect(book.do(of('2', 'bob'))).toMatchObject({ ok: false, of: 'everyone' })
    book.do(failureOf(of('1', 'alice')))
    expect(book.everyone('a/one')).toEqual(amounts(0, 0))
    expect(book.do(of('2', 'bob'))).toMatchObject({ ok: true })
    expect(book.do(of('3', 'alice'))).toMatchObject({ ok: false, of: 'user', used: 1 })
  })

  test('allow 64 models a user and a day, and the totals count a model only when it has answered', () => {
    const book = ledger()
    for (let i = 0; i < 64; i += 1) {
      const admit = admitOf({ id: `${i}`, model: `m/${i}` })
      book.do(admit)
      book.do(i === 0 ? settleOf(admit) : failureOf(admit))
    }
    expect(book.do(admitOf({ id: 'x', model: 'm/64' }))).toEqual({
      ok: false,
      reason: 'models',
      window: 'day',
      counted: true,
    })
    expect(book.do(admitOf({ id: 'y', model: 'm/63' }))).toMatchObject({ ok: true })
    expect(Object.keys(book.day()?.models ?? {})).toEqual(['m/0'])
    expect(book.day()?.total).toMatchObject({ requests: 64, exact: 1, failed: 63, users: 1 })
    expect(book.do(admitOf({ id: 'z', model: 'm/64', now: NOON + DAY_MS }))).toMatchObject({
      ok: true,
    })
  })

  test('allow 256 models a user and a month, since the month of each of them is counted', () => {
    const book = ledger()
    const ask = (n: number, now: number) =>
      book.do(admitOf({ id: `${n} ${now}`, model: `m/${n}`, now }))
    const first = Date.UTC(2026, 10, 2)
    for (let n = 0; n < 256; n += 1) {
      expect(ask(n, first + Math.floor(n / 64) * DAY_MS)).toMatchObject({ ok: true })
    }
    const later = first + 4 * DAY_MS
    expect(ask(256, later)).toMatchObject({ reason: 'models', window: 'month' })
    expect(ask(0, later)).toMatchObject({ ok: true })
    for (let n = 1; n < 64; n += 1) ask(n, later)
    expect(ask(64, later)).toMatchObject({ reason: 'models', window: 'day' })
    expect(ask(256, Date.UTC(2026, 11, 1))).toMatchObject({ ok: true })
  })
})

describe('a lease', () => {
  test('is needed for a charge: without one nothing happens', () => {
    const book = ledger()
    book.do(admitOf({ id: '0', user: 'bob' }))
    book.do(admitOf({ id: '1' }))
    expect(book.do(settleOf(admitOf({ id: '2' })))).toEqual({ applied: false })
    expect(book.do(settleOf(admitOf({ id: '1', user: 'bob' })))).toEqual({ applied: false })
    expect(book.row()).toMatchObject({ requests: 1, charged: 100, reserved: 100 })
    expect(book.day()).toBeUndefined()
  })

  test('decides user, model, time and reservation of an event, whatever the event says', () => {
    const book = ledger()
    book.do(admitOf({ id: '1' }))
    const other = { model: 'b/two', at: NOON + 500, reserved: 7, user: 'mallory' }
    book.do(settleOf(admitOf({ id: '1' }), other))
    const [event] = book.events()
    expect(event).toMatchObject({ user: 'alice', model: 'a/one', at: NOON, reserved: 100 })
    expect(event).not.toHaveProperty('late')
  })

  test('keeps its reservation charged until it settles, which is possible for a day', () => {
    const book = ledger()
    const late = admitOf({ id: '1' })
    const lost = admitOf({ id: '2' })
    book.do(late)
    book.do(lost)
    expect(book.do(settleOf(late, {}, NOON + DAY_MS - 1))).toEqual({ applied: true })
    expect(book.events()[0]).toMatchObject({ id: '1', late: true })
    expect(book.thin()).toMatchObject({ requests: 2, exact: 1, charged: 115, reserved: 100 })
    expect(book.do(settleOf(lost, {}, NOON + DAY_MS))).toEqual({ applied: false })
    expect(book.day()?.total).toMatchObject({ requests: 1, exact: 1, charged: 15 })
  })

  test('that is lost leaves its reservation in the row of its day', () => {
    const book = ledger()
    book.do(admitOf({ id: '1' }))
    book.do(admitOf({ id: '2', reserved: 30 }))
    book.do(admitOf({ id: '3', now: NOON + DAY_MS }))
    expect(Object.keys(book.user()?.leases ?? {})).toEqual(['3'])
    expect(book.thin()).toEqual({ requests: 2, lost: 2, charged: 130, lostTokens: 130 })
    expect(book.thin('a/one', TOMORROW)).toEqual({ requests: 1, charged: 100, reserved: 100 })
    // A lost lease stays lost when a clock goes back.
    expect(book.do(settleOf(admitOf({ id: '1' }), {}, NOON))).toEqual({ applied: false })
  })

  test('that is lost leaves nothing after the past of its day is deleted', () => {
    const book = ledger()
    book.do(admitOf({ id: '1' }))
    book.do(admitOf({ id: '2', now: NOON + 9 * DAY_MS }))
    expect(Object.keys(book.user()?.leases ?? {})).toEqual(['2'])
    expect(book.past()).toEqual({})
  })

  test.each([
    [300_000, false],
    [300_001, true],
  ])('of 5 minutes that settles after %i ms is late: %j', (after, late) => {
    const book = ledger()
    const admit = admitOf({ id: '1' })
    book.do(admit)
    book.do(settleOf(admit, {}, NOON + after))
    expect(book.events()[0]?.late ?? false).toBe(late)
  })
})

describe('too many leases', () => {
  test('a thousand requests of a user run at once, and a place is free when one of them ends', () => {
    const book = ledger()
    const admits = Array.from({ length: 1000 }, (_, n) => admitOf({ id: `${n}` }))
    for (const admit of admits) expect(book.do(admit)).toMatchObject({ ok: true })
    const next = admitOf({ id: 'next' })
    expect(book.do(next)).toMatchObject({ ok: false, reason: 'running', limit: 1000 })
    expect(book.do(admits[0]!)).toMatchObject({ ok: true })
    expect(book.do({ ...next, user: 'bob' })).toMatchObject({ ok: true })
    book.do(settleOf(admits[7]!))
    expect(book.do(next)).toMatchObject({ ok: true })
    expect(book.do({ ...next, id: 'over' })).toMatchObject({ reason: 'running' })
    // Those that must have ended hold no place.
    expect(book.do({ ...next, id: 'later', now: NOON + 300_001 })).toMatchObject({ ok: true })
  })

  test('of those that are past, the oldest are lost beyond 256, and keep their charge', () => {
    const book = ledger()
    const old = Array.from({ length: 259 }, (_, n) => admitOf({ id: `${n}`, now: NOON + n }))
    for (const admit of old) book.do(admit)
    book.do(admitOf({ id: 'running', now: NOON + 300_258 }))
    // The last of them has not ended by then.
    expect(Object.keys(book.user()?.leases ?? {})).toHaveLength(258)
    expect(book.row()).toMatchObject({ requests: 260, lost: 2, lostTokens: 200, charged: 26_000 })
    expect(book.row()).toMatchObject({ reserved: 25_800 })
    expect(book.user()).toMatchObject({ charged: 26_000 })
    for (const [n, applied] of [false, false, true].entries()) {
      expect(book.do(settleOf(old[n]!, {}, NOON + 300_258)), `${n}`).toEqual({ applied })
    }
    const whole = book.row()
    expect(whole.requests - whole.exact - whole.lost).toBe(257)
  })

  test('those of one moment are lost together, and of yesterday in their own day', () => {
    const book = ledger()
    for (let n = 0; n < 260; n += 1) book.do(admitOf({ id: `${n}`, now: NOON + (n > 2 ? 1 : 0) }))
    book.do(admitOf({ id: 'next', now: NOON + DAY_MS - 1 }))
    expect(Object.keys(book.user()?.leases ?? {})).toEqual(['next'])
    expect(book.thin()).toEqual({
      requests: 260,
      lost: 260,
      charged: 26_000,
      lostTokens: 26_000,
    })
    expect(book.thin('a/one', TOMORROW)).toEqual({ requests: 1, charged: 100, reserved: 100 })
  })
})

describe('a lease that is lost with its document', () => {
  const admit = admitOf({ id: '1' })
  const told = settleOf(admit, { charged: 70 }, NOON + HOUR)

  test('is entered at the time of its admission, once', () => {
    const book = ledger()
    expect(book.do(told)).toEqual({ applied: true })
    expect(book.do(told)).toEqual({ applied: false })
    expect(book.do({ ...told, op: 'enter' })).toEqual({ applied: false })
    expect(book.do(admit)).toMatchObject({ ok: true })
    expect(book.row()).toMatchObject({ requests: 1, exact: 1, charged: 70, reserved: 0 })
    expect(book.everyone()).toEqual(amounts(1, 70))
    expect(book.day()?.total).toMatchObject({ requests: 1, charged: 70, users: 1 })
    expect(book.events()).toMatchObject([{ id: '1', at: NOON }])
  })

  test('is entered if the document began after the admission, or is older than it', () => {
    const book = ledger()
    book.do(admitOf({ id: 'before', now: NOON - 1 }))
    book.do(admitOf({ id: 'after', user: 'bob', now: NOON + 1 }))
    expect(book.do(told)).toEqual({ applied: true })
    const { user: _, ...bob } = admit
    expect(book.do(settleOf({ ...bob, id: '2', user: 'bob' }))).toEqual({ applied: true })
  })

  test('is not entered if the document knew the admission: the request was settled before', () => {
    const book = ledger()
    book.do(admit)
    expect(book.do(told)).toEqual({ applied: true })
    expect(book.do(told)).toEqual({ applied: false })
    expect(book.row()).toMatchObject({ requests: 1, charged: 70 })
  })

  test('is not entered of a user who was erased, nor a day after the admission', () => {
    const book = ledger()
    book.do(admit)
    book.do({ op: 'erase', now: NOON + 1, user: 'alice' })
    expect(book.do(told)).toEqual({ applied: false })
    const late = settleOf(admitOf({ id: '2', user: 'bob' }), {}, NOON + DAY_MS)
    expect(book.do(late)).toEqual({ applied: false })
    expect(book.user('bob')).toBeUndefined()
  })
})

describe('new users', () => {
  const network = { network: 'net', perMinute: 2 }
  const from = (user: string, now = NOON, newUsers = network) =>
    admitOf({ id: `${user} ${now}`, user, now, newUsers })
  const refusal = { ok: false, reason: 'newUsers', perMinute: 2, resetAt: NOON + 60_000 }

  test('are so many of a network in a minute, and known users are no part of it', () => {
    const book = ledger()
    for (const user of ['alice', 'bob']) expect(book.do(from(user))).toMatchObject({ ok: true })
    expect(book.do(from('carol', NOON + 59_999))).toEqual(refusal)
    expect(book.user('carol')).toBeUndefined()
    for (const user of ['alice', 'bob']) {
      expect(book.do(from(user, NOON + 1))).toMatchObject({ ok: true })
    }
    const other = { ...network, network: 'other' }
    expect(book.do(from('carol', NOON, other))).toMatchObject({ ok: true })
    expect(book.do(from('dave', NOON + 60_000))).toMatchObject({ ok: true })
    expect(book.do(admitOf({ id: 'x', user: 'eve' }))).toMatchObject({ ok: true })
  })

  test('are counted of a thousand networks, and admitted of further ones', () => {
    const book = ledger()
    const of = (network: string, user: string) =>
      book.do(from(user, NOON, { network, perMinute: 1 }))
    for (let n = 0; n < 1000; n += 1) of(`net-${n}`, `user-${n}`)
    expect(of('net-5', 'one more')).toMatchObject({ reason: 'newUsers' })
    for (const user of ['x', 'y']) expect(of('further', user)).toMatchObject({ ok: true })
  })

  test('take no place if they are refused for another reason, or were entered', () => {
    const book = ledger()
    const none = { model: { requestsPerDay: 0 } }
    for (const user of ['a', 'b', 'c']) book.do({ ...from(user), limits: none })
    book.do({ ...settleOf(from('d')), op: 'enter' })
    expect(book.do(from('d'))).toMatchObject({ ok: true })
    for (const user of ['alice', 'bob']) expect(book.do(from(user))).toMatchObject({ ok: true })
    expect(book.do(from('carol'))).toEqual(refusal)
  })
})

describe('windows', () => {
  test('are those of the admission, whenever a request ends', () => {
    const book = ledger()
    const night = Date.UTC(2026, 10, 22, 23, 59, 59)
    const byMinute = { model: { tokensPerMinute: 1e6 } }
    const admit = admitOf({ id: '1', now: night, limits: byMinute })
    book.do(admit)
    const next = book.do(admitOf({ id: '2', now: night + 2000, limits: byMinute })) as Admitted
    const counted = amounts(1, 100)
    expect(next.limits?.[0]?.used).toEqual({ minute: counted })
    book.do(settleOf(admit, {}, night + 3000))
    expect(book.user()).toMatchObject({
      date: TOMORROW,
      charged: 100,
      answered: 0,
      models: { 'a/one': { row: { requests: 1, charged: 100 } } },
    })
    expect([book.used(), book.used('a/one', 'minute')]).toEqual([counted, counted])
    expect([book.everyone(), book.everyone('*', 'minute')]).toEqual([counted, counted])
    expect(book.thin()).toMatchObject({ requests: 1, exact: 1, charged: 15 })
    expect(book.day()?.total).toMatchObject({ charged: 15, hours: { 23: 15 } })
    expect(book.day(TOMORROW)).toBeUndefined()
  })

  test('never start again when a clock steps back', () => {
    const book = ledger()
    const of = (id: string, now: number) => admitOf({ id, now, limits: { model: limits(150) } })
    book.do(of('1', NOON))
    expect(book.do(of('2', NOON - DAY_MS))).toMatchObject({ ok: false, used: 100 })
    expect(book.do(of('3', NOON + 12 * HOUR))).toMatchObject({ ok: true })
    expect(book.do(of('4', NOON))).toMatchObject({ ok: false, resetAt: NOON + 36 * HOUR })
    // This is the ledger's clock, not the user's.
    expect(book.do({ ...of('5', NOON), user: 'bob' })).toMatchObject({ at: NOON + 12 * HOUR })
  })

  test('that have ended are removed with the next request', () => {
    const book = ledger()
    const byMinute = { model: { tokensPerMinute: 1e6 } }
    book.do(admitOf({ id: '1', limits: byMinute }))
    book.do(admitOf({ id: '2', now: NOON + 60_000 }))
    expect(Object.keys(book.user()?.windows ?? {})).toEqual(['month', 'week', 'day'])
    expect(Object.keys(book.quota()?.windows ?? {})).toEqual(['month', 'week', 'day'])
  })

  test('of everyone are corrected in the minute of admission, and in no later one', () => {
    const book = ledger()
    const everyone = { total: { tokensPerMinute: 1e6 } }
    const of = (id: string, now: number) => admitOf({ id, now, everyone })
    book.do(of('1', NOON))
    book.do(of('2', NOON + 1000))
    book.do(settleOf(of('1', NOON)))
    expect(book.everyone('*', 'minute')).toEqual(amounts(2, 115))
    book.do(of('3', NOON + 60_000))
    book.do(settleOf(of('2', NOON + 1000), {}, NOON + 60_001))
    expect(book.everyone('*', 'minute')).toEqual(amounts(1, 100))
    expect(book.everyone()).toEqual(amounts(3, 130))
  })
})

describe('a block', () => {
  const blockOf = (model: string, until?: number, now = NOON) =>
    ({
      op: 'block',
      now,
      user: 'alice',
      model,
      block: { at: now, reason: 'spam', ...(until !== undefined && { until }) },
    }) as const

  test('refuses one model or all of them, until it ends or is lifted', () => {
    const book = ledger()
    const ask = (model: string, now = NOON) =>
      book.do(admitOf({ id: `${model} ${now}`, model, now }))
    book.do(blockOf('a/one', NOON + 1000))
    expect(ask('a/one')).toEqual({
      ok: false,
      reason: 'blocked',
      model: 'a/one',
      why: 'spam',
      until: NOON + 1000,
    })
    expect(ask('b/two')).toMatchObject({ ok: true })
    expect(ask('a/one', NOON + 999)).toMatchObject({ ok: false })
    expect(ask('a/one', NOON + 1000)).toMatchObject({ ok: true })
    book.do(blockOf('*', undefined, NOON + 1000))
    const refusal = { ok: false, counted: true, reason: 'blocked', model: '*', why: 'spam' }
    expect(ask('b/two', NOON + 1001)).toEqual(refusal)
    book.do({ op: 'block', now: NOON + 1002, user: 'alice', model: '*' })
    expect(ask('b/two', NOON + 1003)).toMatchObject({ ok: true })
  })

  test('is checked before every limit, and a block from all models before a block from one', () => {
    const book = ledger()
    book.do(blockOf('a/one'))
    const asked = admitOf({ id: '1', limits: { model: { requestsPerDay: 0 } } })
    expect(book.do(asked)).toMatchObject({ reason: 'blocked', model: 'a/one' })
    book.do(blockOf('*'))
    expect(book.do(asked)).toMatchObject({ reason: 'blocked', model: '*' })
  })

  test('can be set for a user without requests, is removed when it ends, and is not activity', () => {
    const book = ledger()
    book.do(blockOf('a/one', NOON + 1000))
    book.do(blockOf('*'))
    expect(Object.keys(book.profile()?.blocks ?? {})).toEqual(['a/one', '*'])
    expect(book.user()).toBeUndefined()
    book.do({ op: 'block', now: NOON + 1000, user: 'alice', model: '*' })
    expect(book.profile()).toEqual({ ...newProfile('alice'), blocks: {} })
  })

  test('does not stop a running request from ending', () => {
    const book = ledger()
    book.do(admitOf({ id: '1' }))
    book.do(blockOf('*'))
    expect(book.do({ ...admitOf({ id: '1' }), now: NOON + 1 })).toMatchObject({ ok: true })
    expect(book.do(settleOf(admitOf({ id: '1' })))).toEqual({ applied: true })
  })

  test('is in the audit trail with its reason, its end and the first characters of the user', () => {
    const book = ledger()
    book.do({ ...blockOf('a/one', NOON + 1000), user: 'alice-and-more', ip: '192.0.2.7' })
    book.do({ op: 'block', now: NOON + 5, user: 'alice-and-more', model: 'a/one' })
    const told = { v: VERSION, user: 'alice-', model: 'a/one' }
    expect(book.audit).toStrictEqual([
      { ...told, at: NOON + 5, action: 'unblock' },
      {
        ...told,
        at: NOON,
        action: 'block',
        reason: 'spam',
        until: NOON + 1000,
        ip: '192.0.2.7',
      },
    ])
  })
})

/** The entry of a request that was served without a lease, by default at noon. */
const enterOf = (id: string, fields: Partial<Event> = {}, now?: number): Enter => {
  const event = eventOf({ id, user: 'alice', at: NOON, ...fields })
  return { op: 'enter', now: now ?? event.at, user: event.user, event }
}

describe('an entry', () => {
  test('counts as if it had been admitted at its own time, once and whatever the limits', () => {
    const book = ledger()
    const full = { model: { requestsPerDay: 0 } }
    expect(book.do(admitOf({ id: '1', limits: full }))).toMatchObject({ ok: false })
    const entry = enterOf('1', {}, NOON + 5000)
    expect(book.do(entry)).toEqual({ applied: true })
    expect(book.do(entry)).toEqual({ applied: false })
    expect(book.thin()).toMatchObject({ requests: 1, exact: 1, charged: 15 })
    expect(book.thin()).not.toHaveProperty('reserved')
    expect([book.used(), book.everyone(), book.everyone('a/one')]).toEqual(
      Array.from({ length: 3 }, () => amounts(1, 15)),
    )
    expect(book.day()?.total).toMatchObject({ requests: 1, exact: 1, charged: 15, users: 1 })
    expect(book.events()).toMatchObject([{ id: '1', at: NOON, reserved: 100, charged: 15 }])
    expect(book.events()[0]).not.toHaveProperty('late')
  })

  test('settles a lease that exists after all', () => {
    const book = ledger()
    book.do(admitOf({ id: '1', reserved: 70 }))
    expect(book.do(enterOf('1', { at: NOON + 50 }))).toEqual({ applied: true })
    expect(book.thin()).toMatchObject({ requests: 1, exact: 1, charged: 15 })
    expect(book.events()).toMatchObject([{ at: NOON, reserved: 70 }])
    expect(book.user()?.leases).toEqual({})
    expect(book.do(enterOf('1'))).toEqual({ applied: false })
  })

  test('leaves no lease for an admission that comes after it', () => {
    const book = ledger()
    book.do(enterOf('1'))
    const answer = book.do(admitOf({ id: '1', now: NOON + 5 })) as Admitted
    expect(answer).toMatchObject({ ok: true, at: NOON + 5 })
    expect(answer.limits?.[0]?.used.day).toEqual(amounts(1, 15))
    expect(book.user()?.leases).toEqual({})
    expect(book.row().requests).toBe(1)
  })

  test('of a failed request charges nothing, and counts for the user alone', () => {
    const book = ledger()
    book.do(enterOf('1', { outcome: 'failed', charged: 0, status: 500 }))
    expect(book.thin()).toMatchObject({ requests: 1, failed: 1 })
    expect([book.used(), book.everyone()]).toEqual([amounts(1, 0), amounts(0, 0)])
  })

  test('counts in the minute of its request, if that is not over', () => {
    const book = ledger()
    book.do(admitOf({ id: '1', everyone: { total: { tokensPerMinute: 1e6 } } }))
    const minutes = () => [book.used('a/one', 'minute'), book.everyone('*', 'minute')]
    const both = (requests: number, tokens: number) => Array(2).fill(amounts(requests, tokens))
    book.do(enterOf('2', { at: NOON + 5000 }))
    expect(minutes()).toEqual(both(2, 115))
    book.do(enterOf('3', { at: NOON - 5000 }, NOON + 6000))
    expect(minutes()).toEqual(both(2, 115))
    expect(book.everyone()).toEqual(amounts(3, 130))
  })

  test('of a day that has ended counts in that day, and in no window of the next day', () => {
    const book = ledger()
    book.do(admitOf({ id: '1', now: NOON + DAY_MS }))
    book.do(enterOf('2', {}, NOON + DAY_MS))
    expect(book.thin('a/one', TODAY)).toMatchObject({ requests: 1, exact: 1, charged: 15 })
    expect(book.day()?.total).toMatchObject({ requests: 1, charged: 15 })
    expect([book.used(), book.everyone()]).toEqual(Array(2).fill(amounts(1, 100)))
  })

  test.each([
    [7 * DAY_MS - 1, true],
    [7 * DAY_MS, false],
  ])('is accepted %i ms after its request: %j', (after, applied) => {
    expect(ledger().do(enterOf('1', {}, NOON + after))).toEqual({ applied })
  })

  test('from the future counts now', () => {
    const book = ledger()
    book.do(enterOf('1', { at: NOON + DAY_MS }, NOON))
    expect(book.events()[0]?.at).toBe(NOON)
    expect(book.row().requests).toBe(1)
  })

  test('of an erased user counts only if it was served after the erase', () => {
    const book = ledger()
    book.do({ op: 'erase', now: NOON, user: 'alice' })
    expect(book.do(enterOf('1', { at: NOON }))).toEqual({ applied: false })
    expect(book.user()).toBeUndefined()
    expect(book.do(enterOf('2', { at: NOON + 1 }))).toEqual({ applied: true })
    expect(book.do(enterOf('3', { at: NOON, user: 'bob' }))).toEqual({ applied: true })
  })
})

describe('a day', () => {
  test('counts cached tokens as part of the prompt, if upstream reported them', () => {
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
    book.do(admitOf({ id: '5', now: NOON + DAY_MS }))
    expect(book.past()?.[TODAY]).toEqual({ 'a/one': { requests: 4, exact: 3, failed: 1, ...sums } })
  })

  test('of a user moves to the past with the first request after it, and is dropped as the oldest', () => {
    const book = ledger()
    for (let day = 0; day <= 8; day += 1) {
      const admit = admitOf({ id: `${day}`, now: NOON + day * DAY_MS })
      book.do(admit)
      book.do(settleOf(admit, { session: 's' }))
    }
    const dates = Array.from({ length: 7 }, (_, n) => dateOf(NOON + (n + 1) * DAY_MS))
    expect(Object.keys(book.past() ?? {})).toEqual(dates)
    expect(book.user()?.date).toBe(dateOf(NOON + 8 * DAY_MS))
    // A day without a request is not stored.
    book.do(admitOf({ id: 'x', now: NOON + 11 * DAY_MS }))
    expect(Object.keys(book.past() ?? {})).toEqual([...dates.slice(3), dateOf(NOON + 8 * DAY_MS)])
    expect(book.user()?.sessions).toEqual({})
  })

  test('counts a session once, and only if it was answered', () => {
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
    expect(book.day(TOMORROW)?.sessions).toBe(1)
    expect(book.user()?.sessions).toEqual({ one: 1 })
  })

  test('counts a user once, and once per model, however the answers ended', () => {
    const book = ledger()
    const request = (id: string, outcome: Event['outcome'], user = 'alice', after = 1000) => {
      const admit = admitOf({ id, user })
      book.do(admit)
      book.do(settleOf(admit, { outcome }, NOON + after))
    }
    request('1', 'exact')
    request('2', 'estimated')
    request('3', 'exact')
    request('4', 'failed', 'bob', 5000)
    request('5', 'exact', 'alice', 2000)
    const { total, models } = book.day() ?? {}
    expect([total?.users, models?.['a/one']?.users]).toEqual([1, 1])
    expect(total).toMatchObject({ requests: 5, exact: 3, estimated: 1, failed: 1 })
    // The users' clocks differ, and the latest time is kept.
    expect([total?.at, models?.['a/one']?.at]).toEqual([NOON + 5000, NOON + 5000])
  })

  test('that has ended with only failed requests has no answer yet', () => {
    const book = ledger()
    const failed = admitOf({ id: '1' })
    book.do(failed)
    book.do(failureOf(failed))
    book.do(admitOf({ id: '2', now: NOON + DAY_MS }))
    expect(book.past()?.[TODAY]).toEqual({ 'a/one': { requests: 1, failed: 1 } })
    book.do(enterOf('3', { model: 'b/two', charged: 0 }))
    expect(book.day()?.total.users).toBe(1)
    book.do(enterOf('4', { charged: 0 }))
    expect(book.past()?.[TODAY]?.['a/one']).toMatchObject({ requests: 2, failed: 1, exact: 1 })
    book.do(enterOf('5', { charged: 0 }))
    const { total, models } = book.day() ?? {}
    expect([total?.users, models?.['a/one']?.users]).toEqual([1, 1])
  })
})

describe('the index', () => {
  test('has a user from the first admission, and again once ten minutes have passed', () => {
    const book = ledger()
    book.do(admitOf({ id: '1', reserved: 1000 }))
    expect(book.user()?.indexed).toEqual({ at: NOON, tokens: 1000 })
    book.do(admitOf({ id: '2', now: NOON + INDEX_MS - 1 }))
    expect(book.user()?.indexed).toEqual({ at: NOON, tokens: 1000 })
    book.do(admitOf({ id: '3', now: NOON + INDEX_MS }))
    expect(book.user()?.indexed).toEqual({ at: NOON + INDEX_MS, tokens: 1200 })
  })

  test('is updated at once when the tokens of the day have more than doubled, or the day is new', () => {
    const book = ledger()
    book.do(admitOf({ id: '1', reserved: 100 }))
    book.do(admitOf({ id: '2', reserved: 100, now: NOON + 1 }))
    expect(book.user()?.indexed).toEqual({ at: NOON, tokens: 100 })
    book.do(admitOf({ id: '3', reserved: 1, now: NOON + 2 }))
    expect(book.user()?.indexed).toEqual({ at: NOON + 2, tokens: 201 })
    const midnight = NOON + 12 * HOUR
    book.do(admitOf({ id: '4', reserved: 1, now: midnight - 1 }))
    book.do(admitOf({ id: '5', reserved: 1, now: midnight }))
    expect(book.user()?.indexed).toEqual({ at: midnight, tokens: 1 })
  })

  test('is updated by ended requests by the same rule', () => {
    const book = ledger()
    const admit = admitOf({ id: '1', reserved: 100 })
    book.do(admit)
    book.do(settleOf(admit, { charged: 40 }))
    expect(book.user()?.indexed).toEqual({ at: NOON, tokens: 100 })
    const late = admitOf({ id: '2', reserved: 100 })
    book.do(late)
    book.do(settleOf(late, { charged: 500 }))
    expect(book.user()?.indexed).toEqual({ at: NOON + 1000, tokens: 540 })
  })

  test('orders activity by the minute, and within it by the first four characters of the id', () => {
    const at = (id: string) =>
      activityOf({ id, indexed: { at: NOON + 59_999, tokens: 0 } }) - minuteOf(NOON)
    const hash = ((33 * 64 + 34) * 64 + 35) * 64 + 36
    expect(at('abcd')).toBe(hash / 2 ** 24)
    expect(at('abcde')).toBe(hash / 2 ** 24)
    expect(at('a')).toBe(33 / 64)
    expect(activityOf({ id: 'abcd', indexed: { at: 0, tokens: 0 } })).toBe(0)
  })
})

describe('a report', () => {
  const limits: ModelLimits = {
    default: { requestsPerDay: 9 },
    models: { 'b/two': { tokensPerMinute: 7 } },
    total: AMPLE,
  }
  const said = (requests: number, tokens: number, resetAt = nextDay(NOON)) => ({
    requests,
    tokens,
    resetAt,
  })
  const reportOf = (models: Report['models'], now = NOON): Report => ({
    op: 'report',
    now,
    user: 'alice',
    models,
    limits,
  })

  test("is answered with the user's use and limits for each model and for all models", () => {
    const book = ledger()
    book.do(admitOf({ id: '1' }))
    book.do({ op: 'block', now: NOON, user: 'alice', model: 'b/two', block: { at: NOON } })
    book.do({
      op: 'block',
      now: NOON,
      user: 'alice',
      model: 'c',
      block: { at: NOON, until: NOON + 1 },
    })
    const one = inLong(amounts(1, 100))
    expect(book.do(reportOf({ 'b/two': said(1, 5) }, NOON + 1))).toEqual({
      ok: true,
      at: NOON + 1,
      known: true,
      models: {
        'a/one': {
          of: 'user',
          model: 'a/one',
          limits: limits.default,
          used: one,
          reserved: one,
        },
        'b/two': {
          of: 'user',
          model: 'b/two',
          limits: limits.models['b/two'],
          used: {},
          reserved: {},
        },
      },
      total: { of: 'user', model: '*', limits: limits.total, used: one, reserved: one },
      blocks: { 'b/two': { at: NOON } },
    })
  })

  test('is taken 20 times a minute', () => {
    const book = ledger()
    book.do(admitOf({ id: '1' }))
    const tell = (tokens: number, now = NOON) =>
      book.do(reportOf({ 'a/one': said(1, tokens) }, now)) as Reported
    for (let n = 1; n <= 20; n += 1) expect(tell(n).ok).toBe(true)
    expect(tell(99)).toEqual({ ok: false, reason: 'syncs', resetAt: NOON + 60_000 })
    expect(book.user()?.reported).toEqual({ 'a/one': { requests: 1, tokens: 20 } })
    expect(tell(30, NOON + 60_000).ok).toBe(true)
  })

  test('keeps the largest amount that was reported, of today only, and lowers nothing', () => {
    const book = ledger()
    book.do(admitOf({ id: '1' }))
    const tell = (requests: number, tokens: number, resetAt?: number) =>
      book.do(reportOf({ 'a/one': said(requests, tokens, resetAt) }))
    tell(3, 50)
    tell(2, 60)
    tell(9, 90, NOON)
    tell(9, 90, nextDay(NOON) + DAY_MS)
    expect(book.user()?.reported).toEqual({ 'a/one': { requests: 3, tokens: 60 } })
    expect(book.row()).toMatchObject({ requests: 1, charged: 100 })
    book.do(admitOf({ id: '2', now: NOON + DAY_MS }))
    expect(book.user()?.reported).toEqual({})
  })

  test('stores nothing for a user without a request', () => {
    const book = ledger()
    const none = { of: 'user', model: '*', limits: AMPLE, used: {}, reserved: {} }
    expect(book.do(reportOf({ 'a/one': said(1, 5) }))).toMatchObject({ ok: true, total: none })
    expect(book.user()).toBeUndefined()
  })

  test('is kept for 64 models', () => {
    const book = ledger()
    book.do(admitOf({ id: '1' }))
    const names = Array.from({ length: 65 }, (_, n) => `m/${n}`)
    const answer = book.do(reportOf(Object.fromEntries(names.map((name) => [name, said(1, 1)]))))
    expect(Object.keys(book.user()?.reported ?? {})).toEqual(names.slice(0, 64))
    expect(answer).toHaveProperty(['models', 'm/64'])
    book.do(reportOf({ 'm/3': said(2, 2), constructor: said(1, 1) }))
    expect(book.user()?.reported['m/3']).toEqual({ requests: 2, tokens: 2 })
    expect(Object.keys(book.user()?.reported ?? {})).not.toContain('constructor')
  })

  test('without limits of a model answers with none', () => {
    const book = ledger()
    const command: Report = { ...reportOf({ constructor: said(1, 1) }), limits: { models: {} } }
    const answer = book.do(command)
    const { models } = answer as Reported
    expect(Object.entries(models)).toMatchObject([['constructor', { limits: {} }]])
    expect(answer).toHaveProperty(['total', 'limits'], {})
  })
})

describe('resets', () => {
  test('erasing a user deletes all that is kept of the user, and changes no totals', () => {
    const book = ledger()
    const [ended, running] = [admitOf({ id: '1' }), admitOf({ id: '2' })]
    book.do(ended)
    book.do(settleOf(ended))
    book.do(running)
    book.do({ op: 'block', now: NOON, user: 'alice', model: '*', block: { at: NOON } })
    const total = book.day()?.total
    expect(book.do({ op: 'erase', now: NOON + 2000, user: 'alice', ip: '192.0.2.7' })).toEqual({
      ok: true,
    })
    expect([book.user(), book.past(), book.profile(), book.events()]).toEqual([
      undefined,
      undefined,
      undefined,
      [],
    ])
    expect(book.day()?.total).toEqual(total)
    expect(book.everyone()).toEqual(amounts(2, 115))
    expect(book.audit[0]).toStrictEqual({
      v: VERSION,
      at: NOON + 2000,
      action: 'erase',
      user: 'alice',
      ip: '192.0.2.7',
    })
    expect(book.do(settleOf(running))).toEqual({ applied: false })
    expect(book.do(admitOf({ id: '3', now: NOON + 3000 }))).toMatchObject({ ok: true })
    expect(book.row()).toMatchObject({ requests: 1, charged: 100 })
  })

  test('clearing deletes totals and days, and no counters of limits', () => {
    const book = ledger()
    const of = (id: string, now: number) => admitOf({ id, now, everyone: { total: AMPLE } })
    const old = of('1', NOON - 20 * HOUR)
    book.do(old)
    book.do(of('2', NOON))
    book.do(settleOf(of('2', NOON)))
    const kept = [book.quota(), book.quota('a/one'), book.user()]
    expect(book.do({ op: 'clear', now: NOON + 2000 })).toEqual({ ok: true })
    expect(book.day()).toEqual({ ...newDay(TODAY), forgotten: 1 })
    expect([book.quota(), book.quota('a/one'), book.user()]).toEqual(kept)
    expect(book.events()).toEqual([])
    expect(book.audit).toStrictEqual([{ v: VERSION, at: NOON + 2000, action: 'clear' }])
    // A request that ends late is counted in the cleared day from then on.
    expect(book.do(settleOf(old, {}, NOON + 3000))).toEqual({ applied: true })
    expect(book.day('2026-11-21')?.total).toMatchObject({ requests: 1, charged: 15 })
    book.do({ op: 'clear', now: NOON + 4000 })
    expect(book.day('2026-11-21')).toBeUndefined()
    expect(book.day()?.forgotten).toBe(1)

    const empty = ledger()
    expect(empty.do({ op: 'clear', now: NOON })).toEqual({ ok: true })
    expect(empty.day()).toBeUndefined()
  })
})

test('actions of admins are answered, and are in the audit trail', () => {
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
    { v: VERSION, at: NOON, action: 'export' },
    { v: VERSION, at: NOON, action: 'logout' },
    { v: VERSION, at: NOON, action: 'login', ip: '192.0.2.7' },
  ])
})

describe('the clock', () => {
  const tolerance = CLOCK_TOLERANCE_MS

  test("is the time of everyone's latest change, and an earlier command runs at that time", () => {
    const book = ledger()
    book.do(admitOf({ id: '1' }))
    expect(book.quota()?.at).toBe(NOON)
    expect(book.do(admitOf({ id: '2', user: 'bob', now: NOON - HOUR }))).toMatchObject({ at: NOON })
    book.do(admitOf({ id: '3', model: 'b/two', now: NOON + 5 }))
    expect([book.quota()?.at, book.quota('a/one')?.at]).toEqual([NOON + 5, NOON])
  })

  test.each([
    ['as far ahead as is tolerated', tolerance, NOON + tolerance],
    ['further ahead', tolerance + 1, NOON + 7],
    ['a day ahead', DAY_MS, NOON + 7],
    ['behind', -HOUR, NOON],
  ])("is the store's own time for a command that is too far ahead: %s", (_, ahead, at) => {
    let time = NOON
    const book = ledger({ tolerance, time: () => time })
    book.do(admitOf({ id: '1' }))
    time = NOON + 7
    expect(book.do(admitOf({ id: '2', now: NOON + ahead }))).toMatchObject({ ok: true, at })
    expect([book.quota()?.at, book.user()?.at]).toEqual([at, at])
  })

  test("is the store's own time for the very first command, and never goes back to it", () => {
    let time = NOON
    const book = ledger({ tolerance, time: () => time })
    expect(book.do(admitOf({ id: '1', now: NOON + 10 * DAY_MS }))).toMatchObject({ at: NOON })
    time = NOON - HOUR
    const ahead = { now: NOON + 2 * HOUR }
    expect(book.do(admitOf({ id: '2', ...ahead }))).toMatchObject({ at: NOON })
    book.do({ op: 'login', session: 'hash', until: NOON + DAY_MS, ...ahead })
    expect(book.audit[0]?.at).toBe(NOON)
    expect(book.do(settleOf(admitOf({ id: '1' }), {}, ahead.now))).toEqual({ applied: true })
    expect(book.user()?.seen).toBe(NOON)
  })

  test('of a user does not go back either, with nothing counted in between', () => {
    const book = ledger()
    book.do(admitOf({ id: '1' }))
    const report: Report = {
      op: 'report',
      now: NOON + HOUR,
      user: 'alice',
      models: {},
      limits: { models: {} },
    }
    book.do(report)
    expect(book.do(admitOf({ id: '2', now: NOON + 5 }))).toMatchObject({ at: NOON + HOUR })
    expect(book.quota()?.at).toBe(NOON + HOUR)
  })
})

describe('the table of windows', () => {
  test.each(WINDOW_NAMES)('has windows that end where the next one begins: %s', (window) => {
    const { longest } = WINDOWS[window]
    for (const at of [NOON, NOON + 1, NOON - 1, NOON + 12 * HOUR - 1, 0, Date.UTC(2024, 1, 29)]) {
      const [start, end] = [startOf(window, at), endOf(window, at)]
      expect(start <= at && at < end && end - start <= longest).toBe(true)
      expect([startOf(window, start), startOf(window, end - 1), startOf(window, end)]).toEqual([
        start,
        start,
        end,
      ])
    }
  })

  test('has UTC days, and minutes', () => {
    expect(dateOf(startOf('day', NOON))).toBe(TODAY)
    expect(new Date(endOf('day', NOON)).toISOString()).toBe('2026-11-23T00:00:00.000Z')
    expect(nextDay(NOON)).toBe(endOf('day', NOON))
    expect(startOf('minute', NOON + 61_999)).toBe(NOON + 60_000)
    expect(minuteOf(NOON + 59_999)).toBe(NOON / 60_000)
  })

  test('gives dates with the latest first', () => {
    expect(datesTo(NOON, 3)).toEqual(['2026-11-22', '2026-11-21', '2026-11-20'])
    expect(datesTo(NOON, 0)).toEqual([])
  })

  test('names every possible limit, in the order in which limits are checked', () => {
    expect(LIMITS.map(({ name }) => name)).toEqual([
      'requestsPerMonth',
      'tokensPerMonth',
      'usdPerMonth',
      'audioSecondsPerMonth',
      'charactersPerMonth',
      'requestsPerWeek',
      'tokensPerWeek',
      'usdPerWeek',
      'audioSecondsPerWeek',
      'charactersPerWeek',
      'requestsPerDay',
      'tokensPerDay',
      'usdPerDay',
      'audioSecondsPerDay',
      'charactersPerDay',
      'requestsPerHour',
      'tokensPerHour',
      'usdPerHour',
      'audioSecondsPerHour',
      'charactersPerHour',
      'requestsPerMinute',
      'tokensPerMinute',
      'usdPerMinute',
      'audioSecondsPerMinute',
      'charactersPerMinute',
    ])
    for (const { name, unit, window } of LIMITS) expect(limitName(unit, window)).toBe(name)
  })
})

describe('policy', () => {
  const row = { tokensPerDay: 1 }
  const all: ModelLimits = {
    default: { tokensPerDay: 2 },
    total: { tokensPerDay: 3 },
    models: { 'a/one': row },
  }

  test('gives a model its own row, or the row for models without one', () => {
    expect(limitsOf(all, 'a/one')).toBe(row)
    expect(limitsOf(all, 'constructor')).toBe(all.default)
    expect(limitsOf({ models: {} }, 'constructor')).toBeUndefined()
    expect(rowsFor(all, 'a/one')).toEqual({ model: row, total: all.total })
    expect(rowsFor({ models: {}, default: row }, 'b/two')).toEqual({ model: row })
    expect(rowsFor({ models: {} }, 'a/one')).toStrictEqual({})
    expect(everyoneLimits(undefined, undefined)).toEqual({ models: {} })
    expect(everyoneLimits(all, undefined)).toBe(all)
    const user = { usage: {}, profile: newProfile('alice') }
    expect(limitsOfUser(all, user, { plans: {} }, 0)).toEqual({ plan: 'default', limits: all })
  })

  const windows: Windows = {
    day: { start: startOf('day', NOON), ...amounts(3, 30, 300) },
    minute: { start: NOON, ...amounts(2, 20, 200) },
  }

  test('gives the use of a window that is current, and nothing of other windows', () => {
    expect(usedIn(windows, 'day', NOON)).toEqual(amounts(3, 30, 300))
    const none = amounts(0, 0)
    expect(usedIn(windows, 'day', NOON + DAY_MS)).toEqual(none)
    expect(usedIn(windows, 'minute', NOON - 1)).toEqual(none)
    expect(usedIn(windows, 'minute', NOON + 60_000)).toEqual(none)
    expect(usedIn({}, 'day', NOON)).toEqual(none)
    expect(usedIn(undefined, 'day', NOON)).toEqual(none)
  })

  test('gives a standing of the windows that are counted', () => {
    const [day, minute] = [amounts(3, 30, 300), amounts(2, 20, 200)]
    const of = (at: number) => standingOf('everyone', '*', AMPLE, windows, at)
    expect(of(NOON)).toEqual({
      of: 'everyone',
      model: '*',
      limits: AMPLE,
      used: { day, minute },
    })
    expect(of(NOON + 60_000).used).toEqual({ day })
    expect(of(NOON + DAY_MS).used).toEqual({})
    expect(standingOf('user', '*', AMPLE, windows, NOON, ['minute']).used).toEqual({ minute })
    expect(standingOf('user', '*', AMPLE, undefined, NOON).used).toEqual({})
  })

  test('gives what is left of each limit, and never less than zero', () => {
    const limits = { tokensPerMinute: 19, requestsPerDay: 10, tokensPerDay: 0, usdPerDay: 301 }
    const standing = standingOf('user', '*', limits, windows, NOON)
    const day = { window: 'day', resetAt: NOON + 12 * HOUR }
    expect(linesOf(standing, NOON)).toEqual([
      { ...day, unit: 'requests', limit: 10, used: 3, left: 7 },
      { ...day, unit: 'tokens', limit: 0, used: 30, left: 0 },
      { ...day, unit: 'usd', limit: 301, used: 300, left: 1 },
      { window: 'minute', unit: 'tokens', limit: 19, used: 20, left: 0, resetAt: NOON + 60_000 },
    ])
    const free = linesOf({ limits: { tokensPerMinute: 5 }, used: {} }, NOON + 1)
    expect(free).toMatchObject([{ used: 0, left: 5, resetAt: NOON + 60_000 }])
    expect(linesOf({ limits: {}, used: standing.used }, NOON)).toEqual([])
  })
})

function freeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value)
    for (const part of Object.values(value)) freeze(part)
  }
  return value
}

test('changes none of its inputs, and gives the same result for the same inputs', () => {
  fc.assert(
    fc.property(commandSequence(60), (commands) => {
      const [first, second] = [reducerState(KEEP, freeze), reducerState(KEEP, freeze)]
      for (const command of freeze(commands)) expect(first.do(command)).toEqual(second.do(command))
      const documents = ['usage', 'past', 'profiles', 'quotas', 'days'] as const
      for (const name of documents) expect(first[name]).toEqual(second[name])
    }),
    { numRuns: 300 },
  )
})
