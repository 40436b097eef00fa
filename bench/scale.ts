/**
 * Whether the number of users matters: calls of the admin, of browsers and of the proxy, on databases of three sizes.
 */
import { startChild, type Usage, type UsageQuestion } from './child.ts'
import type { DatabaseAnswer, DatabaseQuestion } from './database.ts'
import { EACH_USER, EVERYONE, modelOf, tokenOf } from './populate.ts'
import { median, ms, table } from './report.ts'
import { BENCH_ADMIN_KEY, BENCH_MODEL } from './weir-vars.ts'

const SIZES = [100, 10_000, 100_000]
const ROUNDS = 30
const WARM_UP = 5

/** Pay as you go, per command: https://upstash.com/docs/redis/overall/pricing */
const USD_PER_COMMAND = 0.2 / 100_000

type Call = (url: string, user: string, cookie: string) => Promise<Response>

const get =
  (path: string): Call =>
  (url) =>
    fetch(url + path, { headers: { authorization: `Bearer ${BENCH_ADMIN_KEY}` } })

const post = (url: string, body: unknown, headers = {}) =>
  fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify(body),
  })

/** Asks as an admin's browser does. */
const page =
  (headers = {}): Call =>
  (url, _, cookie) =>
    fetch(`${url}/admin`, { headers: { cookie, ...headers } })

async function logIn(url: string): Promise<string> {
  const { headers, status } = await post(`${url}/api/admin/login`, { key: BENCH_ADMIN_KEY })
  const [cookie] = (headers.get('set-cookie') ?? '').split(';', 1)
  if (!cookie) throw new Error(`login: status ${status}`)
  return cookie
}

const CALLS: Record<string, Call> = {
  dashboard: page(),
  'dashboard, live refresh': page({ 'x-weir-live': '1' }),
  'admin: users, latest': get('/api/admin/usage?limit=50'),
  'admin: users, by tokens': get('/api/admin/usage?limit=50&sort=tokens'),
  'admin: 90 days': get('/api/tokens?action=all'),
  'sync of a browser': (url, userToken) => {
    const used = { tokens: 20, requests: 1, resetAt: Date.now() + 60_000 }
    const modelUsage = { [modelOf(0)]: { minute: used, day: used } }
    return post(`${url}/api/tracking/sync`, { userToken, modelUsage })
  },
  request: (url, token) => {
    const messages = [{ role: 'user', content: 'What is two plus two?' }]
    const chat = { model: BENCH_MODEL, messages, max_completion_tokens: 100 }
    return post(`${url}/api/groq/openai/v1/chat/completions`, chat, { 'x-user-token': token })
  },
}

/** In ms as the caller sees it, in µs within Redis, and in commands. */
type Sample = Pick<DatabaseAnswer, 'billed' | 'us' | 'scripts'> & { ms: number }

/** Measures, prints the tables, and returns the figures. */
export async function scale(upstream: string): Promise<object[]> {
  const places = []
  for (const users of SIZES) {
    process.stderr.write(`scale: making up ${users} users\n`)
    const database = await startChild<DatabaseQuestion, DatabaseAnswer>('database.ts', {})
    const { tcp } = await database.ask({ users })
    const options = { upstream, tcp }
    const gateway = await startChild<UsageQuestion, Usage>('weir.ts', options)
    const samples = new Map<string, Sample[]>(Object.keys(CALLS).map((name) => [name, []]))
    const cookie = await logIn(gateway.url)
    places.push({ users, database, gateway, cookie, samples })
  }
  for (let round = -WARM_UP; round < ROUNDS; round += 1) {
    if (round % 10 === 0) process.stderr.write(`scale: round ${round} of ${ROUNDS}\n`)
    for (const place of round % 2 ? places.toReversed() : places) {
      const { users, database, gateway, cookie, samples } = place
      for (const [name, call] of Object.entries(CALLS)) {
        await database.ask({ take: 'stats' })
        const start = performance.now()
        const answer = await call(gateway.url, tokenOf((round + WARM_UP) % users), cookie)
        const text = await answer.text()
        const took = performance.now() - start
        if (!answer.ok) throw new Error(`${name}: status ${answer.status} ${text}`)
        // The settlement after the answer belongs to the request.
        if (name === 'request') await new Promise((resolve) => setTimeout(resolve, 60))
        const sample = { ms: took, ...(await database.ask({ take: 'stats' })) }
        if (round >= 0) samples.get(name)?.push(sample)
      }
    }
  }
  await Promise.all(places.flatMap(({ database, gateway }) => [database.stop(), gateway.stop()]))

  const figures = places.flatMap(({ users, samples }) =>
    [...samples].map(([name, list]) => ({
      users,
      call: name,
      ms: median(list.map((one) => one.ms)),
      redisUs: median(list.map((one) => one.us)),
      commands: median(list.map((one) => one.billed)),
      scripts: Object.fromEntries(
        ['admit', 'settle'].map((op) => [
          op,
          median(list.flatMap(({ scripts }) => scripts.flatMap((s) => (s.op === op ? s.us : [])))),
        ]),
      ),
    })),
  )
  const of = (name: string, users: number) =>
    figures.find((figure) => figure.call === name && figure.users === users)
  const cells = Object.keys(CALLS).flatMap((name) => {
    const all = SIZES.map((users) => of(name, users))
    const line = (what: string, values: number[], show: (value: number) => string) => [
      `${name}${what}`,
      ...values.map(show),
      `${((values.at(-1) ?? NaN) / (values[0] ?? NaN)).toFixed(2)}×`,
    ]
    const micro = (value: number) => `${Math.round(value)} µs`
    const inRedis = all.map((one) => one?.redisUs ?? NaN)
    const scripts = (op: string) => all.map((one) => one?.scripts[op] ?? NaN)
    return [
      line(
        '',
        all.map((one) => one?.ms ?? NaN),
        (value) => `${ms(value)} ms`,
      ),
      ...(name === 'request'
        ? [
            line(', admit in Redis', scripts('admit'), micro),
            line(', settle in Redis', scripts('settle'), micro),
            line(', admit + settle in Redis', inRedis, micro),
          ]
        : [line(', in Redis', inRedis, micro)]),
      line(
        ', commands',
        all.map((one) => one?.commands ?? NaN),
        String,
      ),
    ]
  })
  const most = SIZES.at(-1) ?? 0
  console.log(
    `\nThe database holds ${EVERYONE}, and this many users, each with ${EACH_USER}.\n` +
      'The target for the pages is at most 1.2×, with the same commands.\n',
  )
  console.log(
    table(['', ...SIZES.map((users) => `${users} users`), `${most} ÷ ${SIZES[0]}`], cells),
  )
  return figures
}

/** The price on Upstash of this many commands per request, in USD for a million requests. */
export const usdPerMillion = (commands: number): number => commands * 1e6 * USD_PER_COMMAND
