/** Tests for Redis only: the cost of commands, the expiry of documents, and failures of calls. */
import { inspect } from 'node:util'
import { expect, test } from 'vitest'
import { DAY_MS, MINUTE_MS, SECOND_MS } from '../../src/ledger/windows.ts'
import { StoreError, type Store, type UserQuery } from '../../src/store/store.ts'
import { admitOf, AMPLE, failureOf, NOON, settleOf } from '../support/commands.ts'
import { dayOf, idsOf, reportOf, spend, start, TODAY, usedOf } from '../support/contract.ts'
import { useDatabase } from '../support/database.ts'
import { redisStore, type Warning } from '../support/stores.ts'

const { redis, upstash } = useDatabase()

const seconds = async (key: string) => Number(await redis.command(['PTTL', key])) / 1000

/** The Redis commands of one call. */
async function costOf(call: () => Promise<unknown>): Promise<Record<string, number>> {
  await redis.resetStats()
  await call()
  return redis.commandstats()
}

const total = async () =>
  Object.values(await redis.commandstats()).reduce((sum, calls) => sum + calls, 0)

test('the script comes back after SCRIPT FLUSH', async () => {
  const store = redisStore(upstash)
  const admit = await start(store, { id: '1' })
  await redis.command(['SCRIPT', 'FLUSH'])
  expect(await store.execute(settleOf(admit))).toEqual({ applied: true })
  await redis.command(['SCRIPT', 'FLUSH'])
  expect(usedOf(await store.execute({ ...admit, id: '2' }))).toEqual([2, 115])
})

test('a thousand requests of a user run at once, and no more', async () => {
  const store = redisStore(upstash, { sharing: 'calls' })
  const admits = Array.from({ length: 1001 }, (_, n) => admitOf({ id: `${n}` }))
  const answers = await Promise.all(admits.map((admit) => store.execute(admit)))
  const refused = admits.filter((_, n) => !answers[n]?.ok)
  expect(refused).toHaveLength(1)
  expect(answers.find(({ ok }) => !ok)).toMatchObject({ reason: 'running', limit: 1000 })
  const later = { ...refused[0]!, now: NOON + 300_001 }
  expect(await store.execute(later)).toMatchObject({ ok: true })
})

test('the count of new users costs no command, and is one small document', async () => {
  const store = redisStore(upstash)
  await spend(store, { id: '0' })
  const newUsers = { network: 'net', perMinute: 2 }
  const known = { evalsha: 1, mget: 1, set: 1, mset: 1 }
  const admit = (user: string, more = newUsers) =>
    store.execute(admitOf({ id: user, user, newUsers: more }))
  expect(await costOf(() => admit('alice'))).toEqual(known)
  expect(await costOf(() => admit('bob'))).toEqual({ ...known, zadd: 1 })
  await admit('carol')
  expect(await costOf(() => admit('dave'))).toEqual({ evalsha: 1, mget: 1 })
  const key = 'weir:{2}:new-users'
  const doc = JSON.parse(String(await redis.command(['GET', key]))) as object
  expect(doc).toMatchObject({ networks: { net: 2 } })
  // A crowd of networks is counted up to a thousand, and shuts out nobody.
  const networks = Object.fromEntries(Array.from({ length: 1000 }, (_, n) => [`net-${n}`, 1]))
  await redis.command(['SET', key, JSON.stringify({ ...doc, networks })])
  for (const user of ['x', 'y', 'z']) expect(await admit(user)).toMatchObject({ ok: true })
  const counted = { ...newUsers, network: 'net-7' }
  expect(await admit('first', counted)).toMatchObject({ ok: true })
  expect(await admit('second', counted)).toMatchObject({ reason: 'newUsers' })
})

