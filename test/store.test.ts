import { inspect } from 'node:util'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { StoreError, type Retention, type Store } from '../src/store/store.ts'
import type { Admit, Enter, Limits, Row, UserDoc } from '../src/usage/record.ts'
import { DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS } from '../src/usage/record.ts'
import { admitOf, AMPLE, failureOf, NOON, settleOf } from './commands.ts'
import { startRedis, type Redis } from './redis.ts'
import { bindingStore, serveStore } from '../src/store/binding.ts'
import { localStore, redisStore, tcpStore, type Warning, usersOf } from './stores.ts'
import { startUpstash, type Upstash } from './upstash.ts'

const TODAY = '2026-11-22'
const TOMORROW = '2026-11-23'
const MIDNIGHT = Date.UTC(2026, 10, 23)

let redis: Redis
let upstash: Upstash
const opened: { remove(): Promise<void> }[] = []

beforeAll(async () => {
  redis = await startRedis()
  upstash = await startUpstash(redis)
})

afterAll(async () => {
  await upstash?.close()
  await redis?.stop()
})

beforeEach(async () => {
  upstash.reset()
  await redis.flush()
})

afterEach(async () => {
  for (const store of opened.splice(0)) await store.remove()
})

type Open = (retention?: Partial<Retention>) => Promise<Store>

const subjects: [string, Open][] = [
  ['redis', async (retention = {}) => redisStore(upstash, { retention })],
  ['redis in batches', async (retention = {}) => redisStore(upstash, { retention, batch: true })],
  [
    'redis over TCP',
    async (retention = {}) => {
      const store = tcpStore(redis.url, { retention })
      opened.push(store)
      return store
    },
  ],
  [
    'local',
    async (retention = {}) => {
      const store = await localStore(() => NOON, { retention })
      opened.push(store)
      return store
    },
  ],
  [
    'local behind a service binding',
    async (retention = {}) => {
      const store = await localStore(() => NOON, { retention })
      opened.push(store)
      return bindingStore({
        fetch: async (_, init) => new Response(await serveStore(store, String(init?.body))),
      })
    },
  ],
]

/** The only user there is. */
async function onlyUser(store: Store): Promise<UserDoc> {
  const users = await usersOf(store, { sort: 'lastActive', limit: 10, now: NOON })
  expect(users).toHaveLength(1)
  return users[0] as UserDoc
}

const rowOf = async (store: Store, model = 'a/one'): Promise<Row | undefined> =>
  (await onlyUser(store)).rows[model]

const todayOf = async (store: Store, date = TODAY) => (await store.days([date]))[0]

/** Admits and settles, one after the other. */
async function spend(store: Store, fields: Partial<Admit> & Pick<Admit, 'id'>, charged = 15) {
  const admit = admitOf(fields)
  expect(await store.admit(admit)).toMatchObject({ ok: true })
  const usage = { charged, prompt: charged, completion: 0, total: charged }
  expect(await store.settle(settleOf(admit, usage))).toEqual({ applied: true })
}

/** The entry of a request that was served at the moment of its admission, but without a lease. */
const enterOf = (fields: Partial<Admit> & Pick<Admit, 'id'>, now = NOON + SECOND_MS): Enter => {
  const { user, event } = settleOf(admitOf(fields))
  return { op: 'enter', now, user, event }
}

const enter = async (store: Store, command: Enter) => (await store.replay([command]))[0]

