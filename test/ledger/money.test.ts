/** Money: what tokens cost, and that the ledger keeps it to the nano-dollar. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { Admit, Enter } from '../../src/ledger/commands.ts'
import { rowsOf, whole } from '../../src/ledger/rows.ts'
import {
  costOf,
  digitsOf,
  mostTokens,
  MOST_MONEY,
  nanoFrom,
  nanoOf,
  usdOf,
  type Price,
} from '../../src/ledger/money.ts'
import { isMoney, limitFrom, limitTo, LIMITS } from '../../src/ledger/policy.ts'
import type { Event } from '../../src/ledger/events.ts'
import type { Windows } from '../../src/ledger/documents.ts'
import { DAY_MS, dateOf, startOf } from '../../src/ledger/windows.ts'
import { admitOf, failureOf, NOON, settleOf } from '../support/commands.ts'
import { amounts } from '../support/amounts.ts'
import { reducerState } from '../support/state.ts'

/** The cost in nano-USD, with integers of any size. */
function exactCost(prompt: number, cached: number, completion: number, price: Price): bigint {
  const of = (tokens: number, each: number) => BigInt(tokens) * BigInt(each)
  const pico =
    of(prompt - cached, price.input) +
    of(cached, price.cached ?? price.input) +
    of(completion, price.output)
  return (pico + 999n) / 1000n
}

const MOST = BigInt(MOST_MONEY)
const least = (one: bigint, other: bigint) => (one < other ? one : other)

/** Up to the largest price that configuration takes: $100,000 for a million tokens. */
const each = fc.oneof(
  fc.integer({ min: 0, max: 2_000_000 }),
  fc.integer({ min: 0, max: 100_000_000_000 }),
  fc.constantFrom(0, 1, 999, 1000, 1001, 37_500, 100_000_000_000),
)
const price = fc.record(
  { input: each, cached: each, output: each },
  { requiredKeys: ['input', 'output'] },
)
const tokens = fc.oneof(fc.nat(200_000), fc.nat(1_000_000_000), fc.nat(1_000_000_000_000))

describe('a cost', () => {
  test.each<[string, number, number, number, Price, number]>([
    ['gpt-oss-20b', 1000, 0, 500, { input: 75_000, output: 300_000 }, 225_000],
    [
      'one token from the cache at 37.5 nano-USD',
      1,
      1,
      0,
      { input: 75_000, cached: 37_500, output: 0 },
      38,
    ],
    ['two of them', 2, 2, 0, { input: 75_000, cached: 37_500, output: 0 }, 75],
    ['a cache without a price of its own', 10, 4, 0, { input: 2000, output: 0 }, 20],
    ['a cache that is free', 10, 4, 0, { input: 2000, cached: 0, output: 0 }, 12],
    ['parts of a nano-USD, rounded up once', 1, 0, 1, { input: 400, output: 500 }, 1],
    ['the same beyond one', 1, 0, 1, { input: 501, output: 500 }, 2],
    ['nothing', 0, 0, 0, { input: 5, output: 5 }, 0],
  ])('is the sum over the tokens: %s', (_, prompt, cached, completion, at, cost) => {
    expect(costOf({ prompt, cached, completion }, at)).toBe(cost)
  })

  test('is exact up to the largest amount, and is that amount beyond', () => {
    fc.assert(
      fc.property(tokens, fc.nat(100), tokens, price, (prompt, percent, completion, at) => {
        const cached = Math.floor((prompt * percent) / 100)
        const exact = exactCost(prompt, cached, completion, at)
        expect(BigInt(costOf({ prompt, cached, completion }, at))).toBe(least(exact, MOST))
      }),
      { numRuns: 3000 },
    )
  })
})

test('the most completion tokens are those of which one more would cost too much', () => {
  const left = fc.oneof(fc.nat(1_000_000_000), fc.integer({ min: 0, max: 1e15 }))
  fc.assert(
    fc.property(
      fc.nat(200_000),
      fc.integer({ min: 1, max: 5 }),
      price,
      left,
      (prompt, count, at, nano) => {
        const most = mostTokens(prompt, count, at, nano)
        const exact = (each: number) => exactCost(prompt, 0, count * each, at)
        if (exact(0) > BigInt(nano)) {
          expect(most).toBe(-1)
          return
        }
        const highest = Math.floor(Number.MAX_SAFE_INTEGER / count)
        if (most === Infinity) {
          expect(exact(highest) <= BigInt(nano)).toBe(true)
          return
        }
        expect(exact(most) <= BigInt(nano) && exact(most + 1) > BigInt(nano)).toBe(true)
      },
    ),
    { numRuns: 3000 },
  )
})

