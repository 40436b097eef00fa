/** What a request costs: CPU, latency, throughput and billed commands. In each round every gateway has its turn. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Case } from './cases.ts'
import type { Child } from './child.ts'
import type { DatabaseAnswer, DatabaseQuestion } from './database.ts'
import { load, type Timing, type Workload } from './load.ts'
import { EACH_USER, EVERYONE, HOT_USERS } from './populate.ts'
import { median, ms, percentile, ratioOf, table } from './report.ts'

export type Database = Child<DatabaseQuestion, DatabaseAnswer>

const WIDE = 'plain, wide'
const WIDE_REQUESTS = 400

const WORKLOADS: Record<string, Workload> = {
  'plain, 32 in flight': { kind: 'plain', inFlight: HOT_USERS, requests: 1500 },
  'plain, alone': { kind: 'plain', inFlight: 1, requests: 300 },
  'stream, 32 in flight': { kind: 'stream', inFlight: HOT_USERS, requests: 1000 },
  [WIDE]: { kind: 'plain', inFlight: HOT_USERS, requests: WIDE_REQUESTS },
}

const ROUNDS = 5

/** Users that the cases need in the database: each request of `WIDE` is from a user without an earlier request. */
export const usersOf = (cases: number): number => HOT_USERS + cases * ROUNDS * WIDE_REQUESTS

/** Requests before measuring starts, per workload and gateway. */
const WARM_UP = 1000

/** Settlements are batched for a moment after the answer, and must be counted with it. */
const SETTLED_MS = 100

/** The most CPU time that a gateway may take, as a multiple of another one's, by workload. */
const TARGETS: Record<string, Record<string, string>> = {
  'node-rest ÷ bare': {
    'plain, 32 in flight': '≤ 1.7×',
    'plain, alone': '≤ 2.0×',
    'stream, 32 in flight': '≤ 1.8×',
  },
  'node-rest ÷ bare-fetch': { 'plain, 32 in flight': '≤ 0.9×', 'plain, alone': '≤ 1.3×' },
  'node-rest ÷ portkey': { 'plain, 32 in flight': '≤ 0.4×' },
  'workerd ÷ bare-workerd': { 'plain, 32 in flight': '≤ 1.9×', 'plain, alone': '≤ 2.2×' },
  'node-jwt ÷ node-signed': { 'plain, 32 in flight': '≤ 1.02×' },
}

/** Gateways that are also compared with others than their base. */
const ALSO = [
  ['node-rest', 'bare-fetch'],
  ['node-rest', 'portkey'],
  ['workerd', 'bare-workerd-1-call'],
  ['workerd', 'bare-workerd-2-calls'],
]

/**
 * One load on one gateway. CPU in µs (also the database's), billed commands and database calls are per request,
 * throughput is per second.
 */
type Run = {
  cpu: number
  perSecond: number
  billed: number
  calls: number
  redis: number
  timings: Timing[]
}

async function run({ child, ...target }: Case, work: Workload, database: Database): Promise<Run> {
  await database.ask({ take: 'stats' })
  const before = await child.ask({ gc: false })
  const start = performance.now()
  const timings = await load(target, work)
  const seconds = (performance.now() - start) / 1000
  await sleep(SETTLED_MS)
  const after = await child.ask({ gc: false })
  const { billed, calls, cpu: redis } = await database.ask({ take: 'stats' })
  return {
    cpu: (after.cpu - before.cpu) / work.requests,
    perSecond: work.requests / seconds,
    billed: billed / work.requests,
    calls: calls / work.requests,
    redis: redis / work.requests,
    timings,
  }
}

