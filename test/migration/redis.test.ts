/** Migration of a usage file into a real Redis: the result, concurrent writes, and errors. */
import { existsSync } from 'node:fs'
import { mkdtemp, readdir, readFile, rm, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import { amounts } from '../support/amounts.ts'
import { windowsOf } from '../support/seed.ts'
import { readConfig, type Database } from '../../src/config/config.ts'
import { createLog } from '../../src/log.ts'
import { migrateFile, type MigrateOptions } from '../../src/migration/migrate.ts'
import { startMigration, type Connect } from '../../src/migration/start.ts'
import { createImport, type Chunk, type Import } from '../../src/store/redis/import.ts'
import { openLocal } from '../../src/store/local/store.ts'
import { IMPORT_SCRIPT } from '../../src/store/redis/import-script.ts'
import { restClient } from '../../src/store/redis/rest.ts'
import { StoreError, type Store, type User } from '../../src/store/store.ts'
import { tcpClient } from '../../src/store/redis/tcp.ts'
import type { Enter, Settle } from '../../src/ledger/commands.ts'
import { rowsOf } from '../../src/ledger/rows.ts'
import { newPast, newProfile } from '../../src/ledger/new-documents.ts'
import { VERSION } from '../../src/ledger/shapes.ts'
import type { Block, DayDoc, QuotaDoc, ThinRow, UsageDoc } from '../../src/ledger/documents.ts'
import { readDocument } from '../../src/ledger/reading.ts'
import { DAY_MS, dateOf } from '../../src/ledger/windows.ts'
import type { UserParts } from '../../src/ledger/merge.ts'
import { createIds } from '../../src/identity/ids.ts'
import { AMPLE, admitOf, NOON, settleOf } from '../support/commands.ts'
import { lineOf, linesOf, oldRequests, totalsOf } from '../support/old-file.ts'
import { startRedis } from '../support/redis.ts'
import { useDatabase } from '../support/database.ts'
import { reducerState } from '../support/state.ts'
import { redisStore, RETENTION, type Warning, usersOf } from '../support/stores.ts'
import { startUpstash } from '../support/upstash.ts'

const { redis, upstash } = useDatabase()
let store: Store
let folder: string
let file: string
let warnings: Warning[]

beforeAll(() => {
  store = redisStore(upstash)
})

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'weir-migration-'))
  file = join(folder, 'token_usage.json')
  warnings = []
})

afterEach(() => rm(folder, { recursive: true, force: true }))

const warn = (event: string, fields: Record<string, unknown>) =>
  void warnings.push({ event, fields })

const rest = () => restClient({ url: upstash.url, token: upstash.token, timeoutMs: 10_000 })

const importTo = (client = rest(), retention = RETENTION): Import =>
  createImport({ redis: client, script: IMPORT_SCRIPT, retention, now: () => NOON, warn })

const options = (more: Partial<MigrateOptions> = {}): MigrateOptions => ({
  file,
  retention: RETENTION,
  userHashSecret: 'secret',
  now: () => NOON,
  target: importTo(),
  warn,
  ...more,
})

const writeOld = (requests: Iterable<unknown[]>) =>
  writeFile(file, JSON.stringify([...requests].flat(), null, 2))

const DATES = Array.from({ length: 91 }, (_, ago) => dateOf(NOON - ago * DAY_MS))

async function dayTotals(): Promise<ReturnType<typeof totalsOf>> {
  const days = await store.days(DATES)
  return Object.fromEntries(
    days.map(({ date, total: { requests, charged } }) => [date, { requests, charged }]),
  )
}

const allUsers = () => usersOf(store, { sort: 'lastActive', limit: 10_000, now: NOON })

/** Requests and tokens of users, over all their days. */
async function sumOf(users: User[]): Promise<[requests: number, charged: number]> {
  const whole = await Promise.all(users.map(({ usage }) => store.user(usage.id)))
  const rows = whole
    .flatMap((user) => (user ? [rowsOf(user.usage), ...Object.values(user.past.days)] : []))
    .flatMap((rows) => Object.values<ThinRow>(rows))
  const sum = (field: 'requests' | 'charged') =>
    rows.reduce((sum, row) => sum + (row[field] ?? 0), 0)
  return [sum('requests'), sum('charged')]
}

const names = async () => (await readdir(dirname(file))).sort()

test('an old file is moved into the database, by day, user and event, and gets its suffix', async () => {
  const requests = [...oldRequests(500)]
  await writeOld(requests)
  const report = await migrateFile(options({ chunk: { items: 50, bytes: 20_000 } }))
  const records = requests.flat().length
  expect(report).toEqual({ records, leftOut: 0, damaged: 0, positions: [] })
  expect(await dayTotals()).toEqual(totalsOf(requests))
  expect(await sumOf(await allUsers())).toEqual([500, 500 * 25])
  const events = await store.events(1000)
  expect(events).toHaveLength(500)
  expect(events.map(({ at }) => at)).toEqual(events.map(({ at }) => at).toSorted((a, b) => b - a))
  expect(await names()).toEqual([`${basename(file)}.migrated`])
  expect(warnings).toEqual([])
})

test('over TCP it is the same', async () => {
  const requests = [...oldRequests(100)]
  await writeOld(requests)
  const { redis: client, close } = tcpClient({ url: redis.url, timeoutMs: 10_000 })
  await migrateFile(options({ target: importTo(client) }))
  close()
  expect(await dayTotals()).toEqual(totalsOf(requests))
})

test('everything expires as if it had been counted here', async () => {
  const ids = createIds('secret')
  await writeOld(
    [3, 1, 0].map((days) => linesOf(0, { timestamp: NOON - days * DAY_MS, userId: `u${days}` })),
  )
  await migrateFile(options())
  const ttl = async (key: string) => Number(await redis.command(['TTL', `weir:{2}:${key}`]))
  const day = 86_400
  for (const days of [3, 1, 0]) {
    const user = await ttl(`usage:${await ids.user(`u${days}`)}`)
    expect(Math.abs(user - (7 - days) * day)).toBeLessThan(5)
    // The current day is folded later.
    if (days === 0) continue
    expect(Math.abs((await ttl(`day:${DATES[days]}`)) - (90.5 - days) * day)).toBeLessThan(5)
  }
  expect(Math.abs((await ttl('users')) - 7 * day)).toBeLessThan(5)
  expect(Math.abs((await ttl('events')) - 90 * day)).toBeLessThan(5)
  const keys = (await redis.command(['KEYS', '*'])) as string[]
  const lasting = []
  for (const key of keys.map((key) => key.slice('weir:{2}:'.length))) {
    if ((await ttl(key)) < 0) lasting.push(key)
  }
  expect(lasting.sort()).toEqual([
    'day:2026-11-22',
    'day:2026-11-22:a/one',
    'models',
    'models:2026-11-22',
    'quota',
    'quota:a/one',
  ])
})

