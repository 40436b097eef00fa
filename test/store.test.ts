import fc from 'fast-check'
import { inspect } from 'node:util'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import {
  REPLAY_BATCH,
  StoreError,
  type Cursor,
  type Retention,
  type Store,
  type UserQuery,
} from '../src/store/store.ts'
import type { Admit, Audit, Enter, Limits, Report, Row, UserDoc } from '../src/usage/record.ts'
import { DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS } from '../src/usage/record.ts'
import { admitOf, AMPLE, failureOf, NOON, settleOf } from './commands.ts'
import { bindingStore, serveStore } from '../src/store/binding.ts'
import { formatCursor, parseCursor } from '../src/store/cursor.ts'
import { useDatabase } from './database.ts'
import { localStore, redisStore, tcpStore, type Warning, usersOf } from './stores.ts'

const TODAY = '2026-11-22'
const TOMORROW = '2026-11-23'
const MIDNIGHT = Date.UTC(2026, 10, 23)

const { redis, upstash } = useDatabase()
const opened: { remove(): Promise<void> }[] = []

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

/** What a browser says it has used today, at noon unless told. */
const reportOf = (models: Report['models'], fields: Partial<Report> = {}): Report => ({
  op: 'report',
  now: NOON,
  user: 'alice',
  models,
  ...fields,
})
const said = (tokens: number, requests = 1, resetAt = MIDNIGHT) => ({ tokens, requests, resetAt })

/** Lets users have one request each, of one token unless told. */
async function enterAll(store: Store, users: { user: string; at: number; charged?: number }[]) {
  const entries = users.map(({ user, at, charged = 1 }) => {
    const { event, ...rest } = enterOf({ id: `${user} at ${at}`, user, now: at }, at)
    return { ...rest, event: { ...event, charged } }
  })
  for (let from = 0; from < entries.length; from += REPLAY_BATCH) {
    await store.replay(entries.slice(from, from + REPLAY_BATCH))
  }
}

type Pages = Omit<UserQuery, 'from' | 'now'> & { from?: Cursor; between?(): Promise<void> }

