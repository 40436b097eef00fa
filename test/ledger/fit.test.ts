/** The fit: what a request is granted that has no maximum of completion tokens of its own. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { Admit } from '../../src/ledger/commands.ts'
import type { Admitted } from '../../src/ledger/answers.ts'
import type { Limits, Rows } from '../../src/ledger/policy.ts'
import { admitOf, NOON, settleOf } from '../support/commands.ts'
import { amounts } from '../support/amounts.ts'
import { reducerState } from '../support/state.ts'

const PROMPT = 100
const DEFAULT = 2048
const FULL = PROMPT + DEFAULT

/** A request without a maximum: a prompt of 100 tokens, and by default one completion of at most 2,048. */
const asking = (fields: Partial<Admit> = {}, { count = 1, tokens = DEFAULT } = {}): Admit =>
  admitOf({
    id: 'asked',
    reserved: PROMPT + count * tokens,
    completion: count * tokens,
    completions: { count, tokens },
    ...fields,
  })

/** The same with a maximum that the client sent. */
const sending = (maximum: number, count = 1, fields: Partial<Admit> = {}): Admit => {
  const completion = count * maximum
  return admitOf({ id: 'sent', reserved: PROMPT + completion, completion, maximum, ...fields })
}

/** A ledger in which so much was used before, and what a request reserves then. */
function ledger({ tokens = 0, usd = 0 } = {}) {
  const state = reducerState({ userDays: 7 })
  const minutely: Limits = { requestsPerHour: 9, requestsPerMinute: 9 }
  const before = admitOf({ id: 'before', reserved: tokens, limits: { model: minutely } })
  if (tokens + usd > 0) {
    state.do(before)
    state.do(settleOf(before, { charged: tokens, cost: String(usd) }, NOON))
  }
  return {
    ...state,
    lease: (id = 'asked') => state.usage.get('alice')?.leases[id],
  }
}

/** What a request is granted where this much of a limit is left: the maximum to be written, and the reservation. */
function grantOf(admit: Admit, before = {}) {
  const book = ledger(before)
  const answer = book.do(admit) as Admitted
  if (!answer.ok) return answer
  const lease = book.lease(admit.id)
  expect(lease?.maximum).toBe(answer.maximum)
  return { maximum: answer.maximum, ...lease?.reserved }
}

const granted = (maximum: number | undefined, tokens: number, usd = 0) => ({
  maximum,
  ...amounts(1, tokens, usd),
})

const model = (row: Limits): { limits: Rows } => ({ limits: { model: row } })