test('a past expires with the user, and a profile with the last of its blocks', async () => {
  // A time in whole seconds, because the database removes an expired block by itself.
  const until = Math.ceil((Date.now() + DAY_MS) / 1000) * 1000
  const user = (id: string, blocks: Record<string, Block>): UserParts => ({
    ...userOf(id),
    past: { ...newPast(id), days: { '2026-11-21': { 'a/one': { requests: 1 } } } },
    profile: { ...newProfile(id), blocks },
  })
  const items = [
    user('ending', { a: { at: NOON, until }, b: { at: NOON, until: until - 1000 } }),
    user('lasting', { a: { at: NOON, until }, b: { at: NOON } }),
    user('over', { a: { at: NOON, until: NOON } }),
  ]
  await importTo().bring('id', 0, { kind: 'users', items })
  const ends = (key: string) => redis.command(['EXPIRETIME', `weir:{2}:${key}`])
  expect(await ends('profile:ending')).toBe(until / 1000)
  expect(await ends('profile:lasting')).toBe(-1)
  expect(await ends('profile:over')).toBe(-2)
  expect(await ends('past:over')).toBe(await ends('usage:over'))
  expect(await redis.command(['ZRANGE', 'weir:{2}:blocks', 0, -1])).toEqual([
    'ending b',
    'ending a',
    'lasting a',
    'lasting b',
  ])
})

test('the users are listed as if they had been counted here', async () => {
  await writeOld(oldRequests(300, { days: 2 }))
  await migrateFile(options())
  const other = await startRedis()
  const front = await startUpstash(other)
  const counted = redisStore(front)
  for (const event of (await store.events(1000)).reverse()) {
    await counted.replay([{ op: 'enter', now: event.at, user: event.user, event }])
  }
  for (const sort of ['lastActive', 'tokens'] as const) {
    const query = { sort, limit: 1000, now: NOON }
    expect(await usersOf(store, query)).toEqual(await usersOf(counted, query))
  }
  for (const key of ['weir:{2}:users', 'weir:{2}:models']) {
    const command = ['ZRANGE', key, 0, -1, 'WITHSCORES']
    expect(await redis.command(command)).toEqual(await other.command(command))
  }
  await front.close()
  await other.stop()
}, 20_000)

test('damaged records are reported with their position and set aside unchanged', async () => {
  const [one, two] = [JSON.stringify(lineOf()), JSON.stringify(lineOf({ timestamp: NOON - 1 }))]
  const bad = '{"id":"x","tokensUsed":-1}'
  await writeFile(file, `[${one},${bad},${two},{"id":"cut off`)
  await writeFile(`${file}.damaged`, 'of another time')
  const setAside = `${file}.damaged.1`
  expect(await migrateFile(options())).toEqual({
    records: 2,
    leftOut: 0,
    damaged: 2,
    positions: [2, 4],
    setAside,
  })
  expect(await readFile(setAside, 'utf8')).toBe(`${bad}\n{"id":"cut off\n`)
  expect(await readFile(`${file}.damaged`, 'utf8')).toBe('of another time')
})

test('expired days are left out and counted', async () => {
  await writeOld([linesOf(0, { timestamp: NOON - 91 * DAY_MS }), linesOf(0)])
  expect(await migrateFile(options())).toMatchObject({ records: 3, leftOut: 1 })
  expect(await dayTotals()).toEqual({ '2026-11-22': { requests: 1, charged: 25 } })
})

test('a file name that exists gets a number', async () => {
  await writeFile(`${file}.migrated`, 'of another time')
  await writeOld([linesOf(0)])
  await migrateFile(options())
  expect(await readFile(`${file}.migrated`, 'utf8')).toBe('of another time')
  expect(existsSync(`${file}.migrated.1`)).toBe(true)
})

/** The store that writes the files, with a stopped clock. */
const openOwn = () =>
  openLocal({ file, retention: RETENTION, now: () => NOON, warn, tolerance: Infinity })

/** Writes files of Weir: settled and running requests, a block, and an entered event. A part is only in the journal. */
async function writeOwn(): Promise<Settle> {
  const first = await openOwn()
  for (const [n, user] of ['alice', 'bob', 'carol'].entries()) {
    const admit = admitOf({ id: `request-${n}`, user, ip: '192.0.2.1' })
    await first.execute(admit)
    await first.execute(settleOf(admit, { session: `s-${n % 2}` }))
  }
  await first.close()
  const second = await openOwn()
  const late = admitOf({ id: 'late', user: 'alice', reserved: 70 })
  await second.execute(late)
  await second.execute({ op: 'block', now: NOON, user: 'bob', model: '*', block: { at: NOON } })
  const { event } = settleOf(admitOf({ id: 'entered', user: 'dave' }))
  await second.replay([{ op: 'enter', now: NOON, user: 'dave', event }])
  // As after kill -9, the journal is not folded.
  const [snapshot, journal] = await Promise.all([readFile(file), readFile(`${file}.journal`)])
  await second.close()
  await writeFile(file, snapshot)
  await writeFile(`${file}.journal`, journal)
  return settleOf(late)
}