/** Runs the workloads, prints the tables, and returns the figures. */
export async function requests(all: Case[], database: Database): Promise<object[]> {
  const figures: object[] = []
  const rows: string[][] = []
  let met = HOT_USERS
  for (const [name, work] of Object.entries(WORKLOADS)) {
    const cases = all.filter(({ only = name }) => only === name)
    const runs = new Map<Case, Run[]>(cases.map((one) => [one, []]))
    for (const one of cases) await load(one, { ...work, inFlight: HOT_USERS, requests: WARM_UP })
    for (let round = 0; round < ROUNDS; round += 1) {
      process.stderr.write(`${name}: round ${round + 1} of ${ROUNDS}\n`)
      for (const one of round % 2 ? cases.toReversed() : cases) {
        const users = name === WIDE && { from: met }
        runs.get(one)?.push(await run(one, { ...work, ...users }, database))
        if (users) met += work.requests
      }
    }
    const of = (one: Case, key: 'cpu' | 'perSecond' | 'billed' | 'calls' | 'redis') =>
      (runs.get(one) ?? []).map((run) => run[key])
    /** The CPU of a gateway as a multiple of another one's. */
    const compared = (one: Case, base: Case) => {
      const ratio = ratioOf(of(one, 'cpu'), of(base, 'cpu'))
      const target = TARGETS[`${one.name} ÷ ${base.name}`]?.[name]
      const fastest = Math.min(...of(one, 'cpu')) / Math.min(...of(base, 'cpu'))
      const figures = {
        ...{ workload: name, case: one.name, base: base.name, target },
        ...{ cpuRatio: ratio.median, cpuRatios: ratio.rounds, cpuRatioOfLeast: fastest },
      }
      return { figures, cells: [ratio.text, `${fastest.toFixed(2)}×`, target ?? ''] }
    }
    const named = (wanted: string | undefined) => cases.find((one) => one.name === wanted)
    for (const one of cases) {
      const { figures: ratios, cells } = compared(one, named(one.base) as Case)
      const times = (runs.get(one) ?? []).flatMap(({ timings }) =>
        timings.map(({ whole }) => whole),
      )
      const rss = (await one.child.ask({ gc: false })).rss
      const billed = median(of(one, 'billed'))
      rows.push([
        name,
        one.name,
        `${Math.round(median(of(one, 'cpu')))}`,
        ...cells,
        `${Math.round(median(of(one, 'perSecond')))}`,
        ...[50, 95, 99].map((percent) => ms(percentile(times, percent))),
        billed ? billed.toFixed(2) : '',
        billed ? median(of(one, 'calls')).toFixed(2) : '',
        billed ? `${Math.round(median(of(one, 'redis')))}` : '',
        `${Math.round(rss / 1024 / 1024)}`,
      ])
      figures.push({
        ...ratios,
        cpuUs: median(of(one, 'cpu')),
        perSecond: median(of(one, 'perSecond')),
        p50: percentile(times, 50),
        p95: percentile(times, 95),
        p99: percentile(times, 99),
        billedCommands: billed,
        databaseCalls: median(of(one, 'calls')),
        redisCpuUs: median(of(one, 'redis')),
        rss,
      })
    }
    for (const [ours, theirs] of ALSO) {
      const [one, base] = [named(ours), named(theirs)]
      if (!one || !base) continue
      const { figures: ratios, cells } = compared(one, base)
      rows.push([name, `${one.name} ÷ ${base.name}`, '', ...cells])
      figures.push(ratios)
    }
  }
  const head = ['', '', 'CPU µs', 'ratio (min–max)', 'of the least', 'target', 'req/s']
  console.log(
    `\nCost of a request. CPU is user and system time of the gateway's process. The ratio compares it with the bare pass-through on the same runtime:\n` +
      `on Node, \`bare\` uses Weir's own transport, and \`bare-fetch\` Node's fetch; in workerd, \`bare-workerd\` calls no database. A \`node-jwt\` is compared with other tokens.\n` +
      `All figures are medians of ${ROUNDS} rounds, the ratio of each round is taken by itself; "of the least" is the ratio of the smallest figures.\n` +
      `Commands are what Upstash bills, calls are HTTP requests to it. "Wide" has 32 requests in flight, each of another user.\n` +
      `The database holds ${EVERYONE}, and ${usersOf(all.length)} users, each with ${EACH_USER}.\n`,
  )
  const more = ['p50 ms', 'p95', 'p99', 'commands', 'calls', 'Redis CPU µs', 'RSS MB']
  console.log(table([...head, ...more], rows))
  return figures
}
