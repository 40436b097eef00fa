/** Two accounts of one history, merged, are the account of the whole. */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import {
  addOverlaps,
  mergeDay,
  mergeUser,
  overlapOf,
  withoutOverlap,
  type Overlap,
} from '../src/usage/merge.ts'
import { newUser } from '../src/usage/documents.ts'
import {
  DAY_MS,
  dateOf,
  type Command,
  type DayDoc,
  type DayRow,
  type Outcome,
  type UserDoc,
} from '../src/usage/record.ts'
import { admitOf, failureOf, NOON, settleOf } from './commands.ts'
import { reducerState } from './state.ts'

const KEEP = { userDays: 7 }

type Drawn = {
  side: boolean
  user: string
  model: string
  session: string
  wait: number
  outcome: Outcome | 'unsettled'
  tokens: number
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
})

const GLOBAL = { total: { tokensPerDay: 1e9, requestsPerDay: 1e6 } }

/** The commands of one history, each with the side it went to; a request stays on its side. */
function historyOf(draws: Drawn[]): { side: boolean; command: Command }[] {
  let now = NOON
  return draws.flatMap(({ side, user, model, session, wait, outcome, tokens }, n) => {
    now += wait
    const admit = admitOf({ id: `request-${n}`, user, model, now, global: GLOBAL })
    if (outcome === 'unsettled') return [{ side, command: admit }]
    const partial = {
      outcome,
      prompt: tokens,
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

function merged(one: State, other: State) {
  const users = new Map<string, UserDoc>(other.users)
  const overlaps = new Map<string, Overlap>()
  for (const [id, user] of one.users) {
    const there = other.users.get(id)
    users.set(id, there ? mergeUser(user, there, KEEP) : user)
    for (const [date, overlap] of Object.entries(there ? overlapOf(user, there) : {})) {
      const known = overlaps.get(date)
      overlaps.set(date, known ? addOverlaps(known, overlap) : overlap)
    }
  }
  const days = new Map<string, DayDoc>(other.days)
  for (const [date, day] of one.days) {
    const there = other.days.get(date)
    const sum = there ? mergeDay(day, there) : day
    const overlap = overlaps.get(date)
    days.set(date, overlap ? withoutOverlap(sum, overlap) : sum)
  }
  return { users, days }
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
    fc.property(fc.array(drawn, { maxLength: 40 }), (draws) => {
      const [whole, left, right] = [0, 1, 2].map(() => reducerState(KEEP)) as [State, State, State]
      for (const { side, command } of historyOf(draws)) {
        whole.do(command)
        ;(side ? left : right).do(command)
      }
      expect(told(merged(left, right))).toEqual(told(whole))
      expect(told(merged(right, left))).toEqual(told(whole))
    }),
    { numRuns: 500 },
  ))

test('a session that both sides have seen today is counted once', () => {
  const at = (session: string, id: string) => {
    const state = reducerState(KEEP)
    const admit = admitOf({ id })
    state.do(admit)
    state.do(settleOf(admit, { session }))
    return state
  }
  const sessionsOf = (one: State, other: State) =>
    merged(one, other).days.get(dateOf(NOON))?.sessions
  expect(sessionsOf(at('one', '1'), at('one', '2'))).toBe(1)
  expect(sessionsOf(at('one', '1'), at('two', '2'))).toBe(2)
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

test('a lease of either side can still settle', () => {
  const [one, other] = [reducerState(KEEP), reducerState(KEEP)]
  const admits = [admitOf({ id: '1' }), admitOf({ id: '2' })] as const
  one.do(admits[0])
  other.do(admits[1])
  const both = merged(one, other)
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
