/** Browser reports: stored beside the metered usage, and never trusted. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { DAY_MS, HOUR_MS, MINUTE_MS, minuteOf } from '../../src/ledger/windows.ts'
import { amounts, inLong } from '../support/amounts.ts'
import { admitOf, AMPLE, NOON } from '../support/commands.ts'
import {
  idsOf,
  MIDNIGHT,
  reportOf,
  said,
  setBlock,
  spend,
  start,
  TODAY,
  usedByAll,
  userOf,
  useStores,
} from '../support/contract.ts'
import { redisStore } from '../support/stores.ts'

const { redis, upstash, stores } = useStores()

describe.each(stores)('%s', (_, open) => {
  test('a report raises only itself, and the same total adds nothing', async () => {
    const store = await open()
    await spend(store, { id: '1' })
    const before = (await userOf(store)).usage
    for (const [tokens, requests] of [
      [100, 5],
      [100, 5],
      [70, 9],
      [120, 2],
      [0, 0],
    ] as const) {
      await store.execute(reportOf({ 'a/one': said(tokens, requests) }))
    }
    await store.execute(reportOf({ 'b/two': said(7) }))
    await store.execute(reportOf({}))
    const { usage } = await userOf(store)
    expect(usage).toEqual({
      ...before,
      reported: expect.anything(),
      syncMinute: minuteOf(before.at),
      syncs: 7,
    })
    expect(usage.reported).toEqual({
      'a/one': { tokens: 120, requests: 9 },
      'b/two': { tokens: 7, requests: 1 },
    })
  })

  test('a report of another day than today is ignored', async () => {
    const store = await open()
    await spend(store, { id: '1' })
    for (const resetAt of [MIDNIGHT - DAY_MS, MIDNIGHT + DAY_MS, MIDNIGHT - 1, 0, -1, 2 ** 53]) {
      await store.execute(reportOf({ 'a/one': said(1000, 10, resetAt) }))
    }
    expect((await userOf(store)).usage.reported).toEqual({})
  })

  test("a report is about the user's day, also from a clock that is behind", async () => {
    const store = await open()
    await spend(store, { id: '1', now: MIDNIGHT })
    const models = { 'a/one': said(5), 'b/two': said(6, 1, MIDNIGHT + DAY_MS) }
    expect(await store.execute(reportOf(models))).toMatchObject({ at: MIDNIGHT + 1000 })
    expect((await userOf(store)).usage.reported).toEqual({ 'b/two': { tokens: 6, requests: 1 } })
  })

  test('a report is forgotten when a new day begins', async () => {
    const store = await open()
    await spend(store, { id: '1' })
    await store.execute(reportOf({ 'a/one': said(1000) }))
    await spend(store, { id: '2', now: MIDNIGHT })
    expect((await userOf(store)).usage.reported).toEqual({})
    const next = { 'b/two': said(3, 1, MIDNIGHT + DAY_MS) }
    await store.execute(reportOf(next, { now: MIDNIGHT }))
    expect((await userOf(store)).usage.reported).toEqual({ 'b/two': { tokens: 3, requests: 1 } })
  })

  test('a report stores nothing about users without a request', async () => {
    const store = await open()
    const limits = { models: {}, default: { tokensPerDay: 9 } }
    expect(await store.execute(reportOf({ 'a/one': said(5) }, { limits }))).toEqual({
      ok: true,
      at: NOON,
      known: false,
      models: {
        'a/one': {
          of: 'user',
          model: 'a/one',
          limits: { tokensPerDay: 9 },
          used: {},
          reserved: {},
        },
      },
      total: { of: 'user', model: '*', limits: {}, used: {}, reserved: {} },
      blocks: {},
    })
    expect(await store.user('alice')).toBeUndefined()
    expect(await idsOf(store)).toEqual([])
  })

  test('a user may report 20 times a minute, and a report too many changes nothing', async () => {
    const store = await open()
    await spend(store, { id: '1' })
    const tell = (tokens: number, now = NOON) =>
      store.execute(reportOf({ 'a/one': said(tokens) }, { now }))
    for (let n = 1; n <= 20; n += 1) expect(await tell(n)).toMatchObject({ ok: true, known: true })
    expect(await tell(99)).toEqual({ ok: false, reason: 'syncs', resetAt: NOON + MINUTE_MS })
    expect((await userOf(store)).usage.reported).toEqual({ 'a/one': { requests: 1, tokens: 20 } })
    expect(await tell(30, NOON + MINUTE_MS)).toMatchObject({ ok: true })
  })

  test('a report is accepted for at most 64 models a day, and can be updated for these', async () => {
    const store = await open()
    await spend(store, { id: '1' })
    const models = (from: number) =>
      Object.fromEntries(Array.from({ length: 40 }, (_, n) => [`m-${from + n}`, said(1)]))
    await store.execute(reportOf(models(0)))
    await store.execute(reportOf(models(40)))
    await store.execute(reportOf({ 'm-0': said(9), 'm-100': said(1) }))
    const { reported } = (await userOf(store)).usage
    expect(Object.keys(reported)).toHaveLength(64)
    expect(reported['m-0']?.tokens).toBe(9)
    expect(reported).not.toHaveProperty('m-100')
  })

  test('the answer to a report has the counts of each model, and the blocks', async () => {
    const store = await open()
    const minutely = { ...AMPLE, tokensPerMinute: 1e9 }
    await spend(store, { id: '1', limits: { model: minutely } })
    await start(store, { id: '2', model: 'b/two', reserved: 30, limits: { model: minutely } })
    await setBlock(store, '*', { at: NOON, reason: 'bill', until: NOON + HOUR_MS })
    await setBlock(store, 'b/two', { at: NOON, until: NOON + 5000 })
    const limits = {
      models: { 'a/one': minutely },
      default: { tokensPerDay: 7 },
      total: { requestsPerDay: 3 },
    }
    const command = reportOf({ 'c/three': said(1) }, { now: NOON + 5000, limits })
    const both = (requests: number, tokens: number) => ({
      ...inLong(amounts(requests, tokens)),
      minute: amounts(requests, tokens),
    })
    const standing = (model: string, limits: object, used: object, reserved: object = {}) => ({
      of: 'user',
      model,
      limits,
      used,
      reserved,
    })
    expect(await store.execute(command)).toEqual({
      ok: true,
      at: NOON + 5000,
      known: true,
      models: {
        'a/one': standing('a/one', minutely, both(1, 15)),
        'b/two': standing('b/two', limits.default, both(1, 30), both(1, 30)),
        'c/three': standing('c/three', limits.default, {}),
      },
      total: standing('*', limits.total, both(2, 45), both(1, 30)),
      blocks: { '*': { at: NOON, reason: 'bill', until: NOON + HOUR_MS } },
    })
  })

  const amount = fc.oneof(fc.nat(500), fc.constantFrom(0, 1e6, 1e12))
  const reports = fc.array(
    fc.dictionary(
      fc.constantFrom('a/one', 'b/two', 'constructor'),
      fc.record({
        tokens: amount,
        requests: amount,
        resetAt: fc.constantFrom(MIDNIGHT, MIDNIGHT, MIDNIGHT - DAY_MS, MIDNIGHT + DAY_MS, 0),
      }),
    ),
    { minLength: 1, maxLength: 8 },
  )

  test('no report changes a charge, a limit or a total', async () => {
    const store = await open()
    const limits = { model: { ...AMPLE, tokensPerDay: 200 } }
    await spend(store, { id: '1' })
    await setBlock(store, 'b/two', { at: NOON })
    await start(store, { id: '2', limits })
    const known = async () => {
      const { usage, ...user } = await userOf(store)
      const { reported: _, at: _at, syncMinute: _m, syncs: _s, ...used } = usage
      const days = await store.days([TODAY])
      return { user, used, days, all: await usedByAll(store), events: await store.events(9) }
    }
    const before = await known()
    let now = NOON
    const most = new Map<string, number>()
    await fc.assert(
      fc.asyncProperty(reports, async (sequence) => {
        for (const models of sequence) {
          now += MINUTE_MS
          await store.execute(reportOf(models, { now }))
          for (const [model, { tokens, resetAt }] of Object.entries(models)) {
            if (resetAt === MIDNIGHT) most.set(model, Math.max(tokens, most.get(model) ?? 0))
          }
        }
        expect(await known()).toEqual(before)
        const { reported } = (await userOf(store)).usage
        const told = Object.entries(reported).map(([model, { tokens }]) => [model, tokens] as const)
        expect(new Map(told)).toEqual(most)
      }),
      { numRuns: 20 },
    )
    expect(await store.execute(admitOf({ id: '3', reserved: 86, limits }))).toMatchObject({
      ok: false,
      used: 115,
    })
    expect(await store.execute(admitOf({ id: '3', reserved: 85, limits }))).toMatchObject({
      ok: true,
    })
  })
})

test('in Redis a report costs three commands, and two for a user without a request', async () => {
  const store = redisStore(upstash)
  await spend(store, { id: '1' })
  await redis.resetStats()
  await store.execute(reportOf({ 'a/one': said(5) }))
  expect(await redis.commandstats()).toEqual({ evalsha: 1, mget: 1, set: 1 })
  await redis.resetStats()
  await store.execute(reportOf({ 'a/one': said(5) }, { user: 'nobody' }))
  expect(await redis.commandstats()).toEqual({ evalsha: 1, mget: 1 })
  // A database without data is not asked for its time either.
  await redis.flush()
  const exact = redisStore(upstash, { tolerance: MINUTE_MS })
  await redis.resetStats()
  await exact.execute(reportOf({ 'a/one': said(5) }))
  expect(await redis.commandstats()).toEqual({ evalsha: 1, mget: 1 })
  expect(await redis.command(['KEYS', '*'])).toEqual([])
})
