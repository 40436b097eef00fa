/**
 * `npm run bench:isolation`: how long a quiet user waits while another user floods the gateway, compared with the same
 * user alone, in turns, in one run. The flood runs in a separate process and is past its limit, so its requests are
 * refused.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { startChild, type Usage, type UsageQuestion } from './child.ts'
import type { DatabaseAnswer, DatabaseQuestion } from './database.ts'
import type { FloodAnswer, FloodQuestion } from './flood.ts'
import { load } from './load.ts'
import { ms, percentile, table } from './report.ts'

const ROUNDS = 5
const WORK = { kind: 'plain' as const, inFlight: 1, requests: 300 }
const FLOODS = [8, 32]
const MODEL = 'flood/model'

const upstream = await startChild('upstream.ts', {})
const database = await startChild<DatabaseQuestion, DatabaseAnswer>('database.ts', {})
const { token } = await database.ask({ delay: 0 })
const limits = { [MODEL]: { tokensPerDay: 1e12, requestsPerDay: 5 } }
const weir = await startChild<UsageQuestion, Usage>('weir.ts', {
  upstream: upstream.url,
  rest: { url: database.url, token },
  limits,
})
const url = `${weir.url}/api/groq/openai/v1/chat/completions`
const flood = await startChild<FloodQuestion, FloodAnswer>('flood.ts', { url, model: MODEL })

try {
  await load({ url }, { ...WORK, inFlight: 32, requests: 2000 })
  const times = new Map<number, number[]>()
  const refused = new Map<number, [count: number, ms: number]>()
  for (let round = 0; round < ROUNDS; round += 1) {
    for (const inFlight of [0, ...FLOODS]) {
      await flood.ask({ inFlight })
      await sleep(200)
      await flood.ask({ inFlight })
      const started = performance.now()
      const timings = await load({ url }, WORK)
      const took = performance.now() - started
      const answers = await flood.ask({ inFlight: 0 })
      times.set(inFlight, [...(times.get(inFlight) ?? []), ...timings.map(({ whole }) => whole)])
      const [count, time] = refused.get(inFlight) ?? [0, 0]
      refused.set(inFlight, [count + (answers['429'] ?? 0), time + took])
    }
  }
  const alone = times.get(0) ?? []
  const rows = [0, ...FLOODS].map((inFlight) => {
    const own = times.get(inFlight) ?? []
    const [count, time] = refused.get(inFlight) ?? [0, 1]
    const ratio = (percent: number) =>
      `${(percentile(own, percent) / percentile(alone, percent)).toFixed(2)}×`
    return [
      inFlight ? `beside ${inFlight} of a flood in flight` : 'alone',
      `${Math.round((count / time) * 1000)}`,
      ms(percentile(own, 50)),
      ratio(50),
      ms(percentile(own, 99)),
      ratio(99),
    ]
  })
  console.log(
    `Requests of a quiet user in ms, sent one at a time, ${ROUNDS * WORK.requests} of each kind\n`,
  )
  console.log(table(['', 'refused per second', 'p50', '', 'p99', ''], rows))
} finally {
  await Promise.all([flood, weir, database, upstream].map((child) => child.stop()))
}
