/** The fit, and money, in every store. */
import { describe, expect, test } from 'vitest'
import type { Admit } from '../../src/ledger/commands.ts'
import type { Admitted, Refusal } from '../../src/ledger/answers.ts'
import { DAY_MS } from '../../src/ledger/windows.ts'
import { amounts } from '../support/amounts.ts'
import { admitOf, NOON, settleOf } from '../support/commands.ts'
import { dayOf, pastRowOf, quotasOf, rowOf, start, useStores, userOf } from '../support/contract.ts'

const { stores, ledgers } = useStores()

/** A hundred dollars for a million tokens of the prompt, and a thousand for the completion. */
const PRICE = { input: 100_000_000, output: 1_000_000_000 }
/** The largest limit: a million dollars. */
const MILLION = 1e15

/** A request without a maximum: a prompt of 100 tokens, and a completion of at most 2,048. */
const asking = (id: string, fields: Partial<Admit> = {}, count = 1): Admit =>
  admitOf({
    id,
    reserved: 100 + count * 2048,
    completion: count * 2048,
    completions: { count, tokens: 2048 },
    price: PRICE,
    ...fields,
  })

/** What an admission was granted, and the use of its first limit then; or the refusal. */
const grantOf = (answer: Admitted | Refusal, window = 'day'): unknown[] =>
  answer.ok ? [answer.maximum, answer.limits?.[0]?.used[window]] : [answer]

describe.each(ledgers)('%s', (_, open) => {
  test('a request without a maximum gets what is left, down to the least', async () => {
    const ledger = await open()
    const limits = { model: { tokensPerDay: 3000 } }
    const ask = async (id: string) => grantOf(await ledger.execute(asking(id, { limits })))
    const cost = (completion: number) => 100 * 100_000 + completion * 1_000_000
    expect(await ask('1')).toEqual([undefined, amounts(1, 2148, cost(2048))])
    expect(await ask('2')).toEqual([752, amounts(2, 3000, cost(2048) + cost(752))])
    expect(await ask('3')).toMatchObject([{ ok: false, used: 3000, asked: 356 }])
    // The same ids have the same grants.
    expect((await ask('2')).at(0)).toBe(752)
    expect((await ask('1')).at(0)).toBeUndefined()
    // What the first did not use is left again.
    await ledger.execute(settleOf(asking('1', { limits }), { charged: 1793 }))
    expect(await ask('4')).toMatchObject([{ ok: false, used: 2645, asked: 356 }])
    await ledger.execute(settleOf(asking('2', { limits }), { charged: 851 }))
    expect((await ask('4')).at(0)).toBe(256)
  })

  test('completions share what is left', async () => {
    const ledger = await open()
    const limits = { model: { tokensPerWeek: 1000 } }
    const answer = await ledger.execute(asking('1', { limits }, 3))
    expect(answer).toMatchObject({
      ok: true,
      maximum: 300,
      limits: [{ used: { week: { tokens: 1000 } } }],
    })
  })

  test('a minute and an hour cut only what would never fit', async () => {
    const ledger = await open()
    for (const name of ['tokensPerMinute', 'tokensPerHour'] as const) {
      const ask = async (id: string, limit: number) =>
        ledger.execute(
          asking(`${id} ${name}`, { user: name, limits: { model: { [name]: limit } } }),
        )
      expect(await ask('1', 1000)).toMatchObject({ ok: true, maximum: 900 })
      expect(await ask('2', 2148)).toMatchObject({ ok: false, used: 1000, asked: 2148 })
      expect(await ask('3', 2147)).toMatchObject({ ok: true, maximum: 1047 })
    }
  })

  test('dollars are charged to the nano-dollar, and cut a request to what they pay for', async () => {
    const ledger = await open()
    const limits = { model: { usdPerMonth: MILLION }, total: { usdPerDay: MILLION } }
    const everyone = { total: { usdPerWeek: MILLION } }
    const dear = { input: 1, output: 99_999_999_999 }
    // A tenth of a dollar for each token of the completion, but a little.
    const first = asking('1', { limits, everyone, price: dear })
    const big = { ...first, reserved: 100 + 9_990_000, completion: 9_990_000 }
    delete big.completions
    const cost = Math.ceil((100 + 9_990_000 * 99_999_999_999) / 1000)
    expect(cost).toBe(998_999_999_990_011)
    const answer = await ledger.execute(big)
    const used = amounts(1, 9_990_100, 998_999_999_990_011)
    expect(answer).toMatchObject({
      limits: [{ used: { month: used } }, { used: { day: used } }, { used: { week: used } }],
    })
    const left = MILLION - cost
    const next = await ledger.execute(asking('2', { limits, everyone, price: dear }))
    const reserved = Math.ceil((100 + 2048 * dear.output) / 1000)
    expect(left).toBeGreaterThan(reserved)
    expect(grantOf(next, 'month')).toEqual([undefined, amounts(2, 9_992_248, cost + reserved)])
    // Of the rest, the narrowest limit pays for fewer tokens.
    const narrow = { ...limits, model: { usdPerMonth: cost + reserved + 30_000_000_000 } }
    expect(await ledger.execute(asking('3', { limits: narrow, price: dear }))).toMatchObject({
      ok: true,
      maximum: 300,
    })
    expect(await ledger.execute(asking('4', { limits: narrow, price: dear }))).toMatchObject({
      ok: false,
      unit: 'usd',
      used: cost + reserved + 30_000_000_000,
      asked: Math.ceil((100 + 256 * dear.output) / 1000),
    })
  })

  test('a model without a price is refused where dollars are limited, and nowhere else', async () => {
    const ledger = await open()
    const bare = admitOf({ id: '1', limits: { total: { usdPerMinute: MILLION } } })
    expect(await ledger.execute(bare)).toEqual({ ok: false, reason: 'unpriced' })
    expect(await ledger.execute({ ...bare, price: PRICE })).toMatchObject({ ok: true })
    expect(await ledger.execute(admitOf({ id: '2' }))).toMatchObject({ ok: true })
  })
})

