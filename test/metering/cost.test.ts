import fc from 'fast-check'
import { expect, test } from 'vitest'
import { readConfig } from '../../src/config/config.ts'
import { costOf, mostTokens, type Price } from '../../src/ledger/money.ts'
import { costOfCharge, picoOf } from '../../src/metering/cost.ts'
import { createMeter } from '../../src/metering/meter.ts'
import type { MeteredRoute } from '../../src/metering/reservation.ts'
import { newRow } from '../../src/ledger/new-documents.ts'
import { end, open } from '../../src/ledger/tally.ts'
import type { Event } from '../../src/ledger/events.ts'
import type { Row } from '../../src/ledger/documents.ts'
import { amounts } from '../support/amounts.ts'
import { eventOf } from '../support/commands.ts'
import { transcripts, type Transcript } from '../support/transcripts.ts'

/** How many tokens, and what one costs. */
type Part = [count: number, nano: number]

type Used = Pick<Row, 'prompt' | 'cached' | 'completion' | 'charged'>

const MILLION = 1_000_000
const used = (prompt: number, cached: number, completion: number, charged: number): Used => ({
  prompt,
  cached,
  completion,
  charged,
})

const GPT: Price = { input: 75_000, cached: 37_500, output: 300_000 }

test.each<[string, Used, Price, number]>([
  ['nothing', used(0, 0, 0, 0), GPT, 0],
  ['input', used(MILLION, 0, 0, MILLION), GPT, 75_000_000],
  ['output', used(0, 0, MILLION, MILLION), GPT, 300_000_000],
  ['cached input', used(MILLION, MILLION, 0, MILLION), GPT, 37_500_000],
  ['input, half of it cached', used(MILLION, MILLION / 2, 0, MILLION), GPT, 56_250_000],
  ['more cached input than input', used(2, 3, 0, 2), GPT, 75],
  ['that and an estimate', used(2, 3, 0, 3), { input: 2000, cached: 1000, output: 1000 }, 4],
  ['cached input, free', used(MILLION, MILLION, 0, MILLION), { ...GPT, cached: 0 }, 0],
  ['cached input without a price', used(MILLION, 9, 0, MILLION), { input: 2, output: 3 }, 2000],
  ['an estimate', used(0, 0, 0, MILLION), GPT, 300_000_000],
  ['an estimate where input is dearer', used(0, 0, 0, MILLION), { input: 2, output: 1 }, 2000],
  ['usage and a reservation', used(MILLION, 0, MILLION, 3 * MILLION), GPT, 675_000_000],
  ['a model that costs nothing', used(9, 1, 9, 99), { input: 0, output: 0 }, 0],
  ['one token', used(1, 0, 0, 1), GPT, 75],
  ['one cached token, rounded up', used(1, 1, 0, 1), GPT, 38],
])('prices %s', (_, row, price, cost) => {
  expect(costOfCharge(row, price)).toBe(cost)
})

test('knows no cost without a price', () => {
  expect(costOfCharge(used(1, 0, 1, 2), undefined)).toBeUndefined()
})

