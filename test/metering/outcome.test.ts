import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { Metered } from '../../src/metering/meter.ts'
import { chargeOf, type Charge, type Ending } from '../../src/metering/outcome.ts'

const usage = { prompt: 10, completion: 5, total: 15 }
const seen = (fields: Partial<Metered> = {}): Metered => ({ deltas: 0, bytes: 0, ...fields })

/** A prompt of 401 bytes, and an answer that upstream ended. */
const base: Omit<Ending, 'status' | 'metered'> = {
  ended: true,
  cut: false,
  reservation: { tokens: 1000, completion: 600, promptBytes: 401 },
  cap: 'balanced',
}

/** The same with another reservation. */
const reserving = (tokens: number, promptBytes = 401): Partial<Ending> => ({
  reservation: { tokens, completion: 0, promptBytes },
})

const exact = (charged = 15): Charge => ({ outcome: 'exact', charged, usage: { ...usage } })
const estimated = (charged: number): Charge => ({ outcome: 'estimated', charged })
const nothing: Charge = { outcome: 'failed', charged: 0 }

test.each<[string, Partial<Ending>, Charge]>([
  ['usage', { status: 200, metered: seen({ usage }) }, exact()],
  [
    'usage beyond the reservation',
    { status: 200, metered: seen({ usage }), ...reserving(9) },
    exact(),
  ],
  ['usage when strict', { status: 200, metered: seen({ usage }), cap: 'strict' }, exact()],
  [
    'usage in an answer that was too large to be read on',
    { status: 200, metered: seen({ usage, over: true }) },
    exact(),
  ],
])('charges what upstream reported for an answer that ends with %s', (_, ending, charge) => {
  expect(chargeOf({ ...base, ...ending })).toEqual(charge)
})

test('charges nothing if upstream reported zero usage', () => {
  const none = { prompt: 0, completion: 0, total: 0 }
  const charge = chargeOf({ ...base, status: 200, metered: seen({ usage: none, deltas: 3 }) })
  expect(charge).toEqual({ outcome: 'exact', charged: 0, usage: none })
})

test.each<[string, Partial<Ending>, Charge]>([
  ['nothing received', { metered: seen() }, estimated(101)],
  ['more deltas than a quarter of the bytes', { metered: seen({ deltas: 7 }) }, estimated(108)],
  ['fewer', { metered: seen({ deltas: 7, bytes: 41 }) }, estimated(112)],
  ['as many', { metered: seen({ deltas: 10, bytes: 40 }) }, estimated(111)],
  ['more than the reservation', { metered: seen({ bytes: 1e6 }) }, estimated(1000)],
  ['a prompt beyond the reservation', { metered: seen(), ...reserving(50) }, estimated(50)],
  ['an empty prompt', { metered: seen({ bytes: 1 }), ...reserving(1000, 0) }, estimated(1)],
  ['no body', {}, estimated(101)],
  ['the last status of success', { status: 299, metered: seen({ deltas: 7 }) }, estimated(108)],
])('charges a success without usage its prompt and %s', (_, ending, charge) => {
  expect(chargeOf({ ...base, status: 200, ...ending })).toEqual(charge)
})

test.each<[string, Partial<Ending>, Charge]>([
  ['no usage yet', { metered: seen({ deltas: 7 }) }, estimated(108)],
  ['the usage so far, if it is more', { metered: seen({ usage, bytes: 4 }) }, estimated(102)],
  [
    'the usage so far, if that is more',
    { metered: seen({ usage: { prompt: 400, completion: 5, total: 405 } }) },
    estimated(405),
  ],
  [
    'usage so far beyond the reservation',
    { metered: seen({ usage: { prompt: 4000, completion: 5, total: 4005 } }) },
    estimated(1000),
  ],
])('does not count an answer that broke off as exact: %s', (_, ending, charge) => {
  expect(chargeOf({ ...base, status: 200, ended: false, ...ending })).toEqual(charge)
})

test.each<[string, Partial<Ending>]>([
  ['cut by us', { status: 200, metered: seen({ deltas: 7 }), ended: false, cut: true }],
  ['cut by us after usage', { status: 200, metered: seen({ usage }), ended: false, cut: true }],
  ['cut by us as it ended', { status: 200, metered: seen({ usage }), cut: true }],
  ['cut by us before any of its body', { status: 200, ended: false, cut: true }],
  ['given up before its first byte', { ended: false, cut: true }],
  ['without usage and too large to be read', { status: 200, metered: seen({ over: true }) }],
  ['strict and without usage', { status: 200, metered: seen({ bytes: 4 }), cap: 'strict' }],
  [
    'strict and broke off after usage',
    { status: 200, metered: seen({ usage }), ended: false, cap: 'strict' },
  ],
  ['strict and without a body', { status: 204, cap: 'strict' }],
])('charges the whole reservation of an answer that was %s', (_, ending) => {
  expect(chargeOf({ ...base, ...ending })).toEqual(estimated(1000))
})