test('files of Weir are moved with leases, blocks and marks of entries', async () => {
  const late = await writeOwn()
  expect(await migrateFile(options())).toMatchObject({ records: 4 + 1 + 4 })
  expect(await dayTotals()).toEqual({ '2026-11-22': { requests: 4, charged: 60 } })
  expect(await store.execute(late)).toEqual({ applied: true })
  const again = settleOf(admitOf({ id: 'entered', user: 'dave' })).event
  const replayed = await store.replay([{ op: 'enter', now: NOON, user: 'dave', event: again }])
  expect(replayed).toEqual([{ applied: false }])
  const bob = admitOf({ id: 'bob', user: 'bob' })
  expect(await store.execute(bob)).toMatchObject({ reason: 'blocked' })
  expect(await redis.command(['ZRANGE', 'weir:{2}:blocks', 0, -1])).toEqual(['bob *'])
  expect(await redis.command(['TTL', 'weir:{2}:profile:bob'])).toBe(-1)
  expect((await store.days(['2026-11-22']))[0]).toMatchObject({ sessions: 3, total: { users: 4 } })
  expect(await names()).toEqual([`${basename(file)}.journal`, `${basename(file)}.migrated`])
  expect(await readFile(`${file}.journal`, 'utf8')).toBe('')
})

test('plans, settings, labels, limits and keys are moved; what the database has of them stays', async () => {
  const local = await openOwn()
  const key = (hash: string) => ({ hash, start: 'weir_1', last4: 'abcd', created: NOON })
  const decide = async (one: Pick<Store, 'execute'>, hash: string, tokensPerDay: number) => {
    const limits = { '*': { tokensPerDay } }
    for (const name of ['shared', `of-${hash}`]) {
      await one.execute({ op: 'plan', now: NOON, name, plan: { limits } })
    }
    await one.execute({ op: 'settings', now: NOON, set: { defaultPlan: `of-${hash}` } })
    await one.execute({
      op: 'key',
      now: NOON,
      user: 'bob',
      id: hash,
      action: 'create',
      key: key(hash),
    })
  }
  await decide(local, 'file', 500)
  const set = {
    label: 'Bob Brown',
    words: { bob: 1, brown: 1 } as const,
    limits: { '*': { tokensPerDay: 7000 } },
  }
  await local.execute({ op: 'profile', now: NOON, user: 'bob', set })
  await local.close()
  await decide(store, 'database', 900)
  await migrateFile(options())
  const { settings, plans } = await store.policy()
  expect(settings).toMatchObject({ defaultPlan: 'of-database' })
  expect(Object.keys(plans).sort()).toEqual(['of-database', 'of-file', 'shared'])
  expect(plans.shared?.limits).toEqual({ '*': { tokensPerDay: 900 } })
  const asked = (id: string) => admitOf({ id, user: 'bob', reserved: 5000, key: { id, hash: id } })
  for (const hash of ['file', 'database']) {
    expect(await store.execute(asked(hash))).toMatchObject({ ok: hash === 'file' })
  }
  expect((await store.searchLabels('brow', 9)).map(({ profile }) => profile.label)).toEqual([
    'Bob Brown',
  ])
  expect((await store.listProfiles(9)).profiles.map(({ id }) => id)).toEqual(['bob'])
})

test('actions of admins and erasures are moved too', async () => {
  const local = await openOwn()
  const admit = admitOf({ id: '1', user: 'erin' })
  await local.execute(admit)
  await local.execute(settleOf(admit))
  await local.execute({ op: 'erase', now: NOON + 1, user: 'erin' })
  await local.execute({ op: 'block', now: NOON + 2, user: 'bob', model: '*', block: { at: NOON } })
  await local.close()
  await migrateFile(options())
  expect((await store.audit(10)).map(({ action }) => action)).toEqual(['block', 'erase'])
  const { event } = settleOf(admitOf({ id: '2', user: 'erin' }))
  const entered = await store.replay([{ op: 'enter', now: NOON + 9, user: 'erin', event }])
  expect(entered).toEqual([{ applied: false }])
  expect(await store.user('erin')).toBeUndefined()
})

/** Writes files of Weir with one settled request of a user, at noon. */
async function writeUse(user: string): Promise<void> {
  const local = await openOwn()
  const admit = admitOf({ id: `of-${user}`, user })
  await local.execute(admit)
  await local.execute(settleOf(admit))
  await local.close()
}

test('an erased user does not come back with an earlier file', async () => {
  await store.execute({ op: 'erase', now: NOON + 60_000, user: 'alice' })
  await store.execute({ op: 'erase', now: NOON - 60_000, user: 'bob' })
  await writeUse('alice')
  await writeUse('bob')
  await migrateFile(options())
  expect(await store.user('alice')).toBeUndefined()
  expect((await allUsers()).map(({ usage }) => usage.id)).toEqual(['bob'])
  expect((await store.events(9)).map(({ user }) => user)).toEqual(['bob'])
  // As after any erasure, the sums stay.
  expect(await dayTotals()).toEqual({ '2026-11-22': { requests: 2, charged: 30 } })
})

test('a user who is erased while a chunk is imported does not come back with it', async () => {
  for (const kind of ['users', 'events']) {
    const items = (kind === 'users' ? [blockedUser('alice', 1)] : [entry('1').event]) as never[]
    upstash.fault(async ({ commands: [command] }) => {
      if (command?.[0] !== 'evalsha') return undefined
      upstash.fault(undefined)
      await redis.command(['SET', 'weir:{2}:erased:alice', String(NOON)])
      return undefined
    })
    const chunk = { kind, items } as Chunk
    expect(await importTo().bring(kind, 0, chunk)).toBe(0)
    expect(await importTo().bring(kind, 0, chunk)).toBe(1)
    expect(await redis.command(['KEYS', '*'])).toHaveLength(2)
    await redis.flush()
  }
})

test('the later of two erasures of a user is kept', async () => {
  const erased = (at: number): Chunk => ({ kind: 'erased', items: [['alice', at]] })
  for (const [n, at] of [NOON, NOON + 5, NOON + 2].entries()) {
    expect(await importTo().bring(`import-${n}`, 0, erased(at))).toBe(1)
  }
  expect(await redis.command(['GET', 'weir:{2}:erased:alice'])).toBe(String(NOON + 5))
})

test('a journal without a snapshot is moved too', async () => {
  await writeOwn()
  const lines = (await readFile(`${file}.journal`, 'utf8')).trim().split('\n')
  await rm(file)
  await migrateFile(options())
  expect(lines).toHaveLength(3)
  expect(await dayTotals()).toEqual({ '2026-11-22': { requests: 1, charged: 15 } })
})

