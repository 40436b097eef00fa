/** Files as the old system wrote them, and the expected result of an import. */
import { NOON } from './commands.ts'
import { DAY_MS, HOUR_MS, dateOf } from '../../src/ledger/windows.ts'

export type OldLine = {
  id: string
  date: string
  timestamp: number | string
  userId: string | null
  sessionId: string
  model: string
  tokensUsed: number
  tokenType: string
  metadata: Record<string, unknown>
}

const MODELS = ['a/one', 'b/two', 'constructor']

/** A record of the old system, at noon by default. */
export const lineOf = (fields: Partial<OldLine> = {}): OldLine => {
  const timestamp = fields.timestamp ?? NOON
  return {
    id: `${timestamp}-x`,
    date: dateOf(new Date(timestamp).getTime()),
    timestamp,
    userId: 'token-of-alice',
    sessionId: 'session-1',
    model: 'a/one',
    tokensUsed: 10,
    tokenType: 'total',
    metadata: { route: '/api/groq', note: 'a "quoted" [thing], {more} \\ 🦢' },
    ...fields,
  }
}

/** The records of one request: 20 + 5 tokens as a triple, or 25 as a total alone. */
export function linesOf(n: number, fields: Partial<OldLine> = {}): OldLine[] {
  const { timestamp = NOON } = fields
  const of = (tokenType: string, tokensUsed: number) =>
    lineOf({ ...fields, id: `${n}-${tokenType}`, timestamp, tokensUsed, tokenType })
  if (n % 5 === 4) return [of('total', 25)]
  return [of('prompt', 20), of('completion', 5), of('total', 25)]
}

/** A number of requests of some users and models, in order, over the last days before `until`. */
export function* oldRequests(
  count: number,
  { days = 5, users = 20, until = NOON } = {},
): Generator<OldLine[]> {
  const start = until - days * DAY_MS
  for (let n = 0; n < count; n += 1) {
    const at = start + Math.floor(((n + 1) / count) * days * DAY_MS) - HOUR_MS
    yield linesOf(n, {
      timestamp: n % 3 ? at : new Date(at).toISOString(),
      userId: n % 17 === 16 ? null : `token-of-user-${n % users}`,
      sessionId: `session-${n}`,
      model: MODELS[n % MODELS.length] ?? '',
    })
  }
}

/** Requests and tokens of a file by day; each request has 25 tokens. */
export function totalsOf(requests: Iterable<OldLine[]>) {
  const days: Record<string, { requests: number; charged: number }> = {}
  for (const [line] of requests) {
    const day = (days[dateOf(new Date(line?.timestamp ?? 0).getTime())] ??= {
      requests: 0,
      charged: 0,
    })
    day.requests += 1
    day.charged += 25
  }
  return days
}
