/**
 * The data sheet: every shape that is counted, stored or passed between the parts.
 *
 * Times are epoch milliseconds (integers), dates are UTC `YYYY-MM-DD`, amounts are whole tokens.
 * One UUIDv7 per request is at once the request id, the lease id and the event id.
 */

export const SECOND_MS = 1000
export const MINUTE_MS = 60 * SECOND_MS
export const HOUR_MS = 60 * MINUTE_MS
export const DAY_MS = 24 * HOUR_MS

/** The last moment that a `Date` can tell: the end of a block that has none. */
export const NO_END = 8_640_000_000_000_000

/** A settle that comes later than this after its admission changes nothing. */
export const LATE_SETTLE_MS = DAY_MS

/** So much of a user's id is in the audit trail. */
export const AUDIT_ID_CHARS = 6

/** An event is entered at most once, and only so long after its request was served. */
export const ENTER_MS = 7 * DAY_MS

/** A user may use this many different models a day; names are user input and must not grow a document. */
export const MODELS_PER_USER = 64

/** So many sessions of a user are told apart in a day; further ones are not counted. */
export const SESSIONS_PER_USER = 64

/**
 * The largest amount of tokens taken at face value, for one request.
 * No model comes near it, and sums of it stay exact in JSON as Redis writes it (14 digits).
 */
export const MAX_TOKENS = 1_000_000_000

/** Stands for "all models" in blocks and in the counters of everyone together. */
export const ALL_MODELS = '*'

/** What a user, or everyone together, may use of a model. */
export type Limits = {
  tokensPerDay: number
  requestsPerDay: number
  tokensPerMinute?: number | undefined
  requestsPerMinute?: number | undefined
}

/** The limits in force: per model, for every model without a row, and for all models together. */
export type ModelLimits = {
  default?: Limits | undefined
  total?: Limits | undefined
  models: Record<string, Limits>
}

export type Count = { tokens: number; requests: number }

/** Tokens as upstream reported them; cached is part of prompt, reasoning is part of completion. */
export type Usage = {
  prompt: number
  completion: number
  total: number
  cached?: number
  reasoning?: number
  /** Upstream's own total was not prompt + completion. */
  mismatch?: true
}

/** How a request ended: see `outcome.ts`. A lease that never settles has no outcome and is shown as expired. */
export type Outcome = 'settled' | 'partial' | 'failed'

/** One user's day with one model. `requests` counts admissions, so unsettled = requests − the three outcomes. */
export type Row = {
  requests: number
  settled: number
  partial: number
  failed: number
  /** Tokens charged: real charges of what has ended, bounds of what has not. */
  charged: number
  /** The part of `charged` that is bounds of unsettled leases. */
  held: number
  prompt: number
  /** The part of `prompt` that upstream had in its cache. */
  cached: number
  completion: number
  /** Tokens that upstream reported beyond the bounds. */
  overshoot: number
}

/** A past day with a model, short once nothing of it is unsettled. */
export type PastRow = Row | { requests: number; charged: number }

/** The permission to charge once. */
export type Lease = {
  model: string
  at: number
  bound: number
  /** Until then the request may still be running, afterwards an unsettled lease is shown as expired. */
  until: number
  /** The counters of everyone together that hold this bound: `*` and perhaps the model. */
  scopes?: string[]
}

export type Block = { at: number; reason?: string | undefined; until?: number | undefined }

/** All that is kept of one user, as one document. */
export type UserDoc = {
  v: 1
  id: string
  ip?: string
  /** Last active. Never goes backwards, and with it neither do the user's day and minute. */
  at: number
  /** When a request of theirs last ended; without one the user is not listed. */
  seen?: number
  /** The day of `rows` and `sessions`. */
  date: string
  rows: Record<string, Row>
  past: Record<string, Record<string, PastRow>>
  /** Sessions with an answered request today, at most `SESSIONS_PER_USER`. */
  sessions: Record<string, 1>
  /** The current minute (epoch minutes) per model. */
  minute: { n: number; rows: Record<string, Count> }
  leases: Record<string, Lease>
  /** By model, or `*` for all of them. */
  blocks: Record<string, Block>
  /** What the user's own browser says it has used today, per model: shown beside what was metered, and never proof. */
  reported?: Record<string, Count>
}

/** A day of everyone together, with one model or with all. Only what has ended is in it. */
export type DayRow = {
  requests: number
  settled: number
  partial: number
  failed: number
  charged: number
  prompt: number
  cached: number
  completion: number
  overshoot: number
  /** Users with at least one answered request. */
  users: number
  /** Tokens by UTC hour, "0" to "23". */
  hours: Record<string, number>
  /** When it last changed. */
  at: number
}

/** One day of everyone together. */
export type DayDoc = {
  v: 1
  date: string
  total: DayRow
  /** Sessions with at least one answered request. */
  sessions: number
  models: Record<string, DayRow>
  /** What GLOBAL_LIMITS hold on to: admissions at their bounds, corrected when they settle. */
  quota: Record<string, Count>
  minute: { n: number; rows: Record<string, Count> }
  /** Finished requests that were cleared away, which `quota` still has. */
  forgotten?: number
}

/** One finished request. No address and no text, by intention. */
export type Event = {
  v: 1
  id: string
  at: number
  user: string
  session?: string
  route: string
  model: string
  outcome: Outcome
  /** The HTTP status the client got. */
  status: number
  prompt?: number
  completion?: number
  total?: number
  cached?: number
  reasoning?: number
  mismatch?: true
  bound: number
  charged: number
  /** The charge is our estimate, not upstream's report. */
  estimated: boolean
  ttfbMs?: number
  totalMs: number
  /** It settled after its lease had been shown as expired. */
  late?: true
}

