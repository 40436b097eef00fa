/** Two accounts of one history, merged, are the account of the whole; the days are merged in a real Redis. */
import fc from 'fast-check'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createImport } from '../src/store/import.ts'
import { tcpClient } from '../src/store/tcp.ts'
import { addOverlaps, mergeUser, overlapOf } from '../src/usage/merge.ts'
import { newRow, newUser } from '../src/usage/documents.ts'
import {
  DAY_MS,
  dateOf,
  type Command,
  type DayDoc,
  type DayRow,
  type Outcome,
  type PastRow,
  type UserDoc,
} from '../src/usage/record.ts'
import { admitOf, failureOf, NOON, settleOf } from './commands.ts'
import { startRedis, type Redis } from './redis.ts'
import { reducerState } from './state.ts'
import { RETENTION } from './stores.ts'

const KEEP = { userDays: 7 }

let redis: Redis
let client: ReturnType<typeof tcpClient>

beforeAll(async () => {
  redis = await startRedis()
  client = tcpClient({ url: redis.url, timeoutMs: 10_000 })
})

afterAll(async () => {
  client?.close()
  await redis?.stop()
})

type Drawn = {
  side: boolean
  user: string
  model: string
  session: string
  wait: number
  outcome: Outcome | 'unsettled'
  tokens: number
  cached: number
}

const drawn: fc.Arbitrary<Drawn> = fc.record({
  side: fc.boolean(),
  user: fc.constantFrom('alice', 'bob'),
  model: fc.constantFrom('a/one', '__proto__', 'constructor'),
  session: fc.constantFrom('one', 'two', 'three'),
  // A second, most of a minute, or most of a day.
  wait: fc.constantFrom(1000, 50_000, 20 * 3_600_000),
  outcome: fc.constantFrom('settled', 'partial', 'failed', 'unsettled'),
  tokens: fc.nat(200),
  cached: fc.nat(200),
})

const GLOBAL = { total: { tokensPerDay: 1e9, requestsPerDay: 1e6 } }

/** The commands of one history, each with the side it went to; a request stays on its side. */
function historyOf(draws: Drawn[]): { side: boolean; command: Command }[] {
  let now = NOON
  return draws.flatMap(({ side, user, model, session, wait, outcome, tokens, cached }, n) => {
    now += wait
    const admit = admitOf({ id: `request-${n}`, user, model, now, global: GLOBAL })
    if (outcome === 'unsettled') return [{ side, command: admit }]
    const partial = {
      outcome,
      prompt: tokens,
      cached: Math.min(cached, tokens),
      completion: 0,
      total: tokens,
      charged: tokens,
      session,
    }
    const settle = outcome === 'failed' ? failureOf(admit, now) : settleOf(admit, partial, now)
    return [
      { side, command: admit },
      { side, command: settle },
    ]
  })
}

type State = ReturnType<typeof reducerState>

/** The one account brought into a database that has the other. */
async function merged(one: State, other: State) {
  await redis.flush()
  const target = createImport({
    redis: client.redis,
    retention: { ...RETENTION, ...KEEP },
    now: () => NOON,
    warn: (event) => expect.fail(event),
  })
  for (const [id, { days, users }] of Object.entries({ other, one })) {
    const done = await target.bring(id, 0, { kind: 'days', items: [...days.values()] })
    await target.bring(id, done, { kind: 'users', items: [...users.values()] })
  }
  async function read<T>(kind: string, names: Iterable<string>): Promise<Map<string, T>> {
    const all = [...new Set(names)]
    const texts = await target.read(all.map((name) => `weir:1:${kind}:${name}`))
    return new Map(all.map((name, index) => [name, JSON.parse(texts[index] ?? 'null') as T]))
  }
  return {
    users: await read<UserDoc>('user', [...one.users.keys(), ...other.users.keys()]),
    days: await read<DayDoc>('day', [...one.days.keys(), ...other.days.keys()]),
  }
}

