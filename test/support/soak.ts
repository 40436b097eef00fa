/**
 * The soak: users, browsers and admins use a gateway in a separate process, while its database fails and recovers and
 * upstream misbehaves. Then the books are checked, request by request. The short form is soak.test.ts, the long one
 * `npm run soak`.
 */
import assert from 'node:assert/strict'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Event } from '../../src/ledger/events.ts'
import {
  checkSums,
  FAULTS,
  health,
  openSurroundings,
  PATIENCE_MS,
  recovered,
  until,
  type FaultName,
  type Line,
  type Surroundings,
} from './chaos.ts'
import { startProcess, type Process } from './process.ts'
import { randomOf, type Random } from './random.ts'
import { startClients, type Asked } from './soak-clients.ts'
import { MAX_COMPLETION_TOKENS, misbehave, type Served } from './soak-upstream.ts'

export type SoakOptions = {
  seed: number
  /** How long clients send requests, in ms. */
  ms: number
  line: Line
  /** Users that send requests at the same time. */
  slots: number
  /** See `ClientOptions`. */
  paceMs: number
  /** The deadline of a request, and the one for upstream's first byte. */
  requestSeconds: number
  upstreamMs: number
  /** The size of the largest answers. */
  largeBytes: number
  /** The shortest and the longest time with and without the database, in ms. */
  upMs: [number, number]
  downMs: [number, number]
  /** The ways in which it fails, in turn, from a random one on. */
  faults: FaultName[]
  /** Gets a progress report now and then. */
  onProgress?: { everyMs: number; tell(progress: Progress): void }
}

export type Progress = {
  ms: number
  requests: number
  outcomes: Outcomes
  rss: number
  degraded: boolean
  queued: number
  fault: string | undefined
}

/** How a request ended: as the ledger counts it, refused, or its client left before it was read. */
type Ended = Event['outcome'] | 'refused' | 'unread'
export type Outcomes = Record<Ended, number>

export type SoakReport = {
  requests: number
  /** By kind: requests for tokens first, then what browsers and admins did. */
  kinds: Record<string, number>
  outcomes: Outcomes
  /** Tokens that upstream reported, and the tokens charged to exact requests. */
  served: number
  exact: number
  /** Tokens charged by estimate, and tokens charged as whole reservations. */
  estimates: number
  reservations: number
  /** The total charge, in the days and in the users. */
  charged: number
  left: number
  degraded: number
  /** Requests that were cut at their deadline, whatever upstream would have answered. */
  cut: number
  answers: Record<string, number>
  faults: Record<string, number>
  /** Resident memory in bytes, once a second. */
  rss: number[]
  /** Everything that was not as it should be. */
  wrong: string[]
  /** The whole output of the gateway. */
  log: string
}

const SECRET = 'secret-of-the-soak'

/** By another clock, timers may fire this much early, in ms. */
const TIMER_MS = 20

/** How often events are collected and memory is read, in ms. */
const LOOK_MS = 1000

/** The wait after everything has ended, in ms. */
const CALM_MS = 300

/** The number of newest events that usually reaches back to the last look, and the number that Redis keeps. */
const FEW = 500
const KEPT = 20_000

/** Log entries that a healthy gateway never writes. */
const ALARMS = /usage\.refused|store\.(tend|damaged|unreadable)|queue\.|"code":"internal_error"/

/** Collects the events as they arrive, since the database keeps only the newest. */
function collector({ store }: Surroundings) {
  const events: Event[] = []
  return {
    events,
    async collect(): Promise<void> {
      const last = events.at(-1)?.id
      let newest = await store.events(FEW)
      let at = newest.findIndex(({ id }) => id === last)
      if (at < 0) {
        newest = await store.events(KEPT)
        at = newest.findIndex(({ id }) => id === last)
        if (at < 0) at = newest.length
      }
      events.push(...newest.slice(0, at).reverse())
    },
  }
}

/** The memory of a process on Linux; unknown elsewhere. */
async function residentBytes({ pid }: Process): Promise<number | undefined> {
  const status = await readFile(`/proc/${pid}/status`, 'latin1').catch(() => '')
  const [, kilobytes] = /^VmRSS:\s*(\d+)/m.exec(status) ?? []
  return kilobytes === undefined ? undefined : Number(kilobytes) * 1024
}