describe.each(stores)('%s', (_, open) => {
  const priced = { price: PRICE, reserved: 100, completion: 40 }
  /** What it reserves costs 6,000,000 + 40,000,000 nano-USD. */
  const RESERVED = 46_000_000
  const COST = 1_234_567_890_123_457

  test('costs are in rows, days, counters, keys and events, and reservations in the place of what runs', async () => {
    const store = await open()
    const admit = await start(store, { id: '1', ...priced })
    expect(await rowOf(store)).toMatchObject({ cost: RESERVED, reservedCost: RESERVED })
    await store.execute(settleOf(admit, { cost: String(COST), key: 'k1' }))
    await start(store, { id: '2', ...priced })
    expect(await rowOf(store)).toMatchObject({ cost: COST + RESERVED, reservedCost: RESERVED })
    const day = await dayOf(store)
    expect([day?.total.cost, day?.models['a/one']?.cost]).toEqual([COST, COST])
    const { usage } = await userOf(store)
    const everyone = (await quotasOf(store))['*']
    for (const { windows } of [usage, usage.models['a/one'] ?? usage, everyone ?? usage]) {
      const usd = Object.values(windows).map((counted) => counted.usd)
      expect(usd).toEqual([COST + RESERVED, COST + RESERVED, COST + RESERVED])
    }
    expect(usage.keysCharged).toEqual({
      k1: { start: Date.UTC(2026, 10), ...amounts(1, 15, COST) },
    })
    expect(await store.events(1)).toMatchObject([
      { cost: String(COST), reservedCost: String(RESERVED) },
    ])
  })

  test('the cost of a lost lease stays in its row, and a late end corrects the day of its admission', async () => {
    const store = await open()
    await start(store, { id: 'lost', ...priced })
    const late = await start(store, { id: 'late', ...priced, now: NOON + 60_000 })
    await start(store, { id: 'next', model: 'b/two', now: NOON + DAY_MS })
    expect(await pastRowOf(store)).toMatchObject({
      cost: 2 * RESERVED,
      reservedCost: RESERVED,
      lostCost: RESERVED,
    })
    await store.execute(settleOf(late, { cost: String(COST) }, NOON + DAY_MS + 1))
    expect(await pastRowOf(store)).toMatchObject({
      cost: RESERVED + COST,
      reservedCost: 0,
      lostCost: RESERVED,
    })
    expect((await dayOf(store))?.total.cost).toBe(COST)
    const { usage } = await userOf(store)
    expect(usage.windows['month']?.usd).toBe(RESERVED + COST)
    expect(usage.windows['day']?.usd).toBe(0)
  })

  test('a week that was reset stays so when a request of the day before ends', async () => {
    const store = await open()
    const late = await start(store, { id: '1', ...priced, now: NOON - DAY_MS / 2 - 60_000 })
    const today = await start(store, { id: '2', ...priced })
    await store.execute(settleOf(today, { charged: 90, cost: '1000' }))
    await store.execute({ op: 'reset', now: NOON + 2000, user: 'alice', window: 'week' })
    const week = async () => (await userOf(store)).usage.windows.week
    expect(await week()).toMatchObject(amounts(1, 100, RESERVED))
    await store.execute(settleOf(late, { charged: 15, cost: '30' }, NOON + 3000))
    expect(await week()).toMatchObject(amounts(1, 15, 30))
  })

  test('a reset leaves what running requests reserve', async () => {
    const store = await open()
    const ended = await start(store, { id: '1', ...priced })
    await store.execute(settleOf(ended, { cost: String(COST) }))
    await start(store, { id: '2', ...priced })
    await store.execute({ op: 'reset', now: NOON + 2000, user: 'alice', window: 'month' })
    const { windows } = (await userOf(store)).usage
    expect(windows).toMatchObject({
      month: amounts(1, 100, RESERVED),
      day: amounts(2, 115, COST + RESERVED),
    })
  })
})
