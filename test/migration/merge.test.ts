/**
 * A history that is split in two and merged again gives the same state as the whole history. The days are merged in a
 * real Redis.
 */
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { current } from '../../src/ledger/policy.ts'
import { amounts } from '../support/amounts.ts'
import { windowsOf, usedToday } from '../support/seed.ts'
import type { Command } from '../../src/ledger/commands.ts'
import { filter, own } from '../../src/ledger/records.ts'
import { newPast, newProfile, newRow, newUsage } from '../../src/ledger/new-documents.ts'
import type {
  Block,
  DayDoc,
  DayRow,
  PastDoc,
  QuotaDoc,
  Row,
  ThinRow,
  UsageDoc,
  Windows,
} from '../../src/ledger/documents.ts'
import type { Outcome } from '../../src/ledger/events.ts'
import { readDocument } from '../../src/ledger/reading.ts'
import { DAY_MS, MINUTE_MS, dateOf, startOf } from '../../src/ledger/windows.ts'
import { queueOf } from '../../src/migration/chunks.ts'
import { createImport } from '../../src/store/redis/import.ts'
import { QUOTA_DAYS } from '../../src/ledger/capacity.ts'
import { emptyState } from '../../src/store/local/state.ts'
import { createRedisStore } from '../../src/store/redis/store.ts'
import { IMPORT_SCRIPT } from '../../src/store/redis/import-script.ts'
import { LEDGER_SCRIPT } from '../../src/store/redis/script-files.ts'
import type { WholeUser } from '../../src/store/store.ts'
import { tcpClient } from '../../src/store/redis/tcp.ts'
import { addOverlaps, mergeUser, overlapOf, type UserParts } from '../../src/ledger/merge.ts'
import { admitOf, AMPLE, failureOf, NOON, settleOf } from '../support/commands.ts'
import { startRedis, type Redis } from '../support/redis.ts'
import { reducerState } from '../support/state.ts'
import { RETENTION } from '../support/stores.ts'

const KEEP = { userDays: 7 }
const TERMS = { ...KEEP, now: NOON }

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
  outcome: Outcome | 'running'
  tokens: number
  cached: number
  tag: string | undefined
}

const drawn: fc.Arbitrary<Drawn> = fc.record({
  side: fc.boolean(),
  user: fc.constantFrom('alice', 'bob'),
  model: fc.constantFrom('a/one', '__proto__', 'constructor'),
  session: fc.constantFrom('one', 'two', 'three'),
  // A second, most of a minute, or most of a day.
  wait: fc.constantFrom(1000, 50_000, 20 * 3_600_000),
  outcome: fc.constantFrom('exact', 'estimated', 'failed', 'running'),
  tokens: fc.nat(200),
  cached: fc.nat(200),
  tag: fc.constantFrom(undefined, 'one', 'other', '__proto__'),
})

/** Minutes are counted only if there is a limit per minute. */
const LIMITS = { model: { ...AMPLE, tokensPerMinute: 1e9 } }

/**
 * The commands of one history, each with its side. All commands of a request have the same side. The history is
 * shorter than the retention of users.
 */
function historyOf(draws: Drawn[]): { side: boolean; command: Command }[] {
  let now = NOON
  return draws.flatMap(({ side, user, model, session, wait, outcome, tokens, cached, tag }, n) => {
    now += now + wait < NOON + (KEEP.userDays - 1) * DAY_MS ? wait : 1000
    const admit = admitOf({ id: `request-${n}`, user, model, now, limits: LIMITS })
    if (outcome === 'running') return [{ side, command: admit }]
    const ended = {
      outcome,
      prompt: tokens,
      cached: Math.min(cached, tokens),
      completion: 0,
      total: tokens,
      charged: tokens,
      session,
      ...(tag !== undefined && { tag }),
    }
    const settle = outcome === 'failed' ? failureOf(admit, now) : settleOf(admit, ended, now)
    return [
      { side, command: admit },
      { side, command: settle },
    ]
  })
}

type State = ReturnType<typeof reducerState>