/** Recorded answers: tokens, each with its price in nano-USD, and the cost that was computed by hand. */
test.each<[keyof typeof transcripts, string, Part, Part, Part, number]>([
  // answer, model, input, cached input, output, cost
  // 12,800 + 0 + 76,000
  ['plain', 'qwen/qwen3.8-27b', [16, 800], [0, 400], [19, 4000], 88_800],
  // 6,400 + 3,200 + 76,000
  ['plain-details', 'qwen/qwen3.8-27b', [8, 800], [8, 400], [19, 4000], 85_600],
  // 50,850 + 0 + 34,800
  ['stream', 'openai/gpt-oss-120b', [339, 150], [0, 75], [58, 600], 85_650],
  // 5,625 + 0 + 300
  ['stream-include-usage', 'openai/gpt-oss-20b', [75, 75], [0, 37.5], [1, 300], 5925],
  // 45,600 + 0 + 29,400
  ['tool-call', 'openai/gpt-oss-120b', [304, 150], [0, 75], [49, 600], 75_000],
  // 2,025 + 2,400 + 14,100
  ['multibyte', 'openai/gpt-oss-20b', [27, 75], [64, 37.5], [47, 300], 18_525],
  // 900 + 0 + 720
  ['old-stream', 'llama3-8b-8192', [18, 50], [0, 50], [9, 80], 1620],
  // 3,750 + 1,200 + 8,100
  ['responses', 'openai/gpt-oss-20b', [50, 75], [32, 37.5], [27, 300], 13_050],
  // 1,125 + 2,400 + 9,300
  ['responses-stream', 'openai/gpt-oss-20b', [15, 75], [64, 37.5], [31, 300], 12_825],
  // 5,775 + 0 + 2,400
  ['responses-incomplete', 'openai/gpt-oss-20b', [77, 75], [0, 37.5], [8, 300], 8175],
  // 520 + 0 + 0
  ['guard', 'meta-llama/llama-prompt-guard-2-86m', [13, 40], [0, 40], [0, 40], 520],
])('the recorded answer %s of %s costs what it costs by hand', (answer, model, ...by) => {
  const [input, cached, output, cost] = by
  const { route, headers, body }: Transcript = transcripts[answer]
  expect(new TextDecoder().decode(body)).toContain(`"model":"${model}"`)
  const meter = createMeter(route as MeteredRoute, headers['content-type'])
  meter.write(body)
  const { usage } = meter.end()
  const price = readConfig({}, 'edge').prices[model]
  if (!usage || !price) throw new Error('there is no usage or no price')
  expect([usage.prompt, usage.cached ?? 0]).toEqual([input[0] + cached[0], cached[0]])
  expect(usage.completion).toBe(output[0])
  const pico = [price.input, price.cached ?? price.input, price.output]
  expect(pico).toEqual([input, cached, output].map(([, nano]) => nano * 1000))
  expect(costOf(usage, price)).toBe(cost)
})

test('rounds up once for a request, not for each of its units', () => {
  const price = { input: 100, cached: 1, output: 200 }
  expect(costOf({ prompt: 3, cached: 1, completion: 2 }, price)).toBe(1)
  expect(costOf({ prompt: 6, cached: 1, completion: 2 }, price)).toBe(1)
  expect(costOf({ prompt: 7, cached: 1, completion: 2 }, price)).toBe(2)
})

test.each([
  [0.075, 75_000],
  [0.0375, 37_500],
  [0.000001, 1],
  [100_000, 100_000_000_000],
  [99_999.999999, 99_999_999_999],
  [0.0000001, undefined],
  [0.03750001, undefined],
  [1 / 3, undefined],
])('a price of %d USD per million tokens is %s pico-USD a token', (usd, pico) => {
  expect(picoOf(usd)).toBe(pico)
})

/** Whole numbers of every size. */
const upTo = (most: number) =>
  fc.oneof(
    fc.nat(2000),
    fc.maxSafeNat().map((any) => any % (most + 1)),
    fc.constant(most),
  )
const count = upTo(Number.MAX_SAFE_INTEGER)
const pico = upTo(100_000_000_000)
const anyPrice: fc.Arbitrary<Price> = fc.record(
  { input: pico, cached: pico, output: pico },
  { requiredKeys: ['input', 'output'] },
)

/** The cost by whole numbers of any size. */
function trueCost(
  { prompt, cached, completion }: Used,
  { input, output, ...price }: Price,
): bigint {
  const hits = BigInt(Math.min(cached, prompt))
  const sum =
    (BigInt(prompt) - hits) * BigInt(input) +
    hits * BigInt(price.cached ?? input) +
    BigInt(completion) * BigInt(output)
  return (sum + 999n) / 1000n
}

const MOST = BigInt(Number.MAX_SAFE_INTEGER)

test('a cost is exact to the nano-dollar up to 2^53 of them, and no more than that', () => {
  let large = 0
  fc.assert(
    fc.property(count, count, count, anyPrice, (prompt, cached, completion, price) => {
      const tokens = used(prompt, cached, completion, 0)
      const cost = trueCost(tokens, price)
      if (cost <= MOST && BigInt(prompt) * BigInt(price.input) > MOST) large += 1
      expect(BigInt(costOf(tokens, price))).toBe(cost < MOST ? cost : MOST)
    }),
    { numRuns: 2000 },
  )
  expect(large).toBeGreaterThan(20)
})

