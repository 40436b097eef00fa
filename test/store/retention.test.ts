/** What is kept and for how long. The tests set the clock. */
import { existsSync } from 'node:fs'
import { stat } from 'node:fs/promises'
import { describe, expect, test, vi } from 'vitest'
import type { Command, Enter } from '../../src/ledger/commands.ts'
import type { Block } from '../../src/ledger/documents.ts'
import { QUOTA_DAYS } from '../../src/ledger/capacity.ts'
import { DAY_MS, HOUR_MS, MINUTE_MS, dateOf } from '../../src/ledger/windows.ts'
import { SWEEP_EVERY, SWEPT, TOP_DAY } from '../../src/store/redis/keys.ts'
import type { Store } from '../../src/store/store.ts'
import { admitOf, NOON, settleOf } from '../support/commands.ts'
import { useDatabase } from '../support/database.ts'
import { spend, useLocalFiles } from '../support/local-files.ts'
import { redisStore } from '../support/stores.ts'

const after = (days: number) => NOON + days * DAY_MS
const dateAfter = (days: number) => dateOf(after(days))

const block = (store: Store, user: string, fields: Partial<Block> = {}, now = NOON) =>
  store.execute({ op: 'block', now, user, model: '*', block: { at: now, ...fields } })

const enterOf = (id: string, now: number, at = now): Enter => {
  const { user, event } = settleOf(admitOf({ id, now: at }))
  return { op: 'enter', now, user, event }
}

/** Makes one request a day, from the first day to the last. */
async function useDaily(store: Store, [first, last]: [number, number], user = 'alice') {
  for (let day = first; day <= last; day += 1) {
    const admit = admitOf({ id: `${user} ${day}`, user, now: after(day) })
    await store.execute(admit)
    await store.execute(settleOf(admit))
  }
}

const daysOf = async (store: Store) => Object.keys((await store.user('alice'))?.past.days ?? {})

