/**
 * Puts a gateway under constant load while its database fails, and then checks the books: what was counted against what
 * upstream served. The short form is chaos.test.ts, the long one `npm run soak:faults`.
 */
import assert from 'node:assert/strict'
import { Agent } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Vars } from '../../src/config/config.ts'
import { rowsOf, whole } from '../../src/ledger/rows.ts'
import { usedIn } from '../../src/ledger/policy.ts'
import { ALL_MODELS, type Row } from '../../src/ledger/documents.ts'
import type { Event, Outcome } from '../../src/ledger/events.ts'
import { dateOf } from '../../src/ledger/windows.ts'
import type { Store, WholeUser } from '../../src/store/store.ts'
import { call, type Call } from './client.ts'
import { startFaultProxy, type FaultProxy } from './fault-proxy.ts'
import { startGateway, type Gateway, type Kind } from './gateways.ts'
import { startRedis, type Redis } from './redis.ts'
import { tcpStore, type TcpStore, usersOf } from './stores.ts'
import { transcripts, type Transcript } from './transcripts.ts'
import { startUpstash, type FaultAction, type Upstash } from './upstash.ts'
import { startUpstream, type Seen, type Upstream } from './upstream.ts'

/** How the gateway reaches its database. */
export type Line = 'rest' | 'tcp'
export type Mode = 'open' | 'closed'

/** What upstream does with a model's requests. */
export const MODELS: Record<string, Transcript> = {
  'm/plain': transcripts.plain,
  'm/details': transcripts['plain-details'],
  'm/stream': transcripts.stream,
  'm/tool': transcripts['tool-call'],
  'm/limited': transcripts['rate-limited'],
}

const IN_FLIGHT = 50
const USERS = 7
/** One in this many clients leaves before its answer has ended. */
const LEAVES = 20
/** A client that was refused waits this long before it asks again, in ms. */
const REFUSED_MS = 100

/** The delay of a slow database in ms, far beyond the deadline of a call. */
const SLOW_MS = 5000
const FLAP_MS = 200
/** Time before the fault and after the recovery, in ms. */
const CALM_MS = 300
/** The wait before the database is tried again grows to 5 s, and to 12 s if the request that tried it was cut off. */
const RECOVERY_MS = 45_000
/** The time for anything that should happen soon, on a busy machine. */
export const PATIENCE_MS = 20_000

export type WorldOptions = {
  kind: Kind
  line: Line
  mode?: Mode
  /** The database is down when the gateway starts. */
  down?: boolean
  /** The longest time that upstream takes to its headers, in ms. */
  answerMs?: number
}

/** The services around a gateway, without the gateway. */
export type Surroundings = {
  redis: Redis
  upstash: Upstash
  upstream: Upstream
  /** In front of Redis, or of its REST server. */
  proxy: FaultProxy
  /** The gateway's variables for them. */
  vars: Vars
  /** Reads the database directly, without the faults. */
  store: TcpStore
  /** Commands that a fault holds back, to run them late. */
  late: number
  /** When the last of them will have run, by `performance.now()`. */
  quietAt: number
  /** Ends all faults, so that the gateway can stop without waiting. */
  calm(): Promise<void>
  close(): Promise<void>
}

export type ChaosWorld = Surroundings & { gateway: Gateway }

/** The gateway's variables for a database behind `proxy`. */
export const databaseVars = (line: Line, { port }: { port: number }, token: string): Vars =>
  line === 'tcp'
    ? { REDIS_URL: `redis://127.0.0.1:${port}` }
    : { KV_REST_API_URL: `http://127.0.0.1:${port}`, KV_REST_API_TOKEN: token }