const partsOf = ({ usage, past, profiles }: State): UserParts[] =>
  [...usage.values()].map((doc) => ({
    id: doc.id,
    usage: doc,
    past: past.get(doc.id),
    profile: profiles.get(doc.id),
  }))

type Merged = {
  users: Map<string, WholeUser>
  days: Map<string, DayDoc>
  quotas: Map<string, QuotaDoc | undefined>
}

/** Imports one side into a database that has the other side, after the history has ended. */
async function merged(one: State, other: State): Promise<Merged> {
  await redis.flush()
  const now = () => Math.max(NOON, ...[one, other].map(({ quotas }) => quotas.get('*')?.at ?? 0))
  const target = targetAt(now)
  for (const [id, { quotas, days, usage }] of Object.entries({ other, one })) {
    const state = id === 'one' ? one : other
    let done = await target.bring(id, 0, { kind: 'quotas', items: [...quotas] })
    done = await target.bring(id, done, { kind: 'days', items: [...days.values()] })
    done = await target.bring(id, done, { kind: 'users', items: partsOf(state) })
    expect(done).toBe(quotas.size + days.size + usage.size)
  }
  const names = (part: 'usage' | 'days' | 'quotas') => [...one[part].keys(), ...other[part].keys()]
  return inDatabase(names('usage'), names('days'), names('quotas'))
}

const retention = { ...RETENTION, ...KEEP }
const warn = (event: string) => expect.fail(event)

const targetAt = (now: () => number) =>
  createImport({ redis: client.redis, script: IMPORT_SCRIPT, retention, now, warn })

const storeThere = () =>
  createRedisStore({
    redis: client.redis,
    script: LEDGER_SCRIPT,
    retention,
    tolerance: Infinity,
    sharing: 'none',
    warn,
  })

/** Reads these documents from the database. */
async function inDatabase(
  users: Iterable<string>,
  dates: Iterable<string>,
  scopes: Iterable<string>,
): Promise<Merged> {
  const store = storeThere()
  const found: Merged = { users: new Map(), days: new Map(), quotas: new Map() }
  for (const id of users) found.users.set(id, (await store.user(id)) as WholeUser)
  for (const day of await store.days([...new Set(dates)])) found.days.set(day.date, day)
  for (const scope of scopes) {
    const text = await redis.command(['GET', `weir:{2}:quota${scope === '*' ? '' : `:${scope}`}`])
    found.quotas.set(scope, text ? readDocument('quota', JSON.parse(String(text))) : undefined)
  }
  return found
}

/** The reducer's state of one history, in the form of a store's reads. */
const wholeOf = ({ usage, past, profiles, days, quotas }: State): Merged => ({
  users: new Map(
    [...usage].map(([id, doc]) => [
      id,
      {
        usage: doc,
        past: past.get(id) ?? newPast(id),
        profile: profiles.get(id) ?? newProfile(id),
      },
    ]),
  ),
  days,
  quotas,
})

/**
 * The parts that must be equal. Left out are sessions (unknown for past days), failures of models that had not
 * answered yet, expired days and counters, and the indexes, which are updated later.
 */
function told({ users, days, quotas }: Merged) {
  const oldest = startOf('day', quotas.get('*')?.at ?? 0) - (QUOTA_DAYS - 1) * DAY_MS
  const ofModel = ({ requests: _r, failed: _f, at: _a, hours, ...row }: DayRow) => ({
    ...row,
    hours: Object.entries(hours).filter(([, tokens]) => tokens > 0),
  })
  const entries = <T, U>(record: Record<string, T>, map: (value: T) => U) =>
    Object.entries(record)
      .map(([name, value]) => [name, map(value)] as const)
      .sort(([a], [b]) => (a < b ? -1 : 1))
  const ofDay = ({ total, models, tags = {} }: DayDoc) => ({
    ...{ total, models: entries(models, ofModel), tags: entries(tags, (row) => row) },
  })
  const ofUser = ({ usage, past, profile }: WholeUser) => {
    const { indexed: _, models, ...rest } = usage
    // A model's ended windows stay until the next request.
    const used = entries(models, ({ row, windows }) => ({
      row,
      windows: current(windows, usage.at),
    }))
    const first = dateOf(usage.at - KEEP.userDays * DAY_MS)
    const kept = filter(past.days, (_, date) => date >= first)
    return {
      usage: { ...rest, used },
      past: entries(kept, (rows) => entries(rows, (row) => row)),
      profile,
    }
  }
  return {
    users: Object.fromEntries([...users].map(([id, user]) => [id, ofUser(user)])),
    days: Object.fromEntries([...days].map(([date, day]) => [date, ofDay(day)])),
    quotas: Object.fromEntries([...quotas].filter(([, quota]) => quota && quota.at >= oldest)),
  }
}

