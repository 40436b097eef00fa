import fc from 'fast-check'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { createLog } from '../../src/log.ts'
import { withFallback, type FallbackStore } from '../../src/store/fallback/store.ts'
import { createMemory } from '../../src/store/fallback/memory.ts'
import { memoryQueue } from '../../src/store/fallback/queue.ts'
import { fileQueue } from '../../src/store/fallback/queue-file.ts'
import { quotaKey, usageKey } from '../../src/store/redis/keys.ts'
import { LEDGER_SCRIPT } from '../../src/store/redis/script-files.ts'
import {
  CommandError,
  NewerError,
  StoreError,
  answerOf,
  type Failed,
  type Store,
} from '../../src/store/store.ts'
import type { Admit, Command } from '../../src/ledger/commands.ts'
import type { Admitted, Answer, AnswerOf, Refusal, Settled } from '../../src/ledger/answers.ts'
import { rowsOf, runningOf, whole } from '../../src/ledger/rows.ts'
import { usedIn, type Limits, type Standing } from '../../src/ledger/policy.ts'
import { VERSIONS } from '../../src/ledger/shapes.ts'
import { UNLIMITED } from '../../src/ledger/documents.ts'
import { DAY_MS, SECOND_MS } from '../../src/ledger/windows.ts'
import { amounts } from '../support/amounts.ts'
import { admitOf, AMPLE, failureOf, NOON, settleOf } from '../support/commands.ts'
import { reducerState } from '../support/state.ts'
import { useDatabase } from '../support/database.ts'
import { RETENTION, redisStore } from '../support/stores.ts'

const { redis, upstash } = useDatabase()

const KEYS = [usageKey('alice'), quotaKey('*'), quotaKey('a/one')]

/** What happens to a call. A late call arrives after its caller has stopped waiting. */
type Fate = 'works' | 'never arrives' | 'loses its answer' | 'arrives late'

/** A working store. `fate` decides what happens to its calls. */
function world(mode: 'open' | 'closed' = 'open') {
  const state = reducerState(RETENTION)
  const ids: string[] = []
  const delayed: (() => void)[] = []
  const lines: Record<string, unknown>[] = []
  const here = {
    fate: 'works' as Fate,
    now: NOON,
    calls: 0,
    hangs: false,
    /** Users whose documents were written by a newer version. */
    newer: new Set<string>(),
  }

  async function meet<T>(work: () => T): Promise<T> {
    here.calls += 1
    if (here.hangs) return new Promise(() => undefined)
    if (here.fate === 'works') return work()
    if (here.fate === 'loses its answer') work()
    if (here.fate === 'arrives late') delayed.push(work)
    throw new StoreError('the database call failed')
  }
  const run = (command: Command): Answer | Failed => {
    if ('user' in command && here.newer.has(command.user)) return { error: 'newer' }
    const answer = state.do(command)
    if ('applied' in answer && answer.applied && 'event' in command) ids.push(command.event.id)
    return answer
  }
  const unused = () => Promise.reject(new Error('not asked for'))
  const store: Store = {
    execute: async <C extends Command>(command: C) =>
      answerOf(await meet(() => run(command) as AnswerOf<C> | Failed)),
    replay: (entries) => meet(() => entries.map((entry) => run(entry) as Settled | Failed)),
    listUsers: () => meet(() => ({ users: [] })),
    policy: unused,
    searchLabels: unused,
    searchIds: unused,
    users: unused,
    listProfiles: unused,
    blockedUsers: unused,
    overview: unused,
    takeTurn: unused,
    days: unused,
    refusals: unused,
    pasts: unused,
    session: unused,
    user: unused,
    audit: unused,
    alerts: unused,
    events: unused,
    eventPage: unused,
    probe: () => meet(() => ({})),
  }
  const log = createLog({
    level: 'info',
    format: 'json',
    write: (line) => lines.push(JSON.parse(line) as Record<string, unknown>),
  })
  const fallback: FallbackStore = withFallback({
    store,
    mode,
    queue: memoryQueue(log),
    retention: RETENTION,
    connected: 'connected',
    now: () => here.now,
    log,
  })
  const logged = (msg: string) => lines.filter((line) => line.msg === msg)
  return { here, store, state, ids, delayed, fallback, lines, logged }
}

type World = ReturnType<typeof world>

/** Lets three calls fail, so that the breaker opens. */
async function goAway({ here, fallback }: World, fate: Fate = 'never arrives'): Promise<void> {
  here.fate = fate
  for (let n = 0; n < 3; n += 1) {
    await fallback.listUsers({ sort: 'tokens', limit: 1, now: here.now }).catch(() => undefined)
  }
  expect(fallback.health().degraded).toBe(true)
}

/** The store works again, and enough time passes. */
async function comeBack({ here, fallback }: World): Promise<void> {
  here.fate = 'works'
  for (let n = 0; n < 5; n += 1) {
    here.now += 6 * SECOND_MS
    await fallback.tend()
  }
}

test('three calls that fail in a row open the breaker, and then no call waits for the store', async () => {
  const it = world()
  await goAway(it)
  const { calls } = it.here
  it.here.hangs = true
  expect(await it.fallback.execute(admitOf({ id: '1' }))).toMatchObject({
    ok: true,
    degraded: true,
  })
  await expect(
    it.fallback.execute({ op: 'block', now: NOON, user: 'bob', model: '*' }),
  ).rejects.toThrow(StoreError)
  expect(it.here.calls).toBe(calls)
  expect(it.logged('store.down')).toHaveLength(1)
})

test('failures with successes between them do not open the breaker', async () => {
  const it = world()
  for (const fate of ['never arrives', 'never arrives', 'works', 'never arrives'] as const) {
    it.here.fate = fate
    await it.fallback.listUsers({ sort: 'tokens', limit: 1, now: NOON }).catch(() => undefined)
  }
  expect(it.fallback.health()).toEqual({ degraded: false, queued: 0 })
})

test('commands that shared a call and failed with it are one failure', async () => {
  const it = world()
  const lost = new StoreError('the database call failed')
  it.store.execute = () => Promise.reject(lost)
  for (let n = 0; n < 5; n += 1) await it.fallback.execute(admitOf({ id: `${n}` }))
  expect(it.fallback.health().degraded).toBe(false)
})