describe.each(subjects)('%s', (_, open) => {
  test('what was served without a lease is entered once, as if it had been admitted then', async () => {
    const [store, admit] = [await open(), admitOf({ id: '1', user: 'bob' })]
    await store.admit(admit)
    await store.settle(settleOf(admit))
    const twice = [enterOf({ id: '2' }), enterOf({ id: '3' }), enterOf({ id: '3' })]
    const answers = [{ applied: true }, { applied: true }, { applied: false }]
    expect(await store.replay(twice)).toEqual(answers)
    expect(await enter(store, enterOf({ id: '2' }))).toEqual({ applied: false })
    const [entered, settled] = (
      await usersOf(store, { sort: 'tokens', limit: 10, now: NOON })
    ).sort((a, b) => (a.id < b.id ? -1 : 1))
    const once = settled?.rows['a/one'] as Row
    expect(entered?.rows['a/one']).toEqual({
      ...once,
      requests: 2,
      settled: 2,
      charged: 30,
      prompt: 20,
      completion: 10,
    })
    expect(await todayOf(store)).toMatchObject({
      total: { requests: 3, settled: 3, charged: 45, users: 2 },
    })
    expect((await store.events(10)).map(({ id }) => id)).toEqual(['3', '2', '1'])
  })

  test('an entry whose lease is there after all settles it', async () => {
    const [store, admit] = [await open(), admitOf({ id: '1', global: { total: AMPLE } })]
    await store.admit(admit)
    expect(await enter(store, { ...enterOf({ id: '1' }), scopes: ['*'] })).toEqual({
      applied: true,
    })
    expect(await rowOf(store)).toMatchObject({ requests: 1, settled: 1, charged: 15, held: 0 })
    expect((await onlyUser(store)).leases).toEqual({})
    expect((await todayOf(store))?.quota).toEqual({ '*': { tokens: 15, requests: 1 } })
  })

  test('an admission that arrives after its entry leaves no lease behind', async () => {
    const store = await open()
    await enter(store, { ...enterOf({ id: '1' }), scopes: ['*'] })
    const late = admitOf({ id: '1', now: NOON + SECOND_MS, global: { total: AMPLE } })
    expect(await store.admit(late)).toMatchObject({ ok: true, day: { tokens: 15, requests: 1 } })
    expect(await rowOf(store)).toMatchObject({ requests: 1, charged: 15, held: 0 })
    expect((await todayOf(store))?.quota).toEqual({ '*': { tokens: 15, requests: 1 } })
  })

  test('an entry counts for the day of its request, and for what everyone together has used', async () => {
    const store = await open()
    await spend(store, { id: '1', now: NOON - DAY_MS })
    await spend(store, { id: '2' })
    await enter(store, { ...enterOf({ id: '3', now: NOON - DAY_MS }), scopes: ['*', 'a/one'] })
    const user = await onlyUser(store)
    expect(user.rows['a/one']).toMatchObject({ requests: 1, charged: 15 })
    expect(user.past['2026-11-21']).toEqual({ 'a/one': { requests: 2, charged: 30 } })
    expect(await todayOf(store, '2026-11-21')).toMatchObject({
      total: { requests: 2, charged: 30, users: 1 },
      quota: { '*': { tokens: 15, requests: 1 }, 'a/one': { tokens: 15, requests: 1 } },
    })
  })

  test('an entry counts beyond every limit, since its tokens are spent', async () => {
    const store = await open()
    const limits = { model: { tokensPerDay: 100, requestsPerDay: 2 } }
    for (const id of ['1', '2', '3']) await enter(store, enterOf({ id, bound: 100 }))
    expect(await rowOf(store)).toMatchObject({ requests: 3, charged: 45 })
    expect(await store.admit(admitOf({ id: '4', bound: 1, limits }))).toMatchObject({
      ok: false,
      unit: 'requests',
      used: 3,
    })
  })

  test('after seven days nothing is entered any more', async () => {
    const store = await open()
    const inTime = enterOf({ id: '1' }, NOON + 7 * DAY_MS - 1)
    expect(await enter(store, inTime)).toEqual({ applied: true })
    expect(await enter(store, enterOf({ id: '2' }, NOON + 7 * DAY_MS))).toEqual({ applied: false })
  })

  test('an admit charges the bound at once and a settle replaces it', async () => {
    const store = await open()
    const first = admitOf({ id: '1', bound: 100 })
    expect(await store.admit(first)).toEqual({
      ok: true,
      at: NOON,
      day: { tokens: 100, requests: 1 },
      minute: { tokens: 100, requests: 1 },
    })
    expect(await store.settle(settleOf(first, { charged: 15 }))).toEqual({ applied: true })
    expect(await store.admit(admitOf({ id: '2', bound: 7, now: NOON + SECOND_MS }))).toEqual({
      ok: true,
      at: NOON + SECOND_MS,
      day: { tokens: 22, requests: 2 },
      minute: { tokens: 22, requests: 2 },
    })
    expect(await rowOf(store)).toEqual({
      requests: 2,
      settled: 1,
      partial: 0,
      failed: 0,
      charged: 22,
      held: 7,
      prompt: 10,
      completion: 5,
      overshoot: 0,
    })
  })

  test('the same id admitted again gets the same answer and charges once', async () => {
    const store = await open()
    const admit = admitOf({ id: '1', global: { total: AMPLE, model: AMPLE } })
    const answer = await store.admit(admit)
    expect(await store.admit(admit)).toEqual(answer)
    expect(await Promise.all([store.admit(admit), store.admit(admit)])).toEqual([answer, answer])
    await store.settle(settleOf(admit))
    expect(await rowOf(store)).toMatchObject({ requests: 1, charged: 15, held: 0 })
    expect((await todayOf(store))?.quota).toEqual({
      '*': { tokens: 15, requests: 1 },
      'a/one': { tokens: 15, requests: 1 },
    })
  })

  test('the same id is admitted again where a new one would be refused', async () => {
    const store = await open()
    const admit = admitOf({ id: '1', limits: { model: { tokensPerDay: 100, requestsPerDay: 1 } } })
    const answer = await store.admit(admit)
    expect(await store.admit({ ...admit, id: '2' })).toMatchObject({ ok: false })
    expect(await store.admit(admit)).toEqual(answer)
  })

  test('a second settle does nothing', async () => {
    const store = await open()
    const admit = admitOf({ id: '1' })
    await store.admit(admit)
    expect(await store.settle(settleOf(admit))).toEqual({ applied: true })
    const before = [await onlyUser(store), await todayOf(store), await store.events(9)]
    expect(await store.settle(settleOf(admit, { charged: 70 }))).toEqual({ applied: false })
    expect([await onlyUser(store), await todayOf(store), await store.events(9)]).toEqual(before)
  })

  test('two settles at once charge once', async () => {
    const store = await open()
    const admit = admitOf({ id: '1' })
    await store.admit(admit)
    const answers = await Promise.all([
      store.settle(settleOf(admit, { charged: 20 })),
      store.settle(settleOf(admit, { charged: 20 })),
    ])
    expect(answers).toEqual([{ applied: true }, { applied: false }])
    expect(await rowOf(store)).toMatchObject({ requests: 1, settled: 1, charged: 20 })
  })

  test('a settle of an unknown id does nothing, with the user known or not', async () => {
    const store = await open()
    const unknown = settleOf(admitOf({ id: 'x' }))
    expect(await store.settle(unknown)).toEqual({ applied: false })
    expect(await usersOf(store, { sort: 'lastActive', limit: 9, now: NOON })).toEqual([])
    await store.admit(admitOf({ id: '1' }))
    expect(await store.settle(unknown)).toEqual({ applied: false })
    expect(await store.events(9)).toEqual([])
    expect(await store.days([TODAY])).toEqual([])
  })

  test('a settle before its admit does nothing', async () => {
    const store = await open()
    const admit = admitOf({ id: '1' })
    expect(await store.settle(settleOf(admit))).toEqual({ applied: false })
    expect(await store.admit(admit)).toMatchObject({ ok: true, day: { tokens: 100 } })
  })

  test('a settle for another user does nothing', async () => {
    const store = await open()
    const admit = admitOf({ id: '1', user: 'alice' })
    await store.admit(admit)
    await store.admit({ ...admit, id: '2', user: 'bob' })
    const settle = settleOf(admit)
    const foreign = { ...settle, user: 'bob', event: { ...settle.event, user: 'bob' } }
    expect(await store.settle(foreign)).toEqual({ applied: false })
    expect(await store.settle(settle)).toEqual({ applied: true })
  })

  test('user, model, time and bound of an event are those of the lease', async () => {
    const store = await open()
    const admit = admitOf({ id: '1' })
    await store.admit(admit)
    const lies = { user: 'bob', model: 'b/two', at: NOON - DAY_MS, bound: 1 }
    const settle = settleOf(admit)
    await store.settle({ ...settle, event: { ...settle.event, ...lies } })
    const [event] = await store.events(9)
    expect(event).toMatchObject({ user: 'alice', model: 'a/one', at: NOON, bound: 100 })
    expect(await rowOf(store)).toMatchObject({ charged: 15, overshoot: 0 })
  })

  test('a settle is taken for 24 hours and does nothing afterwards', async () => {
    const store = await open()
    const admits = ['1', '2'].map((id) => admitOf({ id }))
    const [early, late] = admits as [Admit, Admit]
    await store.admit(early)
    await store.admit(late)
    const last = NOON + DAY_MS - 1
    expect(await store.settle(settleOf(early, {}, last))).toEqual({ applied: true })
    expect(await store.settle(settleOf(late, {}, last + 1))).toEqual({ applied: false })
    await store.admit(admitOf({ id: '3', now: last + 1 }))
    const { past, leases } = await onlyUser(store)
    expect(past[TODAY]?.['a/one']).toMatchObject({ requests: 2, settled: 1, charged: 115 })
    expect(Object.keys(leases)).toEqual(['3'])
    expect((await todayOf(store))?.total).toMatchObject({ requests: 1, charged: 15 })
  })

  test('a settle without its lease does not come back to life when the clock goes back', async () => {
    const store = await open()
    const admit = admitOf({ id: '1' })
    await store.admit(admit)
    await store.admit(admitOf({ id: '2', now: NOON + DAY_MS }))
    expect(await store.settle(settleOf(admit))).toEqual({ applied: false })
  })

  type Place = {
    place: string
    of: 'user' | 'everyone'
    scope: string
    limit(limits: Limits): Partial<Admit>
    /** Another request that counts against the same limit. */
    beside: Partial<Admit>
    /** One that does not. */
    apart: Partial<Admit>
  }
  const places: Place[] = [
    {
      place: "a user's model",
      of: 'user',
      scope: 'a/one',
      limit: (model) => ({ limits: { model } }),
      beside: {},
      apart: { model: 'b/two' },
    },
    {
      place: "a user's total",
      of: 'user',
      scope: '*',
      limit: (total) => ({ limits: { model: AMPLE, total } }),
      beside: { model: 'b/two' },
      apart: { user: 'bob' },
    },
    {
      place: "everyone's total",
      of: 'everyone',
      scope: '*',
      limit: (total) => ({ limits: { model: AMPLE }, global: { total } }),
      beside: { user: 'bob', model: 'b/two' },
      apart: { now: NOON + DAY_MS, user: 'carol' },
    },
    {
      place: "everyone's model",
      of: 'everyone',
      scope: 'a/one',
      limit: (model) => ({ limits: { model: AMPLE }, global: { total: AMPLE, model } }),
      beside: { user: 'bob' },
      apart: { model: 'b/two' },
    },
  ]
  const spans = [
    { per: 'day', resetAt: MIDNIGHT } as const,
    { per: 'minute', resetAt: NOON + MINUTE_MS } as const,
  ]
  const cases = places.flatMap(({ place, ...rest }) =>
    spans.map((span) => [`${place} per ${span.per}`, { ...rest, ...span }] as const),
  )
  const withLimit = (per: 'day' | 'minute', tokens: number, requests: number): Limits =>
    per === 'day'
      ? { tokensPerDay: tokens, requestsPerDay: requests }
      : { ...AMPLE, tokensPerMinute: tokens, requestsPerMinute: requests }

  test.each(cases)(
    '%s refuses the token too many and lets through what fits',
    async (_, { of, scope, limit, beside, apart, per, resetAt }) => {
      const store = await open()
      const limited = limit(withLimit(per, 100, 1e6))
      await spend(store, { id: '1', bound: 60, ...limited, ...beside }, 40)
      expect(await store.admit(admitOf({ id: '2', bound: 50, ...limited }))).toMatchObject({
        ok: true,
      })
      const next = admitOf({ id: '3', bound: 11, now: NOON + 2000, ...limited })
      expect(await store.admit(next)).toEqual({
        ok: false,
        reason: 'limit',
        of,
        model: scope,
        per,
        unit: 'tokens',
        limit: 100,
        used: 90,
        asked: 11,
        resetAt,
      })
      expect(await store.admit({ ...next, id: '4', ...apart })).toMatchObject({ ok: true })
      expect(await store.admit({ ...next, id: '5', bound: 10 })).toMatchObject({ ok: true })
      expect(await store.admit({ ...next, id: '6', bound: 1 })).toMatchObject({ ok: false })
    },
  )

  test.each(cases)(
    '%s refuses the request too many and counts the failed ones',
    async (_, { of, scope, limit, beside, apart, per, resetAt }) => {
      const store = await open()
      const limited = limit(withLimit(per, 1e6, 2))
      const first = admitOf({ id: '1', ...limited, ...beside })
      await store.admit(first)
      await store.settle(failureOf(first))
      const next = admitOf({ id: '2', now: NOON + 2000, ...limited })
      expect(await store.admit(next)).toMatchObject({ ok: true })
      expect(await store.admit({ ...next, id: '3', bound: 5 })).toEqual({
        ok: false,
        reason: 'limit',
        of,
        model: scope,
        per,
        unit: 'requests',
        limit: 2,
        used: 2,
        asked: 1,
        resetAt,
      })
      expect(await store.admit({ ...next, id: '4', ...apart })).toMatchObject({ ok: true })
    },
  )

  test('a limit of zero lets nothing through', async () => {
    const store = await open()
    const none = { model: { tokensPerDay: 1e9, requestsPerDay: 0 } }
    expect(await store.admit(admitOf({ id: '1', limits: none }))).toMatchObject({
      reason: 'limit',
      unit: 'requests',
      limit: 0,
      used: 0,
    })
  })

  test('a refusal changes nothing', async () => {
    const store = await open()
    await spend(store, { id: '1' })
    const before = [await onlyUser(store), await todayOf(store)]
    const limits = { model: { tokensPerDay: 20, requestsPerDay: 9 } }
    const global = { total: AMPLE, model: AMPLE }
    const refused = admitOf({ id: '2', limits, global, ip: '192.0.2.9', now: NOON + HOUR_MS })
    expect(await store.admit(refused)).toMatchObject({ ok: false })
    expect([await onlyUser(store), await todayOf(store)]).toEqual(before)
  })

  test('what settles makes room for what was refused', async () => {
    const store = await open()
    const limits = { model: { tokensPerDay: 120, requestsPerDay: 9 } }
    const first = admitOf({ id: '1', limits })
    await store.admit(first)
    expect(await store.admit({ ...first, id: '2' })).toMatchObject({ ok: false, used: 100 })
    await store.settle(settleOf(first, { charged: 20 }))
    expect(await store.admit({ ...first, id: '2' })).toMatchObject({ ok: true })
  })

  test('100 admits at once with room for 7 admit 7', async () => {
    const store = await open()
    const limits = { model: { tokensPerDay: 799, requestsPerDay: 1000 } }
    const answers = await Promise.all(
      Array.from({ length: 100 }, (_, n) => store.admit(admitOf({ id: `${n}`, limits }))),
    )
    expect(answers.filter((answer) => answer.ok)).toHaveLength(7)
  })

  test('100 users at once with room for 7 in all admit 7', async () => {
    const store = await open()
    const global = { total: { tokensPerDay: 1e6, requestsPerDay: 7 } }
    const answers = await Promise.all(
      Array.from({ length: 100 }, (_, n) =>
        store.admit(admitOf({ id: `${n}`, user: `user-${n}`, global })),
      ),
    )
    expect(answers.filter((answer) => answer.ok)).toHaveLength(7)
  })

  const setBlock = (
    store: Store,
    model: string,
    block?: { at: number; reason?: string; until?: number },
  ) => store.setBlock({ op: 'block', now: NOON, user: 'alice', model, block })

  test('a block for one model refuses that model only', async () => {
    const store = await open()
    expect(await setBlock(store, 'a/one', { at: NOON, reason: 'spam' })).toEqual({ ok: true })
    expect(await store.admit(admitOf({ id: '1' }))).toEqual({
      ok: false,
      reason: 'blocked',
      model: 'a/one',
      why: 'spam',
    })
    expect(await store.admit(admitOf({ id: '2', model: 'b/two' }))).toMatchObject({ ok: true })
    expect(await store.admit(admitOf({ id: '3', user: 'bob' }))).toMatchObject({ ok: true })
  })

  test('a block for all models refuses each of them and is told before that of the model', async () => {
    const store = await open()
    await setBlock(store, 'a/one', { at: NOON })
    await setBlock(store, '*', { at: NOON, reason: 'bill', until: NOON + HOUR_MS })
    for (const model of ['a/one', 'b/two']) {
      expect(await store.admit(admitOf({ id: model, model }))).toEqual({
        ok: false,
        reason: 'blocked',
        model: '*',
        why: 'bill',
        until: NOON + HOUR_MS,
      })
    }
  })

  test('a block runs out at its time', async () => {
    const store = await open()
    const until = NOON + 5000
    await setBlock(store, 'a/one', { at: NOON, until })
    expect(await store.admit(admitOf({ id: '1', now: until - 1 }))).toEqual({
      ok: false,
      reason: 'blocked',
      model: 'a/one',
      until,
    })
    expect(await store.admit(admitOf({ id: '2', now: until }))).toMatchObject({ ok: true })
  })

  test('a lifted block refuses nothing, and lifting one that is not there does nothing', async () => {
    const store = await open()
    expect(await setBlock(store, '*')).toEqual({ ok: true })
    await setBlock(store, 'a/one', { at: NOON })
    await setBlock(store, '*', { at: NOON })
    await setBlock(store, '*')
    expect(await store.admit(admitOf({ id: '1' }))).toMatchObject({ model: 'a/one' })
    await setBlock(store, 'a/one')
    expect(await store.admit(admitOf({ id: '2' }))).toMatchObject({ ok: true })
    await setBlock(store, 'a/one')
    await spend(store, { id: '3' })
    expect((await onlyUser(store)).blocks).toEqual({})
  })

  test('a block does not stop the settling of what runs', async () => {
    const store = await open()
    const admit = admitOf({ id: '1' })
    await store.admit(admit)
    await setBlock(store, '*', { at: NOON, reason: 'spam' })
    expect(await store.settle(settleOf(admit))).toEqual({ applied: true })
    expect((await onlyUser(store)).blocks).toEqual({ '*': { at: NOON, reason: 'spam' } })
  })

  test('a block reason comes back as it was written', async () => {
    const store = await open()
    for (const why of ['ü "quoted" \\ \u2028 \u0000 🦢', '', "it's </script>", '{"a":[1,{}]}']) {
      await setBlock(store, '*', { at: NOON, reason: why })
      expect(await store.admit(admitOf({ id: '1' }))).toMatchObject({ reason: 'blocked', why })
    }
  })

  test('the 65th model of a day is refused, the 64 stay open, and the next day starts afresh', async () => {
    const store = await open()
    await Promise.all(
      Array.from({ length: 64 }, (_, n) => store.admit(admitOf({ id: `${n}`, model: `m-${n}` }))),
    )
    const next = admitOf({ id: 'x', model: 'm-64' })
    expect(await store.admit(next)).toEqual({ ok: false, reason: 'models' })
    expect(await store.admit({ ...next, model: 'm-63' })).toMatchObject({ ok: true })
    expect(await store.admit({ ...next, id: 'y', now: NOON + DAY_MS })).toMatchObject({ ok: true })
  })

  test('day and minute roll over', async () => {
    const store = await open()
    await store.admit(admitOf({ id: '1', now: MIDNIGHT - MINUTE_MS - 1 }))
    expect(await store.admit(admitOf({ id: '2', now: MIDNIGHT - 1 }))).toMatchObject({
      day: { tokens: 200, requests: 2 },
      minute: { tokens: 100, requests: 1 },
    })
    expect(await store.admit(admitOf({ id: '3', now: MIDNIGHT }))).toMatchObject({
      at: MIDNIGHT,
      day: { tokens: 100, requests: 1 },
      minute: { tokens: 100, requests: 1 },
    })
    await spend(store, { id: '4', now: MIDNIGHT })
    const { date, past } = await onlyUser(store)
    expect(date).toBe(TOMORROW)
    expect(past[TODAY]?.['a/one']).toMatchObject({ requests: 2, charged: 200, held: 200 })
  })

  test('a past day is short once nothing of it is open', async () => {
    const store = await open()
    await spend(store, { id: '1' })
    await spend(store, { id: '2', now: NOON + DAY_MS })
    expect((await onlyUser(store)).past).toEqual({
      [TODAY]: { 'a/one': { requests: 1, charged: 15 } },
    })
  })

  test('past days are kept for as long as users are', async () => {
    const store = await open({ userDays: 2 })
    for (let day = 0; day < 5; day += 1) {
      await spend(store, { id: `${day}`, now: NOON + day * DAY_MS })
    }
    expect(Object.keys((await onlyUser(store)).past).sort()).toEqual(['2026-11-24', '2026-11-25'])
  })

  test('a clock that goes back never gives a fresh day or minute', async () => {
    const store = await open()
    const limits = { model: { ...AMPLE, requestsPerDay: 2, requestsPerMinute: 2 } }
    const first = admitOf({ id: '1', limits, now: MIDNIGHT + 1 })
    await store.admit(first)
    for (const now of [MIDNIGHT - 1, MIDNIGHT - 3 * DAY_MS]) {
      await store.admit({ ...first, id: '2', now })
      expect(await store.admit({ ...first, id: '3', now })).toMatchObject({
        reason: 'limit',
        used: 2,
        resetAt: MIDNIGHT + DAY_MS,
      })
    }
    expect(await store.admit({ ...first, id: '2', now: NOON })).toMatchObject({ at: MIDNIGHT + 1 })
  })

  test('a late settle corrects the day of its admission and is marked late', async () => {
    const store = await open()
    const global = { total: AMPLE, model: AMPLE }
    const admit = admitOf({ id: '1', global, now: MIDNIGHT - 1000, lasts: 300_000 })
    await store.admit(admit)
    await spend(store, { id: '2', global, now: MIDNIGHT + HOUR_MS }, 3)
    const settle = settleOf(admit, { charged: 40, prompt: 40 }, MIDNIGHT + 2 * HOUR_MS)
    expect(await store.settle(settle)).toEqual({ applied: true })
    const user = await onlyUser(store)
    expect(user.past[TODAY]).toEqual({ 'a/one': { requests: 1, charged: 40 } })
    expect(user.rows['a/one']).toMatchObject({ requests: 1, charged: 3 })
    const [day, next] = [await todayOf(store), await todayOf(store, TOMORROW)]
    expect(day).toMatchObject({
      total: { requests: 1, settled: 1, charged: 40, prompt: 40, users: 1, hours: { 23: 40 } },
      quota: { '*': { tokens: 40, requests: 1 }, 'a/one': { tokens: 40, requests: 1 } },
    })
    expect(next).toMatchObject({
      total: { requests: 1, charged: 3, users: 1, hours: { 1: 3 } },
      quota: { '*': { tokens: 3, requests: 1 } },
    })
    const [late, onTime] = await store.events(9)
    expect(late).toMatchObject({ id: '1', at: MIDNIGHT - 1000, late: true })
    expect(onTime).not.toHaveProperty('late')
  })

  test('a settle is late once its lease has run out, and not before', async () => {
    const store = await open()
    for (const [id, after] of [['1', 5000] as const, ['2', 5001] as const]) {
      const admit = admitOf({ id, lasts: 5000, user: id })
      await store.admit(admit)
      await store.settle(settleOf(admit, {}, NOON + after))
    }
    const events = await store.events(2)
    expect(events.map(({ id, late }) => [id, late])).toEqual([
      ['2', true],
      ['1', undefined],
    ])
  })

  test('a settle corrects the minute of its admission and leaves the next one alone', async () => {
    const store = await open()
    const [first, second] = [admitOf({ id: '1' }), admitOf({ id: '2' })]
    await store.admit(first)
    await store.admit(second)
    await store.settle(settleOf(first))
    expect(await store.admit(admitOf({ id: '3', now: NOON + 2000 }))).toMatchObject({
      minute: { tokens: 215, requests: 3 },
    })
    await store.admit(admitOf({ id: '4', now: NOON + MINUTE_MS }))
    await store.settle(settleOf(second, {}, NOON + MINUTE_MS))
    expect(await store.admit(admitOf({ id: '5', now: NOON + MINUTE_MS }))).toMatchObject({
      minute: { tokens: 200, requests: 2 },
    })
  })

  test('a failed request charges nothing and counts as a request', async () => {
    const store = await open()
    const admit = admitOf({ id: '1', global: { total: AMPLE } })
    await store.admit(admit)
    await store.settle(failureOf(admit))
    expect(await rowOf(store)).toMatchObject({ requests: 1, failed: 1, charged: 0, held: 0 })
    expect(await todayOf(store)).toMatchObject({
      total: { requests: 1, failed: 1, charged: 0, users: 0 },
      quota: { '*': { tokens: 0, requests: 1 } },
    })
  })

  test('a partial request is charged what was estimated', async () => {
    const store = await open()
    const admit = admitOf({ id: '1' })
    await store.admit(admit)
    const { prompt: _p, completion: _c, total: _t, ...bare } = settleOf(admit).event
    const event = { ...bare, outcome: 'partial', charged: 33, estimated: true } as const
    await store.settle({ op: 'settle', now: NOON + 1, user: 'alice', event })
    expect(await rowOf(store)).toMatchObject({ partial: 1, settled: 0, charged: 33, prompt: 0 })
    expect((await todayOf(store))?.total).toMatchObject({ partial: 1, charged: 33, users: 1 })
    expect(await store.events(1)).toEqual([event])
  })

  test('what upstream reports beyond the bound is charged and counted as overshoot', async () => {
    const store = await open()
    const limits = { model: { tokensPerDay: 150, requestsPerDay: 9 } }
    const admit = admitOf({ id: '1', bound: 100, limits })
    await store.admit(admit)
    await store.settle(settleOf(admit, { charged: 170 }))
    await spend(store, { id: '2' }, 60)
    expect(await rowOf(store)).toMatchObject({ charged: 230, overshoot: 70 })
    expect((await todayOf(store))?.total).toMatchObject({ charged: 230, overshoot: 70 })
    expect((await todayOf(store))?.models['a/one']).toMatchObject({ charged: 230, overshoot: 70 })
    expect(await store.admit(admitOf({ id: '3', bound: 1, limits }))).toMatchObject({
      ok: false,
      used: 230,
      asked: 1,
    })
  })

  test("a model enters the day's totals only after an answer", async () => {
    const store = await open()
    const admit = admitOf({ id: '1', model: 'made-up' })
    await store.admit(admit)
    expect(await store.days([TODAY])).toEqual([])
    await store.settle(failureOf(admit))
    expect(await todayOf(store)).toMatchObject({ total: { requests: 1 }, models: {} })
    await spend(store, { id: '2', model: 'made-up' })
    const again = admitOf({ id: '3', model: 'made-up' })
    await store.admit(again)
    await store.settle(failureOf(again))
    expect(await todayOf(store)).toMatchObject({
      total: { requests: 3, failed: 2 },
      models: { 'made-up': { requests: 2, settled: 1, failed: 1 } },
    })
  })

  test('a user is counted once a day in all and once per model', async () => {
    const store = await open()
    const failed = admitOf({ id: '0' })
    await store.admit(failed)
    await store.settle(failureOf(failed))
    await spend(store, { id: '1', model: 'a/one' })
    await spend(store, { id: '2', model: 'a/one' })
    await spend(store, { id: '3', model: 'b/two' })
    await spend(store, { id: '4', model: 'a/one', user: 'bob' })
    await spend(store, { id: '5', model: 'a/one', now: NOON + DAY_MS })
    const [day, next] = [await todayOf(store), await todayOf(store, TOMORROW)]
    expect(day?.total.users).toBe(2)
    expect([day?.models['a/one']?.users, day?.models['b/two']?.users]).toEqual([2, 1])
    expect([next?.total.users, next?.models['a/one']?.users]).toEqual([1, 1])
  })

  test('a user whose requests settle out of order is counted once', async () => {
    const store = await open()
    const admits = ['1', '2', '3'].map((id) => admitOf({ id, now: MIDNIGHT - 1 }))
    for (const admit of admits) await store.admit(admit)
    for (const admit of admits.reverse()) {
      await store.settle(settleOf(admit, {}, MIDNIGHT + 1000))
    }
    expect((await todayOf(store))?.total).toMatchObject({ requests: 3, users: 1 })
  })

  test('a user whose answer cost nothing is not counted again by a late settle', async () => {
    const store = await open()
    const [free, late] = ['a/one', 'b/two'].map((model) =>
      admitOf({ id: model, model, now: MIDNIGHT - 2000 }),
    ) as [Admit, Admit]
    await store.admit(free)
    await store.admit(late)
    await store.settle(settleOf(free, { charged: 0 }))
    await store.settle(settleOf(late, {}, MIDNIGHT))
    expect((await todayOf(store))?.total).toMatchObject({ requests: 2, users: 1 })
  })

  const odd = ['constructor', 'toString', 'hasOwnProperty', '__proto__', 'total', '123', '*x', 'ü']
  test.each(odd)('a model named %s is a model like any other', async (model) => {
    const store = await open()
    const limits = { model: { tokensPerDay: 100, requestsPerDay: 2 }, total: AMPLE }
    const global = { total: AMPLE, model: AMPLE }
    const admit = admitOf({ id: model, user: `user-${model}`, model, limits, global, bound: 90 })
    const { user } = admit
    expect(await store.admit(admit)).toMatchObject({ day: { tokens: 90, requests: 1 } })
    expect(await store.settle(settleOf(admit))).toEqual({ applied: true })
    expect(await store.admit({ ...admit, id: '2' })).toMatchObject({ ok: false, used: 15 })
    await store.setBlock({ op: 'block', now: NOON, user, model, block: { at: NOON } })
    expect(await store.admit({ ...admit, id: '3', bound: 1 })).toEqual({
      ok: false,
      reason: 'blocked',
      model,
    })
    const { rows, blocks } = await onlyUser(store)
    expect([Object.keys(rows), Object.keys(blocks)]).toEqual([[model], [model]])
    const { models, quota } = (await todayOf(store))!
    expect(Object.keys(models)).toEqual([model])
    expect(Object.getOwnPropertyDescriptor(quota, model)?.value).toEqual({
      tokens: 15,
      requests: 1,
    })
  })

  test('users are listed by last active, the newest first, at most the limit', async () => {
    const store = await open()
    for (const [n, user] of ['alice', 'bob', 'carol'].entries()) {
      await spend(store, { id: user, user, now: NOON + n * MINUTE_MS })
    }
    await store.admit(admitOf({ id: 'x', user: 'dave' }))
    const list = async (limit: number) =>
      (await usersOf(store, { sort: 'lastActive', limit, now: NOON })).map(({ id }) => id)
    expect(await list(10)).toEqual(['carol', 'bob', 'alice'])
    expect(await list(2)).toEqual(['carol', 'bob'])
    expect(await list(0)).toEqual([])
    await spend(store, { id: 'y', user: 'alice', now: NOON + HOUR_MS })
    expect(await list(10)).toEqual(['alice', 'carol', 'bob'])
  })

  test("users are listed by today's tokens, the most first, at most the limit", async () => {
    const store = await open()
    await spend(store, { id: '1', user: 'yesterday', now: NOON - DAY_MS }, 1000)
    await spend(store, { id: '2', user: 'alice' }, 20)
    await spend(store, { id: '3', user: 'bob' }, 30)
    await spend(store, { id: '4', user: 'alice', model: 'b/two' }, 15)
    await spend(store, { id: '5', user: 'tomorrow', now: NOON + DAY_MS }, 2000)
    await store.admit(admitOf({ id: '6', user: 'bob', bound: 500 }))
    const list = async (limit: number) =>
      (await usersOf(store, { sort: 'tokens', limit, now: NOON })).map(({ id }) => id)
    expect(await list(10)).toEqual(['alice', 'bob'])
    expect(await list(1)).toEqual(['alice'])
    expect(await list(0)).toEqual([])
  })

  test('the address is that of the last admitted request that had one', async () => {
    const store = await open()
    await spend(store, { id: '1', ip: '192.0.2.1' })
    await spend(store, { id: '2', ip: '192.0.2.2' })
    await spend(store, { id: '3' })
    expect((await onlyUser(store)).ip).toBe('192.0.2.2')
  })

  test('events come newest first, at most the limit, with all that was observed', async () => {
    const store = await open()
    const admits = ['1', '2', '3'].map((id) => admitOf({ id }))
    const seen = { session: 's', cached: 3, reasoning: 2, ttfbMs: 4, mismatch: true } as const
    for (const admit of admits) {
      await store.admit(admit)
      await store.settle(settleOf(admit, seen, NOON))
    }
    const events = await store.events(10)
    expect(events).toEqual(admits.reverse().map((admit) => settleOf(admit, seen).event))
    expect(await store.events(2)).toEqual(events.slice(0, 2))
    expect(await store.events(0)).toEqual([])
  })

  test('only so many events are kept', async () => {
    const store = await open({ eventsKept: 10 })
    for (let n = 0; n < 100; n += 1) await spend(store, { id: `${n}` })
    const ids = (await store.events(1000)).map(({ id }) => id)
    expect(ids).toEqual(Array.from({ length: 10 }, (_, n) => `${99 - n}`))
  })

  test('no event is kept where none is wanted', async () => {
    const store = await open({ eventsKept: 0 })
    await spend(store, { id: '1' })
    expect(await store.events(10)).toEqual([])
    expect(await rowOf(store)).toMatchObject({ settled: 1 })
  })

  test('days come in the order asked for, without those that have nothing', async () => {
    const store = await open()
    await spend(store, { id: '1' })
    await spend(store, { id: '2', now: NOON + DAY_MS })
    const days = await store.days([TOMORROW, '2020-01-01', TODAY])
    expect(days.map(({ date }) => date)).toEqual([TOMORROW, TODAY])
    expect(await store.days([])).toEqual([])
  })
})

