/** What a rule can read, and what it changes. */
import type { Answer } from './answers.ts'
import type { Account, Keep } from './advance.ts'
import type { Audit, Event, RefusalCounts, Refused } from './events.ts'
import type {
  DayDoc,
  NewUsersDoc,
  OutboxDoc,
  PastDoc,
  PlanDoc,
  ProfileDoc,
  QuotaDoc,
  SettingsDoc,
  UsageDoc,
} from './documents.ts'

/** The result of a step; an absent document is unchanged. */
export type Step<A extends Answer = Answer> = {
  usage?: UsageDoc
  past?: PastDoc
  profile?: ProfileDoc
  /** A plan that was stored, or deleted if it has no document. */
  plan?: { name: string; doc?: PlanDoc }
  settings?: SettingsDoc
  /** By model, and `*` for all of them. */
  quotas?: Record<string, QuotaDoc>
  outbox?: OutboxDoc
  day?: DayDoc
  event?: Event
  /** An event id that must not be entered again. */
  entered?: string
  newUsers?: NewUsersDoc
  /** A refusal to keep, unless one of this user, code and minute is kept. */
  refused?: Refused
  /** Refusals to add to the counts of days. */
  refusals?: Record<string, RefusalCounts>
  /** The user is erased. Requests up to this moment are not entered. */
  erased?: { user: string; at: number }
  session?: { hash: string; until: number | undefined }
  audit?: Audit
  /** The audit entry takes the place of the newest one. */
  again?: true
  /** All days before this date and all events are deleted. */
  cleared?: string
  answer: A
}

/** The state that a command can read: lookups, no I/O. */
export type View = {
  usage(user: string): UsageDoc | undefined
  past(user: string): PastDoc | undefined
  profile(user: string): ProfileDoc | undefined
  plan(name: string): PlanDoc | undefined
  settings(): SettingsDoc | undefined
  /** Everyone's use of a model, or of all (`*`). */
  quota(scope: string): QuotaDoc | undefined
  day(date: string): DayDoc | undefined
  /** Whether an event with this id has been entered. */
  entered(id: string): boolean
  /** The new users of the latest minute with any. */
  newUsers(): NewUsersDoc | undefined
  /** The alerts; undefined without any. */
  outbox(): OutboxDoc | undefined
  /** The newest entry of the audit trail. */
  lastAudit(): Audit | undefined
  /** The moment up to which a user's requests were erased. */
  erasedAt(user: string): number | undefined
  /** The store's own time, in epoch ms. */
  time(): number
}

/** `tolerance`, in ms, is how far a command may be ahead of the ledger's clock before the store's own time is used. */
export type Terms = Keep & { tolerance: number }

/** The documents of a user that a step has changed. */
export const stepOf = ({ usage, past }: Account) => (past ? { usage, past } : { usage })
