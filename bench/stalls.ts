/** How long one client can keep the others waiting: by the body that it sends, and by how it behaves. */
import { readConfig } from '../src/config/config.ts'
import type { Cap } from '../src/metering/reservation.ts'
import { bodiesOf } from './bodies.ts'
import type { Case } from './cases.ts'
import { startChild, type Child, type Usage, type UsageQuestion } from './child.ts'
import { JSON_TYPE, answersOf, hostileOf, type Hostile } from './hostile.ts'
import { load } from './load.ts'
import { median, ms, percentile, table } from './report.ts'
import { BENCH_ADMIN_KEY } from './weir-vars.ts'

const { maxBodyBytes } = readConfig({}, 'node')
const SIZES = [maxBodyBytes, 512 * 1024 - 8]
const REQUESTS = 60

/** How often each is measured. The shortest time counts, since a busy machine only makes it longer. */
const ATTEMPTS = 9

/** Measures, prints the tables, and returns the figures. */
export async function stalls(weir: Case, upstream: string): Promise<object[]> {
  const figures: object[] = []
  for (const bytes of SIZES) figures.push(...(await stepsFor(bytes, upstream)))
  return [...figures, ...(await waiting(weir))]
}

/** `like`: what JSON.parse is timed with. */
type Asked = Hostile & { like: string | Buffer }

/** How long the longest step of the event loop is, from the first byte of a request to the last one of its answer. */
async function stepsFor(bytes: number, upstream: string): Promise<object[]> {
  const asked = askedOf(bytes)
  const text = parseTime(asked[0]?.like ?? '')
  const figures: { kind: string; cap: Cap; parse: number; longest: number; answer: string }[] = []
  for (const cap of ['balanced', 'strict'] as const) {
    const child: Child<UsageQuestion, Usage> = await startChild('weir.ts', { upstream, cap })
    try {
      for (const one of asked) {
        if (cap === 'strict' && one.isSame) continue
        const tries = await triesOf(child, one)
        const longest = Math.min(...tries.map((done) => done.longest))
        const answer = tries[0]?.answer ?? ''
        // What is not JSON, or is refused early, is compared with one text.
        const own = parseTime(one.like)
        const parse = Number.isNaN(own) ? text : own
        process.stderr.write(
          `stalls: ${cap}, ${one.name}, ${bytes}: ${ms(longest)} to ${ms(parse)}\n`,
        )
        figures.push({ kind: one.name, cap, parse, longest, answer })
      }
    } finally {
      await child.stop()
    }
  }
  const kb = Math.round(bytes / 1024).toLocaleString('en-US')
  console.log(
    `\nThe longest step of the event loop for ${kb} KB; one text takes JSON.parse ${ms(text)} ms\n`,
  )
  const rows = figures.map(({ kind, cap, parse, longest, answer }) => [
    kind,
    cap,
    ...[parse, longest].map(ms),
    ...[parse, text].map((time) => `${(longest / time).toFixed(1)}×`),
    answer,
  ])
  const head = [
    '',
    'cap',
    'JSON.parse, ms',
    'longest step, ms',
    'times',
    'times one text',
    'answer',
  ]
  console.log(table(head, rows))
  return figures.map((one) => ({ bytes, text, ...one }))
}

/** All requests, the one with one text first. */
function askedOf(bytes: number): Asked[] {
  const chats = Object.entries(bodiesOf(bytes)).map(([name, body]) => {
    return { name, path: CHAT, type: JSON_TYPE, body, like: body }
  })
  const others = hostileOf(bytes).map((one) => ({ ...one, like: one.body }))
  const answers = answersOf(bytes).map(({ name, path, answer, ...one }) => {
    const query = new URLSearchParams({ answer: name, bytes: String(bytes) })
    return { ...one, name: `answer: ${name}`, path: `${path}?${query}`, like: answer }
  })
  return [...chats, ...others, ...answers]
}

const CHAT = '/api/groq/openai/v1/chat/completions'

type Try = { longest: number; answer: string }

async function triesOf(child: Child<UsageQuestion, Usage>, one: Asked): Promise<Try[]> {
  const tries: Try[] = []
  for (let n = 0; n < ATTEMPTS; n += 1) {
    await child.ask({ watch: true })
    const answer = await send(child.url, one)
    tries.push({ longest: (await child.ask({ watch: false })).longest, answer })
  }
  return tries
}

/** Some bodies take seconds to parse. */
const MOST_PARSING = 200

/** The shortest time that JSON.parse takes, in ms; NaN for what is not JSON. */
function parseTime(sent: string | Buffer): number {
  const text = String(sent)
  const times: number[] = []
  for (let n = 0, sum = 0; n < ATTEMPTS && sum < MOST_PARSING; n += 1) {
    const start = performance.now()
    try {
      JSON.parse(text)
    } catch {
      return NaN
    }
    const time = performance.now() - start
    times.push(time)
    sum += time
  }
  return Math.min(...times)
}

let users = 0

/** Sends a request as a new user, reads the answer, and returns what came. */
async function send(url: string, { path, type, body, isAdmin }: Hostile): Promise<string> {
  users += 1
  const key = isAdmin ? BENCH_ADMIN_KEY : `token-of-user-${users}`
  const answer = await fetch(url + path, {
    method: 'POST',
    headers: { authorization: `Bearer ${key}`, 'content-type': type },
    body: body as BodyInit,
    signal: AbortSignal.timeout(30_000),
  })
  const text = await answer.text()
  return answer.ok ? 'goes up' : (/"code":"(\w+)"/.exec(text)?.[1] ?? String(answer.status))
}

/** How long a quiet client waits for an answer while another one does its worst. */
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
