/** Tests for a database that answers, but does not let Weir do what it needs. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { createLog } from '../../src/log.ts'
import { memoryQueue } from '../../src/store/fallback/queue.ts'
import { withFallback } from '../../src/store/fallback/store.ts'
import { CONNECTED } from '../../src/store/redis/store.ts'
import { withoutValues } from '../../src/store/redis/words.ts'
import { RefusedError, StoreError, type Store } from '../../src/store/store.ts'
import { admitOf, settleOf } from '../support/commands.ts'
import { useDatabase } from '../support/database.ts'
import { useEntry } from '../support/entry.ts'
import { startProcess } from '../support/process.ts'
import { redisStore, RETENTION, tcpStore, type TcpStore } from '../support/stores.ts'

const { redis, upstash } = useDatabase()

const stores: TcpStore[] = []
const STORES: [string, () => Store][] = [
  ['over REST', () => redisStore(upstash)],
  [
    'over TCP',
    () => {
      const store = tcpStore(redis.url)
      stores.push(store)
      return store
    },
  ],
]

const allow = (...rules: string[]) => redis.command(['ACL', 'SETUSER', 'default', ...rules])

afterEach(async () => {
  await allow('+@all', '~*')
  await redis.command(['CONFIG', 'SET', 'maxmemory-policy', 'noeviction'])
  await redis.command(['REPLICAOF', 'NO', 'ONE'])
  for (const store of stores.splice(0)) await store.remove()
})

/** What the database is made to refuse, and what it says then. */
const REFUSALS: [string, () => Promise<unknown>, RegExp][] = [
  [
    'scripts',
    () => allow('-eval', '-evalsha'),
    /^NOPERM .*no permissions to run the 'eval(sha)?' command/,
  ],
  ['the whole text of a script', () => allow('-eval'), /^NOPERM .*'eval' command/],
  ['one command of the script', () => allow('-mset'), /^ERR .*'?mset'? command|can't run this/],
  ['the keys', () => allow('resetkeys', '~other:*'), /^NOPERM .*key/],
  ['writes, as a replica', () => redis.command(['REPLICAOF', '127.0.0.1', '1']), /^READONLY .+/],
]

describe.each(STORES)('%s', (_, open) => {
  test.each(REFUSALS)('a probe that is refused %s has the reason', async (_, refuse, words) => {
    const store = open()
    expect(await store.probe()).toEqual({})
    await redis.command(['SCRIPT', 'FLUSH'])
    await refuse()
    const error = await store.probe().catch((thrown: unknown) => thrown)
    expect(error).toBeInstanceOf(RefusedError)
    expect((error as RefusedError).reason).toMatch(words)
    expect((error as RefusedError).reason).not.toMatch(/weir:|\{2\}|127\.0\.0\.1|[\da-f]{40}/)
    // The errors of requests have only the code, because the text may quote what they hold.
    const request = await store.execute(admitOf({ id: '1' })).catch((thrown: unknown) => thrown)
    expect((request as StoreError).message).toMatch(
      /^the database call failed \((Upstash|Connection)Error, (NOPERM|ERR|READONLY)\)$/,
    )
  })

  test('a script that is lost after each call still runs', async () => {
    const store = open()
    for (const id of ['1', '2']) {
      await redis.command(['SCRIPT', 'FLUSH'])
      expect(await store.execute(admitOf({ id }))).toMatchObject({ ok: true })
    }
  })

  test('permissions for the keys of Weir only are enough', async () => {
    await allow('resetkeys', '~weir:{2}:*')
    const store = open()
    expect(await store.probe()).toEqual({})
    const admit = admitOf({ id: '1' })
    expect(await store.execute(admit)).toMatchObject({ ok: true })
    expect(await store.execute(settleOf(admit))).toEqual({ applied: true })
    expect(await store.takeTurn('someone', 1)).toMatchObject({ taken: true })
  })

  test('a probe finds whether the database removes keys by itself, if it says so', async () => {
    const store = open()
    expect(await store.probe()).toEqual({})
    await redis.command(['CONFIG', 'SET', 'maxmemory-policy', 'volatile-lru'])
    expect(await store.probe()).toEqual({ evicts: 'volatile-lru' })
    await allow('-info')
    expect(await store.probe()).toEqual({})
  })
})

describe('with the fallback', () => {
  function world(store: Store) {
    const lines: Record<string, unknown>[] = []
    const here = { now: Date.now() }
    const log = createLog({
      level: 'info',
      format: 'json',
      write: (line) => lines.push(JSON.parse(line) as Record<string, unknown>),
    })
    const fallback = withFallback({
      store,
      mode: 'open',
      queue: memoryQueue(log),
      retention: RETENTION,
      connected: 'connected',
      now: () => here.now,
      log,
    })
    const logged = (msg: string) => lines.filter((line) => line.msg === msg)
    /** Lets the recovery try again some times. */
    const later = async () => {
      for (let n = 0; n < 6; n += 1) {
        here.now += 6000
        await fallback.tend()
      }
    }
    return { fallback, logged, later }
  }

  test('a database that only reads is away, and does not come and go', async () => {
    await allow('-eval', '-evalsha')
    const { fallback, logged, later } = world(redisStore(upstash))
    for (const id of ['1', '2', '3']) {
      expect(await fallback.events(1)).toEqual([])
      expect(await fallback.execute(admitOf({ id }))).toMatchObject({ degraded: true })
    }
    expect(fallback.health().degraded).toBe(true)
    await later()
    const { degraded, reason } = fallback.health()
    expect(degraded).toBe(true)
    expect(reason).toMatch(/^NOPERM .*'evalsha' command/)
    expect(logged('store.down')).toHaveLength(1)
    expect(logged('store.refused')).toMatchObject([{ reason }])
    expect([...logged('store.up'), ...logged('connected')]).toEqual([])
    await allow('+@all')
    await later()
    expect(fallback.health()).toEqual({ degraded: false, queued: 0 })
    expect(logged('store.up')).toHaveLength(1)
  })

  test('one refused probe is enough', async () => {
    await allow('-mset')
    const { fallback, logged } = world(redisStore(upstash))
    await expect(fallback.probe()).rejects.toBeInstanceOf(RefusedError)
    expect(fallback.health()).toMatchObject({
      degraded: true,
      reason: expect.stringMatching(/^ERR/),
    })
    expect(logged('store.down')).toMatchObject([
      { error: expect.stringContaining('RefusedError: the database refuses what Weir needs: ERR') },
    ])
  })

  test('a database that removes keys by itself is reported once', async () => {
    await redis.command(['CONFIG', 'SET', 'maxmemory-policy', 'allkeys-lru'])
    const { fallback, logged } = world(redisStore(upstash))
    await fallback.probe()
    await fallback.probe()
    expect(fallback.health()).toEqual({ degraded: false, queued: 0, evicts: 'allkeys-lru' })
    expect(logged('store.evicts')).toMatchObject([{ policy: 'allkeys-lru' }])
  })
})

const entry = useEntry()

test('npm start names why the database cannot be used, and that it removes keys', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'weir-refused-'))
  const vars = {
    REDIS_URL: redis.url,
    USAGE_FILE: join(folder, 'x.json'),
    STORE_TIMEOUT_MS: '9000',
  }
  const outputOf = async () => {
    const weir = await startProcess(vars, entry.path)
    await weir.end('SIGTERM')
    return weir.output()
  }
  try {
    await redis.command(['CONFIG', 'SET', 'maxmemory-policy', 'allkeys-lru'])
    expect(await outputOf()).toContain('when its memory is full (maxmemory-policy allkeys-lru)')
    await allow('-eval', '-evalsha')
    const output = await outputOf()
    expect(output).toMatch(/\nThe database cannot be used: NOPERM .*'evalsha' command\n/)
    expect(output).toContain('"msg":"store.down"')
    expect(output).not.toContain(CONNECTED)
  } finally {
    await rm(folder, { recursive: true })
  }
}, 30_000)