test('personal data expires, and other data is removed by folding and sweeping', async () => {
  await redis.command(['SET', 'weir:{2}:usage:bob', 'not json'])
  const store = redisStore(upstash, { retention: { userDays: 3, historyDays: 5 } })
  await spend(store, { id: '0', now: NOON - DAY_MS })
  await spend(store, { id: '1' })
  await spend(store, { id: '2', user: 'bob' })
  await store.replay([
    {
      ...settleOf(admitOf({ id: '3', user: 'carol', now: NOON - DAY_MS })),
      op: 'enter',
      now: NOON,
    },
  ])
  const block = (until?: number) => ({ at: NOON, ...(until === undefined ? {} : { until }) })
  const base = { op: 'block', now: NOON, model: '*' } as const
  await store.execute({ ...base, user: 'timed', block: block(NOON + 9 * DAY_MS) })
  await store.execute({ ...base, user: 'endless', block: block() })
  await store.execute({ ...base, user: 'lifted', block: block() })
  await store.execute({ ...base, user: 'lifted' })
  const left: Record<string, number> = {}
  for (const key of (await redis.command(['KEYS', 'weir:*'])) as string[]) {
    left[key.slice('weir:{2}:'.length)] = (await seconds(key)) / 86_400
  }
  const near = (days: number) => expect.closeTo(days, 3)
  const ENDLESS = expect.closeTo(0, 3)
  expect(left).toEqual({
    'usage:alice': near(3),
    'past:alice': near(3),
    'usage:bob': near(3),
    'usage:carol': near(3),
    'damaged:usage:bob': near(30),
    'profile:timed': near(9),
    'profile:endless': ENDLESS,
    'once:3': near(7),
    'day:2026-11-21': near(5),
    [`day:${TODAY}`]: ENDLESS,
    [`day:${TODAY}:a/one`]: ENDLESS,
    [`models:${TODAY}`]: ENDLESS,
    quota: ENDLESS,
    'quota:a/one': ENDLESS,
    events: near(5),
    users: near(3),
    models: ENDLESS,
    blocks: ENDLESS,
    audit: ENDLESS,
  })
  expect(await redis.command(['PTTL', 'weir:{2}:profile:endless'])).toBe(-1)
})

test('an admission costs four commands with any limits, and a refusal five at most', async () => {
  const store = redisStore(upstash)
  await start(store, { id: '0' })
  const cost = { evalsha: 1, mget: 1, set: 1, mset: 1 }
  expect(await costOf(() => store.execute(admitOf({ id: '1', reserved: 1 })))).toEqual(cost)
  const rows = { total: { ...AMPLE, requestsPerMinute: 99 }, model: AMPLE }
  const limited = admitOf({ id: '2', reserved: 1, limits: rows, everyone: rows })
  expect(await costOf(() => store.execute(limited))).toEqual(cost)
  const refused = admitOf({ id: '3', limits: { model: { tokensPerDay: 0 } } })
  const counted = { evalsha: 1, mget: 1, hincrby: 1, set: 1 }
  expect(await costOf(() => store.execute(refused))).toEqual({ ...counted, lpush: 1 })
  // It is in the list for this minute already.
  expect(await costOf(() => store.execute({ ...refused, id: '4' }))).toEqual(counted)
  const unknown = { ...refused, id: '5', user: 'nobody' }
  expect(await costOf(() => store.execute(unknown))).toEqual({ evalsha: 1, mget: 1 })
  expect(await costOf(() => store.execute(limited))).toEqual({ evalsha: 1, mget: 1 })
})

test('a settlement costs five commands, and one more if the model or the user is new', async () => {
  const store = redisStore(upstash)
  await spend(store, { id: '0', user: 'bob', now: NOON - SECOND_MS })
  const admits = ['1', '2', '3', '4'].map((id) => admitOf({ id }))
  for (const admit of admits) await store.execute(admit)
  const cost = { evalsha: 1, mget: 1, set: 1, mset: 1, lpush: 1 }
  const [first, second, third, failed] = admits
  const settle = settleOf(first!)
  expect(await costOf(() => store.execute(settle))).toEqual(cost)
  expect(await costOf(() => store.execute(settleOf(second!)))).toEqual(cost)
  const later = settleOf(third!, {}, NOON + 11 * MINUTE_MS)
  expect(await costOf(() => store.execute(later))).toEqual({ ...cost, zadd: 1 })
  expect(await costOf(() => store.execute(failureOf(failed!)))).toEqual(cost)
  expect(await costOf(() => store.execute(settle))).toEqual({ evalsha: 1, mget: 1 })
  const fresh = await start(store, { id: '5', model: 'b/two' })
  const { get = 0, ...rest } = await costOf(() => store.execute(settleOf(fresh)))
  expect(rest).toEqual(cost)
  expect(get).toBeLessThanOrEqual(1)
})

