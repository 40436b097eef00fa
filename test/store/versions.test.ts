/**
 * Documents of earlier versions, and later ones with unknown fields: they can be read and changed, and keep all
 * fields.
 */
import { readFile } from 'node:fs/promises'
import { describe, expect, test } from 'vitest'
import type { Command } from '../../src/ledger/commands.ts'
import type { Windows } from '../../src/ledger/documents.ts'
import { DAY_MS, HOUR_MS, SECOND_MS, minuteOf, startOf } from '../../src/ledger/windows.ts'
import {
  dayKey,
  modelsKey,
  pastKey,
  profileKey,
  quotaKey,
  rowKey,
  usageKey,
} from '../../src/store/redis/keys.ts'
import type { Store, UserQuery } from '../../src/store/store.ts'
import { amounts } from '../support/amounts.ts'
import { admitOf, NOON, settleOf } from '../support/commands.ts'
import {
  dayOf,
  enterOf,
  MIDNIGHT,
  pastRowOf,
  quotasOf,
  reportOf,
  rowOf,
  said,
  spend,
  start,
  TODAY,
  usedByAll,
  userOf,
  YESTERDAY,
} from '../support/contract.ts'
import { fixture, useFixtures, type Json } from '../support/versions.ts'

const { redis, warnings, remote, restore, filesOf, document } = useFixtures()

type Long = { windows(requests: number, tokens: number): Windows; lease: Record<string, 1> }

/** Documents of version 2 say nothing of weeks and months. */
const NO_LONG: Long = { windows: () => ({}), lease: {} }

/** A replayed journal counts them. */
const LONG: Long = {
  windows: (requests, tokens) => ({
    week: { start: startOf('week', NOON), ...amounts(requests, tokens) },
    month: { start: startOf('month', NOON), ...amounts(requests, tokens) },
  }),
  lease: { week: 1, month: 1 },
}

/** Each with the fields that version 2 had not from the start. */
const V2: [string, () => Promise<Store>, object, Long][] = [
  [
    'in Redis',
    async () => {
      await restore('v2')
      return remote()
    },
    { since: 0 },
    NO_LONG,
  ],
  [
    'in a snapshot',
    async () => (await filesOf({ snapshot: await fixture('v2/snapshot.txt') })).store(),
    { since: 0 },
    NO_LONG,
  ],
  [
    'in a journal',
    async () => (await filesOf({ journal: await fixture('v2/journal.txt') })).store(),
    // A replayed journal makes them.
    { since: NOON - DAY_MS, syncs: 1, syncMinute: minuteOf(NOON) },
    LONG,
  ],
]

