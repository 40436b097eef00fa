/** A user's documents as time passes: days end, leases are lost, and what is personal is deleted. */
import type { UsageDoc, PastDoc, Lease, Row } from './documents.ts'
import { newUsage, newPast } from './new-documents.ts'
import { mapValues, filter } from './records.ts'
import { current } from './policy.ts'
import { dateOf, DAY_MS } from './windows.ts'
import { rowsOf, useOf, thin, whole, pastRow, withPastRow } from './rows.ts'
import type { Amounts } from './units.ts'
import { PAST_LEASES, LATE_SETTLE_MS } from './capacity.ts'

/** Days that a user's past is kept. */
export type Keep = { userDays: number }

/** How much is kept: days of users, days of everyone, and a number of events. */
export type Retention = Keep & { historyDays: number; eventsKept: number }

/**
 * What is kept of a user after `userDays`, as long as a window with a limit of the user lasts: only the counters.
 * Otherwise, a user could get a new month by waiting.
 */
export const bareWindows = ({ id, at, windows, models, limitedUntil }: UsageDoc): UsageDoc => ({
  ...newUsage(id, at),
  windows,
  models: mapValues(models, ({ windows }) => ({ row: {}, windows })),
  ...(limitedUntil !== undefined && { limitedUntil }),
})

/** The documents of a user that a step may change: one or both. */
export type Account = { usage: UsageDoc; past: PastDoc | undefined }

/**
 * Advances a user's documents to a moment: rows of an earlier day move to the past, and leases that did not end within
 * a day, or that are too many, are lost. `load` reads the past only if it is needed; `past` is undefined if it did not
 * change.
 */
export function advance(
  usage: UsageDoc,
  now: number,
  load: (id: string) => PastDoc | undefined,
  keep: Keep,
): Account {
  const at = Math.max(usage.at, now)
  const windows = current(usage.windows, at)
  const account: Account = { usage: { ...usage, at, windows }, past: undefined }
  if (dateOf(at) !== usage.date) turn(account, load, keep)
  return drop(account, load)
}

/** Moves the rows of the day that has ended to the past. */
function turn(account: Account, load: (id: string) => PastDoc | undefined, keep: Keep): void {
  const { usage } = account
  const { at, date } = usage
  const rows = rowsOf(usage)
  if (Object.keys(rows).length) {
    const past = load(usage.id) ?? newPast(usage.id)
    const oldest = dateOf(at - keep.userDays * DAY_MS)
    const days = { ...past.days, [date]: rows }
    account.past = { ...past, days: filter(days, (_, day) => day >= oldest) }
  }
  account.usage = {
    ...usage,
    date: dateOf(at),
    charged: 0,
    answered: 0,
    sessions: {},
    models: filter(
      mapValues(usage.models, ({ windows }) => ({ row: {}, windows: current(windows, at) })),
      ({ windows }) => Object.keys(windows).length > 0,
    ),
    reported: {},
  }
}

/** Counts lost leases in the rows of their days, and removes them. */
function drop(account: Account, load: (id: string) => PastDoc | undefined): Account {
  let { usage, past } = account
  const oldest = lastLost(usage)
  const isLost = (lease: Lease) => lease.at <= oldest && isPast(lease, usage.at)
  const lost = Object.values(usage.leases).filter(isLost)
  if (lost.length === 0) return account
  usage = { ...usage, leases: filter(usage.leases, (lease) => !isLost(lease)) }
  for (const { model, at, reserved } of lost) {
    const date = dateOf(at)
    if (date === usage.date) {
      const use = useOf(usage, model)
      const row = thin(lose(whole(use.row), reserved))
      usage = { ...usage, models: { ...usage.models, [model]: { ...use, row } } }
      continue
    }
    const kept = past ?? load(usage.id)
    const row = pastRow(kept, date, model)
    if (kept && row) past = withPastRow(kept, date, model, lose(row, reserved))
  }
  return { usage, past }
}

const lose = (
  row: Row,
  { tokens, usd, audioSeconds: audioMs = 0, characters = 0 }: Amounts,
): Row => ({
  ...row,
  lost: row.lost + 1,
  reserved: row.reserved - tokens,
  lostTokens: row.lostTokens + tokens,
  reservedCost: row.reservedCost - usd,
  lostCost: row.lostCost + usd,
  reservedAudioMs: row.reservedAudioMs - audioMs,
  lostAudioMs: row.lostAudioMs + audioMs,
  reservedCharacters: row.reservedCharacters - characters,
  lostCharacters: row.lostCharacters + characters,
})

/** Whether a lease's request must have ended: it holds its reservation until it settles or is lost. */
export const isPast = ({ until }: Lease, at: number): boolean => at > until

/** The time of admission up to which past leases are lost. Those of one moment are lost together. */
function lastLost({ leases, at }: UsageDoc): number {
  const times = Object.values(leases).flatMap((lease) => (isPast(lease, at) ? [lease.at] : []))
  const excess = times.length - PAST_LEASES
  const tooOld = at - LATE_SETTLE_MS
  if (excess <= 0) return tooOld
  return Math.max(tooOld, times.sort((a, b) => a - b)[excess - 1] ?? tooOld)
}
