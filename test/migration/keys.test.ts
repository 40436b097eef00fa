/** `npm run migrate -- --kv`: the predecessor's keys in the same database, and none of its tokens anywhere else. */
import { beforeAll, describe, expect, test } from 'vitest'
import { usedToday } from '../support/seed.ts'
import { readOldUser, splitBlocked } from '../../src/migration/old-keys.ts'
import { rekey, type RekeyOptions } from '../../src/migration/rekey.ts'
import { createImport, type Import } from '../../src/store/redis/import.ts'
import { IMPORT_SCRIPT } from '../../src/store/redis/import-script.ts'
import { restClient } from '../../src/store/redis/rest.ts'
import type { Store } from '../../src/store/store.ts'
import { tcpClient } from '../../src/store/redis/tcp.ts'
import { newUsage } from '../../src/ledger/new-documents.ts'
import { DAY_MS, HOUR_MS } from '../../src/ledger/windows.ts'
import { createIds } from '../../src/identity/ids.ts'
import { admitOf, NOON, settleOf } from '../support/commands.ts'
import { useDatabase } from '../support/database.ts'
import { redisStore, RETENTION, usersOf } from '../support/stores.ts'

const { redis, upstash } = useDatabase()
let store: Store

beforeAll(() => {
  store = redisStore(upstash)
})

const ids = createIds('secret')

const importTo = (client: Parameters<typeof createImport>[0]['redis']): Import =>
  createImport({
    redis: client,
    script: IMPORT_SCRIPT,
    retention: RETENTION,
    now: () => NOON,
    warn: () => undefined,
  })

const rest = () => restClient({ url: upstash.url, token: upstash.token, timeoutMs: 10_000 })

function options(more: Partial<RekeyOptions> = {}): RekeyOptions {
  const client = rest()
  const common = { retention: RETENTION, now: () => NOON, ids, ipStorage: 'truncated' as const }
  return { redis: client, target: importTo(client), ...common, ...more }
}

const oldUser = (token: string, fields: Record<string, unknown> = {}) => ({
  userToken: token,
  ipAddress: '192.0.2.7',
  lastActive: NOON - 1000,
  modelUsage: {
    'a/one': { tokensUsedDay: 100, tokensRemainingDay: 900, requestsDay: 4 },
    constructor: { tokensUsedDay: 1, tokensRemainingDay: 0, requestsDay: 1 },
  },
  ...fields,
})

const set = (key: string, value: unknown) => redis.command(['SET', key, JSON.stringify(value)])
const keys = async () => ((await redis.command(['KEYS', '*'])) as string[]).sort()
const oldKeys = async () => (await keys()).filter((key) => !key.startsWith('weir:{2}:'))
const users = () => usersOf(store, { sort: 'lastActive', limit: 1000, now: NOON })

test('a user has the day, address and last activity, and the old key is removed', async () => {
  await set('user:token-of-alice', oldUser('token-of-alice'))
  const none = { unreadable: [], stats: 0 }
  expect(await rekey(options())).toEqual({ users: 1, blocks: 0, ...none })
  const id = await ids.user('token-of-alice')
  expect((await users()).map(({ usage }) => usage)).toEqual([
    {
      ...newUsage(id, NOON - 1000),
      seen: NOON - 1000,
      ip: '192.0.2.0',
      ...usedToday(
        {
          'a/one': { requests: 4, exact: 4, charged: 100 },
          constructor: { requests: 1, exact: 1, charged: 1 },
        },
        NOON,
        ['month', 'week', 'day'],
      ),
      indexed: { at: NOON - 1000, tokens: 101 },
    },
  ])
  expect((await keys()).join()).not.toContain('token-of')
  expect(await rekey(options())).toEqual({ users: 0, blocks: 0, ...none })
  expect((await users())[0]?.usage.models['a/one']?.row.charged).toBe(100)
})

test('over TCP it is the same, and a hash is read like a string', async () => {
  const { modelUsage, ...fields } = oldUser('12345678')
  const flat = Object.entries(fields).flatMap(([name, value]) => [name, String(value)])
  const hash = ['HSET', 'user:12345678', ...flat, 'modelUsage', JSON.stringify(modelUsage)]
  await redis.command(hash)
  const { redis: client, close } = tcpClient({ url: redis.url, timeoutMs: 10_000 })
  expect(await rekey(options({ redis: client, target: importTo(client) }))).toMatchObject({
    users: 1,
  })
  close()
  expect((await users())[0]?.usage).toMatchObject({
    models: { 'a/one': { row: { charged: 100 } } },
  })
  expect(await oldKeys()).toEqual([])
})

