/** The store, in the words of metering. Every implementation passes the contract in test/store-*.test.ts. */
import type { AnswerOf, Command, Enter, Settle, Settled } from '../ledger/commands.ts'
import type {
  Audit,
  DayDoc,
  Event,
  PastDoc,
  ProfileDoc,
  QuotaDoc,
  UsageDoc,
} from '../ledger/shapes.ts'

export interface Store {
  /** Carries out a command in one atomic step. */
  execute<C extends Command>(command: C): Promise<AnswerOf<C>>
  /** Settles and enters, in one step, what could not be counted at its time; at most `REPLAY_BATCH` entries, an answer for each. */
  replay(entries: Entry[]): Promise<(Settled | Failed)[]>
  /** Takes one of the `perMinute` turns that a key has in each minute, if one is left. */
  takeTurn(key: string, perMinute: number): Promise<Turn>
  /** A page of the users, by last activity or by tokens today, at most `limit`; their places are at most ten minutes old. */
  listUsers(query: UserQuery): Promise<UserPage>
  /** Days, a page of users, the newest events and everyone's counters, for as few calls as that takes. */
  overview(query: OverviewQuery): Promise<Overview>
  /** At most `limit` users with a block, those that last longest first; some may have run out since. */
  blockedUsers(limit: number): Promise<ProfileDoc[]>
  /** The days asked for that have anything to say. */
  days(dates: string[]): Promise<DayDoc[]>
  /** Whether a session is open. */
  session(hash: string, now: number): Promise<boolean>
  /** A user, if anything is kept of them. */
  user(id: string): Promise<WholeUser | undefined>
  /** What admins did, the newest first, at most `limit` of the last `AUDIT_KEPT`. */
  audit(limit: number): Promise<Audit[]>
  /** The newest events first, at most `limit`, after the newest `skip` of them. */
  events(limit: number, skip?: number): Promise<Event[]>
  /** Writes, reads and deletes something of no meaning; rejects when that does not work. */
  probe(): Promise<void>
}

/** What is kept until the store can take it. Each may be sent any number of times and counts once. */
export type Entry = Settle | Enter

/**
 * The store could not run this command, though others of the same step: it touches a document that a newer version of
 * Weir wrote, or does not go together with what is there.
 */
export type Failed = { error: 'newer' | 'failed' }

export const REPLAY_BATCH = 64

export const AUDIT_KEPT = 1000

/** `resetAt`, epoch ms, is when there are turns again. */
export type Turn = { taken: boolean; resetAt: number }

/** What is kept of a user but their past. */
export type User = { usage: UsageDoc; profile: ProfileDoc }
export type WholeUser = User & { past: PastDoc }

/** Newest first or the most tokens first, unless ascending; `from` is where the page before said it ended. */
export type UserQuery = {
  sort: 'lastActive' | 'tokens'
  ascending?: boolean
  from?: Cursor | undefined
  limit: number
  now: number
}

/**
 * Where a page ended. By activity a user may come twice when pages are read while requests go on, and none is left
 * out of an ascending order; by tokens, where many are alike, it is a count of users and the order may shift under it.
 */
export type Cursor = { score: number; id: string } | { offset: number }

export type UserPage = { users: User[]; next?: Cursor }

/** `dates` as for `days`, `users` as for `listUsers`, and at most so many `events`. */
export type OverviewQuery = { dates: string[]; users: UserQuery; events: number }

/** `quotas` are everyone's counters by model, of the models of the day that is going on, and `*` for all of them. */
export type Overview = {
  days: DayDoc[]
  page: UserPage
  events: Event[]
  quotas: Record<string, QuotaDoc>
}

/** How long things are kept. */
export type Retention = { userDays: number; historyDays: number; eventsKept: number }

/** The store did not do what it was asked: it is slow, gone or broken. Whether the command was applied is unknown. */
export class StoreError extends Error {
  override readonly name: string = 'StoreError'
}

/** The store is well and could not run this very command, which was not applied. */
export class CommandError extends StoreError {
  override readonly name: string = 'CommandError'
}

/** The command touches a document that a newer version of Weir wrote. It was not applied, and the newer version can. */
export class NewerError extends CommandError {
  override readonly name = 'NewerError'
}

/** The answer to a command, or what it stands for. Throws `CommandError`. */
export function answerOf<A extends object>(answer: A | Failed | undefined): A {
  if (!answer) throw new CommandError('the store could not run the command')
  if (!('error' in answer)) return answer
  throw answer.error === 'newer'
    ? new NewerError(
        'a newer version of Weir has written what the command would change; update this one',
      )
    : new CommandError('the store could not run the command')
}
