/** The commands of the ledger, and their answers. */
import type { ModelLimits, Of, Rows, Standing } from './policy.ts'
import type { Price } from './money.ts'
import type {
  Alert,
  AlertFacts,
  Block,
  Boost,
  Key,
  PlanDoc,
  ProfileDoc,
  SettingsDoc,
  StoredRows,
} from './documents.ts'
import type { Counts, Unit } from './units.ts'
import type { Event, RefusalCounts } from './events.ts'
import { DAY_MS, type Window } from './windows.ts'

/** A settle that comes later than this after its admission changes nothing: the request is lost. */
export const LATE_SETTLE_MS = DAY_MS

/** The number of characters of a user's id in the audit trail. */
export const AUDIT_ID_CHARS = 6

/** An event is entered at most once, and only within this time after its request was served. */
export const ENTER_MS = 7 * DAY_MS

/**
 * A user may use this many different models a day. Clients choose the names, and must not make a document grow without
 * limit.
 */
export const MODELS_PER_USER = 64

/** The same of all models of which a user's weeks and months are counted. */
export const MODELS_COUNTED = 256

/** The new users of this many networks are counted in a minute. */
export const NETWORKS = 1000

/** A user may have this many requests running at once. */
export const RUNNING_PER_USER = 1000

/** Leases of a user that are past, and may still settle. Beyond this number the oldest are lost. */
export const PAST_LEASES = 256

/** A browser reports at most this often. The tracker does so at most once in a few seconds. */
export const SYNCS_PER_MINUTE = 20

/** The number of a user's sessions that are counted in a day; further ones are not counted. */
export const SESSIONS_PER_USER = 64

/**
 * The largest number of tokens that is accepted for one request.
 * No model comes near it, and sums of it stay exact in the JSON that Redis writes (14 digits).
 */
export const MAX_TOKENS = 1_000_000_000

/** So many different tags are counted in a day. The requests of further ones are counted together. */
export const TAGS_PER_DAY = 50
export const OTHER_TAG = 'other'
/** The longest audio of one request, in ms: an upload of a second a byte is shorter. */
export const MAX_AUDIO_MS = 100_000_000_000

/** A user may have this many keys. */
export const KEYS_PER_USER = 20

/** There may be this many plans. */
export const PLANS = 100

/**
 * A client that sent no maximum of completion tokens gets at least this many of each completion, or is refused: a shorter
 * answer is of little use.
 */
export const FIT_MIN_TOKENS = 256

/** Ask to start a request that will use at most `reserved` tokens. */
export type Admit = {
  op: 'admit'
  id: string
  user: string
  model: string
  reserved: number
  /** The part of `reserved` that is completion tokens. */
  completion: number
  /** The ms of audio, or the characters to be spoken; absent if there are none. */
  audioMs?: number
  characters?: number
  /** The price of the model; absent if it is not known. */
  price?: Price
  now: number
  /** Milliseconds after which the request will have been cut. */
  lasts: number
  ip?: string
  /** The limits that the environment sets for each user, for this model and for all models. */
  limits: Rows
  /** The limits of everyone together. */
  everyone?: Rows
  /** The maximum of completion tokens that the client sent; absent if it sent none. */
  maximum?: number
  /**
   * Where the client sent no maximum: how many completions it asks for, and how many tokens of each are reserved. The
   * ledger may grant fewer.
   */
  completions?: { count: number; tokens: number }
  /**
   * The caller may have made up the token. All of these together get this part of everyone's limits, in percent.
   */
  unverified?: number
  /** The key by which the user is known. */
  key?: { id: string; hash: string }
  /** What the user's signed token says. `issuedAt` is 0 if it does not say when. */
  claims?: { issuedAt: number; plan?: string; label?: string; words?: Record<string, 1> }
  /** Refusals that the sender has counted since its last call, by date. */
  refusals?: Record<string, RefusalCounts>
  /** Alerts are sent: the ledger keeps what they need. */
  watch?: 1
  /** What bounds new users: at most `perMinute` of a network, which is named by a hash. */
  newUsers?: { network: string; perMinute: number }
}

/**
 * Say how an admitted request ended. Time, user, model and reservation come from the lease. The event's `at` is the
 * time that the admission told: if the user's document is gone or older, the lease was lost with it, and the event is
 * entered.
 */
export type Settle = {
  op: 'settle'
  now: number
  user: string
  event: Event
  /** The admission was one of a caller who is not verified: tells the store what the step reads. */
  unverified?: 1
  watch?: Watch
}

