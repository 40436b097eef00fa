/** The database fails in many ways. The long form of the first part is `npm run soak:faults`. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest'
import { CONNECTED } from '../../src/store/redis/store.ts'
import { StoreError, type Store } from '../../src/store/store.ts'
import {
  chaos,
  checkAnswers,
  checkBooks,
  databaseVars,
  FAULTS,
  health,
  MODELS,
  openWorld,
  PATIENCE_MS,
  recovered,
  send,
  until,
  type ChaosWorld,
  type FaultName,
  type Line,
  type Run,
  type Sent,
} from '../support/chaos.ts'
import { admitOf, NOON, settleOf } from '../support/commands.ts'
import { useEntry } from '../support/entry.ts'
import { startFaultProxy, type FaultProxy } from '../support/fault-proxy.ts'
import type { Kind } from '../support/gateways.ts'
import { startProcess, type Process } from '../support/process.ts'
import { startRedis, type Redis } from '../support/redis.ts'
import { redisStore, tcpStore, usersOf } from '../support/stores.ts'
import { startUpstash, type Upstash } from '../support/upstash.ts'

// The tests spend most of their time waiting.
vi.setConfig({ maxConcurrency: 7 })

const LINES: Line[] = ['rest', 'tcp']
const TIMEOUT_MS = 90_000
const entry = useEntry()
/** Faults of 5 s and more are in `npm run soak:faults`. */
const SHORT = { ms: 1500, answerMs: 3000 }

const names = Object.keys(FAULTS) as FaultName[]
const node = (line: Line, mode: Run['mode'], fault: FaultName): Run => ({
  ...{ kind: 'node', line, mode, fault, ...SHORT },
})

const RUNS: Run[] = [
  ...LINES.flatMap((line) => names.map((fault) => node(line, 'open', fault))),
  { ...node('tcp', 'open', 'is killed and restarted'), underLoad: true },
  ...(['hangs', 'comes and goes'] as const).map((fault): Run => ({
    ...node('rest', 'open', fault),
    kind: 'workerd',
  })),
  node('rest', 'closed', 'is slow'),
  node('rest', 'closed', 'comes and goes'),
  node('tcp', 'closed', 'refuses'),
]

const title = ({ kind, line, mode, fault, underLoad }: Run) =>
  `${kind}, ${line}, ${mode}: a database that ${fault}${underLoad ? ' under load' : ''}`

describe.concurrent('50 requests in flight get their answers and are counted exactly', () => {
  test.each(RUNS.map((run) => [title(run), run] as const))(
    '%s',
    async (_, run) => {
      const { requests, degraded, refused } = await chaos(run)
      expect(requests).toBeGreaterThan(50)
      if (run.mode === 'open') expect(refused).toBe(0)
      else expect(degraded).toBe(0)
    },
    TIMEOUT_MS,
  )
})

/** Sends many requests at once, and expects an answer to each. */
async function many(url: string, count: number): Promise<Sent[]> {
  const models = Object.keys(MODELS)
  return Promise.all(
    Array.from({ length: count }, (_, n) => send(url, models[n % models.length] ?? '')),
  )
}

const fast = ({ upstream }: ChaosWorld) => {
  for (const [model, transcript] of Object.entries(MODELS)) upstream.on(model, { transcript })
}

describe.concurrent('an unavailable database', () => {
  test.each(LINES)(
    '%s: gets no call while the breaker is open, so that no request waits',
    async (line) => {
      const world = await openWorld({ kind: 'node', line })
      try {
        const { proxy, upstash, gateway, upstream } = world
        fast(world)
        await until(async () => {
          const sent = await many(gateway.url, 5)
          expect(sent.some(({ degraded }) => degraded)).toBe(false)
        }, PATIENCE_MS)
        const heard: string[] = []
        proxy.tap((piece) => heard.push(piece))
        if (line === 'tcp') await proxy.set('stall')
        else upstash.fault(() => ({ hang: true }))
        await until(async () => {
          await many(gateway.url, 5)
          expect((await health(gateway.url)).degraded).toBe(true)
        }, PATIENCE_MS)
        const asked = heard.filter((piece) => /eval/i.test(piece)).length
        expect(asked).toBeGreaterThan(0)
        heard.length = 0
        for (let n = 0; n < 4; n += 1) {
          const sent = await many(gateway.url, 50)
          expect(sent.every(({ degraded }) => degraded)).toBe(true)
          checkAnswers('open', sent, upstream.seen)
        }
        // The script without a command is the try that is made in the background.
        expect(heard.filter((piece) => /"op\\*"|mget|zrange|lrange/i.test(piece))).toEqual([])
      } finally {
        await world.close()
      }
    },
    TIMEOUT_MS,
  )

  test.each<[Kind, Line]>([
    ['node', 'rest'],
    ['node', 'tcp'],
    ['workerd', 'rest'],
  ])(
    '%s, %s: at the start is not needed, and gets the usage when it is available',
    async (kind, line) => {
      const world = await openWorld({ kind, line, down: true })
      try {
        const { gateway, upstream, proxy } = world
        fast(world)
        const sent = await many(gateway.url, 100)
        checkAnswers('open', sent, upstream.seen)
        expect(sent.every(({ degraded }) => degraded)).toBe(true)
        await Promise.all(upstream.seen.map(({ done }) => done))
        await until(async () => {
          expect(await health(gateway.url)).toMatchObject({ degraded: true, queued: 100 })
        }, PATIENCE_MS)
        const connected = () => gateway.log.filter((text) => text.includes(CONNECTED)).length
        expect(connected()).toBe(0)
        await proxy.set('pass')
        await recovered(gateway.url, 0)
        await checkBooks(world, sent, upstream.seen)
        await until(async () => expect(connected()).toBe(1), PATIENCE_MS)
      } finally {
        await world.close()
      }
    },
    TIMEOUT_MS,
  )
})