/** Runs the soak. The report lists everything that was wrong. */
export async function soak(options: SoakOptions): Promise<SoakReport> {
  const folder = await mkdtemp(join(tmpdir(), 'weir-soak-'))
  const around = await openSurroundings(options.line, folder)
  let weir: Process | undefined
  try {
    weir = await startProcess({
      ...around.vars,
      ...{ USAGE_FILE: join(folder, 'usage.json'), USER_HASH_SECRET: SECRET },
      REQUEST_SECONDS: String(options.requestSeconds),
      UPSTREAM_TIMEOUT_MS: String(options.upstreamMs),
      MAX_COMPLETION_TOKENS: String(MAX_COMPLETION_TOKENS),
      MAX_BODY_BYTES: '262144',
      ALLOWED_MODELS: 'm/*',
      MODEL_LIMITS: JSON.stringify({
        '*': AMPLE,
        'm/day-limit': { ...AMPLE, tokensPerDay: 20_000 },
        'm/minute-limit': { ...AMPLE, requestsPerMinute: 3 },
      }),
    })
    return await run(options, around, weir)
  } finally {
    await around.calm()
    await weir?.end('SIGKILL')
    await around.close()
    await rm(folder, { recursive: true, force: true })
  }
}

const AMPLE = { tokensPerDay: 1_000_000_000, requestsPerDay: 1_000_000 }

async function run(options: SoakOptions, around: Surroundings, weir: Process): Promise<SoakReport> {
  const { seed, ms, onProgress } = options
  const requestMs = options.requestSeconds * 1000
  const seeds = randomOf(seed)
  const random = () => randomOf(seeds.int(0, 2 ** 31))
  const upstream = misbehave(around.upstream, random(), options.largeBytes)
  const database = flap(options, around, random())
  const { events, collect } = collector(around)
  const { slots, paceMs } = options
  const clients = startClients({ url: weir.url, secret: SECRET, random, slots, requestMs, paceMs })
  const wrong: string[] = []
  const rss: number[] = []
  let over = false
  const crash = weir.ended.then((code): never => {
    throw new Error(`the gateway has ended with ${code}:\n${weir.output().slice(-3000)}`)
  })

  const started = performance.now()
  const passed = () => performance.now() - started
  async function watch(): Promise<void> {
    for (let told = 0; passed() < ms && !over;) {
      await sleep(Math.min(LOOK_MS, ms - passed()))
      // Redis itself may be unreachable.
      await collect().catch(() => undefined)
      const bytes = await residentBytes(weir)
      if (bytes !== undefined) rss.push(bytes)
      // The logs of the fake servers would use more and more memory.
      around.upstream.seen.length = 0
      around.upstash.log.length = 0
      if (!onProgress || passed() < told + onProgress.everyMs) continue
      told = passed()
      const { degraded, queued } = await health(weir.url)
      onProgress.tell({
        ...{ ms: told, requests: clients.asked.length, rss: bytes ?? 0, degraded, queued },
        ...{ outcomes: outcomesOf(events), fault: database.now() },
      })
    }
  }

  async function comeToRest(): Promise<void> {
    await clients.stop()
    await database.stop()
    await sleep(around.quietAt - performance.now())
    await until(() => assert.equal(around.proxy.late.waiting, 0), PATIENCE_MS)
    const ofUpstream = [...upstream.served.values()]
    await until(() => assert.ok(ofUpstream.every(({ done }) => done)), requestMs + PATIENCE_MS)
    await recovered(weir.url, 0)
  }

  try {
    await Promise.race([watch().then(comeToRest), crash])
  } finally {
    over = true
    await Promise.allSettled([clients.stop(), database.stop()])
  }
  const books = () => reconcile(options, clients.asked, upstream.served, events)
  const counted = async () => {
    await collect()
    const { length } = books().wrong
    assert.equal(length, 0, `${length} requests are not in the books as they should be`)
  }
  for (const check of [counted, () => checkSums(around.store, events)]) {
    await until(check, PATIENCE_MS).catch((error: unknown) => wrong.push(messageOf(error)))
  }
  // Nothing may arrive later.
  const { length } = events
  await sleep(CALM_MS)
  await collect()
  if (events.length !== length) wrong.push('events came after everything had ended')

  const code = await weir.end('SIGTERM')
  if (code !== 0) wrong.push(`it ended with ${code}`)
  const log = weir.output()
  wrong.push(...alarms(log))
  const { wrong: unbalanced, ...figures } = books()
  return {
    ...figures,
    kinds: Object.fromEntries(clients.counts),
    faults: Object.fromEntries(database.counts),
    rss,
    wrong: [...wrong, ...unbalanced, ...clients.wrong, ...upstream.wrong],
    log,
  }
}

