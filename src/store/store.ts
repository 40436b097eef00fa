/** The store, in the words of metering. Every implementation passes the contract in test/store.test.ts. */
import type {
  Admit,
  Admitted,
  Audit,
  Clear,
  Done,
  DayDoc,
  Enter,
  Erase,
  Event,
  Login,
  Logout,
  Note,
  Refusal,
  Report,
  Reported,
  SetBlock,
  Settle,
  Settled,
  UserDoc,
} from '../usage/record.ts'

export interface Store {
  /** Refuses a request or charges its bound, in one atomic step. */
  admit(command: Admit): Promise<Admitted | Refusal>
  /** Replaces a lease's bound by the real charge, in one atomic step; does nothing without the lease. */
  settle(command: Settle): Promise<Settled>
  /** Settles and enters, in one step, what could not be counted at its time; at most `REPLAY_BATCH` entries, an answer for each. */
  replay(entries: Entry[]): Promise<(Settled | Failed)[]>
  /** Sets or lifts a block. */
  setBlock(command: SetBlock): Promise<Done>
  /** Forgets days and events; users, blocks and what quotas hold on to stay. */
  clear(command: Clear): Promise<Done>
  /** A page of the users whose requests have ended, by last activity or by tokens today, at most `limit`. */
  listUsers(query: UserQuery): Promise<UserPage>
  /** Days, a page of users and the newest events, for as few calls as that takes. */
  overview(query: OverviewQuery): Promise<Overview>
  /** At most `limit` users with a block, those that last longest first; some may have run out since. */
  blockedUsers(limit: number): Promise<UserDoc[]>
  /** The days asked for that have anything to say. */
  days(dates: string[]): Promise<DayDoc[]>
  /** Takes one of the `perMinute` turns that a key has in each minute, if one is left. */
  takeTurn(key: string, perMinute: number): Promise<Turn>
  /** Takes note of what a user's browser says, and tells what is known of them. */
  report(command: Report): Promise<Reported>
  /** Forgets a user; what they were part of in the totals stays. */
  erase(command: Erase): Promise<Done>
  login(command: Login): Promise<Done>
  logout(command: Logout): Promise<Done>
  note(command: Note): Promise<Done>
  /** Whether a session is open. */
  session(hash: string, now: number): Promise<boolean>
  /** A user, if anything is kept of them. */
  user(id: string): Promise<UserDoc | undefined>
  /** What admins did, the newest first, at most `limit` of the last `AUDIT_KEPT`. */
  audit(limit: number): Promise<Audit[]>
  /** The newest events first, at most `limit`, after the newest `skip` of them. */
  events(limit: number, skip?: number): Promise<Event[]>
  /** Writes, reads and deletes something of no meaning; rejects when that does not work. */
  probe(): Promise<void>
}

/** What is kept until the store can take it. Each may be sent any number of times and counts once. */
export type Entry = Settle | Enter

/** The store could not run this command, though others of the same step. */
export type Failed = { error: true }

export const REPLAY_BATCH = 64

export const AUDIT_KEPT = 1000

/** `resetAt`, epoch ms, is when there are turns again. */
export type Turn = { taken: boolean; resetAt: number }

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

export type UserPage = { users: UserDoc[]; next?: Cursor }

/** `dates` as for `days`, `users` as for `listUsers`, and at most so many `events`. */
export type OverviewQuery = { dates: string[]; users: UserQuery; events: number }

export type Overview = { days: DayDoc[]; page: UserPage; events: Event[] }

/** How long things are kept. */
export type Retention = { userDays: number; historyDays: number; eventsKept: number }

/** The store did not do what it was asked: it is slow, gone or broken. Whether the command was applied is unknown. */
export class StoreError extends Error {
  override readonly name: string = 'StoreError'
}

/** The store is well and could not run this very command, which was not applied. */
export class CommandError extends StoreError {
  override readonly name = 'CommandError'
}
