/**
 * Every document that is stored, as a type. `shapes.ts` has the same as data.
 *
 * Documents hold neither `null` nor arrays, because Lua reads `null` as an object and writes `[]` as `{}`; a list is
 * `{name: 1}`. Times are epoch ms, dates are UTC `YYYY-MM-DD`, amounts are whole requests, tokens, nano-USD, ms of audio and
 * characters.
 */
import type { Amounts, Counts } from './units.ts'

/** In a row of limits: no limit. */
export const UNLIMITED = -1

/** Stands for "all models" in blocks, in limits and in counters. */
export const ALL_MODELS = '*'

/** The use since the start of each window, of one model or of all. A window that has ended does not count. */
export type Windows = Record<string, { start: number } & Amounts>

/**
 * One user's day with one model. `requests` counts admissions, so the running requests are `requests` minus the exact,
 * estimated, failed and lost ones.
 */
export type Row = {
  requests: number
  exact: number
  estimated: number
  failed: number
  /** Admitted, and not ended within a day. */
  lost: number
  /** Tokens charged: the charges of ended requests, and the reservations of running and lost ones. */
  charged: number
  /** The part of `charged` that is reservations of running requests. */
  reserved: number
  /** The part of `charged` that is reservations of lost requests. */
  lostTokens: number
  prompt: number
  /** The part of `prompt` that upstream had in its cache. */
  cached: number
  completion: number
  /** Tokens that upstream reported beyond the reservations. */
  overReservation: number
  /** What `charged` costs, as far as prices were known. */
  cost: number
  /** The part of `cost` that is reservations of running requests. */
  reservedCost: number
  /** The part of `cost` that is reservations of lost requests. */
  lostCost: number
  /** Ms of audio, as `charged`, `reserved` and `lostTokens` are of tokens. */
  audioMs: number
  reservedAudioMs: number
  lostAudioMs: number
  /** The same of characters that are spoken. */
  characters: number
  reservedCharacters: number
  lostCharacters: number
}

/** A row as it is stored, without the fields that are zero. */
export type ThinRow = Partial<Row>

/** A user's use of one model: today's row, empty if there was no request today, and the windows. */
export type ModelUse = { row: ThinRow; windows: Windows }

/** The permission to charge once. */
export type Lease = {
  model: string
  /** When it was admitted, by the ledger's clock. */
  at: number
  /** The request may be running until then. Afterwards it is shown as lost, unless it settles late. */
  until: number
  reserved: Amounts
  /** The windows that hold the reservation. */
  windows: Record<string, 1>
  /** The maximum of completion tokens that the sender must write into the body, if the admission gave one. */
  maximum?: number
  /** The caller is unverified. */
  unverified?: 1
  /** Its reservation is in `held` of everyone's counters. */
  watched?: 1
}

/**
 * The alerts that were sent about limits. The key is the model (`*` for all), the unit and the window of a limit, with
 * spaces between. `start` is when that window began, `level` the percentage, and `limit` the amount.
 */
export type AlertClaims = Record<string, { start: number; level: number; limit: number }>

/** What requests write about one user. */
export type UsageDoc = {
  v: number
  id: string
  ip?: string
  /** When this document began: at its first request, or at the first after its loss. */
  since: number
  /** The user's clock. It never goes backwards, and so the user's windows do not either. */
  at: number
  /** When a request of the user last began or ended. */
  seen?: number
  /** What the indexes hold: the time of the last change, and the tokens of that day. */
  indexed: { at: number; tokens: number }
  /** The day of the rows in `models`, of `charged`, `answered`, `sessions` and `reported`. */
  date: string
  /** Tokens: the sum of `charged` of today's rows. */
  charged: number
  /** Today's answered requests. */
  answered: number
  /** Sessions with an answered request today. */
  sessions: Record<string, 1>
  /** Of all models together. */
  windows: Windows
  /** When the last window ends for which the user has a limit, if that is later than its day. */
  limitedUntil?: number
  models: Record<string, ModelUse>
  leases: Record<string, Lease>
  /** The minute of the browser's last report, counted since the epoch, and the number of reports in it. */
  syncMinute?: number
  syncs?: number
  /** What the user's browser reports as today's use, per model. It is shown beside the metered use, and is no proof. */
  reported: Record<string, Counts>
  /** From the user's last signed token. */
  label?: string
  words?: Record<string, 1>
  plan?: string
  /** When each key was last used. */
  keysUsed?: Record<string, number>
  /** What ended requests of each key were charged in the month that began at `start`. */
  keysCharged?: Windows
  /** Alerts that were sent about the user's limits. */
  alerted?: AlertClaims
  /** The ends of keys about which an alert was sent. */
  keysExpiring?: Record<string, number>
}

/** A user's days before the current one. */
export type PastDoc = { v: number; id: string; days: Record<string, Record<string, ThinRow>> }

/** Amounts by the name of a limit; `UNLIMITED` is no limit. */
export type StoredLimits = Record<string, number>

/** Rows of limits by model, `*` for models without a row, and `total` for all models together. */
export type StoredRows = Record<string, StoredLimits>