test('the most completion tokens are found at once where a token costs almost nothing', () => {
  const most = mostTokens(0, 2, { input: 1, output: 1 }, 1e15)
  expect(most).toBe(Infinity)
})

test('dollars of people are whole nano-USD, and are read as they were written', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 1e12 }), (micro) => {
      const usd = micro / 1e6
      expect(nanoFrom(usd)).toBe(micro * 1000)
      expect(usdOf(nanoFrom(usd))).toBe(usd)
    }),
  )
  for (const nano of [0, 1, 999, 123_456_789_012_345, MOST_MONEY]) {
    expect(nanoOf(digitsOf(nano))).toBe(nano)
    expect(digitsOf(nano)).toMatch(/^\d+$/)
  }
  expect(nanoOf(undefined)).toBe(0)
  for (const { name, unit } of LIMITS) {
    expect(isMoney(name)).toBe(unit === 'usd')
    expect([limitFrom(name, 2), limitTo(name, limitFrom(name, 2))]).toEqual([
      unit === 'usd' ? 2e9 : unit === 'audioSeconds' ? 2000 : 2,
      2,
    ])
  }
})

/** A token of the prompt costs 2 nano-USD, one of the completion 10. */
const PRICE = { input: 2000, output: 10_000 }
const TODAY = dateOf(NOON)

/** A request of 60 + 40 tokens, which costs at most 520 nano-USD. */
const pricedOf = (fields: Partial<Admit> & Pick<Admit, 'id'>): Admit =>
  admitOf({ reserved: 100, completion: 40, price: PRICE, ...fields })

/** Its end, which cost 70 nano-USD. */
const endOf = (admit: Admit, fields: Partial<Event> = {}, now?: number) =>
  settleOf(admit, { cost: '70', ...fields }, now)

function ledger() {
  const state = reducerState({ userDays: 40 })
  const usage = () => state.usage.get('alice')
  const windowsUsd = (windows: Windows = {}) =>
    Object.fromEntries(Object.entries(windows).map(([window, { usd }]) => [window, usd]))
  return {
    ...state,
    usage,
    row: (date = TODAY, model = 'a/one') => {
      const doc = usage()
      const rows = doc?.date === date ? rowsOf(doc) : state.past.get('alice')?.days[date]
      return whole(rows?.[model] ?? {})
    },
    mine: () => windowsUsd(usage()?.windows),
    ofModel: (model = 'a/one') => windowsUsd(usage()?.models[model]?.windows),
    everyone: (scope = '*') => windowsUsd(state.quotas.get(scope)?.windows),
    day: (date = TODAY) => state.days.get(date),
  }
}

const inLong = (usd: number) => ({ month: usd, week: usd, day: usd })

