import fc from 'fast-check'
import { expect, test } from 'vitest'
import { chargeOf, type Ending } from '../src/usage/outcome.ts'

const usage = { prompt: 10, completion: 5, total: 15 }
const base = { cut: false, bound: 1000, promptBytes: 401 }

const nothing = { outcome: 'failed', charged: 0, estimated: false }
const estimated = (charged: number) => ({ outcome: 'partial', charged, estimated: true })
const settled = (charged = 15) => ({ outcome: 'settled', charged, estimated: false })

test.each<[string, Partial<Ending>, object]>([
  ['usage', { status: 200, metered: { usage, deltas: 3 } }, settled()],
  ['usage, then cut', { status: 200, metered: { usage, deltas: 3 }, cut: true }, settled()],
  ['usage above the bound', { status: 200, metered: { usage, deltas: 3 }, bound: 9 }, settled()],
  [
    'usage of nothing',
    { status: 200, metered: { usage: { prompt: 0, completion: 0, total: 0 }, deltas: 3 } },
    settled(0),
  ],
  ['no usage', { status: 200, metered: { deltas: 0 } }, estimated(101)],
  ['no usage after deltas', { status: 200, metered: { deltas: 7 } }, estimated(108)],
  ['no usage and a small bound', { status: 200, metered: { deltas: 7 }, bound: 50 }, estimated(50)],
  ['no usage, cut', { status: 200, metered: { deltas: 7 }, cut: true }, estimated(1000)],
  ['no body', { status: 204 }, estimated(101)],
  ['no body, cut', { status: 200, cut: true }, estimated(1000)],
  ['the last status of success', { status: 299, metered: { deltas: 7 } }, estimated(108)],
  ['a redirect', { status: 300 }, nothing],
  ['not modified', { status: 304 }, nothing],
  ['a refusal', { status: 400 }, nothing],
  ['a refusal, cut while it was read', { status: 429, cut: true }, nothing],
  ['an error of upstream', { status: 500 }, nothing],
  ['an error of upstream, cut', { status: 503, cut: true }, nothing],
  ['a status before the answer', { status: 199 }, nothing],
  ['no connection', {}, nothing],
  ['given up before the first byte', { cut: true }, estimated(1000)],
])('charges a request that ends with %s', (_, ending, charge) => {
  expect(chargeOf({ ...base, ...ending })).toMatchObject(charge)
})

test('tells the usage only where upstream reported it', () => {
  expect(chargeOf({ ...base, status: 200, metered: { usage, deltas: 0 } }).usage).toBe(usage)
  expect(chargeOf({ ...base, status: 200, metered: { deltas: 0 } })).not.toHaveProperty('usage')
})

test('charges a whole amount, at most the bound unless upstream reports more', () => {
  const amount = fc.nat(1e9)
  const endings = fc.record({
    status: fc.option(fc.integer({ min: 100, max: 599 }), { nil: undefined }),
    deltas: fc.nat(1e6),
    reported: fc.option(amount, { nil: undefined }),
    cut: fc.boolean(),
    bound: amount,
    promptBytes: fc.nat(1e8),
  })
  fc.assert(
    fc.property(endings, ({ status, deltas, reported, ...ending }) => {
      const answered = status !== undefined && status >= 200 && status <= 299
      const usage =
        reported === undefined ? undefined : { prompt: reported, completion: 0, total: reported }
      const charge = chargeOf({
        ...ending,
        ...(status !== undefined && { status }),
        ...(answered && { metered: { deltas, ...(usage && { usage }) } }),
      })
      expect(Number.isSafeInteger(charge.charged) && charge.charged >= 0).toBe(true)
      expect(charge.estimated).toBe(charge.outcome === 'partial')
      expect(charge.outcome === 'settled').toBe(answered && usage !== undefined)
      if (charge.outcome === 'settled') expect(charge.charged).toBe(reported)
      else expect(charge.charged).toBeLessThanOrEqual(ending.bound)
      if (charge.outcome === 'failed') expect(charge.charged).toBe(0)
    }),
  )
})