test('the counts of live traffic and of the import add up exactly', async () => {
  const secret = createIds('secret')
  const today = Array.from({ length: 600 }, (_, n) =>
    linesOf(n, {
      timestamp: NOON - n,
      userId: `token-of-user-${n % 20}`,
      sessionId: `s-${n % 30}`,
    }),
  )
  await writeOld(today)
  let done = false
  let live = 0
  const lane = async (number: number) => {
    for (let n = 0; !done; n += 1) {
      const user = await secret.user(`token-of-user-${(number * 5 + n) % 25}`)
      const everyone = { total: AMPLE }
      const admit = admitOf({ id: `live-${number}-${n}`, user, everyone, now: NOON + n })
      await store.execute(admit)
      const session = await secret.session(`s-${n % 30}`)
      await store.execute(settleOf(admit, { session }))
      live += 1
    }
  }
  const lanes = [0, 1].map(lane)
  const migrated = await migrateFile(options({ chunk: { items: 10, bytes: 20_000 } }))
  done = true
  await Promise.all(lanes)
  expect(migrated?.records).toBe(today.flat().length)
  expect(live).toBeGreaterThan(10)
  const charged = 600 * 25 + live * 15
  expect(await dayTotals()).toEqual({ '2026-11-22': { requests: 600 + live, charged } })
  const users = await allUsers()
  expect(await sumOf(users)).toEqual([600 + live, charged])
  const [day] = await store.days(['2026-11-22'])
  expect(day?.total.users).toBe(users.length)
  expect(day?.sessions).toBe(
    users.reduce((sum, { usage }) => sum + Object.keys(usage.sessions).length, 0),
  )
  expect(await redis.command(['LLEN', 'weir:{2}:events'])).toBe(600 + live)
}, 30_000)

/** Delays each call of the database, in ms. */
const slowly = (delay: number) => upstash.fault(() => ({ delay }))

test('data of today is moved within seconds, and adds up, while a slow database has 100 requests a second', async () => {
  const USERS = 50
  const secret = createIds('secret')
  const today = Array.from({ length: 300 }, (_, n) =>
    linesOf(n, { timestamp: NOON - n, userId: `token-of-user-${n % USERS}` }),
  )
  await writeOld(today)
  const everyone = { total: AMPLE }
  slowly(20)
  let done = false
  const ended: Promise<unknown>[] = []
  async function spend(n: number): Promise<void> {
    const user = await secret.user(`token-of-user-${(n * 7) % (USERS + 20)}`)
    const admit = admitOf({ id: `live-${n}`, user, everyone, now: NOON + n })
    await store.execute(admit)
    await store.execute(settleOf(admit))
  }
  const live = (async () => {
    const started = performance.now()
    while (!done) {
      while (ended.length < (performance.now() - started) / 10) ended.push(spend(ended.length))
      await delay(5)
    }
    await Promise.all(ended)
  })()
  await expect.poll(() => ended.length).toBeGreaterThan(10)
  const started = performance.now()
  const target = importTo()
  let calls = 0
  const bring: Import['bring'] = (...args) => {
    calls += 1
    return target.bring(...args)
  }
  const migrated = await Promise.race([
    migrateFile(options({ target: { ...target, bring } })),
    delay(15_000, undefined, { ref: false }),
  ])
  const ms = Math.round(performance.now() - started)
  done = true
  await live
  console.log(`${ms} ms and ${calls} attempts beside ${ended.length} requests`)
  expect(migrated?.records).toBe(today.flat().length)
  expect(calls).toBeLessThan(150)
  const requests = 300 + ended.length
  const charged = 300 * 25 + ended.length * 15
  expect(await dayTotals()).toEqual({ '2026-11-22': { requests, charged } })
  const users = await allUsers()
  expect(await sumOf(users)).toEqual([requests, charged])
  expect((await store.days(['2026-11-22']))[0]?.total.users).toBe(users.length)
}, 30_000)

test('the import waits for a user who is always faster, and after some time logs that', async () => {
  await writeOld([linesOf(0)])
  const target = importTo()
  const id = await createIds('secret').user('token-of-alice')
  let attempts = 0
  const bring: Import['bring'] = async (...args) => {
    if (args[2].kind !== 'users' || attempts === 25) return target.bring(...args)
    attempts += 1
    upstash.fault(async ({ commands: [command] }) => {
      if (command?.[0] !== 'evalsha') return undefined
      await redis.command(['SET', `weir:{2}:usage:${id}`, `spoilt ${attempts}`])
      return undefined
    })
    const next = await target.bring(...args)
    upstash.fault(undefined)
    return next
  }
  vi.spyOn(Math, 'random').mockReturnValue(0.05)
  const started = performance.now()
  await migrateFile(options({ target: { ...target, bring } }))
  // Waits of 5 ms, 10 ms, 20 ms, up to a second.
  expect(performance.now() - started).toBeGreaterThan(700)
  vi.restoreAllMocks()
  expect(attempts).toBe(25)
  expect(warnings.filter(({ event }) => event !== 'store.damaged')).toEqual([
    { event: 'migration.contended', fields: { file, misses: 20 } },
  ])
  expect(await sumOf(await allUsers())).toEqual([1, 25])
}, 30_000)

/** The reducer's state after an entered request. */
const entered = (user: string) => {
  const state = reducerState(RETENTION)
  state.do({ ...entry(`of-${user}`), user })
  return state
}

/** A user with usage. */
const userOf = (id: string): UserParts => ({ id, usage: entered(id).usage.get(id) })

/** A user with `count` blocks. */
const blockedUser = (id: string, count: number): UserParts => {
  const models = Array.from({ length: count }, (_, n) => [`model-${n}`, { at: NOON }] as const)
  return { ...userOf(id), profile: { ...newProfile(id), blocks: Object.fromEntries(models) } }
}

test('a thousand users with blocks are imported at once, each once', async () => {
  const items = Array.from({ length: 1000 }, (_, n) => blockedUser(`user-${n}`, 5))
  const target = importTo()
  expect(await target.bring('id', 0, { kind: 'users', items })).toBe(1000)
  expect(await redis.command(['ZCARD', 'weir:{2}:blocks'])).toBe(5000)
  expect(await redis.command(['ZCARD', 'weir:{2}:users'])).toBe(2000)
  expect(await sumOf(await allUsers())).toEqual([1000, 15_000])
  const ids = items.map(({ id }) => id)
  expect(new Set((await allUsers()).map(({ usage }) => usage.id))).toEqual(new Set(ids))
})

