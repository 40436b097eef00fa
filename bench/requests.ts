/** What a request costs: CPU, latency, throughput and billed commands. In each round every gateway has its turn. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Case } from './cases.ts'
import type { Child } from './child.ts'
import type { DatabaseAnswer, DatabaseQuestion } from './database.ts'
import { load, type Timing, type Workload } from './load.ts'
import { EACH_USER, EVERYONE } from './populate.ts'
import { median, ms, percentile, ratioOf, table } from './report.ts'

export type Database = Child<DatabaseQuestion, DatabaseAnswer>

/** These users send one request after the other, and come again and again. */
const HOT_USERS = 32
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

/** The most CPU time that `node-rest` may take, as a multiple of another gateway's. */
const TARGETS: Record<string, Record<string, string>> = {
  'plain, 32 in flight': { bare: '≤ 1.25×', portkey: '≤ 0.6×' },
  'plain, alone': { bare: '≤ 2.5×' },
}

/**
 * One load on one gateway. CPU in µs (also the database's) and billed commands are per request, throughput is per
 * second.
 */
type Run = { cpu: number; perSecond: number; billed: number; redis: number; timings: Timing[] }

async function run({ child, ...target }: Case, work: Workload, database: Database): Promise<Run> {
  await database.ask({ take: 'stats' })
  const before = await child.ask({ gc: false })
  const start = performance.now()
  const timings = await load(target, work)
  const seconds = (performance.now() - start) / 1000
  await sleep(SETTLED_MS)
  const after = await child.ask({ gc: false })
  const { billed, cpu: redis } = await database.ask({ take: 'stats' })
  return {
    cpu: (after.cpu - before.cpu) / work.requests,
    perSecond: work.requests / seconds,
    billed: billed / work.requests,
    redis: redis / work.requests,
    timings,
  }
}

/** Runs the workloads, prints the tables, and returns the figures. */
export async function requests(cases: Case[], database: Database): Promise<object[]> {
  const figures: object[] = []
  const rows: string[][] = []
  let met = HOT_USERS
  for (const [name, work] of Object.entries(WORKLOADS)) {
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
    const of = (one: Case, key: 'cpu' | 'perSecond' | 'billed' | 'redis') =>
      (runs.get(one) ?? []).map((run) => run[key])
    const weir = cases.find((one) => one.name === 'node-rest')
    for (const one of cases) {
      const base = cases.find((other) => other.name === one.base) as Case
      const times = (runs.get(one) ?? []).flatMap(({ timings }) =>
        timings.map(({ whole }) => whole),
      )
      const rss = (await one.child.ask({ gc: false })).rss
      const ratio = ratioOf(of(one, 'cpu'), of(base, 'cpu'))
      const target = one === weir ? TARGETS[name]?.bare : undefined
      const billed = median(of(one, 'billed'))
      rows.push([
        name,
        one.name,
        `${Math.round(median(of(one, 'cpu')))}`,
        ratio.text,
        target ?? '',
        `${Math.round(median(of(one, 'perSecond')))}`,
        ...[50, 95, 99].map((percent) => ms(percentile(times, percent))),
        billed ? billed.toFixed(2) : '',
        billed ? `${Math.round(median(of(one, 'redis')))}` : '',
        `${Math.round(rss / 1024 / 1024)}`,
      ])
      figures.push({
        workload: name,
        case: one.name,
        base: base.name,
        cpuUs: median(of(one, 'cpu')),
        cpuRatio: ratio.median,
        cpuRatios: ratio.rounds,
        perSecond: median(of(one, 'perSecond')),
        p50: percentile(times, 50),
        p95: percentile(times, 95),
        p99: percentile(times, 99),
        billedCommands: billed,
        redisCpuUs: median(of(one, 'redis')),
        rss,
      })
    }
    const portkey = cases.find((one) => one.name === 'portkey')
    if (weir && portkey) {
      const ratio = ratioOf(of(weir, 'cpu'), of(portkey, 'cpu'))
      const target = TARGETS[name]?.portkey
      rows.push([name, 'node-rest ÷ portkey', '', ratio.text, target ?? ''])
      figures.push({ workload: name, case: 'node-rest', base: 'portkey', cpuRatio: ratio.median })
    }
  }
  const head = ['', '', 'CPU µs', 'ratio (min–max)', 'target', 'req/s', 'p50 ms', 'p95', 'p99']
  console.log(
    `\nCost of a request. CPU is user and system time of the gateway's process. The ratio compares it with the bare pass-through on the same runtime.\n` +
      `All figures are medians of ${ROUNDS} rounds. Commands are what Upstash bills. "Wide" has 32 requests in flight, each of another user.\n` +
      `The database holds ${EVERYONE}, and ${usersOf(cases.length)} users, each with ${EACH_USER}.\n`,
  )
  console.log(table([...head, 'commands', 'Redis CPU µs', 'RSS MB'], rows))
  return figures
}
