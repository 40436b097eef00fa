/** How long a stream waits: its first byte for the database, near and far, and each event for the gateway. */
import type { Case } from './cases.ts'
import { load, type Timing } from './load.ts'
import { median, ms, percentile, table } from './report.ts'
import type { Database } from './requests.ts'

/** The delays of the database's answers, in ms. */
const DELAYS = [0, 5, 20]
const ROUNDS = 3
const REQUESTS = 12
/** The time that the gateway may add to a round trip to the database. */
const ADDED_MS = 1

/** Measures, prints the table, and returns the figures. The delays apply to the database over REST only. */
export async function streams(cases: Case[], database: Database, token: string): Promise<object[]> {
  const figures: object[] = []
  const rows: string[][] = []
  const work = { kind: 'paced', inFlight: 1, requests: REQUESTS } as const
  for (const delay of DELAYS) {
    process.stderr.write(`streams: the database late by ${delay} ms\n`)
    await database.ask({ delay })
    const trips = await roundTrips(database.url, token)
    const timings = new Map<Case, Timing[]>(cases.map((one) => [one, []]))
    for (let round = 0; round < ROUNDS; round += 1) {
      for (const one of round % 2 ? cases.toReversed() : cases) {
        timings.get(one)?.push(...(await load(one, work)))
      }
    }
    const first = (one: Case) => (timings.get(one) ?? []).map((timing) => timing.first)
    for (const one of cases) {
      const base = cases.find((other) => other.name === one.base) as Case
      const added = median(first(one)) - median(first(base))
      const events = (timings.get(one) ?? []).flatMap((timing) => timing.events.slice(1))
      const target = /^(node-rest|workerd)$/.test(one.name) ? median(trips) + ADDED_MS : undefined
      rows.push([
        `${delay}`,
        one.name,
        ms(median(first(one))),
        one === base ? '' : ms(added),
        target === undefined ? '' : `≤ ${ms(target)}`,
        ...[50, 95, 99].map((percent) => ms(percentile(events, percent))),
      ])
      figures.push({
        delay,
        case: one.name,
        roundTrip: median(trips),
        first: median(first(one)),
        firstAdded: added,
        event50: percentile(events, 50),
        event95: percentile(events, 95),
        event99: percentile(events, 99),
      })
    }
  }
  await database.ask({ delay: 0 })
  console.log(
    `\nA single stream, in ms: the delay of its first byte (target: a round trip to the database + ${ADDED_MS} ms), and of each later\n` +
      'event on its way from upstream to the client.\n',
  )
  console.log(
    table(['late by', '', 'first byte', 'added', 'target', 'event p50', 'p95', 'p99'], rows),
  )
  return figures
}

/** The time of a command that does nothing, over the same protocol. */
async function roundTrips(url: string, token: string): Promise<number[]> {
  const times: number[] = []
  for (let i = 0; i < REQUESTS; i += 1) {
    const start = performance.now()
    const headers = { authorization: `Bearer ${token}` }
    const response = await fetch(url, { method: 'POST', headers, body: '["PING"]' })
    await response.text()
    times.push(performance.now() - start)
  }
  return times
}
