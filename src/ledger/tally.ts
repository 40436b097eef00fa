/** The arithmetic of counters and rows: charges a reservation, and replaces it by the charge of the ended request. */
import { OTHER_TAG, TAGS_PER_DAY } from './capacity.ts'
import { hasAnswers } from './rows.ts'
import { newDayRow, newRow } from './new-documents.ts'
import { audioOf, amountsFrom, type Amounts } from './units.ts'
import { own } from './records.ts'
import type { DayDoc, DayRow, Lease, Row, TagRow, UsageDoc, Windows } from './documents.ts'
import type { Event } from './events.ts'
import { nanoOf } from './money.ts'
import { isTotal } from './policy.ts'
import { DAY_MS, HOUR_MS, WINDOW_NAMES, startOf, type Window } from './windows.ts'

/** What an ended request had reserved. */
export const reservedBy = ({ reserved, reservedCost, ...audio }: Event): Amounts => ({
  requests: 1,
  tokens: reserved,
  usd: nanoOf(reservedCost),
  ...audioOf(audio.reservedAudioMs, audio.reservedCharacters),
})

/** What everyone is charged when a request ends. */
export const chargedBy = ({ outcome, charged, cost, audioMs, characters }: Event): Amounts => ({
  requests: outcome === 'failed' ? 0 : 1,
  tokens: charged,
  usd: nanoOf(cost),
  ...audioOf(audioMs, characters),
})

/** The sum of all amounts. */
export const sum = (all: Amounts[]): Amounts =>
  amountsFrom((unit) => all.reduce((total, amounts) => total + (amounts[unit] ?? 0), 0))

/**
 * Charges a lease's reservation to the windows that it names, if the admission was in the window that is current at
 * `now`. Counters of a window that has ended are replaced.
 */
export function charge(
  windows: Windows,
  { at, windows: named, reserved }: Lease,
  now: number,
): Windows {
  const next = { ...windows }
  for (const window of Object.keys(named) as Window[]) {
    const start = startOf(window, at)
    if (start !== startOf(window, now)) continue
    const counted = windows[window]?.start === start ? windows[window] : undefined
    next[window] = {
      start,
      ...amountsFrom((unit) => (counted?.[unit] ?? 0) + (reserved[unit] ?? 0)),
    }
  }
  return next
}

/** Replaces a lease's reservation by the charge, in the windows that are still those of its admission. */
export function correct(
  windows: Windows,
  { at, windows: named, reserved }: Lease,
  charged: Amounts,
): Windows {
  const next = { ...windows }
  for (const window of Object.keys(named) as Window[]) {
    const counted = next[window]
    if (counted?.start !== startOf(window, at)) continue
    // The difference first: no sum on the way may pass the total, which is exact up to 2^53.
    const corrected = amountsFrom((unit) =>
      Math.max(0, (counted[unit] ?? 0) + ((charged[unit] ?? 0) - (reserved[unit] ?? 0))),
    )
    next[window] = { start: counted.start, ...corrected }
  }
  return next
}

/** What leases hold in one span of a window. */
export const reservedIn = (leases: Lease[], window: Window, start: number): Amounts =>
  sum(
    leases
      .filter((lease) => lease.windows[window] && startOf(window, lease.at) === start)
      .map((lease) => lease.reserved),
  )

/** What a user's leases of a model, or of all models, hold: by window, without windows in which they hold nothing. */
export function reservedOf({ leases, at }: UsageDoc, scope: string): Record<string, Amounts> {
  const all = Object.values(leases)
  const own = isTotal(scope) ? all : all.filter(({ model }) => model === scope)
  return Object.fromEntries(
    WINDOW_NAMES.map(
      (window) => [window, reservedIn(own, window, startOf(window, at))] as const,
    ).filter(([, { requests }]) => requests > 0),
  )
}

/** A user's row with one more request, charged at its reservation. */
export function open(
  row: Row | undefined,
  { tokens, usd, audioSeconds: audioMs = 0, characters = 0 }: Amounts,
): Row {
  const old = row ?? newRow()
  return {
    ...old,
    requests: old.requests + 1,
    charged: old.charged + tokens,
    reserved: old.reserved + tokens,
    cost: old.cost + usd,
    reservedCost: old.reservedCost + usd,
    audioMs: old.audioMs + audioMs,
    reservedAudioMs: old.reservedAudioMs + audioMs,
    characters: old.characters + characters,
    reservedCharacters: old.reservedCharacters + characters,
  }
}