const messageOf = (error: unknown) => (error instanceof Error ? error.message : String(error))

/** Resident memory in bytes: at the start, and the medians after warming up and at the end. */
export type Memory = { start: number; early: number; late: number }

/** The first sixth of the time is for warming up. The second sixth is compared with the last. */
export function memoryOf(rss: number[]): Memory {
  const part = (from: number, to: number) => {
    const sorted = rss.slice(rss.length * from, rss.length * to).sort((a, b) => a - b)
    return sorted[Math.floor(sorted.length / 2)] ?? 0
  }
  return { start: rss[0] ?? 0, early: part(1 / 6, 2 / 6), late: part(5 / 6, 1) }
}

/** Makes the database fail in one way after the other, until it is stopped. */
function flap({ faults, upMs, downMs, line }: SoakOptions, around: Surroundings, random: Random) {
  const counts = new Map<string, number>()
  const stopping = new AbortController()
  const stopped = () => stopping.signal.aborted
  let current: FaultName | undefined
  async function work(): Promise<void> {
    for (let turn = random.int(0, faults.length - 1); ; turn += 1) {
      await sleep(random.int(...upMs), undefined, { signal: stopping.signal }).catch(() => 0)
      const fault = faults[turn % faults.length]
      if (stopped() || fault === undefined) return
      current = fault
      counts.set(fault, (counts.get(fault) ?? 0) + 1)
      await FAULTS[fault](around, line, random.int(...downMs))
      current = undefined
    }
  }
  const working = work()
  // It is awaited at the end, which may be much later.
  working.catch(() => undefined)
  return {
    counts,
    now: () => current,
    stop() {
      stopping.abort()
      return working
    },
  }
}

function outcomesOf(events: Event[]): Outcomes {
  const outcomes: Outcomes = { exact: 0, estimated: 0, failed: 0, refused: 0, unread: 0 }
  for (const { outcome } of events) outcomes[outcome] += 1
  return outcomes
}

/**
 * The first few lines that it should not have written. The lines of @hono/node-server about an answer that broke off
 * are allowed.
 */
function alarms(output: string): string[] {
  const [, log = ''] = output.split(/Weir listens on .*\n/)
  const lines = log.split('\n').filter((line) => line !== '')
  const bad = lines.filter((line) =>
    line.startsWith('{') ? ALARMS.test(line) : line !== 'The user aborted a request.',
  )
  return bad.slice(0, 5).map((line) => `in its log: ${line.slice(0, 500)}`)
}

/** Compares each request with what upstream did and with the ledger. */
function reconcile(
  options: SoakOptions,
  asked: Asked[],
  served: Map<string, Served>,
  events: Event[],
) {
  const wrong: string[] = []
  const outcomes = outcomesOf(events)
  const sums = { served: 0, exact: 0, estimates: 0, reservations: 0, charged: 0 }
  let cut = 0
  const bySession = new Map<string, Event[]>()
  for (const event of events) {
    const session = event.session ?? ''
    bySession.set(session, [...(bySession.get(session) ?? []), event])
    sums.charged += event.charged
  }
  const answers: Record<string, number> = {}
  for (const one of asked) {
    const own = bySession.get(one.session) ?? []
    const [event, another] = own
    bySession.delete(one.session)
    const was = served.get(one.marker)
    if (was) answers[was.model] = (answers[was.model] ?? 0) + 1
    try {
      assert.equal(another, undefined, 'it has two events')
      if (event) assert.deepEqual([event.user, event.model], [one.user, one.model])
      if (!was) {
        const outcome = checkUnserved(one, event)
        if (!event) outcomes[outcome] += 1
        continue
      }
      assert.ok(event, 'it is not counted')
      assert.equal(event.reserved, was.reserved, 'its reservation')
      const late = checkCharge(options, was, event, one)
      checkSeen(one, was, late)
      cut += late ? 1 : 0
      if (event.outcome === 'exact') {
        sums.served += was.usage?.total ?? 0
        sums.exact += event.charged
      } else if (event.outcome === 'estimated') {
        sums[event.charged === event.reserved ? 'reservations' : 'estimates'] += event.charged
      }
    } catch (error) {
      const facts = JSON.stringify({ one, was, own })
      wrong.push(`${one.marker}: ${messageOf(error)} ${facts}`)
    }
  }
  for (const [session, strays] of bySession) {
    wrong.push(`events of nobody, ${session}: ${JSON.stringify(strays)}`)
  }
  const ends = Object.values(outcomes).reduce((sum, count) => sum + count, 0)
  if (ends !== asked.length) wrong.push(`${asked.length} requests have ${ends} outcomes`)
  const degraded = asked.filter((one) => one.degraded).length
  const left = asked.filter((one) => one.left).length
  return { requests: asked.length, outcomes, ...sums, answers, degraded, left, cut, wrong }
}