/** With a `folder`, Redis keeps its data there; otherwise it loses the data with its process. */
export async function openSurroundings(line: Line, folder?: string): Promise<Surroundings> {
  const [redis, upstream] = await Promise.all([startRedis(folder), startUpstream()])
  const upstash = await startUpstash(redis)
  const proxy = await startFaultProxy(
    line === 'tcp' ? redis.port : Number(new URL(upstash.url).port),
  )
  const vars: Vars = {
    GROQ_BASE_URL: upstream.url,
    // All parts of a run share one process, which is slow on a busy machine.
    STORE_TIMEOUT_MS: '500',
    NEW_USERS_PER_MINUTE: '0',
    GLOBAL_LIMITS: '{"total":{"tokensPerDay":1000000000,"requestsPerDay":10000000}}',
    EVENTS_KEPT: '20000',
    LOG_LEVEL: 'info',
    ...databaseVars(line, proxy, upstash.token),
  }
  const store = tcpStore(redis.url, { retention: { eventsKept: 20_000 } })
  const calm = async () => {
    await proxy.set('pass')
    upstash.reset()
  }
  return {
    ...{ redis, upstash, upstream, proxy, vars, store, late: 0, quietAt: 0, calm },
    async close() {
      await store.remove()
      await proxy.close()
      await upstash.close()
      await upstream.close()
      await redis.stop('SIGKILL')
    },
  }
}

/** A new world for one run. */
export async function openWorld(options: WorldOptions): Promise<ChaosWorld> {
  const { kind, line, mode, down, answerMs = 600 } = options
  const around = await openSurroundings(line)
  const { proxy, upstream, vars, close } = around
  if (down) await proxy.set('refuse')
  const gateway = await startGateway(kind, { ...vars, ON_STORE_DOWN: mode ?? 'open' })
  for (const [model, transcript] of Object.entries(MODELS)) {
    upstream.on(model, () => ({
      transcript,
      delay: (0.2 + 0.8 * Math.random()) * answerMs,
      pause: Math.random() * 40,
    }))
  }
  return Object.assign(around, {
    gateway,
    close: async () => {
      await around.calm()
      await gateway.close()
      await close()
    },
  })
}

/** One request of a client and its answer. A client that left knows nothing more. */
export type Sent = {
  marker: string
  model: string
  user: number
  /** By `performance.now()`. */
  started: number
  left: boolean
  status?: number
  id?: string
  degraded?: boolean
  body?: Buffer
}

let markers = 0

/** Sends one request, on a new connection unless there is an agent. */
export async function send(
  url: string,
  model: string,
  { leave, agent }: Pick<Call, 'leave' | 'agent'> = {},
): Promise<Sent> {
  markers += 1
  const user = markers % USERS
  const sent: Sent = {
    ...{ marker: `request-${markers}`, model, user, started: performance.now(), left: false },
  }
  const chunks: Buffer[] = []
  const { left, status, headers, broke } = await call(
    `${url}/api/groq/openai/v1/chat/completions`,
    {
      ...{ agent, leave, take: (chunk) => void chunks.push(chunk) },
      headers: {
        authorization: `Bearer token-of-user-${user}`,
        'content-type': 'application/json',
      },
      body: JSON.stringify({
        model,
        stream: MODELS[model]?.stream ?? false,
        max_tokens: 500,
        user: sent.marker,
        messages: [{ role: 'user', content: 'Hello' }],
      }),
    },
  )
  if (broke) throw new Error(`${sent.marker} for ${model} broke: ${broke.message}`)
  sent.left = left
  if (status === undefined) return sent
  const degraded = headers['x-weir-degraded'] === '1'
  Object.assign(sent, { status, id: String(headers['x-weir-id']), degraded })
  if (!left) sent.body = Buffer.concat(chunks)
  return sent
}

/** Keeps a number of requests in flight until it is stopped, and then lets them end. */
function startLoad({ gateway }: ChaosWorld, leaves: boolean) {
  const agent = new Agent({ keepAlive: true })
  const all: Sent[] = []
  const names = Object.keys(MODELS)
  let stopped = false
  let turn = 0
  async function slot(): Promise<void> {
    while (!stopped) {
      turn += 1
      const how = Math.random() < 0.5 ? 'first bytes' : Math.random() * 400
      const leave = leaves && turn % LEAVES === 0 ? how : undefined
      const sent = await send(gateway.url, names[turn % names.length] ?? '', { leave, agent })
      all.push(sent)
      if (sent.status === 503) await sleep(REFUSED_MS)
    }
  }
  const slots = Promise.all(Array.from({ length: IN_FLIGHT }, slot))
  // It is awaited at the end, which may be much later.
  slots.catch(() => undefined)
  return {
    all,
    async stop(): Promise<Sent[]> {
      stopped = true
      await slots
      agent.destroy()
      return all
    },
  }
}

