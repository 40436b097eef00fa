/** The documents as they begin, and brought to a moment. */
import {
  DAY_MS,
  LATE_SETTLE_MS,
  dateOf,
  minuteOf,
  unsettled,
  type DayDoc,
  type DayRow,
  type PastRow,
  type Row,
  type UserDoc,
} from './record.ts'

/** Days a user's past is kept. */
export type Keep = { userDays: number }

/** A user without any use. */
export const newUser = (id: string, now: number): UserDoc => ({
  v: 1,
  id,
  at: now,
  date: dateOf(now),
  rows: {},
  past: {},
  sessions: {},
  minute: { n: minuteOf(now), rows: {} },
  leases: {},
  blocks: {},
})

/** A row without any use. */
export const newRow = (): Row => ({
  requests: 0,
  settled: 0,
  partial: 0,
  failed: 0,
  charged: 0,
  held: 0,
  prompt: 0,
  cached: 0,
  completion: 0,
  overshoot: 0,
})

/** A day without any use, of one model or of all. */
export const newDayRow = (): DayRow => ({
  requests: 0,
  settled: 0,
  partial: 0,
  failed: 0,
  charged: 0,
  prompt: 0,
  cached: 0,
  completion: 0,
  overshoot: 0,
  users: 0,
  hours: {},
  at: 0,
})

/** A day on which nothing has happened. */
export const newDay = (date: string): DayDoc => ({
  v: 1,
  date,
  total: newDayRow(),
  sessions: 0,
  models: {},
  quota: {},
  minute: { n: 0, rows: {} },
})

/** Brings a user's document to a moment: the day and minute roll over, what has run out goes. */
export function advance(doc: UserDoc, now: number, keep: Keep): UserDoc {
  const at = Math.max(doc.at, now)
  const date = dateOf(at)
  const next: UserDoc = {
    ...doc,
    at,
    leases: filter(doc.leases, (lease) => at - lease.at < LATE_SETTLE_MS),
    blocks: filter(doc.blocks, (block) => block.until === undefined || block.until > at),
  }
  if (minuteOf(at) !== doc.minute.n) next.minute = { n: minuteOf(at), rows: {} }
  if (date !== doc.date) {
    const short = Object.entries(doc.rows).map(([model, row]) => [model, shorten(row)] as const)
    const past = short.length ? { ...doc.past, [doc.date]: Object.fromEntries(short) } : doc.past
    const oldest = dateOf(at - keep.userDays * DAY_MS)
    next.past = filter(past, (_, day) => day >= oldest)
    next.date = date
    next.rows = {}
    next.sessions = {}
    delete next.reported
  }
  return next
}

/** A past row is kept in full as long as a lease of it may still settle, or if only so it shows that it answered. */
export const shorten = (row: PastRow): PastRow =>
  'held' in row && (unsettled(row) > 0 || (row.charged === 0 && answered(row)))
    ? row
    : { requests: row.requests, charged: row.charged }

/** A day's minute counters at a moment; the clocks of the users differ, the latest one rules. */
export function advanceDay(doc: DayDoc | undefined, at: number): DayDoc {
  const day = doc ?? newDay(dateOf(at))
  return minuteOf(at) > day.minute.n ? { ...day, minute: { n: minuteOf(at), rows: {} } } : day
}

/** Whether the user got an answer. */
export const answered = (row: PastRow): boolean =>
  'held' in row ? row.settled + row.partial > 0 : row.charged > 0

const filter = <T>(record: Record<string, T>, keep: (value: T, key: string) => boolean) =>
  Object.fromEntries(Object.entries(record).filter(([key, value]) => keep(value, key)))