/** The ids of page after page, to the end. */
async function readPages(store: Store, { between, ...query }: Pages): Promise<string[][]> {
  const pages: string[][] = []
  let { from } = query
  do {
    const { users, next } = await store.listUsers({ ...query, from, now: NOON })
    pages.push(users.map(({ id }) => id))
    expect(pages.length, 'reading ends').toBeLessThan(2000)
    // It goes through a link of a page.
    from = next && (JSON.parse(JSON.stringify(next)) as Cursor)
    await between?.()
  } while (from)
  return pages
}

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
      cached: 0,
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

  test('cached tokens reach the rows and days of their request, and change no other sum', async () => {
    const store = await open()
    const [first, second] = [admitOf({ id: '1' }), admitOf({ id: '2' })]
    for (const admit of [first, second]) await store.admit(admit)
    await store.settle(settleOf(first, { cached: 4 }))
    await store.settle(settleOf(second))
    const served = enterOf({ id: '3' })
    await enter(store, { ...served, event: { ...served.event, cached: 5 } })
    const sums = { requests: 3, settled: 3, charged: 45, prompt: 30, cached: 9, completion: 15 }
    expect(await rowOf(store)).toMatchObject(sums)
    expect(await todayOf(store)).toMatchObject({ total: sums, models: { 'a/one': sums } })
    expect((await store.events(9)).map(({ cached }) => cached)).toEqual([5, undefined, 4])

    const late = admitOf({ id: '4', model: 'b/two', now: MIDNIGHT - SECOND_MS })
    await store.admit(late)
    await store.admit(admitOf({ id: '5', now: MIDNIGHT }))
    const { past } = await onlyUser(store)
    expect(past[TODAY]?.['a/one']).toEqual({ requests: 3, charged: 45 })
    expect(past[TODAY]?.['b/two']).toMatchObject({ requests: 1, cached: 0 })
    await store.settle(settleOf(late, { cached: 6 }, MIDNIGHT + SECOND_MS))
    expect(await todayOf(store)).toMatchObject({
      total: { prompt: 40, cached: 15 },
      models: { 'b/two': { prompt: 10, cached: 6 } },
    })
    expect((await todayOf(store, TOMORROW))?.total.cached ?? 0).toBe(0)
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

  test('clearing forgets events and the days before, and no day that clocks ahead have begun', async () => {
    const store = await open()
    for (const [n, now] of [NOON - DAY_MS, NOON, NOON + DAY_MS].entries()) {
      await spend(store, { id: `${n}`, user: `user-${n}`, now })
    }
    expect(await store.clear({ op: 'clear', now: NOON + SECOND_MS })).toEqual({ ok: true })
    expect(await store.events(9)).toEqual([])
    const days = await store.days(['2026-11-21', TODAY, TOMORROW])
    expect(days.map(({ date, total }) => [date, total.requests])).toEqual([
      [TODAY, 0],
      [TOMORROW, 1],
    ])
    await spend(store, { id: '3', now: NOON + DAY_MS })
    expect((await store.events(9)).map(({ id }) => id)).toEqual(['3'])
  })

  test('the overview has what days, users and events are by themselves', async () => {
    const store = await open()
    for (const n of [1, 2, 3]) await spend(store, { id: `${n}`, user: `user-${n}` })
    const users: UserQuery = { sort: 'tokens', limit: 2, now: NOON }
    expect(await store.overview({ dates: [TODAY], users, events: 2 })).toEqual({
      days: await store.days([TODAY]),
      page: await store.listUsers(users),
      events: await store.events(2),
    })
    expect((await store.listUsers(users)).next).toEqual({ offset: 2 })
  })

  test('days come in the order asked for, without those that have nothing', async () => {
    const store = await open()
    await spend(store, { id: '1' })
    await spend(store, { id: '2', now: NOON + DAY_MS })
    const days = await store.days([TOMORROW, '2020-01-01', TODAY])
    expect(days.map(({ date }) => date)).toEqual([TOMORROW, TODAY])
    expect(await store.days([])).toEqual([])
  })

  describe('a report', () => {
    test('raises only itself, and the same total adds nothing', async () => {
      const store = await open()
      await spend(store, { id: '1' })
      const { rows } = (await store.user('alice'))!
      for (const [tokens, requests] of [
        [100, 5],
        [100, 5],
        [70, 9],
        [120, 2],
        [0, 0],
      ] as const) {
        await store.report(reportOf({ 'a/one': said(tokens, requests) }))
      }
      await store.report(reportOf({ 'b/two': said(7) }))
      await store.report(reportOf({}))
      const user = await store.user('alice')
      expect(user?.reported).toEqual({
        'a/one': { tokens: 120, requests: 9 },
        'b/two': { tokens: 7, requests: 1 },
      })
      expect(user?.rows).toEqual(rows)
    })

    test('of another day than today is not taken', async () => {
      const store = await open()
      await spend(store, { id: '1' })
      for (const resetAt of [MIDNIGHT - DAY_MS, MIDNIGHT + DAY_MS, MIDNIGHT - 1, 0, -1, 2 ** 53]) {
        await store.report(reportOf({ 'a/one': said(1000, 10, resetAt) }))
      }
      expect((await store.user('alice'))?.reported).toEqual({})
    })

    test("is about the user's day, also from a clock that is behind", async () => {
      const store = await open()
      await spend(store, { id: '1', now: MIDNIGHT })
      await store.report(reportOf({ 'a/one': said(5), 'b/two': said(6, 1, MIDNIGHT + DAY_MS) }))
      expect((await store.user('alice'))?.reported).toEqual({ 'b/two': { tokens: 6, requests: 1 } })
    })

    test('is forgotten when a new day begins', async () => {
      const store = await open()
      await spend(store, { id: '1' })
      await store.report(reportOf({ 'a/one': said(1000) }))
      await spend(store, { id: '2', now: MIDNIGHT })
      expect(await store.user('alice')).not.toHaveProperty('reported')
      const next = { 'b/two': said(3, 1, MIDNIGHT + DAY_MS) }
      await store.report(reportOf(next, { now: MIDNIGHT }))
      expect((await store.user('alice'))?.reported).toEqual({ 'b/two': { tokens: 3, requests: 1 } })
    })

    test('leaves nothing behind of users without a request', async () => {
      const store = await open()
      expect(await store.report(reportOf({ 'a/one': said(5) }))).toEqual({
        ok: true,
        at: NOON,
        rows: {},
        blocks: {},
      })
      expect(await store.user('alice')).toBeUndefined()
      expect(await usersOf(store, { sort: 'lastActive', limit: 9, now: NOON })).toEqual([])
    })

    test('is taken for at most 64 models a day, and goes on for those', async () => {
      const store = await open()
      await spend(store, { id: '1' })
      const models = (from: number) =>
        Object.fromEntries(Array.from({ length: 40 }, (_, n) => [`m-${from + n}`, said(1)]))
      await store.report(reportOf(models(0)))
      await store.report(reportOf(models(40)))
      await store.report(reportOf({ 'm-0': said(9), 'm-100': said(1) }))
      const reported = (await store.user('alice'))?.reported ?? {}
      expect(Object.keys(reported)).toHaveLength(64)
      expect(reported['m-0']?.tokens).toBe(9)
      expect(reported).not.toHaveProperty('m-100')
    })

    test("is answered with the user's rows and with the blocks in force", async () => {
      const store = await open()
      await spend(store, { id: '1' })
      await store.admit(admitOf({ id: '2', model: 'b/two', bound: 30 }))
      await setBlock(store, '*', { at: NOON, reason: 'bill', until: NOON + HOUR_MS })
      await setBlock(store, 'b/two', { at: NOON, until: NOON + 5000 })
      expect(await store.report(reportOf({}, { now: NOON + 5000 }))).toEqual({
        ok: true,
        at: NOON + 5000,
        rows: { 'a/one': { tokens: 15, requests: 1 }, 'b/two': { tokens: 30, requests: 1 } },
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

    test('of whatever kind changes no charge, no limit and no total', async () => {
      const store = await open()
      const limits = { model: { ...AMPLE, tokensPerDay: 200 } }
      await spend(store, { id: '1' })
      await setBlock(store, 'b/two', { at: NOON })
      await store.admit(admitOf({ id: '2', limits }))
      const known = async () => {
        const { reported: _, at: __, ...user } = (await store.user('alice'))!
        return { user, days: await store.days([TODAY]), events: await store.events(9) }
      }
      const before = await known()
      const most = new Map<string, number>()
      await fc.assert(
        fc.asyncProperty(reports, async (sequence) => {
          for (const models of sequence) {
            await store.report(reportOf(models))
            for (const [model, { tokens, resetAt }] of Object.entries(models)) {
              if (resetAt === MIDNIGHT) most.set(model, Math.max(tokens, most.get(model) ?? 0))
            }
          }
          expect(await known()).toEqual(before)
          const { reported = {} } = (await store.user('alice'))!
          const told = Object.entries(reported).map(
            ([model, { tokens }]) => [model, tokens] as const,
          )
          expect(new Map(told)).toEqual(most)
        }),
        { numRuns: 20 },
      )
      expect(await store.admit(admitOf({ id: '3', bound: 86, limits }))).toMatchObject({
        ok: false,
        used: 115,
      })
      expect(await store.admit(admitOf({ id: '3', bound: 85, limits }))).toMatchObject({ ok: true })
    })
  })

  describe('erasing', () => {
    const USER = 'alice-with-a-long-id'
    const erase = (store: Store, now = NOON + 5000) => store.erase({ op: 'erase', now, user: USER })

    test('takes a user out of everything but the totals', async () => {
      const store = await open()
      await spend(store, { id: '1', user: USER })
      await spend(store, { id: '2', user: 'bob' })
      await spend(store, { id: '3', user: USER, model: 'b/two' })
      for (const model of ['*', 'b/two']) {
        await store.setBlock({ op: 'block', now: NOON, user: USER, model, block: { at: NOON } })
        const block = { at: NOON, until: NOON + DAY_MS }
        await store.setBlock({ op: 'block', now: NOON, user: 'bob', model, block })
      }
      await store.report(reportOf({ 'a/one': said(5) }, { user: USER }))
      const days = await store.days([TODAY])
      expect(await erase(store)).toEqual({ ok: true })
      expect(await store.user(USER)).toBeUndefined()
      for (const sort of ['lastActive', 'tokens'] as const) {
        const users = await usersOf(store, { sort, limit: 9, now: NOON })
        expect(users.map(({ id }) => id)).toEqual(['bob'])
      }
      expect((await store.blockedUsers(9)).map(({ id }) => id)).toEqual(['bob'])
      expect((await store.events(9)).map(({ id }) => id)).toEqual(['2'])
      expect(await store.days([TODAY])).toEqual(days)
      expect(await store.audit(1)).toEqual([{ at: NOON + 5000, action: 'erase', user: 'alice-' }])
      expect(JSON.stringify(await store.audit(9))).not.toContain(USER)
    })

    test('makes requests from before a matter of the past, and lets those after count', async () => {
      const store = await open()
      const running = admitOf({ id: '1', user: USER })
      await store.admit(running)
      await erase(store)
      expect(await store.settle(settleOf(running, {}, NOON + 6000))).toEqual({ applied: false })
      for (const now of [NOON, NOON + 5000]) {
        const served = enterOf({ id: `at ${now}`, user: USER, now }, NOON + HOUR_MS)
        expect(await enter(store, served)).toEqual({ applied: false })
      }
      expect(await store.user(USER)).toBeUndefined()
      expect(await store.events(9)).toEqual([])
      const later = enterOf({ id: '2', user: USER, now: NOON + 5001 }, NOON + HOUR_MS)
      expect(await enter(store, later)).toEqual({ applied: true })
      expect((await store.user(USER))?.rows['a/one']).toMatchObject({ requests: 1, charged: 15 })
    })

    test('lets a user start afresh', async () => {
      const store = await open()
      const limits = { model: { ...AMPLE, requestsPerDay: 1 } }
      await spend(store, { id: '1', user: USER, limits })
      await store.setBlock({ op: 'block', now: NOON, user: USER, model: '*', block: { at: NOON } })
      await erase(store)
      await spend(store, { id: '2', user: USER, limits, now: NOON + 6000 })
      expect(await onlyUser(store)).toMatchObject({ id: USER, rows: { 'a/one': { requests: 1 } } })
      expect((await store.events(9)).map(({ id }) => id)).toEqual(['2'])
    })

    test('of someone unknown goes on record and does nothing else', async () => {
      const store = await open()
      await spend(store, { id: '1' })
      const before = await onlyUser(store)
      expect(await erase(store)).toEqual({ ok: true })
      expect(await onlyUser(store)).toEqual(before)
      expect(await store.events(9)).toHaveLength(1)
      expect(await store.audit(9)).toHaveLength(1)
    })
  })

  describe('a session', () => {
    const login = (store: Store, session: string, until = NOON + HOUR_MS) =>
      store.login({ op: 'login', now: NOON, session, until })

    test('is open from login until its time is over', async () => {
      const store = await open()
      expect(await store.session('one', NOON)).toBe(false)
      expect(await login(store, 'one')).toEqual({ ok: true })
      expect(await store.session('one', NOON)).toBe(true)
      expect(await store.session('one', NOON + HOUR_MS - 1)).toBe(true)
      expect(await store.session('one', NOON + HOUR_MS)).toBe(false)
      expect(await store.session('two', NOON)).toBe(false)
    })

    test('ends with logout, and others go on', async () => {
      const store = await open()
      await login(store, 'one')
      await login(store, 'two')
      expect(await store.logout({ op: 'logout', now: NOON, session: 'one' })).toEqual({ ok: true })
      await store.logout({ op: 'logout', now: NOON, session: 'never opened' })
      expect(await store.session('one', NOON)).toBe(false)
      expect(await store.session('two', NOON)).toBe(true)
    })

    test('that is over before it begins is never open', async () => {
      const store = await open()
      await login(store, 'one')
      await login(store, 'one', NOON)
      expect(await store.session('one', NOON)).toBe(false)
    })
  })

  describe('the audit trail', () => {
    test('tells what admins did, the newest first', async () => {
      const store = await open()
      const ip = '192.0.2.1'
      const block = { at: NOON, reason: 'ü "spam"', until: NOON + DAY_MS }
      const user = 'alice-with-a-long-id'
      await store.login({ op: 'login', now: NOON, session: 'hash', until: NOON + DAY_MS, ip })
      await store.setBlock({ op: 'block', now: NOON + 1, user, model: '*', block, ip })
      await store.setBlock({ op: 'block', now: NOON + 2, user: 'bob', model: 'b/two' })
      await store.note({ op: 'note', now: NOON + 3, action: 'export', ip })
      await store.erase({ op: 'erase', now: NOON + 4, user, ip })
      await store.clear({ op: 'clear', now: NOON + 5 })
      await store.logout({ op: 'logout', now: NOON + 6, session: 'hash' })
      const trail: Audit[] = [
        { at: NOON + 6, action: 'logout' },
        { at: NOON + 5, action: 'clear' },
        { at: NOON + 4, action: 'erase', user: 'alice-', ip },
        { at: NOON + 3, action: 'export', ip },
        { at: NOON + 2, action: 'unblock', user: 'bob', model: 'b/two' },
        {
          at: NOON + 1,
          action: 'block',
          user: 'alice-',
          model: '*',
          reason: block.reason,
          until: block.until,
          ip,
        },
        { at: NOON, action: 'login', ip },
      ]
      expect(await store.audit(100)).toEqual(trail)
      expect(await store.audit(2)).toEqual(trail.slice(0, 2))
      expect(await store.audit(0)).toEqual([])
    })

    test('keeps the last thousand entries', async () => {
      const store = await open()
      for (let n = 0; n < 1003; n += 1) {
        await store.note({ op: 'note', now: NOON + n, action: 'export' })
      }
      const times = (await store.audit(5000)).map(({ at }) => at - NOON)
      expect(times).toEqual(Array.from({ length: 1000 }, (_, n) => 1002 - n))
    })

    test('is not written by requests, reports and refusals', async () => {
      const store = await open()
      await spend(store, { id: '1' })
      await store.report(reportOf({ 'a/one': said(1) }))
      await enter(store, enterOf({ id: '2' }))
      expect(await store.audit(9)).toEqual([])
    })
  })

  describe('pages of users', () => {
    /** Some whose place is decided by their id alone, and some whose place is decided by the fraction of it. */
    const ids = (count: number) =>
      Array.from({ length: count }, (_, n) => (n % 2 ? `user-${n}` : `${(n * 7919) % 10_007}-${n}`))

    test('in ascending order leave nobody out while users become active', async () => {
      await fc.assert(
        fc.asyncProperty(
          fc.integer({ min: 40, max: 300 }),
          fc.infiniteStream(fc.nat(999)),
          async (limit, draws) => {
            await redis.flush()
            const store = await open()
            const draw = () => draws.next().value as number
            const all = ids(1000)
            await enterAll(
              store,
              all.map((user) => ({ user, at: NOON - (draw() % 5) * MINUTE_MS })),
            )
            let at = NOON
            const between = async () => {
              const active = new Set([draw(), draw(), draw()].map((n) => all[n] as string))
              at += 20 * SECOND_MS
              await enterAll(
                store,
                [...active].map((user) => ({ user, at })),
              )
            }
            const query = { sort: 'lastActive', ascending: true, limit, between } as const
            const pages = await readPages(store, query)
            expect(new Set(pages.flat())).toEqual(new Set(all))
            for (const page of pages) {
              expect(page.length).toBeLessThanOrEqual(limit)
              expect(new Set(page).size).toBe(page.length)
            }
          },
        ),
        { numRuns: 4 },
      )
    })

    test('tell each user once and in order when nobody is active', async () => {
      const store = await open()
      const all = ids(120)
      await enterAll(
        store,
        all.map((user, n) => ({ user, at: NOON - (n % 3) * MINUTE_MS, charged: 1 + (n % 4) })),
      )
      for (const sort of ['lastActive', 'tokens'] as const) {
        for (const ascending of [true, false]) {
          const whole = (await readPages(store, { sort, ascending, limit: 1000 })).flat()
          expect(new Set(whole)).toEqual(new Set(all))
          for (const limit of [1, 7, 119, 120]) {
            const pages = await readPages(store, { sort, ascending, limit })
            expect(pages.flat(), `${sort} by ${limit}`).toEqual(whole)
            expect(pages.map((page) => page.length).slice(0, -1)).toEqual(
              Array.from({ length: pages.length - 1 }, () => limit),
            )
            expect(pages.at(-1)).not.toEqual([])
          }
          const back = await readPages(store, { sort, ascending: !ascending, limit: 50 })
          expect(back.flat().reverse()).toEqual(whole)
        }
      }
    })

    test('are by last activity and by tokens, those alike by id', async () => {
      const store = await open()
      await enterAll(store, [
        { user: 'user-b', at: NOON, charged: 5 },
        { user: 'user-c', at: NOON - MINUTE_MS, charged: 9 },
        { user: 'user-a', at: NOON + 1000, charged: 5 },
        { user: 'user-d', at: NOON + MINUTE_MS, charged: 1 },
      ])
      const list = async (query: Pages) => (await readPages(store, query)).flat()
      const names = (order: string) => [...order].map((name) => `user-${name}`)
      expect(await list({ sort: 'lastActive', limit: 1 })).toEqual(names('dbac'))
      expect(await list({ sort: 'lastActive', ascending: true, limit: 1 })).toEqual(names('cabd'))
      expect(await list({ sort: 'tokens', limit: 1 })).toEqual(names('cbad'))
      expect(await list({ sort: 'tokens', ascending: true, limit: 3 })).toEqual(names('dabc'))
    })

    test('go on where they ended though the last user has moved or is gone', async () => {
      const store = await open()
      const users = ['a', 'b', 'c', 'd', 'e'].map((name) => `user-${name}`)
      await enterAll(
        store,
        users.map((user) => ({ user, at: NOON })),
      )
      const query = { sort: 'lastActive', ascending: true, limit: 2, now: NOON } as const
      const { next } = await store.listUsers(query)
      if (!next) throw new Error('There is one more page.')
      await enterAll(store, [{ user: 'user-b', at: NOON + MINUTE_MS }])
      const rest = { sort: 'lastActive', ascending: true, limit: 2, from: next } as const
      expect((await readPages(store, rest)).flat()).toEqual(
        ['c', 'd', 'e', 'b'].map((name) => `user-${name}`),
      )
      for (const user of ['user-b', 'user-c']) await store.erase({ op: 'erase', now: NOON, user })
      expect((await readPages(store, rest)).flat()).toEqual(['user-d', 'user-e'])
      const back = { sort: 'lastActive', limit: 2, from: next } as const
      expect((await readPages(store, back)).flat()).toEqual(['user-a'])
    })

    test('have an end behind which there is nothing', async () => {
      const store = await open()
      await enterAll(store, [{ user: 'alice', at: NOON }])
      const behind: [UserQuery['sort'], Cursor][] = [
        ['lastActive', { score: 0, id: '' }],
        ['lastActive', { score: 1, id: 'x' }],
        ['tokens', { offset: 1 }],
        ['tokens', { offset: 1_000_000 }],
      ]
      for (const [sort, from] of behind) {
        expect(await store.listUsers({ sort, from, limit: 9, now: NOON })).toEqual({ users: [] })
      }
    })
  })

  test('users with a block are told, those without are not', async () => {
    const store = await open()
    await spend(store, { id: '1', user: 'carol' })
    const block = (user: string, model: string, until?: number) => {
      const block = until === undefined ? { at: NOON } : { at: NOON, until }
      return store.setBlock({ op: 'block', now: NOON, user, model, block })
    }
    await block('alice', '*')
    await block('alice', 'a/one', NOON + HOUR_MS)
    await block('bob', 'b/two', NOON + HOUR_MS)
    await block('dave', '*')
    await store.setBlock({ op: 'block', now: NOON, user: 'dave', model: '*' })
    const found = await store.blockedUsers(9)
    expect(found.map(({ id }) => id).sort()).toEqual(['alice', 'bob'])
    const alice = found.find(({ id }) => id === 'alice')
    expect(alice?.blocks).toEqual({
      '*': { at: NOON },
      'a/one': { at: NOON, until: NOON + HOUR_MS },
    })
    // Where there are too many, those that end soonest are left out.
    await block('carol', 'a/one', NOON + 2 * HOUR_MS)
    const order = (await store.blockedUsers(9)).map(({ id }) => id)
    expect(order).toEqual(['alice', 'carol', 'bob'])
    expect((await store.blockedUsers(2)).map(({ id }) => id)).toEqual(['alice', 'carol'])
    expect(await store.blockedUsers(0)).toEqual([])
  })
})

describe('a cursor in a link', () => {
  const id = 'abcdefghijklmnopqrstu-'

  test.each<[string, Cursor]>([
    ['0', { offset: 0 }],
    ['120', { offset: 120 }],
    [`29400000~${id}`, { score: 29_400_000, id }],
    [`29400000.25~${id}`, { score: 29_400_000.25, id }],
  ])('%s is %j', (text, cursor) => {
    expect(formatCursor(cursor)).toBe(text)
    expect(parseCursor(text)).toEqual(cursor)
  })

  test.each([
    ...['', 'x', '-1', '1.5', '1.', ' 1', '1 ', 'x1', '1x', '1.x', '9'.repeat(16)],
    ...['~', `~${id}`, `x~${id}`, `1~${id}x`, `x1~${id}`, '1~short', `1~${id.slice(1)}!`, '1~'],
  ])('%j is none', (text) => {
    expect(parseCursor(text)).toBeUndefined()
  })
})

describe('turns', () => {
  const turnSubjects: [string, (now: () => number) => Promise<Store>][] = [
    ['redis', async () => redisStore(upstash)],
    [
      'redis over TCP',
      async () => {
        const store = tcpStore(redis.url)
        opened.push(store)
        return store
      },
    ],
    [
      'local',
      async (now) => {
        const store = await localStore(now)
        opened.push(store)
        return store
      },
    ],
  ]
  let clock = NOON
  beforeEach(() => {
    clock = NOON + 10 * SECOND_MS
    vi.spyOn(Date, 'now').mockImplementation(() => clock)
  })
  afterEach(() => {
    vi.restoreAllMocks()
  })

  test.each(turnSubjects)('%s gives each key so many a minute', async (_, openAt) => {
    const store = await openAt(() => clock)
    const take = async (key: string, perMinute: number, count: number) => {
      const turns = Array.from({ length: count }, () => store.takeTurn(key, perMinute))
      return (await Promise.all(turns)).filter(({ taken }) => taken).length
    }
    expect(await store.takeTurn('one', 5)).toEqual({ taken: true, resetAt: NOON + MINUTE_MS })
    expect(await take('one', 5, 50)).toBe(4)
    expect(await store.takeTurn('one', 5)).toEqual({ taken: false, resetAt: NOON + MINUTE_MS })
    expect(await take('two', 5, 50)).toBe(5)
    expect(await take('three', 20, 50)).toBe(20)
    clock = NOON + MINUTE_MS - 1
    expect(await take('one', 5, 1)).toBe(0)
    clock += 2
    expect(await store.takeTurn('one', 5)).toEqual({ taken: true, resetAt: NOON + 2 * MINUTE_MS })
    expect(await take('one', 5, 50)).toBe(4)
  })

  test('two isolates share them through the database', async () => {
    const [one, other] = [redisStore(upstash), redisStore(upstash)]
    for (const store of [one, other, one]) {
      expect(await store.takeTurn('key', 3)).toMatchObject({ taken: true })
    }
    expect(await other.takeTurn('key', 3)).toMatchObject({ taken: false })
    expect(await one.takeTurn('key', 3)).toMatchObject({ taken: false })
  })

  test('cost two commands, three in a new minute, none once they are spent, and go by themselves', async () => {
    const store = redisStore(upstash)
    await store.takeTurn('a warm-up', 2)
    await redis.resetStats()
    await store.takeTurn('key', 2)
    expect(await redis.commandstats()).toEqual({ evalsha: 1, incrby: 1, pexpire: 1 })
    await redis.resetStats()
    await store.takeTurn('key', 2)
    expect(await redis.commandstats()).toEqual({ evalsha: 1, incrby: 1 })
    await store.takeTurn('key', 2)
    await redis.resetStats()
    upstash.log.length = 0
    expect(await store.takeTurn('key', 2)).toMatchObject({ taken: false })
    expect(upstash.log).toEqual([])
    for (const key of (await redis.command(['KEYS', '*'])) as string[]) {
      expect(key).toMatch(/^weir:1:turns:/)
      expect(await seconds(key), key).toBeGreaterThan(0)
    }
  })

  test('are never given by a limiter that is tired of waiting', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    try {
      const store = redisStore(upstash, { timeoutMs: 300 })
      upstash.fault(() => ({ hang: true }))
      const turn = expect(store.takeTurn('key', 9)).rejects.toBeInstanceOf(StoreError)
      await vi.advanceTimersByTimeAsync(60_000)
      await turn
    } finally {
      vi.useRealTimers()
    }
  })

  test('are sent once, come what may', async () => {
    const store = redisStore(upstash, { timeoutMs: 60 })
    await store.takeTurn('key', 9)
    for (const fault of [{ apply: true, reset: true }, { hang: true }, { status: 500 }]) {
      upstash.reset()
      upstash.fault(() => fault)
      await expect(store.takeTurn('key', 9)).rejects.toBeInstanceOf(StoreError)
      expect(upstash.log).toHaveLength(1)
    }
    upstash.reset()
    expect(await redis.command(['GET', `weir:1:turns:key:${(clock / MINUTE_MS) | 0}`])).toBe('2')
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

  test('of who is erased nothing is left but a mark that runs out, and events still run out', async () => {
    const store = redisStore(upstash)
    const user = 'alice-with-a-long-id'
    await spend(store, { id: '1', user })
    await spend(store, { id: '2', user: 'bob' })
    await store.setBlock({ op: 'block', now: NOON, user, model: 'a/one', block: { at: NOON } })
    // One that could not be read was set aside before, and one cannot be read now.
    await redis.command(['SET', `weir:1:damaged:user:${user}`, 'spoilt before'])
    await redis.command(['SET', `weir:1:user:${user}`, `spoilt, of ${user}`])
    await store.erase({ op: 'erase', now: NOON, user })
    const left: string[] = []
    for (const key of (await redis.command(['KEYS', '*'])) as string[]) {
      if (`${key} ${JSON.stringify(await redis.command(['DUMP', key]))}`.includes(user))
        left.push(key)
    }
    expect(left).toEqual([`weir:1:erased:${user}`])
    expect(await seconds(`weir:1:erased:${user}`)).toBeCloseTo((7 * DAY_MS) / 1000, -2)
    expect(await seconds('weir:1:events')).toBeGreaterThan(0)
  })

  test('the session of an admin goes by itself', async () => {
    const store = redisStore(upstash)
    await store.login({ op: 'login', now: NOON, session: 'hash', until: NOON + DAY_MS })
    expect(await seconds('weir:1:session:hash')).toBeCloseTo(DAY_MS / 1000, -1)
    await store.logout({ op: 'logout', now: NOON, session: 'hash' })
    expect(await redis.command(['EXISTS', 'weir:1:session:hash'])).toBe(0)
  })

  test('a report costs three commands, and two of a user without a request', async () => {
    const store = redisStore(upstash)
    await spend(store, { id: '1' })
    await redis.resetStats()
    await store.report(reportOf({ 'a/one': said(5) }))
    expect(await redis.commandstats()).toEqual({ evalsha: 1, mget: 1, set: 1 })
    await redis.resetStats()
    await store.report(reportOf({ 'a/one': said(5) }, { user: 'nobody' }))
    expect(await redis.commandstats()).toEqual({ evalsha: 1, mget: 1 })
  })

  test('errors are told apart and give nothing away', async () => {
    const store = redisStore(upstash, { timeoutMs: 500 })
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
        store.report(reportOf({}, { user })),
        store.erase({ op: 'erase', now: NOON, user }),
        store.audit(9),
        store.blockedUsers(9),
        store.user(user),
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
    // The first request of a day clears the indexes.
    await spend(store, { id: '0', user: 'bob' })
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

  test('what has aged leaves the indexes with the first request of a day, and they stay as long as there is one', async () => {
    const store = redisStore(upstash)
    await spend(store, { id: 'old', user: 'old', now: NOON - 9 * DAY_MS })
    const block = { op: 'block', now: NOON - HOUR_MS, user: 'bob' } as const
    const over = { at: NOON - HOUR_MS, until: NOON - MINUTE_MS }
    await store.setBlock({ ...block, model: 'over', block: over })
    await store.setBlock({ ...block, model: 'timed', block: { ...over, until: NOON + HOUR_MS } })
    await store.setBlock({ ...block, model: 'for good', block: { at: NOON } })
    await spend(store, { id: 'new' })
    expect(await redis.command(['ZRANGE', 'weir:1:blocks', '0', '-1'])).toEqual([
      'bob timed',
      'bob for good',
    ])
    expect(await redis.command(['ZRANGE', 'weir:1:users', '0', '-1'])).toEqual(['alice'])
    expect(await redis.command(['ZRANGE', 'weir:1:top', '0', '-1'])).toEqual(['alice'])
    const keys = ['weir:1:users', 'weir:1:top', 'weir:1:events']
    for (const key of keys) {
      expect(await seconds(key), key).toBeGreaterThan(0)
      await redis.command(['EXPIRE', key, '60'])
    }
    await spend(store, { id: 'the second of the day' })
    for (const key of keys) expect(await seconds(key), key).toBeLessThanOrEqual(60)
    await spend(store, { id: 'of the next day', now: NOON + DAY_MS })
    for (const key of keys) expect(await seconds(key), key).toBeGreaterThan(60)
  })

  test('what has aged leaves the indexes in the course of a busy day too', async () => {
    const store = redisStore(upstash)
    await spend(store, { id: '0' })
    await redis.command(['ZADD', 'weir:1:users', '1', 'old'])
    for (let n = 1; n < 64; n += 1) await spend(store, { id: `${n}` })
    expect(await redis.command(['ZRANGE', 'weir:1:users', '0', '-1'])).toContain('old')
    await spend(store, { id: '64' })
    expect(await redis.command(['ZRANGE', 'weir:1:users', '0', '-1'])).toEqual(['alice'])
  })
})