test('a history that was split in two is complete after the merge', () =>
  fc.assert(
    fc.asyncProperty(fc.array(drawn, { maxLength: 40 }), async (draws) => {
      const [whole, left, right] = [0, 1, 2].map(() => reducerState(KEEP)) as [State, State, State]
      for (const { side, command } of historyOf(draws)) {
        whole.do(command)
        ;(side ? left : right).do(command)
      }
      const expected = told(wholeOf(whole))
      expect(told(await merged(left, right))).toEqual(expected)
      expect(told(await merged(right, left))).toEqual(expected)
    }),
    { numRuns: 120 },
  ))

test('a history is complete if one part is imported while the other continues, and no day stays open', () =>
  fc.assert(
    fc.asyncProperty(
      fc.array(drawn, { minLength: 1, maxLength: 30 }),
      fc.double({ min: 0, max: 1, noNaN: true }),
      fc.integer({ min: 1, max: 3 }),
      async (draws, share, items) => {
        await redis.flush()
        const [whole, file] = [reducerState(KEEP), reducerState(KEEP)]
        const history = historyOf(draws)
        // The file contains the history up to here. It is then imported while later requests arrive.
        let end = Math.floor(history.length * share)
        if (history[end]?.command.op === 'settle') end += 1
        const store = storeThere()
        let now = NOON
        const live = async (command: Command) => {
          now = command.now
          whole.do(command)
          await store.execute(command)
        }
        for (const { side, command } of history.slice(0, end)) {
          if (!side) await live(command)
          else whole.do(command)
          if (side) file.do(command)
          now = command.now
        }
        const rest = history.slice(end).map(({ command }) => command)
        const { usage, past, profiles, quotas, days } = file
        const queue = queueOf({
          ...emptyState(),
          usage: [...usage.values()],
          past: [...past.values()],
          profiles: [...profiles.values()],
          quotas: [...quotas],
          days: [...days.values()],
        })
        const target = targetAt(() => now)
        for (let done = 0; done < queue.length;) {
          done = await target.bring('id', done, queue.from(done, { items, bytes: 1e6 }))
          for (const command of rest.splice(0, 2)) await live(command)
        }
        for (const command of rest) await live(command)
        const toldNow = async () =>
          told(await inDatabase(whole.usage.keys(), whole.days.keys(), whole.quotas.keys()))
        expect(await toldNow()).toEqual(told(wholeOf(whole)))

        const tomorrow = admitOf({ id: 'tomorrow', user: 'carol', now: now + DAY_MS })
        await live(tomorrow)
        await live(settleOf(tomorrow))
        expect(await toldNow()).toEqual(told(wholeOf(whole)))
        const open = dateOf(tomorrow.now)
        const apart = (await redis.command(['KEYS', 'weir:{2}:day:*:*'])) as string[]
        expect(apart).toEqual([`weir:{2}:day:${open}:a/one`])
        expect(await redis.command(['KEYS', 'weir:{2}:models:*'])).toEqual([
          `weir:{2}:models:${open}`,
        ])
        for (const date of whole.days.keys()) {
          const ttl = Number(await redis.command(['TTL', `weir:{2}:day:${date}`]))
          if (date === open) expect(ttl).toBe(-1)
          else expect(ttl, date).toBeGreaterThan(0)
        }
      },
    ),
    { numRuns: 60 },
  ))