test.each([
  ["NOPERM User alice has no permissions to run the 'eval' command", 'alice'],
  ["ERR unknown command 'EVALSHA', with args beginning with: 'secret-key' '1'", 'secret'],
  ['NOPERM this user has no permissions, command was: ["evalsha","secret"]', 'secret'],
  ['ERR connect ECONNREFUSED 10.1.2.3:6379', '10.1'],
  ['ERR connect ECONNREFUSED [2001:db8::1]:6379', '2001'],
  ['MOVED 3999 10.1.2.3:6379', '10.1'],
  ['ERR no such thing as my-value', 'my-value'],
  ['READONLY You can’t write. script: 0123456789012345678901234567890123456789, on @x:1', '0123'],
])('%s is shown without %s', (reply, value) => {
  const text = withoutValues(reply, ['my-value'])
  expect(text).not.toContain(value)
  expect(text.split(' ')[0]).toBe(reply.split(' ')[0])
})

test('the text of a reply stays as it is otherwise', () => {
  for (const reply of [
    "OOM command not allowed when used memory > 'maxmemory'.",
    'WRONGPASS invalid or missing auth token',
    'ERR max requests limit exceeded. Limit: 500000, Usage: 500001.',
    "CROSSSLOT Keys in request don't hash to the same slot",
  ]) {
    expect(withoutValues(reply)).toBe(reply)
  }
})
