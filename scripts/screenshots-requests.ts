/** The requests of the invented users: what they ask for, and how it would end. The same on every run. */
import { v7 as uuidv7 } from 'uuid'
import type { Event } from '../src/ledger/events.ts'
import { DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS } from '../src/ledger/windows.ts'
import {
  AUDIO,
  EAGER,
  FREE,
  IMPORT,
  LARGE,
  NOW,
  PEOPLE,
  SEARCH,
  SMALL,
  SPEECH,
} from './screenshots-people.ts'

/** A request before it is admitted. */
export type Request = Pick<
  Event,
  'id' | 'at' | 'route' | 'model' | 'outcome' | 'status' | 'totalMs'
> & {
  user: number
  tag?: string
  error?: string
  prompt: number
  completion: number
  /** What is reserved. */
  reserved: number
  audioMs?: number
  ttfbMs: number
}

/** Models, and how often they are used. */
const MODELS: [name: string, weight: number][] = [
  [SMALL, 44],
  ['llama-3.3-70b-versatile', 21],
  [LARGE, 17],
  ['qwen/qwen3-32b', 9],
  ['meta-llama/llama-4-maverick-17b-128e-instruct', 6],
  ['moonshotai/kimi-k2-instruct-0905', 3],
]
export const USERS = 120
/** The days before which the team had not begun. */
const DAYS = 90

/** The load of each hour of a day. */
const HOURS = [2, 1, 1, 1, 1, 2, 4, 8, 14, 19, 22, 21, 18, 20, 23, 22, 19, 15, 12, 11, 10, 8, 5, 3]

const FAILURES: [status: number, error: string, weight: number][] = [
  [429, 'rate_limit_exceeded', 6],
  [500, 'internal_server_error', 1],
  [400, 'json_validate_failed', 2],
]

/** A model that fails. */
const FAILING = 'moonshotai/kimi-k2-instruct-0905'

/** The last requests: seconds ago, and how they end. The last three have not ended. */
const LAST: [seconds: number, outcome: Event['outcome']][] = [
  [111, 'exact'],
  [84, 'exact'],
  [61, 'failed'],
  [47, 'exact'],
  [39, 'exact'],
  [32, 'estimated'],
  [24, 'exact'],
  [4, 'exact'],
]
const RUNNING = [9, 5, 1]

type Some = Partial<Pick<Request, 'model' | 'outcome' | 'status' | 'error' | 'totalMs'>>

/**
 * The requests of the last days. `trouble`: a model fails, and its callers try again.
 */
export function inventRequests(days: number, { trouble = false } = {}): Request[] {
  const random = dice(42)
  const requests: Request[] = []

  function pick<T>(weighted: readonly (readonly [T, number])[]): T {
    let left = random() * weighted.reduce((sum, [, weight]) => sum + weight, 0)
    for (const [value, weight] of weighted) if ((left -= weight) <= 0) return value
    throw new Error('nothing to pick from')
  }

  function add(at: number, user: number, some: Some = {}) {
    const person = PEOPLE[user]
    const model = some.model ?? person?.model ?? pick(MODELS)
    const isSpeech = model === SPEECH
    const prompt = isSpeech ? 0 : Math.round(120 + random() ** 3 * 5200)
    const completion = isSpeech ? 0 : Math.round(60 + random() ** 2 * 1900)
    const audioMs = Math.round(40_000 + random() ** 2 * 500_000)
    const outcomes = [
      ['exact', 955],
      ['estimated', 21],
      ['failed', 24],
    ] as const
    const outcome = some.outcome ?? pick(outcomes)
    const [failed, error] = pick(FAILURES.map(([one, name, weight]) => [[one, name], weight]))
    const isOver = outcome === 'exact' && random() < 0.004
    const total = prompt + completion
    const ttfbMs = Math.round(110 + random() ** 3 * 900)
    const tag =
      person?.tag ??
      pick([
        ['chat', 60],
        ['summary', 22],
        [undefined, 18],
      ] as const)
    const id = uuidv7({ msecs: at, seq: requests.length, random: bytes(random) })
    requests.push({
      ...{ id, at, user, model, outcome, prompt, completion, ttfbMs },
      route: isSpeech
        ? 'audio/transcriptions'
        : pick([
            ['chat/completions', 80],
            ['responses', 20],
          ]),
      ...(tag !== undefined && { tag }),
      ...(outcome === 'failed' ? { status: failed, error } : { status: 200 }),
      reserved: isSpeech ? 0 : isOver ? Math.round(total * 0.9) : total + 700,
      ...(isSpeech && { audioMs }),
      totalMs: ttfbMs + Math.round(completion * (1.5 + random())),
      ...some,
    })
  }

  for (let ago = days - 1; ago >= 0; ago -= 1) {
    const start = Math.floor(NOW / DAY_MS) * DAY_MS - ago * DAY_MS
    const weekend = [0, 6].includes(new Date(start).getUTCDay()) ? 0.45 : 1
    const growth = 0.35 + 0.65 * ((DAYS - ago) / DAYS) ** 1.4
    for (const [hour, busy] of HOURS.entries()) {
      const count = Math.round(busy * 2 * weekend * growth * (0.75 + random() * 0.5))
      for (let n = 0; n < count; n += 1) {
        const at = start + hour * HOUR_MS + Math.floor(random() * HOUR_MS)
        const user = Math.floor(random() ** 2.2 * USERS)
        if (at < NOW - 2 * MINUTE_MS && user !== IMPORT && user !== AUDIO) add(at, user)
      }
    }
    for (let n = 0; n < 12; n += 1) {
      const at = start + 8 * HOUR_MS + Math.floor(random() * 10 * HOUR_MS)
      if (weekend === 1 && at < NOW - 2 * MINUTE_MS) add(at, AUDIO)
    }
    // This night's import is longer than the others, and longer than its limit.
    const files = ago === 0 ? 45 : 16
    for (let n = 0; n < files; n += 1) add(start + (130 + n) * MINUTE_MS, IMPORT)
  }
  // More than a minute allows, and a model that the plan does not have.
  for (let n = 0; n < 6; n += 1)
    add(NOW - 66 * MINUTE_MS + n * 6 * SECOND_MS, EAGER, { model: LARGE })
  add(NOW - 95 * MINUTE_MS, FREE, { model: LARGE })
  if (trouble) {
    const failure = { outcome: 'failed', status: 503, error: 'service_unavailable' } as const
    for (let n = 0; n < 36; n += 1) {
      const some = { model: FAILING, ...(n % 3 > 0 && failure) }
      add(NOW - 22 * MINUTE_MS + n * 7 * SECOND_MS, n % 4 ? SEARCH : 40 + n, some)
    }
  }
  for (const [seconds, outcome] of LAST) {
    const some = seconds < 10 ? { outcome, totalMs: 1340 } : { outcome }
    add(NOW - seconds * SECOND_MS, (seconds * 7) % 40, some)
  }
  for (const [user, seconds] of RUNNING.entries()) {
    add(NOW - seconds * SECOND_MS, user, { totalMs: MINUTE_MS })
  }
  return requests
}

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