const get = async (key: string) => String(await redis.command(['GET', key]))
const seconds = async (key: string) => Number(await redis.command(['PTTL', key])) / 1000

const USER_KEY = 'weir:1:user:alice'
const DAY_KEY = `weir:1:day:${TODAY}`

/** A good document of Alice with one change. */
async function spoil(key: string, change: (doc: Record<string, unknown>) => void): Promise<string> {
  const doc = JSON.parse(await get(key)) as Record<string, unknown>
  change(doc)
  return JSON.stringify(doc)
}

type Loose = Record<string, Record<string, Record<string, unknown>>>

const SPOILT_USERS: [string, (doc: Record<string, unknown>) => void][] = [
  ['another version', (doc) => void (doc['v'] = 2)],
  ['no rows', (doc) => void delete doc['rows']],
  ['rows that are null', (doc) => void (doc['rows'] = null)],
  ['a number as a string', (doc) => void ((doc as Loose)['rows']!['a/one']!['charged'] = '100')],
  ['a row that is null', (doc) => void ((doc as Loose)['rows']!['a/one'] = null!)],
  ['a past row of another shape', (doc) => void (doc['past'] = { '2026-11-21': { a: {} } })],
  ['a lease without a bound', (doc) => void delete (doc as Loose)['leases']!['0']!['bound']],
  ['a lease with scopes as text', (doc) => void ((doc as Loose)['leases']!['0']!['scopes'] = '*')],
  ['a block until a text', (doc) => void (doc['blocks'] = { x: { at: 1, until: 'noon' } })],
  ['a block that is null', (doc) => void (doc['blocks'] = { x: null })],
  ['a minute without rows', (doc) => void (doc['minute'] = { n: 1 })],
  ['a last activity as text', (doc) => void (doc['seen'] = 'noon')],
]