/** What a short row still tells. */
const shortly = (user: UserDoc) => ({
  ...user,
  past: Object.fromEntries(
    Object.entries(user.past).map(([date, rows]) => [
      date,
      Object.entries(rows)
        .map(([model, { requests, charged }]) => ({ model, requests, charged }))
        .sort((a, b) => (a.model < b.model ? -1 : 1)),
    ]),
  ),
})

/** All but sessions, of which the past ones are not known, and failures of models that had not answered yet. */
function told({ users, days }: { users: Map<string, UserDoc>; days: Map<string, DayDoc> }) {
  const ofModel = ({ requests: _r, failed: _f, at: _a, hours, ...row }: DayRow) => ({
    ...row,
    hours: Object.entries(hours).filter(([, tokens]) => tokens > 0),
  })
  const ofDay = ({ total, models, quota, minute }: DayDoc) => ({
    total,
    models: Object.entries(models)
      .map(([model, row]) => ({ model, ...ofModel(row) }))
      .sort((a, b) => (a.model < b.model ? -1 : 1)),
    quota,
    minute,
  })
  return {
    users: Object.fromEntries([...users].map(([id, user]) => [id, shortly(user)])),
    days: Object.fromEntries([...days].map(([date, day]) => [date, ofDay(day)])),
  }
}

test('a history that was split over two accounts is whole again when they are merged', () =>
  fc.assert(
    fc.asyncProperty(fc.array(drawn, { maxLength: 40 }), async (draws) => {
      const [whole, left, right] = [0, 1, 2].map(() => reducerState(KEEP)) as [State, State, State]
      for (const { side, command } of historyOf(draws)) {
        whole.do(command)
        ;(side ? left : right).do(command)
      }
      expect(told(await merged(left, right))).toEqual(told(whole))
      expect(told(await merged(right, left))).toEqual(told(whole))
    }),
    { numRuns: 200 },
  ))

test('cached tokens of both sides are added up, in the row of a user and in the day', async () => {
  const [one, other] = [reducerState(KEEP), reducerState(KEEP)]
  for (const [state, id, cached] of [
    [one, '1', 3],
    [other, '2', 4],
  ] as const) {
    const admit = admitOf({ id })
    state.do(admit)
    state.do(settleOf(admit, { cached }))
  }
  const { users, days } = await merged(one, other)
  const sums = { requests: 2, prompt: 20, cached: 7, completion: 10, charged: 30 }
  expect(users.get('alice')?.rows['a/one']).toMatchObject(sums)
  const day = days.get(dateOf(NOON))
  expect(day).toMatchObject({ total: sums, models: { 'a/one': sums } })
})

test('a session that both sides have seen today is counted once', async () => {
  const at = (session: string, id: string) => {
    const state = reducerState(KEEP)
    const admit = admitOf({ id })
    state.do(admit)
    state.do(settleOf(admit, { session }))
    return state
  }
  const sessionsOf = async (one: State, other: State) =>
    (await merged(one, other)).days.get(dateOf(NOON))?.sessions
  expect(await sessionsOf(at('one', '1'), at('one', '2'))).toBe(1)
  expect(await sessionsOf(at('one', '1'), at('two', '2'))).toBe(2)
})

const userOf = (fields: Partial<UserDoc>): UserDoc => ({ ...newUser('alice', NOON), ...fields })

test('blocks of both are in force, and of two on the same model the first', () => {
  const first = userOf({ blocks: { a: { at: 1, reason: 'first' } } })
  const second = userOf({ blocks: { a: { at: 2 }, b: { at: 3 } } })
  expect(mergeUser(first, second, KEEP).blocks).toEqual({
    a: { at: 1, reason: 'first' },
    b: { at: 3 },
  })
})

test('a lease of either side can still settle', async () => {
  const [one, other] = [reducerState(KEEP), reducerState(KEEP)]
  const admits = [admitOf({ id: '1' }), admitOf({ id: '2' })] as const
  one.do(admits[0])
  other.do(admits[1])
  const both = await merged(one, other)
  one.users.set('alice', both.users.get('alice') as UserDoc)
  for (const admit of admits) expect(one.do(settleOf(admit))).toEqual({ applied: true })
  expect(one.users.get('alice')?.rows['a/one']).toMatchObject({
    requests: 2,
    settled: 2,
    held: 0,
    charged: 30,
  })
})