/** Alerts are sent: the limits that held for the request, and what its answer told of the provider. */
export type Watch = {
  user?: Rows
  everyone?: Rows
  /** The provider refuses since its own limit of spending is reached. */
  spendBlocked?: 1
}

/**
 * Count a request that was served although its lease is not certain: the store was unreachable, or its answer to the
 * admission was lost. Each event id is counted once. If the lease exists, this settles it.
 */
export type Enter = {
  op: 'enter'
  now: number
  user: string
  event: Event
  /**
   * The request was refused after all. It is not counted, but an admission of it that comes late gets no lease. If there
   * is a lease, the request ends as the event says.
   */
  refused?: true
  watch?: Watch
}

/** Block a user from a model (or `*`). Without `block`, lift the block. */
export type SetBlock = {
  op: 'block'
  now: number
  user: string
  model: string
  block?: Block | undefined
  /** The id of the alert of it; absent where no alerts are sent. */
  alert?: string
  ip?: string
  by?: string
}

/** Record what a browser reports that it used: amounts of the day that ends at `resetAt`. */
export type Report = {
  op: 'report'
  now: number
  user: string
  models: Record<string, Counts & { resetAt: number }>
  /** The limits that the environment sets for each user. */
  limits: ModelLimits
  /** As for an admission. */
  key?: Admit['key']
  claims?: Admit['claims']
}

/** Change what is known of a user. A field of `clear` is removed. */
export type SetProfile = {
  op: 'profile'
  now: number
  user: string
  set: ProfileFields
  clear?: Partial<Record<keyof ProfileFields, 1>>
  ip?: string
  by?: string
}

export type ProfileFields = {
  label?: string
  /** The words of the label, set and removed with it. */
  words?: Record<string, 1>
  note?: string
  plan?: string
  limits?: StoredRows
  boost?: Boost
  models?: Record<string, 1>
  notBefore?: number
}

/** Store a plan. Without `plan`, delete it. */
export type SetPlan = {
  op: 'plan'
  now: number
  name: string
  plan?: Omit<PlanDoc, 'v'>
  ip?: string
  by?: string
}

/** Change the settings. A field of `clear` is removed. */
export type SetSettings = {
  op: 'settings'
  now: number
  set: SettingsFields
  clear?: Partial<Record<keyof SettingsFields, 1>>
  ip?: string
  by?: string
}

export type SettingsFields = Pick<SettingsDoc, 'globalLimits' | 'defaultPlan'>

/** Create, change, rotate or delete one of a user's keys. */
export type SetKey = {
  op: 'key'
  now: number
  user: string
  id: string
  ip?: string
  by?: string
} & (
  | { action: 'create'; key: Key }
  | { action: 'change'; set: KeyFields; clear?: Partial<Record<keyof KeyFields, 1>> }
  /** The secret before stays valid until `graceUntil`. */
  | { action: 'rotate'; secret: Pick<Key, 'hash' | 'start' | 'last4'>; graceUntil: number }
  | { action: 'delete' }
)

export type KeyFields = Partial<Pick<Key, 'name' | 'expires' | 'disabled' | 'models'>>

/** Set a user's counters of one window, or of all, to the reservations of the requests that have not ended. */
export type Reset = {
  op: 'reset'
  now: number
  user: string
  window?: Window
  ip?: string
  by?: string
}

/**
 * Delete a user: the documents that requests and admins wrote, and the user's events. The totals of days stay as they
 * are.
 */
export type Erase = { op: 'erase'; now: number; user: string; ip?: string; by?: string }

/** Open an admin's session, known by the hash of its id, or end it. */
export type Login = {
  op: 'login'
  now: number
  session: string
  until: number
  ip?: string
  by?: string
}
export type Logout = { op: 'logout'; now: number; session: string; ip?: string; by?: string }

/** Record an admin's action, or an attempt to log in with a wrong key, in the audit trail. */
export type Note = {
  op: 'note'
  now: number
  action: 'export' | 'failed login' | 'make token'
  /** The user that the action was about. */
  about?: string
  ip?: string
  by?: string
}

/** Add an alert to the outbox. An id that is there stays as it is. */
export type Raise = {
  op: 'raise'
  now: number
  alert: AlertFacts & Pick<Alert, 'id' | 'type'> & Partial<Pick<Alert, 'state' | 'status'>>
  ip?: string
  by?: string
}

/** Take alerts that are due, to deliver them: for a minute nobody else gets them. `to` is a hash of the receiver's address. */
export type Take = { op: 'take'; now: number; to: string }

