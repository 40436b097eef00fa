/** The interface of the store. Every implementation passes the contract tests in test/store/. */
import type { Command, Enter, Settle } from '../ledger/commands.ts'
import type { AnswerOf, Settled } from '../ledger/answers.ts'
import type { Policy } from '../ledger/plans.ts'
import type { Alert, DayDoc, PastDoc, ProfileDoc, QuotaDoc, UsageDoc } from '../ledger/documents.ts'
import type { Audit, Event, RefusalCounts, Refused } from '../ledger/events.ts'

export interface Store {
  /** Runs a command in one atomic step. */
  execute<C extends Command>(command: C): Promise<AnswerOf<C>>
  /**
   * Settles and enters, in one step, usage that could not be counted earlier. At most `REPLAY_BATCH` entries; one
   * answer for each.
   */
  replay(entries: Entry[]): Promise<(Settled | Failed)[]>
  /** Takes one of the `perMinute` turns of a key in this minute, if one is left. */
  takeTurn(key: string, perMinute: number): Promise<Turn>
  /** A page of at most `limit` users, by last activity or by tokens today. The order is at most ten minutes old. */
  listUsers(query: UserQuery): Promise<UserPage>
  /** The plans and the settings that admins have stored. */
  policy(): Promise<Policy>
  /** Days, a page of users, the newest events, everyone's counters and the policy, in as few calls as possible. */
  overview(query: OverviewQuery): Promise<Overview>
  /** At most `limit` users with a word in their label that begins with a text, which is in lower case. */
  searchLabels(prefix: string, limit: number): Promise<User[]>
  /** At most `limit` ids that begin with a text, of the `IDS_LOOKED_AT` users who were active last. */
  searchIds(prefix: string, limit: number): Promise<string[]>
  /** A page of at most `limit` profiles that have more than blocks, in the order of ids, after the id `from`. */
  listProfiles(limit: number, from?: string): Promise<ProfilePage>
  /** At most `limit` users with a block, the longest-lasting first. Some blocks may have expired. */
  blockedUsers(limit: number): Promise<ProfileDoc[]>
  /** The requested days, without days that have no data. */
  days(dates: string[]): Promise<DayDoc[]>
  /** Whether a session is open. */
  session(hash: string, now: number): Promise<boolean>
  /** A user, or undefined if nothing is stored about them. */
  user(id: string): Promise<WholeUser | undefined>
  /** These users, without those about whom nothing is stored. */
  users(ids: string[]): Promise<User[]>
  /** The past days of users; users without past days are left out. */
  pasts(ids: string[]): Promise<PastDoc[]>
  /** Actions of admins, the newest first: at most `limit` of the last `AUDIT_KEPT`. */
  audit(limit: number): Promise<Audit[]>
  /** The latest alerts, the newest first. */
  alerts(): Promise<Alert[]>
  /** The latest refusals of users, at most `limit`, the newest first, and how many requests were refused on some days. */
  refusals(dates: string[], limit: number): Promise<Refusals>
  /** At most `limit` events, the newest first. */
  events(limit: number): Promise<Event[]>
  /**
   * A page of at most `limit` events, the newest first. While new ones arrive, pages in a row repeat none and leave
   * none out. A page may have fewer events although there is a next one.
   */
  eventPage(limit: number, from?: EventCursor): Promise<EventPage>
  /**
   * Tries what requests need, with test values. Rejects if that fails; with `RefusedError` if the store answers, but
   * refuses.
   */
  probe(): Promise<Probe>
}

/** `days` has the counts of each date by `CODE MODEL`; a date without refusals may be missing. */
export type Refusals = { latest: Refused[]; days: Record<string, RefusalCounts> }

/** What a probe found. `evicts` is the database's policy by which it may remove any key. */
export type Probe = { evicts?: string }

/** A queued command. It counts once, however often it is sent. */
export type Entry = Settle | Enter

/**
 * The store could not run this command, but could run others of the same step. `newer`: a newer version of Weir wrote
 * a document that the command touches. `failed`: the command does not fit the stored documents.
 */
export type Failed = { error: 'newer' | 'failed' }

export const REPLAY_BATCH = 64

export const AUDIT_KEPT = 1000

/** How many users, by last activity, a search for the beginning of an id looks at. */
export const IDS_LOOKED_AT = 5000

/** About how many refusals of users are kept. */
export const REFUSED_KEPT = 1000

/** `resetAt`, epoch ms, is when turns are available again. */
type Turn = { taken: boolean; resetAt: number }

/** A user's documents, without the past days. */
export type User = { usage: UsageDoc; profile: ProfileDoc }
export type WholeUser = User & { past: PastDoc }

/** Newest first, or most tokens first, unless `ascending`. `from` is the cursor of the previous page. */
export type UserQuery = {
  sort: 'lastActive' | 'tokens'
  ascending?: boolean
  from?: Cursor | undefined
  limit: number
  now: number
}

/**
 * Where a page ended. By activity, a user may appear twice if requests arrive between pages; in ascending order no
 * user is missing. By tokens, where many users are equal, it is a count of users, and the order may change between
 * pages.
 */
export type Cursor = { score: number; id: string } | { offset: number }

/** Where a page of events ended: a position in the list, and the entries of that page, by which it is found again. */
export type EventCursor = { skip: number; known: string[] }

export type EventPage = { events: Event[]; next?: EventCursor }

/** `next` is the id after which the next page begins. */
export type ProfilePage = { profiles: ProfileDoc[]; next?: string }

export type UserPage = { users: User[]; next?: Cursor }

/** `dates` as for `days`, `users` as for `listUsers`; `events` is the largest number of events. */
type OverviewQuery = { dates: string[]; users: UserQuery; events: number }

/** `quotas` are everyone's counters by model, for the models of the current day, with `*` for all models together. */
export type Overview = {
  days: DayDoc[]
  page: UserPage
  events: Event[]
  quotas: Record<string, QuotaDoc>
  policy: Policy
}

/** The store is slow, unavailable or broken. It is unknown whether the command was applied. */
export class StoreError extends Error {
  override readonly name: string = 'StoreError'
  /** What the database or the connection said: a code, or the code and text of a refusal. It contains no values. */
  readonly reason: string | undefined

  constructor(message: string, { reason, ...options }: ErrorOptions & { reason?: string } = {}) {
    super(message, options)
    this.reason = reason
  }
}

/** The database answers, but refuses what Weir needs. */
export class RefusedError extends StoreError {
  override readonly name = 'RefusedError'

  constructor(reason: string) {
    super(`the database refuses what Weir needs: ${reason}`, { reason })
  }
}

/** The store works but could not run this command. The command was not applied. */
export class CommandError extends StoreError {
  override readonly name: string = 'CommandError'
}

/**
 * The command touches a document that a newer version of Weir wrote. It was not applied; the newer version can apply
 * it.
 */
export class NewerError extends CommandError {
  override readonly name = 'NewerError'
}

/** The answer to a command. Throws `CommandError` if the store reported a failure. */
export function answerOf<A extends object>(answer: A | Failed | undefined): A {
  if (!answer) throw new CommandError('the store could not run the command')
  if (!('error' in answer)) return answer
  throw answer.error === 'newer'
    ? new NewerError(
        'a newer version of Weir has written the data that the command would change; update this instance',
      )
    : new CommandError('the store could not run the command')
}