test('the most tokens for an amount cost no more than it, and one more would', () => {
  const answers = fc.oneof(fc.integer({ min: 1, max: 128 }), fc.constant(1))
  let bounded = 0
  fc.assert(
    fc.property(count, answers, anyPrice, count, (prompt, n, { input, output }, left) => {
      const fits = (each: number): boolean => {
        const sum = BigInt(prompt) * BigInt(input) + BigInt(n) * BigInt(each) * BigInt(output)
        return sum <= BigInt(left) * 1000n
      }
      const most = mostTokens(prompt, n, { input, output }, left)
      if (left === Number.MAX_SAFE_INTEGER) expect(most).toBe(Infinity)
      else if (most === -1) expect(fits(0)).toBe(false)
      else if (most === Infinity) expect(fits(Math.floor(Number.MAX_SAFE_INTEGER / n))).toBe(true)
      else {
        expect([fits(most), fits(most + 1)]).toEqual([true, false])
        bounded += 1
      }
    }),
    { numRuns: 2000 },
  )
  expect(bounded).toBeGreaterThan(200)
})

test.each<[string, number, number, Price, number, number]>([
  ['the rest of a dollar', 1000, 1, GPT, 1_000_000_000, 3_333_083],
  ['shared by three answers', 1000, 3, GPT, 1_000_000_000, 1_111_027],
  ['what is left after the prompt', 4, 1, GPT, 300, 0],
  ['exactly one token more', 4, 1, GPT, 600, 1],
  ['a prompt that is too dear', 4, 1, GPT, 299, -1],
  ['nothing left', 0, 1, GPT, 0, 0],
  ['a free prompt and nothing left', 9, 1, { input: 0, output: 1 }, 0, 0],
  ['a tenth of a nano-dollar a token', 0, 1, { input: 1, output: 100 }, 1, 10],
  ['free output', 4, 1, { input: 75_000, output: 0 }, 300, Infinity],
  ['free output and a prompt that is too dear', 5, 1, { input: 75_000, output: 0 }, 300, -1],
])('the most tokens: %s', (_, prompt, n, price, left, most) => {
  expect(mostTokens(prompt, n, price, left)).toBe(most)
})

const tokens = fc.nat(1_000_000_000)
/** At which no sum here passes 2^53 nano-USD. */
const fair = fc.nat(100_000)
const price: fc.Arbitrary<Price> = fc.record(
  { input: fair, cached: fair, output: fair },
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

const cost = (row: Used, of: Price): number => costOfCharge(row, of) as number
test('is never negative, whatever a row holds', () => {
  const row = fc.record({ prompt: tokens, cached: tokens, completion: tokens, charged: tokens })
  fc.assert(
    fc.property(row, price, (of, at) => {
      expect(cost(of, at)).toBeGreaterThanOrEqual(0)
      expect(Number.isSafeInteger(cost(of, at))).toBe(true)
    }),
  )
})

test('a row costs as much as its requests together, but for what rounding adds to each', () => {
  fc.assert(
    fc.property(fc.array(ended, { maxLength: 20 }), price, (events, at) => {
      const single = events.map((event) => cost(rowOf([event]), at))
      const sum = single.reduce((sum, one) => sum + one, 0)
      expect(cost(rowOf(events), at)).toBeLessThanOrEqual(sum)
      expect(cost(rowOf(events), at)).toBeGreaterThanOrEqual(sum - events.length)
    }),
  )
})

test('one more request, also a running one, never makes a row cheaper', () => {
  fc.assert(
    fc.property(fc.array(ended, { maxLength: 9 }), ended, price, (events, one, at) => {
      const before = rowOf(events)
      const least = cost(before, at)
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
        expect(cost(row, both)).toBeGreaterThanOrEqual(cost(row, at))
      }
    }),
  )
})

test('tokens without kinds cost at least as much as with kinds', () => {
  fc.assert(
    fc.property(ended, discounted, (event, at) => {
      const row = rowOf([event])
      const untold = { ...row, prompt: 0, cached: 0, completion: 0 }
      expect(cost(untold, at)).toBeGreaterThanOrEqual(cost(row, at))
    }),
  )
})