export type Health = { degraded: boolean; queued: number }

export async function health(url: string): Promise<Health> {
  return (await (await fetch(`${url}/api/test`)).json()) as Health
}

/** Waits until a check passes. Throws its last error if it does not. */
export async function until<T>(check: () => T | Promise<T>, ms: number): Promise<T> {
  for (const end = performance.now() + ms; ;) {
    try {
      return await check()
    } catch (error) {
      if (performance.now() > end) throw error
    }
    await sleep(50)
  }
}

/** Waits until the gateway uses its database again. Where no timer runs, these questions make it try. */
export const recovered = (url: string, queued?: number): Promise<void> =>
  until(async () => {
    const now = await health(url)
    assert.equal(now.degraded, false, 'the gateway does without its database')
    if (queued !== undefined) assert.equal(now.queued, queued, 'usage waits for the database')
  }, RECOVERY_MS)

const markerOf = ({ body }: Seen): string =>
  String((JSON.parse(Buffer.from(body).toString()) as { user?: unknown }).user)

const chargeOf = (model: string): number => MODELS[model]?.usage?.total ?? 0
const sumOf = (events: Event[], pick: (event: Event) => number): number =>
  events.reduce((sum, event) => sum + pick(event), 0)
const total = (events: Event[]): number => sumOf(events, ({ charged }) => charged)

/** All users with all their documents. */
async function allUsers(store: Store): Promise<WholeUser[]> {
  const users = await usersOf(store, { sort: 'lastActive', limit: 100, now: Date.now() })
  const found = await Promise.all(users.map(({ usage }) => store.user(usage.id)))
  return found.flatMap((user) => user ?? [])
}

/** Checks that every counter agrees with the events, no lease is left, and nothing is counted twice. */
export async function checkSums(store: Store, events: Event[]): Promise<void> {
  assert.equal(new Set(events.map(({ id }) => id)).size, events.length, 'an event is there twice')
  const dates = [...new Set(events.map(({ at }) => dateOf(at)))]
  const days = await store.days(dates)
  const add = (pick: (day: (typeof days)[number]) => number) =>
    days.reduce((sum, day) => sum + pick(day), 0)
  const count = (wanted: Outcome) => events.filter(({ outcome }) => outcome === wanted).length
  assert.deepEqual(
    {
      requests: add(({ total: { requests } }) => requests),
      failed: add(({ total }) => total.failed),
      estimated: add(({ total: { estimated } }) => estimated),
      exact: add(({ total: { exact } }) => exact),
      prompt: add(({ total }) => total.prompt),
      completion: add(({ total }) => total.completion),
      overReservation: add(({ total }) => total.overReservation),
      charged: add(({ total: { charged } }) => charged),
    },
    {
      requests: events.length,
      ...{ failed: count('failed'), estimated: count('estimated'), exact: count('exact') },
      prompt: sumOf(events, ({ prompt = 0 }) => prompt),
      completion: sumOf(events, ({ completion = 0 }) => completion),
      overReservation: sumOf(events, ({ charged, reserved }) => Math.max(0, charged - reserved)),
      charged: total(events),
    },
    'the days do not agree with the events',
  )
  const { quotas } = await store.overview({
    ...{ dates, events: 0, users: { sort: 'lastActive', limit: 0, now: Date.now() } },
  })
  const { at = 0, windows } = quotas[ALL_MODELS] ?? {}
  const today = events.filter((event) => dateOf(event.at) === dateOf(at))
  assert.deepEqual(
    usedIn(windows, 'day', at),
    {
      requests: today.filter(({ outcome }) => outcome !== 'failed').length,
      tokens: total(today),
      usd: 0,
    },
    'the counters of everyone do not agree with the events',
  )
  const users = await allUsers(store)
  assert.equal(users.length, new Set(events.map(({ user }) => user)).size, 'users')
  for (const { usage, past } of users) {
    assert.deepEqual(usage.leases, {}, 'a lease is left')
    const own = events.filter((event) => event.user === usage.id)
    const rows = [rowsOf(usage), ...Object.values(past.days)].flatMap((day) => Object.values(day))
    const sum = (field: keyof Row) => rows.reduce((sum, row) => sum + whole(row)[field], 0)
    assert.deepEqual(
      {
        requests: sum('requests'),
        charged: sum('charged'),
        reserved: sum('reserved'),
        lost: sum('lost'),
      },
      { requests: own.length, charged: total(own), reserved: 0, lost: 0 },
      'a user does not agree with the events',
    )
  }
}

