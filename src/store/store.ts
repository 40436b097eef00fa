/** The store, in the words of metering. Every implementation passes the contract in test/store.test.ts. */
import type {
  Admit,
  Admitted,
  Clear,
  Done,
  DayDoc,
  Enter,
  Event,
  Refusal,
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
  /** Counts, once, what was served without a sure lease. */
  enter(command: Enter): Promise<Settled>
  /** Sets or lifts a block. */
  setBlock(command: SetBlock): Promise<Done>
  /** Forgets days and events; users, blocks and what quotas hold on to stay. */
  clear(command: Clear): Promise<Done>
  /** The most recently active users, or those with the most tokens today, at most `limit`. */
  listUsers(query: UserQuery): Promise<UserDoc[]>
  /** The days asked for that have anything to say. */
  days(dates: string[]): Promise<DayDoc[]>
  /** The newest events first, at most `limit`. */
  events(limit: number): Promise<Event[]>
  /** Writes, reads and deletes something of no meaning; rejects when that does not work. */
  probe(): Promise<void>
}

export type UserQuery = { sort: 'lastActive' | 'tokens'; limit: number; now: number }

/** How long things are kept. */
export type Retention = { userDays: number; historyDays: number; eventsKept: number }

/** The store did not do what it was asked: it is slow, gone or broken. Whether the command was applied is unknown. */
export class StoreError extends Error {
  override readonly name = 'StoreError'
}
