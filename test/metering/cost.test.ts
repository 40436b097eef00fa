import fc from 'fast-check'
import { expect, test } from 'vitest'
import { costOf, type Price } from '../../src/metering/cost.ts'
import { newRow } from '../../src/ledger/documents.ts'
import { end, open } from '../../src/ledger/tally.ts'
import type { Event, Row } from '../../src/ledger/shapes.ts'
import { amounts } from '../support/amounts.ts'
import { eventOf } from '../support/commands.ts'

type Used = Pick<Row, 'prompt' | 'cached' | 'completion' | 'charged'>

const MILLION = 1_000_000
const used = (prompt: number, cached: number, completion: number, charged: number): Used => ({
  prompt,
  cached,
  completion,
  charged,
})

const GPT: Price = { input: 0.075, cached: 0.0375, output: 0.3 }

test.each<[string, Used, Price, number]>([
  ['nothing', used(0, 0, 0, 0), GPT, 0],
  ['input', used(MILLION, 0, 0, MILLION), GPT, 0.075],
  ['output', used(0, 0, MILLION, MILLION), GPT, 0.3],
  ['cached input', used(MILLION, MILLION, 0, MILLION), GPT, 0.0375],
  ['input, half of it cached', used(MILLION, MILLION / 2, 0, MILLION), GPT, 0.05625],
  ['cached input, free', used(MILLION, MILLION, 0, MILLION), { ...GPT, cached: 0 }, 0],
  ['cached input without a price', used(MILLION, MILLION, 0, MILLION), { input: 2, output: 3 }, 2],
  ['an estimate', used(0, 0, 0, MILLION), GPT, 0.3],
  ['an estimate where input is dearer', used(0, 0, 0, MILLION), { input: 2, output: 1 }, 2],
  ['usage and a reservation', used(MILLION, 0, MILLION, 3 * MILLION), GPT, 0.675],
  ['a model that costs nothing', used(9, 1, 9, 99), { input: 0, output: 0 }, 0],
  ['one token', used(1, 0, 0, 1), GPT, 0.000000075],
])('prices %s', (_, row, price, cost) => {
  expect(costOf(row, price)).toBeCloseTo(cost, 12)
})

test('knows no cost without a price', () => {
  expect(costOf(used(1, 0, 1, 2), undefined)).toBeUndefined()
})

const tokens = fc.nat(1_000_000_000)
const dollars = fc.double({ min: 0, max: 100_000, noNaN: true })
const price: fc.Arbitrary<Price> = fc.record(
  { input: dollars, cached: dollars, output: dollars },
  { requiredKeys: ['input', 'output'] },
)
/** Prices at which cached input costs at most as much as other input. */
const discounted = price.map(({ cached = Infinity, ...rest }) => ({
  ...rest,
  cached: Math.min(cached, rest.input),
}))

/** Ended requests with their charge: reported usage, an estimate, or nothing. */
const ended: fc.Arbitrary<Event> = fc
  .record({ id: fc.uuid(), prompt: tokens, cached: fc.option(tokens), completion: tokens })
  .chain(({ id, prompt, cached, completion }) => {
    const total = prompt + completion
    const usage = { prompt, completion, total, charged: total }
    const told = cached === null ? {} : { cached: Math.min(cached, prompt) }
    const { prompt: _p, completion: _c, total: _t, ...bare } = eventOf({ id, user: 'alice' })
    return fc.constantFrom<Event>(
      { ...bare, ...usage, ...told },
      { ...bare, outcome: 'estimated', charged: total },
      { ...bare, outcome: 'failed', charged: 0 },
    )
  })

const admitted = (row: Row, { reserved: tokens }: Event): Row => open(row, amounts(1, tokens))

/** The ledger's row after these requests. */
const rowOf = (events: Event[]): Row =>
  events.reduce((row, event) => end(admitted(row, event), event), newRow())

const cost = (row: Used, of: Price): number => costOf(row, of) as number
const close = (one: number, other: number) =>
  expect(Math.abs(one - other)).toBeLessThanOrEqual(1e-9 * Math.max(1, one, other))

test('is never negative, whatever a row holds', () => {
  const row = fc.record({ prompt: tokens, cached: tokens, completion: tokens, charged: tokens })
  fc.assert(
    fc.property(row, price, (of, at) => {
      expect(cost(of, at)).toBeGreaterThanOrEqual(0)
      expect(cost(of, at)).toBeLessThan(Infinity)
    }),
  )
})

test('a row costs as much as its requests together', () => {
  fc.assert(
    fc.property(fc.array(ended, { maxLength: 20 }), price, (events, at) => {
      const single = events.map((event) => cost(rowOf([event]), at))
      close(
        cost(rowOf(events), at),
        single.reduce((sum, one) => sum + one, 0),
      )
    }),
  )
})

test('one more request, also a running one, never makes a row cheaper', () => {
  fc.assert(
    fc.property(fc.array(ended, { maxLength: 9 }), ended, price, (events, one, at) => {
      const before = rowOf(events)
      const least = cost(before, at) * (1 - 1e-12)
      expect(cost(admitted(before, one), at)).toBeGreaterThanOrEqual(least)
      expect(cost(rowOf([...events, one]), at)).toBeGreaterThanOrEqual(least)
    }),
  )
})

test('a higher price never makes a row cheaper', () => {
  fc.assert(
    fc.property(fc.array(ended, { maxLength: 9 }), price, price, (events, one, other) => {
      const row = rowOf(events)
      const both = {
        input: Math.max(one.input, other.input),
        cached: Math.max(one.cached ?? one.input, other.cached ?? other.input),
        output: Math.max(one.output, other.output),
      }
      for (const at of [one, other]) {
        expect(cost(row, both)).toBeGreaterThanOrEqual(cost(row, at) * (1 - 1e-12))
      }
    }),
  )
})

test('tokens without kinds cost at least as much as with kinds', () => {
  fc.assert(
    fc.property(ended, discounted, (event, at) => {
      const row = rowOf([event])
      const untold = { ...row, prompt: 0, cached: 0, completion: 0 }
      expect(cost(untold, at)).toBeGreaterThanOrEqual(cost(row, at) * (1 - 1e-12))
    }),
  )
})