test('requests of one user cost nine commands each in the long run', async () => {
  const store = redisStore(upstash)
  await store.execute(admitOf({ id: 'warm' }))
  await redis.resetStats()
  for (let n = 0; n < 200; n += 1) {
    // Ten seconds apart, like the requests of a busy user.
    const everyone = { total: AMPLE, model: AMPLE }
    await spend(store, { id: `${n}`, now: NOON + n * 10_000, everyone })
  }
  expect((await total()) / 200).toBeLessThan(9.3)
})

test('a plan that is not stored costs a command only the first time', async () => {
  const store = redisStore(upstash)
  await store.execute({ op: 'profile', now: NOON, user: 'u', set: { plan: 'gone' } })
  await spend(store, { id: 'warm', user: 'u' })
  const admit = admitOf({ id: 'next', user: 'u' })
  await redis.resetStats()
  expect(await store.execute(admit)).toMatchObject({ unknownPlan: 'gone' })
  expect((await redis.commandstats()).get).toBeUndefined()
})

test('requests of different users cost ten commands each', async () => {
  const store = redisStore(upstash)
  await spend(store, { id: 'warm' })
  await redis.resetStats()
  for (let n = 0; n < 200; n += 1) await spend(store, { id: `${n}`, user: `user-${n}` })
  expect((await total()) / 200).toBeLessThan(10.3)
})

test('requests of 32 users at once cost at most four commands each', async () => {
  const store = redisStore(upstash, { sharing: 'calls' })
  await store.execute(admitOf({ id: 'warm' }))
  await redis.resetStats()
  upstash.log.length = 0
  const everyone = { total: AMPLE, model: AMPLE }
  const admits = Array.from({ length: 32 }, (_, n) =>
    admitOf({ id: `${n}`, user: `user-${n}`, everyone }),
  )
  await Promise.all(admits.map((admit) => store.execute(admit)))
  await Promise.all(admits.map((admit) => store.execute(settleOf(admit))))
  expect(upstash.log).toHaveLength(2)
  expect((await total()) / 32).toBeLessThanOrEqual(4)
  expect((await dayOf(store))?.total).toMatchObject({ requests: 32, users: 32 })
})

test('a page of the dashboard costs the same at 10 users and at 1,000', async () => {
  const store = redisStore(upstash)
  const users: UserQuery = { sort: 'tokens', limit: 10, now: NOON }
  const look = () => store.overview({ dates: ['2026-11-21', TODAY], users, events: 20 })
  const add = async (from: number, to: number) => {
    for (let n = from; n < to; n += 50) {
      const more = Array.from({ length: Math.min(50, to - n) }, (_, i) =>
        settleOf(admitOf({ id: `${n + i}`, user: `user-${n + i}` })),
      )
      await store.replay(more.map((settle) => ({ ...settle, op: 'enter' as const })))
    }
  }
  await add(0, 10)
  await look()
  const few = await costOf(look)
  await add(10, 1000)
  expect(await costOf(look)).toEqual(few)
  expect(few).toEqual({ zrange: 1, lrange: 1, mget: 1 })
})

test('more than 64 commands at once need more than one call', async () => {
  const store = redisStore(upstash, { sharing: 'calls' })
  const admits = Array.from({ length: 150 }, (_, n) => admitOf({ id: `${n}`, user: `${n % 50}` }))
  await Promise.all(admits.map((admit) => store.execute(admit)))
  const sizes = upstash.log
    .filter(({ commands }) => /^evalsha$/i.test(commands[0]?.[0] ?? ''))
    // evalsha, sha, number of keys, the keys, the common settings, and the commands.
    .map(({ commands: [call = []] }) => call.length - Number(call[2]) - 4)
  expect(sizes.length).toBeGreaterThanOrEqual(3)
  expect(Math.max(...sizes)).toBeLessThanOrEqual(64)
})

test('one bad item in a batch does not fail the others', async () => {
  const store = redisStore(upstash, { sharing: 'calls' })
  const bad = [
    admitOf({ id: 'b1', reserved: NaN }),
    admitOf({ id: 'b2', limits: undefined }),
    admitOf({ id: 'b3', model: 'lone \ud800 surrogate' }),
  ]
  for (const [n, command] of bad.entries()) {
    upstash.log.length = 0
    const good = [admitOf({ id: `${n}-1`, user: 'bob' }), admitOf({ id: `${n}-2`, user: 'bob' })]
    const all = [command, ...good].map((one) => store.execute(one))
    const [spoilt, ...rest] = await Promise.allSettled(all)
    expect(spoilt).toMatchObject({ status: 'rejected', reason: expect.any(StoreError) })
    expect(rest).toMatchObject([{ value: { ok: true } }, { value: { ok: true } }])
    expect(upstash.log.length, 'one call for all').toBeLessThanOrEqual(2)
    expect(await redis.command(['EXISTS', 'weir:{2}:usage:alice'])).toBe(0)
  }
})