test('ten thousand events are imported at once, each once', async () => {
  const items = Array.from({ length: 10_000 }, (_, n) => entry(`event-${n}`).event)
  expect(await importTo().bring('id', 0, { kind: 'events', items })).toBe(10_000)
  expect((await store.events(20_000)).map(({ id }) => id)).toEqual(items.map(({ id }) => id))
})

test.each([
  ['users', 'weir:{2}:users'],
  ['users', 'weir:{2}:blocks'],
  ['events', 'weir:{2}:events'],
  ['quotas', 'weir:{2}:models'],
])('nothing of %s is written if %s has another type', async (kind, key) => {
  await redis.command(['SET', key, 'of somebody else'])
  const chunks: Record<string, Chunk> = {
    users: { kind: 'users', items: [blockedUser('alice', 1)] },
    events: { kind: 'events', items: [entry('1').event] },
    quotas: { kind: 'quotas', items: [...entered('alice').quotas] },
  }
  const chunk = chunks[kind] as Chunk
  await expect(importTo().bring('id', 0, chunk)).rejects.toThrow(/^the database call failed/)
  expect(await redis.command(['KEYS', '*'])).toEqual([key])
})

test('a chunk with an invalid document is not written', async () => {
  const { usage } = userOf('alice')
  const items = [{ id: 'alice', usage: { ...(usage as UsageDoc), at: NaN } }]
  const wrong = importTo().bring('id', 0, { kind: 'users', items })
  await expect(wrong).rejects.toThrow('is not a valid usage document')
  const erased = importTo().bring('id', 0, { kind: 'erased', items: [['alice', 1e300]] })
  await expect(erased).rejects.toThrow('an invalid time')
  expect(await redis.command(['KEYS', '*'])).toEqual([])
})

test('the error of a failed call has its code, and nothing of the command', async () => {
  const body = JSON.stringify({ error: 'OOM command not allowed, command was: ["GET","secret"]' })
  upstash.fault(() => ({ status: 400, body }))
  await expect(importTo().progress('id')).rejects.toThrow(/^the database call failed \(\w+, OOM\)$/)
})

test('an unreadable day is set aside, and a day that was cleared in the meantime has no negative count of users', async () => {
  const target = importTo()
  const state = entered('alice')
  const days: Chunk = { kind: 'days', items: [...state.days.values()] }
  await redis.command(['SET', 'weir:{2}:day:2026-11-22', '{"v":2,"total":7}'])
  await target.bring('id', 0, days)
  expect(await redis.command(['GET', 'weir:{2}:damaged:day:2026-11-22'])).toBe('{"v":2,"total":7}')
  expect(warnings).toEqual([
    {
      event: 'store.damaged',
      fields: {
        keys: ['weir:{2}:day:2026-11-22'],
        setAside: 'weir:{2}:damaged:day:2026-11-22',
      },
    },
  ])
  expect(await dayTotals()).toEqual({ '2026-11-22': { requests: 1, charged: 15 } })
  await store.replay([entry('2')])
  await store.execute({ op: 'clear', now: NOON })
  await target.bring('id', 1, { kind: 'users', items: [userOf('alice')] })
  const [cleared] = await store.days(['2026-11-22'])
  expect(cleared).toMatchObject({ sessions: 0, total: { users: 0 }, models: {} })
})

describe('an imported day', () => {
  const TODAY = '2026-11-22'
  const dayOf = (date: string): DayDoc => {
    const event = { ...entry(`of-${date}`).event, at: Date.parse(date) + 1000 }
    const state = reducerState(RETENTION)
    state.do({ op: 'enter', now: event.at, user: event.user, event })
    return state.days.get(date) as DayDoc
  }
  const bringDays = (id: string, ...dates: string[]) =>
    importTo().bring(id, 0, { kind: 'days', items: dates.map(dayOf) })
  const stored = async (date: string) =>
    JSON.parse(String(await redis.command(['GET', `weir:{2}:day:${date}`]))) as object
  const rowKeys = async () =>
    ((await redis.command(['KEYS', 'weir:{2}:day:*:*'])) as string[]).map((key) =>
      key.slice('weir:{2}:day:'.length),
    )

  test('is stored unchanged if there is no clock: open today, folded before', async () => {
    await bringDays('id', '2026-11-20', '2026-11-21', TODAY)
    expect(await rowKeys()).toEqual([`${TODAY}:a/one`])
    expect(await stored(TODAY)).toMatchObject({ open: 1 })
    expect(await stored('2026-11-21')).toMatchObject({ models: { 'a/one': { requests: 1 } } })
    expect(await stored('2026-11-21')).not.toHaveProperty('open')
    await store.execute(admitOf({ id: 'next', now: NOON + DAY_MS }))
    expect(await rowKeys()).toEqual([])
    expect((await store.days([TODAY]))[0]).toEqual(dayOf(TODAY))
  })

  test('is added to the current day, or to a folded one', async () => {
    for (const now of [NOON - DAY_MS, NOON]) {
      const admit = admitOf({ id: `at-${now}`, now })
      await store.execute(admit)
      await store.execute(settleOf(admit))
    }
    await bringDays('id', '2026-11-20', '2026-11-21', TODAY)
    expect(await rowKeys()).toEqual([`${TODAY}:a/one`])
    expect(await dayTotals()).toEqual({
      '2026-11-20': { requests: 1, charged: 15 },
      '2026-11-21': { requests: 2, charged: 30 },
      [TODAY]: { requests: 2, charged: 30 },
    })
    for (const date of ['2026-11-21', TODAY]) {
      const [day] = await store.days([date])
      expect(day?.models['a/one']).toMatchObject({ requests: 2, charged: 30, users: 2 })
    }
  })

  test('is folded if the clock of the database is on another day, and its usage continues', async () => {
    await store.execute(admitOf({ id: 'before', now: NOON - 3 * DAY_MS }))
    await bringDays('id', '2026-11-21', TODAY)
    expect(await rowKeys()).toEqual([])
    const admit = admitOf({ id: 'next' })
    await store.execute(admit)
    await store.execute(settleOf(admit))
    expect((await dayTotals())[TODAY]).toEqual({ requests: 2, charged: 30 })
    expect((await store.days([TODAY]))[0]?.models['a/one']?.charged).toBe(30)
  })

  test.each([
    ['day', `day:${TODAY}`],
    ['row', `day:${TODAY}:a/one`],
    ['list of models', `models:${TODAY}`],
  ])('is not imported if a newer version has written the %s', async (_, key) => {
    await store.execute(admitOf({ id: '1' }))
    await store.replay([entry('2')])
    const newer = JSON.stringify({ v: 99, models: {} })
    await redis.command(['SET', `weir:{2}:${key}`, newer])
    const keys = (await redis.command(['KEYS', '*'])) as string[]
    await expect(bringDays('id', TODAY)).rejects.toThrow(/^a newer version of Weir has written/)
    await expect(bringDays('id', TODAY)).rejects.toBeInstanceOf(StoreError)
    expect(await redis.command(['GET', `weir:{2}:${key}`])).toBe(newer)
    expect(((await redis.command(['KEYS', '*'])) as string[]).sort()).toEqual(keys.sort())
  })
})

