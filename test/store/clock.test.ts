/** The ledger's clock: commands from the future run at the store's own time, and leave no later time in the data. */
import { readFile } from 'node:fs/promises'
import { describe, expect, test } from 'vitest'
import { CLOCK_TOLERANCE_MS } from '../../src/ledger/rules.ts'
import { DAY_MS, HOUR_MS, SECOND_MS, dateOf } from '../../src/ledger/windows.ts'
import type { Store } from '../../src/store/store.ts'
import { admitOf, settleOf } from '../support/commands.ts'
import { reportOf, said, useStores, userOf, type AdmitFields } from '../support/contract.ts'
import { localStore, type TemporaryLocal } from '../support/stores.ts'

const { redis, stores, until } = useStores()

const YEAR = 365 * DAY_MS
const TOLERANCE = 60_000

/** The most that the clocks of a machine and of its processes may differ. */
const APART = 5 * SECOND_MS

const TOO_FAR: [string, number][] = [
  ['a year', YEAR],
  ['61 seconds', 61_000],
]

/** The time at which an admission ran. */
async function admittedAt(store: Store, fields: AdmitFields): Promise<number> {
  const answer = await store.execute(admitOf(fields))
  if (!answer.ok) throw new Error('It was refused.')
  return answer.at
}

/** Expects a time to be the store's present time. */
const expectNow = (at: number | undefined) => {
  expect(at).toBeGreaterThan(Date.now() - APART)
  expect(at).toBeLessThan(Date.now() + APART)
}

test('the tolerance is a minute', () => {
  expect(CLOCK_TOLERANCE_MS).toBe(TOLERANCE)
})