test('failures of calls from before the recovery do not open the breaker again', async () => {
  const it = world()
  const late: ((error: Error) => void)[] = []
  it.store.execute = () => new Promise((_, reject) => late.push(reject))
  const waiting = ['1', '2', '3'].map((id) => it.fallback.execute(admitOf({ id })))
  await goAway(it)
  await comeBack(it)
  for (const reject of late) reject(new StoreError('the database call failed'))
  await Promise.all(waiting)
  expect(it.fallback.health().degraded).toBe(false)
})

test('a command that the store cannot run says nothing about the store', async () => {
  const it = world()
  it.store.execute = () => Promise.reject(new CommandError('no'))
  for (let n = 0; n < 5; n += 1) {
    await expect(it.fallback.execute(admitOf({ id: `${n}` }))).rejects.toThrow(CommandError)
  }
  expect(it.fallback.health().degraded).toBe(false)
  expect(it.fallback.isUnacknowledged('0')).toBe(false)
})

test('the store is retried with waits that double up to five seconds', async () => {
  const it = world()
  await goAway(it)
  const tries: number[] = []
  for (let ms = 0; ms <= 30_000; ms += 50) {
    it.here.now = NOON + ms
    const work = it.fallback.tend()
    if (work) tries.push(ms)
    await work
  }
  expect(tries).toEqual([250, 750, 1750, 3750, 7750, 12_750, 17_750, 22_750, 27_750])
})

test('an attempt that was cut off with its request does not prevent later attempts', async () => {
  const it = world()
  await goAway(it)
  it.here.hangs = true
  it.here.now += SECOND_MS
  expect(it.fallback.tend()).toBeInstanceOf(Promise)
  expect(it.fallback.tend()).toBeUndefined()
  it.here.hangs = false
  it.here.now += 13 * SECOND_MS
  it.here.fate = 'works'
  await it.fallback.tend()
  expect(it.fallback.health().degraded).toBe(false)
})

test('requests that were served during an outage are counted after it', async () => {
  const it = world()
  await goAway(it)
  const admit = admitOf({ id: '1', everyone: { total: AMPLE } })
  await it.fallback.execute(admit)
  expect(await it.fallback.execute(settleOf(admit))).toEqual({ applied: false, queued: true })
  expect(it.fallback.health()).toEqual({ degraded: true, queued: 1 })
  await comeBack(it)
  expect(it.fallback.health()).toEqual({ degraded: false, queued: 0 })
  const [day] = it.state.days.values()
  expect(day?.total).toMatchObject({ requests: 1, exact: 1, charged: 15 })
  const quota = it.state.quotas.get('*')
  expect(usedIn(quota?.windows, 'day', NOON)).toEqual(amounts(1, 15))
  expect(it.logged('store.up')).toHaveLength(1)
  expect(it.logged('usage.replayed')).toMatchObject([{ events: 1 }])
})

test('queued entries are logged in the form that can be replayed', async () => {
  const it = world()
  const sure = admitOf({ id: '1' })
  await it.fallback.execute(sure)
  await goAway(it)
  const unsure = admitOf({ id: '2', everyone: { total: AMPLE, model: AMPLE } })
  await it.fallback.execute(unsure)
  for (const admit of [sure, unsure]) await it.fallback.execute(settleOf(admit))
  expect(it.logged('usage.unrecorded')).toMatchObject([
    { op: 'settle', usage: settleOf(sure).event },
    { op: 'enter', usage: settleOf(unsure).event },
  ])
})

test('during an outage known blocks stay in force until their end', async () => {
  const it = world()
  const block = { at: NOON, reason: 'spam', until: NOON + 60 * SECOND_MS }
  await it.store.execute({ op: 'block', now: NOON, user: 'alice', model: '*', block })
  const refusal = { ok: false, reason: 'blocked', model: '*', why: 'spam', until: block.until }
  expect(await it.fallback.execute(admitOf({ id: '1' }))).toEqual(refusal)
  await goAway(it)
  const again = await it.fallback.execute(admitOf({ id: '2', now: NOON + SECOND_MS }))
  expect(again).toEqual({ ...refusal, degraded: true })
  const later = admitOf({ id: '3', now: block.until })
  expect(await it.fallback.execute(later)).toMatchObject({ ok: true, degraded: true })
})

test('a block that the store has lifted is forgotten', async () => {
  const it = world()
  const block = { op: 'block', now: NOON, user: 'alice', model: 'a/one' } as const
  await it.store.execute({ ...block, block: { at: NOON } })
  await it.fallback.execute(admitOf({ id: '1' }))
  await it.store.execute(block)
  await it.fallback.execute(admitOf({ id: '2' }))
  await goAway(it)
  expect(await it.fallback.execute(admitOf({ id: '3' }))).toMatchObject({ ok: true })
})

test('a block that was set or lifted through this isolate applies in it at once', async () => {
  const it = world()
  const block = { op: 'block', now: NOON, user: 'alice', model: '*' } as const
  await it.fallback.execute({ ...block, block: { at: NOON, reason: 'spam' } })
  await it.fallback.execute({ ...block, user: 'bob', block: { at: NOON } })
  await it.fallback.execute({ ...block, user: 'bob' })
  await goAway(it)
  const refusal = { ok: false, reason: 'blocked', why: 'spam', degraded: true }
  expect(await it.fallback.execute(admitOf({ id: '1' }))).toMatchObject(refusal)
  expect(await it.fallback.execute(admitOf({ id: '2', user: 'bob' }))).toMatchObject({ ok: true })
})

test('a block that could not be set is not remembered', async () => {
  const it = world()
  it.here.fate = 'never arrives'
  const block = { op: 'block', now: NOON, user: 'alice', model: '*', block: { at: NOON } } as const
  await expect(it.fallback.execute(block)).rejects.toThrow(StoreError)
  await goAway(it)
  expect(await it.fallback.execute(admitOf({ id: '1' }))).toMatchObject({ ok: true })
})

test('a user who could not be erased stays blocked', async () => {
  const it = world()
  const block = { op: 'block', now: NOON, user: 'alice', model: '*', block: { at: NOON } } as const
  await it.fallback.execute(block)
  await goAway(it)
  const erase = { op: 'erase', now: NOON, user: 'alice' } as const
  await expect(it.fallback.execute(erase)).rejects.toThrow(StoreError)
  expect(await it.fallback.execute(admitOf({ id: '1' }))).toMatchObject({ reason: 'blocked' })
})

