/**
 * `npm run bench`: what the gateway costs, always as a ratio to something else measured in the same run.
 *
 * Everything is on loopback, each part a process of its own; this one is the load generator. Times depend
 * on the machine and its mood, so nothing here fails because of one.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { startChild, type Child, type Usage, type UsageQuestion } from './child.ts'
import type { DatabaseAnswer, DatabaseQuestion } from './database.ts'
import { load, type Timing, type Workload } from './load.ts'
import { median, ms, percentile, ratioOf, table } from './report.ts'

const WORKLOADS = {
  'plain, 32 in flight': { stream: false, inFlight: 32, requests: 2000 },
  'plain, alone': { stream: false, inFlight: 1, requests: 500 },
  'stream, 32 in flight': { stream: true, inFlight: 32, requests: 2000 },
} satisfies Record<string, Workload>

type WorkloadName = keyof typeof WORKLOADS

/** Another gateway to be compared with is one entry more, its file a companion of `bare.ts`. */
const COMPARATORS: Comparator[] = [
  {
    name: 'bare',
    file: 'bare.ts',
    path: '/openai/v1/chat/completions',
    targets: { 'plain, 32 in flight': 1.25, 'plain, alone': 2.5, 'stream, 32 in flight': 1.25 },
  },
]

type Comparator = {
  name: string
  file: string
  path: string
  /** The most CPU the gateway may take, as a multiple of this one's. */
  targets: Partial<Record<WorkloadName, number>>
}

const ROUNDS = 4
/** Requests at 32 in flight before anything is measured, per workload and server. */
const WARM_UP = 1500

/** By how many ms the database's answers are late; what that adds to a stream's first byte. */
const DELAYS = [0, 5, 20]
const DELAY_ROUNDS = 4
const DELAY_REQUESTS = 25
const ADDED_MS = 1

/** Longer than the deadline of a database call, since until then its timer holds on to the call. */
const AT_REST_MS = 4000
const MEMORY = { stream: true, inFlight: 32, requests: 20_000, abortEvery: 10 }

/** Settlements are gathered for a moment after the answer, and are to be counted with it. */
const SETTLED_MS = 100

type Server = { name: string; url: string; child: Child<UsageQuestion, Usage> }
type Database = Child<DatabaseQuestion, DatabaseAnswer>

/** One load on one server. */
type Run = { cpu: number; timings: Timing[] }

const started = performance.now()
const upstream = await startChild('upstream.ts', {})
const database: Database = await startChild('database.ts', {})
const { token } = await database.ask({ delay: 0 })

async function startServer(name: string, file: string, path: string): Promise<Server> {
  const options = { upstream: upstream.url, database: { url: database.url, token } }
  const child = await startChild<UsageQuestion, Usage>(file, options, ['--expose-gc'])
  return { name, url: child.url + path, child }
}

const weir = await startServer('weir', 'weir.ts', '/api/groq/openai/v1/chat/completions')
const others = await Promise.all(
  COMPARATORS.map(({ name, file, path }) => startServer(name, file, path)),
)
const servers = [weir, ...others]

try {
  await compare()
  await firstBytes()
  await memory()
  console.log(`\nThe whole run took ${Math.round((performance.now() - started) / 1000)} s.`)
} finally {
  await Promise.all(
    [...servers.map(({ child }) => child), upstream, database].map((child) => child.stop()),
  )
}

async function run({ url, child }: Server, work: Workload): Promise<Run> {
  const before = await child.ask({ gc: false })
  const timings = await load(url, work)
  await sleep(SETTLED_MS)
  const after = await child.ask({ gc: false })
  return { cpu: (after.cpu - before.cpu) / work.requests, timings }
}

