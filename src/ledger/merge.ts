/** Merges two accounts of the same user into one: adds up what they counted separately. */
import { advance, type Keep } from './advance.ts'
import { hasAnswers, rowsOf, whole } from './rows.ts'
import { filter, mapValues, own } from './records.ts'
import { isInForce } from './blocks.ts'
import type { Counts } from './units.ts'
import type { ModelUse, PastDoc, ProfileDoc, Row, ThinRow, UsageDoc, Windows } from './documents.ts'
import { sum } from './tally.ts'
import { DAY_MS, dateOf } from './windows.ts'

/** The documents of one user, as far as they exist. */
export type UserParts = {
  id: string
  usage?: UsageDoc | undefined
  past?: PastDoc | undefined
  profile?: ProfileDoc | undefined
}

/** `now`, in epoch ms, decides which blocks have ended. */
export type MergeTerms = Keep & { now: number }

/**
 * What both sides of a merge have counted on a day: users, users of a model, and sessions. The sum of the two days
 * counts these twice.
 */
export type Overlap = { users: number; models: Record<string, number>; sessions: number }

/**
 * Merges two accounts at the later of their two moments. If both block the same model, the first one's block holds. The
 * same is true of everything else that admins wrote.
 */
export function mergeUser(first: UserParts, second: UserParts, terms: MergeTerms): UserParts {
  const profile = mergeProfile(first.profile, second.profile, terms)
  if (!first.usage || !second.usage) {
    const usage = first.usage ?? second.usage
    const past = mergePast(first.past, second.past, usage?.at, terms)
    return { id: first.id, usage, past, profile }
  }
  const at = Math.max(first.usage.at, second.usage.at)
  const one = advance(first.usage, at, () => first.past, terms)
  const other = advance(second.usage, at, () => second.past, terms)
  const past = mergePast(one.past ?? first.past, other.past ?? second.past, at, terms)
  const merged = mergeUsage(one.usage, other.usage)
  const [later, earlier] =
    first.usage.at >= second.usage.at ? [first.usage, second.usage] : [second.usage, first.usage]
  const ip = later.ip ?? earlier.ip
  return { id: first.id, usage: ip === undefined ? merged : { ...merged, ip }, past, profile }
}

/** Both must be at the same moment. */
function mergeUsage(one: UsageDoc, other: UsageDoc): UsageDoc {
  const merged: UsageDoc = {
    ...one,
    since: Math.min(one.since, other.since),
    charged: one.charged + other.charged,
    answered: one.answered + other.answered,
    sessions: { ...one.sessions, ...other.sessions },
    windows: addWindows(one.windows, other.windows),
    models: mergeWith(one.models, other.models, addUse),
    leases: { ...one.leases, ...other.leases },
    reported: mergeWith(one.reported, other.reported, larger),
  }
  const seen = Math.max(one.seen ?? 0, other.seen ?? 0)
  if (seen > 0) merged.seen = seen
  const limitedUntil = Math.max(one.limitedUntil ?? 0, other.limitedUntil ?? 0)
  if (limitedUntil > 0) merged.limitedUntil = limitedUntil
  if (one.keysCharged ?? other.keysCharged) {
    merged.keysCharged = addWindows(one.keysCharged ?? {}, other.keysCharged ?? {})
  }
  return { ...merged, indexed: { at: seen, tokens: merged.charged } }
}

/** Leaves out days that are older than `userDays` by the user's clock. */
function mergePast(
  one: PastDoc | undefined,
  other: PastDoc | undefined,
  at: number | undefined,
  { userDays }: Keep,
): PastDoc | undefined {
  const past = one ?? other
  if (!past) return undefined
  const days = mergeWith(past.days, one && other ? other.days : {}, (a, b) =>
    mergeWith(a, b, addRows),
  )
  const oldest = at === undefined ? '' : dateOf(at - userDays * DAY_MS)
  return { ...past, days: filter(days, (_, date) => date >= oldest) }
}

