/** The answers of the ledger to its commands. */
import type { Standing, Of } from './policy.ts'
import type { Window } from './windows.ts'
import type { Unit } from './units.ts'
import type { Alert, Block, Key, ProfileDoc, SettingsDoc } from './documents.ts'
import type { Command } from './commands.ts'

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
   * limit. The reservation is computed with it. Absent if what the sender reserved is granted.
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
      /** The plan's maximum of completion tokens, if it has one. `asked` is computed with it. */
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
  /** Whether the user has a document, which a request writes. */
  known: boolean
  models: Record<string, Standing>
  total: Standing
  blocks: Record<string, Block>
  plan?: string
}

/** The key is not valid, or the token was revoked. */
export type CredentialRefusal = Extract<Refusal, { reason: 'key' | 'revoked' }>

/** The user has reported often enough in this minute, or the key or token is not valid. */
export type ReportRefusal = { ok: false; reason: 'syncs'; resetAt: number } | CredentialRefusal

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