test.each<[string, Partial<Ending>]>([
  ['a status before the answer', { status: 199 }],
  ['a redirect', { status: 300 }],
  ['not modified', { status: 304 }],
  ['a refusal', { status: 400 }],
  ['a refusal when strict', { status: 400, cap: 'strict' }],
  ['a refusal, cut while it was read', { status: 429, ended: false, cut: true }],
  ['an error of upstream', { status: 500 }],
  ['an error of upstream, cut', { status: 503, ended: false, cut: true }],
  ['no connection', { ended: false }],
  ['no connection when strict', { ended: false, cap: 'strict' }],
])('charges nothing for %s', (_, ending) => {
  expect(chargeOf({ ...base, ...ending })).toEqual(nothing)
})

test('reports usage only for an exact outcome', () => {
  const told = (ending: Partial<Ending>) => chargeOf({ ...base, status: 200, ...ending }).usage
  expect(told({ metered: seen({ usage }) })).toBe(usage)
  expect(told({ metered: seen() })).toBeUndefined()
  expect(told({ metered: seen({ usage }), ended: false })).toBeUndefined()
  expect(told({ metered: seen({ usage }), cut: true })).toBeUndefined()
})

/** A token of the prompt costs 2 nano-USD, one from the cache half of it, one of the answer 10. */
const price = { input: 2000, cached: 1000, output: 10_000 }

test.each<[string, Partial<Ending>, number]>([
  ['reported usage', { metered: seen({ usage }) }, 10 * 2 + 5 * 10],
  [
    'reported usage with a part from the cache',
    { metered: seen({ usage: { ...usage, cached: 4 } }) },
    6 * 2 + 4 + 5 * 10,
  ],
  ['usage beyond the reservation', { metered: seen({ usage }), ...reserving(9) }, 70],
  ['the prompt and what was received', { metered: seen({ deltas: 7 }) }, 101 * 2 + 7 * 10],
  [
    'the usage so far, if it costs more',
    { metered: seen({ usage: { ...usage, completion: 50, total: 60 } }), ended: false },
    // Of tokens, the estimate is more.
    10 * 2 + 50 * 10,
  ],
  ['at most the reservation', { metered: seen({ bytes: 1e6 }) }, 400 * 2 + 600 * 10],
  ['the whole reservation', { metered: seen(), cut: true }, 400 * 2 + 600 * 10],
  ['the whole reservation, in strict mode', { metered: seen(), cap: 'strict' }, 6800],
  ['nothing for a failed request', { status: 500 }, 0],
])('costs, at the price of the model: %s', (_, ending, cost) => {
  const asked = { ...base, status: 200, price, ...ending }
  const { tokens, completion } = asked.reservation
  const reservedCost = (tokens - completion) * 2 + completion * 10
  expect(chargeOf(asked)).toMatchObject({ cost, reservedCost })
  const { price: _price, ...unpriced } = asked
  expect(Object.keys(chargeOf(unpriced))).not.toContain('cost')
  expect(Object.keys(chargeOf(unpriced))).not.toContain('reservedCost')
})

test('charges a whole amount, at most the reservation unless upstream reports more', () => {
  const amount = fc.nat(1e9)
  const endings = fc.record({
    status: fc.option(fc.integer({ min: 100, max: 599 }), { nil: undefined }),
    deltas: fc.nat(1e6),
    received: fc.nat(1e8),
    reported: fc.option(amount, { nil: undefined }),
    over: fc.boolean(),
    ended: fc.boolean(),
    cut: fc.boolean(),
    prompt: fc.nat(5e8),
    completion: fc.nat(5e8),
    promptBytes: fc.nat(1e8),
    cap: fc.constantFrom('balanced' as const, 'strict' as const),
  })
  fc.assert(
    fc.property(endings, ({ status, deltas, received, reported, over, ...asked }) => {
      const { prompt, completion, promptBytes, ...rest } = asked
      const reserved = prompt + completion
      const ending = { ...rest, price, reservation: { tokens: reserved, completion, promptBytes } }
      const answered = status !== undefined && status >= 200 && status <= 299
      const usage =
        reported === undefined ? undefined : { prompt: reported, completion: 0, total: reported }
      const metered = { deltas, bytes: received, ...(over && { over }), ...(usage && { usage }) }
      const { outcome, charged, cost, reservedCost } = chargeOf({
        ...ending,
        ...(status !== undefined && { status }),
        ...(answered && { metered }),
      })
      const { cut, ended, cap } = ending
      expect(Number.isSafeInteger(charged) && charged >= 0).toBe(true)
      expect(Number.isSafeInteger(cost)).toBe(true)
      expect(reservedCost).toBe(2 * prompt + 10 * completion)
      if (outcome === 'exact') expect(cost).toBe(2 * (reported ?? 0))
      if (outcome === 'failed') expect(cost).toBe(0)
      expect(outcome === 'exact').toBe(answered && usage !== undefined && ended && !cut)
      expect(outcome === 'failed').toBe(!answered && (status !== undefined || !cut))
      if (outcome === 'exact') expect(charged).toBe(reported)
      if (outcome === 'failed') expect(charged).toBe(0)
      if (outcome !== 'estimated') return
      expect(charged).toBeLessThanOrEqual(reserved)
      expect(cost).toBeLessThanOrEqual(reservedCost ?? 0)
      if (cut || over || cap === 'strict') expect([charged, cost]).toEqual([reserved, reservedCost])
      else {
        const least = (promptBytes + Math.max(received, 4 * deltas)) / 4
        expect(charged).toBeGreaterThanOrEqual(Math.min(reserved, least))
      }
    }),
  )
})