test('the address is that of the later one, and of the other where it has none', () => {
  const later = userOf({ at: NOON + DAY_MS, date: dateOf(NOON + DAY_MS), ip: '192.0.2.2', seen: 2 })
  const earlier = userOf({ ip: '192.0.2.1', seen: 5 })
  for (const [one, other] of [
    [later, earlier],
    [earlier, later],
  ] as const) {
    expect(mergeUser(one, other, KEEP)).toMatchObject({ at: later.at, ip: '192.0.2.2', seen: 5 })
  }
  const { ip: _, ...without } = later
  expect(mergeUser(without, earlier, KEEP).ip).toBe('192.0.2.1')
})

test('what has aged on the one side by the clock of the other is gone', () => {
  const old = userOf({ past: { '2026-11-15': { a: { requests: 1, charged: 1 } } } })
  const at = NOON + 9 * DAY_MS
  const merged = mergeUser(old, { ...newUser('alice', at) }, KEEP)
  expect(merged.past).toEqual({})
})

test('of what browsers reported the larger of both is kept', () => {
  const one = userOf({ reported: { a: { tokens: 5, requests: 1 }, b: { tokens: 1, requests: 1 } } })
  const other = userOf({ reported: { a: { tokens: 3, requests: 2 } } })
  const reported = { a: { tokens: 5, requests: 2 }, b: { tokens: 1, requests: 1 } }
  expect(mergeUser(one, other, KEEP).reported).toEqual(reported)
  expect(mergeUser(one, userOf({}), KEEP).reported).toEqual(one.reported)
  expect(mergeUser(userOf({}), other, KEEP).reported).toEqual(other.reported)
  expect(mergeUser(userOf({}), userOf({}), KEEP)).not.toHaveProperty('reported')
})

test('a past day is in full where both sides tell how its requests ended, and short elsewhere', () => {
  const of = (row: PastRow) => userOf({ past: { '2026-11-21': { a: row } } })
  const sum = (one: PastRow, other: PastRow) =>
    mergeUser(of(one), of(other), KEEP).past['2026-11-21']?.['a']
  const free = { ...newRow(), requests: 1, partial: 1 }
  const failed = { requests: 2, charged: 0 }
  expect(sum(free, free)).toEqual({ ...newRow(), requests: 2, partial: 2 })
  expect(sum(free, failed)).toEqual({ ...newRow(), requests: 3, partial: 1, failed: 2 })
  expect(sum(failed, failed)).toEqual({ requests: 4, charged: 0 })
  expect(sum(free, { requests: 2, charged: 7 })).toEqual({ requests: 3, charged: 7 })
  expect(sum({ requests: 1, charged: 5 }, { requests: 2, charged: 7 })).toEqual({
    requests: 3,
    charged: 12,
  })
})

test('what both have counted is told by day, and sessions of the day of both only', () => {
  const rows = { a: { ...newRow(), requests: 1, settled: 1, charged: 5 } }
  const past = { '2026-11-21': { a: { requests: 1, charged: 3 }, b: { requests: 1, charged: 0 } } }
  const one = userOf({ rows, past, sessions: { s: 1, t: 1 } })
  const both = { users: 1, models: { a: 1 } }
  expect(overlapOf(one, userOf({ rows, past, sessions: { s: 1 } }))).toEqual({
    '2026-11-21': { ...both, sessions: 0 },
    '2026-11-22': { ...both, sessions: 1 },
  })
  const later = userOf({ date: '2026-11-23', past: { '2026-11-22': rows }, sessions: { s: 1 } })
  expect(overlapOf(one, later)).toEqual({ '2026-11-22': { ...both, sessions: 0 } })
  expect(
    addOverlaps({ users: 1, models: { a: 1, b: 1 }, sessions: 1 }, { ...both, sessions: 2 }),
  ).toEqual({ users: 2, models: { a: 2, b: 1 }, sessions: 3 })
})