/** An issued key. Its secret is not here, only the SHA-256 of it. */
export type Key = {
  hash: string
  /** The first and the last characters of the key, for people. */
  start: string
  last4: string
  name?: string
  created: number
  expires?: number
  disabled?: 1
  /** The models that it may call; absent for all. */
  models?: Record<string, 1>
  /** The secret from before the last rotation, and until when it is valid. */
  previous?: { hash: string; until: number }
}

export type Block = { at: number; reason?: string | undefined; until?: number | undefined }

/** What admins write about one user. */
export type ProfileDoc = {
  v: number
  id: string
  /** By model, or `*` for all of them. */
  blocks: Record<string, Block>
  label?: string
  /** The words of the label. */
  words?: Record<string, 1>
  note?: string
  plan?: string
  /** The user's own limits. They take the place of those of the plan. */
  limits: StoredRows
  /** What is added to limits for a time. */
  boost?: Boost
  /** The models that the user may call; absent for all. */
  models?: Record<string, 1>
  keys: Record<string, Key>
  /** Signed tokens that were issued before this moment are refused. */
  notBefore?: number
}

export type Boost = { limits: StoredRows; until: number }

/** A named set of limits. */
export type PlanDoc = {
  v: number
  limits: StoredRows
  /** The models that its users may call; absent for all. */
  models?: Record<string, 1>
  /** The most completion tokens of one request. */
  maxCompletionTokens?: number
  /** The most requests that a user may have running. */
  concurrentRequests?: number
}

/** What admins set for everyone. */
export type SettingsDoc = {
  v: number
  /** The limits of everyone together; absent where those of the environment hold. */
  globalLimits?: StoredRows
  /** The plan of users without a plan; absent for `default`. */
  defaultPlan?: string
  /** The names of all plans that are stored. */
  plans: Record<string, 1>
}

/** Everyone's use of one model, or of all. In the document of all models, `at` is the clock of the ledger. */
export type QuotaDoc = {
  v: number
  at: number
  windows: Windows
  /** The reservations of today's requests that have not ended. Kept only if alerts are sent. */
  held?: { start: number } & Amounts
  /** When the next alert is due. This and the fields below are only in the document of all models. */
  alertsDue?: number
  /** Alerts that were sent about the limits of everyone. */
  alerted?: AlertClaims
  /** For types of alerts that are sent at most once in a while: when each was last sent. */
  told?: Record<string, number>
  /** The calls of the provider in the five minutes since `start`, and how many of them failed. */
  calls?: { start: number; count: number; failures: number }
}

export const ALERT_TYPES = [
  'limit.threshold',
  'user.blocked',
  'key.expiring',
  'upstream.errors',
  'upstream.spend_blocked',
  'store.degraded',
  'store.recovered',
  'test',
] as const
type AlertType = (typeof ALERT_TYPES)[number]

/** What an alert tells, by its type. Amounts are those of the unit. */
export type AlertFacts = {
  /** Whose limit. */
  of?: string
  user?: string
  label?: string
  model?: string
  unit?: string
  window?: string
  percent?: number
  limit?: number
  used?: number
  resetAt?: number
  key?: string
  until?: number
  /** The name of an admin. */
  by?: string
  calls?: number
  failures?: number
  /** `ON_STORE_DOWN`. */
  mode?: string
  downMs?: number
}

/** An alert, and how far its delivery is. */
export type Alert = AlertFacts & {
  id: string
  type: AlertType
  at: number
  state: 'pending' | 'delivered' | 'failed'
  attempts: number
  /** When the next attempt is due. */
  due?: number
  /** What the receiver answered last; 0 if it gave no answer. */
  status?: number
  triedAt?: number
}

/** The latest alerts by id. */
export type OutboxDoc = {
  v: number
  alerts: Record<string, Alert>
  /** The receiver that answered 410, by a hash of its address. It gets no more alerts. */
  gone?: string
}

/** How many new users each network has had in a minute, counted since the epoch. Networks are named by hashes. */
export type NewUsersDoc = { v: number; minute: number; networks: Record<string, number> }

/** A day of everyone together, with one model or with all. It counts ended requests only. */
export type DayRow = {
  requests: number
  exact: number
  estimated: number
  failed: number
  charged: number
  prompt: number
  cached: number
  completion: number
  overReservation: number
  cost: number
  /** Ms of audio and characters; absent if there were none. */
  audioMs?: number
  characters?: number
  /** Users with at least one answered request. */
  users: number
  /** Tokens by UTC hour, "0" to "23". */
  hours: Record<string, number>
  /** When it last changed. */
  at: number
}

/** A day of everyone together with one tag, which callers give their requests: what a feature costs. */
export type TagRow = { requests: number; charged: number; cost: number }

/** One day of everyone together. */
export type DayDoc = {
  v: number
  date: string
  total: DayRow
  /** Sessions with at least one answered request. */
  sessions: number
  models: Record<string, DayRow>
  /** Answered requests that `clear` removed from the day. The quotas still count them. */
  forgotten: number
  /** By tag; tags beyond `TAGS_PER_DAY` count as `OTHER_TAG`. Absent if there are none. */
  tags?: Record<string, TagRow>
}
