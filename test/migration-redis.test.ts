/** A usage file into a real Redis: what is there then, while others write, and when something is in the way. */
import { existsSync } from 'node:fs'
import { mkdtemp, readdir, readFile, rm, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { afterEach, beforeAll, beforeEach, expect, test, vi } from 'vitest'
import { readConfig, type Database } from '../src/config.ts'
import { createLog } from '../src/log.ts'
import { migrateFile, type MigrateOptions } from '../src/migration/migrate.ts'
import { startMigration, type Connect } from '../src/migration/start.ts'
import { createImport, type Chunk, type Import } from '../src/store/import.ts'
import { openLocal } from '../src/store/local.ts'
import { restClient } from '../src/store/rest.ts'
import type { Store } from '../src/store/store.ts'
import { tcpClient } from '../src/store/tcp.ts'
import { reduce } from '../src/usage/ledger.ts'
import {
  DAY_MS,
  dateOf,
  type Enter,
  type PastRow,
  type Settle,
  type UserDoc,
} from '../src/usage/record.ts'
import { createIds } from '../src/usage/user-id.ts'
import { AMPLE, admitOf, NOON, settleOf } from './commands.ts'
import { lineOf, linesOf, oldRequests, totalsOf } from './old-file.ts'
import { startRedis } from './redis.ts'
import { useDatabase } from './database.ts'
import { redisStore, RETENTION, type Warning, usersOf } from './stores.ts'
import { startUpstash } from './upstash.ts'

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
  createImport({ redis: client, retention, now: () => NOON, warn })

const options = (more: Partial<MigrateOptions> = {}): MigrateOptions => ({
  file,
  retention: RETENTION,
  globalLimits: undefined,
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
function sumOf(users: UserDoc[]): [requests: number, charged: number] {
  const rows = users
    .flatMap(({ rows, past }) => [rows, ...Object.values(past)])
    .flatMap((rows) => Object.values<PastRow>(rows))
  const sum = (field: 'requests' | 'charged') => rows.reduce((sum, row) => sum + row[field], 0)
  return [sum('requests'), sum('charged')]
}

const names = async () => (await readdir(dirname(file))).sort()

test('an old file is in the database, by day, user and event, and has its suffix', async () => {
  const requests = [...oldRequests(500)]
  await writeOld(requests)
  const report = await migrateFile(options({ chunk: { items: 50, bytes: 20_000 } }))
  const records = requests.flat().length
  expect(report).toEqual({ records, leftOut: 0, damaged: 0, positions: [] })
  expect(await dayTotals()).toEqual(totalsOf(requests))
  expect(sumOf(await allUsers())).toEqual([500, 500 * 25])
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

test('everything ends when it would have ended if it had been counted here', async () => {
  const ids = createIds('secret')
  await writeOld(
    [3, 1, 0].map((days) => linesOf(0, { timestamp: NOON - days * DAY_MS, userId: `u${days}` })),
  )
  await migrateFile(options())
  const ttl = async (key: string) => Number(await redis.command(['TTL', `weir:1:${key}`]))
  const day = 86_400
  for (const days of [3, 1, 0]) {
    const user = await ttl(`user:${await ids.user(`u${days}`)}`)
    expect(Math.abs(user - (7 - days) * day)).toBeLessThan(5)
    // Until the day is over.
    expect(Math.abs((await ttl(`day:${DATES[days]}`)) - (90.5 - days) * day)).toBeLessThan(5)
  }
  for (const key of ['users', 'top']) expect(Math.abs((await ttl(key)) - 7 * day)).toBeLessThan(5)
  expect(Math.abs((await ttl('events')) - 90 * day)).toBeLessThan(5)
  const keys = (await redis.command(['KEYS', '*'])) as string[]
  for (const key of keys) expect(await ttl(key.slice('weir:1:'.length)), key).toBeGreaterThan(0)
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
  for (const key of ['weir:1:users', 'weir:1:top']) {
    const command = ['ZRANGE', key, 0, -1, 'WITHSCORES']
    expect(await redis.command(command)).toEqual(await other.command(command))
  }
  await front.close()
  await other.stop()
}, 20_000)

test('damaged records are told by their place and set aside as they are', async () => {
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

test('days that are not kept are left out and counted', async () => {
  await writeOld([linesOf(0, { timestamp: NOON - 91 * DAY_MS }), linesOf(0)])
  expect(await migrateFile(options())).toMatchObject({ records: 3, leftOut: 1 })
  expect(await dayTotals()).toEqual({ '2026-11-22': { requests: 1, charged: 25 } })
})

test('a name that is taken gets a number', async () => {
  await writeFile(`${file}.migrated`, 'of another time')
  await writeOld([linesOf(0)])
  await migrateFile(options())
  expect(await readFile(`${file}.migrated`, 'utf8')).toBe('of another time')
  expect(existsSync(`${file}.migrated.1`)).toBe(true)
})

/** Files of our own: settled and open requests, a block, and one that was entered, part of it only in the journal. */
async function writeOwn(): Promise<Settle> {
  const open = () => openLocal({ file, retention: RETENTION, now: () => NOON, warn })
  const first = await open()
  for (const [n, user] of ['alice', 'bob', 'carol'].entries()) {
    const admit = admitOf({ id: `request-${n}`, user, ip: '192.0.2.1' })
    await first.admit(admit)
    await first.settle(settleOf(admit, { session: `s-${n % 2}` }))
  }
  await first.close()
  const second = await open()
  const late = admitOf({ id: 'late', user: 'alice', bound: 70 })
  await second.admit(late)
  await second.setBlock({ op: 'block', now: NOON, user: 'bob', model: '*', block: { at: NOON } })
  const { event } = settleOf(admitOf({ id: 'entered', user: 'dave' }))
  await second.replay([{ op: 'enter', now: NOON, user: 'dave', event }])
  // As after kill -9: the journal is not folded in.
  const [snapshot, journal] = await Promise.all([readFile(file), readFile(`${file}.journal`)])
  await second.close()
  await writeFile(file, snapshot)
  await writeFile(`${file}.journal`, journal)
  return settleOf(late)
}

test('our own files are in the database with leases, blocks and what was entered', async () => {
  const late = await writeOwn()
  expect(await migrateFile(options())).toMatchObject({ records: 4 + 1 + 4 })
  expect(await dayTotals()).toEqual({ '2026-11-22': { requests: 4, charged: 60 } })
  expect(await store.settle(late)).toEqual({ applied: true })
  const again = settleOf(admitOf({ id: 'entered', user: 'dave' })).event
  const replayed = await store.replay([{ op: 'enter', now: NOON, user: 'dave', event: again }])
  expect(replayed).toEqual([{ applied: false }])
  const bob = admitOf({ id: 'bob', user: 'bob' })
  expect(await store.admit(bob)).toMatchObject({ reason: 'blocked' })
  expect(await redis.command(['ZRANGE', 'weir:1:blocks', 0, -1])).toEqual(['bob *'])
  expect(await redis.command(['TTL', 'weir:1:user:bob'])).toBe(-1)
  expect((await store.days(['2026-11-22']))[0]).toMatchObject({ sessions: 3, total: { users: 4 } })
  expect(await names()).toEqual([`${basename(file)}.journal`, `${basename(file)}.migrated`])
  expect(await readFile(`${file}.journal`, 'utf8')).toBe('')
})

test('what admins did and whom they erased is in the database too', async () => {
  const local = await openLocal({ file, retention: RETENTION, now: () => NOON, warn })
  const admit = admitOf({ id: '1', user: 'erin' })
  await local.admit(admit)
  await local.settle(settleOf(admit))
  await local.erase({ op: 'erase', now: NOON + 1, user: 'erin' })
  await local.setBlock({ op: 'block', now: NOON + 2, user: 'bob', model: '*', block: { at: NOON } })
  await local.close()
  await migrateFile(options())
  expect((await store.audit(10)).map(({ action }) => action)).toEqual(['block', 'erase'])
  const { event } = settleOf(admitOf({ id: '2', user: 'erin' }))
  const entered = await store.replay([{ op: 'enter', now: NOON + 9, user: 'erin', event }])
  expect(entered).toEqual([{ applied: false }])
  expect(await store.user('erin')).toBeUndefined()
})

/** Files of our own with a settled request of a user, at noon. */
async function writeUse(user: string): Promise<void> {
  const local = await openLocal({ file, retention: RETENTION, now: () => NOON, warn })
  const admit = admitOf({ id: `of-${user}`, user })
  await local.admit(admit)
  await local.settle(settleOf(admit))
  await local.close()
}

test('who was erased does not come back with a file from before', async () => {
  await store.erase({ op: 'erase', now: NOON + 60_000, user: 'alice' })
  await store.erase({ op: 'erase', now: NOON - 60_000, user: 'bob' })
  await writeUse('alice')
  await writeUse('bob')
  await migrateFile(options())
  expect(await store.user('alice')).toBeUndefined()
  expect((await allUsers()).map(({ id }) => id)).toEqual(['bob'])
  expect((await store.events(9)).map(({ user }) => user)).toEqual(['bob'])
  // As after any erasing the sums stay.
  expect(await dayTotals()).toEqual({ '2026-11-22': { requests: 2, charged: 30 } })
})

test('who is erased while a chunk is on its way does not come back with it', async () => {
  for (const kind of ['users', 'events']) {
    const items = (kind === 'users' ? [blockedUser('alice', 1)] : [entry('1').event]) as never[]
    upstash.fault(async ({ commands: [command] }) => {
      if (command?.[0] !== 'evalsha') return undefined
      upstash.fault(undefined)
      await redis.command(['SET', 'weir:1:erased:alice', String(NOON)])
      return undefined
    })
    const chunk = { kind, items } as Chunk
    expect(await importTo().bring(kind, 0, chunk)).toBe(0)
    expect(await importTo().bring(kind, 0, chunk)).toBe(1)
    expect(await redis.command(['KEYS', '*'])).toHaveLength(2)
    await redis.flush()
  }
})

test('of two moments at which somebody was erased the later one is kept', async () => {
  const erased = (at: number): Chunk => ({ kind: 'erased', items: [['alice', at]] })
  for (const [n, at] of [NOON, NOON + 5, NOON + 2].entries()) {
    expect(await importTo().bring(`import-${n}`, 0, erased(at))).toBe(1)
  }
  expect(await redis.command(['GET', 'weir:1:erased:alice'])).toBe(String(NOON + 5))
})

test('a journal without a snapshot is moved too', async () => {
  await writeOwn()
  const lines = (await readFile(`${file}.journal`, 'utf8')).trim().split('\n')
  await rm(file)
  await migrateFile(options())
  expect(lines).toHaveLength(3)
  expect(await dayTotals()).toEqual({ '2026-11-22': { requests: 1, charged: 15 } })
})

test('what live traffic counts meanwhile and what comes add up exactly', async () => {
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
      const global = { total: AMPLE }
      const admit = admitOf({ id: `live-${number}-${n}`, user, global, now: NOON + n })
      await store.admit(admit)
      const session = await secret.session(`s-${n % 30}`)
      await store.settle(settleOf(admit, { session }))
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
  expect(sumOf(users)).toEqual([600 + live, charged])
  const [day] = await store.days(['2026-11-22'])
  expect(day?.total.users).toBe(users.length)
  expect(day?.sessions).toBe(
    users.reduce((sum, { sessions }) => sum + Object.keys(sessions).length, 0),
  )
  expect(await redis.command(['LLEN', 'weir:1:events'])).toBe(600 + live)
}, 30_000)

/** Milliseconds that the database takes longer with each call. */
const slowly = (delay: number) => upstash.fault(() => ({ delay }))

test('what is of today is moved within seconds, and adds up, while a slow database has 100 requests a second', async () => {
  const USERS = 100
  const secret = createIds('secret')
  const today = Array.from({ length: 600 }, (_, n) =>
    linesOf(n, { timestamp: NOON - n, userId: `token-of-user-${n % USERS}` }),
  )
  await writeOld(today)
  const global = { total: AMPLE }
  slowly(20)
  let done = false
  const ended: Promise<unknown>[] = []
  async function spend(n: number): Promise<void> {
    const user = await secret.user(`token-of-user-${(n * 7) % (USERS + 20)}`)
    const admit = admitOf({ id: `live-${n}`, user, global, now: NOON + n })
    await store.admit(admit)
    await store.settle(settleOf(admit))
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
  const requests = 600 + ended.length
  const charged = 600 * 25 + ended.length * 15
  expect(await dayTotals()).toEqual({ '2026-11-22': { requests, charged } })
  const users = await allUsers()
  expect(sumOf(users)).toEqual([requests, charged])
  expect((await store.days(['2026-11-22']))[0]?.total.users).toBe(users.length)
}, 30_000)

test('a user who is always faster is waited for, and after some time it is said', async () => {
  await writeOld([linesOf(0)])
  const target = importTo()
  const id = await createIds('secret').user('token-of-alice')
  let attempts = 0
  const bring: Import['bring'] = async (...args) => {
    if (args[2].kind !== 'users' || attempts === 25) return target.bring(...args)
    attempts += 1
    upstash.fault(async ({ commands: [command] }) => {
      if (command?.[0] !== 'evalsha') return undefined
      await redis.command(['SET', `weir:1:user:${id}`, `spoilt ${attempts}`])
      return undefined
    })
    const next = await target.bring(...args)
    upstash.fault(undefined)
    return next
  }
  vi.spyOn(Math, 'random').mockReturnValue(0.05)
  const started = performance.now()
  await migrateFile(options({ target: { ...target, bring } }))
  // Of 5 ms, 10, 20, and so on up to a second.
  expect(performance.now() - started).toBeGreaterThan(700)
  vi.restoreAllMocks()
  expect(attempts).toBe(25)
  expect(warnings.filter(({ event }) => event !== 'store.damaged')).toEqual([
    { event: 'migration.contended', fields: { file, misses: 20 } },
  ])
  expect(sumOf(await allUsers())).toEqual([1, 25])
}, 30_000)

/** A user with so many blocks, who has used something. */
const blockedUser = (id: string, count: number): UserDoc => {
  const models = Array.from({ length: count }, (_, n) => [`model-${n}`, { at: NOON }] as const)
  const { user } = reduce(undefined, { ...entry(id), user: id }, NO_VIEW, RETENTION)
  return { ...(user as UserDoc), id, blocks: Object.fromEntries(models) }
}

test('a thousand users with blocks are in at once, each once', async () => {
  const items = Array.from({ length: 1000 }, (_, n) => blockedUser(`user-${n}`, 5))
  const target = importTo()
  expect(await target.bring('id', 0, { kind: 'users', items })).toBe(1000)
  expect(await redis.command(['ZCARD', 'weir:1:blocks'])).toBe(5000)
  expect(await redis.command(['ZCARD', 'weir:1:users'])).toBe(1000)
  expect(sumOf(await allUsers())).toEqual([1000, 15_000])
  const ids = items.map(({ id }) => id)
  expect(new Set((await allUsers()).map(({ id }) => id))).toEqual(new Set(ids))
})

test('ten thousand events are in at once, each once', async () => {
  const items = Array.from({ length: 10_000 }, (_, n) => entry(`event-${n}`).event)
  expect(await importTo().bring('id', 0, { kind: 'events', items })).toBe(10_000)
  expect((await store.events(20_000)).map(({ id }) => id)).toEqual(items.map(({ id }) => id))
})

test.each([
  ['users', 'weir:1:top'],
  ['users', 'weir:1:blocks'],
  ['events', 'weir:1:events'],
])('of %s nothing is written where %s is something else', async (kind, key) => {
  await redis.command(['SET', key, 'of somebody else'])
  const event = { ...entry('1').event }
  const chunk: Chunk =
    kind === 'users'
      ? { kind: 'users', items: [blockedUser('alice', 1)] }
      : { kind: 'events', items: [event] }
  await expect(importTo().bring('id', 0, chunk)).rejects.toThrow(/^the database call failed/)
  expect(await redis.command(['KEYS', '*'])).toEqual([key])
})

test('a time that is none keeps a chunk from being written', async () => {
  const user = { ...blockedUser('alice', 1), seen: NaN }
  const wrong = importTo().bring('id', 0, { kind: 'users', items: [user] })
  await expect(wrong).rejects.toThrow('a time that is none')
  expect(await redis.command(['KEYS', '*'])).toEqual([])
})

test('what a failed call says is its code, and nothing of what was sent', async () => {
  const body = JSON.stringify({ error: 'OOM command not allowed, command was: ["GET","secret"]' })
  upstash.fault(() => ({ status: 400, body }))
  await expect(importTo().progress('id')).rejects.toThrow(/^the database call failed \(\w+, OOM\)$/)
})

test('a day that cannot be read is set aside, and one that was cleared meanwhile has no less than nobody', async () => {
  const target = importTo()
  const { day, user } = reduce(undefined, entry('1'), NO_VIEW, RETENTION)
  const days: Chunk = { kind: 'days', items: day ? [day] : [] }
  await redis.command(['SET', 'weir:1:day:2026-11-22', '{"v":1}'])
  await target.bring('id', 0, days)
  expect(await redis.command(['GET', 'weir:1:damaged:day:2026-11-22'])).toBe('{"v":1}')
  expect(warnings).toEqual([
    {
      event: 'store.damaged',
      fields: {
        keys: ['weir:1:day:2026-11-22'],
        setAside: 'weir:1:damaged:day:2026-11-22',
      },
    },
  ])
  expect(await dayTotals()).toEqual({ '2026-11-22': { requests: 1, charged: 15 } })
  await store.replay([entry('2')])
  await store.clear({ op: 'clear', now: NOON })
  await target.bring('id', 1, { kind: 'users', items: user ? [user] : [] })
  const [cleared] = await store.days(['2026-11-22'])
  expect(cleared).toMatchObject({ sessions: 0, total: { users: 0 }, models: {} })
})

const NO_VIEW = { day: () => undefined, entered: () => false, erasedAt: () => undefined }

/** Counts 15 tokens of a request that was served without a lease. */
function entry(id: string): Enter {
  const { event } = settleOf(admitOf({ id }))
  return { op: 'enter', now: NOON, user: event.user, event }
}

test('only so many events are kept, the newest', async () => {
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
  await redis.command(['SET', `weir:1:user:${id}`, 'spoilt'])
  await writeOld([linesOf(0)])
  await migrateFile(options())
  expect(sumOf(await allUsers())).toEqual([1, 25])
  expect(await redis.command(['GET', `weir:1:damaged:user:${id}`])).toBe('spoilt')
  expect(warnings).toMatchObject([{ event: 'store.damaged' }])
})

test('a file that changes while it is moved stays, and is not moved twice', async () => {
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

test('a database that is lost on the way gets everything again', async () => {
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

test('the same old file again adds nothing, on another day and with other settings too', async () => {
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

test('the same files of our own again add nothing, a week later too', async () => {
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

test('two servers that come with the same file bring it in once', async () => {
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
  const { day } = reduce(undefined, entry('1'), NO_VIEW, RETENTION)
  const chunk: Chunk = { kind: 'days', items: day ? [day] : [] }
  expect(await target.bring('id', 0, chunk)).toBe(1)
  expect(await target.bring('id', 0, chunk)).toBe(1)
  expect(await target.progress('id')).toBe(1)
  expect(await dayTotals()).toEqual({ '2026-11-22': { requests: 1, charged: 15 } })
})

test('files that another process uses are left to it', async () => {
  await writeOwn()
  const other = await openLocal({ file, retention: RETENTION, now: () => NOON, warn })
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

test('it waits for a database that is away, touching nothing, and says so', async () => {
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

test('it can be stopped, and does nothing where there is nothing to move', async () => {
  const lines: string[] = []
  await start(lines).done
  await writeOld([linesOf(0)])
  upstash.fault(() => ({ status: 500 }))
  const { stop } = start(lines)
  await stop()
  expect(upstash.log.length).toBeLessThan(2)
})