describe('a priced request', () => {
  test('is charged what its reservation costs, and then what it cost', () => {
    const book = ledger()
    const admit = pricedOf({ id: '1' })
    book.do(admit)
    for (const windows of [book.mine(), book.ofModel(), book.everyone(), book.everyone('a/one')]) {
      expect(windows).toEqual(inLong(520))
    }
    expect(book.row()).toMatchObject({ cost: 520, reservedCost: 520 })
    book.do(endOf(admit))
    for (const windows of [book.mine(), book.ofModel(), book.everyone(), book.everyone('a/one')]) {
      expect(windows).toEqual(inLong(70))
    }
    expect(book.row()).toMatchObject({ cost: 70, reservedCost: 0, lostCost: 0 })
    expect(book.day()?.total.cost).toBe(70)
    expect(book.day()?.models['a/one']?.cost).toBe(70)
    expect(book.events()).toMatchObject([{ cost: '70', reservedCost: '520' }])
  })

  test('keeps the price of its admission, whatever the event says', () => {
    const book = ledger()
    const admit = pricedOf({ id: '1' })
    book.do(admit)
    book.do(endOf(admit, { reservedCost: '9', reserved: 7 }))
    expect(book.row()).toMatchObject({ cost: 70, reservedCost: 0 })
    expect(book.mine()).toEqual(inLong(70))
    expect(book.events()).toMatchObject([{ reservedCost: '520' }])
  })

  test('that failed costs nothing', () => {
    const book = ledger()
    const admit = pricedOf({ id: '1' })
    book.do(admit)
    const { event, ...rest } = failureOf(admit)
    book.do({ ...rest, event: { ...event, cost: '0' } })
    expect(book.row()).toMatchObject({ failed: 1, cost: 0, reservedCost: 0 })
    expect([book.mine(), book.everyone()]).toEqual([inLong(0), inLong(0)])
  })

  test('beside unpriced ones adds its own cost only', () => {
    const book = ledger()
    const [priced, unpriced] = [pricedOf({ id: '1' }), admitOf({ id: '2' })]
    for (const admit of [priced, unpriced]) book.do(admit)
    expect(book.row()).toMatchObject({ cost: 520, charged: 200 })
    book.do(settleOf(unpriced))
    book.do(endOf(priced))
    expect(book.row()).toMatchObject({ cost: 70, charged: 30 })
    const [, event] = book.events()
    expect(event).not.toHaveProperty('cost')
    expect(event).not.toHaveProperty('reservedCost')
  })

  test('that is lost leaves the cost of its reservation in its row', () => {
    const book = ledger()
    book.do(pricedOf({ id: '1' }))
    book.do(admitOf({ id: '2', now: NOON + DAY_MS }))
    expect(book.row()).toMatchObject({ lost: 1, cost: 520, reservedCost: 0, lostCost: 520 })
    expect(book.mine()).toMatchObject({ month: 520 })
    const today = ledger()
    for (let n = 0; n < 257; n += 1) today.do(pricedOf({ id: `${n}`, lasts: 1, now: NOON + n }))
    today.do(pricedOf({ id: 'next', now: NOON + 1000 }))
    expect(today.row()).toMatchObject({
      lost: 1,
      cost: 258 * 520,
      reservedCost: 257 * 520,
      lostCost: 520,
    })
  })

  test('that ends in the next day, week or month is corrected in the day of its admission', () => {
    for (const night of ['2026-11-22', '2026-11-30', '2026-12-31']) {
      const book = ledger()
      const admit = pricedOf({ id: '1', now: Date.parse(`${night}T23:59:59Z`) })
      book.do(admit)
      book.do(pricedOf({ id: '2', now: admit.now + 2000 }))
      book.do(endOf(admit, {}, admit.now + 3000))
      expect(book.row(night)).toMatchObject({ cost: 70, reservedCost: 0 })
      expect(book.row(dateOf(admit.now + 2000))).toMatchObject({ cost: 520, reservedCost: 520 })
      const same = (window: 'month' | 'week') =>
        startOf(window, admit.now) === startOf(window, admit.now + 2000)
      const expected = {
        month: same('month') ? 590 : 520,
        week: same('week') ? 590 : 520,
        day: 520,
      }
      expect([book.mine(), book.everyone()], night).toEqual([expected, expected])
      expect(book.day(night)?.total.cost).toBe(70)
    }
  })

  test('that was served without a lease is entered with its cost', () => {
    const book = ledger()
    const { user, event } = endOf(pricedOf({ id: '1' }), { reservedCost: '520' })
    const entry: Enter = { op: 'enter', now: NOON + 5, user, event }
    expect(book.do(entry)).toEqual({ applied: true })
    expect(book.row()).toMatchObject({ cost: 70, reservedCost: 0 })
    expect(book.mine()).toMatchObject(inLong(70))
    expect(book.day()?.total.cost).toBe(70)
    expect(book.events()).toMatchObject([{ cost: '70', reservedCost: '520' }])
  })

  test('reserves at most the largest amount, and a limit refuses it', () => {
    const book = ledger()
    const dear = { input: 100_000_000_000, output: 100_000_000_000 }
    const asked = pricedOf({
      id: '1',
      reserved: 1_000_000_000,
      completion: 0,
      price: dear,
      limits: { model: { usdPerMonth: 1e15 } },
    })
    expect(book.do(asked)).toMatchObject({ ok: false, unit: 'usd', asked: MOST_MONEY })
  })
})

