/** Two accounts of the same user as one: what was counted apart, added up. */
import {
  advance,
  answered,
  filter,
  isInForce,
  mapValues,
  rowsOf,
  whole,
  type Keep,
} from '../ledger/documents.ts'
import {
  own,
  type Amounts,
  type ModelUse,
  type PastDoc,
  type ProfileDoc,
  type Row,
  type ThinRow,
  type UsageDoc,
  type Windows,
} from '../ledger/shapes.ts'
import { sum } from '../ledger/tally.ts'
import { DAY_MS, dateOf } from '../ledger/windows.ts'

/** What is kept of one user, as far as there is any. */
export type UserParts = {
  id: string
  usage?: UsageDoc | undefined
  past?: PastDoc | undefined
  profile?: ProfileDoc | undefined
}

/** `now`, in epoch ms, tells which blocks have run out. */
export type MergeTerms = Keep & { now: number }

/**
 * Whom both sides of a merge have counted on a day: users, users of a model, and sessions. The sum of the two days
 * has these twice.
 */
export type Overlap = { users: number; models: Record<string, number>; sessions: number }

/** What both have counted, at the later of the two moments. Where they differ on a block, the first one's is in force. */
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

/** Both at the same moment. */
function mergeUsage(one: UsageDoc, other: UsageDoc): UsageDoc {
  const merged: UsageDoc = {
    ...one,
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
  return { ...merged, indexed: { at: seen, tokens: merged.charged } }
}

/** Days that have aged by the clock of the user are left out. */
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
  return { ...other, ...one, blocks: { ...inForce(other), ...inForce(one) } }
}

/** Counters of the same span are added up; of different spans the later ones count. */
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

/** Of counters of the same span the first ones; of different spans the later ones. */
export const laterWindows = (one: Windows, other: Windows): Windows =>
  mergeWith(one, other, laterOf)

/** By date, what of one user both accounts have counted. */
export function overlapOf(first: UserParts, second: UserParts): Record<string, Overlap> {
  const theirs = daysOf(second)
  const common: Record<string, Overlap> = {}
  for (const [date, rows] of Object.entries(daysOf(first))) {
    const others = own(theirs, date) ?? {}
    if (!Object.values(rows).some(answered) || !Object.values(others).some(answered)) continue
    const models = Object.keys(rows).filter((model) =>
      [rows, others].every((side) => {
        const row = own(side, model)
        return row !== undefined && answered(row)
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

/** Sessions are known of the current day only. */
function commonSessions(
  first: UsageDoc | undefined,
  second: UsageDoc | undefined,
  date: string,
): number {
  if (first?.date !== date || second?.date !== date) return 0
  return Object.keys(first.sessions).filter((id) => own(second.sessions, id)).length
}

/** Overlaps of the same day together. */
export const addOverlaps = (one: Overlap, other: Overlap): Overlap => ({
  users: one.users + other.users,
  models: mergeWith(one.models, other.models, (a, b) => a + b),
  sessions: one.sessions + other.sessions,
})

function daysOf({ usage, past }: UserParts): Record<string, Record<string, Row>> {
  const days = { ...past?.days, ...(usage && { [usage.date]: rowsOf(usage) }) }
  return mapValues(days, (rows) => mapValues(rows, whole))
}

const larger = (one: Amounts, other: Amounts): Amounts =>
  mergeWith(one, other, (a, b) => Math.max(a, b)) as Amounts

const addNumbers = (one: Record<string, number>, other: Record<string, number>) =>
  mergeWith(one, other, (a, b) => a + b)

const addRows = (one: ThinRow, other: ThinRow): ThinRow =>
  filter(
    addNumbers(one as Record<string, number>, other as Record<string, number>),
    (value) => value !== 0,
  ) as ThinRow

/** Both records as one; where both have a key, `merge` makes one value of the two. */
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