test('lifting blocks of unknown users displaces no other user', async () => {
  const it = world()
  const block = { op: 'block', now: NOON, user: 'alice', model: '*' } as const
  await it.fallback.execute({ ...block, block: { at: NOON } })
  for (let n = 0; n < 1000; n += 1) await it.fallback.execute({ ...block, user: `user-${n}` })
  await goAway(it)
  expect(await it.fallback.execute(admitOf({ id: '1' }))).toMatchObject({ reason: 'blocked' })
})

test('during an outage users continue from their last known usage', async () => {
  const it = world()
  const limits: { model: Limits } = { model: { tokensPerDay: 350, requestsPerDay: 10 } }
  const first = admitOf({ id: '1', limits, reserved: 100 })
  await it.fallback.execute(first)
  await it.fallback.execute(settleOf(first))
  await it.fallback.execute(admitOf({ id: '2', limits, reserved: 100 }))
  await goAway(it)
  const third = await it.fallback.execute(admitOf({ id: '3', limits, reserved: 200 }))
  const used = { day: amounts(3, 315) }
  expect(third).toMatchObject({ ok: true, degraded: true, limits: [{ of: 'user', used }] })
  const fourth = await it.fallback.execute(admitOf({ id: '4', limits, reserved: 100 }))
  expect(fourth).toMatchObject({ ok: false, unit: 'tokens', used: 315, degraded: true })
  expect(it.fallback.isUnacknowledged('4')).toBe(false)
})

test('a user whom the store refused is refused during an outage', async () => {
  const it = world()
  const limits: { model: Limits } = { model: { tokensPerDay: 150, requestsPerDay: 10 } }
  const other = admitOf({ id: '1', limits, reserved: 100 })
  await it.store.execute(other)
  expect(await it.fallback.execute(admitOf({ id: '2', limits, reserved: 100 }))).toMatchObject({
    ok: false,
  })
  await goAway(it)
  const again = await it.fallback.execute(admitOf({ id: '3', limits, reserved: 100 }))
  expect(again).toMatchObject({ ok: false, used: 100, degraded: true })
})

test('a limit that is only known from a refusal holds during an outage, until an answer has another', async () => {
  const it = world()
  const limits = { model: { tokensPerDay: 1000, requestsPerDay: 4 } }
  const everyone = { total: { tokensPerDay: 1000 } }
  const ask = (id: string, more: Partial<Admit> = {}) =>
    it.fallback.execute(admitOf({ id, limits, everyone, ...more }))
  const own = (tokensPerDay: number) =>
    it.store.execute({
      ...{ op: 'profile', now: NOON, user: 'alice', set: { limits: { '*': { tokensPerDay } } } },
    })
  await own(150)
  await it.store.execute(admitOf({ id: '1', limits, everyone }))
  const refusal = { ok: false, of: 'user', limit: 150, used: 100 }
  expect(await ask('2')).toMatchObject(refusal)
  await goAway(it)
  expect(await ask('3')).toMatchObject({ ...refusal, degraded: true })
  await comeBack(it)
  await own(900)
  expect(await ask('4')).toMatchObject({ ok: true })
  await goAway(it)
  expect(await ask('5')).toMatchObject({ ok: true, degraded: true })
  // The other limits are those of the environment.
  for (const id of ['6', '7', '8']) await ask(id)
  expect(await ask('9')).toMatchObject({ unit: 'requests', limit: 4, used: 4 })
  await comeBack(it)
  const settings = { globalLimits: { total: { tokensPerDay: 250 } } }
  await it.store.execute({ op: 'settings', now: NOON, set: settings })
  const global = { ok: false, of: 'everyone', model: '*', limit: 250 }
  expect(await ask('10', { user: 'bob' })).toMatchObject(global)
  await goAway(it)
  expect(await ask('11', { user: 'bob', model: 'b/two' })).toMatchObject({
    ...global,
    degraded: true,
  })
})

test('requests that were served during an outage are charged their usage', async () => {
  const it = world()
  const limits = { model: { tokensPerDay: 215, requestsPerDay: 10 } }
  const everyone = { total: { requestsPerDay: 4 } }
  const ask = (id: string) => it.fallback.execute(admitOf({ id, limits, everyone }))
  await ask('0')
  await it.fallback.execute(settleOf(admitOf({ id: '0' })))
  await goAway(it)
  await ask('1')
  await it.fallback.execute(settleOf(admitOf({ id: '1' }), { charged: 15 }))
  await ask('2')
  await it.fallback.execute(failureOf(admitOf({ id: '2' })))
  const used = { day: amounts(4, 130) }
  expect(await ask('3')).toMatchObject({
    degraded: true,
    // The failed request still counts for the user, but not for everyone.
    limits: [
      { of: 'user', used },
      { of: 'everyone', used: { day: amounts(3, 130) } },
    ],
  })
  expect(await ask('4')).toMatchObject({ ok: false, unit: 'tokens', used: 130 })
})

test('a settlement replaces the reservation in what is known, before an outage and during it', async () => {
  const it = world()
  const limits = { model: { tokensPerDay: 400 }, total: { tokensPerDay: 400 } }
  const everyone = { total: { tokensPerDay: 400 }, model: { tokensPerDay: 400 } }
  const ask = (id: string) => it.fallback.execute(admitOf({ id, limits, everyone }))
  for (const id of ['1', '2', '3', '4']) expect(await ask(id)).toMatchObject({ ok: true })
  await it.fallback.execute(settleOf(admitOf({ id: '1' })))
  await it.fallback.execute(failureOf(admitOf({ id: '2' })))
  await goAway(it)
  const used = (tokens: number, ofUser: number, ofAll: number) =>
    (['user', 'user', 'everyone', 'everyone'] as const).map((of) => {
      return { of, used: { day: { tokens, requests: of === 'user' ? ofUser : ofAll } } }
    })
  expect(await ask('5')).toMatchObject({ ok: true, limits: used(315, 5, 4) })
  expect(await ask('6')).toMatchObject({ ok: false, used: 315, degraded: true })
  expect(await it.fallback.execute(settleOf(admitOf({ id: '3' })))).toMatchObject({ queued: true })
  expect(await ask('7')).toMatchObject({ ok: true, limits: used(330, 6, 5) })
  await it.fallback.execute(settleOf(admitOf({ id: '7' })))
  expect(await ask('8')).toMatchObject({ ok: true, limits: used(345, 7, 6) })
})