/**
 * Checks what clients got: upstream's answer to the byte, or in closed mode a refusal of which upstream knows nothing.
 */
export function checkAnswers(mode: Mode, sent: Sent[], seen: Seen[]): void {
  const served = new Set(seen.map(markerOf))
  assert.equal(served.size, seen.length, 'upstream was asked twice')
  for (const { marker, model, left, status, body } of sent) {
    if (left || status === undefined) continue
    if (mode === 'closed' && status === 503) {
      const { error } = JSON.parse(String(body)) as { error: Record<string, unknown> }
      assert.equal(error.code, 'store_unavailable')
      assert.match(String(error.message), /^Usage cannot be counted right now/)
      assert.ok(!served.has(marker), 'a refused request reached upstream')
      continue
    }
    assert.equal(status, MODELS[model]?.status, `status for ${model}: ${String(body)}`)
    assert.ok(served.has(marker))
    assert.ok(body?.equals(MODELS[model]?.body ?? Buffer.alloc(0)), `the body for ${model}`)
  }
}

/**
 * Checks that the counters equal exactly what upstream served. A refusal in closed mode may be counted as a failed
 * request.
 */
export async function checkBooks(world: ChaosWorld, sent: Sent[], seen: Seen[]): Promise<void> {
  const all = await world.store.events(30_000)
  const refused = all.filter(({ status }) => status === 503)
  const events = all.filter(({ status }) => status !== 503)
  for (const event of refused) assert.deepEqual([event.outcome, event.charged], ['failed', 0])
  assert.equal(events.length, seen.length, 'events and what upstream was asked')
  const charges = seen.reduce((sum, { model }) => sum + chargeOf(model ?? ''), 0)
  assert.equal(total(events), charges, 'tokens charged and tokens served')
  const byId = new Map(events.map((event) => [event.id, event]))
  for (const one of sent) {
    if (one.id === undefined || one.status === 503) continue
    const event = byId.get(one.id)
    assert.ok(event, `${one.marker} is not counted`)
    assert.deepEqual([event.model, event.charged], [one.model, chargeOf(one.model)])
  }
  await checkSums(world.store, all)
}

/**
 * Checks the books after the database lost everything: running requests may be lost with it, but nothing is counted
 * twice.
 */
async function checkAfterLoss(world: ChaosWorld, sent: Sent[], lostAt: number): Promise<void> {
  const events = await world.store.events(30_000)
  const byId = new Map(events.map((event) => [event.id, event]))
  assert.equal(byId.size, events.length, 'an event is there twice')
  const known = new Map(sent.map((one) => [one.id, one]))
  for (const { id, model, charged, status } of events) {
    assert.equal(known.get(id)?.model, model, 'an event of nobody')
    assert.equal(charged, status === 503 ? 0 : chargeOf(model))
  }
  for (const { id, started, status, marker } of sent) {
    if (started > lostAt && status !== 503)
      assert.ok(byId.has(id ?? ''), `${marker} is not counted`)
  }
  const days = await world.store.days([...new Set(events.map(({ at }) => dateOf(at)))])
  const charged = days.reduce((sum, day) => sum + day.total.charged, 0)
  assert.equal(charged, total(events))
}

