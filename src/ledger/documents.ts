/** New documents, and a user's documents advanced to a moment. */
import { LATE_SETTLE_MS, PAST_LEASES } from './commands.ts'
import { current } from './policy.ts'
import { fit } from './reading.ts'
import {
  ALL_MODELS,
  ROW,
  VERSIONS,
  own,
  type Amounts,
  type Block,
  type DayDoc,
  type DayRow,
  type Lease,
  type ModelUse,
  type PastDoc,
  type ProfileDoc,
  type QuotaDoc,
  type Row,
  type SettingsDoc,
  type ThinRow,
  type UsageDoc,
} from './shapes.ts'
import { DAY_MS, NO_END, dateOf, minuteOf } from './windows.ts'

/** Days that a user's past is kept. */
export type Keep = { userDays: number }

/** How much is kept: days of users, days of everyone, and a number of events. */
export type Retention = Keep & { historyDays: number; eventsKept: number }

/** A user without any use. */
export const newUsage = (id: string, now: number): UsageDoc => ({
  v: VERSIONS.usage,
  id,
  since: now,
  at: now,
  indexed: { at: 0, tokens: 0 },
  date: dateOf(now),
  charged: 0,
  answered: 0,
  sessions: {},
  windows: {},
  models: {},
  leases: {},
  reported: {},
})

/**
 * What stays of a user after `userDays` while a window lasts for which the user has a limit: the counters alone. Else a user
 * would get a new month by waiting.
 */
export const bareWindows = ({ id, at, windows, models, limitedUntil }: UsageDoc): UsageDoc => ({
  ...newUsage(id, at),
  windows,
  models: mapValues(models, ({ windows }) => ({ row: {}, windows })),
  ...(limitedUntil !== undefined && { limitedUntil }),
})

export const newPast = (id: string): PastDoc => ({ v: VERSIONS.past, id, days: {} })

export const newProfile = (id: string): ProfileDoc => ({
  v: VERSIONS.profile,
  id,
  blocks: {},
  limits: {},
  keys: {},
})

export const newSettings = (): SettingsDoc => ({ v: VERSIONS.settings, plans: {} })

export const newQuota = (at: number): QuotaDoc => ({ v: VERSIONS.quota, at, windows: {} })

/** A row without any use. */
export const newRow = (): Row => ({
  requests: 0,
  exact: 0,
  estimated: 0,
  failed: 0,
  lost: 0,
  charged: 0,
  reserved: 0,
  lostTokens: 0,
  prompt: 0,
  cached: 0,
  completion: 0,
  overReservation: 0,
  cost: 0,
  reservedCost: 0,
  lostCost: 0,
  audioMs: 0,
  reservedAudioMs: 0,
  lostAudioMs: 0,
  characters: 0,
  reservedCharacters: 0,
  lostCharacters: 0,
})

/** A day without any use, of one model or of all. */
export const newDayRow = (): DayRow => ({
  requests: 0,
  exact: 0,
  estimated: 0,
  failed: 0,
  charged: 0,
  prompt: 0,
  cached: 0,
  completion: 0,
  overReservation: 0,
  cost: 0,
  users: 0,
  hours: {},
  at: 0,
})

/** A day on which nothing has happened. */
export const newDay = (date: string): DayDoc => ({
  v: VERSIONS.day,
  date,
  total: newDayRow(),
  sessions: 0,
  models: {},
  forgotten: 0,
})

/** The documents of a user that a step may change: one or both. */
export type Account = { usage: UsageDoc; past: PastDoc | undefined }

/**
 * Advances a user's documents to a moment: rows of an earlier day move to the past, and a lease is lost that has not
 * ended within a day, or that is one of too many. `load` reads the past only if it is needed; `past` is undefined if it
 * did not change.
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

/** A user's rows of the document's day, by model. */
export const rowsOf = ({ models }: UsageDoc): Record<string, ThinRow> =>
  filter(
    mapValues(models, ({ row }) => row),
    ({ requests }) => requests !== undefined,
  )

/** A user's use of a model; empty without a request. */
export const useOf = ({ models }: UsageDoc, model: string): ModelUse =>
  own(models, model) ?? { row: {}, windows: {} }

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

/** A user's row of a day before the current one, if it is kept. */
function pastRow(past: PastDoc | undefined, date: string, model: string): Row | undefined {
  const row = past && own(own(past.days, date) ?? {}, model)
  return row && whole(row)
}

/** The past with one of its rows replaced. */
export const withPastRow = (past: PastDoc, date: string, model: string, row: Row): PastDoc => ({
  ...past,
  days: { ...past.days, [date]: { ...own(past.days, date), [model]: thin(row) } },
})

/** A row with all of its fields. */
export const whole = (row: ThinRow): Row => fit(ROW, row) as Row

/** A row without the fields that are zero. */
export const thin = (row: Row): ThinRow => filter(row, (value) => value !== 0) as ThinRow

/** Requests of a row that have been admitted and have not ended. */
export const runningOf = (row: Row): number =>
  row.requests - row.exact - row.estimated - row.failed - row.lost

/** Requests of a row that got an answer. */
export const answersOf = (row: Row): number => row.exact + row.estimated

/** Whether the user got an answer. */
export const hasAnswers = (row: Row): boolean => answersOf(row) > 0

/** The block that refuses a user a model at a moment, with its scope. A block from all models comes first. */
export function blockOf(
  { blocks }: ProfileDoc,
  model: string,
  at: number,
): [scope: string, block: Block] | undefined {
  for (const scope of [ALL_MODELS, model]) {
    const block = own(blocks, scope)
    if (block && isInForce(block, at)) return [scope, block]
  }
  return undefined
}

export const isInForce = ({ until }: Block, at: number): boolean =>
  until === undefined || until > at

/** When the last block of a profile ends, in epoch ms; 0 without blocks. */
export const endOfBlocks = ({ blocks }: ProfileDoc): number =>
  Math.max(0, ...Object.values(blocks).map(({ until = NO_END }) => until))

export function hasMoreThanBlocks(profile: ProfileDoc): boolean {
  const { v: _, id: __, blocks: ___, limits, keys, ...others } = profile
  return [limits, keys, others].some((part) => Object.keys(part).length > 0)
}

/** When a profile is no longer needed: with its last block, or never if it has more than blocks. */
export const endOfProfile = (profile: ProfileDoc): number =>
  hasMoreThanBlocks(profile) ? NO_END : endOfBlocks(profile)

/**
 * A user's place in the order of last activity: minutes since the epoch, plus a fraction made from the id. The fraction
 * makes equal places rare, so that a page starts exactly where the previous page ended.
 */
export function activityOf({ id, indexed }: Pick<UsageDoc, 'id' | 'indexed'>): number {
  let hash = 0
  for (let at = 0; at < 4; at += 1) hash = hash * 64 + ((id.charCodeAt(at) || 0) % 64)
  return indexed.at === 0 ? 0 : minuteOf(indexed.at) + hash / 2 ** 24
}

export const mapValues = <T, U>(record: Record<string, T>, map: (value: T, key: string) => U) =>
  Object.fromEntries(Object.entries(record).map(([key, value]) => [key, map(value, key)]))

export const filter = <T>(record: Record<string, T>, keep: (value: T, key: string) => boolean) =>
  Object.fromEntries(Object.entries(record).filter(([key, value]) => keep(value, key)))