test('a settlement of before the last answer is not taken off twice', async () => {
  const it = world()
  const everyone = { total: { tokensPerDay: 100_000 } }
  const ask = (id: string) => it.fallback.execute(admitOf({ id, everyone }))
  await goAway(it)
  await ask('1')
  await comeBack(it)
  await ask('2')
  // The store does not count the first yet, so there is nothing to give back.
  await it.fallback.execute(settleOf(admitOf({ id: '1' })))
  await goAway(it)
  expect(await ask('3')).toMatchObject({ limits: [{}, { used: { day: { tokens: 200 } } }] })
})

test("a browser's report tells what its user has used and is blocked from", async () => {
  const it = world()
  const limits = { model: { tokensPerDay: 150 } }
  const report = (user: string) => {
    const models = { 'a/one': { tokens: 1, requests: 1, resetAt: NOON + DAY_MS / 2 } }
    const own = { default: limits.model, models: {} }
    return it.fallback.execute({ op: 'report', now: NOON, user, models, limits: own })
  }
  // Through another instance.
  await it.store.execute(admitOf({ id: '1', limits }))
  const block = { at: NOON, reason: 'spam' }
  await it.store.execute({ op: 'block', now: NOON, user: 'bob', model: '*', block })
  for (const user of ['alice', 'bob', 'carol']) await report(user)
  await goAway(it)
  const ask = (id: string, user: string, everyone = {}) =>
    it.fallback.execute(admitOf({ id, user, limits, ...everyone }))
  expect(await ask('2', 'alice')).toMatchObject({ ok: false, used: 100, degraded: true })
  expect(await ask('3', 'bob')).toMatchObject({ ok: false, reason: 'blocked', why: 'spam' })
  // Anyone can report: that alone makes nobody known.
  const everyone = { everyone: { total: { tokensPerDay: 1000 } } }
  await expect(ask('4', 'carol', everyone)).rejects.toThrow(StoreError)
})

test('strangers together have a hundredth of the limits of everyone, and known users all of it', async () => {
  const it = world()
  const everyone = { total: { tokensPerDay: 30_000, requestsPerDay: 400 } }
  const ask = (id: string, user: string) =>
    it.fallback.execute(admitOf({ id, user, everyone })).catch((error: unknown) => error)
  await ask('0', 'alice')
  await goAway(it)
  for (const id of ['1', '2', '3']) {
    expect(await ask(id, `stranger-${id}`)).toMatchObject({ ok: true, degraded: true })
  }
  expect(await ask('4', 'stranger-4')).toBeInstanceOf(StoreError)
  expect(it.fallback.isUnacknowledged('4')).toBe(false)
  // What is used takes the place of what was reserved: 15 of 100. Then the requests are used up.
  for (const id of ['1', '2', '3']) {
    const admit = admitOf({ id, user: `stranger-${id}` })
    await it.fallback.execute(settleOf(admit))
  }
  expect(await ask('5', 'stranger-5')).toMatchObject({ ok: true })
  expect(await ask('6', 'stranger-1')).toBeInstanceOf(StoreError)
  for (let n = 7; n < 30; n += 1) expect(await ask(`${n}`, 'alice')).toMatchObject({ ok: true })
  // Without limits of everyone there is nothing to share.
  expect(await it.fallback.execute(admitOf({ id: '30', user: 'bob' }))).toMatchObject({ ok: true })
  // Another outage of the same day gives no new share, and whom the store has met is no stranger.
  await comeBack(it)
  await ask('31', 'stranger-1')
  await goAway(it)
  expect(await ask('32', 'stranger-6')).toBeInstanceOf(StoreError)
  expect(await ask('33', 'stranger-1')).toMatchObject({ ok: true, degraded: true })
})

test('strangers with a key or a signed token together have a tenth of the limits of everyone', async () => {
  const it = world()
  const everyone = { total: { requestsPerDay: 20, tokensPerDay: 1e6 } }
  const ask = (id: string, more: Partial<Admit>) =>
    it.fallback
      .execute(admitOf({ id, user: `stranger-${id}`, everyone, ...more }))
      .catch((error: unknown) => error)
  await goAway(it)
  expect(await ask('1', { key: { id: 'k', hash: 'h' } })).toMatchObject({
    ok: true,
    degraded: true,
  })
  expect(await ask('2', { claims: { issuedAt: NOON, plan: 'pro' } })).toMatchObject({ ok: true })
  expect(await ask('3', { claims: { issuedAt: NOON } })).toBeInstanceOf(StoreError)
  // Those who may have made up their token have a share of their own.
  expect(await ask('4', {})).toMatchObject({ ok: true })
  expect(await ask('5', {})).toBeInstanceOf(StoreError)
})

test('during an outage a known user keeps the limits that the store applied last', async () => {
  const it = world()
  const limits = { model: { tokensPerDay: 1000 } }
  const ask = (id: string, more: Partial<Admit> = {}) =>
    it.fallback.execute(admitOf({ id, limits, ...more }))
  const profile = (set: object) =>
    it.fallback.execute({ op: 'profile', now: NOON, user: 'alice', set })
  await profile({ limits: { '*': { tokensPerDay: 300 } } })
  await ask('1')
  await goAway(it)
  expect(await ask('2')).toMatchObject({ ok: true, degraded: true })
  expect(await ask('3')).toMatchObject({ ok: true })
  expect(await ask('4')).toMatchObject({ ok: false, limit: 300, used: 300 })
  expect(await ask('5', { user: 'bob', reserved: 900 })).toMatchObject({ ok: true })
  await comeBack(it)
  await profile({ limits: { '*': { tokensPerDay: UNLIMITED } } })
  await ask('6')
  await goAway(it)
  expect(await ask('7', { reserved: 5000 })).toMatchObject({ ok: true, degraded: true })
})

test('during an outage a key or a token that was refused stays refused, and only that one', async () => {
  const it = world()
  const good = { id: 'k1', hash: 'good' }
  const bad = { id: 'k1', hash: 'bad' }
  const ask = (id: string, more: Partial<Admit>) => it.fallback.execute(admitOf({ id, ...more }))
  const key = { hash: 'good', start: 'weir_1', last4: 'good', created: NOON }
  await it.fallback.execute({
    op: 'key',
    now: NOON,
    user: 'alice',
    id: 'k1',
    action: 'create',
    key,
  })
  await it.fallback.execute({ op: 'profile', now: NOON, user: 'bob', set: { notBefore: NOON } })
  const old = { user: 'bob', claims: { issuedAt: NOON - 1 } }
  await ask('1', { key: good })
  expect(await ask('2', { key: bad })).toMatchObject({ ok: false, why: 'unknown' })
  expect(await ask('3', old)).toMatchObject({ ok: false, reason: 'revoked' })
  await goAway(it)
  expect(await ask('4', { key: bad })).toMatchObject({ ok: false, why: 'unknown', degraded: true })
  expect(await ask('5', old)).toMatchObject({ ok: false, reason: 'revoked', degraded: true })
  expect(await ask('6', { key: good })).toMatchObject({ ok: true, degraded: true })
  expect(await ask('7', { user: 'bob', claims: { issuedAt: NOON } })).toMatchObject({ ok: true })
})

