/** Days of everyone together: their counts, how they are folded, and how they are cleared. */
import { describe, expect, test } from 'vitest'
import { QUOTA_DAYS } from '../../src/ledger/capacity.ts'
import { SWEPT } from '../../src/store/redis/keys.ts'
import type { DayDoc } from '../../src/ledger/documents.ts'
import { readDocument } from '../../src/ledger/reading.ts'
import { DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, dateOf } from '../../src/ledger/windows.ts'
import type { Store, UserQuery } from '../../src/store/store.ts'
import { amounts } from '../support/amounts.ts'
import { admitOf, failureOf, NOON, settleOf } from '../support/commands.ts'
import {
  dayOf,
  enter,
  enterOf,
  MIDNIGHT,
  quotasOf,
  setBlock,
  spend,
  start,
  TODAY,
  TOMORROW,
  usedByAll,
  usedOf,
  userOf,
  useStores,
  YESTERDAY,
} from '../support/contract.ts'
import { redisStore, type Warning } from '../support/stores.ts'

const { redis, upstash, stores } = useStores()

describe.each(stores)('%s', (_, open) => {
  test("a model enters the day's totals only after an answer", async () => {
    const store = await open()
    const admit = await start(store, { id: '1', model: 'made-up' })
    expect(await store.days([TODAY])).toEqual([])
    await store.execute(failureOf(admit))
    expect(await dayOf(store)).toMatchObject({ total: { requests: 1 }, models: {} })
    await spend(store, { id: '2', model: 'made-up' })
    const again = await start(store, { id: '3', model: 'made-up' })
    await store.execute(failureOf(again))
    expect(await dayOf(store)).toMatchObject({
      total: { requests: 3, failed: 2 },
      models: { 'made-up': { requests: 2, exact: 1, failed: 1 } },
    })
  })

  test('a user is counted once a day in total and once per model', async () => {
    const store = await open()
    const failed = await start(store, { id: '0' })
    await store.execute(failureOf(failed))
    await spend(store, { id: '1', model: 'a/one' })
    await spend(store, { id: '2', model: 'a/one' })
    await spend(store, { id: '3', model: 'b/two' })
    await spend(store, { id: '4', model: 'a/one', user: 'bob' })
    await spend(store, { id: '5', model: 'a/one', now: NOON + DAY_MS })
    const [day, next] = [await dayOf(store), await dayOf(store, TOMORROW)]
    expect(day?.total.users).toBe(2)
    expect([day?.models['a/one']?.users, day?.models['b/two']?.users]).toEqual([2, 1])
    expect([next?.total.users, next?.models['a/one']?.users]).toEqual([1, 1])
  })

  test('a session is counted once a day, and a failed request opens none', async () => {
    const store = await open()
    const say = async (id: string, session: string, now = NOON) =>
      store.execute(settleOf(await start(store, { id, now }), { session }))
    const failed = failureOf(await start(store, { id: '0' }))
    await store.execute({ ...failed, event: { ...failed.event, session: 'none' } })
    await say('1', 'one')
    await say('2', 'one')
    await say('3', 'two')
    await say('4', 'one', NOON + DAY_MS)
    expect((await dayOf(store))?.sessions).toBe(2)
    expect((await dayOf(store, TOMORROW))?.sessions).toBe(1)
  })

  test('usage counts in the hour of admission, and the day has the time of its last change', async () => {
    const store = await open()
    const admit = await start(store, { id: '1', now: NOON - 1 })
    await store.execute(settleOf(admit, {}, NOON + HOUR_MS))
    await spend(store, { id: '2', now: NOON + HOUR_MS }, 4)
    expect(await dayOf(store)).toMatchObject({
      total: { hours: { 11: 15, 13: 4 }, at: NOON + HOUR_MS + SECOND_MS },
      models: { 'a/one': { hours: { 11: 15, 13: 4 } } },
    })
  })

  test('days have the requested order, without empty days', async () => {
    const store = await open()
    await spend(store, { id: '1' })
    await spend(store, { id: '2', now: NOON + DAY_MS })
    const days = await store.days([TOMORROW, '2020-01-01', TODAY])
    expect(days.map(({ date }) => date)).toEqual([TOMORROW, TODAY])
    expect(await store.days([])).toEqual([])
  })

  test("the overview equals the separate reads of days, users and events, and has everyone's counters", async () => {
    const store = await open()
    for (const n of [1, 2, 3]) await spend(store, { id: `${n}`, user: `user-${n}` })
    const users: UserQuery = { sort: 'tokens', limit: 2, now: NOON }
    const overview = await store.overview({ dates: [TODAY], users, events: 2 })
    const { quotas, policy, ...rest } = overview
    expect(policy).toEqual(await store.policy())
    expect(rest).toEqual({
      days: await store.days([TODAY]),
      page: await store.listUsers(users),
      events: await store.events(2),
    })
    expect(rest.page.next).toEqual({ offset: 2 })
    const windows = { day: { start: NOON - (NOON % DAY_MS), ...amounts(3, 45) } }
    expect(quotas).toMatchObject({ '*': { windows }, 'a/one': { windows } })
    expect(Object.keys(quotas)).toHaveLength(2)
  })

  test('a day stays unchanged when the next one begins, and late settlements still reach it', async () => {
    const store = await open()
    await spend(store, { id: '1' })
    await spend(store, { id: '2', user: 'bob', model: 'b/two' }, 20)
    const late = await start(store, { id: '3', model: 'c/three', now: MIDNIGHT - MINUTE_MS })
    const before = await dayOf(store)
    await start(store, { id: '4', now: MIDNIGHT })
    expect(await dayOf(store)).toEqual(before)
    await store.execute(settleOf(late, { charged: 7 }, MIDNIGHT + HOUR_MS))
    expect(await dayOf(store)).toMatchObject({
      total: { requests: 3, charged: 42, users: 2 },
      models: {
        'a/one': { requests: 1, charged: 15 },
        'b/two': { requests: 1, charged: 20 },
        'c/three': { requests: 1, charged: 7 },
      },
    })
    expect(await dayOf(store, TOMORROW)).toBeUndefined()
  })

  test('clearing forgets events and earlier days, and keeps users, blocks and counters', async () => {
    const store = await open()
    for (const [n, now] of [NOON - 2 * DAY_MS, NOON - DAY_MS, NOON].entries()) {
      await spend(store, { id: `${n}`, now })
    }
    const running = await start(store, { id: 'running', model: 'b/two' })
    await setBlock(store, 'c/three', { at: NOON })
    const before = await userOf(store)
    expect(await store.execute({ op: 'clear', now: NOON + SECOND_MS })).toEqual({ ok: true })
    expect(await store.events(9)).toEqual([])
    const days = await store.days(['2026-11-20', YESTERDAY, TODAY])
    expect(days.map(({ date, total, models }) => [date, total.requests, models])).toEqual([
      [TODAY, 0, {}],
    ])
    expect(days[0]?.forgotten).toBe(1)
    expect(await userOf(store)).toEqual(before)
    expect(await usedByAll(store)).toEqual([2, 115])
    // Later requests are counted from 0, and so are the ends of requests that were running.
    await store.execute(settleOf(running))
    await spend(store, { id: 'x' })
    expect((await store.events(9)).map(({ id }) => id)).toEqual(['x', 'running'])
    expect(await dayOf(store)).toMatchObject({
      total: { requests: 2, charged: 30 },
      models: { 'a/one': { requests: 1 }, 'b/two': { requests: 1 } },
      forgotten: 1,
    })
    await store.execute({ op: 'clear', now: NOON + 2 * SECOND_MS })
    expect((await dayOf(store))?.forgotten).toBe(3)
  })

  test("clearing uses the ledger's clock, not the caller's", async () => {
    const store = await open()
    await spend(store, { id: '1' })
    await spend(store, { id: '2', now: NOON + DAY_MS })
    await store.execute({ op: 'clear', now: NOON })
    const days = await store.days([TODAY, TOMORROW])
    expect(days.map(({ date, forgotten }) => [date, forgotten])).toEqual([[TOMORROW, 1]])
  })

  test('clearing before the first request of a day forgets the previous day', async () => {
    const store = await open()
    await spend(store, { id: '1' })
    await store.execute({ op: 'clear', now: MIDNIGHT + SECOND_MS })
    expect(await store.days([TODAY, TOMORROW])).toEqual([])
    await spend(store, { id: '2', now: MIDNIGHT + MINUTE_MS })
    expect(await store.days([TODAY])).toEqual([])
    expect(await dayOf(store, TOMORROW)).toMatchObject({ total: { requests: 1 }, forgotten: 0 })
  })
})