test('the last active day of a user, if it is not today, is among the past days', async () => {
  await set('user:token-of-alice', oldUser('token-of-alice', { lastActive: NOON - DAY_MS }))
  await rekey(options())
  const user = await ids.user('token-of-alice')
  const admit = admitOf({ id: '1', user })
  await store.execute(admit)
  await store.execute(settleOf(admit))
  expect(await store.user(user)).toMatchObject({
    usage: { models: { 'a/one': { row: { charged: 15 } } } },
    past: { days: { '2026-11-21': { 'a/one': { requests: 4, exact: 4, charged: 100 } } } },
  })
})

test("the old counts are added to Weir's own counts", async () => {
  const user = await ids.user('token-of-alice')
  const admit = admitOf({ id: '1', user })
  await store.execute(admit)
  await store.execute(settleOf(admit))
  await set('user:token-of-alice', oldUser('token-of-alice'))
  await rekey(options())
  expect((await users())[0]?.usage.models['a/one']?.row).toMatchObject({
    requests: 5,
    charged: 115,
  })
  expect((await store.days(['2026-11-22']))[0]).toMatchObject({ total: { users: 1 } })
})

test('the old usage of the day counts for the limits of the user', async () => {
  await set('user:token-of-alice', oldUser('token-of-alice'))
  await rekey(options())
  const user = await ids.user('token-of-alice')
  const ask = (limit: number) =>
    store.execute(
      admitOf({ id: '1', user, reserved: 1, limits: { model: { tokensPerDay: limit } } }),
    )
  expect(await ask(100)).toMatchObject({ reason: 'limit', used: 100 })
  expect(await ask(101)).toMatchObject({ ok: true })
})

test('the block and the earlier usage of an erased user do not come back', async () => {
  await set('user:token-of-alice', oldUser('token-of-alice'))
  await set('blocked:token-of-alice:a/one', true)
  const user = await ids.user('token-of-alice')
  await store.execute({ op: 'erase', now: NOON - 500, user })
  expect(await rekey(options())).toMatchObject({ users: 1, blocks: 1 })
  expect(await store.user(user)).toBeUndefined()
  expect((await keys()).join()).not.toMatch(/usage:|past:|profile:|blocks/)
  expect(await oldKeys()).toEqual([])
})

test('documents of a newer version are not changed, and their old keys stay', async () => {
  const user = await ids.user('token-of-alice')
  const newer = JSON.stringify({ v: 99, id: user })
  await redis.command(['SET', `weir:{2}:usage:${user}`, newer])
  await set('user:token-of-alice', oldUser('token-of-alice'))
  await expect(rekey(options())).rejects.toThrow(/^a newer version of Weir/)
  expect(await redis.command(['GET', `weir:{2}:usage:${user}`])).toBe(newer)
  expect(await oldKeys()).toEqual(['user:token-of-alice'])
})

test('blocks are in force for known and unknown users, and keys with the value false are removed', async () => {
  await set('user:token-of-alice', oldUser('token-of-alice'))
  await set('blocked:token-of-alice:a/one', true)
  await set('blocked:token-of-alice:constructor', false)
  await set('blocked:token:with:colons:a/one', true)
  expect(await rekey(options())).toMatchObject({ users: 1, blocks: 3, unreadable: [] })
  const ask = async (token: string, model = 'a/one') =>
    store.execute(admitOf({ id: `${token} ${model}`, user: await ids.user(token), model }))
  expect(await ask('token-of-alice')).toMatchObject({ reason: 'blocked' })
  expect(await ask('token-of-alice', 'constructor')).toMatchObject({ ok: true })
  expect(await ask('token:with:colons')).toMatchObject({ reason: 'blocked' })
  expect(await redis.command(['ZCARD', 'weir:{2}:blocks'])).toBe(2)
  expect(await oldKeys()).toEqual([])
})

test('unreadable keys are reported without their token and stay, and model stats stay', async () => {
  await set('user:token-of-alice', oldUser('token-of-alice', { lastActive: 'today' }))
  await redis.command(['SET', 'user:token-of-bob', 'spoilt'])
  await redis.command(['LPUSH', 'user:token-of-carol', 'a list'])
  await set('blocked:token-of-dave:a/one', 'maybe')
  await set('model:stats:a/one', { totalTokensUsed: 5 })
  const before = await keys()
  const report = await rekey(options())
  const dave = await ids.user('token-of-dave')
  expect(report).toMatchObject({ users: 0, blocks: 0, stats: 1 })
  expect(report.unreadable.toSorted()).toEqual(
    [
      `blocked:${dave}`,
      ...(await Promise.all(
        ['alice', 'bob', 'carol'].map(async (name) => `user:${await ids.user(`token-of-${name}`)}`),
      )),
    ].toSorted(),
  )
  expect(await keys()).toEqual(before)
})