test('neither made-up users nor made-up models displace what is known', async () => {
  const it = world()
  const everyone = { total: AMPLE, model: { tokensPerDay: 250 } }
  const limits = { model: { tokensPerDay: 1e6 }, total: { tokensPerDay: 250 } }
  await it.fallback.execute(admitOf({ id: 'a', user: 'alice', reserved: 200, everyone, limits }))
  await goAway(it)
  for (let n = 0; n < 1100; n += 1) {
    const made = { id: `${n}`, user: `made-up-${n}`, model: `made/up-${n}`, reserved: 1 }
    await it.fallback.execute(admitOf(made))
  }
  const ask = (user: string, fields: Partial<Admit>) =>
    it.fallback.execute(admitOf({ id: user, user, ...fields }))
  expect(await ask('alice', { limits })).toMatchObject({ of: 'user', model: '*', used: 200 })
  expect(await ask('bob', { everyone })).toMatchObject({
    of: 'everyone',
    model: 'a/one',
    used: 200,
  })
})

test.each(['open', 'closed'] as const)(
  '%s: a refused request whose admission was lost counts nowhere, and gets no lease when that comes late',
  async (mode) => {
    const it = world(mode)
    const everyone = { total: { requestsPerDay: 1 } }
    const ask = (id: string, user: string) => {
      return it.fallback.execute(admitOf({ id, user, everyone })).catch(() => undefined)
    }
    await ask('1', 'alice')
    await it.fallback.execute(settleOf(admitOf({ id: '1' })))
    const before = JSON.stringify([...it.state.days.values(), ...it.state.quotas.values()])
    it.here.fate = 'arrives late'
    for (const id of ['2', '3', '4']) {
      const user = `made-up-${id}`
      expect((await ask(id, user))?.ok ?? false).toBe(false)
      expect(it.fallback.isUnacknowledged(id)).toBe(true)
    }
    for (const id of ['2', '3', '4']) {
      await it.fallback.execute(failureOf(admitOf({ id, user: `made-up-${id}` })))
    }
    expect(it.fallback.health()).toEqual({ degraded: true, queued: 3 })
    expect(it.logged('usage.unrecorded')).toEqual([])
    // By then there is nothing of the others' use that would refuse it.
    it.state.quotas.clear()
    await comeBack(it)
    for (const arrive of it.delayed) arrive()
    expect([...it.state.usage.keys()]).toEqual(['alice'])
    expect(it.ids).toEqual(['1'])
    const [day] = it.state.days.values()
    expect(JSON.parse(before)[0]).toEqual(day)
  },
)

test('queued usage is counted before requests are admitted again', async () => {
  const it = world()
  const everyone = { total: { requestsPerDay: 2 } }
  const ask = (id: string) => it.fallback.execute(admitOf({ id, everyone }))
  await ask('1')
  await it.fallback.execute(settleOf(admitOf({ id: '1' })))
  await goAway(it)
  await ask('2')
  await it.fallback.execute(settleOf(admitOf({ id: '2' })))
  const { replay } = it.store
  let meanwhile: unknown
  it.store.replay = async (entries) => {
    meanwhile = await ask('3')
    return replay(entries)
  }
  await comeBack(it)
  const refusal = { ok: false, of: 'everyone', used: 2, limit: 2 }
  expect(meanwhile).toMatchObject({ ...refusal, degraded: true })
  expect(await ask('4')).toEqual(expect.objectContaining(refusal))
  expect(it.ids).toEqual(['1', '2'])
})

test('a fault of the queue does not keep the store away', async () => {
  const it = world()
  await goAway(it)
  await it.fallback.execute(admitOf({ id: '1' }))
  await it.fallback.execute(settleOf(admitOf({ id: '1' })))
  it.store.replay = () => Promise.reject(new Error('a file cannot be read'))
  await comeBack(it)
  expect(it.fallback.health()).toEqual({ degraded: false, queued: 1 })
  expect(it.logged('store.tend').length).toBeGreaterThan(0)
})

test('requests that an isolate loses are forgotten when they must have ended', async () => {
  const it = world()
  await goAway(it)
  const admit = (id: string) =>
    it.fallback.execute(admitOf({ id, now: it.here.now, lasts: 10 * SECOND_MS }))
  await admit('1')
  it.here.now += 70 * SECOND_MS
  await admit('2')
  expect(it.fallback.isUnacknowledged('1')).toBe(true)
  it.here.now += 1
  await admit('3')
  expect(['1', '2', '3'].map(it.fallback.isUnacknowledged)).toEqual([false, true, true])
})

const SPENT = { total: { tokensPerDay: 250 } }

test('limits of everyone that were reached before an outage stay reached', async () => {
  const it = world()
  const ask = (id: string, user: string) =>
    it.fallback.execute(admitOf({ id, user, everyone: SPENT }))
  // First a user of another instance, then a user of this instance.
  await it.store.execute(admitOf({ id: '1', user: 'carol', everyone: SPENT }))
  expect(await ask('2', 'alice')).toMatchObject({ ok: true })
  await goAway(it)
  const refusal = { ok: false, of: 'everyone', model: '*', used: 200, limit: 250, degraded: true }
  expect(await ask('3', 'bob')).toMatchObject(refusal)
  // A request without limits for everyone is not checked against them.
  expect(await it.fallback.execute(admitOf({ id: '4', user: 'bob' }))).toMatchObject({ ok: true })
})

test('limits of everyone that are only known from a refusal stay reached in an outage', async () => {
  const it = world()
  const everyone = { model: { tokensPerDay: 250 } }
  const ask = (id: string, user: string) => it.fallback.execute(admitOf({ id, user, everyone }))
  await it.fallback.execute(admitOf({ id: '0', user: 'dave', model: 'b/two' }))
  for (const id of ['1', '2']) await it.store.execute(admitOf({ id, user: 'carol', everyone }))
  const refusal = { ok: false, of: 'everyone', model: 'a/one', used: 200 }
  expect(await ask('3', 'alice')).toMatchObject(refusal)
  await goAway(it)
  expect(await ask('4', 'bob')).toMatchObject({ ...refusal, degraded: true })
  const other = admitOf({ id: '5', user: 'dave', model: 'b/two', everyone })
  expect(await it.fallback.execute(other)).toMatchObject({ ok: true, degraded: true })
})