test('a bad settlement in a batch does not fail the others, and changes nothing', async () => {
  const store = redisStore(upstash, { sharing: 'calls' })
  const admits = ['1', '2', '3'].map((id) => admitOf({ id, user: id }))
  await Promise.all(admits.map((admit) => store.execute(admit)))
  const [first, ...rest] = admits.map((admit) => settleOf(admit))
  const bad = { ...first!, event: { ...first!.event, charged: NaN } }
  const results = await Promise.allSettled([bad, ...rest].map((one) => store.execute(one)))
  expect(results).toMatchObject([
    { status: 'rejected', reason: expect.any(StoreError) },
    { value: { applied: true } },
    { value: { applied: true } },
  ])
  expect((await dayOf(store))?.total).toMatchObject({ requests: 2, charged: 30 })
  expect(await store.events(9)).toHaveLength(2)
  expect(await store.execute(first!)).toEqual({ applied: true })
})

test('errors are told apart and give nothing away', async () => {
  const warnings: Warning[] = []
  const store = redisStore(upstash, { timeoutMs: 500, warnings })
  const user = 'user-name-in-command'
  const block = { at: NOON, reason: 'reason-in-command' }
  const secrets = [user, block.reason, upstash.url, upstash.token, 'weir:{2}:', 'leaked']
  const faults = [
    { hang: true },
    { reset: true },
    { status: 500, body: '{"error":"ERR leaked"}' },
    { status: 200, body: '{"error":"WRONGTYPE leaked"}' },
    { status: 502, body: '<html>leaked' },
    { status: 200, body: 'leaked' },
    { status: 200, body: '{"result":"leaked"}' },
    { status: 200, body: '{"result":null}' },
    { status: 200, body: '{"result":"{\\"leaked\\":1}"}' },
    { status: 200, body: '{"result":"[]"}' },
  ]
  const messages: string[] = []
  for (const fault of faults) {
    upstash.fault(() => fault)
    const calls = [
      store.execute(admitOf({ id: '1', user })),
      store.execute(settleOf(admitOf({ id: '1', user }))),
      store.replay([settleOf(admitOf({ id: '1', user }))]),
      store.execute({ op: 'block', now: NOON, user, model: '*', block }),
      idsOf(store, { sort: 'tokens' }),
      idsOf(store),
      store.days([TODAY]),
      store.events(9),
      store.execute(reportOf({}, { user })),
      store.execute({ op: 'erase', now: NOON, user }),
      store.audit(9),
      store.blockedUsers(9),
      store.user(user),
    ]
    for (const result of await Promise.allSettled(calls)) {
      const error: unknown = result.status === 'rejected' ? result.reason : result.value
      expect(error, JSON.stringify(fault)).toBeInstanceOf(StoreError)
      const { message, cause } = error as StoreError
      messages.push(message)
      expect(cause).toBeUndefined()
      for (const secret of secrets) expect(inspect(error, { depth: 9 })).not.toContain(secret)
    }
  }
  expect(messages).toContain('the database call failed (TimeoutError)')
  expect(messages).toContain('the database call failed (UpstashError, ERR)')
  expect(messages).toContain('the database call failed (UpstashError, WRONGTYPE)')
  expect(messages).toContain('the database call failed (TypeError)')
  expect(warnings).toEqual([])
})

test('an unavailable database gives a StoreError', async () => {
  const gone: Store = redisStore({ ...upstash, url: 'http://127.0.0.1:1' })
  const error = await gone.execute(admitOf({ id: '1' })).catch((cause: unknown) => cause)
  expect(error).toBeInstanceOf(StoreError)
})

test('a failed call is not sent a second time', async () => {
  const store = redisStore(upstash)
  await store.execute(admitOf({ id: '0' }))
  upstash.log.length = 0
  upstash.fault(() => ({ apply: true, reset: true }))
  await expect(store.execute(admitOf({ id: '1' }))).rejects.toBeInstanceOf(StoreError)
  expect(upstash.log).toHaveLength(1)
})