test('cached tokens of both sides are added, in the row of a user and in the day', async () => {
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
  expect(users.get('alice')?.usage.models['a/one']?.row).toMatchObject(sums)
  const day = days.get(dateOf(NOON))
  expect(day).toMatchObject({ total: sums, models: { 'a/one': sums } })
})

test.each([
  ['today', NOON],
  ['a day that has ended', NOON - DAY_MS],
])(
  'tags of both sides of %s are added, and there are no more of them than in a day',
  async (_, now) => {
    const at = (side: string, tags: string[]) => {
      const state = reducerState(KEEP)
      for (const tag of tags) {
        const admit = admitOf({ id: `${side} ${tag}`, now })
        state.do(admit)
        state.do(settleOf(admit, { tag, cost: '7', completion: 5, charged: 15 }, now))
      }
      if (now < NOON) state.do(admitOf({ id: `${side} later`, now: NOON }))
      return state
    }
    const names = (from: number, to: number) =>
      Array.from({ length: to - from }, (_, n) => `tag-${String(from + n).padStart(3, '0')}`)
    const { days } = await merged(at('one', names(10, 50)), at('other', [...names(0, 30), 'other']))
    const { tags = {} } = days.get(dateOf(now)) ?? {}
    expect(tags['tag-000']).toEqual({ requests: 1, charged: 15, cost: 7 })
    expect(tags['tag-010']).toEqual({ requests: 2, charged: 30, cost: 14 })
    expect(Object.keys(tags)).toHaveLength(50 + 1)
    const more = await merged(at('one', names(30, 75)), at('other', [...names(0, 30), 'other']))
    const all = more.days.get(dateOf(now))?.tags ?? {}
    expect(Object.keys(all).sort()).toEqual(['other', ...names(0, 50)])
    expect(all.other).toEqual({ requests: 1 + 25, charged: 15 * 26, cost: 7 * 26 })
  },
)