test('each answer has the present usage of everyone', async () => {
  const it = world()
  const everyone = { total: AMPLE }
  const first = admitOf({ id: '1', everyone })
  await it.fallback.execute(first)
  await it.fallback.execute(settleOf(first, { charged: 15 }))
  await it.fallback.execute(admitOf({ id: '2', user: 'bob', everyone }))
  await goAway(it)
  const answer = await it.fallback.execute(admitOf({ id: '3', user: 'bob', everyone: SPENT }))
  expect(answer).toMatchObject({
    ok: true,
    limits: [{ of: 'user' }, { of: 'everyone', used: { day: amounts(3, 215) } }],
  })
})

/** A memory without a fallback, to run requests on what it has learnt. */
function remembered() {
  const memory = createMemory({ userDays: 7 })
  const ask = (fields: Partial<Admit> = {}) =>
    memory.run(admitOf({ id: crypto.randomUUID(), ...fields }))
  return { ...memory, ask }
}

/** A standing as a store reports it. */
const standing = (used: Standing['used'], fields: Partial<Standing> = {}): Standing => ({
  ...{ of: 'user', model: 'a/one', limits: AMPLE, used },
  ...fields,
})
const told = (...limits: Standing[]): Admitted => ({ ok: true, at: NOON, limits })

/** The use of an answer's first limit, by default of the day. */
const usedOf = (answer: Answer, window = 'day') =>
  'limits' in answer ? answer.limits?.[0]?.used[window] : answer

test('counts continue from the answer of the store, by model, in the day and in the minute', () => {
  const { learn, ask } = remembered()
  const day = amounts(7, 900)
  const minute = amounts(3, 400)
  learn(admitOf({ id: '1' }), told(standing({ day, minute })))
  const few = { day: amounts(2, 50), minute: amounts(1, 20) }
  const other = told(standing(few, { model: 'b/two' }))
  learn(admitOf({ id: '2', model: 'b/two' }), { ...other, at: NOON + 1000 })
  const limits = { model: { ...AMPLE, tokensPerMinute: 500 } }
  expect(ask({ reserved: 101, limits })).toMatchObject({ ok: false, window: 'minute', used: 400 })
  expect(ask({ reserved: 100, limits })).toEqual({
    ok: true,
    at: NOON + 1000,
    limits: [
      {
        ...{ of: 'user', model: 'a/one', limits: limits.model },
        used: { day: amounts(8, 1000), minute: amounts(4, 500) },
      },
    ],
  })
  expect(usedOf(ask({ model: 'b/two' }))).toEqual(amounts(3, 150))
  expect(usedOf(ask({ user: 'bob' }))).toEqual(amounts(1, 100))
  expect(usedOf(ask({ user: 'bob' }))).toEqual(amounts(2, 200))
})

const REFUSAL = {
  ok: false,
  reason: 'limit',
  of: 'user',
  model: 'a/one',
  window: 'day',
  limit: 200,
  asked: 100,
  resetAt: NOON + DAY_MS,
} as const

test('a refusal sets the usage of its unit in the day, and not that of the other unit', () => {
  const { learn, ask } = remembered()
  const admit = admitOf({ id: '1' })
  const day = amounts(5, 100)
  learn(admit, told(standing({ day, minute: day })))
  learn(admit, { ...REFUSAL, unit: 'tokens', used: 150 })
  expect(usedOf(ask())).toEqual(amounts(6, 250))
  learn(admit, { ...REFUSAL, unit: 'requests', used: 9 })
  expect(usedOf(ask())).toEqual(amounts(10, 350))
  learn(admitOf({ id: '2', user: 'bob' }), { ...REFUSAL, unit: 'requests', used: 9 })
  expect(usedOf(ask({ user: 'bob' }))).toEqual(amounts(10, 100))
})

const MINUTELY = { ...AMPLE, tokensPerMinute: 1e6 }

/** Limits of the day and of the minute in each row. */
const ALL_LIMITS = {
  limits: { model: MINUTELY, total: MINUTELY },
  everyone: { total: MINUTELY, model: MINUTELY },
}

test.each<[string, Refusal, string | undefined]>([
  ['a day', { ...REFUSAL, unit: 'tokens', used: 150 }, 'user a/one day'],
  ['a minute', { ...REFUSAL, unit: 'tokens', used: 150, window: 'minute' }, 'user a/one minute'],
  ['all models', { ...REFUSAL, unit: 'tokens', used: 150, model: '*' }, 'user * day'],
  [
    'everyone',
    { ...REFUSAL, unit: 'tokens', used: 150, of: 'everyone', model: '*' },
    'everyone * day',
  ],
  [
    'everyone with a model',
    { ...REFUSAL, unit: 'tokens', used: 150, of: 'everyone' },
    'everyone a/one day',
  ],
  ['a model too many', { ok: false, reason: 'models', window: 'day' }, undefined],
])('a refusal because of %s sets the usage of that limit only', (_, refusal, which) => {
  const { learn, ask } = remembered()
  learn(admitOf({ id: '1' }), refusal)
  const { limits = [] } = ask(ALL_LIMITS) as Admitted
  const tokens = limits.flatMap(({ of, model, used }) =>
    Object.entries(used).map(([window, amounts]) => [`${of} ${model} ${window}`, amounts.tokens]),
  )
  expect(tokens).toHaveLength(8)
  const more = which === undefined ? {} : { [which]: 250 }
  expect(Object.fromEntries(tokens)).toEqual({
    ...Object.fromEntries(tokens.map(([name]) => [name, 100])),
    ...more,
  })
})

test.each<[string, Admitted | Refusal]>([
  ['an admission', { ok: true, at: NOON }],
  ['a refusal for another reason', { ok: false, reason: 'models', window: 'day' }],
])('%s shows that the block of its model is lifted, and that of all, but no other', (_, answer) => {
  const { learn, ask } = remembered()
  for (const model of ['a/one', 'b/two', '*']) {
    learn(admitOf({ id: '1' }), { ok: false, reason: 'blocked', model, why: `of ${model}` })
  }
  expect(ask()).toEqual({ ok: false, reason: 'blocked', model: '*', why: 'of *' })
  learn(admitOf({ id: '1' }), answer)
  expect(ask()).toMatchObject({ ok: true })
  expect(ask({ model: 'b/two' })).toMatchObject({ reason: 'blocked', why: 'of b/two' })
})