const HTML = '<!DOCTYPE html><html><title>502 Bad Gateway</title></html>'
const ERRORS: FaultAction[] = [
  { status: 429, body: '{"error":"ERR max requests limit exceeded. Limit: 500000"}' },
  { status: 500, apply: true },
  { status: 502, body: HTML },
  { status: 200, body: HTML },
  { status: 200, body: HTML, apply: true },
  { status: 429, apply: true },
]

/** Makes the database fail for a time, and then repairs it. */
type Fault = (world: Surroundings, line: Line, ms: number) => Promise<void>

const viaProxy =
  (mode: Parameters<FaultProxy['set']>[0]): Fault =>
  async ({ proxy }, _, ms) => {
    await proxy.set(mode)
    await sleep(ms)
    await proxy.set('pass')
  }

const viaRest = async ({ upstash }: Surroundings, ms: number, act: () => FaultAction) => {
  upstash.fault(act)
  await sleep(ms)
  upstash.fault(undefined)
}

const slow: Fault = async (world, line, ms) => {
  if (line === 'tcp') await viaProxy({ late: SLOW_MS })(world, line, ms)
  else {
    await viaRest(world, ms, () => {
      world.late += 1
      return { delay: SLOW_MS }
    })
  }
  world.quietAt = performance.now() + SLOW_MS
}

const errors: Fault = async (world, line, ms) => {
  if (line === 'rest') {
    let turn = 0
    return viaRest(world, ms, () => ERRORS[(turn += 1) % ERRORS.length] ?? {})
  }
  const { command } = world.redis
  await command(['CONFIG', 'SET', 'maxmemory', '1'])
  await sleep(ms / 3)
  await command(['CONFIG', 'SET', 'maxmemory', '0'])
  await command(['REPLICAOF', '127.0.0.1', '1'])
  await sleep(ms / 3)
  await command(['REPLICAOF', 'NO', 'ONE'])
  await viaProxy('page')(world, line, ms / 3)
}

const loseScripts: Fault = async ({ redis }, _, ms) => {
  for (const end = performance.now() + ms; performance.now() < end;) {
    await redis.command(['SCRIPT', 'FLUSH', 'SYNC'])
    await sleep(20)
  }
}

/**
 * The database reads and writes plain values, so it looks healthy, but it fails scripts, and so takes no usage.
 * Sometimes it runs a script and loses the answer.
 */
const noScripts: Fault = async (world, line, ms) => {
  const { proxy, upstash } = world
  const runsScript = (command: string) => /eval/i.test(command)
  let turn = 0
  if (line === 'rest') {
    const ways = [{ reset: true }, { reset: true, apply: true }, { hang: true }, { status: 500 }]
    upstash.fault(({ commands: [[name = ''] = []] }) =>
      runsScript(name) ? ways[(turn += 1) % ways.length] : undefined,
    )
  } else {
    proxy.tap((piece) => {
      turn += runsScript(piece) ? 1 : 0
      void proxy.set(!runsScript(piece) ? 'pass' : turn % 2 === 0 ? 'stall' : 'cut')
    })
  }
  await sleep(ms)
  upstash.fault(undefined)
  proxy.tap(undefined)
  await proxy.set('pass')
}

/** Unreachable for 200 ms and reachable for 200 ms, each time in another way. */
const flap: Fault = async (world, line, ms) => {
  const ways = ['refuse', { late: 4.5 * FLAP_MS }, 'cut', 'stall'] as const
  const end = performance.now() + ms
  for (let turn = 0; performance.now() < end; turn += 1) {
    await viaProxy(ways[turn % ways.length] ?? 'refuse')(world, line, FLAP_MS)
    await sleep(FLAP_MS)
  }
  world.quietAt = performance.now() + 4.5 * FLAP_MS
}

const hang: Fault = (world, line, ms) =>
  line === 'tcp' ? viaProxy('stall')(world, line, ms) : viaRest(world, ms, () => ({ hang: true }))

const restart: Fault = async ({ redis }, _, ms) => {
  await redis.stop('SIGKILL')
  await sleep(ms)
  await redis.restart()
}