test('a session of both sides today is counted once', async () => {
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

const usageOf = (fields: Partial<UsageDoc> = {}): UsageDoc => ({
  ...newUsage('alice', NOON),
  ...fields,
})
const userOf = (fields: Partial<UsageDoc> = {}): UserParts => ({
  id: 'alice',
  usage: usageOf(fields),
})
const pastOf = (days: PastDoc['days']): PastDoc => ({ ...newPast('alice'), days })
const blockedOf = (blocks: Record<string, Block>): UserParts => ({
  id: 'alice',
  profile: { ...newProfile('alice'), blocks },
})

test('blocks of both sides are in force; of two for the same model, the first that has not expired', () => {
  const first = blockedOf({ a: { at: 1, reason: 'first' }, c: { at: 1, until: NOON } })
  const second = blockedOf({ a: { at: 2 }, b: { at: 3 }, c: { at: 4 } })
  expect(mergeUser(first, second, TERMS).profile?.blocks).toEqual({
    a: { at: 1, reason: 'first' },
    b: { at: 3 },
    c: { at: 4 },
  })
})

test('data of only one side is unchanged', () => {
  const used = { ...userOf({ seen: NOON }), past: pastOf({ '2026-11-21': { a: { requests: 1 } } }) }
  const blocked = blockedOf({ a: { at: 1 } })
  for (const both of [mergeUser(used, blocked, TERMS), mergeUser(blocked, used, TERMS)]) {
    expect(both).toEqual({ ...used, ...blocked })
  }
})

test('a lease of either side can still settle', async () => {
  const [one, other] = [reducerState(KEEP), reducerState(KEEP)]
  const admits = [admitOf({ id: '1' }), admitOf({ id: '2' })] as const
  one.do(admits[0])
  other.do(admits[1])
  const both = await merged(one, other)
  one.usage.set('alice', both.users.get('alice')?.usage as UsageDoc)
  for (const admit of admits) expect(one.do(settleOf(admit))).toEqual({ applied: true })
  const usage = one.usage.get('alice')
  const sums = { requests: 2, exact: 2, charged: 30 }
  expect(usage?.models['a/one']?.row).toEqual(expect.objectContaining(sums))
  expect(usage?.windows['day']).toMatchObject({ requests: 2, tokens: 30 })
})

test('a lease that has expired by the clock of the other side is lost', () => {
  const state = reducerState(KEEP)
  state.do(admitOf({ id: '1' }))
  const at = NOON + DAY_MS
  const later = userOf({ at, date: dateOf(at) })
  const both = mergeUser({ id: 'alice', usage: state.usage.get('alice') }, later, TERMS)
  expect(both.usage).toMatchObject({ leases: {}, models: {}, windows: {} })
  const lost = { requests: 1, lost: 1, charged: 100, lostTokens: 100 }
  expect(both.past?.days).toEqual({ '2026-11-22': { 'a/one': lost } })
})

describe('counters of limits', () => {
  const minute = (at: number, tokens: number): Windows =>
    windowsOf(amounts(1, tokens, 10 * tokens), at, 'minute')
  /** The windows of all models and of one model, which are equal. */
  const both = (one: Windows, other: Windows) => {
    const [first, second] = [one, other].map((windows) => {
      const at = Math.max(...Object.values(windows).map(({ start }) => start))
      return userOf({ windows, models: { a: { row: {}, windows } }, at: Math.max(at, NOON) })
    }) as [UserParts, UserParts]
    const usage = mergeUser(first, second, TERMS).usage
    expect(usage?.models['a']?.windows).toEqual(usage?.windows)
    return usage?.windows
  }

  test('of the same span are added, model by model', () => {
    expect(both(minute(NOON, 1), minute(NOON, 2))).toEqual({
      minute: { start: NOON, ...amounts(2, 3, 30) },
    })
  })

  test('of different spans are those of the later span', () => {
    const [one, other] = [minute(NOON, 1), minute(NOON + MINUTE_MS, 2)]
    expect(both(one, other)).toEqual(other)
    expect(both(other, one)).toEqual(other)
  })

  test('are kept for each window', () => {
    const day = windowsOf(amounts(1, 1), NOON)
    const one = minute(NOON, 1)
    expect(both(one, day)).toEqual({ ...one, ...day })
  })
})

test('what keys were charged is added by key and month, also where one side knows no keys', () => {
  const [month, before] = [startOf('month', NOON), startOf('month', NOON - 30 * DAY_MS)]
  const of = (start: number, usd: number) => ({ start, ...amounts(1, 2, usd) })
  const one = userOf({ at: NOON, keysCharged: { a: of(month, 3), b: of(before, 5) } })
  const other = userOf({ at: NOON, keysCharged: { a: of(month, 4), b: of(month, 6) } })
  const merged = (first: UserParts, second: UserParts) =>
    mergeUser(first, second, TERMS).usage?.keysCharged
  const both = { a: { start: month, ...amounts(2, 4, 7) }, b: of(month, 6) }
  expect(merged(one, other)).toEqual(both)
  expect(merged(other, one)).toEqual(both)
  const none = userOf({ at: NOON })
  expect(merged(one, none)).toEqual(one.usage?.keysCharged)
  expect(merged(none, one)).toEqual(one.usage?.keysCharged)
  expect(merged(none, none)).toBeUndefined()
})

test('the last limited window is that of the side that is limited longest', () => {
  const until = (limitedUntil?: number) =>
    userOf({ at: NOON, ...(limitedUntil !== undefined && { limitedUntil }) })
  const merged = (one?: number, other?: number) =>
    mergeUser(until(one), until(other), TERMS).usage?.limitedUntil
  expect([merged(5, 7), merged(7, 5), merged(undefined, 7), merged()]).toEqual([7, 7, 7, undefined])
})

test('the indexes get the usage of both sides', () => {
  const rows = (charged: number): Record<string, Row> => ({ a: { ...newRow(), charged } })
  const one = userOf({ ...usedToday(rows(5), NOON), seen: NOON, indexed: { at: 1, tokens: 1 } })
  const other = userOf({
    ...usedToday(rows(7), NOON),
    seen: NOON - 1,
    indexed: { at: 2, tokens: 2 },
  })
  expect(mergeUser(one, other, TERMS).usage?.indexed).toEqual({ at: NOON, tokens: 12 })
})

test('the address is that of the later side, or of the other side if it has none', () => {
  const later = usageOf({
    at: NOON + DAY_MS,
    date: dateOf(NOON + DAY_MS),
    ip: '192.0.2.2',
    seen: 2,
  })
  const earlier = usageOf({ ip: '192.0.2.1', seen: 5 })
  const both = (one: UsageDoc, other: UsageDoc) =>
    mergeUser({ id: 'alice', usage: one }, { id: 'alice', usage: other }, TERMS).usage
  for (const [one, other] of [
    [later, earlier],
    [earlier, later],
  ] as const) {
    expect(both(one, other)).toMatchObject({ at: later.at, ip: '192.0.2.2', seen: 5 })
  }
  const { ip: _, ...without } = later
  expect(both(without, earlier)?.ip).toBe('192.0.2.1')
})

test('data that has expired by the clock of the other side is removed', () => {
  const days = { '2026-11-15': { a: { requests: 1 } }, '2026-11-25': { a: { requests: 2 } } }
  const old = { ...userOf(), past: pastOf(days) }
  const at = NOON + 9 * DAY_MS
  const later = { id: 'alice', usage: newUsage('alice', at) }
  for (const both of [mergeUser(old, later, TERMS), mergeUser(later, old, TERMS)]) {
    expect(both.past?.days).toEqual({ '2026-11-25': { a: { requests: 2 } } })
  }
})

test('the larger of two browser reports is kept', () => {
  const one = { a: { tokens: 5, requests: 1 }, b: { tokens: 1, requests: 1 } }
  const other = { a: { tokens: 3, requests: 2 } }
  const both = (one: UsageDoc['reported'], other: UsageDoc['reported']) =>
    mergeUser(userOf({ reported: one }), userOf({ reported: other }), TERMS).usage?.reported
  expect(both(one, other)).toEqual({ a: { tokens: 5, requests: 2 }, b: one.b })
  expect(both(one, {})).toEqual(one)
  expect(both({}, other)).toEqual(other)
})

test('past days are added, field by field, and zeros are left out', () => {
  const of = (row: ThinRow) => ({ ...userOf(), past: pastOf({ '2026-11-21': { a: row } }) })
  const sum = (one: ThinRow, other: ThinRow) =>
    own(mergeUser(of(one), of(other), TERMS).past?.days['2026-11-21'] ?? {}, 'a')
  expect(sum({ requests: 1, estimated: 1 }, { requests: 2, failed: 2 })).toEqual({
    requests: 3,
    estimated: 1,
    failed: 2,
  })
  expect(sum({ requests: 1, charged: 5 }, { requests: 2, charged: 0 })).toEqual({
    requests: 3,
    charged: 5,
  })
})

test('users that both sides counted are reported by day, and sessions only for the day of both', () => {
  const rows = { a: { ...newRow(), requests: 1, exact: 1, charged: 5 } }
  const past = pastOf({
    '2026-11-21': {
      a: { requests: 1, exact: 1, charged: 3 },
      b: { requests: 1, failed: 1 },
    },
  })
  const of = (fields: Partial<UsageDoc>, days = past) => ({ ...userOf(fields), past: days })
  const today = usedToday(rows, NOON)
  const one = of({ ...today, sessions: { s: 1, t: 1 } })
  const both = { users: 1, models: { a: 1 } }
  expect(overlapOf(one, of({ ...today, sessions: { s: 1 } }))).toEqual({
    '2026-11-21': { ...both, sessions: 0 },
    '2026-11-22': { ...both, sessions: 1 },
  })
  const later = of({ date: '2026-11-23', sessions: { s: 1 } }, pastOf({ '2026-11-22': rows }))
  expect(overlapOf(one, later)).toEqual({ '2026-11-22': { ...both, sessions: 0 } })
  expect(
    addOverlaps({ users: 1, models: { a: 1, b: 1 }, sessions: 1 }, { ...both, sessions: 2 }),
  ).toEqual({ users: 2, models: { a: 2, b: 1 }, sessions: 3 })
})