/** Ask to start a request that will cost at most `bound` tokens. */
export type Admit = {
  op: 'admit'
  id: string
  user: string
  model: string
  bound: number
  now: number
  /** Milliseconds after which the request will have been cut. */
  lasts: number
  ip?: string
  /** The user's own limits: for this model, and for all models together. */
  limits: { model: Limits; total?: Limits | undefined }
  /** Limits of everyone together; absent when there are none. */
  global?: { total?: Limits | undefined; model?: Limits | undefined }
}

/** Say how an admitted request ended. Only `charged`, the outcome and what was observed are taken from the event. */
export type Settle = { op: 'settle'; now: number; user: string; event: Event }

/**
 * Count a request that was served without a sure lease: the store was away, or its answer to the admission was
 * lost. Once for each event id; if the lease is there after all, this settles it.
 */
export type Enter = {
  op: 'enter'
  now: number
  user: string
  event: Event
  /** The counters of everyone together that it belongs to: `*` and perhaps the model. */
  scopes?: string[]
}

/** Block a user from a model (or `*`); without a block, lift it. */
export type SetBlock = {
  op: 'block'
  now: number
  user: string
  model: string
  block?: Block | undefined
  ip?: string
}

/** Take note of what a browser says it has used: amounts of the day that ends at `resetAt`. */
export type Report = {
  op: 'report'
  now: number
  user: string
  models: Record<string, Count & { resetAt: number }>
}

/** Forget a user: document, blocks and events. What they were part of in the totals stays. */
export type Erase = { op: 'erase'; now: number; user: string; ip?: string }

/** Open an admin's session, known by the hash of its id, or end it. */
export type Login = { op: 'login'; now: number; session: string; until: number; ip?: string }
export type Logout = { op: 'logout'; now: number; session: string; ip?: string }

/** Put something that an admin did on record. */
export type Note = { op: 'note'; now: number; action: 'export'; ip?: string }

/** Something that an admin did. Of a user only the first characters of the id, since the trail outlives them. */
export type Audit = {
  at: number
  action: 'login' | 'logout' | 'block' | 'unblock' | 'erase' | 'clear' | 'export'
  user?: string
  model?: string
  reason?: string
  until?: number
  ip?: string
}

/** Forget days and events. Users, blocks and what quotas hold on to stay. */
export type Clear = { op: 'clear'; now: number; ip?: string }

/** What one user does or has done to them. */
export type UserCommand = Admit | Settle | Enter | SetBlock | Report | Erase
export type Command = UserCommand | Clear | Login | Logout | Note

/** `at` is the moment of admission by the ledger's clock; the counts are the user's with this model, this request included. */
export type Admitted = { ok: true; at: number; day: Count; minute: Count }

export type Refusal =
  | { ok: false; reason: 'blocked'; model: string; why?: string; until?: number }
  | { ok: false; reason: 'models' }
  | {
      ok: false
      reason: 'limit'
      of: 'user' | 'everyone'
      /** The model of the limit, `*` for all together. */
      model: string
      per: 'day' | 'minute'
      unit: 'tokens' | 'requests'
      limit: number
      used: number
      asked: number
      resetAt: number
    }

export type Settled = { applied: boolean }
/** What the server knows of a user who reported. */
export type Reported = {
  ok: true
  at: number
  rows: Record<string, Count>
  blocks: Record<string, Block>
}
export type Done = { ok: true }
export type Answer = Admitted | Refusal | Settled | Reported | Done

/** The UTC date of a moment, `YYYY-MM-DD`. */
export const dateOf = (at: number): string => new Date(at).toISOString().slice(0, 10)

/** The UTC dates of so many days up to a moment, the latest first. */
export const datesTo = (at: number, days: number): string[] =>
  Array.from({ length: days }, (_, ago) => dateOf(at - ago * DAY_MS))

/** The start of the UTC day after the one of a moment. */
export const nextDay = (at: number): number => (Math.floor(at / DAY_MS) + 1) * DAY_MS

/** Minutes since the epoch. */
export const minuteOf = (at: number): number => Math.floor(at / MINUTE_MS)

/** Requests of a row that have been admitted and have not ended. */
export const unsettled = (row: Row): number => row.requests - row.settled - row.partial - row.failed

/**
 * Where a user stands among all by last activity: minutes since the epoch, and below the minute a fraction from the
 * id, so that hardly two are alike and a page can go on exactly where the last one ended.
 */
export function activityOf(user: Pick<UserDoc, 'id' | 'seen'>): number {
  let hash = 0
  for (let at = 0; at < 4; at += 1) hash = hash * 64 + ((user.id.charCodeAt(at) || 0) % 64)
  return user.seen === undefined ? 0 : minuteOf(user.seen) + hash / 2 ** 24
}

/** Tokens of the user's day that are charged for good. */
export const settledTokens = (user: UserDoc): number =>
  Object.values(user.rows).reduce((sum, row) => sum + row.charged - row.held, 0)

/** The row of a model, or the one for models without a row. */
export const limitsOf = (limits: ModelLimits, model: string): Limits | undefined =>
  own(limits.models, model) ?? limits.default

/** A property of the record itself: names come from users, and `constructor` is a fine model name. */
export const own = <T>(record: Record<string, T>, key: string): T | undefined =>
  Object.hasOwn(record, key) ? record[key] : undefined
