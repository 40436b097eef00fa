/** Turns: a key has a limited number per minute. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { MINUTE_MS, SECOND_MS } from '../../src/ledger/windows.ts'
import { StoreError, type Store } from '../../src/store/store.ts'
import { NOON } from '../support/commands.ts'
import { throughBinding, useStores } from '../support/contract.ts'
import { localStore, redisStore, tcpStore } from '../support/stores.ts'

const { redis, upstash, until } = useStores()

const subjects: [string, (now: () => number) => Promise<Store>][] = [
  ['files', async (now) => until(await localStore(now))],
  ['Redis over TCP', async () => until(tcpStore(redis.url))],
  ['Redis over REST', async () => redisStore(upstash)],
  ['files behind a service binding', async (now) => throughBinding(until(await localStore(now)))],
]
let clock = NOON
beforeEach(() => {
  clock = NOON + 10 * SECOND_MS
  vi.spyOn(Date, 'now').mockImplementation(() => clock)
})
afterEach(() => {
  vi.restoreAllMocks()
})

test.each(subjects)('%s gives each key a number of turns per minute', async (_, openAt) => {
  const store = await openAt(() => clock)
  const take = async (key: string, perMinute: number, count: number) => {
    const turns = Array.from({ length: count }, () => store.takeTurn(key, perMinute))
    return (await Promise.all(turns)).filter(({ taken }) => taken).length
  }
  expect(await store.takeTurn('one', 5)).toEqual({ taken: true, resetAt: NOON + MINUTE_MS })
  expect(await take('one', 5, 50)).toBe(4)
  expect(await store.takeTurn('one', 5)).toEqual({ taken: false, resetAt: NOON + MINUTE_MS })
  expect(await take('two', 5, 50)).toBe(5)
  expect(await take('three', 20, 50)).toBe(20)
  clock = NOON + MINUTE_MS - 1
  expect(await take('one', 5, 1)).toBe(0)
  clock += 2
  expect(await store.takeTurn('one', 5)).toEqual({ taken: true, resetAt: NOON + 2 * MINUTE_MS })
  expect(await take('one', 5, 50)).toBe(4)
})

test('two isolates share turns through the database', async () => {
  const [one, other] = [redisStore(upstash), redisStore(upstash)]
  for (const store of [one, other, one]) {
    expect(await store.takeTurn('key', 3)).toMatchObject({ taken: true })
  }
  expect(await other.takeTurn('key', 3)).toMatchObject({ taken: false })
  expect(await one.takeTurn('key', 3)).toMatchObject({ taken: false })
})

test('turns cost two commands, three in a new minute, none after the last one, and expire', async () => {
  const store = redisStore(upstash)
  await store.takeTurn('a warm-up', 2)
  await redis.resetStats()
  await store.takeTurn('key', 2)
  expect(await redis.commandstats()).toEqual({ evalsha: 1, incrby: 1, pexpire: 1 })
  await redis.resetStats()
  await store.takeTurn('key', 2)
  expect(await redis.commandstats()).toEqual({ evalsha: 1, incrby: 1 })
  await store.takeTurn('key', 2)
  await redis.resetStats()
  upstash.log.length = 0
  expect(await store.takeTurn('key', 2)).toMatchObject({ taken: false })
  expect(upstash.log).toEqual([])
  for (const key of (await redis.command(['KEYS', '*'])) as string[]) {
    expect(key).toMatch(/^weir:\{2\}:turns:/)
    expect(await redis.command(['PTTL', key]), key).toBeGreaterThan(0)
  }
})

test('a time-out of the limiter gives no turn', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
  try {
    const store = redisStore(upstash, { timeoutMs: 300 })
    upstash.fault(() => ({ hang: true }))
    const turn = expect(store.takeTurn('key', 9)).rejects.toBeInstanceOf(StoreError)
    while (upstash.log.length === 0) await new Promise((resolve) => setImmediate(resolve))
    await vi.advanceTimersByTimeAsync(60_000)
    await turn
  } finally {
    vi.useRealTimers()
  }
})

test('a turn is never sent twice', async () => {
  const store = redisStore(upstash, { timeoutMs: 60 })
  await store.takeTurn('key', 9)
  for (const fault of [{ apply: true, reset: true }, { hang: true }, { status: 500 }]) {
    upstash.reset()
    upstash.fault(() => fault)
    await expect(store.takeTurn('key', 9)).rejects.toBeInstanceOf(StoreError)
    expect(upstash.log).toHaveLength(1)
  }
  upstash.reset()
  const key = `weir:{2}:turns:key:${Math.floor(clock / MINUTE_MS)}`
  expect(await redis.command(['GET', key])).toBe('2')
})