describe('a request without a maximum', () => {
  test.each([
    ['more than enough', FULL + 1, undefined],
    ['just enough', FULL, undefined],
    ['one token too few', FULL - 1, DEFAULT - 1],
    ['half', 1100, 1000],
    ['just the least', PROMPT + 256, 256],
  ])('gets what is left of a limit: %s', (_, left, maximum) => {
    const asked = asking(model({ tokensPerDay: 5000 }))
    const tokens = PROMPT + (maximum ?? DEFAULT)
    expect(grantOf(asked, { tokens: 5000 - left })).toEqual(granted(maximum, tokens))
  })

  test.each([PROMPT + 255, PROMPT, 1, 0])(
    'is refused where %i tokens are left, and told the smallest request',
    (left) => {
      const asked = asking(model({ tokensPerDay: 5000 }))
      expect(grantOf(asked, { tokens: 5000 - left })).toMatchObject({
        ok: false,
        unit: 'tokens',
        used: 5000 - left,
        asked: PROMPT + 256,
      })
    },
  )

  test.each<[string, Partial<Admit>]>([
    ["the model's week", model({ tokensPerWeek: 1000 })],
    ["the model's month", model({ tokensPerMonth: 1000 })],
    ["the user's day", { limits: { total: { tokensPerDay: 1000 } } }],
    ["everyone's day", { limits: {}, everyone: { total: { tokensPerDay: 1000 } } }],
    [
      "everyone's month of the model",
      { limits: {}, everyone: { model: { tokensPerMonth: 1000 } } },
    ],
    [
      'the share of callers who are not verified',
      { limits: {}, everyone: { total: { tokensPerDay: 2000 } }, unverified: 50 },
    ],
  ])('is cut to what is left of %s', (_, fields) => {
    expect(grantOf(asking(fields))).toEqual(granted(900, 1000))
  })

  test('gets what the narrowest of several limits leaves', () => {
    const price = { input: 1000, output: 10_000 }
    const limits = {
      model: { tokensPerDay: 2000, tokensPerWeek: 1500, usdPerMonth: 1e12 },
      total: { tokensPerMonth: 1000, usdPerDay: 8100 },
    }
    // 100 nano-USD for the prompt, and 10 for each of 800.
    expect(grantOf(asking({ limits, price }))).toEqual(granted(800, 900, 8100))
    const ample = { ...limits, total: { ...limits.total, usdPerDay: 1e9 } }
    expect(grantOf(asking({ limits: ample, price }))).toEqual(granted(900, 1000, 9100))
  })

  test('shares what is left between its completions', () => {
    const three = asking(model({ tokensPerDay: 1000 }), { count: 3, tokens: 500 })
    expect(grantOf(three)).toEqual(granted(300, PROMPT + 900))
    expect(grantOf(three, { tokens: 132 })).toEqual(granted(256, PROMPT + 768))
    expect(grantOf(three, { tokens: 133 })).toMatchObject({ ok: false, asked: PROMPT + 768 })
  })

  test('of a default below the least is granted whole or refused', () => {
    const small = asking(model({ tokensPerDay: 1000 }), { tokens: 50 })
    expect(grantOf(small, { tokens: 850 })).toEqual(granted(undefined, 150))
    expect(grantOf(small, { tokens: 851 })).toMatchObject({ ok: false, asked: 150 })
  })

  test('is not cut by a limit of requests', () => {
    expect(grantOf(asking(model({ requestsPerDay: 1 })))).toEqual(granted(undefined, FULL))
    const second = asking(model({ requestsPerDay: 1 }))
    expect(grantOf(second, { tokens: 1 })).toMatchObject({ unit: 'requests', asked: 1 })
  })
})

describe.each(['Minute', 'Hour'] as const)('a limit of a short window (%s)', (window) => {
  const limited = (limit: number) => asking(model({ [`tokensPer${window}`]: limit }))

  test('cuts no request that would fit into it whole: waiting is better than a cut answer', () => {
    const refusal = { ok: false, window: window.toLowerCase(), asked: FULL }
    expect(grantOf(limited(FULL))).toEqual(granted(undefined, FULL))
    expect(grantOf(limited(FULL), { tokens: 1 })).toMatchObject(refusal)
    expect(grantOf(limited(9000), { tokens: 8000 })).toMatchObject(refusal)
  })

  test('cuts a request that would never fit into it whole', () => {
    expect(grantOf(limited(FULL - 1))).toEqual(granted(DEFAULT - 1, FULL - 1))
    expect(grantOf(limited(1000), { tokens: 500 })).toEqual(granted(400, 500))
    const refusal = { ok: false, window: window.toLowerCase(), asked: PROMPT + 256 }
    expect(grantOf(limited(1000), { tokens: 645 })).toMatchObject(refusal)
  })

  test('of dollars is judged by what the whole request costs', () => {
    const price = { input: 1000, output: 10_000 }
    const cost = PROMPT + 10 * DEFAULT
    const inDollars = (limit: number) => asking({ ...model({ [`usdPer${window}`]: limit }), price })
    expect(grantOf(inDollars(cost), { usd: 1 })).toMatchObject({ ok: false, asked: cost })
    expect(grantOf(inDollars(cost - 1))).toEqual(granted(DEFAULT - 1, FULL - 1, cost - 10))
  })

  test('does not hide that a longer window cuts', () => {
    const asked = asking(
      model({ [`tokensPer${window}`]: FULL, tokensPerDay: 2000, requestsPerDay: 9 }),
    )
    expect(grantOf(asked, { tokens: 1000 })).toEqual(granted(900, 1000))
  })
})