/** Say how deliveries went, by the ids of the alerts. */
export type Tried = { op: 'tried'; now: number; to: string; results: Record<string, Delivery> }

/** `due` is when the next attempt is, of an alert that is still pending. */
export type Delivery = Required<Pick<Alert, 'state' | 'status'>> & Pick<Alert, 'due'>

/** Delete days and events. Users, blocks and the counters of quotas stay. */
export type Clear = { op: 'clear'; now: number; ip?: string; by?: string }

/** The commands about one user. */
export type UserCommand =
  Admit | Settle | Enter | SetBlock | Report | Erase | SetProfile | SetKey | Reset
export type Command =
  UserCommand | SetPlan | SetSettings | Clear | Login | Logout | Note | Raise | Take | Tried

/**
 * `at` is the moment of admission by the ledger's clock. `limits` are the limits that hold for this request, first the
 * user's and then everyone's, each with its use, this request included. It is absent if there are none.
 */
export type Admitted = {
  ok: true
  at: number
  limits?: Standing[]
  /** The user's plan, if it is one that is stored. */
  plan?: string
  /** A plan that the user should have, and that is not stored. */
  unknownPlan?: string
  /**
   * The maximum of completion tokens that the sender must write into the body: that of the plan, or what is left of a
   * limit. The reservation is of it. Absent where what the sender reserved is granted.
   */
  maximum?: number
}

/** `counted`: the ledger has counted the refusal, since the user is known. */
export type Refusal = { counted?: true } & (
  | { ok: false; reason: 'blocked'; model: string; why?: string; until?: number }
  /** `unknown`: not one of the user's keys, or not its secret any more. */
  | { ok: false; reason: 'key'; why: 'unknown' | 'disabled' | 'expired' }
  /** The token was issued before the moment from which the user's tokens are valid. */
  | { ok: false; reason: 'revoked' }
  /** The plan, the user or the key does not include the model. */
  | { ok: false; reason: 'model' }
  /** The price of the model is not known, and a limit is in dollars. */
  | { ok: false; reason: 'unpriced' }
  /** The client asks for more completion tokens than the plan allows. */
  | { ok: false; reason: 'maximum'; limit: number }
  /** The user has used too many models in this window. */
  | { ok: false; reason: 'models'; window: 'day' | 'month' }
  | { ok: false; reason: 'running'; limit: number }
  | { ok: false; reason: 'newUsers'; perMinute: number; resetAt: number }
  | {
      ok: false
      reason: 'limit'
      of: Of
      /** The model of the limit, `*` for all together. */
      model: string
      window: Window
      unit: Unit
      limit: number
      used: number
      /** What the request would have reserved, or the smallest reservation with which it could be granted. */
      asked: number
      resetAt: number
      /** The plan's maximum of completion tokens, if it has one: what `asked` was computed with. */
      maximum?: number
    }
)

/** `alerts`: some are due, and the instance that gets this answer delivers them. */
export type Settled = { applied: boolean; alerts?: 1 }

/** `due` is when the next alert is due, if one waits. */
export type Taken = { ok: true; alerts: Record<string, Alert>; due?: number }

/** The answer to a user who reported: limits and use for each model and for all models, and the blocks in force. */
export type Reported = {
  ok: true
  at: number
  /** Whether there is a document of the user's requests. */
  known: boolean
  models: Record<string, Standing>
  total: Standing
  blocks: Record<string, Block>
  plan?: string
}

/** The user has reported often enough in this minute, or the key or token is not valid. */
export type ReportRefusal =
  { ok: false; reason: 'syncs'; resetAt: number } | Extract<Refusal, { reason: 'key' | 'revoked' }>

export type Done = { ok: true }

/** The key after the change. */
export type KeyDone = { ok: true; key: Key }
export type KeyRefusal = { ok: false; reason: 'unknown' | 'keys' | 'exists' }

export type PlanRefusal = { ok: false; reason: 'unknown' | 'plans' }

export type ProfileDone = { ok: true; profile: ProfileDoc }

type Answers = {
  admit: Admitted | Refusal
  settle: Settled
  enter: Settled
  block: Done
  report: Reported | ReportRefusal
  erase: Done
  profile: ProfileDone
  plan: Done | PlanRefusal
  settings: { ok: true; settings: SettingsDoc }
  key: KeyDone | KeyRefusal
  reset: Done
  login: Done
  logout: Done
  note: Done
  clear: Done
  raise: Done
  take: Taken
  tried: Done & Pick<Taken, 'due'>
}

export type AnswerOf<C extends Command> = Answers[C['op']]
export type Answer = AnswerOf<Command>
