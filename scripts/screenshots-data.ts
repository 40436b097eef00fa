/** Ninety days of an invented application for `npm run screenshots`, the same on every run. */
import { v7 as uuidv7 } from 'uuid'
import { rowsOf } from '../src/ledger/rows.ts'
import type { Command, Raise } from '../src/ledger/commands.ts'
import { VERSION } from '../src/ledger/shapes.ts'
import { ALL_MODELS } from '../src/ledger/documents.ts'
import type { Event } from '../src/ledger/events.ts'
import { DAY_MS, HOUR_MS, MINUTE_MS, nextDay } from '../src/ledger/windows.ts'
import { costOf, digitsOf, nanoFrom, type Price } from '../src/ledger/money.ts'
import { GROQ_PRICES } from '../src/providers/groq-prices.ts'
import type { Entry, Store } from '../src/store/store.ts'
import { createIds } from '../src/identity/ids.ts'

/** A Wednesday afternoon. */
export const NOW = Date.UTC(2026, 2, 18, 14, 42, 7)
export const SECRET = 'secret-of-the-screenshots'

/** Models, and how often they are used. */
const MODELS: [name: string, weight: number][] = [
  ['openai/gpt-oss-20b', 44],
  ['llama-3.3-70b-versatile', 21],
  ['openai/gpt-oss-120b', 17],
  ['qwen/qwen3-32b', 9],
  ['meta-llama/llama-4-maverick-17b-128e-instruct', 6],
  ['moonshotai/kimi-k2-instruct-0905', 3],
]
const PRICES = Object.assign({}, ...GROQ_PRICES.map(({ prices }) => prices)) as Record<
  string,
  Price
>
const USERS = 120
const DAYS = 90

/** The load of each hour of a day. */
const HOURS = [2, 1, 1, 1, 1, 2, 4, 8, 14, 19, 22, 21, 18, 20, 23, 22, 19, 15, 12, 11, 10, 8, 5, 3]

/** Users whose pages show something of interest. */
export type Seeded = { busy: string; blocked: string; hostile: string; named: string }

export const HOSTILE = `<script>alert(1)</script>"'&amp;\u202Eexe.fdp\u202C ${'so long a reason '.repeat(26)}`

/** Fills a store. */
/** A user, the label and the plan. */
type Named = [user: number, label: string, plan?: string]

/** More names, for the pictures of the docs. */
const LABELS: Named[] = [
  [0, 'Jonas Weber', 'pro'],
  [1, 'Amara Okafor'],
  [3, 'Li Wei'],
  [5, 'Nightly import'],
  [6, 'Sofia Rossi', 'pro'],
  [7, 'Haruto Sato', 'free'],
  [8, 'Help centre'],
  [9, 'Emma Dubois', 'free'],
  [10, 'Search box'],
  [11, 'Noah Smith'],
  [12, 'Mateo García', 'pro'],
  [13, 'Zofia Nowak'],
  [17, 'crawler-7', 'free'],
]