describe('a limit in dollars', () => {
  const price = { input: 1000, output: 10_000 }
  const asked = asking({ ...model({ usdPerDay: 1e6 }), price })
  const at = (left: number) => grantOf(asked, { usd: 1e6 - left })

  test('cuts to what its rest pays for', () => {
    const whole = PROMPT + 10 * DEFAULT
    expect(at(whole)).toEqual(granted(undefined, FULL, whole))
    expect(at(whole - 1)).toEqual(granted(DEFAULT - 1, FULL - 1, whole - 10))
    expect(at(PROMPT + 10 * 1000 + 9)).toEqual(granted(1000, 1100, PROMPT + 10 * 1000))
    expect(at(PROMPT + 2560)).toEqual(granted(256, 356, PROMPT + 2560))
  })

  test.each([PROMPT + 2559, PROMPT, PROMPT - 1, 0])(
    'refuses where it leaves %i nano-USD, and tells what the smallest request costs',
    (left) => {
      const used = 1e6 - left
      expect(at(left)).toMatchObject({ ok: false, unit: 'usd', used, asked: PROMPT + 2560 })
    },
  )

  test('never cuts what costs nothing', () => {
    const free = asking({ ...model({ usdPerDay: 1000 }), price: { input: 1000, output: 0 } })
    expect(grantOf(free, { usd: 900 })).toEqual(granted(undefined, FULL, PROMPT))
    expect(grantOf(free, { usd: 901 })).toMatchObject({ ok: false, asked: PROMPT })
  })

  test('rounds a cost up once, not for each token', () => {
    // A third of a nano-USD a token, of the prompt as of the completion.
    const thirds = asking({ ...model({ usdPerDay: 1e6 }), price: { input: 333, output: 333 } })
    const tokens = Math.floor(120_000 / 333)
    expect(grantOf(thirds, { usd: 1e6 - 120 })).toEqual(granted(tokens - PROMPT, tokens, 120))
  })
})

describe("a plan's maximum", () => {
  const withPlan = (maxCompletionTokens: number, admit: Admit, used = 0) => {
    const book = ledger({ tokens: used })
    book.do({ op: 'plan', now: NOON, name: 'small', plan: { limits: {}, maxCompletionTokens } })
    book.do({ op: 'profile', now: NOON, user: 'alice', set: { plan: 'small' }, clear: {} })
    const answer = book.do(admit) as Admitted
    if (!answer.ok) return answer
    return { maximum: answer.maximum, ...book.lease(admit.id)?.reserved }
  }
  const asked = asking({ limits: {}, everyone: { total: { tokensPerDay: 1000 } } })

  test('takes the place of the default, and is cut like it', () => {
    expect(withPlan(500, asked)).toEqual(granted(500, 600))
    expect(withPlan(500, asked, 400)).toEqual(granted(500, 600))
    expect(withPlan(500, asked, 401)).toEqual(granted(499, 599))
    expect(withPlan(500, asked, 645)).toMatchObject({ ok: false, asked: PROMPT + 256 })
  })

  test('below the least is granted whole or refused', () => {
    expect(withPlan(200, asked, 700)).toEqual(granted(200, 300))
    expect(withPlan(200, asked, 701)).toMatchObject({ ok: false, asked: PROMPT + 200 })
  })

  test('makes a short window one that the request fits into', () => {
    const minute = asking({ limits: {}, everyone: { total: { tokensPerMinute: 1000 } } })
    expect(withPlan(500, minute)).toEqual(granted(500, 600))
    expect(withPlan(500, minute, 500)).toMatchObject({ ok: false, asked: PROMPT + 500 })
  })

  test('above the default changes nothing', () => {
    expect(withPlan(9000, asking({ limits: {} }))).toEqual(granted(undefined, FULL))
  })
})