/** CPU and latency, in rounds that take every server in turn, first to last and then last to first. */
async function compare(): Promise<void> {
  const rows: string[][] = []
  const latencies: string[][] = []
  for (const [name, work] of Object.entries(WORKLOADS)) {
    const runs = new Map<Server, Run[]>(servers.map((server) => [server, []]))
    for (const server of servers)
      await load(server.url, { ...work, inFlight: 32, requests: WARM_UP })
    for (let round = 0; round < ROUNDS; round += 1) {
      for (const server of round % 2 ? servers.toReversed() : servers) {
        runs.get(server)?.push(await run(server, work))
      }
    }
    const cpu = (server: Server) => (runs.get(server) ?? []).map((one) => one.cpu)
    for (const [index, { targets }] of COMPARATORS.entries()) {
      const other = others[index] as Server
      const target = targets[name as WorkloadName]
      rows.push([
        name,
        `${Math.round(median(cpu(weir)))}`,
        `${Math.round(median(cpu(other)))} (${other.name})`,
        ratioOf(cpu(weir), cpu(other)),
        target === undefined ? '' : `≤ ${target}×`,
      ])
    }
    for (const server of servers) {
      const timings = (runs.get(server) ?? []).flatMap((one) => one.timings)
      const whole = timings.map((timing) => timing.whole)
      const first = timings.map((timing) => timing.first)
      latencies.push([
        name,
        server.name,
        ms(percentile(whole, 50)),
        ms(percentile(whole, 99)),
        work.stream ? ms(percentile(first, 50)) : '',
      ])
    }
  }
  console.log(`CPU per request in µs, user and system; medians of ${ROUNDS} rounds\n`)
  console.log(table(['', 'weir', 'other', 'ratio (min–max)', 'target'], rows))
  console.log('\nLatency in ms\n')
  console.log(table(['', '', 'p50', 'p99', 'first byte p50'], latencies))
}

/** What a stream's first byte waits for the database, against how long a round trip to it takes. */
async function firstBytes(): Promise<void> {
  const work = { stream: true, inFlight: 1, requests: DELAY_REQUESTS }
  const rows: string[][] = []
  for (const delay of DELAYS) {
    await database.ask({ delay })
    const trips = await roundTrips(DELAY_REQUESTS)
    const first = new Map<Server, number[]>(servers.map((server) => [server, []]))
    for (let round = 0; round < DELAY_ROUNDS; round += 1) {
      for (const server of round % 2 ? servers.toReversed() : servers) {
        const timings = await load(server.url, work)
        first.get(server)?.push(...timings.map((timing) => timing.first))
      }
    }
    const of = (server: Server) => median(first.get(server) ?? [])
    for (const other of others) {
      rows.push([
        `${delay}`,
        ms(of(weir)),
        `${ms(of(other))} (${other.name})`,
        ms(of(weir) - of(other)),
        `≤ ${ms(median(trips) + ADDED_MS)}`,
      ])
    }
  }
  await database.ask({ delay: 0 })
  console.log(
    `\nFirst byte of a stream in ms, alone; the target is one round trip to Redis + ${ADDED_MS} ms\n`,
  )
  console.log(table(['Redis late by', 'weir', 'other', 'added', 'target'], rows))
}

/** The time of a command that does nothing, over the same protocol. */
async function roundTrips(count: number): Promise<number[]> {
  const times: number[] = []
  for (let i = 0; i < count; i += 1) {
    const start = performance.now()
    const response = await fetch(database.url, {
      method: 'POST',
      headers: { authorization: `Bearer ${token}` },
      body: '["PING"]',
    })
    await response.text()
    times.push(performance.now() - start)
  }
  return times
}

/** Resident memory over many streams, some of which are abandoned. */
async function memory(): Promise<void> {
  const used = async () => {
    await sleep(AT_REST_MS)
    return weir.child.ask({ gc: true })
  }
  await load(weir.url, { ...MEMORY, requests: WARM_UP })
  const before = await used()
  await load(weir.url, MEMORY)
  const after = await used()
  const mb = (bytes: number) => (bytes / 1024 / 1024).toFixed(1)
  const row = (name: string, key: 'rss' | 'heap') => [
    name,
    mb(before[key]),
    mb(after[key]),
    mb(after[key] - before[key]),
    'flat',
  ]
  console.log(
    `\nMemory of weir in MB, over ${MEMORY.requests} streams of which one in ${MEMORY.abortEvery} is abandoned\n`,
  )
  console.log(
    table(
      ['', 'before', 'after', 'change', 'target'],
      [row('resident', 'rss'), row('heap in use', 'heap')],
    ),
  )
}