export async function seed(store: Store, { friendly = false } = {}): Promise<Seeded> {
  const random = dice(42)
  const pick = <T>(weighted: readonly (readonly [T, number])[]): T => {
    let left = random() * weighted.reduce((sum, [, weight]) => sum + weight, 0)
    for (const [value, weight] of weighted) if ((left -= weight) <= 0) return value
    throw new Error('nothing to pick from')
  }
  const ids = createIds(SECRET)
  const users = await Promise.all(
    Array.from({ length: USERS }, (_, number) => ids.user(`token-of-user-${number}`)),
  )
  const user = (number: number) => users[number] ?? ''

  const entries: Entry[] = []
  for (let ago = DAYS - 1; ago >= 0; ago -= 1) {
    const start = Math.floor(NOW / DAY_MS) * DAY_MS - ago * DAY_MS
    const weekend = [0, 6].includes(new Date(start).getUTCDay()) ? 0.45 : 1
    const growth = 0.35 + 0.65 * ((DAYS - ago) / DAYS) ** 1.4
    for (const [hour, busy] of HOURS.entries()) {
      const requests = Math.round(busy * 2 * weekend * growth * (0.75 + random() * 0.5))
      const times = Array.from(
        { length: requests },
        () => start + hour * HOUR_MS + Math.floor(random() * HOUR_MS),
      )
      for (const at of times.sort((a, b) => a - b)) {
        if (at > NOW - MINUTE_MS) continue
        const number = Math.floor(random() ** 2.2 * USERS)
        const model = pick(MODELS)
        entries.push(entry(eventOf(at, user(number), model)))
      }
    }
  }

  function eventOf(at: number, user: string, model: string): Event {
    const prompt = Math.round(120 + random() ** 3 * 5200)
    const completion = Math.round(60 + random() ** 2 * 1900)
    const outcome = pick([
      ['exact', 955],
      ['estimated', 21],
      ['failed', 24],
    ] as const)
    const total = prompt + completion
    const isOver = outcome === 'exact' && random() < 0.004
    const reserved = isOver ? Math.round(total * 0.9) : total + 700
    const charged = { exact: total, estimated: Math.round(total * 0.6), failed: 0 }[outcome]
    const share = charged / total
    const price = PRICES[model]
    const costs = price && {
      reservedCost: digitsOf(costOf({ prompt, completion: reserved - prompt }, price)),
      cost: digitsOf(Math.round(costOf({ prompt, completion }, price) * Math.min(1, share))),
    }
    const ttfbMs = Math.round(110 + random() ** 3 * 900)
    const event: Event = {
      v: VERSION,
      id: uuidv7({ msecs: at, seq: entries.length, random: bytes(random) }),
      at,
      user,
      session: `session-${user.slice(0, 4)}-${at % 2}`,
      route: pick([
        ['chat/completions', 80],
        ['responses', 15],
        ['embeddings', 5],
      ]),
      model,
      outcome,
      status:
        outcome === 'failed'
          ? pick([
              [429, 6],
              [500, 1],
              [400, 2],
            ])
          : 200,
      ...(outcome === 'exact' && { prompt, completion, total }),
      reserved,
      charged,
      ...costs,
      ttfbMs,
      totalMs: ttfbMs + Math.round(completion * (1.5 + random())),
    }
    return event.status === 429 ? { ...event, error: 'rate_limit_exceeded' } : event
  }

  for (const seconds of [111, 84, 61, 47, 32, 18, 11, 4]) {
    const event = eventOf(NOW - seconds * 1000, user((seconds * 7) % 40), pick(MODELS))
    entries.push(entry(event))
  }
  entries.sort((a, b) => a.now - b.now)

  /** What happens between these requests, in order of time: the ledger's clock only goes forward. */
  const deeds: { at: number; run: () => Promise<unknown> }[] = []
  const at = (ago: number, command: (now: number) => Command) => {
    const now = NOW - ago
    deeds.push({ at: now, run: () => store.execute(command(now)) })
  }

  const model = 'openai/gpt-oss-20b'
  const limits = { model: { tokensPerDay: 200_000, requestsPerDay: 1000 } }
  const everyone = { total: { tokensPerDay: 2_000_000, requestsPerDay: 10_000 } }
  for (const [number, ago] of [
    [0, 9_000],
    [2, 4_000],
    [1, 40 * MINUTE_MS],
  ] as const) {
    const id = uuidv7({ msecs: NOW - ago, seq: number, random: bytes(random) })
    const admit = {
      op: 'admit',
      id,
      user: user(number),
      model,
      reserved: 3100,
      completion: 3000,
      price: PRICES[model]!,
    } as const
    at(ago, (now) => ({ ...admit, now, lasts: 300_000, limits, everyone }))
  }
  for (const [number, ago, tight] of [
    [0, 3 * HOUR_MS, { tokensPerDay: 3000 }],
    [2, 2 * HOUR_MS, { usdPerMonth: nanoFrom(0.002) }],
    [7, 50 * MINUTE_MS, { requestsPerMinute: 0 }],
    [0, 30 * MINUTE_MS, { tokensPerDay: 3000 }],
  ] as const) {
    const id = uuidv7({ msecs: NOW - ago, seq: number, random: bytes(random) })
    const price = PRICES[model]!
    const asked = {
      op: 'admit',
      id,
      user: user(number),
      model,
      reserved: 3100,
      completion: 3000,
    } as const
    at(ago, (now) => ({ ...asked, price, now, lasts: 300_000, limits: { model: tight } }))
  }

  const ip = '198.51.100.7'
  const session = 'a'.repeat(43)
  at(3 * DAY_MS, (now) => ({ op: 'login', now, session, until: now + DAY_MS, ip }))
  at(3 * DAY_MS - MINUTE_MS, (now) => ({ op: 'note', now, action: 'export', ip }))
  at(5 * HOUR_MS, (now) => ({ op: 'erase', now, user: user(119), ip }))
  const loaded = { op: 'block', user: user(21), model: ALL_MODELS, ip } as const
  at(9 * HOUR_MS, (now) => ({ ...loaded, now, block: { at: now, reason: 'Load test' } }))
  at(8 * HOUR_MS, (now) => ({ ...loaded, now }))
  type Blocked = [number, string, number, string?, number?]
  const blocks: Blocked[] = [
    [17, ALL_MODELS, 26 * HOUR_MS, 'Scraped the help centre through the chat'],
    [
      5,
      'openai/gpt-oss-120b',
      3 * HOUR_MS,
      'Reports three times what is metered; asked them why',
      21,
    ],
    [9, 'qwen/qwen3-32b', 50 * MINUTE_MS, undefined, 1],
    ...(friendly ? [] : [[33, ALL_MODELS, 12 * MINUTE_MS, HOSTILE, 164] satisfies Blocked]),
  ]
  for (const [number, model, ago, reason, hours] of blocks) {
    const until = hours === undefined ? undefined : NOW + hours * HOUR_MS
    at(ago, (now) => ({
      ...({ op: 'block', now, user: user(number), model, ip } as const),
      block: { at: now, reason, until },
    }))
  }

  at(2 * DAY_MS, (now) => ({
    ...({ op: 'plan', now, name: 'free', ip } as const),
    plan: {
      limits: { '*': { tokensPerDay: 20_000, requestsPerDay: 100 } },
      models: { [model]: 1 },
    },
  }))
  at(2 * DAY_MS, (now) => ({
    ...({ op: 'plan', now, name: 'pro', ip } as const),
    plan: {
      limits: {
        '*': { tokensPerDay: 500_000, requestsPerDay: 5000 },
        'openai/gpt-oss-120b': { tokensPerDay: 100_000, requestsPerDay: -1 },
        total: { tokensPerDay: 1_000_000, usdPerMonth: nanoFrom(25) },
      },
      maxCompletionTokens: 8192,
      concurrentRequests: 8,
    },
  }))
  const names: Named[] = [
    [2, 'Marta Lindqvist', 'pro'],
    [4, 'Support desk, second floor', 'free'],
    [14, 'Otto'],
    ...(friendly ? LABELS : [[33, HOSTILE.slice(0, 100), 'free'] satisfies Named]),
  ]
  for (const [number, label, plan] of names) {
    at(25 * MINUTE_MS, (now) => ({
      ...({ op: 'profile', now, user: user(number), ip } as const),
      set: { label, words: {}, ...(plan !== undefined && { plan }) },
    }))
  }
  at(20 * MINUTE_MS, (now) => ({
    ...({ op: 'profile', now, user: user(2), ip } as const),
    set: {
      note: 'Writes the monthly report on the 18th.\nMay have more on that day.',
      limits: { [model]: { requestsPerDay: 2000, tokensPerMinute: -1 } },
      boost: { limits: { '*': { tokensPerDay: 250_000 } }, until: now + 9 * HOUR_MS },
    },
  }))
  const keys = ['Laptop', HOSTILE.slice(0, 100), undefined]
  for (const [number, name] of keys.entries()) {
    const key = {
      ...{ hash: `${number}`.repeat(43), start: 'weir_1Fq8', last4: `x${number}Zk`, created: 0 },
      ...(name !== undefined && { name }),
      ...(number === 1 && { disabled: 1 as const, expires: NOW + 30 * DAY_MS }),
    }
    const create = {
      op: 'key',
      action: 'create',
      user: user(2),
      id: `key0000${number}`,
      ip,
    } as const
    at((3 - number) * HOUR_MS, (now) => ({ ...create, now, key: { ...key, created: now } }))
  }

  let entered = 0
  async function enterUntil(time: number) {
    const end = entries.findIndex(({ now }) => now > time)
    const due = entries.slice(entered, end < 0 ? undefined : end)
    for (let at = 0; at < due.length; at += 64) await store.replay(due.slice(at, at + 64))
    entered += due.length
  }
  for (const { at, run } of deeds.sort((a, b) => a.at - b.at)) {
    await enterUntil(at)
    await run()
  }
  await enterUntil(NOW)

  await report(3, 1.02)
  await report(5, 3.4)
  async function report(number: number, factor: number) {
    const known = await store.user(user(number))
    const resetAt = nextDay(NOW)
    const models = Object.fromEntries(
      Object.entries(known ? rowsOf(known.usage) : {}).map(
        ([name, { charged = 0, requests = 0 }]) => [
          name,
          { tokens: Math.round(charged * factor), requests, resetAt },
        ],
      ),
    )
    const about = { user: user(number), models, limits: { models: {} } }
    await store.execute({ op: 'report', now: NOW, ...about })
  }
  const told = { of: 'user', model: ALL_MODELS, unit: 'tokens', window: 'day' } as const
  const alerts: Raise['alert'][] = [
    {
      id: 'a-1',
      type: 'limit.threshold',
      ...told,
      resetAt: nextDay(NOW),
      user: user(0),
      percent: 80,
      limit: 60_000,
      used: 48_120,
    },
    { id: 'a-2', type: 'upstream.errors', calls: 40, failures: 9, state: 'delivered', status: 204 },
    { id: 'a-3', type: 'test', by: 'ada', state: 'failed', status: 410 },
  ]
  for (const [n, alert] of alerts.entries()) {
    await store.execute({ op: 'raise', now: NOW - n * HOUR_MS, alert })
  }
  return { busy: user(0), blocked: user(5), hostile: user(33), named: user(2) }
}

const entry = (event: Event): Entry => ({
  op: 'enter',
  now: event.at,
  user: event.user,
  event,
})

/** Mulberry32: numbers from 0 to 1, the same on every run. */
function dice(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

const bytes = (random: () => number) => Uint8Array.from({ length: 16 }, () => random() * 256)