test('after a thousand users the oldest one is forgotten, and an erased user at once', () => {
  const { learn, forget, ask } = remembered()
  const block = (user: string) =>
    learn(admitOf({ id: '1', user }), { ok: false, reason: 'blocked', model: '*' })
  const isBlocked = (user: string) => 'reason' in ask({ user })
  for (let n = 0; n < 1000; n += 1) block(`${n}`)
  block('0')
  block('another')
  expect(['0', '2', 'another', '1'].map(isBlocked)).toEqual([true, true, true, false])
  forget('0')
  expect(isBlocked('0')).toBe(false)
})

test('usage of everyone is remembered to the end of its day, and no clock goes back', () => {
  const { ask } = remembered()
  const everyone = { total: { tokensPerDay: 150 } }
  const at = (now: number, user: string) => ask({ user, everyone, now })
  expect(at(NOON, 'alice')).toMatchObject({ ok: true })
  expect(at(NOON - DAY_MS, 'bob')).toMatchObject({ of: 'everyone', used: 100 })
  expect(at(NOON + DAY_MS / 2 - 1, 'bob')).toMatchObject({ of: 'everyone', used: 100 })
  expect(at(NOON + DAY_MS / 2, 'bob')).toMatchObject({ ok: true })
  expect(at(NOON, 'carol')).toMatchObject({ of: 'everyone', used: 100 })
})

test('the age of an event counts from the time at which it is sent', async () => {
  const it = world()
  await goAway(it)
  await it.fallback.execute(admitOf({ id: '1' }))
  await it.fallback.execute(settleOf(admitOf({ id: '1' })))
  it.here.now += 7 * DAY_MS
  await comeBack(it)
  expect(it.ids).toEqual([])
})

test('a process that is about to end sends no more entries, and the queue stays', async () => {
  const it = world()
  await goAway(it)
  await it.fallback.execute(admitOf({ id: '1' }))
  await it.fallback.execute(settleOf(admitOf({ id: '1' })))
  it.fallback.pause()
  await comeBack(it)
  expect(it.fallback.health().queued).toBe(1)
})

test('closed, an outage admits no request, and earlier ones are still settled', async () => {
  const it = world('closed')
  const admit = admitOf({ id: '1' })
  await it.fallback.execute(admit)
  await goAway(it)
  await expect(it.fallback.execute(admitOf({ id: '2' }))).rejects.toThrow(StoreError)
  expect(it.fallback.isUnacknowledged('2')).toBe(false)
  expect(await it.fallback.execute(settleOf(admit))).toMatchObject({ queued: true })
  await comeBack(it)
  expect(it.ids).toEqual(['1'])
})

test('an entry that the store cannot run does not delay others', async () => {
  const it = world()
  await goAway(it)
  for (const id of ['1', '2']) {
    await it.fallback.execute(admitOf({ id }))
    await it.fallback.execute(settleOf(admitOf({ id })))
  }
  const { replay } = it.store
  it.store.replay = async (entries) => {
    const answers = await replay(entries.filter(({ event }) => event.id !== '1'))
    return [{ error: 'failed' }, ...answers]
  }
  await comeBack(it)
  expect(it.ids).toEqual(['2'])
  expect(it.fallback.health().queued).toBe(0)
  expect(it.logged('usage.refused')).toMatchObject([{ usage: { id: '1' } }])
})

/** Admits a request; after that, a newer version has written the user's document. */
async function meetNewer(it: World, id = '1'): Promise<Admit> {
  const admit = admitOf({ id })
  await it.fallback.execute(admit)
  it.here.newer.add('alice')
  return admit
}

test('a settlement that only a newer version can count waits, and is no failure of the store', async () => {
  const it = world()
  const admit = await meetNewer(it)
  const { calls } = it.here
  expect(await it.fallback.execute(settleOf(admit))).toEqual({ applied: false, queued: true })
  expect(it.here.calls).toBe(calls + 1)
  expect(it.fallback.health()).toEqual({ degraded: false, queued: 1 })
  await expect(it.fallback.execute(admitOf({ id: '2' }))).rejects.toThrow(NewerError)
  expect(it.fallback.isUnacknowledged('2')).toBe(false)
  await comeBack(it)
  expect(it.fallback.health()).toEqual({ degraded: false, queued: 1 })
  expect(it.logged('usage.newer')).toMatchObject([{ entries: 1, level: 'warn' }])
  expect(it.ids).toEqual([])
})

test('entries for a newer version are counted once after the update of this instance', async () => {
  const it = world()
  const admit = await meetNewer(it)
  await it.fallback.execute(settleOf(admit))
  await comeBack(it)
  it.here.newer.clear()
  await comeBack(it)
  expect(it.fallback.health().queued).toBe(0)
  expect(it.ids).toEqual(['1'])
  expect(it.logged('usage.replayed')).toMatchObject([{ events: 1 }])
})

test('entries for a newer version delay no others, and are retried with waits that double', async () => {
  const it = world()
  await goAway(it)
  const users = Array.from({ length: 200 }, (_, n) => (n % 50 === 7 ? 'alice' : 'bob'))
  for (const [n, user] of users.entries()) {
    const admit = admitOf({ id: `${n}`, user })
    await it.fallback.execute(admit)
    await it.fallback.execute(settleOf(admit))
  }
  it.here.newer.add('alice')
  it.here.fate = 'works'
  const start = it.here.now
  const tries: number[] = []
  for (let ms = 0; ms <= 20_000; ms += 50) {
    it.here.now = start + ms
    const work = it.fallback.tend()
    if (work) tries.push(ms)
    await work
  }
  expect(it.ids).toHaveLength(196)
  expect(it.fallback.health()).toEqual({ degraded: false, queued: 4 })
  expect(tries).toEqual([250, 750, 1750, 3750, 7750, 12_750, 17_750])
  it.here.newer.clear()
  await comeBack(it)
  expect(new Set(it.ids)).toEqual(new Set(users.map((_, n) => `${n}`)))
  expect(it.ids).toHaveLength(200)
})