describe.each(stores)('%s', (_, openStore) => {
  const open = () => openStore({ tolerance: TOLERANCE })

  test('the very first command runs at the time of the store', async () => {
    for (const off of [YEAR, -YEAR]) {
      await redis.flush()
      const at = await admittedAt(await open(), { id: '1', now: Date.now() + off })
      expectNow(at)
    }
  })

  test.each(TOO_FAR)('a command %s ahead runs at the time of the store', async (_, ahead) => {
    const store = await open()
    const first = await admittedAt(store, { id: '1', now: Date.now() })
    const at = await admittedAt(store, { id: '2', user: 'bob', now: first + ahead })
    expectNow(at)
    expect(at).toBeGreaterThanOrEqual(first)
  })

  test('a command up to a minute ahead runs at its own time', async () => {
    const store = await open()
    const first = await admittedAt(store, { id: '1', now: Date.now() })
    expect(await admittedAt(store, { id: '2', user: 'bob', now: first + 59_000 })).toBe(
      first + 59_000,
    )
    expect(await admittedAt(store, { id: '3', now: first + 59_000 + TOLERANCE })).toBe(
      first + 59_000 + TOLERANCE,
    )
  })

  test('the clock never goes backwards, for a user or for everyone', async () => {
    const store = await open()
    const first = await admittedAt(store, { id: '1', now: Date.now() })
    const ahead = first + 59_000
    await admittedAt(store, { id: '2', now: ahead })
    // The store's own time is now behind.
    for (const now of [first + YEAR, first, first - YEAR]) {
      expect(await admittedAt(store, { id: `alice at ${now}`, now })).toBe(ahead)
      expect(await admittedAt(store, { id: `bob at ${now}`, user: 'bob', now })).toBe(ahead)
    }
    expect((await userOf(store)).usage.at).toBe(ahead)
  })

  test('settlements from the future are accepted, and are not late', async () => {
    const store = await open()
    const admit = admitOf({ id: '1', now: Date.now() })
    await store.execute(admit)
    expect(await store.execute(settleOf(admit, {}, Date.now() + YEAR))).toEqual({ applied: true })
    const [event] = await store.events(1)
    expectNow(event?.at)
    expect(event).not.toHaveProperty('late')
    // By the clock of the command, the lease would have been lost.
    expect((await userOf(store)).usage.models).toMatchObject({
      'a/one': { row: { requests: 1, exact: 1 } },
    })
  })

  test('entries from the future are entered now, and can be entered for a week', async () => {
    const store = await open()
    await admittedAt(store, { id: '1', now: Date.now() })
    const now = Date.now() + YEAR
    const ended = settleOf(admitOf({ id: '2', now }))
    const old = settleOf(admitOf({ id: '3', now: Date.now() - HOUR_MS }))
    const answers = await store.replay([
      { ...ended, op: 'enter', now },
      { ...old, op: 'enter', now },
    ])
    expect(answers).toEqual([{ applied: true }, { applied: true }])
    const at = new Map((await store.events(9)).map((event) => [event.id, event.at]))
    expectNow(at.get('2'))
    expect(at.get('3')).toBe(old.event.at)
  })

  test('a block from the future is in force now, and is recorded with the present time', async () => {
    const store = await open()
    await admittedAt(store, { id: '1', now: Date.now() })
    const now = Date.now() + YEAR
    await store.execute({ op: 'block', now, user: 'alice', model: '*', block: { at: now } })
    expect(await store.execute(admitOf({ id: '2', now: Date.now() }))).toMatchObject({
      reason: 'blocked',
    })
    expectNow((await userOf(store)).profile.blocks['*']?.at)
    expectNow((await store.audit(1))[0]?.at)
    // A block that has expired only by that clock is still in force.
    const until = Date.now() + HOUR_MS
    const block = { at: Date.now(), until }
    await store.execute({ op: 'block', now: Date.now(), user: 'bob', model: '*', block })
    await store.execute({ op: 'block', now, user: 'bob', model: 'b/two' })
    expect((await userOf(store, 'bob')).profile.blocks).toMatchObject({ '*': { until } })
  })

  test('clearing from the future forgets today, and no later day', async () => {
    const store = await open()
    const first = await admittedAt(store, { id: '1', now: Date.now() })
    const [today, ahead] = [dateOf(first), dateOf(first + YEAR)]
    await store.execute(settleOf(admitOf({ id: '1', now: first })))
    await store.execute({ op: 'clear', now: first + YEAR })
    const days = await store.days([ahead, dateOf(Date.now()), today])
    for (const day of days) expect(day).toMatchObject({ date: today, total: { requests: 0 } })
    expect(await store.events(9)).toEqual([])
    expectNow((await store.audit(1))[0]?.at)
    await store.execute(admitOf({ id: '2', now: first }))
    await store.execute(settleOf(admitOf({ id: '2', now: first })))
    expect((await store.days([dateOf(Date.now()), today]))[0]).toMatchObject({
      total: { requests: 1 },
    })
  })

  test('actions of admins in the future are recorded with the present time, and move no clock', async () => {
    const store = await open()
    const first = await admittedAt(store, { id: '1', now: Date.now() })
    const now = first + YEAR
    await store.execute({ op: 'login', now, session: 'hash', until: now + DAY_MS })
    await store.execute({ op: 'note', now, action: 'export' })
    await store.execute({ op: 'logout', now, session: 'hash' })
    await store.execute({ op: 'erase', now, user: 'nobody' })
    const trail = await store.audit(9)
    expect(trail.map(({ action }) => action)).toEqual(['erase', 'logout', 'export', 'login'])
    for (const { at } of trail) expectNow(at)
    expect(await store.session('hash', first)).toBe(false)
    expectNow(await admittedAt(store, { id: '2', now: Date.now() }))
  })

  test('a user erased from the future can continue', async () => {
    const store = await open()
    await admittedAt(store, { id: '1', now: Date.now() })
    await store.execute({ op: 'erase', now: Date.now() + YEAR, user: 'alice' })
    const later = Date.now() + APART
    const ended = settleOf(admitOf({ id: '2', now: later }))
    expect(await store.replay([{ ...ended, op: 'enter', now: later }])).toEqual([{ applied: true }])
  })

  test('a report from the future is about today', async () => {
    const store = await open()
    const first = await admittedAt(store, { id: '1', now: Date.now() })
    const tomorrow = first - (first % DAY_MS) + DAY_MS
    const models = { 'a/one': said(5, 1, tomorrow), 'b/two': said(5, 1, tomorrow + YEAR) }
    const command = reportOf(models, { now: first + YEAR })
    const answer = await store.execute(command)
    if (!answer.ok) throw new Error('It was refused.')
    expectNow(answer.at)
    if (dateOf(answer.at) !== dateOf(first)) return
    expect(Object.keys((await userOf(store)).usage.reported)).toEqual(['a/one'])
  })
})

