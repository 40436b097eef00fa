/**
 * Random histories of requests in workerd, in which settlements are lost on their way: workerd is killed, clients leave,
 * `waitUntil` ends early, the database answers late or not at all. After each history every request must be in the books
 * once. The short form is edge-histories.test.ts, the long one `npm run soak:edge`.
 */
import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import type { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { build } from 'esbuild'
import { Log, LogLevel, Miniflare, type MiniflareOptions } from 'miniflare'
import { WORKERS, edgeBundle, workersOf } from '../../scripts/bundle.ts'
import { createIds } from '../../src/identity/ids.ts'
import { rowsOf, whole } from '../../src/ledger/rows.ts'
import type { Event } from '../../src/ledger/events.ts'
import type { Row } from '../../src/ledger/documents.ts'
import { dateOf } from '../../src/ledger/windows.ts'
import type { WholeUser } from '../../src/store/store.ts'
import { health, until } from './chaos.ts'
import { call } from './client.ts'
import { randomOf, type Random } from './random.ts'
import { startRedis } from './redis.ts'
import { tcpStore } from './stores.ts'
import { transcripts, type Transcript } from './transcripts.ts'
import { startUpstash, type FaultAction } from './upstash.ts'
import { startUpstream } from './upstream.ts'

const SECRET = 'secret-of-the-histories'
const EVENTS = 20_000
const USERS = 3
/** More events than a history has. */
const LATEST = 400
/** Everything settles within this time, also on a busy machine after an outage. */
const PATIENCE_MS = 45_000

const MODELS: Record<string, Transcript> = {
  'm/plain': transcripts.plain,
  'm/stream': transcripts.stream,
}

/** Ends what `waitUntil` keeps alive after the time that a request names, as a platform does that is short of time. */
const ENTRY = `
import worker from './weir.js'
export default {
  fetch(request, env, ctx) {
    const ms = request.headers.get('x-test-wait')
    const waitUntil = (work) => ctx.waitUntil(
      ms === null ? work : Promise.race([work, new Promise((end) => setTimeout(end, Number(ms)))]))
    return worker.fetch(request, env, { waitUntil, passThroughOnException() {}, props: {} })
  },
}`

/** What the database does with a call. */
const WEATHERS: Record<string, (random: Random) => FaultAction> = {
  late: (random) => ({ delay: random.int(20, 900), apply: random.chance(0.5) }),
  'loses answers': () => ({ reset: true, apply: true }),
  'loses calls': () => ({ reset: true }),
  'answers errors': (random) => ({ status: 500, apply: random.chance(0.5) }),
}

/** What has happened in all histories. */
export type Told = {
  histories: number
  requests: number
  /** Requests that upstream has served. */
  served: number
  kills: number
  left: number
  shortWaits: number
  /** Settlements that the database got, those of them in calls of other requests, and those that it got again. */
  settlements: number
  carried: number
  repeated: number
  /** Requests that never settled: their leases hold what was reserved. */
  running: number
  /** Requests that can have left only a lease, and that other requests settled all the same. */
  rescued: number
}

type Sent = { id?: string; status?: number; user: string; model: string; mayEnd: boolean }

type Options = {
  histories: number
  seed: number
  /** One in this many histories ends with a kill of workerd. */
  killEvery: number
  onProgress?(told: Told): void
}

/** Runs histories, and throws at the first one that is wrong. */
export async function edgeHistories({
  histories,
  seed,
  killEvery,
  onProgress,
}: Options): Promise<Told> {
  const [redis, upstream] = await Promise.all([startRedis(), startUpstream()])
  const upstash = await startUpstash(redis)
  const store = tcpStore(redis.url, { retention: { eventsKept: EVENTS } })
  const worker = await startWorker({
    GROQ_API_KEY: 'gsk_server_key',
    GROQ_BASE_URL: upstream.url,
    ADMIN_KEY: 'admin-key-of-the-tests',
    USER_HASH_SECRET: SECRET,
    KV_REST_API_URL: upstash.url,
    KV_REST_API_TOKEN: upstash.token,
    MODEL_LIMITS: '{"*":{"tokensPerDay":1000000000,"requestsPerDay":1000000}}',
    GLOBAL_LIMITS: '{"total":{"tokensPerDay":1000000000,"requestsPerDay":10000000}}',
    NEW_USERS_PER_MINUTE: '0',
    // What was admitted without the database has no lease.
    ON_STORE_DOWN: 'closed',
    EVENTS_KEPT: String(EVENTS),
    LOG_LEVEL: 'silent',
  })
  const ids = createIds(SECRET)
  const told: Told = {
    ...{ histories: 0, requests: 0, served: 0, kills: 0, left: 0, shortWaits: 0 },
    ...{ settlements: 0, carried: 0, repeated: 0, running: 0, rescued: 0 },
  }
  const all = new Map<string, Event>()
  /** When the last late call has run. */
  let quietAt = 0

  /** The requests of one history, up to the end of their clients. */
  async function play(own: number): Promise<{ sent: Sent[]; users: string[] }> {
    const random = randomOf(own)
    const users = Array.from({ length: USERS }, (_, n) => `token-of-${own}-${n}`)
    const act = random.chance(0.6) ? random.pick(Object.values(WEATHERS)) : undefined
    const often = random.pick([0.1, 0.3, 0.6])
    upstash.fault(() => {
      if (!act || !random.chance(often)) return undefined
      const action = act(random)
      quietAt = Math.max(quietAt, performance.now() + (action.delay ?? 0))
      return action
    })
    for (const [model, transcript] of Object.entries(MODELS)) {
      upstream.on(model, () => ({ transcript, delay: random.int(0, 60), pause: random.int(0, 8) }))
    }
    const isKilled = own % killEvery === 0
    const killed = isKilled ? sleep(random.int(20, 350)).then(worker.kill) : undefined
    const sent = await Promise.all(
      Array.from({ length: random.int(8, 20) }, async (): Promise<Sent> => {
        const one: Sent = {
          user: random.pick(users),
          model: random.pick(Object.keys(MODELS)),
          mayEnd: isKilled,
        }
        const leave = random.chance(0.2) ? random.int(0, 250) : undefined
        const wait = random.chance(0.2) ? random.int(0, 60) : undefined
        if (leave !== undefined || wait !== undefined) one.mayEnd = true
        told.left += leave === undefined ? 0 : 1
        told.shortWaits += wait === undefined ? 0 : 1
        await sleep(random.int(0, 250))
        return ask(one, leave, wait)
      }),
    )
    await killed
    if (isKilled) {
      told.kills += 1
      await worker.restart()
    }
    upstash.fault(undefined)
    return { sent, users }
  }

  async function ask(one: Sent, leave?: number, wait?: number): Promise<Sent> {
    const { user, model } = one
    const { status, headers } = await call(`${worker.url()}/api/groq/openai/v1/chat/completions`, {
      leave,
      headers: {
        authorization: `Bearer ${user}`,
        'content-type': 'application/json',
        ...(wait !== undefined && { 'x-test-wait': String(wait) }),
      },
      body: JSON.stringify({
        ...{ model, stream: MODELS[model]?.stream, max_tokens: 500, user },
        messages: [{ role: 'user', content: 'Hello' }],
      }),
    })
    return status === undefined ? one : { ...one, status, id: String(headers['x-weir-id']) }
  }

  /** The events and the documents of users, at one time. */
  async function booksOf(
    users: string[],
  ): Promise<{ events: Map<string, Event>; found: WholeUser[] }> {
    const read = async () => (await store.events(LATEST)).filter(({ user }) => users.includes(user))
    for (;;) {
      const before = await read()
      const found = await Promise.all(users.map((user) => store.user(user)))
      const events = await read()
      if (events.length !== before.length) continue
      return {
        events: new Map(events.map((event) => [event.id, event])),
        found: found.flatMap((user) => user ?? []),
      }
    }
  }

  /** Waits until nothing is on its way, then checks the books of a history. */
  async function check(sent: Sent[], tokens: string[]): Promise<void> {
    await Promise.all(upstream.seen.map(({ done }) => done))
    await until(async () => {
      const { degraded, queued } = await health(worker.url())
      assert.deepEqual([degraded, queued], [false, 0], 'usage waits for the database')
    }, PATIENCE_MS)
    await sleep(quietAt - performance.now())
    // The next call takes what is listed.
    const last = { user: tokens[0] ?? '', model: 'm/plain', mayEnd: false }
    sent.push(await ask(last))
    const served = upstream.seen.length
    const users = await Promise.all(tokens.map(ids.user))
    const { events, found } = await until(async () => {
      const books = await booksOf(users)
      for (const { id = '', mayEnd, status, model } of sent) {
        if (mayEnd || status !== 200) continue
        const charge = MODELS[model]?.usage?.total
        assert.equal(books.events.get(id)?.charged, charge, `${id} is not settled`)
      }
      return books
    }, PATIENCE_MS)
    await note()
    for (const user of found) checkUser(user, [...events.values()])
    const running = new Set(found.flatMap(({ usage }) => Object.keys(usage.leases)))
    for (const { id = '', status, mayEnd } of sent) {
      if (status !== 200) continue
      const times = Number(events.has(id)) + Number(running.has(id))
      assert.equal(times, 1, `${id} is in the books ${times} times`)
      if (mayEnd && events.has(id)) told.rescued += 1
    }
    const known = running.size + [...events.values()].filter(({ status }) => status !== 503).length
    assert.ok(known >= served, `${served} requests were served, and ${known} are in the books`)
    told.running += running.size
    told.served += served
  }

  /** Checks the sums of a user against the events. */
  function checkUser({ usage, past }: WholeUser, events: Event[]): void {
    const own = events.filter((event) => event.user === usage.id)
    const rows = [rowsOf(usage), ...Object.values(past.days)].flatMap((day) => Object.values(day))
    const sum = (field: keyof Row) => rows.reduce((sum, row) => sum + whole(row)[field], 0)
    const leases = Object.values(usage.leases)
    const reserved = leases.reduce((sum, lease) => sum + lease.reserved.tokens, 0)
    const count = (outcome: string) => own.filter((event) => event.outcome === outcome).length
    assert.deepEqual(
      {
        requests: sum('requests'),
        ended: [sum('exact'), sum('estimated'), sum('failed')],
        charged: sum('charged'),
        reserved: sum('reserved'),
        lost: sum('lost'),
      },
      {
        requests: own.length + leases.length,
        ended: [count('exact'), count('estimated'), count('failed')],
        charged: own.reduce((sum, { charged }) => sum + charged, 0) + reserved,
        reserved,
        lost: 0,
      },
      'a user does not agree with the events',
    )
  }

  /** Counts what the database got in a history, and forgets it. */
  function countCalls(): void {
    const seen = new Set<string>()
    for (const { commands } of upstash.log.splice(0)) {
      const args = commands.flat().filter((arg) => arg.startsWith('{"op":'))
      for (const [n, arg] of args.entries()) {
        if (!arg.startsWith('{"op":"settle"')) continue
        told.settlements += 1
        if (n < args.length - 1) told.carried += 1
        if (seen.has(arg)) told.repeated += 1
        seen.add(arg)
      }
    }
  }

  /** Notes new events, also of earlier histories: a lease may still be settled late. */
  async function note(): Promise<void> {
    for (const event of await store.events(LATEST)) all.set(event.id, event)
  }

  /** All days against all events. */
  async function checkDays(): Promise<void> {
    await note()
    const events = [...all.values()]
    const days = await store.days([...new Set(events.map(({ at }) => dateOf(at)))])
    const add = (field: 'requests' | 'charged') =>
      days.reduce((sum, day) => sum + day.total[field], 0)
    assert.deepEqual(
      [add('requests'), add('charged')],
      [events.length, events.reduce((sum, { charged }) => sum + charged, 0)],
      'the days do not agree with the events',
    )
  }

  try {
    for (let n = 0; n < histories; n += 1) {
      upstream.reset()
      upstash.log.length = 0
      const own = seed + n
      try {
        const { sent, users } = await play(own)
        await check(sent, users)
        told.requests += sent.length
      } catch (error) {
        throw new Error(`history ${own}: ${String(error)}`, { cause: error })
      }
      countCalls()
      told.histories += 1
      onProgress?.(told)
    }
    await checkDays()
    return told
  } finally {
    upstash.reset()
    await worker.close()
    await store.remove()
    await upstash.close()
    await upstream.close()
    await redis.stop('SIGKILL')
  }
}

/** The proxy's bundle in a workerd that can be killed. */
async function startWorker(bindings: Record<string, string>) {
  const { outputFiles } = await build({ ...edgeBundle(WORKERS.proxy, 'weir.js'), write: false })
  const [proxy] = workersOf({ proxy: outputFiles[0]?.text ?? '', pages: '' }, bindings)
  const options = {
    ...proxy,
    serviceBindings: {},
    modules: [
      { type: 'ESModule', path: 'entry.js', contents: ENTRY },
      { type: 'ESModule', path: 'weir.js', contents: outputFiles[0]?.text ?? '' },
    ],
    ...{ host: '127.0.0.1', port: 0, cf: false, log: new Log(LogLevel.NONE) },
    handleRuntimeStdio(stdout: Readable, stderr: Readable) {
      stdout.resume()
      stderr.resume()
    },
  } as MiniflareOptions
  const before = workerds()
  const miniflare = new Miniflare(options)
  let { origin } = await miniflare.ready
  const own = () => workerds().filter((pid) => !before.includes(pid))
  return {
    url: () => origin,
    kill() {
      for (const pid of own()) process.kill(pid, 'SIGKILL')
    },
    async restart() {
      await miniflare.setOptions(options)
      origin = (await miniflare.ready).origin
    },
    close: () => miniflare.dispose(),
  }
}

/** The workerd processes that this process has started. */
const workerds = (): number[] =>
  readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((name) => {
      try {
        const [, command, parent] =
          /\((.*)\) . (\d+)/.exec(readFileSync(`/proc/${name}/stat`, 'utf8')) ?? []
        return Number(parent) === process.pid && command?.startsWith('workerd')
      } catch {
        // The process has ended since.
        return false
      }
    })
    .map(Number)
