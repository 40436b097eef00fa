/**
 * `npm run bench`: what the gateway costs, always as a ratio to something else measured in the same run.
 *
 * Names after `--` choose cases (`npm run bench -- node-rest workerd`) or parts (`requests streams scale memory stalls`);
 * without names everything runs. Everything is on loopback, and each part is a separate process; this one generates the
 * load. Times depend on the machine and its load, so no time makes a run fail.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { cpus, release } from 'node:os'
import { CASES, startCases, type Case } from './cases.ts'
import { startChild } from './child.ts'
import { memory } from './memory.ts'
import { table } from './report.ts'
import { requests, usersOf, type Database } from './requests.ts'
import { scale, usdPerMillion } from './scale.ts'
import { stalls } from './stalls.ts'
import { streams } from './streams.ts'

const PARTS = ['requests', 'streams', 'scale', 'memory', 'stalls']
const RESULT = new URL('result.json', import.meta.url)

const names = process.argv.slice(2)
const unknown = names.filter((name) => !CASES.includes(name) && !PARTS.includes(name))
if (unknown.length) {
  console.error(
    `No such case or part: ${unknown.join(', ')}. There are ${[...CASES, ...PARTS].join(', ')}.`,
  )
  process.exit(1)
}
const chosen = (all: string[]) => {
  const some = all.filter((name) => names.includes(name))
  return some.length ? some : all
}
const parts = chosen(PARTS)

const started = performance.now()
const { version } = JSON.parse(
  readFileSync(new URL('../package.json', import.meta.url), 'utf8'),
) as {
  version: string
}
const about = {
  date: new Date().toISOString(),
  machine: `${cpus().length} × ${cpus()[0]?.model}, Linux ${release()}`,
  node: process.version,
  weir: version,
  command: ['npm run bench', ...(names.length ? ['--', ...names] : [])].join(' '),
}
console.log(
  Object.entries(about)
    .map(([name, value]) => `${name}: ${value}`)
    .join('\n'),
)

const upstream = await startChild('upstream.ts', {})
const database: Database = await startChild('database.ts', {})
const { token, tcp } = await database.ask({ take: 'stats' })
const rest = { url: database.url, token }

let cases: Case[] = []
const results: Record<string, object[]> = {}
try {
  if (parts.some((part) => part !== 'scale')) {
    cases = await startCases(chosen(CASES), { upstream: upstream.url, rest, tcp })
    await database.ask({ users: usersOf(cases.length) })
  }
  if (parts.includes('requests')) {
    results.requests = await requests(cases, database)
    costs(results.requests as Cost[])
  }
  if (parts.includes('streams')) results.streams = await streams(cases, database, token)
  const weir = cases.find((one) => one.name === 'node-rest')
  if (parts.includes('memory') && weir) results.memory = await memory(weir)
  if (parts.includes('stalls') && weir) results.stalls = await stalls(weir, upstream.url)
  if (parts.includes('scale')) results.scale = await scale(upstream.url)
  const seconds = Math.round((performance.now() - started) / 1000)
  writeFileSync(RESULT, `${JSON.stringify({ ...about, seconds, ...results }, null, 2)}\n`)
  console.log(`\nThe whole run took ${seconds} s; the figures are in bench/result.json.`)
} finally {
  const children = new Set([...cases.map(({ child }) => child), upstream, database])
  await Promise.all([...children].map((child) => child.stop()))
}

/** Absent where two cases are only compared. */
type Cost = { case: string; workload: string; billedCommands?: number }

function costs(figures: Cost[]): void {
  const rows = figures
    .filter(({ billedCommands: commands }) => commands !== undefined && commands > 0)
    .map(({ workload, case: name, billedCommands: commands = 0 }) => [
      workload,
      name,
      commands.toFixed(2),
      `$${usdPerMillion(commands).toFixed(2)}`,
    ])
  console.log('\nA million requests on Upstash, pay as you go ($0.20 per 100,000 commands)\n')
  console.log(table(['', '', 'commands per request', 'USD'], rows))
}