test('Redis is asked for the time only if a command is far ahead, like the first one after a pause', async () => {
  const [, open] = stores.find(([name]) => name === 'Redis over REST')!
  const store = await open({ tolerance: TOLERANCE })
  const asked = async (id: string, now: number) => {
    await redis.resetStats()
    const at = await admittedAt(store, { id, now })
    return { at, time: (await redis.commandstats())['time'] ?? 0 }
  }
  const { at: first, time } = await asked('1', Date.now())
  expect(time).toBe(1)
  expect(await asked('2', first + 1000)).toEqual({ at: first + 1000, time: 0 })
  expect(await asked('3', first - HOUR_MS)).toEqual({ at: first + 1000, time: 0 })
  const hourAgo = { at: Date.now() - HOUR_MS, v: 2 }
  await redis.command(['SET', 'weir:{2}:quota', JSON.stringify(hourAgo)])
  const later = await asked('4', Date.now())
  expect(later.time).toBe(1)
  expectNow(later.at)
})

/** Sends every command that a gateway with a wrong clock may send. */
async function sendAll(store: Store, clock: () => number) {
  await store.execute({ op: 'erase', now: clock(), user: 'bob' })
  const running = admitOf({ id: '1', now: clock() })
  await store.execute(running)
  await store.execute(admitOf({ id: '2', now: clock(), model: 'b/two', user: 'bob' }))
  await store.execute(settleOf(running, {}, clock()))
  const served = settleOf(admitOf({ id: '3', user: 'carol', now: clock() }))
  await store.replay([{ ...served, op: 'enter', now: clock() }])
  const block = { at: clock(), reason: 'spam' }
  await store.execute({ op: 'block', now: clock(), user: 'alice', model: '*', block })
  await store.execute({ op: 'block', now: clock(), user: 'alice', model: 'b/two' })
  await store.execute(reportOf({ 'a/one': said(5, 1, clock()) }, { now: clock() }))
  await store.execute({ op: 'note', now: clock(), action: 'export' })
  await store.execute({ op: 'clear', now: clock() })
  await store.execute(admitOf({ id: '4', now: clock(), user: 'dave' }))
}

/** The times and dates of the coming year in a text. */
const future = (text: string) => [
  ...(text.match(/\b\d{13,}\b/g) ?? []).filter((at) => Number(at) > Date.now() + 2 * DAY_MS),
  ...(text.match(/\b\d{4}-\d\d-\d\d\b/g) ?? []).filter(
    (date) => date > dateOf(Date.now() + 2 * DAY_MS),
  ),
]

describe('no future time is stored', () => {
  test('in Redis', async () => {
    const [, open] = stores.find(([name]) => name === 'Redis over REST')!
    await sendAll(await open({ tolerance: TOLERANCE }), () => Date.now() + YEAR)
    const texts: string[] = []
    const today = Math.floor(Date.now() / DAY_MS)
    for (const key of (await redis.command(['KEYS', '*'])) as string[]) {
      const type = await redis.command(['TYPE', key])
      texts.push(key)
      if (type === 'string') texts.push(String(await redis.command(['GET', key])))
      else if (type === 'list')
        texts.push(...((await redis.command(['LRANGE', key, 0, -1])) as string[]))
      else {
        const flat = (await redis.command(['ZRANGE', key, 0, -1, 'WITHSCORES'])) as string[]
        const most: Record<string, (score: number) => boolean> = {
          // Scores by minute, and scores by day and tokens.
          users: (score) => score < (today + 2) * 1440 || Math.floor(score / 1e10) <= today + 1,
          models: (score) => score <= today + 1,
          blocks: () => true,
        }
        const fits = most[key.slice('weir:{2}:'.length)]
        for (let n = 1; n < flat.length; n += 2) expect(fits?.(Number(flat[n])), key).toBe(true)
      }
    }
    expect(texts.length).toBeGreaterThan(10)
    expect(texts.flatMap(future)).toEqual([])
  })

  test('in files, also after a restart', async () => {
    const store: TemporaryLocal = until(await localStore(Date.now, { tolerance: TOLERANCE }))
    await sendAll(store, () => Date.now() + YEAR)
    const journal = await readFile(`${store.file}.journal`, 'utf8')
    const commands = journal
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => (JSON.parse(line) as { command: { now: number } }).command.now)
    expect(commands.length).toBeGreaterThan(3)
    for (const now of commands) expectNow(now)
    const before = [await store.user('alice'), await store.audit(9), await store.events(9)]
    await store.close()
    expect(future(await readFile(store.file, 'utf8'))).toEqual([])
    expect(before).not.toContain(undefined)
  })
})
