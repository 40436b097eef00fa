/** The list of users: places in the indexes, pages and cursors. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { INDEX_MS } from '../../src/ledger/activity.ts'
import { DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS } from '../../src/ledger/windows.ts'
import { formatCursor, parseCursor } from '../../src/store/cursor.ts'
import { SWEEP_EVERY, SWEPT } from '../../src/store/redis/keys.ts'
import type { Cursor, UserQuery } from '../../src/store/store.ts'
import { admitOf, NOON } from '../support/commands.ts'
import {
  enterAll,
  idsOf,
  MIDNIGHT,
  readPages,
  spend,
  start,
  userOf,
  useStores,
  type Pages,
} from '../support/contract.ts'
import { redisStore } from '../support/stores.ts'

const { redis, upstash, stores } = useStores()

describe.each(stores)('%s', (_, open) => {
  test('users are listed by last activity, the newest first, at most the limit', async () => {
    const store = await open()
    for (const [n, user] of ['alice', 'bob', 'carol'].entries()) {
      await spend(store, { id: user, user, now: NOON + n * MINUTE_MS })
    }
    expect(await idsOf(store)).toEqual(['carol', 'bob', 'alice'])
    expect(await idsOf(store, { limit: 2 })).toEqual(['carol', 'bob'])
    expect(await idsOf(store, { limit: 0 })).toEqual([])
    await spend(store, { id: 'y', user: 'alice', now: NOON + HOUR_MS })
    expect(await idsOf(store)).toEqual(['alice', 'carol', 'bob'])
  })

  test('a user is listed from the first admission, before anything has ended', async () => {
    const store = await open()
    await start(store, { id: '1' })
    expect(await idsOf(store)).toEqual(['alice'])
    expect(await idsOf(store, { sort: 'tokens' })).toEqual(['alice'])
  })

  test("users are listed by today's tokens, the most first, at most the limit", async () => {
    const store = await open()
    await enterAll(store, [
      { user: 'yesterday', at: NOON - DAY_MS, charged: 1000 },
      { user: 'alice', at: NOON, charged: 20 },
      { user: 'bob', at: NOON, charged: 30 },
      { user: 'alice', at: NOON + 1, charged: 25 },
      { user: 'tomorrow', at: NOON + DAY_MS, charged: 2000 },
    ])
    const list = (limit: number) => idsOf(store, { sort: 'tokens', limit })
    expect(await list(10)).toEqual(['alice', 'bob'])
    expect(await list(1)).toEqual(['alice'])
    expect(await list(0)).toEqual([])
  })

  test('a place changes once in ten minutes, or when the tokens of the day have doubled since', async () => {
    const store = await open()
    const known = async () => (await userOf(store)).usage.indexed
    const at = async (now: number, tokens: number) => {
      await enterAll(store, [{ user: 'alice', at: now, charged: tokens }])
      return known()
    }
    expect(await at(NOON, 10)).toEqual({ at: NOON, tokens: 10 })
    expect(await at(NOON + MINUTE_MS, 5)).toEqual({ at: NOON, tokens: 10 })
    expect(await at(NOON + 2 * MINUTE_MS, 5)).toEqual({ at: NOON, tokens: 10 })
    const doubled = NOON + 3 * MINUTE_MS
    expect(await at(doubled, 1)).toEqual({ at: doubled, tokens: 21 })
    const almost = doubled + INDEX_MS - 1
    expect(await at(almost, 1)).toEqual({ at: doubled, tokens: 21 })
    expect(await at(almost + 1, 1)).toEqual({ at: almost + 1, tokens: 23 })
    // The count starts again with a new day.
    await at(MIDNIGHT - 2, 1)
    expect(await at(MIDNIGHT - 1, 1)).toEqual({ at: MIDNIGHT - 2, tokens: 24 })
    expect(await at(MIDNIGHT, 1)).toEqual({ at: MIDNIGHT, tokens: 1 })
  })

  describe('pages', () => {
    /** Some ids begin alike, so that only the whole id decides the order; the others begin differently. */
    const ids = (count: number) =>
      Array.from({ length: count }, (_, n) => (n % 2 ? `user-${n}` : `${(n * 7919) % 10_007}-${n}`))

    test('in ascending order miss no user while users become active', async () => {
      await fc.assert(
        fc.asyncProperty(
          fc.integer({ min: 20, max: 150 }),
          fc.infiniteStream(fc.nat(399)),
          async (limit, draws) => {
            await redis.flush()
            const store = await open()
            const draw = () => draws.next().value as number
            const all = ids(400)
            await enterAll(
              store,
              all.map((user) => ({ user, at: NOON - (draw() % 5) * MINUTE_MS })),
            )
            let at = NOON
            const between = async () => {
              const active = new Set([draw(), draw(), draw()].map((n) => all[n] as string))
              // Enough time for the users' places to change.
              at += INDEX_MS
              await enterAll(
                store,
                [...active].map((user) => ({ user, at })),
              )
            }
            const query = { sort: 'lastActive', ascending: true, limit, between } as const
            const pages = await readPages(store, query)
            expect(new Set(pages.flat())).toEqual(new Set(all))
            for (const page of pages) {
              expect(page.length).toBeLessThanOrEqual(limit)
              expect(new Set(page).size).toBe(page.length)
            }
          },
        ),
        { numRuns: 3 },
      )
    })

    test('list each user once and in order while no user is active', async () => {
      const store = await open()
      const all = ids(40)
      await enterAll(
        store,
        all.map((user, n) => ({ user, at: NOON - (n % 3) * MINUTE_MS, charged: 1 + (n % 4) })),
      )
      for (const sort of ['lastActive', 'tokens'] as const) {
        for (const ascending of [true, false]) {
          const whole = (await readPages(store, { sort, ascending, limit: 1000 })).flat()
          expect(new Set(whole)).toEqual(new Set(all))
          for (const limit of [1, 7, 39, 40]) {
            const pages = await readPages(store, { sort, ascending, limit })
            expect(pages.flat(), `${sort} by ${limit}`).toEqual(whole)
            expect(pages.map((page) => page.length).slice(0, -1)).toEqual(
              Array.from({ length: pages.length - 1 }, () => limit),
            )
            expect(pages.at(-1)).not.toEqual([])
          }
          const back = await readPages(store, { sort, ascending: !ascending, limit: 15 })
          expect(back.flat().reverse()).toEqual(whole)
        }
      }
    })

    test('are sorted by last activity or by tokens, and equal users by id', async () => {
      const store = await open()
      await enterAll(store, [
        { user: 'user-c', at: NOON - MINUTE_MS, charged: 9 },
        { user: 'user-b', at: NOON, charged: 5 },
        { user: 'user-a', at: NOON + 1000, charged: 5 },
        { user: 'user-d', at: NOON + MINUTE_MS, charged: 1 },
      ])
      const list = async (query: Pages) => (await readPages(store, query)).flat()
      const names = (order: string) => order.split('').map((name) => `user-${name}`)
      expect(await list({ sort: 'lastActive', limit: 1 })).toEqual(names('dbac'))
      expect(await list({ sort: 'lastActive', ascending: true, limit: 1 })).toEqual(names('cabd'))
      expect(await list({ sort: 'tokens', limit: 1 })).toEqual(names('cbad'))
      expect(await list({ sort: 'tokens', ascending: true, limit: 3 })).toEqual(names('dabc'))
    })

    test('continue where they ended although the last user has moved or is missing', async () => {
      const store = await open()
      const users = ['a', 'b', 'c', 'd', 'e'].map((name) => `user-${name}`)
      await enterAll(
        store,
        users.map((user) => ({ user, at: NOON })),
      )
      const query = { sort: 'lastActive', ascending: true, limit: 2, now: NOON } as const
      const { next } = await store.listUsers(query)
      if (!next) throw new Error('There is one more page.')
      await enterAll(store, [{ user: 'user-b', at: NOON + INDEX_MS }])
      const rest = { sort: 'lastActive', ascending: true, limit: 2, from: next } as const
      expect((await readPages(store, rest)).flat()).toEqual(
        ['c', 'd', 'e', 'b'].map((name) => `user-${name}`),
      )
      for (const user of ['user-b', 'user-c']) await store.execute({ op: 'erase', now: NOON, user })
      expect((await readPages(store, rest)).flat()).toEqual(['user-d', 'user-e'])
      const back = { sort: 'lastActive', limit: 2, from: next } as const
      expect((await readPages(store, back)).flat()).toEqual(['user-a'])
    })

    test('have an end', async () => {
      const store = await open()
      await enterAll(store, [{ user: 'alice', at: NOON }])
      const behind: [UserQuery['sort'], Cursor][] = [
        ['lastActive', { score: 0, id: '' }],
        ['lastActive', { score: 1, id: 'x' }],
        ['tokens', { offset: 1 }],
        ['tokens', { offset: 1_000_000 }],
      ]
      for (const [sort, from] of behind) {
        expect(await store.listUsers({ sort, from, limit: 9, now: NOON })).toEqual({ users: [] })
      }
    })
  })
})