test.each(['usage', 'past', 'profile'])(
  'a user is not changed if a newer version has written the %s',
  async (kind) => {
    const newer = JSON.stringify({ v: 99, id: 'alice' })
    await redis.command(['SET', `weir:{2}:${kind}:alice`, newer])
    const items = [blockedUser('bob', 1), blockedUser('alice', 1)]
    const comes = importTo().bring('id', 0, { kind: 'users', items })
    await expect(comes).rejects.toThrow(/^a newer version of Weir has written/)
    expect(await redis.command(['KEYS', '*'])).toEqual([`weir:{2}:${kind}:alice`])
  },
)

test('a document of an older version is read with its present meaning', async () => {
  const past = { v: 1, id: 'alice', days: { '2026-11-21': { a: { requests: 2 } } } }
  await redis.command(['SET', 'weir:{2}:past:alice', JSON.stringify(past)])
  const items = [{ ...userOf('alice'), past: { ...past, v: VERSION } }]
  await importTo().bring('id', 0, { kind: 'users', items })
  expect((await store.user('alice'))?.past).toEqual({
    v: VERSION,
    id: 'alice',
    days: { '2026-11-21': { a: { requests: 4 } } },
  })
})

describe("everyone's counters", () => {
  const quota = (at: number, requests: number, usd = 0): QuotaDoc => ({
    v: VERSION,
    at,
    windows: windowsOf(amounts(requests, 10 * requests, usd), at),
  })
  const bring = (id: string, ...items: [string, QuotaDoc][]) =>
    importTo().bring(id, 0, { kind: 'quotas', items })
  const there = async (scope = '') => {
    const text = await redis.command(['GET', `weir:{2}:quota${scope}`])
    return text ? readDocument('quota', JSON.parse(String(text))) : undefined
  }

  test('of the same day are added, for all models and for each', async () => {
    for (const id of ['one', 'two']) {
      await bring(id, ['*', quota(NOON, 3)], ['a/one', quota(NOON, 2)])
    }
    expect(await there()).toEqual(quota(NOON, 6))
    expect(await there(':a/one')).toEqual(quota(NOON, 4))
    expect(await redis.command(['ZRANGE', 'weir:{2}:models', 0, -1, 'WITHSCORES'])).toEqual([
      'a/one',
      String(NOON / DAY_MS - 0.5),
    ])
    const admit = admitOf({ id: '1', everyone: { total: { requestsPerDay: 6 } } })
    expect(await store.execute(admit)).toMatchObject({ reason: 'limit', of: 'everyone', used: 6 })
  })

  test('of a model that is named like a field are added too', async () => {
    for (const id of ['one', 'two']) await bring(id, ['at', quota(NOON, 2)])
    expect(await there(':at')).toEqual(quota(NOON, 4))
  })

  test('of different days are those of the later day, with the later clock', async () => {
    const [earlier, later] = [quota(NOON - DAY_MS, 3), quota(NOON, 2)]
    await bring('one', ['*', earlier])
    await bring('two', ['*', later])
    expect(await there()).toEqual(later)
    await bring('three', ['*', earlier])
    expect(await there()).toEqual(later)
  })

  test('do not import a clock that is ahead, nor usage of that time', async () => {
    const ahead = quota(NOON + DAY_MS, 3)
    const minute = { start: NOON, ...amounts(1, 2) }
    await bring('id', ['*', { ...ahead, windows: { ...ahead.windows, minute } }])
    expect(await there()).toEqual({ v: VERSION, at: NOON, windows: { minute } })
  })

  test('of an unused model are left out', async () => {
    const old = NOON - 33 * DAY_MS
    await bring('id', ['*', quota(old, 1)], ['a', quota(old, 1)])
    expect(await there(':a')).toBeUndefined()
    expect(await there()).toMatchObject({ at: old })
  })

  test.each([
    ['ends the day that went on before', false],
    ['ends the days that went on where the database had lost its clock', true],
  ])('with a later clock %s', async (_, isLost) => {
    const admit = admitOf({ id: '1', now: NOON - 3 * DAY_MS })
    await store.execute(admit)
    await store.execute(settleOf(admit))
    if (isLost) await redis.command(['DEL', 'weir:{2}:quota'])
    const before = await store.days(['2026-11-19'])
    await bring('id', ['*', quota(NOON, 1)])
    expect(await redis.command(['KEYS', 'weir:{2}:day:*'])).toEqual(['weir:{2}:day:2026-11-19'])
    expect(await redis.command(['KEYS', 'weir:{2}:models:*'])).toEqual([])
    expect(await redis.command(['TTL', 'weir:{2}:day:2026-11-19'])).toBe(90 * 86_400)
    expect(await store.days(['2026-11-19'])).toEqual(before)
  })

  test('are not changed if a newer version has written them, and no day is begun', async () => {
    const newer = JSON.stringify({ v: 99 })
    await redis.command(['SET', 'weir:{2}:quota', newer])
    const message = /^a newer version of Weir has written/
    await expect(bring('id', ['*', quota(NOON, 1)])).rejects.toThrow(message)
    const items = [...entered('alice').days.values()]
    await expect(importTo().bring('id', 0, { kind: 'days', items })).rejects.toThrow(message)
    expect(await redis.command(['KEYS', '*'])).toEqual(['weir:{2}:quota'])
    expect(await redis.command(['GET', 'weir:{2}:quota'])).toBe(newer)
  })

  test('that cannot be read are set aside', async () => {
    await redis.command(['SET', 'weir:{2}:quota', 'spoilt'])
    await bring('id', ['*', quota(NOON, 1)])
    expect(await there()).toEqual(quota(NOON, 1))
    expect(await redis.command(['GET', 'weir:{2}:damaged:quota'])).toBe('spoilt')
    expect(warnings).toMatchObject([{ event: 'store.damaged' }])
  })
})

