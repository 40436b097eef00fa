/** What a request costs: CPU, latency, throughput and billed commands, every gateway in turn, round after round. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Case } from './cases.ts'
import type { Child } from './child.ts'
import type { DatabaseAnswer, DatabaseQuestion } from './database.ts'
import { load, type Timing, type Workload } from './load.ts'
import { median, ms, percentile, ratioOf, table } from './report.ts'

export type Database = Child<DatabaseQuestion, DatabaseAnswer>

const WORKLOADS: Record<string, Workload> = {
  'plain, 32 in flight': { kind: 'plain', inFlight: 32, requests: 1500 },
  'plain, alone': { kind: 'plain', inFlight: 1, requests: 300 },
  'stream, 32 in flight': { kind: 'stream', inFlight: 32, requests: 1000 },
}

const ROUNDS = 5

/** Requests before anything is measured, per workload and gateway. */
const WARM_UP = 1000

/** Settlements are gathered for a moment after the answer, and are to be counted with it. */
const SETTLED_MS = 100

/** The most CPU that `node-rest` may take, as a multiple of another's. */
const TARGETS: Record<string, Record<string, string>> = {
  'plain, 32 in flight': { bare: '≤ 1.25×', portkey: '≤ 0.6×' },
  'plain, alone': { bare: '≤ 2.5×' },
}

/** One load on one gateway. CPU in µs and billed commands are per request, throughput is per second. */
type Run = { cpu: number; perSecond: number; billed: number; timings: Timing[] }

async function run({ child, ...target }: Case, work: Workload, database: Database): Promise<Run> {
  await database.ask({ take: 'stats' })
  const before = await child.ask({ gc: false })
  const start = performance.now()
  const timings = await load(target, work)
  const seconds = (performance.now() - start) / 1000
  await sleep(SETTLED_MS)
  const after = await child.ask({ gc: false })
  const { billed } = await database.ask({ take: 'stats' })
  return {
    cpu: (after.cpu - before.cpu) / work.requests,
    perSecond: work.requests / seconds,
    billed: billed / work.requests,
    timings,
  }
}

/** Runs the workloads, prints the tables, and gives the figures. */
export async function requests(cases: Case[], database: Database): Promise<object[]> {
  const figures: object[] = []
  const rows: string[][] = []
  for (const [name, work] of Object.entries(WORKLOADS)) {
    const runs = new Map<Case, Run[]>(cases.map((one) => [one, []]))
    for (const one of cases) await load(one, { ...work, inFlight: 32, requests: WARM_UP })
    for (let round = 0; round < ROUNDS; round += 1) {
      process.stderr.write(`${name}: round ${round + 1} of ${ROUNDS}\n`)
      for (const one of round % 2 ? cases.toReversed() : cases) {
        runs.get(one)?.push(await run(one, work, database))
      }
    }
    const of = (one: Case, key: 'cpu' | 'perSecond' | 'billed') =>
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
    `\nA request. CPU of the gateway's process, user and system; its ratio is to the bare pass-through on the same runtime.\n` +
      `Medians of ${ROUNDS} rounds. Commands are those that Upstash bills.\n`,
  )
  console.log(table([...head, 'commands', 'RSS MB'], rows))
  return figures
}
