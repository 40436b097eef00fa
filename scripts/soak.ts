/**
 * `npm run soak`: half an hour of users, browsers and admins at a gateway as `npm start` runs it, while the database
 * fails and recovers and upstream misbehaves; ends with 1 if a request is not in the books as it should be, or if
 * memory grew. `-- --minutes 5` is shorter, `--line tcp` uses Redis over TCP instead of Upstash, `--seed 7` sends other
 * requests.
 */
import { writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { FAULTS, type FaultName } from '../test/support/chaos.ts'
import { memoryOf, soak, type Outcomes, type Progress } from '../test/support/soak.ts'
import { reapChildren } from './reaper.ts'

reapChildren()

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '30' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000_000) },
    line: { type: 'string', default: 'rest' },
  },
})
const [minutes, seed, { line }] = [Number(values.minutes), Number(values.seed), values]
if (!(minutes > 0 && Number.isSafeInteger(seed) && (line === 'rest' || line === 'tcp'))) {
  console.error('--minutes must be a positive number, --seed a whole number, --line rest or tcp')
  process.exit(2)
}

/** The growth of memory that is allowed between the two times: the heap varies, but a leak grows on. */
const MARGIN = 0.15
/** In a shorter run, memory is not checked. */
const MEMORY_MINUTES = 15

const mb = (bytes: number) => `${Math.round(bytes / 1024 / 1024)} MB`
const list = (counts: Partial<Record<string, number>>) =>
  Object.entries(counts)
    .map(([name, count]) => `${count} ${name}`)
    .join(', ')

function tell({ ms, requests, outcomes, rss, degraded, queued, fault }: Progress): void {
  const { exact, estimated, failed } = outcomes
  console.log(
    `${`${Math.round(ms / 1000)} s`.padStart(7)}  ${requests} requests, ${list({ exact, estimated, failed })}, ` +
      `${mb(rss)}, ${queued} queued${degraded ? ', degraded' : ''}${fault ? `; the database ${fault}` : ''}`,
  )
}

console.log(
  `seed ${seed}, ${minutes} minutes, the database over ${line === 'tcp' ? 'TCP' : 'REST'}`,
)
const { wrong, rss, log, ...report } = await soak({
  ...{ seed, line, ms: minutes * 60_000, slots: 12, paceMs: 800 },
  ...{ requestSeconds: 8, upstreamMs: 4000, largeBytes: 100 * 1024 * 1024 },
  ...{ upMs: [4000, 12_000], downMs: [1000, 6000], faults: Object.keys(FAULTS) as FaultName[] },
  onProgress: { everyMs: 30_000, tell },
})

const { requests, outcomes, served, exact, estimates, reservations, charged } = report
console.log(`
requests     ${list(report.kinds)}
upstream     ${list(report.answers)}
database     ${list(report.faults)}
outcomes     ${requests} requests for tokens: ${list(outcomes satisfies Outcomes)}
             ${report.degraded} served without the database, ${report.left} left by their clients, ${report.cut} cut at the deadline
tokens       ${served} reported by upstream, ${exact} exact
             ${exact} exact + ${estimates} estimated + ${reservations} reservations = ${charged} charged, by the days and by the users`)

const { start, early, late } = memoryOf(rss)
const growth = late / early - 1
console.log(
  `memory       ${mb(start)} at the start, ${mb(early)} warm, ${mb(late)} at the end: ${(growth * 100).toFixed(1)} %`,
)
const perMinute = Array.from({ length: Math.ceil(rss.length / 60) }, (_, minute) =>
  Math.round((rss[minute * 60 + 30] ?? rss.at(-1) ?? 0) / 1024 / 1024),
)
console.log(`             by the minute ${perMinute.join(' ')}`)
if (minutes >= MEMORY_MINUTES && growth > MARGIN) wrong.push('memory grew')

for (const line of wrong.slice(0, 20)) console.log(`WRONG        ${line.slice(0, 2000)}`)
if (wrong.length) {
  const file = join(tmpdir(), `weir-soak-${seed}.log`)
  await writeFile(file, log)
  console.log(`${wrong.length} checks failed; the log of the gateway is in ${file}`)
} else console.log('all counts are correct')
process.exit(wrong.length ? 1 : 0)