describe('redis only', () => {
  test('an unreadable user is set aside and reported, and the request goes on', async () => {
    const warnings: Warning[] = []
    const store = redisStore(upstash, { warnings })
    await store.admit(admitOf({ id: '0', global: { total: AMPLE } }))
    const spoilt = ['', 'not json', '[]', '"text"', '17', 'null', '{}', '{"v":1']
    for (const [, change] of SPOILT_USERS) spoilt.push(await spoil(USER_KEY, change))
    spoilt.push((await get(USER_KEY)).replace('"charged":100', '"charged":1e999'))
    for (const [n, text] of spoilt.entries()) {
      warnings.length = 0
      await redis.command(['SET', USER_KEY, text])
      const admit = admitOf({ id: `${n + 1}` })
      expect(await store.admit(admit), text).toMatchObject({ ok: true, day: { requests: 1 } })
      expect(await get('weir:1:damaged:user:alice')).toBe(text)
      expect(warnings, text).toEqual([
        {
          event: 'store.damaged',
          fields: { keys: [USER_KEY], setAside: 'weir:1:damaged:' },
        },
      ])
      expect(await store.settle(settleOf(admit)), text).toEqual({ applied: true })
      expect(warnings).toHaveLength(1)
    }
  })

  test('an unreadable day is set aside and reported, and the request goes on', async () => {
    const warnings: Warning[] = []
    const store = redisStore(upstash, { warnings })
    const global = { total: AMPLE, model: AMPLE }
    await spend(store, { id: '0', global })
    const row = (doc: Record<string, unknown>) => doc['total'] as Record<string, unknown>
    const spoilt = [
      'not json',
      '[1]',
      '{"v":1}',
      await spoil(DAY_KEY, (doc) => void (row(doc)['charged'] = '15')),
      await spoil(DAY_KEY, (doc) => void (row(doc)['hours'] = { 12: 'x' })),
      await spoil(DAY_KEY, (doc) => void (doc['quota'] = { '*': { tokens: 'x', requests: 1 } })),
      await spoil(DAY_KEY, (doc) => void (doc['models'] = { 'a/one': 5 })),
    ]
    for (const [n, text] of spoilt.entries()) {
      warnings.length = 0
      await redis.command(['SET', DAY_KEY, text])
      const admit = admitOf({ id: `${n + 1}`, user: `user-${n}`, ...(n % 2 ? { global } : {}) })
      expect(await store.admit(admit), text).toMatchObject({ ok: true })
      expect(await store.settle(settleOf(admit)), text).toEqual({ applied: true })
      expect(await get(`weir:1:damaged:day:${TODAY}`)).toBe(text)
      expect(warnings, text).toEqual([
        { event: 'store.damaged', fields: { keys: [DAY_KEY], setAside: 'weir:1:damaged:' } },
      ])
      expect((await todayOf(store))?.total).toMatchObject({ requests: 1, charged: 15 })
    }
  })

  test('a listing leaves out what it cannot read and reports it', async () => {
    const warnings: Warning[] = []
    const store = redisStore(upstash, { warnings })
    await spend(store, { id: '1' })
    await spend(store, { id: '2', user: 'bob' })
    await redis.command(['SET', USER_KEY, 'not json'])
    await redis.command(['SET', DAY_KEY, '[]'])
    await redis.command(['LPUSH', 'weir:1:events', 'null'])
    const users = await usersOf(store, { sort: 'lastActive', limit: 9, now: NOON })
    expect(users.map(({ id }) => id)).toEqual(['bob'])
    expect(await store.days([TODAY])).toEqual([])
    expect(await store.events(9)).toHaveLength(2)
    expect(warnings.map(({ fields }) => fields['key'])).toEqual([
      USER_KEY,
      DAY_KEY,
      'weir:1:events',
    ])
  })

  test('one bad item in a batch does not fail the others', async () => {
    const store = redisStore(upstash, { batch: true })
    const bad = [
      admitOf({ id: 'b1', bound: NaN }),
      admitOf({ id: 'b2', limits: undefined as never }),
      admitOf({ id: 'b3', model: 'lone \ud800 surrogate' }),
    ]
    for (const [n, command] of bad.entries()) {
      upstash.log.length = 0
      const good = [admitOf({ id: `${n}-1`, user: 'bob' }), admitOf({ id: `${n}-2`, user: 'bob' })]
      const all = [command, ...good].map((one) => store.admit(one))
      const [spoilt, ...rest] = await Promise.allSettled(all)
      expect(spoilt).toMatchObject({ status: 'rejected', reason: expect.any(StoreError) })
      expect(rest).toMatchObject([{ value: { ok: true } }, { value: { ok: true } }])
      expect(upstash.log.length, 'one call for all').toBeLessThanOrEqual(2)
      expect(await redis.command(['EXISTS', USER_KEY])).toBe(0)
    }
  })

  test('a bad settle in a batch does not fail the others', async () => {
    const store = redisStore(upstash, { batch: true })
    const admits = ['1', '2', '3'].map((id) => admitOf({ id, user: id }))
    await Promise.all(admits.map((admit) => store.admit(admit)))
    const [first, ...rest] = admits.map((admit) => settleOf(admit))
    const bad = { ...first!, event: { ...first!.event, charged: NaN } }
    const results = await Promise.allSettled([bad, ...rest].map((one) => store.settle(one)))
    expect(results).toMatchObject([
      { status: 'rejected', reason: expect.any(StoreError) },
      { value: { applied: true } },
      { value: { applied: true } },
    ])
    expect((await todayOf(store))?.total).toMatchObject({ requests: 2, charged: 30 })
    expect(await store.settle(first!)).toEqual({ applied: true })
  })

  test('the script comes back after SCRIPT FLUSH', async () => {
    const store = redisStore(upstash)
    const admit = admitOf({ id: '1' })
    await store.admit(admit)
    await redis.command(['SCRIPT', 'FLUSH'])
    expect(await store.settle(settleOf(admit))).toEqual({ applied: true })
    await redis.command(['SCRIPT', 'FLUSH'])
    expect(await store.admit({ ...admit, id: '2' })).toMatchObject({ day: { tokens: 115 } })
  })

  test('every document runs out, but a user with an endless block does not', async () => {
    await redis.command(['SET', 'weir:1:user:bob', 'not json'])
    const store = redisStore(upstash, { retention: { userDays: 3, historyDays: 5 } })
    await spend(store, { id: '1', global: { total: AMPLE } })
    await spend(store, { id: '2', user: 'bob' })
    const block = (until?: number) => ({ at: NOON, ...(until === undefined ? {} : { until }) })
    const base = { op: 'block', now: NOON, model: '*' } as const
    await store.setBlock({ ...base, user: 'timed', block: block(NOON + 9 * DAY_MS) })
    await store.setBlock({ ...base, user: 'brief', block: block(NOON + 1000) })
    await store.setBlock({ ...base, user: 'endless', block: block() })
    await store.setBlock({ ...base, user: 'lifted', block: block() })
    await store.setBlock({ ...base, user: 'lifted' })
    const left: Record<string, number> = {}
    for (const name of ['user:*', 'day:*', 'damaged:*']) {
      for (const key of (await redis.command(['KEYS', `weir:1:${name}`])) as string[]) {
        left[key] = (await seconds(key)) / 86_400
      }
    }
    const near = (days: number) => expect.closeTo(days, 3)
    expect(left).toEqual({
      [USER_KEY]: near(3),
      'weir:1:user:bob': near(3),
      'weir:1:user:timed': near(9),
      'weir:1:user:brief': near(3),
      'weir:1:user:endless': expect.closeTo(0, 3),
      'weir:1:user:lifted': near(3),
      [DAY_KEY]: near(5),
      'weir:1:damaged:user:bob': near(30),
    })
    expect(await redis.command(['PTTL', 'weir:1:user:endless'])).toBe(-1)
  })

  test('errors are told apart and give nothing away', async () => {
    const store = redisStore(upstash, { timeoutMs: 60 })
    const user = 'user-name-in-command'
    const block = { at: NOON, reason: 'reason-in-command' }
    const secrets = [user, block.reason, upstash.url, upstash.token, 'weir:1:', 'leaked']
    const faults = [
      { hang: true },
      { reset: true },
      { status: 500, body: '{"error":"ERR leaked"}' },
      { status: 200, body: '{"error":"WRONGTYPE leaked"}' },
      { status: 502, body: '<html>leaked' },
      { status: 200, body: 'leaked' },
      { status: 200, body: '{"result":"leaked"}' },
      { status: 200, body: '{"result":null}' },
      { status: 200, body: '{"result":"{\\"leaked\\":1}"}' },
      { status: 200, body: '{"result":"[]"}' },
    ]
    const messages: string[] = []
    for (const fault of faults) {
      upstash.fault(() => fault)
      const calls = [
        store.admit(admitOf({ id: '1', user })),
        store.settle(settleOf(admitOf({ id: '1', user }))),
        store.setBlock({ op: 'block', now: NOON, user, model: '*', block }),
        usersOf(store, { sort: 'tokens', limit: 9, now: NOON }),
        usersOf(store, { sort: 'lastActive', limit: 9, now: NOON }),
        store.days([TODAY]),
        store.events(9),
      ]
      for (const result of await Promise.allSettled(calls)) {
        const error: unknown = result.status === 'rejected' ? result.reason : result.value
        expect(error, JSON.stringify(fault)).toBeInstanceOf(StoreError)
        const { message, cause } = error as StoreError
        messages.push(message)
        expect(cause).toBeUndefined()
        for (const secret of secrets) expect(inspect(error, { depth: 9 })).not.toContain(secret)
      }
    }
    expect(messages).toContain('the database call failed (TimeoutError)')
    expect(messages).toContain('the database call failed (UpstashError, ERR)')
    expect(messages).toContain('the database call failed (UpstashError, WRONGTYPE)')
    expect(messages).toContain('the database call failed (TypeError)')
  })

  test('a database that is gone gives a StoreError', async () => {
    const gone = { ...upstash, url: 'http://127.0.0.1:1' }
    const error = await redisStore(gone)
      .admit(admitOf({ id: '1' }))
      .catch((cause: unknown) => cause)
    expect(error).toBeInstanceOf(StoreError)
  })

  test('a failed call is not sent a second time', async () => {
    const store = redisStore(upstash)
    await store.admit(admitOf({ id: '0' }))
    upstash.log.length = 0
    upstash.fault(() => ({ apply: true, reset: true }))
    await expect(store.admit(admitOf({ id: '1' }))).rejects.toBeInstanceOf(StoreError)
    expect(upstash.log).toHaveLength(1)
  })

  const settleCost = { evalsha: 1, mget: 1, set: 2, lpush: 1 }

  test('an admit costs three commands, four with global limits', async () => {
    const store = redisStore(upstash)
    await store.admit(admitOf({ id: '0' }))
    await redis.resetStats()
    await store.admit(admitOf({ id: '1' }))
    expect(await redis.commandstats()).toEqual({ evalsha: 1, mget: 1, set: 1 })
    await redis.resetStats()
    await store.admit(admitOf({ id: '2', global: { total: AMPLE, model: AMPLE } }))
    expect(await redis.commandstats()).toEqual({ evalsha: 1, mget: 1, set: 2 })
    await redis.resetStats()
    await store.admit(
      admitOf({ id: '3', limits: { model: { tokensPerDay: 0, requestsPerDay: 0 } } }),
    )
    expect(await redis.commandstats()).toEqual({ evalsha: 1, mget: 1 })
  })

  test('a settle costs seven commands, six in a minute already indexed', async () => {
    const store = redisStore(upstash)
    const global = { total: AMPLE, model: AMPLE }
    const admits = ['1', '2', '3'].map((id) => admitOf({ id, global }))
    for (const admit of admits) await store.admit(admit)
    const [first, second, third] = admits.map((admit) => settleOf(admit))
    await redis.resetStats()
    await store.settle(first!)
    expect(await redis.commandstats()).toEqual({ ...settleCost, zadd: 2 })
    await redis.resetStats()
    await store.settle(second!)
    expect(await redis.commandstats()).toEqual({ ...settleCost, zadd: 1 })
    await redis.resetStats()
    await store.settle({ ...third!, now: NOON + MINUTE_MS })
    expect(await redis.commandstats()).toEqual({ ...settleCost, zadd: 2 })
    await redis.resetStats()
    await store.settle(third!)
    expect(await redis.commandstats()).toEqual({ evalsha: 1, mget: 1 })
  })

  const total = async () =>
    Object.values(await redis.commandstats()).reduce((sum, calls) => sum + calls, 0)

  test.each([
    [10, undefined],
    [11, { total: AMPLE, model: AMPLE }],
  ])('200 requests of one user cost at most %i commands each', async (budget, global) => {
    const store = redisStore(upstash)
    await store.admit(admitOf({ id: 'warm' }))
    await redis.resetStats()
    for (let n = 0; n < 200; n += 1) {
      // Ten seconds apart, as a busy user's requests are.
      const now = NOON + n * 10_000
      await spend(store, { id: `${n}`, now, ...(global ? { global } : {}) })
    }
    expect((await total()) / 200).toBeLessThanOrEqual(budget)
  })

  test('requests of 32 users at once cost at most four commands each', async () => {
    const store = redisStore(upstash, { batch: true })
    await store.admit(admitOf({ id: 'warm' }))
    await redis.resetStats()
    upstash.log.length = 0
    const global = { total: AMPLE, model: AMPLE }
    const admits = Array.from({ length: 32 }, (_, n) =>
      admitOf({ id: `${n}`, user: `user-${n}`, global }),
    )
    await Promise.all(admits.map((admit) => store.admit(admit)))
    await Promise.all(admits.map((admit) => store.settle(settleOf(admit))))
    expect(upstash.log).toHaveLength(2)
    expect((await total()) / 32).toBeLessThanOrEqual(4)
    expect((await todayOf(store))?.total).toMatchObject({ requests: 32, users: 32 })
  })

  test('more than 64 at once go in more than one call', async () => {
    const store = redisStore(upstash, { batch: true })
    const admits = Array.from({ length: 150 }, (_, n) => admitOf({ id: `${n}`, user: `${n % 50}` }))
    await Promise.all(admits.map((admit) => store.admit(admit)))
    const sizes = upstash.log
      .filter(({ commands }) => /^evalsha$/i.test(commands[0]?.[0] ?? ''))
      // evalsha, sha, number of keys, the keys, what holds for all, and a command each
      .map(({ commands: [call = []] }) => call.length - Number(call[2]) - 4)
    expect(sizes.length).toBeGreaterThanOrEqual(3)
    expect(Math.max(...sizes)).toBeLessThanOrEqual(64)
  })

  test('what has aged leaves the indexes now and then', async () => {
    const store = redisStore(upstash)
    await spend(store, { id: 'old', user: 'old', now: NOON - 9 * DAY_MS })
    const block = { op: 'block', now: NOON - HOUR_MS, user: 'bob' } as const
    const over = { at: NOON - HOUR_MS, until: NOON - MINUTE_MS }
    await store.setBlock({ ...block, model: 'over', block: over })
    await store.setBlock({ ...block, model: 'timed', block: { ...over, until: NOON + HOUR_MS } })
    await store.setBlock({ ...block, model: 'for good', block: { at: NOON } })
    for (let n = 0; n < 64; n += 1) await spend(store, { id: `${n}` })
    expect(await redis.command(['ZRANGE', 'weir:1:blocks', '0', '-1'])).toEqual([
      'bob for good',
      'bob timed',
    ])
    expect(await redis.command(['ZRANGE', 'weir:1:users', '0', '-1'])).toEqual(['alice'])
    expect(await redis.command(['ZRANGE', 'weir:1:top', '0', '-1'])).toEqual(['alice'])
    for (const key of ['weir:1:users', 'weir:1:top', 'weir:1:events']) {
      expect(await seconds(key), key).toBeGreaterThan(0)
    }
  })
})
