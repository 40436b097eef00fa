/** How long one client can keep the others waiting: by the body that it sends, and by how it behaves. */
import { readConfig } from '../src/config/config.ts'
import { parseForUpstream, readProxyRequest } from '../src/gateway/body.ts'
import type { Cap } from '../src/metering/reservation.ts'
import type { Bytes } from '../src/ports.ts'
import { bodiesOf } from './bodies.ts'
import type { Case } from './cases.ts'
import { startChild } from './child.ts'
import { load } from './load.ts'
import { median, ms, percentile, table } from './report.ts'

const { maxBodyBytes, ...config } = readConfig({}, 'node')
const ROUNDS = 9
const REQUESTS = 60

/** Measures, prints both tables, and returns the figures. */
export async function stalls(weir: Case): Promise<object[]> {
  return [...reading(), ...(await waiting(weir))]
}

/** Reads each body as the proxy does. A process has one event loop, so others wait for as long as the longest step takes. */
function reading(): object[] {
  const bodies = Object.entries(bodiesOf(maxBodyBytes))
  const parsing = median(repeated(() => timed(() => void JSON.parse(bodies[0]?.[1] ?? ''))))
  const figures = bodies.flatMap(([body, text]) =>
    (['balanced', 'strict'] as const).map((cap) => {
      const bytes = new TextEncoder().encode(text)
      const reads = repeated(() => readBody(bytes, cap))
      const longest = median(reads.map(({ steps }) => Math.max(...steps)))
      const whole = median(reads.map(({ steps }) => steps.reduce((sum, step) => sum + step)))
      const times = { longest: longest / parsing, whole: whole / parsing }
      return { body, cap, ms: longest, times, answer: reads[0]?.answer ?? '' }
    }),
  )
  const mb = (maxBodyBytes / 1024 / 1024).toFixed(0)
  console.log(`\nReading a body of ${mb} MB, against JSON.parse of one text (${ms(parsing)} ms)\n`)
  const rows = figures.map((one) => [
    one.body,
    one.cap,
    ms(one.ms),
    `${one.times.longest.toFixed(1)}×`,
    `${one.times.whole.toFixed(1)}×`,
    one.answer,
  ])
  console.log(table(['body', 'cap', 'longest step, ms', 'times', 'all steps', 'answer'], rows))
  return figures
}

type Read = {
  /** How long each took, in ms. */
  steps: number[]
  answer: string
}

function readBody(bytes: Bytes, cap: Cap): Read {
  const rules = { ...config, maxBodyBytes, cap }
  const steps: number[] = []
  const step = <T>(work: () => T): T => {
    const start = performance.now()
    try {
      return work()
    } finally {
      steps.push(performance.now() - start)
    }
  }
  const parsing = parseForUpstream(bytes, rules)
  try {
    for (;;) {
      const { done, value } = step(() => parsing.next())
      if (!done) continue
      step(() => readProxyRequest('chat/completions', bytes, rules, value))
      return { steps, answer: 'goes up' }
    }
  } catch (error) {
    return { steps, answer: (error as { code: string }).code }
  }
}

const repeated = <T>(work: () => T): T[] => Array.from({ length: ROUNDS }, work)

function timed(work: () => void): number {
  const start = performance.now()
  work()
  return performance.now() - start
}

/** What a quiet client waits for an answer while another one does its worst. */
async function waiting(weir: Case): Promise<object[]> {
  const options = { url: weir.url, bytes: maxBodyBytes }
  const attacker = await startChild<{ attack?: string }, string[]>('attacker.ts', options)
  const quiet = { kind: 'plain', inFlight: 1, requests: REQUESTS } as const
  const measure = async () => {
    const waits = (await load(weir, quiet)).map(({ whole }) => whole)
    return { median: median(waits), p99: percentile(waits, 99), longest: Math.max(...waits) }
  }
  try {
    await measure()
    const calm = await measure()
    const figures = [{ client: 'nobody else', ...calm }]
    for (const client of await attacker.ask({})) {
      process.stderr.write(`stalls: ${client}\n`)
      await attacker.ask({ attack: client })
      figures.push({ client, ...(await measure()) })
      await attacker.ask({})
    }
    console.log(`\nWhat a quiet client of ${weir.name} waits while another one sends, in ms\n`)
    const rows = figures.map((one) => [
      one.client,
      ...[one.median, one.p99, one.longest].map(ms),
      `${(one.median / calm.median).toFixed(1)}×`,
    ])
    console.log(table(['the other one', 'median', 'p99', 'longest', 'median to calm'], rows))
    return figures
  } finally {
    await attacker.stop()
  }
}