/** The script of a build that writes the next version of a user's documents. */
const NEXT_SCRIPT = LEDGER_SCRIPT.replace(
  /(local VERSIONS = \{[^}]*usage = )\d+/,
  `$1${VERSIONS.usage + 1}`,
)

test('requests that an instance could not settle are counted once by its newer replacement', async () => {
  expect(NEXT_SCRIPT).not.toBe(LEDGER_SCRIPT)
  const folder = await mkdtemp(join(tmpdir(), 'weir-fallback-'))
  const file = join(folder, 'usage.json')
  const log = createLog({ level: 'silent', format: 'json', write: () => undefined })
  let now = NOON
  const instance = async (store: Store) => {
    const queue = await fileQueue(file, log)
    const fallback = withFallback({
      ...{ store, mode: 'open', queue, retention: RETENTION },
      now: () => now,
      log,
    })
    return { fallback, queue }
  }
  const tend = async (fallback: FallbackStore) => {
    now += 6 * SECOND_MS
    await fallback.tend()
  }
  const newStore = redisStore(upstash, { script: NEXT_SCRIPT })

  const old = await instance(redisStore(upstash))
  const [first, second] = [admitOf({ id: '1' }), admitOf({ id: '2' })]
  await old.fallback.execute(first)
  // In a fleet during an update.
  await newStore.execute(second)
  const documents = () => redis.command(['MGET', ...KEYS])
  const before = await documents()
  expect(await old.fallback.execute(settleOf(first))).toMatchObject({ queued: true })
  await tend(old.fallback)
  await expect(old.fallback.execute(admitOf({ id: '3' }))).rejects.toThrow(NewerError)
  expect(old.fallback.health()).toEqual({ degraded: false, queued: 1 })
  expect(await documents()).toEqual(before)
  // Both versions serve users that the newer one has not written yet.
  const other = admitOf({ id: '4', user: 'bob' })
  await old.fallback.execute(other)
  expect(await old.fallback.execute(settleOf(other))).toEqual({ applied: true })
  old.fallback.pause()
  await old.queue.close()

  const next = await instance(newStore)
  expect(next.fallback.health().queued).toBe(1)
  for (let n = 0; n < 3; n += 1) await tend(next.fallback)
  expect(next.fallback.health().queued).toBe(0)
  expect(await next.fallback.execute(settleOf(second))).toEqual({ applied: true })
  expect((await newStore.events(9)).map(({ id, charged }) => [id, charged])).toEqual([
    ['2', 15],
    ['1', 15],
    ['4', 15],
  ])
  expect((await newStore.user('alice'))?.usage).toMatchObject({
    leases: {},
    models: { 'a/one': { row: { requests: 2, exact: 2, charged: 30 } } },
  })
  await next.queue.close()
  await rm(folder, { recursive: true })
})

const fates = fc.constantFrom<Fate>('works', 'never arrives', 'loses its answer', 'arrives late')
const steps = fc.array(
  fc.oneof(
    { arbitrary: fc.record({ kind: fc.constant('fate' as const), fate: fates }), weight: 3 },
    {
      arbitrary: fc.record({
        kind: fc.constant('start' as const),
        user: fc.constantFrom('alice', 'bob'),
        everyone: fc.boolean(),
      }),
      weight: 5,
    },
    {
      arbitrary: fc.record({
        kind: fc.constant('end' as const),
        which: fc.nat(),
        cost: fc.nat(90),
      }),
      weight: 5,
    },
    { arbitrary: fc.record({ kind: fc.constant('late' as const) }), weight: 2 },
    { arbitrary: fc.record({ kind: fc.constant('newer' as const) }), weight: 1 },
    {
      arbitrary: fc.record({ kind: fc.constant('wait' as const), ms: fc.nat(8000) }),
      weight: 3,
    },
  ),
  { minLength: 5, maxLength: 80 },
)

test.each(['open', 'closed'] as const)(
  '%s: with any fate of calls, exactly the served requests are counted in the end, once',
  async (mode) => {
    await fc.assert(
      fc.asyncProperty(steps, async (drawn) => {
        const it = world(mode)
        const running: { admit: ReturnType<typeof admitOf>; served: boolean }[] = []
        const served = new Map<string, number>()
        const end = async (which: number, cost: number) => {
          const [request] = running.splice(which, 1)
          if (!request) return
          const { admit } = request
          const charged = request.served ? cost : 0
          const usage = request.served
            ? { charged, prompt: cost, completion: 0, total: cost }
            : ({ charged, outcome: 'failed' } as const)
          if (request.served) served.set(admit.id, cost)
          await it.fallback.execute(settleOf(admit, usage, it.here.now))
        }
        for (const [index, step] of drawn.entries()) {
          if (step.kind === 'fate') it.here.fate = step.fate
          else if (step.kind === 'wait') {
            it.here.now += step.ms
            await it.fallback.tend()
          } else if (step.kind === 'late') it.delayed.shift()?.()
          else if (step.kind === 'newer') {
            if (!it.here.newer.delete('alice')) it.here.newer.add('alice')
          } else if (step.kind === 'end') await end(step.which % (running.length || 1), step.cost)
          else {
            const { user, everyone } = step
            const global = everyone ? { everyone: { total: AMPLE } } : {}
            const admit = admitOf({ id: `id-${index}`, user, now: it.here.now, ...global })
            const answer = await it.fallback.execute(admit).catch(() => undefined)
            if (answer?.ok) running.push({ admit, served: true })
            else if (it.fallback.isUnacknowledged(admit.id)) running.push({ admit, served: false })
          }
        }
        while (running.length) await end(0, 7)
        it.here.newer.clear()
        await comeBack(it)
        for (const arrive of it.delayed) arrive()

        const total = [...served.values()].reduce((sum, cost) => sum + cost, 0)
        const [day] = it.state.days.values()
        expect(day?.total.charged ?? 0).toBe(total)
        expect(new Set(it.ids).size).toBe(it.ids.length)
        expect(it.ids).toEqual(expect.arrayContaining([...served.keys()]))
        for (const user of it.state.usage.values()) {
          expect(user.leases).toEqual({})
          for (const row of Object.values(rowsOf(user)).map(whole)) {
            expect(row).toMatchObject({ reserved: 0, lost: 0 })
            expect(runningOf(row)).toBe(0)
          }
        }
        expect(it.fallback.health()).toEqual({ degraded: false, queued: 0 })
      }),
      { numRuns: 600 },
    )
  },
  60_000,
)
