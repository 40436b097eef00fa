/** Two accounts of the same user as one: what was counted apart, added up. */
import { advance, answered, newRow, shorten, type Keep } from './documents.ts'
import { own, type Count, type PastRow, type Row, type UserDoc } from './record.ts'

/**
 * Whom both sides of a merge have counted on a day: users, users of a model, and sessions. The sum of the two days
 * has these twice.
 */
export type Overlap = { users: number; models: Record<string, number>; sessions: number }

/** What both have counted, at the later of the two moments. Where they differ on a block, the first one's is in force. */
export function mergeUser(first: UserDoc, second: UserDoc, keep: Keep): UserDoc {
  const at = Math.max(first.at, second.at)
  const [one, other] = [advance(first, at, keep), advance(second, at, keep)]
  const merged: UserDoc = {
    ...one,
    rows: mergeWith(one.rows, other.rows, sumFields),
    past: mergeWith(one.past, other.past, (a, b) => mergeWith(a, b, sumPast)),
    sessions: { ...one.sessions, ...other.sessions },
    minute: { n: one.minute.n, rows: mergeWith(one.minute.rows, other.minute.rows, sumFields) },
    leases: { ...one.leases, ...other.leases },
    blocks: { ...other.blocks, ...one.blocks },
  }
  if (one.reported || other.reported) {
    merged.reported = mergeWith(one.reported ?? {}, other.reported ?? {}, (a, b) => ({
      tokens: Math.max(a.tokens, b.tokens),
      requests: Math.max(a.requests, b.requests),
    }))
  }
  const [later, earlier] = first.at >= second.at ? [first, second] : [second, first]
  const ip = later.ip ?? earlier.ip
  if (ip !== undefined) merged.ip = ip
  const seen = Math.max(first.seen ?? 0, second.seen ?? 0)
  if (seen > 0) merged.seen = seen
  return merged
}

/** By date, what of one user both accounts have counted. */
export function overlapOf(first: UserDoc, second: UserDoc): Record<string, Overlap> {
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
    const sessions = first.date === second.date && date === first.date
    common[date] = {
      users: 1,
      models: Object.fromEntries(models.map((model) => [model, 1])),
      sessions: sessions
        ? Object.keys(first.sessions).filter((id) => own(second.sessions, id)).length
        : 0,
    }
  }
  return common
}

/** Overlaps of the same day together. */
export const addOverlaps = (one: Overlap, other: Overlap): Overlap => ({
  users: one.users + other.users,
  models: mergeWith(one.models, other.models, (a, b) => a + b),
  sessions: one.sessions + other.sessions,
})

const daysOf = (doc: UserDoc): Record<string, Record<string, PastRow>> => ({
  ...doc.past,
  [doc.date]: doc.rows,
})

/** A short row does not tell how its requests ended, unless they all failed; together with a full one it stays short. */
function sumPast(first: PastRow, second: PastRow): PastRow {
  const [one, other] = [lengthen(first), lengthen(second)]
  if ('held' in one && 'held' in other) return shorten(sumFields(one, other))
  return { requests: one.requests + other.requests, charged: one.charged + other.charged }
}

const lengthen = (row: PastRow): PastRow =>
  'held' in row || row.charged > 0
    ? row
    : { ...newRow(), requests: row.requests, failed: row.requests }

/** Adds records of numbers, field by field. */
const sumFields = <T extends Row | Count>(first: T, second: T): T =>
  mergeWith(first as Record<string, number>, second as Record<string, number>, (a, b) => a + b) as T

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