describe.each(V2)('what version 2 left %s', (_, open, newer, long) => {
  test('is read completely', async () => {
    const store = await open()
    const alice = await userOf(store)
    expect(alice.usage).toEqual({
      ...newer,
      v: 2,
      id: 'alice',
      ip: '192.0.2.1',
      at: NOON,
      seen: NOON,
      indexed: { at: NOON, tokens: 148 },
      date: TODAY,
      charged: 148,
      answered: 2,
      sessions: { 'tab-1': 1 },
      windows: {
        day: { start: MIDNIGHT - DAY_MS, ...amounts(4, 148) },
        minute: { start: NOON, ...amounts(1, 100) },
        ...long.windows(6, 338),
      },
      models: {
        'a/one': {
          row: {
            requests: 3,
            exact: 1,
            estimated: 1,
            charged: 148,
            reserved: 100,
            prompt: 10,
            completion: 5,
          },
          windows: {
            day: { start: MIDNIGHT - DAY_MS, ...amounts(3, 148) },
            minute: { start: NOON, ...amounts(1, 100) },
            ...long.windows(4, 268),
          },
        },
        'b/two': {
          row: { requests: 1, failed: 1 },
          windows: { day: { start: MIDNIGHT - DAY_MS, ...amounts(1, 0) }, ...long.windows(2, 70) },
        },
      },
      leases: {
        running: {
          model: 'a/one',
          at: NOON,
          until: NOON + 300_000,
          reserved: amounts(1, 100),
          windows: { day: 1, minute: 1, ...long.lease },
        },
        y2: {
          model: 'b/two',
          at: NOON - 23 * HOUR_MS,
          until: NOON - 23 * HOUR_MS + 300_000,
          reserved: amounts(1, 70),
          windows: { day: 1, ...long.lease },
        },
      },
      reported: { 'a/one': { requests: 5, tokens: 500 } },
    })
    expect(alice.profile.blocks).toEqual({ 'c/three': { at: NOON, reason: 'ü "spam"' } })
    expect(await pastRowOf(store, YESTERDAY)).toMatchObject({
      exact: 1,
      charged: 120,
      cached: 40,
      overReservation: 20,
    })
    const days = await store.days([YESTERDAY, TODAY])
    expect(
      days.map(({ total, sessions, models }) => [
        total.requests,
        total.charged,
        total.users,
        sessions,
        Object.entries(models)
          .map(([model, { requests, charged }]) => [model, requests, charged])
          .sort(),
      ]),
    ).toEqual([
      [
        2,
        153,
        2,
        0,
        [
          ['a/one', 1, 120],
          ['b/two', 1, 33],
        ],
      ],
      [
        5,
        213,
        3,
        2,
        [
          ['a/one', 3, 63],
          ['b/two', 2, 150],
        ],
      ],
    ])
    expect(await usedByAll(store)).toEqual([5, 313])
    expect(Object.keys(await quotasOf(store)).sort()).toEqual(['*', 'a/one', 'b/two'])
    const users: UserQuery = { sort: 'tokens', limit: 9, now: NOON }
    const listed = async (query: UserQuery) =>
      (await store.listUsers(query)).users.map(({ usage }) => usage.id)
    expect(await listed(users)).toEqual(['alice', 'carol', 'bob'])
    expect(await listed({ ...users, sort: 'lastActive' })).toEqual(['alice', 'bob', 'carol'])
    expect((await store.blockedUsers(9)).map(({ id }) => id)).toEqual(['alice', 'dave'])
    const ids = (await store.events(99)).map(({ id }) => id)
    expect(ids).toEqual(['t4', 't3', 't2', 't1', 't0', 'y3', 'y1'])
    expect((await store.audit(9)).map(({ action }) => action)).toEqual(['export', 'block', 'block'])
    expect(warnings).toEqual([])
  })

  test('can be continued: running requests settle, limits count, blocks are in force, entries count once', async () => {
    const store = await open()
    const running = admitOf({ id: 'running', model: 'a/one' })
    expect(await store.execute(settleOf(running, { charged: 20 }))).toEqual({ applied: true })
    expect(await rowOf(store)).toMatchObject({ requests: 3, exact: 2, charged: 68, reserved: 0 })
    expect((await dayOf(store))?.models['a/one']).toMatchObject({ requests: 4, charged: 83 })
    const limits = { model: { tokensPerDay: 100 } }
    expect(await store.execute(admitOf({ id: 'n', reserved: 33, limits }))).toMatchObject({
      ok: false,
      used: 68,
    })
    expect(await store.execute(admitOf({ id: 'n', model: 'c/three' }))).toMatchObject({
      reason: 'blocked',
      why: 'ü "spam"',
    })
    expect(await store.execute(admitOf({ id: 'n', user: 'dave' }))).toMatchObject({ why: 'bill' })
    const again = enterOf({ id: 't4', user: 'bob', now: NOON - 60_000 }, NOON + SECOND_MS)
    expect(await store.replay([again])).toEqual([{ applied: false }])
    await spend(store, { id: 'next', now: NOON + HOUR_MS })
    expect(await pastRowOf(store, YESTERDAY, 'b/two')).toMatchObject({ lost: 1, lostTokens: 70 })
    await spend(store, { id: 'tomorrow', now: NOON + DAY_MS })
    expect((await dayOf(store))?.total).toMatchObject({ requests: 7, charged: 248 })
    expect(warnings).toEqual([])
  })
})
/** All paths in a document, except those of its id and version. */
function pathsOf(doc: Json, path: string[] = []): string[][] {
  return Object.entries(doc).flatMap(([key, value]) => {
    const here = [...path, key]
    const inside = typeof value === 'object' && value !== null ? pathsOf(value as Json, here) : []
    return path.length === 0 && ['v', 'id', 'date'].includes(key) ? [] : [here, ...inside]
  })
}

