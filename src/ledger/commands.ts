/** The commands of the ledger. `answers.ts` has their answers. */
import type { Price } from './money.ts'
import type { Rows, ModelLimits } from './policy.ts'
import type { RefusalCounts, Event } from './events.ts'
import type {
  Block,
  StoredRows,
  Boost,
  PlanDoc,
  SettingsDoc,
  Key,
  AlertFacts,
  Alert,
} from './documents.ts'
import type { Counts } from './units.ts'
import type { Window } from './windows.ts'

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
  /** Milliseconds after which the request has ended, because it is cut then. */
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
  /** Alerts are sent, so the ledger keeps what they need. */
  watch?: 1
  /** The tag that the caller gave the request. Only a refusal keeps it: the end of a request brings its own. */
  tag?: string
  /** The limit for new users: at most `perMinute` of a network, which is named by a hash. */
  newUsers?: { network: string; perMinute: number }
}

/**
 * Say how an admitted request ended. Time, user, model and reservation come from the lease. The event's `at` is the
 * time in the answer to the admission: if the user's document is gone, or is not from that time, the lease was lost
 * with it, and the event is entered.
 */
export type Settle = {
  op: 'settle'
  now: number
  user: string
  event: Event
  /** The caller is unverified. So the store knows which counters the step reads. */
  unverified?: 1
  watch?: Watch
}

/** Alerts are sent: the limits that held for the request, and what its answer told of the provider. */
export type Watch = {
  user?: Rows
  everyone?: Rows
  /** The provider refuses calls, because its own spending limit is reached. */
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
   * The request was refused after all. It is not counted, but a late admission of it gets no lease. If there is a lease
   * already, the request ends as the event says.
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
  /** The id of its alert; absent if no alerts are sent. */
  alert?: string
  ip?: string
  by?: string
}

/** Record the use that a browser reports: amounts of the day that ends at `resetAt`. */
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

/** Change a user's profile. The fields of `clear` are removed. */
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

/** Change the settings. The fields of `clear` are removed. */
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
  /** The previous secret stays valid until `graceUntil`. */
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

/** Open or end an admin's session, which is named by the hash of its id. */
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
  alert: AlertFacts &
    Pick<Alert, 'id' | 'type'> &
    Partial<Pick<Alert, 'state' | 'status' | 'attempts'>>
  ip?: string
  by?: string
}

/** Take alerts that are due, to deliver them: for a minute nobody else gets them. `to` is a hash of the receiver's address. */
export type Take = { op: 'take'; now: number; to: string }

/** Say how deliveries of alerts went, by the ids of the alerts. */
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
