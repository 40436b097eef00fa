/**
 * `npm run soak:faults`: every fault of the database, for a long time, on both runtimes; ends with 1 if the books were
 * ever wrong. `-- --seconds 60` sets how long each fault lasts (default: 5, then 20), `--rounds 3` repeats everything,
 * `--only 'tcp.*slow'` picks runs by their names.
 */
import { parseArgs } from 'node:util'
import { chaos, FAULTS, type FaultName, type Run } from '../test/support/chaos.ts'
import { reapChildren } from './reaper.ts'

reapChildren()

const { values } = parseArgs({
  options: {
    seconds: { type: 'string' },
    rounds: { type: 'string', default: '1' },
    only: { type: 'string', default: '' },
  },
})
const lengths = values.seconds === undefined ? [5, 20] : [Number(values.seconds)]
const only = new RegExp(values.only)
if (![...lengths, Number(values.rounds)].every((number) => number > 0)) {
  console.error('--seconds and --rounds must be positive numbers')
  process.exit(2)
}

const names = Object.keys(FAULTS) as FaultName[]
const WAYS = [
  { kind: 'node', line: 'rest' },
  { kind: 'node', line: 'tcp' },
  { kind: 'workerd', line: 'rest' },
] as const

function* runs(): Generator<[string, Run]> {
  for (let round = 0; round < Number(values.rounds); round += 1) {
    for (const seconds of lengths) {
      for (const way of WAYS) {
        for (const mode of ['open', 'closed'] as const) {
          for (const fault of names) {
            for (const underLoad of fault.includes('killed') ? [false, true] : [false]) {
              const run = { ...way, mode, fault, underLoad, ms: seconds * 1000 }
              const load = underLoad ? ' under load' : ''
              yield [`${way.kind} ${way.line} ${mode}: ${fault}${load}, ${seconds} s`, run]
            }
          }
        }
      }
    }
  }
}

const started = performance.now()
const clock = () => `${Math.round((performance.now() - started) / 1000)} s`.padStart(7)
const failed: string[] = []
let done = 0
for (const [name, run] of runs()) {
  if (!only.test(name)) continue
  try {
    const { requests, degraded, refused, late } = await chaos(run)
    const counts = `${requests} requests, ${degraded} degraded, ${refused} refused, ${late} late`
    console.log(`${clock()}  ok      ${name}: ${counts}`)
  } catch (error) {
    failed.push(name)
    console.log(
      `${clock()}  WRONG   ${name}: ${error instanceof Error ? error.message : String(error)}`,
    )
  }
  done += 1
}
console.log(
  `${clock()}  ${done} runs, ${failed.length} wrong${failed.map((name) => `\n  ${name}`).join('')}`,
)
process.exit(failed.length ? 1 : 0)