describe.concurrent('npm start with an unavailable database', () => {
  test(
    'requests that were served before a kill -9 are counted once after it',
    async () => {
      const world = await openWorld({ kind: 'node', line: 'tcp' })
      const folder = await mkdtemp(join(tmpdir(), 'weir-chaos-'))
      const running: Process[] = []
      const start = async () => {
        const vars = {
          // Nobody is known to a new process, so everyone would share a hundredth of these limits.
          GLOBAL_LIMITS: '{}',
          GROQ_BASE_URL: world.upstream.url,
          USAGE_FILE: join(folder, 'usage.json'),
          ...databaseVars('tcp', world.proxy, ''),
        }
        const one = await startProcess(vars, entry.path)
        running.push(one)
        return one
      }
      try {
        fast(world)
        const { proxy, upstream } = world
        // Loads the script, so that the first call with queued entries counts them.
        await world.store.execute({ op: 'note', action: 'export', now: Date.now() })
        await proxy.set('refuse')
        const first = await start()
        expect(first.output()).toContain('Storage: Redis over TCP')
        const sent = await many(first.url, 100)
        checkAnswers('open', sent, upstream.seen)
        expect(sent.every(({ degraded }) => degraded)).toBe(true)
        await until(async () => {
          expect(await health(first.url)).toMatchObject({ degraded: true, queued: 100 })
        }, PATIENCE_MS)
        expect(first.output()).toContain('"msg":"store.down"')
        expect(first.output()).not.toContain(CONNECTED)
        // It is in the queue's file, so it is not logged.
        expect(first.output()).not.toContain('usage.unrecorded')
        await first.end('SIGKILL')

        // Now the database takes the queued entries, and its answer is lost.
        await proxy.set('pass')
        proxy.tap((piece) => {
          if (piece.includes('"enter"')) void proxy.set('cut')
        })
        const second = await start()
        await until(async () => {
          expect((await world.store.events(1000)).length).toBeGreaterThan(0)
        }, PATIENCE_MS)
        await second.end('SIGKILL')

        proxy.tap(undefined)
        await proxy.set('pass')
        const third = await start()
        await recovered(third.url, 0)
        await checkBooks(world, sent, upstream.seen)
        expect(third.output()).toContain(CONNECTED)
        sent.push(...(await many(third.url, 10)))
        await until(() => checkBooks(world, sent, upstream.seen), PATIENCE_MS)
        await third.end('SIGTERM')
      } finally {
        for (const one of running) await one.end('SIGKILL')
        await world.close()
        await rm(folder, { recursive: true })
      }
    },
    TIMEOUT_MS,
  )

  test.each([
    ['has no folder', 'queue.no_file', (file: string) => writeFile(join(file, '..'), 'a file')],
    [
      'cannot be written',
      'queue.not_written',
      (file: string) => mkdir(`${file}.queue`, { recursive: true }),
    ],
  ])(
    'keeps the queue in memory and in the log if its file %s',
    async (_, warning, prepare) => {
      const world = await openWorld({ kind: 'node', line: 'tcp' })
      const folder = await mkdtemp(join(tmpdir(), 'weir-chaos-'))
      const file = join(folder, 'logs', 'usage.json')
      let weir: Process | undefined
      try {
        fast(world)
        await prepare(file)
        const { proxy, upstream } = world
        await proxy.set('refuse')
        const vars = {
          // Nobody is known to a new process, so everyone would share a hundredth of these limits.
          GLOBAL_LIMITS: '{}',
          GROQ_BASE_URL: world.upstream.url,
          USAGE_FILE: file,
          ...databaseVars('tcp', proxy, ''),
        }
        weir = await startProcess(vars, entry.path)
        const sent = await many(weir.url, 30)
        checkAnswers('open', sent, upstream.seen)
        const { url } = weir
        await until(async () => expect((await health(url)).queued).toBe(30), PATIENCE_MS)
        const { output } = weir
        // The log arrives through a pipe, after the answer with the number of queued entries.
        const told = await until(() => {
          const log = output()
            .split('\n')
            .slice(0, -1)
            .filter((line) => line.startsWith('{'))
            .map((line) => JSON.parse(line) as Record<string, unknown>)
          expect(log.some(({ msg }) => msg === warning)).toBe(true)
          const unrecorded = log.filter(({ msg }) => msg === 'usage.unrecorded')
          expect(unrecorded).toHaveLength(30)
          return unrecorded
        }, PATIENCE_MS)
        const ids = told.map(({ usage }) => (usage as { id: string }).id)
        expect(new Set(ids)).toEqual(new Set(sent.map(({ id }) => id)))
        await proxy.set('pass')
        await recovered(url, 0)
        await checkBooks(world, sent, upstream.seen)
      } finally {
        await weir?.end('SIGKILL')
        await world.close()
        await rm(folder, { recursive: true })
      }
    },
    TIMEOUT_MS,
  )
})