describe('money beyond the digits that Lua writes', () => {
  /** In nano-USD: more than a million dollars, to the last digit. */
  const COST = 1_234_567_890_123_457
  const dear = (id: string, user: string, at: number): Enter => {
    const { event, ...rest } = entry(id)
    const cost = String(COST)
    return { ...rest, user, now: at, event: { ...event, user, at, cost, reservedCost: cost } }
  }
  /** What the reducer keeps of one request of each user a day. */
  const historyOf = (...users: string[]) => {
    const state = reducerState(RETENTION)
    for (const at of [NOON - DAY_MS, NOON]) {
      for (const user of users) state.do(dear(`${user} ${at}`, user, at))
    }
    return state
  }
  const DATES = [dateOf(NOON - DAY_MS), dateOf(NOON)]
  const costs = async (dates = DATES) =>
    (await store.days(dates)).map(({ total, models }) => [total.cost, models['a/one']?.cost])

  test("is added exactly in days and in everyone's counters, whether an import or requests come first", async () => {
    const { days, quotas } = historyOf('alice', 'bob')
    const bring = async () => {
      await importTo().bring('days', 0, { kind: 'days', items: [...days.values()] })
      await importTo().bring('quotas', 0, { kind: 'quotas', items: [...quotas] })
    }
    const used = async () => {
      const users = { sort: 'tokens' as const, limit: 0, now: NOON }
      const { quotas } = await store.overview({ dates: DATES, users, events: 0 })
      return ['*', 'a/one'].flatMap((scope) =>
        ['month', 'week', 'day'].map((window) => quotas[scope]?.windows[window]?.usd),
      )
    }
    for (const before of [true, false]) {
      await redis.flush()
      if (!before) await bring()
      for (const at of [NOON - DAY_MS, NOON]) await store.replay([dear(`carol ${at}`, 'carol', at)])
      if (before) await bring()
      expect(await costs()).toEqual(DATES.map(() => [3 * COST, 3 * COST]))
      expect(await used()).toEqual(['*', 'a/one'].flatMap(() => [6 * COST, 6 * COST, 3 * COST]))
    }
    // The day is folded when the next one begins.
    await store.execute(admitOf({ id: 'next', now: NOON + DAY_MS }))
    expect(await costs()).toEqual(DATES.map(() => [3 * COST, 3 * COST]))
  })

  test('is kept exactly in the documents of an imported user that requests change', async () => {
    const state = historyOf('alice')
    const price = { input: 0, output: 99_999_999_999 }
    const tokens = 12_345_679
    const running = admitOf({ id: 'running', reserved: tokens, completion: tokens, price })
    state.do(running)
    const [usage, past] = [state.usage.get('alice'), state.past.get('alice')]
    await importTo().bring('id', 0, { kind: 'users', items: [{ id: 'alice', usage, past }] })
    // It changes another model, then the day ends, and then a request of the day before ends.
    await store.execute(admitOf({ id: 'other', model: 'b/two', now: NOON + 1 }))
    const tomorrow = NOON + DAY_MS - 1000
    await store.execute(admitOf({ id: 'next', model: 'b/two', now: tomorrow }))
    const { event } = settleOf(running, { cost: String(COST - 2) })
    const ended = { op: 'settle', now: tomorrow, user: 'alice', event } as const
    expect(await store.execute(ended)).toEqual({ applied: true })
    const user = await store.user('alice')
    const rows = DATES.map((date) => user?.past.days[date]?.['a/one'])
    expect(rows.map((row) => row?.cost)).toEqual([COST, 2 * COST - 2])
    expect(user?.usage.windows['month']?.usd).toBe(3 * COST - 2)
    expect(user?.usage.models['a/one']?.windows['month']?.usd).toBe(3 * COST - 2)
    const [told] = await store.events(1)
    const reservedCost = (BigInt(tokens) * BigInt(price.output) + 999n) / 1000n
    expect(told).toMatchObject({ reservedCost: `${reservedCost}`, cost: `${COST - 2}` })
  })
})

test('a frozen copy of another version is not continued', async () => {
  await writeOld([linesOf(0)])
  const copy = `${file}.migrating`
  await writeFile(copy, JSON.stringify({ v: 99, seq: 0, state: {}, origin: {} }))
  await expect(migrateFile(options())).rejects.toThrow('was written by a newer version of Weir')
  await writeFile(copy, JSON.stringify({ v: 1, seq: 0, state: {}, origin: {} }))
  await expect(migrateFile(options())).rejects.toThrow('remove it to begin the migration again')
  await rm(copy)
  expect(await migrateFile(options())).toMatchObject({ records: 3 })
})

/** The entry of a request of 15 tokens that was served without a lease. */
function entry(id: string): Enter {
  const { event } = settleOf(admitOf({ id }))
  return { op: 'enter', now: NOON, user: event.user, event }
}

test('only the newest events are kept', async () => {
  const retention = { ...RETENTION, eventsKept: 30 }
  await writeOld(oldRequests(100))
  await store.replay([1, 2, 3].map((n) => entry(`live-${n}`)))
  const chunk = { items: 10, bytes: 1e6 }
  await migrateFile(options({ retention, target: importTo(rest(), retention), chunk }))
  const kept = await store.events(1000)
  expect(kept).toHaveLength(30)
  expect(kept.slice(0, 3).map(({ id }) => id)).toEqual(['live-3', 'live-2', 'live-1'])
})