test('a key that the predecessor changes in the meantime is read again', async () => {
  await set('user:token-of-alice', oldUser('token-of-alice'))
  const target = importTo(rest())
  let changes = 0
  const replace: Import['replace'] = async (...args) => {
    if (changes++ < 3)
      await set('user:token-of-alice', oldUser('token-of-alice', { lastActive: NOON - changes }))
    return target.replace(...args)
  }
  await rekey(options({ target: { ...target, replace } }))
  expect(changes).toBe(4)
  expect((await users())[0]?.usage.at).toBe(NOON - 3)
})

test('if other traffic is always faster, fewer keys are replaced at once', async () => {
  for (let n = 0; n < 50; n += 1)
    await set(`user:token-of-user-${n}`, oldUser(`token-of-user-${n}`))
  const target = importTo(rest())
  const replace: Import['replace'] = async (users, old) =>
    old.length <= 4 && target.replace(users, old)
  const report = await rekey(options({ target: { ...target, replace } }))
  expect(report).toMatchObject({ users: 50, unreadable: [] })
  expect(await oldKeys()).toEqual([])
  expect(await users()).toHaveLength(50)
})

test('many keys are all replaced during live traffic, and an interruption doubles nothing', async () => {
  for (let n = 0; n < 500; n += 1) {
    await set(`user:token-of-user-${n}`, oldUser(`token-of-user-${n}`))
    if (n % 5 === 0) await set(`blocked:token-of-user-${n}:b/two`, true)
  }
  let calls = 0
  upstash.fault(() => {
    calls += 1
    return calls % 7 === 0 ? { reset: true, apply: true } : undefined
  })
  let done = false
  const live = (async () => {
    let count = 0
    for (; !done; count += 1) {
      const user = await ids.user(`token-of-user-${count % 500}`)
      const { event } = settleOf(admitOf({ id: `live-${count}`, user }))
      const entry = { op: 'enter' as const, now: NOON, user, event }
      while (
        !(await store.replay([entry]).then(
          () => true,
          () => false,
        ))
      );
    }
    return count
  })()
  while (
    !(await rekey(options()).then(
      () => true,
      () => false,
    ))
  );
  done = true
  const count = await live
  upstash.fault(undefined)
  expect(await oldKeys()).toEqual([])
  const all = await users()
  expect(all).toHaveLength(500)
  const charged = all.reduce((sum, { usage }) => sum + (usage.models['a/one']?.row.charged ?? 0), 0)
  expect(charged).toBe(500 * 100 + count * 15)
  expect(await redis.command(['ZCARD', 'weir:{2}:blocks'])).toBe(100)
}, 30_000)

describe('a blocked key', () => {
  const known = new Set(['token', 'token:one'])
  const split = (rest: string) => splitBlocked(rest, (token) => known.has(token))

  test('has the longest known token', () => {
    expect(split('token:a/one')).toEqual({ token: 'token', model: 'a/one' })
    expect(split('token:one:two')).toEqual({ token: 'token:one', model: 'two' })
  })

  test('with an unknown token ends with the name of a model', () => {
    expect(split('un:known:a/one')).toEqual({ token: 'un:known', model: 'a/one' })
  })

  test('has the name of a LoRA model', () => {
    expect(split('token:one:ft:base:org/name')).toEqual({
      token: 'token:one',
      model: 'ft:base:org/name',
    })
    expect(split('un:known:ft:base:org/name')).toEqual({
      token: 'un:known',
      model: 'ft:base:org/name',
    })
  })

  test.each(['', 'x', ':model', 'token:', 'token:vendor:model', 'a:b c'])(
    '%j cannot be read',
    (rest) => {
      expect(split(rest)).toBeUndefined()
    },
  )
})

test.each<Record<string, unknown>>([
  { lastActive: NOON + 2 * HOUR_MS },
  { lastActive: -1 },
  { modelUsage: undefined },
  { modelUsage: { 'a/one': { tokensUsedDay: -1, requestsDay: 1 } } },
  { modelUsage: { 'a/one': { tokensUsedDay: 1e300, requestsDay: 1 } } },
  { modelUsage: { 'a one': { tokensUsedDay: 1, requestsDay: 1 } } },
  { ipAddress: 7 },
])('a user with %j cannot be read', (fields) => {
  expect(readOldUser('id', JSON.stringify(oldUser('token', fields)), NOON)).toBeUndefined()
  expect(readOldUser('id', JSON.stringify(oldUser('token')), NOON)).toBeDefined()
})