/** A copy without the field at a path. */
function without(doc: Json, [key = '', ...rest]: string[]): Json {
  const { [key]: value, ...others } = doc
  return rest.length ? { ...doc, [key]: without(value as Json, rest) } : others
}

/** A copy with an unknown field in each object. */
const withMore = (doc: Json): Json => ({ ...doc, more: { than: 'this', build: [1, 'knows'] } })

describe('a document with a missing field', () => {
  const KINDS: [kind: string, key: string, state: string][] = [
    ['usage', usageKey('alice'), 'usage'],
    ['past', pastKey('alice'), 'past'],
    ['profile', profileKey('alice'), 'profiles'],
    ['quota', quotaKey('*'), 'quotas'],
    ['quota of a model', quotaKey('a/one'), 'quotas'],
    ['day', dayKey(YESTERDAY), 'days'],
  ]

  /** The documents of a user, of everyone and of the days after some usual commands. */
  async function after(store: Store) {
    const everyone = { total: { requestsPerMinute: 99 }, model: { tokensPerDay: 1e6 } }
    const commands: Command[] = [
      admitOf({ id: 'n1', now: NOON + SECOND_MS, everyone }),
      settleOf(admitOf({ id: 'running' }), {}, NOON + SECOND_MS),
      { ...enterOf({ id: 'n2', now: NOON - DAY_MS }, NOON + SECOND_MS) },
      reportOf({ 'a/one': said(700) }, { now: NOON + SECOND_MS }),
      { op: 'block', now: NOON + SECOND_MS, user: 'alice', model: 'd/four', block: { at: NOON } },
      admitOf({ id: 'n3', now: NOON + 2 * HOUR_MS, model: 'b/two' }),
    ]
    const answers: unknown[] = []
    for (const command of commands) {
      answers.push(
        await (command.op === 'enter' ? store.replay([command]) : store.execute(command)),
      )
    }
    const users: UserQuery = { sort: 'tokens', limit: 0, now: NOON }
    const { days, quotas } = await store.overview({ dates: [YESTERDAY, TODAY], users, events: 0 })
    return { answers, alice: await store.user('alice'), days, quotas }
  }

  /** The snapshot with one of its documents replaced. */
  async function snapshotWith(state: string, key: string, doc: Json): Promise<string> {
    const saved = JSON.parse(await fixture('v2/snapshot.txt')) as { state: Record<string, unknown> }
    const scope = key === quotaKey('*') ? '*' : 'a/one'
    const kept = saved.state[state] as unknown[]
    saved.state[state] = kept.map((one) => {
      if (state === 'quotas') return (one as [string, Json])[0] === scope ? [scope, doc] : one
      const { id, date } = one as Json
      return id === 'alice' || date === YESTERDAY ? doc : one
    })
    return JSON.stringify(saved)
  }

  test.each(KINDS)(
    'is read with its defaults, the same in both ledgers: %s',
    async (_, key, state) => {
      await restore('v2')
      const doc = await document(key)
      for (const path of pathsOf(doc)) {
        const less = without(doc, path)
        await redis.flush()
        await restore('v2')
        await redis.command(['SET', key, JSON.stringify(less)])
        const files = await filesOf({ snapshot: await snapshotWith(state, key, less) })
        const local = await files.store()
        expect(await after(remote()), path.join(' → ')).toEqual(await after(local))
        await local.remove()
        expect(warnings, path.join(' → ')).toEqual([])
      }
    },
    60_000,
  )

  test('keeps the blocks of its user, and does not reset the limits of the day', async () => {
    await restore('v2')
    const bare = { v: 2, id: 'alice' }
    const profile = { ...bare, blocks: { '*': {} } }
    await redis.command(['SET', profileKey('alice'), JSON.stringify(profile)])
    expect(await remote().execute(admitOf({ id: '1' }))).toMatchObject({ reason: 'blocked' })
    const usage = await document(usageKey('alice'))
    await redis.command(['DEL', profileKey('alice')])
    const { leases: _, indexed: __, reported: ___, ...less } = usage
    await redis.command(['SET', usageKey('alice'), JSON.stringify(less)])
    const limits = { model: { requestsPerDay: 3 } }
    expect(await remote().execute(admitOf({ id: '2', limits }))).toMatchObject({ used: 3 })
    expect(warnings).toEqual([])
  })

  test.each([
    ['a row of a day', rowKey(TODAY, 'a/one'), { v: 2, requests: 3 }],
    ['a day', dayKey(TODAY), { v: 2, open: 1 }],
  ])('can be changed: %s', async (_, key, doc) => {
    await restore('v2')
    await redis.command(['SET', key, JSON.stringify(doc)])
    await spend(remote(), { id: '1' })
    const day = await dayOf(remote())
    expect(day?.models['a/one']?.exact).toBeGreaterThan(0)
    expect(day?.total.exact).toBeGreaterThan(0)
    await start(remote(), { id: '2', now: NOON + DAY_MS })
    expect((await dayOf(remote()))?.models['a/one']?.exact).toBe(day?.models['a/one']?.exact)
    expect(warnings).toEqual([])
  })
})

