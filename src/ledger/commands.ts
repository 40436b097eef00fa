/** What the ledger is told to do, and what it answers. */
import type { ModelLimits, Of, Rows, Standing } from './policy.ts'
import type { Amounts, Block, Event, Unit } from './shapes.ts'
import { DAY_MS, type Window } from './windows.ts'

/** A settle that comes later than this after its admission changes nothing: the request is lost. */
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

/** Ask to start a request that will cost at most `reserved` tokens. */
export type Admit = {
  op: 'admit'
  id: string
  user: string
  model: string
  reserved: number
  now: number
  /** Milliseconds after which the request will have been cut. */
  lasts: number
  ip?: string
  /** The limits of each user that the environment names, as far as they are of this model. */
  limits: Rows
  /** Those of everyone together. */
  everyone?: Rows
}

/** Say how an admitted request ended. Only `charged`, the outcome and what was observed are taken from the event. */
export type Settle = { op: 'settle'; now: number; user: string; event: Event }

/**
 * Count a request that was served without a sure lease: the store was away, or its answer to the admission was
 * lost. Once for each event id; if the lease is there after all, this settles it.
 */
export type Enter = { op: 'enter'; now: number; user: string; event: Event }

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
  models: Record<string, Amounts & { resetAt: number }>
  /** The limits of each user that the environment names. */
  limits: ModelLimits
}

/** Forget a user: what requests and admins wrote, and events. What they were part of in the totals stays. */
export type Erase = { op: 'erase'; now: number; user: string; ip?: string }

/** Open an admin's session, known by the hash of its id, or end it. */
export type Login = { op: 'login'; now: number; session: string; until: number; ip?: string }
export type Logout = { op: 'logout'; now: number; session: string; ip?: string }

/** Put something that an admin did on record. */
export type Note = { op: 'note'; now: number; action: 'export'; ip?: string }

/** Forget days and events. Users, blocks and what quotas hold on to stay. */
export type Clear = { op: 'clear'; now: number; ip?: string }

/** What one user does or has done to them. */
export type UserCommand = Admit | Settle | Enter | SetBlock | Report | Erase
export type Command = UserCommand | Clear | Login | Logout | Note

/**
 * `at` is the moment of admission by the ledger's clock. `limits` are those that hold for this request, first of the
 * user and then of everyone, with what was used of them, this request included; absent where there are none.
 */
export type Admitted = { ok: true; at: number; limits?: Standing[] }

export type Refusal =
  | { ok: false; reason: 'blocked'; model: string; why?: string; until?: number }
  | { ok: false; reason: 'models' }
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
      asked: number
      resetAt: number
    }

export type Settled = { applied: boolean }

/** What is known of a user who reported: where they stand with each model, and with all of them, and what is blocked. */
export type Reported = {
  ok: true
  at: number
  models: Record<string, Standing>
  total: Standing
  blocks: Record<string, Block>
}

export type Done = { ok: true }

type Answers = {
  admit: Admitted | Refusal
  settle: Settled
  enter: Settled
  block: Done
  report: Reported
  erase: Done
  login: Done
  logout: Done
  note: Done
  clear: Done
}

/** What a command is answered. */
export type AnswerOf<C extends Command> = Answers[C['op']]
export type Answer = AnswerOf<Command>