describe('in files', () => {
  const { fileIn, journalOf, openStore, saved } = useLocalFiles()

  /** What the files contain after a store was opened and closed at a given time. */
  async function keptAt(now: number, retention = {}) {
    await (await openStore({ now: () => now, retention })).close()
    return saved().state
  }
  const idsOf = (documents: { id: string }[]) => documents.map(({ id }) => id).sort()

  test('a store that runs for 120 days keeps exactly the retained data on disk', async () => {
    let now = NOON
    const retention = { userDays: 7, historyDays: 90, eventsKept: 50 }
    const store = await openStore({ now: () => now, retention })
    const journalSize = async () => (await stat(journalOf())).size
    const line = JSON.stringify({ v: 2, seq: 1200, command: settleOf(admitOf({ id: '119-1' })) })
    for (let day = 0; day < 120; day += 1) {
      const [user, model] = [`of day ${day}`, `model-${day}`]
      await useDaily(store, [day, day], 'daily')
      for (let n = 0; n < 4; n += 1) await spend(store, `${day}-${n}`, { user, model, now })
      await block(store, user, { until: now + 10 * DAY_MS }, now)
      // The lines of this day, and of the two before if their snapshot was still being written when this day began.
      await expect
        .poll(journalSize, { interval: 1, timeout: 10_000 })
        .toBeLessThan(3 * 11 * line.length)
      now += DAY_MS
    }
    await store.close()
    const { usage, past, profiles, quotas, days, events } = await keptAt(now - DAY_MS, retention)
    expect({
      usage: usage.length,
      past: past.map((doc) => [doc.id, Object.keys(doc.days).length]),
      profiles: profiles.length,
      quotas: quotas.length,
      days: days.length,
      events: events.length,
    }).toEqual({
      // The users of the latest seven days, and the daily user with seven past days.
      usage: 8,
      past: [['daily', 7]],
      profiles: 9,
      // Everyone's counters for all models, for the daily model, and for the models of the latest 32 days.
      quotas: 34,
      days: 90,
      events: 50,
    })
  })

  test('a user and the past days expire after userDays, a day after historyDays, and a block at its end', async () => {
    const store = await openStore()
    await spend(store, '1', { user: 'old' })
    await spend(store, '2', { user: 'old', now: after(1) })
    await block(store, 'endless')
    await block(store, 'timed', { until: after(30) })
    await block(store, 'old', { until: after(12) }, after(1))
    await spend(store, '3', { user: 'young', now: after(6) })
    await store.close()
    const retention = { userDays: 7, historyDays: 10, eventsKept: 1 }

    // A user's clock is at the end of the last request, one second after its start.
    let kept = await keptAt(after(8) + 1000, retention)
    expect(idsOf(kept.usage)).toEqual(['old', 'young'])
    expect(idsOf(kept.past)).toEqual(['old'])
    kept = await keptAt(after(8) + 1001, retention)
    expect(idsOf(kept.usage)).toEqual(['young'])
    expect(kept.past).toEqual([])
    expect(idsOf(kept.profiles)).toEqual(['endless', 'old', 'timed'])
    expect(kept.days.map(({ date }) => date)).toEqual([dateAfter(0), dateAfter(1), dateAfter(6)])
    expect(idsOf(kept.events)).toEqual(['3'])

    kept = await keptAt(after(12) - 1, retention)
    expect(idsOf(kept.profiles)).toEqual(['endless', 'old', 'timed'])
    expect(kept.days.map(({ date }) => date)).toEqual([dateAfter(6)])
    kept = await keptAt(after(12), retention)
    expect(idsOf(kept.profiles)).toEqual(['endless', 'timed'])
    kept = await keptAt(after(365), retention)
    expect(idsOf(kept.profiles)).toEqual(['endless'])
    expect([kept.usage, kept.days]).toEqual([[], []])
  })

  test('the latest userDays of the past of a daily user are kept', async () => {
    const store = await openStore({ retention: { userDays: 3 } })
    await useDaily(store, [0, 9])
    expect((await daysOf(store)).sort()).toEqual([6, 7, 8].map(dateAfter))
  })

  test("everyone's counters of an unused model are removed after the longest window", async () => {
    const store = await openStore()
    await spend(store, '1', { model: 'unused' })
    await spend(store, '2', { now: after(1) })
    await store.close()
    const scopesAt = async (now: number) => (await keptAt(now)).quotas.map(([scope]) => scope)
    expect(await scopesAt(after(QUOTA_DAYS) + 1000)).toEqual(['*', 'unused', 'a/one'])
    expect(await scopesAt(after(QUOTA_DAYS) + 1001)).toEqual(['*', 'a/one'])
    // The quota of all models contains the clock.
    expect(await scopesAt(after(365))).toEqual(['*'])
  })

  test('sessions, the audit trail and the marks of entries survive a restart until they expire', async () => {
    const store = await openStore()
    const login = { op: 'login', now: NOON, session: 'open', until: after(1) } as const
    await store.execute(login)
    await store.execute({ ...login, session: 'ended' })
    await store.execute({ op: 'logout', now: NOON, session: 'ended' })
    const entry = enterOf('1', NOON, NOON - DAY_MS)
    expect(await store.replay([entry])).toEqual([{ applied: true }])
    await spend(store, '2')
    await store.close()
    const again = await openStore()
    expect(await again.session('open', NOON)).toBe(true)
    expect(await again.session('ended', NOON)).toBe(false)
    expect(await again.replay([entry])).toEqual([{ applied: false }])
    const actions = (await again.audit(9)).map(({ action }) => action)
    expect(actions).toEqual(['logout', 'login', 'login'])
    await again.close()

    const kept = async (now: number) => {
      const { sessions, entered } = await keptAt(now)
      return [sessions, entered]
    }
    const [session, entered] = [
      ['open', after(1)],
      ['1', NOON - DAY_MS],
    ]
    expect(await kept(after(1) - 1)).toEqual([[session], [entered]])
    expect(await kept(after(1))).toEqual([[], [entered]])
    expect(await kept(after(6) - 1)).toEqual([[], [entered]])
    expect(await kept(after(6))).toEqual([[], []])
  })

  test('expired data is removed from the files within an hour of the next day, even if no request ever comes again', async () => {
    const timers = vi.spyOn(globalThis, 'setInterval')
    let now = NOON
    const store = await openStore({ now: () => now })
    const hourly = timers.mock.calls.filter(([, ms]) => ms === HOUR_MS)
    const passHour = () => hourly.forEach(([run]) => run())
    await spend(store, '1')
    passHour()
    expect(existsSync(fileIn())).toBe(false)
    now = after(8)
    passHour()
    await expect.poll(() => existsSync(fileIn())).toBe(true)
    expect(saved().state).toMatchObject({ usage: [], past: [], events: [{ id: '1' }] })
    expect(await store.user('alice')).toBeUndefined()
    await expect.poll(async () => (await stat(journalOf())).size).toBe(0)
    now = after(90) + 1
    passHour()
    await expect.poll(() => saved().state.events).toEqual([])
    expect(await store.events(9)).toEqual([])
  })

  test('expired data is removed from the files with the first request of the next day', async () => {
    let now = NOON
    const store = await openStore({ now: () => now })
    await spend(store, '1')
    now = after(8)
    await spend(store, '2', { user: 'bob', now })
    await expect.poll(() => saved().state.usage.map(({ id }) => id)).toEqual(['bob'])
  })
})