/** The number of calls of each method after the database has lost its scripts. */
const VERBS: [string, number, (store: Store) => Promise<unknown>][] = [
  ['admit', 2, (store) => store.execute(admitOf({ id: 'new' }))],
  ['settle', 2, (store) => store.execute(settleOf(admitOf({ id: 'held' })))],
  ['replay', 2, (store) => store.replay([settleOf(admitOf({ id: 'held' }))])],
  ['block', 2, (store) => store.execute({ op: 'block', now: NOON, user: 'bob', model: '*' })],
  ['clear', 2, (store) => store.execute({ op: 'clear', now: NOON })],
  ['listUsers', 2, (store) => usersOf(store, { sort: 'lastActive', limit: 9, now: NOON })],
  ['days', 2, (store) => store.days(['2026-11-22'])],
  ['events', 1, (store) => store.events(9)],
  ['probe', 3, (store) => store.probe()],
]

describe('each call of a method times out at its deadline, and not before', () => {
  const DEADLINE_MS = 300
  let redis: Redis
  let upstash: Upstash
  let proxy: FaultProxy

  beforeAll(async () => {
    redis = await startRedis()
    upstash = await startUpstash(redis)
    proxy = await startFaultProxy(redis.port)
  })
  afterAll(async () => {
    await proxy.close()
    await upstash.close()
    await redis.stop()
  })
  afterEach(() => {
    vi.restoreAllMocks()
    vi.useRealTimers()
  })

  /** A listed user with a lease, and no cached script. */
  async function prepare(): Promise<void> {
    await redis.flush()
    const store = tcpStore(redis.url)
    for (const id of ['ended', 'held']) await store.execute(admitOf({ id }))
    await store.execute(settleOf(admitOf({ id: 'ended' })))
    await redis.command(['SCRIPT', 'FLUSH'])
    await store.remove()
  }

  function watch(promise: Promise<unknown>) {
    const call = { ended: false, promise }
    const end = () => (call.ended = true)
    promise.then(end, end)
    return call
  }

  const turn = () => new Promise((resolve) => setImmediate(resolve))

  /** The deadline passes for a call that the database does not answer; then it gets a last look. */
  async function timeOut(call: ReturnType<typeof watch>): Promise<void> {
    vi.advanceTimersByTime(DEADLINE_MS)
    for (let n = 0; n < 20; n += 1) await turn()
    expect(call.ended).toBe(false)
    vi.advanceTimersByTime(1)
    await expect(call.promise).rejects.toThrow(StoreError)
  }

  test.each(VERBS)('rest: %s', async (_, calls, verb) => {
    const store = redisStore(upstash, { timeoutMs: DEADLINE_MS })
    for (let hangs = 0; hangs <= calls; hangs += 1) {
      await prepare()
      upstash.reset()
      upstash.fault(() => (upstash.log.length > hangs ? { hang: true } : undefined))
      vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
      const call = watch(verb(store))
      while (!call.ended && upstash.log.length <= hangs) await turn()
      if (hangs === calls) {
        await call.promise
        expect(upstash.log).toHaveLength(calls)
      } else await timeOut(call)
      vi.useRealTimers()
    }
  })

  test.each(VERBS)('tcp: %s', async (_, calls, verb) => {
    for (let hangs = 0; hangs <= calls; hangs += 1) {
      await prepare()
      const store = tcpStore(`redis://127.0.0.1:${proxy.port}`, { timeoutMs: DEADLINE_MS })
      await store.events(1)
      let asked = 0
      proxy.tap((piece) => {
        if (piece.startsWith('*')) asked += 1
        if (asked > hangs) void proxy.set('stall')
      })
      vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
      const call = watch(verb(store))
      while (!call.ended && asked <= hangs) await turn()
      if (hangs === calls) {
        await call.promise
        expect(asked).toBe(calls)
      } else await timeOut(call)
      await store.remove()
      vi.useRealTimers()
      proxy.tap(undefined)
      await proxy.set('pass')
    }
  })
})
