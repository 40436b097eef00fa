/** Resident memory over many streams, some of them abandoned. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Case } from './cases.ts'
import { load } from './load.ts'
import { table } from './report.ts'

const STEPS = 5
const STEP = { kind: 'stream', inFlight: 32, requests: 20_000, abortEvery: 10 } as const

/** Longer than the deadline of a database call. */
const AT_REST_MS = 3500

/** Measures, prints the table, and returns the figures. */
export async function memory(weir: Case): Promise<object[]> {
  const figures: { requests: number; rss: number; heap: number }[] = []
  for (let step = 0; step <= STEPS; step += 1) {
    process.stderr.write(`memory: ${step * STEP.requests} of ${STEPS * STEP.requests} streams\n`)
    await load(weir, step === 0 ? { ...STEP, requests: 2000 } : STEP)
    await sleep(AT_REST_MS)
    const { rss, heap } = await weir.child.ask({ gc: true })
    figures.push({ requests: step * STEP.requests, rss, heap })
  }
  const mb = (bytes: number) => (bytes / 1024 / 1024).toFixed(1)
  console.log(
    `\nMemory of ${weir.name} in MB, over streams; the client leaves one in ${STEP.abortEvery}\n`,
  )
  console.log(
    table(
      ['streams', 'resident', 'heap in use'],
      figures.map(({ requests, rss, heap }) => [`${requests}`, mb(rss), mb(heap)]),
    ),
  )
  return figures
}