describe('in Redis', () => {
  const dayKeys = async () =>
    ([...(await keysLike('day:*')), ...(await keysLike('models:*'))] as string[]).sort()
  const keysLike = async (pattern: string) =>
    ((await redis.command(['KEYS', `weir:{2}:${pattern}`])) as string[]).map((key) =>
      key.slice('weir:{2}:'.length),
    )
  const get = async (key: string) =>
    JSON.parse(String(await redis.command(['GET', `weir:{2}:${key}`]))) as Record<string, unknown>
  const ttl = async (key: string) => Number(await redis.command(['TTL', `weir:{2}:${key}`]))
  const DAY = `day:${TODAY}`

  /** Two users and two models today, and one request that is still running. */
  async function busyDay(store: Store) {
    await spend(store, { id: '1' })
    await spend(store, { id: '2', user: 'bob', model: 'b/two' }, 20)
    await spend(store, { id: '3', user: 'bob' }, 5)
    return start(store, { id: 'late', model: 'c/three', now: MIDNIGHT - MINUTE_MS })
  }

  test('the current day has a document of its users, one of model names, and one per model', async () => {
    const store = redisStore(upstash)
    await busyDay(store)
    expect(await dayKeys()).toEqual([DAY, `${DAY}:a/one`, `${DAY}:b/two`, `models:${TODAY}`])
    const day = await get(DAY)
    // The totals have only what the rows do not tell.
    expect(day).toMatchObject({
      date: TODAY,
      open: 1,
      total: { requests: 0, charged: 0, users: 2 },
    })
    expect(day['models'] ?? {}).toEqual({})
    expect(await get(`models:${TODAY}`)).toEqual({ v: 2, models: { 'a/one': 1, 'b/two': 1 } })
    expect(await get(`${DAY}:a/one`)).toMatchObject({ v: 2, requests: 2, charged: 20, users: 2 })
  })

  test('the first request after midnight folds the previous day into one document', async () => {
    const store = redisStore(upstash, { retention: { historyDays: 5 } })
    const late = await busyDay(store)
    const before = await dayOf(store)
    await start(store, { id: 'next', user: 'carol', now: MIDNIGHT })
    expect(await dayKeys()).toEqual([DAY])
    expect(await ttl(DAY)).toBeGreaterThan(5 * 86_400 - 60)
    expect(await ttl(DAY)).toBeLessThanOrEqual(5 * 86_400)
    const folded = await get(DAY)
    expect(folded).not.toHaveProperty('open')
    expect(readDocument('day', folded)).toEqual(before)
    // A request that ends later is added to the one document. The document's expiry stays the same.
    await redis.command(['EXPIRE', `weir:{2}:${DAY}`, 60])
    expect(await store.execute(settleOf(late, { charged: 7 }, MIDNIGHT + 1))).toEqual({
      applied: true,
    })
    expect(await dayKeys()).toEqual([DAY])
    expect(await ttl(DAY)).toBeGreaterThan(5 * 86_400 - 60)
    expect(await dayOf(store)).toMatchObject({
      total: { requests: 4, charged: 47, users: 2 },
      models: { 'c/three': { requests: 1, charged: 7 } },
    })
  })

  test('a late settlement that is the first command of a day folds the previous day, and counts in it', async () => {
    for (const op of ['settle', 'enter'] as const) {
      await redis.flush()
      const store = redisStore(upstash)
      const late = await busyDay(store)
      const { event, user } = settleOf(late, { charged: 7 })
      const command = { op, now: MIDNIGHT + 1, user, event }
      expect(await store.replay([command])).toEqual([{ applied: true }])
      expect(await dayKeys()).toEqual([DAY])
      expect(await get(DAY)).not.toHaveProperty('open')
      expect(await dayOf(store)).toMatchObject({
        total: { requests: 4, charged: 47 },
        models: { 'c/three': { requests: 1, charged: 7 } },
      })
    }
  })

  test('a batch that folds also settles and enters requests of the previous day', async () => {
    const store = redisStore(upstash)
    await busyDay(store)
    const lates = ['a/one', 'c/three', 'd/four'].map((model, n) =>
      admitOf({ id: `late-${n}`, user: `user-${n}`, model, now: MIDNIGHT - 1 }),
    )
    for (const admit of lates) await store.execute(admit)
    const entries = [
      settleOf(lates[0]!, {}, MIDNIGHT - 1),
      settleOf(lates[1]!, {}, MIDNIGHT),
      // Commands at times of the current day and of the previous day, in one step.
      enterOf({ id: 'e1', user: 'dave', now: MIDNIGHT }, MIDNIGHT),
      settleOf(lates[2]!, {}, MIDNIGHT),
      enterOf({ id: 'e2', user: 'erin', model: 'e/five', now: MIDNIGHT - 1 }, MIDNIGHT),
    ]
    expect(await store.replay(entries)).toEqual(entries.map(() => ({ applied: true })))
    expect(await dayKeys()).toEqual([
      DAY,
      `day:${TOMORROW}`,
      `day:${TOMORROW}:a/one`,
      `models:${TOMORROW}`,
    ])
    const day = await dayOf(store)
    expect(day?.total).toMatchObject({ requests: 7, charged: 100 })
    const requests = Object.entries(day?.models ?? {}).map(([model, row]) => [model, row.requests])
    expect(Object.fromEntries(requests)).toEqual({
      'a/one': 3,
      'b/two': 1,
      'c/three': 1,
      'd/four': 1,
      'e/five': 1,
    })
    expect(sumOf(day)).toBe(100)
    expect(await dayOf(store, TOMORROW)).toMatchObject({
      total: { requests: 1 },
      models: { 'a/one': { requests: 1 } },
    })
  })

  test('a day is folded after any time without requests', async () => {
    for (const days of [2, 7, 60]) {
      await redis.flush()
      const store = redisStore(upstash)
      await busyDay(store)
      const before = await dayOf(store)
      await start(store, { id: 'next', now: NOON + days * DAY_MS })
      expect(await dayKeys()).toEqual([DAY])
      expect(await dayOf(store)).toEqual(before)
    }
  })

  test('a database that lost its clock folds the days of the last week', async () => {
    const store = redisStore(upstash)
    await busyDay(store)
    const before = await dayOf(store)
    await redis.command(['DEL', 'weir:{2}:quota'])
    await start(store, { id: 'next', now: NOON + 7 * DAY_MS })
    expect(await dayKeys()).toEqual([DAY])
    expect(await dayOf(store)).toEqual(before)
  })

  test('folding sets an invalid row aside, and keeps the others', async () => {
    const warnings: Warning[] = []
    const store = redisStore(upstash, { warnings })
    await busyDay(store)
    const key = `weir:{2}:${DAY}:a/one`
    await redis.command(['SET', key, 'not json'])
    await start(store, { id: 'next', now: MIDNIGHT })
    expect(await dayKeys()).toEqual([DAY])
    expect(await redis.command(['GET', `weir:{2}:damaged:${DAY}:a/one`])).toBe('not json')
    expect(warnings).toEqual([
      { event: 'store.damaged', fields: { keys: [key], setAside: 'weir:{2}:damaged:' } },
    ])
    const day = await dayOf(store)
    expect(Object.keys(day?.models ?? {})).toEqual(['b/two'])
    // Alone the row told its requests.
    expect(day?.total).toMatchObject({ requests: 1 })
  })

  test('the current day can be read before, between and after all steps of folding', async () => {
    const store = redisStore(upstash)
    const other = redisStore(upstash)
    const seen = async () => {
      const users: UserQuery = { sort: 'tokens', limit: 9, now: MIDNIGHT }
      const dates = [TODAY, TOMORROW]
      const [days, overview] = [
        await other.days(dates),
        await other.overview({ dates, users, events: 0 }),
      ]
      expect(overview.days).toEqual(days)
      // A new store, which has read nothing before, sees the same.
      expect(await redisStore(upstash).days(dates)).toEqual(days)
      for (const day of days) expect(sumOf(day), day.date).toBe(day.total.charged)
      return days.map(({ total, models }) => [total.charged, Object.keys(models).length])
    }
    expect(await seen()).toEqual([])
    const late = await busyDay(store)
    expect(await seen()).toEqual([[40, 2]])
    await start(store, { id: 'next', now: MIDNIGHT })
    expect(await seen()).toEqual([[40, 2]])
    await store.execute(settleOf(late, {}, MIDNIGHT))
    expect(await seen()).toEqual([[55, 3]])
    await spend(store, { id: 'today', now: MIDNIGHT, model: 'd/four' })
    expect(await seen()).toEqual([
      [55, 3],
      [15, 1],
    ])
    await spend(store, { id: 'after', now: MIDNIGHT + DAY_MS })
    expect(await seen()).toEqual([
      [55, 3],
      [15, 1],
    ])
    await store.execute({ op: 'clear', now: MIDNIGHT + DAY_MS })
    expect(await seen()).toEqual([])
  })

  test('an open day of any age is read completely', async () => {
    const store = redisStore(upstash)
    await busyDay(store)
    const before = await dayOf(store)
    const dates = Array.from({ length: 9 }, (_, n) => dateOf(NOON + n * DAY_MS))
    expect(await redisStore(upstash).days(dates.reverse())).toEqual([before])
  })

  test('clearing removes the rows and the model names of the current day', async () => {
    const store = redisStore(upstash)
    await busyDay(store)
    await store.execute({ op: 'clear', now: NOON })
    expect(await dayKeys()).toEqual([DAY])
    expect(await get(DAY)).toMatchObject({ open: 1, forgotten: 3, total: { requests: 0 } })
  })

  test('clearing after midnight and before any request leaves nothing of the previous day', async () => {
    const store = redisStore(upstash)
    await busyDay(store)
    await store.execute({ op: 'clear', now: MIDNIGHT + 1 })
    expect(await dayKeys()).toEqual([])
    await spend(store, { id: 'x', now: MIDNIGHT + 2 })
    expect(await dayKeys()).toEqual([
      `day:${TOMORROW}`,
      `day:${TOMORROW}:a/one`,
      `models:${TOMORROW}`,
    ])
  })

  test("everyone's counters of unused models are removed, a limited number at a time", async () => {
    const store = redisStore(upstash)
    const old = Array.from({ length: SWEPT + 44 }, (_, n) => `old-${n}`)
    const begin = (model: string) =>
      start(store, { id: model, user: model, model, now: NOON - DAY_MS })
    for (let n = 0; n < old.length; n += 50) await Promise.all(old.slice(n, n + 50).map(begin))
    // Their month may have 31 days, and a settlement may come a day late.
    const later = NOON + (QUOTA_DAYS - 2) * DAY_MS
    await start(store, { id: 'x', model: 'kept', now: later })
    const counters = async () => (await keysLike('quota:*')).length
    const indexed = async () => Number(await redis.command(['ZCARD', 'weir:{2}:models']))
    expect([await counters(), await indexed()]).toEqual([SWEPT + 45, SWEPT + 45])
    await start(store, { id: 'y', model: 'kept', now: later + DAY_MS })
    expect([await counters(), await indexed()]).toEqual([45, 45])
    await start(store, { id: 'z', model: 'old-0', now: later + 2 * DAY_MS })
    expect([(await keysLike('quota:*')).sort(), await indexed()]).toEqual([
      ['quota:kept', 'quota:old-0'],
      2,
    ])
    expect(await keysLike('quota')).toEqual(['quota'])
  })

  test('counters that a late settlement may need are kept until it is too late', async () => {
    const store = redisStore(upstash)
    const late = await start(store, { id: '1', now: MIDNIGHT - 1 })
    await start(store, { id: '2', model: 'b/two', user: 'bob', now: MIDNIGHT + DAY_MS - 2 })
    expect(await store.execute(settleOf(late, {}, MIDNIGHT + DAY_MS - 2))).toEqual({
      applied: true,
    })
    expect(usedOf(await store.execute(admitOf({ id: '3', now: MIDNIGHT + DAY_MS - 2 })))).toEqual([
      1, 100,
    ])
    expect(await quotasOf(store, TOMORROW)).toHaveProperty('*')
  })

  test('an end that nobody waits for reaches the day of an enter that came first', async () => {
    const store = redisStore(upstash)
    await spend(store, { id: '1', now: NOON - DAY_MS })
    await start(store, { id: '2' })
    // No request has ended today, and yesterday is one document.
    expect(await dayKeys()).toEqual([`day:${YESTERDAY}`])
    await enter(store, enterOf({ id: '3', user: 'bob', model: 'b/two', now: NOON - 2 * DAY_MS }))
    const before = dateOf(NOON - 2 * DAY_MS)
    expect(await dayKeys()).toEqual([`day:${before}`, `day:${YESTERDAY}`])
    expect(await dayOf(store, before)).toMatchObject({ models: { 'b/two': { requests: 1 } } })
  })
})

/** The tokens of all models of a day. */
const sumOf = (day: DayDoc | undefined) =>
  Object.values(day?.models ?? {}).reduce((sum, { charged }) => sum + charged, 0)
