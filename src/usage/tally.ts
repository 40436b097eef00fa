/** The arithmetic of rows and counters: holding a bound, and replacing it by what a request cost. */
import { answered, newDayRow, newRow } from './documents.ts'
import {
  DAY_MS,
  HOUR_MS,
  minuteOf,
  own,
  type Count,
  type DayDoc,
  type DayRow,
  type Event,
  type Lease,
  type PastRow,
  type Row,
} from './record.ts'

export const NOTHING: Count = { tokens: 0, requests: 0 }

/** What a row has used of its day. */
export const dayCount = (row: Row | undefined): Count => ({
  tokens: row?.charged ?? 0,
  requests: row?.requests ?? 0,
})

/** All counters together. */
export const sum = (counts: Count[]): Count => ({
  tokens: counts.reduce((total, count) => total + count.tokens, 0),
  requests: counts.reduce((total, count) => total + count.requests, 0),
})

/** The counters with one of them raised. */
export const addCount = (
  counts: Record<string, Count>,
  key: string,
  tokens: number,
  requests: number,
) => {
  const old = own(counts, key) ?? NOTHING
  return {
    ...counts,
    [key]: { tokens: old.tokens + tokens, requests: old.requests + requests },
  }
}

/** Charges a bound to the counters of everyone together. */
export function hold(day: DayDoc, scopes: string[], bound: number): DayDoc {
  let { quota } = day
  let { rows } = day.minute
  for (const scope of scopes) {
    quota = addCount(quota, scope, bound, 1)
    rows = addCount(rows, scope, bound, 1)
  }
  return { ...day, quota, minute: { n: day.minute.n, rows } }
}

/** Adds what has ended to a row's outcomes and sums. */
const tally = <T extends Row | DayRow>(row: T, event: Event): T => ({
  ...row,
  [event.outcome]: row[event.outcome] + 1,
  prompt: row.prompt + (event.prompt ?? 0),
  cached: row.cached + (event.cached ?? 0),
  completion: row.completion + (event.completion ?? 0),
  overshoot: row.overshoot + Math.max(0, event.charged - event.bound),
})

/** A user's row with one more request, charged at its bound. */
export function open(row: PastRow | undefined, bound: number): PastRow {
  const old = row ?? newRow()
  const charged = { requests: old.requests + 1, charged: old.charged + bound }
  if ('held' in old) return { ...old, ...charged, held: old.held + bound }
  // Nothing charged, and short: every request of it had failed.
  if (old.charged === 0) return { ...newRow(), ...charged, failed: old.requests, held: bound }
  return charged
}

/** A user's row after a request of it has ended. */
export function end(row: PastRow, event: Event): PastRow {
  const charged = row.charged - event.bound + event.charged
  if (!('held' in row)) return { ...row, charged }
  return { ...tally(row, event), charged, held: row.held - event.bound }
}

const endDayRow = (row: DayRow, event: Event, first: boolean, at: number): DayRow => {
  const hour = String(Math.floor((event.at % DAY_MS) / HOUR_MS))
  return {
    ...tally(row, event),
    requests: row.requests + 1,
    charged: row.charged + event.charged,
    users: row.users + (first ? 1 : 0),
    hours: { ...row.hours, [hour]: (row.hours[hour] ?? 0) + event.charged },
    at: Math.max(row.at, at),
  }
}

export type First = { user: boolean; model: boolean; session: boolean }

/** Whether this is the user's first answer of the day, and the first with this model: so unique users are counted. */
export function firstAnswer(rows: Record<string, PastRow>, row: PastRow, event: Event): First {
  if (event.outcome === 'failed') return { user: false, model: false, session: false }
  return { user: !Object.values(rows).some(answered), model: !answered(row), session: false }
}

/** Adds what has ended to its day. A model enters the day only once it has answered. */
export function endDay(
  day: DayDoc,
  lease: Lease,
  event: Event,
  seen: { first: First; at: number },
): DayDoc {
  const { model } = lease
  const { first, at } = seen
  const change = event.charged - lease.bound
  let { quota, models } = day
  let { rows } = day.minute
  for (const scope of lease.scopes ?? []) {
    if (own(quota, scope)) quota = addCount(quota, scope, change, 0)
    if (minuteOf(lease.at) === day.minute.n && own(rows, scope)) {
      rows = addCount(rows, scope, change, 0)
    }
  }
  const known = own(models, model)
  if (known || event.outcome !== 'failed') {
    models = { ...models, [model]: endDayRow(known ?? newDayRow(), event, first.model, at) }
  }
  return {
    ...day,
    total: endDayRow(day.total, event, first.user, at),
    sessions: day.sessions + (first.session ? 1 : 0),
    models,
    quota,
    minute: { n: day.minute.n, rows },
  }
}