describe('the index in Redis', () => {
  const USERS = 'weir:{2}:users'
  const members = async (key = USERS) => (await redis.command(['ZRANGE', key, 0, -1])) as string[]
  const zadds = async () => (await redis.commandstats())['zadd'] ?? 0

  test('is written once in ten minutes for a user, with any number of requests', async () => {
    const store = redisStore(upstash)
    await spend(store, { id: 'first' })
    await redis.resetStats()
    for (let n = 0; n < 60; n += 1) {
      await spend(store, { id: `${n}`, now: NOON + n * 9 * SECOND_MS, reserved: 1 }, 1)
    }
    expect(await zadds()).toBe(0)
    await spend(store, { id: 'later', now: NOON + INDEX_MS })
    expect(await zadds()).toBe(1)
  })

  test('is written again when the tokens of the day have doubled', async () => {
    const store = redisStore(upstash)
    await spend(store, { id: '1', reserved: 100 }, 100)
    await redis.resetStats()
    await spend(store, { id: '2', reserved: 100 }, 100)
    expect(await zadds()).toBe(0)
    await spend(store, { id: '3', reserved: 1 }, 1)
    expect(await zadds()).toBe(1)
    const scores = (await redis.command(['ZRANGE', USERS, 0, -1, 'WITHSCORES'])) as string[]
    expect(scores.filter((_, n) => n % 2 === 0)).toEqual(['a:alice', 't:alice'])
    expect(Number(scores[3]) % 1e10).toBe(201)
  })

  test('loses expired members with the first request of a day, and exists as long as a user does', async () => {
    const store = redisStore(upstash)
    await spend(store, { id: 'old', user: 'old', now: NOON - 9 * DAY_MS })
    const block = { op: 'block', now: NOON - HOUR_MS, user: 'bob' } as const
    const over = { at: NOON - HOUR_MS, until: NOON - MINUTE_MS }
    await store.execute({ ...block, model: 'over', block: over })
    const timed = { ...over, until: NOON + HOUR_MS }
    await store.execute({ ...block, model: 'timed', block: timed })
    await store.execute({ ...block, model: 'for good', block: { at: NOON } })
    await spend(store, { id: 'new' })
    expect(await members('weir:{2}:blocks')).toEqual(['bob timed', 'bob for good'])
    expect(await members()).toEqual(['a:alice', 't:alice'])
    const keys = [USERS, 'weir:{2}:events']
    const left = async (key: string) => Number(await redis.command(['TTL', key]))
    for (const key of keys) {
      expect(await left(key), key).toBeGreaterThan(0)
      await redis.command(['EXPIRE', key, 60])
    }
    await spend(store, { id: 'the second of the day' })
    for (const key of keys) expect(await left(key), key).toBeLessThanOrEqual(60)
    await spend(store, { id: 'of the next day', now: NOON + DAY_MS })
    for (const key of keys) expect(await left(key), key).toBeGreaterThan(60)
  })

  test('loses expired members also during a busy day', async () => {
    const store = redisStore(upstash)
    await spend(store, { id: '0' })
    await redis.command(['ZADD', USERS, 1, 'a:old'])
    for (let n = 1; n < SWEEP_EVERY; n += 33) {
      const some = Array.from({ length: 33 }, (_, k) => spend(store, { id: `${n + k}` }))
      await Promise.all(some)
    }
    expect(await members()).toContain('a:old')
    await spend(store, { id: 'one more' })
    expect(await members()).toEqual(['a:alice', 't:alice'])
  })

  test('keeps the tokens of today and yesterday, and no older ones', async () => {
    const store = redisStore(upstash)
    for (const [user, days] of [
      ['two', 2],
      ['one', 1],
    ] as const) {
      await spend(store, { id: user, user, now: NOON - days * DAY_MS })
    }
    await spend(store, { id: 'now' })
    expect((await members()).sort()).toEqual(['a:alice', 'a:one', 'a:two', 't:alice', 't:one'])
  })

  test('is swept in parts of a limited size', async () => {
    const store = redisStore(upstash)
    await start(store, { id: '0', now: NOON - DAY_MS })
    const old = Array.from({ length: 2 * SWEPT + 88 }, (_, n) => [n + 1, `a:old-${n}`]).flat()
    await redis.command(['ZADD', USERS, ...old])
    const sizes = [2 * SWEPT + 88]
    for (const day of [0, 1, 2, 3]) {
      await store.execute(admitOf({ id: `${day}`, now: NOON + day * DAY_MS }))
      sizes.push((await members()).filter((member) => member.startsWith('a:old')).length)
    }
    expect(sizes).toEqual([2 * SWEPT + 88, SWEPT + 88, 88, 0, 0])
  })
})

describe('a cursor in a link', () => {
  const id = 'abcdefghijklmnopqrstu-'

  test.each<[string, Cursor]>([
    ['0', { offset: 0 }],
    ['120', { offset: 120 }],
    [`29400000~${id}`, { score: 29_400_000, id }],
    [`29400000.25~${id}`, { score: 29_400_000.25, id }],
  ])('%s is %j', (text, cursor) => {
    expect(formatCursor(cursor)).toBe(text)
    expect(parseCursor(text)).toEqual(cursor)
  })

  test.each([
    ...['', 'x', '-1', '1.5', '1.', ' 1', '1 ', 'x1', '1x', '1.x', '9'.repeat(16)],
    ...['~', `~${id}`, `x~${id}`, `1~${id}x`, `x1~${id}`, '1~short', `1~${id.slice(1)}!`, '1~'],
  ])('%j is invalid', (text) => {
    expect(parseCursor(text)).toBeUndefined()
  })
})