/** A request that never reached upstream was refused, or its client left before it was read. It costs nothing. */
function checkUnserved(one: Asked, event: Event | undefined): 'refused' | 'unread' {
  const { left, status, code, kind, refusal, model } = one
  if (event) {
    // The answer to its admission was uncertain, so the ledger has it as failed.
    assert.deepEqual([event.outcome, event.charged], ['failed', 0])
  }
  if (left) return 'unread'
  assert.ok(!one.broke, 'the connection broke')
  if (refusal !== undefined) {
    assert.equal(status, refusal, 'the status of a mistake')
    assert.equal(event, undefined, 'a mistake is counted')
    return 'refused'
  }
  assert.notEqual(kind, 'half')
  const limited = model === 'm/day-limit' ? 'insufficient_quota' : 'rate_limit_exceeded'
  if (status === 403) assert.equal(code, 'user_blocked')
  else assert.deepEqual([status, code, model.endsWith('limit')], [429, limited, true])
  return 'refused'
}

/** Whether it was cut at its deadline, whatever upstream would have answered. Throws if its charge is wrong. */
function checkCharge(options: SoakOptions, was: Served, event: Event, one: Asked): boolean {
  const { requestSeconds, upstreamMs } = options
  const { outcome, charged, prompt, completion, total, mismatch } = event
  const longest = event.ttfbMs === undefined ? upstreamMs : requestSeconds * 1000
  const late = event.totalMs >= longest - TIMER_MS
  const isReservation = outcome === 'estimated' && charged === was.reserved
  if (was.due === 'reservation') {
    assert.ok(isReservation, 'it owes its reservation')
    // An answer that is too large to be read ends by itself.
    if (was.ends === 'whole') return late
    assert.ok(late, 'it was cut before its deadline')
    return false
  }
  if (late && isReservation) return true
  if (was.due === 'usage') {
    assert.deepEqual(
      { outcome, charged, prompt, completion, total, ...(mismatch && { mismatch }) },
      { outcome: 'exact', charged: was.usage?.total, ...was.usage },
    )
  } else if (was.due === 'nothing') {
    assert.deepEqual([outcome, charged], ['failed', 0])
  } else {
    assert.equal(outcome, 'estimated')
    const least = Math.ceil(was.promptBytes / 4)
    // The last bytes of a broken answer may be lost, but not the bytes that the client has.
    const seen = was.ends === 'whole' ? was.received : one.kind === 'simple' ? 0 : one.received
    const [from, to] = [seen, was.received].map((received) =>
      Math.min(least + received, was.reserved),
    )
    assert.ok(charged >= from! && charged <= to!, `an estimate of ${from} to ${to}: ${charged}`)
  }
  return false
}

/** A client that stays gets upstream's answer to the byte, and notices where it broke off. */
function checkSeen(one: Asked, was: Served, late: boolean): void {
  const { left, status, broke, digest, kind, told } = one
  if (left) return
  const failed = status === 502 || status === 504
  // The deadline cut it, unless its end came just then.
  const isWhole = was.ends === 'whole' && digest === was.digest
  if (late && !isWhole)
    return assert.ok(broke || failed, 'it was cut, and the client does not know')
  if (kind === 'simple' && was.due !== 'nothing') {
    // The simple form does not check these numbers.
    if (was.model === 'm/nonsense-usage') return assert.ok(failed || status === 200)
    if (was.due !== 'usage' || was.ends !== 'whole') return assert.ok(failed && !broke)
    // The simple form cannot take a stream.
    if (/large/.test(was.model)) return assert.equal(status, 502)
    return assert.deepEqual([status, told], [200, was.usage?.total])
  }
  if (was.ends === 'never') return assert.ok(failed, `${status}`)
  assert.deepEqual([status, broke], [was.status, was.ends === 'broken'])
  if (was.ends === 'whole') assert.equal(digest, was.digest, 'the body')
}