export const FAULTS = {
  'is slow': slow,
  refuses: viaProxy('refuse'),
  hangs: hang,
  'resets mid-answer': viaProxy('cut'),
  'answers errors': errors,
  'loses its scripts': loseScripts,
  'runs no scripts': noScripts,
  'is killed and restarted': restart,
  'comes and goes': flap,
} satisfies Record<string, Fault>

export type FaultName = keyof typeof FAULTS

export type Run = WorldOptions & {
  mode: Mode
  fault: FaultName
  /** How long the fault lasts, in ms. */
  ms: number
  /** The database is killed while it has running requests. */
  underLoad?: boolean
}

export type Report = { requests: number; degraded: number; refused: number; late: number }

/** Runs one fault under load and then checks the books. Throws if something is wrong. */
export async function chaos(run: Run): Promise<Report> {
  const world = await openWorld(run)
  try {
    return await go(world, run)
  } catch (error) {
    const lines = world.gateway.log.filter((line) => !/📊|usage.unrecorded/.test(line))
    throw new Error(
      `${error instanceof Error ? error.message : String(error)}\nits log ends with\n${lines.slice(-15).join('\n')}`,
      { cause: error },
    )
  } finally {
    await world.close()
  }
}

async function go(world: ChaosWorld, run: Run): Promise<Report> {
  const { kind, line, mode, fault, ms, underLoad } = run
  const { gateway, upstream, proxy } = world
  const { url } = gateway
  const emptied = fault === 'is killed and restarted'
  // A client that left may be missing from the books, and that looks like lost usage.
  const leaves = kind === 'node' && !underLoad
  let load = startLoad(world, leaves)
  await sleep(CALM_MS)
  let before = 0
  if (emptied && !underLoad) {
    // A killed database loses its leases, so nothing may be running.
    const sent = await load.stop()
    await settled(world)
    await until(() => checkBooks(world, sent, upstream.seen), PATIENCE_MS)
    before = upstream.seen.length
    load = startLoad(world, leaves)
    await world.redis.stop('SIGKILL')
  }
  const lostAt = performance.now()
  await FAULTS[fault](world, line, ms)
  const backAt = performance.now()
  await recovered(url)
  await until(async () => {
    const served = load.all.some(
      ({ started, degraded, status }) => started > backAt && !degraded && status === 200,
    )
    assert.ok(served, 'no request was served with the database that is back')
  }, RECOVERY_MS)
  const sent = await load.stop()
  await sleep(world.quietAt - performance.now())
  await until(async () => assert.equal(proxy.late.waiting, 0), SLOW_MS)
  await settled(world)
  const seen = upstream.seen.slice(before)

  checkAnswers(mode, sent, seen)
  const degraded = sent.filter((one) => one.degraded).length
  const refused = sent.filter(({ status }) => status === 503).length
  const late = world.late + proxy.late.done
  if (fault !== 'loses its scripts') {
    assert.ok((mode === 'open' ? degraded : refused) > 0, 'the fault was not noticed')
    assert.equal((mode === 'open' ? refused : degraded) > 0, false)
  }
  if (fault === 'is slow') assert.ok(late > 0, 'nothing was applied late')
  for (const text of ['"msg":"usage.refused"', '"msg":"store.tend"', '"status":500']) {
    assert.deepEqual(gateway.log.filter((one) => one.includes(text)).slice(0, 1), [])
  }
  assert.equal(gateway.log.filter((one) => one.includes('✅ Redis client connected')).length, 1)

  const check = () =>
    underLoad ? checkAfterLoss(world, sent, lostAt) : checkBooks(world, sent, seen)
  await until(check, PATIENCE_MS)
  // Nothing may arrive later.
  await sleep(CALM_MS)
  await check()
  return { requests: sent.length, degraded, refused, late }
}

/** Waits until every request has ended and nothing waits for the database. */
async function settled({ upstream, gateway }: ChaosWorld): Promise<void> {
  await Promise.all(upstream.seen.map(({ done }) => done))
  await recovered(gateway.url, 0)
}