describe('a limit in dollars', () => {
  const limited = (id: string, usdPerDay: number, fields: Partial<Admit> = {}) =>
    pricedOf({ id, limits: { model: { usdPerDay } }, ...fields })

  test('holds to the nano-dollar', () => {
    const book = ledger()
    expect(book.do(limited('1', 519))).toMatchObject({ ok: false, used: 0, asked: 520 })
    expect(book.do(limited('1', 520))).toMatchObject({
      ok: true,
      limits: [{ used: { day: amounts(1, 100, 520) } }],
    })
    book.do(endOf(limited('1', 520)))
    expect(book.do(limited('2', 589))).toEqual({
      ok: false,
      counted: true,
      reason: 'limit',
      of: 'user',
      model: 'a/one',
      window: 'day',
      unit: 'usd',
      limit: 589,
      used: 70,
      asked: 520,
      resetAt: startOf('day', NOON) + DAY_MS,
    })
    expect(book.do(limited('2', 590))).toMatchObject({ ok: true })
  })

  test('judges each model by its own price, and all of them together', () => {
    const book = ledger()
    const rows = { total: { usdPerMonth: 1000 } }
    book.do(pricedOf({ id: '1', limits: rows }))
    const cheap = { input: 1000, output: 1000 }
    const other = pricedOf({ id: '2', model: 'b/two', price: cheap, limits: rows })
    expect(book.do(other)).toMatchObject({ ok: true })
    expect(book.ofModel('b/two')).toEqual(inLong(100))
    expect(book.mine()).toEqual(inLong(620))
    expect(book.do(pricedOf({ id: '3', limits: rows }))).toMatchObject({ model: '*', used: 620 })
  })

  test.each<[string, Partial<Admit>]>([
    ['of a model', { limits: { model: { usdPerMinute: 1e15 } } }],
    ['of all models', { limits: { total: { usdPerMonth: 1e15 } } }],
    ['of everyone', { limits: {}, everyone: { total: { usdPerWeek: 1e15 } } }],
    ['of everyone for the model', { limits: {}, everyone: { model: { usdPerDay: 1e15 } } }],
  ])('%s refuses a model whose price is not known', (_, fields) => {
    const book = ledger()
    expect(book.do(admitOf({ id: '1', ...fields }))).toEqual({ ok: false, reason: 'unpriced' })
    expect(book.usage()).toBeUndefined()
    expect(book.do(pricedOf({ id: '1', ...fields }))).toMatchObject({ ok: true })
    // What is free has a price too.
    const free = { input: 0, output: 0 }
    expect(book.do(pricedOf({ id: '2', ...fields, price: free }))).toMatchObject({ ok: true })
  })

  test('of a plan refuses a model whose price is not known, and a plan that lifts it does not', () => {
    const book = ledger()
    const plan = (usdPerDay: number) =>
      book.do({
        op: 'plan',
        now: NOON,
        name: 'default',
        plan: { limits: { '*': { usdPerDay } } },
      })
    plan(5000)
    const asked = admitOf({ id: '1', limits: {} })
    expect(book.do(asked)).toEqual({ ok: false, reason: 'unpriced' })
    plan(-1)
    expect(book.do(asked)).toMatchObject({ ok: true })
  })

  test('does not refuse a request that was admitted before the price was lost', () => {
    const book = ledger()
    book.do(limited('1', 5000))
    const { price: _, ...again } = limited('1', 5000)
    expect(book.do(again)).toMatchObject({ ok: true })
  })

  test('comes after a block, and before other limits', () => {
    const book = ledger()
    const asked = admitOf({ id: '1', limits: { model: { usdPerDay: 1, requestsPerMonth: 0 } } })
    expect(book.do(asked)).toMatchObject({ reason: 'unpriced' })
    book.do({ op: 'block', now: NOON, user: 'alice', model: '*', block: { at: NOON } })
    expect(book.do(asked)).toMatchObject({ reason: 'blocked' })
  })
})

