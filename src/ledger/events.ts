/** What is kept of single requests and actions: events, refusals and the audit trail. */
import type { Unit } from './units.ts'

/** How a request ended. A request that never settles is `lost`, and has no event. */
export type Outcome = 'exact' | 'estimated' | 'failed'

/** One request that has ended. On purpose it holds no address and no text. */
export type Event = {
  v: number
  id: string
  at: number
  user: string
  session?: string
  /** The key by which the user was known. */
  key?: string
  /** What the caller says that the request is for. */
  tag?: string
  route: string
  model: string
  outcome: Outcome
  /** The HTTP status the client got. */
  status: number
  /** The code of upstream's error, if it had one. */
  error?: string
  prompt?: number
  completion?: number
  total?: number
  cached?: number
  reasoning?: number
  mismatch?: true
  /** Tokens. */
  reserved: number
  /** Tokens. */
  charged: number
  /** What was reserved and charged, in digits of nano-USD; absent if the price of the model was not known. */
  reservedCost?: string
  cost?: string
  /** Ms of audio that were reserved and charged; absent if there were none. */
  reservedAudioMs?: number
  audioMs?: number
  /** The same of characters. */
  reservedCharacters?: number
  characters?: number
  ttfbMs?: number
  totalMs: number
  /** The request settled after it had been shown as lost. */
  late?: true
}

/** A request of a known user that was refused. At most one a minute is kept for each user and code. */
export type Refused = {
  v: number
  id: string
  at: number
  user: string
  /** The code of the error, such as `insufficient_quota`. */
  code: string
  model: string
  tag?: string
  /** The limit that refused it, and what the request asked for. */
  limit?: {
    of: string
    model: string
    unit: Unit
    window: string
    limit: number
    used: number
    asked: number
  }
}

/** How many requests were refused on a day, by `CODE MODEL`. */
export type RefusalCounts = Record<string, number>

export type AuditAction =
  | 'login'
  | 'failed login'
  | 'logout'
  | 'block'
  | 'unblock'
  | 'erase'
  | 'clear'
  | 'export'
  | 'user'
  | 'reset'
  | 'plan'
  | 'delete plan'
  | 'settings'
  | 'create key'
  | 'change key'
  | 'rotate key'
  | 'delete key'
  | 'make token'
  | 'test alert'

/**
 * An action of an admin. It holds only the first characters of a user's id, because the trail is kept after a user is
 * erased.
 */
export type Audit = {
  v: number
  at: number
  action: AuditAction
  user?: string
  model?: string
  /** What was changed: names of fields, of a plan, or of a key. */
  what?: string
  reason?: string
  until?: number
  /** Absent if several addresses failed to log in. */
  ip?: string
  /** The name of the admin. */
  by?: string
  /** How many logins failed within an hour, without another action between them; absent if it was one. */
  times?: number
}