describe('in Redis', () => {
  const { redis, upstash } = useDatabase()
  const open = (retention = {}) => redisStore(upstash, { retention })

  /** The time until a key expires, in ms; -1 is never, -2 is a missing key. */
  const left = async (key: string) => Number(await redis.command(['PTTL', `weir:{2}:${key}`]))

  /** Expects keys to expire after these times in ms, or never. */
  async function expectLeft(expected: Record<string, number>): Promise<void> {
    for (const [key, ms] of Object.entries(expected)) {
      const found = await left(key)
      if (ms < 0) {
        expect(found, key).toBe(ms)
        continue
      }
      expect(found, key).toBeGreaterThan(ms - HOUR_MS)
      expect(found, key).toBeLessThanOrEqual(ms)
    }
  }

  const indexOf = async (name: string) =>
    (await redis.command(['ZRANGE', `weir:{2}:${name}`, 0, -1])) as string[]

  test('each document expires after the configured time', async () => {
    const store = open({ userDays: 3, historyDays: 5 })
    await spend(store, '1')
    await expectLeft({
      'usage:alice': 3 * DAY_MS,
      users: 3 * DAY_MS,
      events: 5 * DAY_MS,
      // These contain no personal data, and the day has not ended.
      quota: -1,
      'quota:a/one': -1,
      [`day:${dateOf(NOON)}`]: -1,
      [`models:${dateOf(NOON)}`]: -1,
      [`day:${dateOf(NOON)}:a/one`]: -1,
    })
    await store.replay([enterOf('2', NOON)])
    await store.execute({ op: 'login', now: NOON, session: 'hash', until: NOON + HOUR_MS * 8 })
    await expectLeft({ 'once:2': 7 * DAY_MS, 'session:hash': 8 * HOUR_MS })

    await spend(store, '3', { now: after(1) })
    await expectLeft({
      'usage:alice': 3 * DAY_MS,
      'past:alice': 3 * DAY_MS,
      // A folded day expires like any day that has ended.
      [`day:${dateOf(NOON)}`]: 5 * DAY_MS,
      [`models:${dateOf(NOON)}`]: -2,
      [`day:${dateOf(NOON)}:a/one`]: -2,
      [`day:${dateAfter(1)}`]: -1,
    })
    await store.execute({ op: 'erase', now: after(1), user: 'alice' })
    await expectLeft({ 'usage:alice': -2, 'past:alice': -2, 'erased:alice': 7 * DAY_MS })
  })

  test('a late settlement does not change the expiry of a folded day', async () => {
    const store = open({ historyDays: 5 })
    await spend(store, '1')
    await spend(store, '2', { now: after(1) })
    await store.replay([enterOf('3', after(1), NOON + MINUTE_MS)])
    expect(await store.days([dateOf(NOON)])).toMatchObject([{ total: { requests: 2 } }])
    await expectLeft({ [`day:${dateOf(NOON)}`]: 5 * DAY_MS })
    await store.replay([enterOf('4', after(3), after(2))])
    await expectLeft({ [`day:${dateAfter(2)}`]: 5 * DAY_MS })
  })

  test('a request restarts the retention of a user, and actions of admins do not', async () => {
    const store = open({ userDays: 3 })
    await spend(store, '1')
    await redis.command(['PEXPIRE', 'weir:{2}:usage:alice', HOUR_MS])
    await block(store, 'alice')
    expect(await left('usage:alice')).toBeLessThanOrEqual(HOUR_MS)
    await store.execute({ op: 'block', now: NOON, user: 'alice', model: '*' })
    await spend(store, '2')
    await expectLeft({ 'usage:alice': 3 * DAY_MS })
  })

  test('a profile expires with its last block, and is removed at once when that block is lifted', async () => {
    const store = open()
    const lift = (model: string): Command => ({ op: 'block', now: NOON, user: 'alice', model })
    await block(store, 'alice', { until: after(2) })
    await expectLeft({ 'profile:alice': 2 * DAY_MS })
    const longer: Command = {
      ...{ op: 'block', now: NOON, user: 'alice', model: 'a/one' },
      block: { at: NOON, until: after(4) },
    }
    await store.execute(longer)
    await expectLeft({ 'profile:alice': 4 * DAY_MS })
    await store.execute({ ...longer, model: 'b/two', block: { at: NOON } })
    await expectLeft({ 'profile:alice': -1 })
    await store.execute(lift('b/two'))
    await expectLeft({ 'profile:alice': 4 * DAY_MS })
    await store.execute(lift('a/one'))
    await store.execute(lift('*'))
    await expectLeft({ 'profile:alice': -2 })
    expect(await indexOf('blocks')).toEqual([])
  })

  test('the latest userDays of the past of a daily user are kept', async () => {
    const store = open({ userDays: 3 })
    await useDaily(store, [0, 9])
    expect((await daysOf(store)).sort()).toEqual([6, 7, 8].map(dateAfter))
  })

  test('users leave the index by activity after userDays, and the index by tokens after the next day', async () => {
    const store = open({ userDays: 3 })
    await useDaily(store, [0, 0], 'old')
    await useDaily(store, [1, 3], 'young')
    // The index only has the users' places from their first request of the day, at noon.
    expect((await indexOf('users')).sort()).toEqual(['a:old', 'a:young', 't:young'])
    await useDaily(store, [4, 4], 'young')
    expect((await indexOf('users')).sort()).toEqual(['a:young', 't:young'])
    const score = await redis.command(['ZSCORE', 'weir:{2}:users', 't:young'])
    expect(Math.floor(Number(score) / TOP_DAY)).toBe(Math.floor(after(4) / DAY_MS))
  })

  test('expired blocks leave their index with the first request of a day', async () => {
    const store = open()
    await block(store, 'brief', { until: NOON + HOUR_MS })
    await block(store, 'long', { until: after(9) })
    await block(store, 'endless')
    await useDaily(store, [1, 1])
    expect((await indexOf('blocks')).sort()).toEqual(['endless *', 'long *'])
  })

  test("everyone's counters of an unused model are removed after the longest window", async () => {
    const store = open()
    await spend(store, '1', { model: 'unused' })
    await useDaily(store, [0, QUOTA_DAYS - 1])
    expect((await indexOf('models')).sort()).toEqual(['a/one', 'unused'])
    expect(await left('quota:unused')).toBe(-1)
    await useDaily(store, [QUOTA_DAYS, QUOTA_DAYS])
    expect(await indexOf('models')).toEqual(['a/one'])
    expect([await left('quota:unused'), await left('quota:a/one')]).toEqual([-2, -1])
    expect(await left('quota')).toBe(-1)
  })

  test('expired members are removed in parts, during a busy day', async () => {
    const store = open({ userDays: 1 })
    const length = 2 * SWEPT + 88
    const old = Array.from({ length }, (_, n) => [String(n + 1), `a:old-${n}`]).flat()
    await redis.command(['ZADD', 'weir:{2}:users', ...old])
    const swept = async () =>
      length - (await indexOf('users')).filter((id) => /old/.test(id)).length
    // With the first admission of the day, and with its end.
    await spend(store, '1')
    expect(await swept()).toBe(2 * SWEPT)
    for (let n = 2; n <= SWEEP_EVERY; n += 33) {
      await Promise.all(Array.from({ length: 33 }, (_, k) => spend(store, `${n + k}`)))
    }
    expect(await swept()).toBe(2 * SWEPT)
    await spend(store, 'one more')
    expect(await swept()).toBe(length)
  })
})