function mergeProfile(
  one: ProfileDoc | undefined,
  other: ProfileDoc | undefined,
  { now }: MergeTerms,
): ProfileDoc | undefined {
  if (!one || !other) return one ?? other
  const inForce = ({ blocks }: ProfileDoc) => filter(blocks, (block) => isInForce(block, now))
  return {
    ...other,
    ...one,
    blocks: { ...inForce(other), ...inForce(one) },
    limits: Object.keys(one.limits).length > 0 ? one.limits : other.limits,
    keys: { ...other.keys, ...one.keys },
  }
}

/** Adds up counters of the same span. If the spans differ, the later one holds. */
const addWindows = (one: Windows, other: Windows): Windows =>
  mergeWith(one, other, (a, b) =>
    a.start === b.start ? { start: a.start, ...sum([a, b]) } : laterOf(a, b),
  )

const addUse = (one: ModelUse, other: ModelUse): ModelUse => ({
  row: addRows(one.row, other.row),
  windows: addWindows(one.windows, other.windows),
})

const laterOf = <T extends { start: number }>(one: T, other: T): T =>
  other.start > one.start ? other : one

/** The later counters of each window; the first ones if the spans are the same. */
export const laterWindows = (one: Windows, other: Windows): Windows =>
  mergeWith(one, other, laterOf)

/** What both accounts of one user have counted, by date. */
export function overlapOf(first: UserParts, second: UserParts): Record<string, Overlap> {
  const theirs = daysOf(second)
  const common: Record<string, Overlap> = {}
  for (const [date, rows] of Object.entries(daysOf(first))) {
    const others = own(theirs, date) ?? {}
    if (!Object.values(rows).some(hasAnswers) || !Object.values(others).some(hasAnswers)) continue
    const models = Object.keys(rows).filter((model) =>
      [rows, others].every((side) => {
        const row = own(side, model)
        return row !== undefined && hasAnswers(row)
      }),
    )
    common[date] = {
      users: 1,
      models: Object.fromEntries(models.map((model) => [model, 1])),
      sessions: commonSessions(first.usage, second.usage, date),
    }
  }
  return common
}

/** Sessions are stored for the current day only. */
function commonSessions(
  first: UsageDoc | undefined,
  second: UsageDoc | undefined,
  date: string,
): number {
  if (first?.date !== date || second?.date !== date) return 0
  return Object.keys(first.sessions).filter((id) => own(second.sessions, id)).length
}

/** The sum of two overlaps of the same day. */
export const addOverlaps = (one: Overlap, other: Overlap): Overlap => ({
  users: one.users + other.users,
  models: mergeWith(one.models, other.models, (a, b) => a + b),
  sessions: one.sessions + other.sessions,
})

function daysOf({ usage, past }: UserParts): Record<string, Record<string, Row>> {
  const days = { ...past?.days, ...(usage && { [usage.date]: rowsOf(usage) }) }
  return mapValues(days, (rows) => mapValues(rows, whole))
}

const larger = (one: Counts, other: Counts): Counts =>
  mergeWith(one, other, (a, b) => Math.max(a, b)) as Counts

const addNumbers = (one: Record<string, number>, other: Record<string, number>) =>
  mergeWith(one, other, (a, b) => a + b)

const addRows = (one: ThinRow, other: ThinRow): ThinRow =>
  filter(
    addNumbers(one as Record<string, number>, other as Record<string, number>),
    (value) => value !== 0,
  ) as ThinRow

/** Joins two records. If both have a key, `merge` makes one value of the two. */
function mergeWith<T>(
  first: Record<string, T>,
  second: Record<string, T>,
  merge: (one: T, other: T) => T,
): Record<string, T> {
  const keys = new Set([...Object.keys(first), ...Object.keys(second)])
  return Object.fromEntries(
    [...keys].map((key) => {
      const [one, other] = [own(first, key), own(second, key)]
      return [key, one !== undefined && other !== undefined ? merge(one, other) : (one ?? other)]
    }),
  ) as Record<string, T>
}