describe('a field that this build does not know', () => {
  const CASES: [kind: string, key: string][] = [
    ['usage', usageKey('alice')],
    ['past', pastKey('alice')],
    ['profile', profileKey('alice')],
    ['quota', quotaKey('*')],
    ['quota of a model', quotaKey('a/one')],
    ['names of a day', modelsKey(TODAY)],
    ['row', rowKey(TODAY, 'a/one')],
    ['day that goes on', dayKey(TODAY)],
    ['day', dayKey(YESTERDAY)],
  ]
  test.each(CASES)('stays when its document is written: %s', async (_, key) => {
    await restore('v2')
    const text = String(await redis.command(['GET', key]))
    const more = withMore(JSON.parse(text) as Json)
    await redis.command(['SET', key, JSON.stringify(more)])
    await spend(remote(), { id: '1' })
    await spend(remote(), { id: '2', model: 'd/four' })
    await remote().replay([enterOf({ id: '3', now: NOON - DAY_MS })])
    const block = { at: NOON }
    await remote().execute({ op: 'block', now: NOON, user: 'alice', model: 'd/four', block })
    const written = String(await redis.command(['GET', key]))
    expect(written).not.toBe(JSON.stringify(more))
    expect(JSON.parse(written)).toMatchObject({ more: more['more'] })
    expect(warnings).toEqual([])
  })

  test('stays in the rows of a day that is folded', async () => {
    await restore('v2')
    for (const key of [rowKey(TODAY, 'a/one'), dayKey(TODAY)]) {
      const doc = withMore(await document(key))
      await redis.command(['SET', key, JSON.stringify(doc)])
    }
    await start(remote(), { id: '1', now: NOON + DAY_MS })
    const day = await document(dayKey(TODAY))
    expect(day).toMatchObject({ more: {}, models: { 'a/one': { more: {} } } })
  })

  test('stays in files', async () => {
    const saved = JSON.parse(await fixture('v2/snapshot.txt')) as { state: Record<string, Json[]> }
    const { state } = saved
    for (const kind of ['usage', 'past', 'profiles', 'days'])
      state[kind] = state[kind]!.map(withMore)
    const { file, store } = await filesOf({ snapshot: JSON.stringify(saved) })
    const local = await store()
    await spend(local, { id: '1' })
    await local.replay([enterOf({ id: '3', now: NOON - DAY_MS })])
    const block = { at: NOON }
    await local.execute({ op: 'block', now: NOON, user: 'alice', model: 'd/four', block })
    await local.close()
    const kept = (JSON.parse(await readFile(file, 'utf8')) as typeof saved).state
    for (const kind of ['usage', 'past', 'profiles', 'days']) {
      for (const doc of kept[kind]!) expect(doc, kind).toHaveProperty('more')
    }
  })
})