test('a document in the database that cannot be read is set aside', async () => {
  const id = await createIds('secret').user('token-of-alice')
  await redis.command(['SET', `weir:{2}:usage:${id}`, 'spoilt'])
  await writeOld([linesOf(0)])
  await migrateFile(options())
  expect(await sumOf(await allUsers())).toEqual([1, 25])
  expect(await redis.command(['GET', `weir:{2}:damaged:usage:${id}`])).toBe('spoilt')
  expect(warnings).toMatchObject([{ event: 'store.damaged' }])
})

test('a file that changes during its migration stays, and is not moved twice', async () => {
  await writeOld([linesOf(0)])
  const target = importTo()
  const bring: Import['bring'] = async (...args) => {
    await utimes(file, 1, 1)
    return target.bring(...args)
  }
  const changed = /has changed since it was read/
  await expect(migrateFile(options({ target: { ...target, bring } }))).rejects.toThrow(changed)
  await expect(migrateFile(options())).rejects.toThrow(changed)
  expect(await dayTotals()).toEqual({ '2026-11-22': { requests: 1, charged: 25 } })
  expect(existsSync(file)).toBe(true)
})

test('a database that loses its data in between gets everything again', async () => {
  const requests = [...oldRequests(100)]
  await writeOld(requests)
  const target = importTo()
  let lost = false
  const bring: Import['bring'] = async (id, from, chunk) => {
    if (from >= 50 && !lost) {
      lost = true
      await redis.flush()
    }
    return target.bring(id, from, chunk)
  }
  const chunk = { items: 10, bytes: 1e6 }
  await migrateFile(options({ target: { ...target, bring }, chunk }))
  expect(lost).toBe(true)
  expect(await dayTotals()).toEqual(totalsOf(requests))
})

const BEFORE = { records: 0, leftOut: 0, damaged: 0, positions: [], before: true }

test('the same old file again adds nothing, also on another day and with other settings', async () => {
  const requests = [...oldRequests(100)]
  await writeOld(requests)
  const retention = { ...RETENTION, eventsKept: 30, historyDays: 30, userDays: 2 }
  await migrateFile(options({ retention, target: importTo(rest(), retention) }))
  const [totals, users, events] = [await dayTotals(), await allUsers(), await store.events(1000)]
  await writeOld(requests)
  expect(await migrateFile(options({ now: () => NOON + DAY_MS }))).toEqual(BEFORE)
  expect(totals).toEqual(totalsOf(requests))
  expect(await dayTotals()).toEqual(totals)
  expect(await allUsers()).toEqual(users)
  expect(await store.events(1000)).toEqual(events)
  expect(await names()).toEqual([`${basename(file)}.migrated`, `${basename(file)}.migrated.1`])
})

test('the same files of Weir again add nothing, also a week later', async () => {
  await writeOwn()
  const [snapshot, journal] = [await readFile(file), await readFile(`${file}.journal`)]
  await migrateFile(options())
  const users = await allUsers()
  for (const bytes of [[snapshot, journal], [await readFile(`${file}.migrated`)]]) {
    await writeFile(file, bytes[0] ?? '')
    await writeFile(`${file}.journal`, bytes[1] ?? '')
    expect(await migrateFile(options({ now: () => NOON + 8 * DAY_MS }))).toEqual(BEFORE)
    expect(await dayTotals()).toEqual({ '2026-11-22': { requests: 4, charged: 60 } })
    expect(await store.events(9)).toHaveLength(4)
    expect(await allUsers()).toEqual(users)
  }
})

test('two servers with the same file import it once', async () => {
  const requests = [...oldRequests(200)]
  await writeOld(requests)
  const other = join(folder, 'other.json')
  await writeFile(other, await readFile(file))
  const chunk = { items: 10, bytes: 1e6 }
  await Promise.all([file, other].map((file) => migrateFile(options({ file, chunk }))))
  expect(await dayTotals()).toEqual(totalsOf(requests))
  expect(await store.events(1000)).toHaveLength(200)
})

test('a chunk of a migration that was killed, and arrives late, changes nothing', async () => {
  const target = importTo()
  const chunk: Chunk = { kind: 'days', items: [...entered('alice').days.values()] }
  expect(await target.bring('id', 0, chunk)).toBe(1)
  expect(await target.bring('id', 0, chunk)).toBe(1)
  expect(await target.progress('id')).toBe(1)
  expect(await dayTotals()).toEqual({ '2026-11-22': { requests: 1, charged: 15 } })
})

test('files that another process uses are not changed', async () => {
  await writeOwn()
  const other = await openOwn()
  await expect(migrateFile(options())).rejects.toThrow('already uses these files')
  await other.close()
  await migrateFile(options())
  expect((await dayTotals())['2026-11-22']).toEqual({ requests: 4, charged: 60 })
})

const database = (): Database => ({ kind: 'rest', url: upstash.url, token: upstash.token })
const connect: Connect = async () => ({ redis: rest(), disconnect: () => undefined })

function start(lines: string[]) {
  const config = { ...readConfig({ USAGE_FILE: file, USER_HASH_SECRET: 'secret' }, 'node') }
  const log = createLog({ level: 'info', format: 'json', write: (line) => lines.push(line) })
  return startMigration({ config, database: database(), connect, log, now: () => NOON })
}

test('it waits for an unavailable database, changes nothing, and logs that', async () => {
  await writeOld([linesOf(0)])
  upstash.fault(() => ({ status: 500 }))
  const lines: string[] = []
  const { done } = start(lines)
  await expect.poll(() => upstash.log.length, { timeout: 8000 }).toBeGreaterThan(0)
  expect(await names()).toEqual([basename(file)])
  upstash.fault(undefined)
  await done
  expect(lines.map((line) => JSON.parse(line) as object)).toMatchObject([
    { level: 'warn', msg: 'migration.waiting' },
    { level: 'info', msg: '📊 Migrated 3 records from file to database' },
  ])
  expect(lines.join()).not.toContain('token-of')
}, 15_000)

test('it can be stopped, and does nothing if there is nothing to move', async () => {
  const lines: string[] = []
  await start(lines).done
  await writeOld([linesOf(0)])
  upstash.fault(() => ({ status: 500 }))
  const { stop } = start(lines)
  await stop()
  expect(upstash.log.length).toBeLessThan(2)
})