/** Adds an ended request to a row's outcomes and sums. */
const tell = <T extends Row | DayRow>(row: T, event: Event): T => ({
  ...row,
  [event.outcome]: row[event.outcome] + 1,
  prompt: row.prompt + (event.prompt ?? 0),
  cached: row.cached + (event.cached ?? 0),
  completion: row.completion + (event.completion ?? 0),
  overReservation: row.overReservation + Math.max(0, event.charged - event.reserved),
})

/** A user's row after one of its requests has ended. */
export const end = (
  row: Row,
  event: Event,
  { reservedAudioMs = 0, audioMs = 0, reservedCharacters = 0, characters = 0 } = event,
): Row => ({
  ...tell(row, event),
  charged: row.charged - event.reserved + event.charged,
  reserved: row.reserved - event.reserved,
  cost: row.cost - nanoOf(event.reservedCost) + nanoOf(event.cost),
  reservedCost: row.reservedCost - nanoOf(event.reservedCost),
  audioMs: row.audioMs - reservedAudioMs + audioMs,
  reservedAudioMs: row.reservedAudioMs - reservedAudioMs,
  characters: row.characters - reservedCharacters + characters,
  reservedCharacters: row.reservedCharacters - reservedCharacters,
})

/** The sum of a field, if it is not zero. */
function sumOf(field: 'audioMs' | 'characters', row: DayRow, event: Event): Partial<DayRow> {
  const sum = (row[field] ?? 0) + (event[field] ?? 0)
  return sum === 0 ? {} : { [field]: sum }
}

const endDayRow = (row: DayRow, event: Event, first: boolean, at: number): DayRow => {
  const hour = String(Math.floor((event.at % DAY_MS) / HOUR_MS))
  return {
    ...tell(row, event),
    requests: row.requests + 1,
    charged: row.charged + event.charged,
    cost: row.cost + nanoOf(event.cost),
    ...sumOf('audioMs', row, event),
    ...sumOf('characters', row, event),
    users: row.users + (first ? 1 : 0),
    hours: { ...row.hours, [hour]: (row.hours[hour] ?? 0) + event.charged },
    at: Math.max(row.at, at),
  }
}

export type First = { user: boolean; model: boolean; session: boolean }

/**
 * Whether this is the user's first answer of the day, and the first with this model. Unique users are counted by it.
 */
export function firstAnswer(isFirstOfDay: boolean, row: Row, event: Event): First {
  if (event.outcome === 'failed') return { user: false, model: false, session: false }
  return { user: isFirstOfDay, model: !hasAnswers(row), session: false }
}

/** Adds an ended request to its day. A model is added to the day only when it has answered. */
export function endDay(day: DayDoc, event: Event, first: First, at: number): DayDoc {
  const { model } = event
  const known = own(day.models, model)
  const isCounted = known !== undefined || event.outcome !== 'failed'
  return {
    ...day,
    ...(event.tag !== undefined && { tags: withTag(day.tags ?? {}, event.tag, event) }),
    total: endDayRow(day.total, event, first.user, at),
    sessions: day.sessions + (first.session ? 1 : 0),
    models: isCounted
      ? { ...day.models, [model]: endDayRow(known ?? newDayRow(), event, first.model, at) }
      : day.models,
  }
}

/** The tags of a day with an ended request. */
function withTag(tags: Record<string, TagRow>, tag: string, event: Event): Record<string, TagRow> {
  const name = own(tags, tag) || countTags(tags) < TAGS_PER_DAY ? tag : OTHER_TAG
  const { requests, charged, cost } = own(tags, name) ?? { requests: 0, charged: 0, cost: 0 }
  const row = {
    requests: requests + 1,
    charged: charged + event.charged,
    cost: cost + nanoOf(event.cost),
  }
  return { ...tags, [name]: row }
}

const countTags = (tags: Record<string, TagRow>): number =>
  Object.keys(tags).filter((tag) => tag !== OTHER_TAG).length