test('a maximum that the client sent is never cut', () => {
  const limited = model({ tokensPerDay: 1000, tokensPerMinute: 500 })
  expect(grantOf(sending(400, 1, limited))).toEqual(granted(undefined, 500))
  expect(grantOf(sending(401, 1, limited))).toMatchObject({ ok: false, asked: 501 })
  expect(grantOf(sending(901, 1, limited))).toMatchObject({ ok: false, asked: 1001 })
})

describe('the grant of an id', () => {
  test('is the same when the id is admitted again, whatever is left then', () => {
    const book = ledger()
    const limited = model({ tokensPerDay: 3000 })
    const other = sending(1900, 1, limited)
    book.do(other)
    const asked = asking(limited)
    expect(book.do(asked)).toMatchObject({ ok: true, maximum: 900 })
    expect(book.do({ ...asked, now: NOON + 5 })).toMatchObject({ ok: true, maximum: 900 })
    book.do(settleOf(other, { charged: 0 }))
    expect(book.do(asked)).toMatchObject({ ok: true, maximum: 900 })
    expect(book.do({ ...asked, limits: { model: { tokensPerDay: 0 } } })).toMatchObject({
      maximum: 900,
    })
    expect(book.lease()?.reserved).toEqual(amounts(1, 1000))
    // A whole grant stays whole.
    const ample = asking({ id: 'ample', limits: {} })
    expect(book.do(ample)).not.toHaveProperty('maximum')
    expect(book.do({ ...ample, ...limited })).not.toHaveProperty('maximum')
  })

  test('gives back what the request did not use', () => {
    const book = ledger()
    const asked = asking(model({ tokensPerDay: 1000 }))
    book.do(asked)
    book.do(settleOf(asked, { charged: 300 }))
    expect(book.do({ ...asked, id: 'next' })).toMatchObject({ ok: true, maximum: 600 })
    expect(book.events()[0]).toMatchObject({ reserved: 1000, charged: 300 })
  })
})

test('the grant is the largest maximum with which the request is within every limit', () => {
  const limit = fc.option(fc.integer({ min: 0, max: 9000 }), { nil: undefined })
  const rows = fc
    .record({
      tokensPerDay: limit,
      tokensPerMonth: limit,
      usdPerWeek: limit,
      tokensPerMinute: limit,
    })
    .map((row) => JSON.parse(JSON.stringify(row)) as Limits)
  const each = fc.integer({ min: 0, max: 3000 })
  const setting = fc.record({
    limits: fc.record({ model: rows, total: rows }),
    everyone: fc.record({ total: rows }),
    price: fc.record({ input: each, output: each }),
    count: fc.integer({ min: 1, max: 3 }),
    tokens: fc.integer({ min: 1, max: 2500 }),
    used: fc.integer({ min: 0, max: 4000 }),
  })
  fc.assert(
    fc.property(setting, ({ count, tokens, used, ...fields }) => {
      const before = { tokens: used, usd: used }
      const isGranted = (maximum: number) =>
        ledger(before).do(sending(maximum, count, fields)) as Admitted
      const answer = ledger(before).do(asking(fields, { count, tokens })) as Admitted
      const least = Math.min(256, tokens)
      if (!answer.ok) {
        // A short window may have had room for a smaller request, and refuses the whole one.
        const refused = isGranted(least)
        const { window, asked } = answer as unknown as { window: string; asked: number }
        if (window !== 'minute') expect(refused).toEqual(answer)
        expect(asked).toBeGreaterThan(0)
        return
      }
      const { maximum = tokens } = answer
      expect(maximum).toBeGreaterThanOrEqual(least)
      expect(isGranted(maximum)).toMatchObject({ ok: true })
      if (maximum < tokens) expect(isGranted(maximum + 1)).toMatchObject({ ok: false })
    }),
    { numRuns: 500 },
  )
})