describe('what keys were charged', () => {
  const use = (book: ReturnType<typeof ledger>, id: string, key?: string, now = NOON) => {
    const admit = pricedOf({ id, now })
    book.do(admit)
    book.do(endOf(admit, key === undefined ? {} : { key }))
  }

  test('is counted by key in the present month', () => {
    const book = ledger()
    use(book, '1', 'k1')
    expect(book.usage()?.keysCharged).toEqual({
      k1: { start: Date.UTC(2026, 10), ...amounts(1, 15, 70) },
    })
    use(book, '2', 'k1')
    use(book, '3', 'k2')
    use(book, '4')
    expect(book.usage()?.keysCharged).toMatchObject({
      k1: amounts(2, 30, 140),
      k2: amounts(1, 15, 70),
    })
    const failed = pricedOf({ id: '5' })
    book.do(failed)
    const { event, ...rest } = failureOf(failed)
    book.do({ ...rest, event: { ...event, key: 'k2', cost: '0' } })
    expect(book.usage()?.keysCharged).toMatchObject({ k2: amounts(2, 15, 70) })
  })

  test('begins again with each month, and has nothing of a request of the month before', () => {
    const book = ledger()
    use(book, '1', 'k1')
    use(book, '2', 'k2')
    const december = Date.UTC(2026, 11, 1, 1)
    const late = pricedOf({ id: 'late', now: december - 7_200_000 })
    book.do(late)
    use(book, '3', 'k1', december)
    expect(book.usage()?.keysCharged).toEqual({
      k1: { start: Date.UTC(2026, 11), ...amounts(1, 15, 70) },
    })
    book.do(endOf(late, { key: 'k2' }, december + 1))
    expect(Object.keys(book.usage()?.keysCharged ?? {})).toEqual(['k1'])
  })
})

test('a reset leaves in a window what running requests reserve, and no cost of ended ones', () => {
  const book = ledger()
  const ended = pricedOf({ id: '1', model: 'b/two' })
  book.do(ended)
  book.do(endOf(ended))
  book.do(pricedOf({ id: '2' }))
  book.do({ op: 'reset', now: NOON + 1000, user: 'alice', window: 'week' })
  expect(book.mine()).toEqual({ month: 590, week: 520, day: 590 })
  expect(book.ofModel('b/two')).toEqual({ month: 70, week: 0, day: 70 })
  book.do({ op: 'reset', now: NOON + 1000, user: 'alice' })
  expect(book.mine()).toEqual(inLong(520))
  expect(book.row(TODAY, 'b/two').cost).toBe(70)
  expect(book.everyone()).toEqual(inLong(590))
  book.do(endOf(pricedOf({ id: '2' })))
  expect([book.mine(), book.ofModel()]).toEqual([inLong(70), inLong(70)])
})

test('a report tells what is used, and the part of it that running requests reserve', () => {
  const book = ledger()
  const ended = pricedOf({ id: '1' })
  book.do(ended)
  book.do(endOf(ended))
  book.do(pricedOf({ id: '2', now: NOON + 1000 }))
  book.do(pricedOf({ id: '3', model: 'b/two', now: NOON + 1000 }))
  const report = { op: 'report', now: NOON + 1000, user: 'alice', models: {} } as const
  const of = (requests: number, tokens: number, usd: number) => ({
    month: amounts(requests, tokens, usd),
    week: amounts(requests, tokens, usd),
    day: amounts(requests, tokens, usd),
  })
  expect(book.do({ ...report, limits: { models: {} } })).toMatchObject({
    models: {
      'a/one': { used: of(2, 115, 590), reserved: of(1, 100, 520) },
      'b/two': { used: of(1, 100, 520), reserved: of(1, 100, 520) },
    },
    total: { used: of(3, 215, 1110), reserved: of(2, 200, 1040) },
  })
})

test('the last window of which a user has a limit is known while it ends after the day', () => {
  const book = ledger()
  const wednesday = NOON - 4 * DAY_MS
  const ask = (id: string, limits: Admit['limits'], everyone?: Admit['everyone']) => {
    book.do(pricedOf({ id, now: wednesday, limits, ...(everyone && { everyone }) }))
    return book.usage()?.limitedUntil
  }
  const week = Date.UTC(2026, 10, 23)
  const month = Date.UTC(2026, 11)
  const day = { tokensPerDay: 5000, requestsPerMinute: 50 }
  expect(ask('1', { model: day })).toBeUndefined()
  expect(ask('2', { model: { tokensPerWeek: 5000 } }, { total: { usdPerMonth: 1e9 } })).toBe(week)
  expect(ask('3', { model: { tokensPerWeek: 5000 }, total: { usdPerMonth: 1e9 } })).toBe(month)
  expect(ask('4', { model: day })).toBeUndefined()
  // The last day of a week.
  expect(book.do(pricedOf({ id: '5', limits: { model: { tokensPerWeek: 5000 } } }))).toMatchObject({
    ok: true,
  })
  expect(book.usage()?.limitedUntil).toBeUndefined()
})
