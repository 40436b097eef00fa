/** A user's place in the indexes. */
import type { UsageDoc } from './documents.ts'
import { minuteOf, MINUTE_MS, dateOf } from './windows.ts'

/**
 * A user's place in the order of last activity: minutes since the epoch, plus a fraction made from the id. The fraction
 * makes equal places rare, so that a page starts exactly where the previous page ended.
 */
export function activityOf({ id, indexed }: Pick<UsageDoc, 'id' | 'indexed'>): number {
  let hash = 0
  for (let at = 0; at < 4; at += 1) hash = hash * 64 + ((id.charCodeAt(at) || 0) % 64)
  return indexed.at === 0 ? 0 : minuteOf(indexed.at) + hash / 2 ** 24
}

/**
 * A user's place in the indexes changes at most this often, unless a new day began or the tokens of the day have
 * doubled.
 */
export const INDEX_MS = 10 * MINUTE_MS

/** The document with a new index entry, if one is due. */
export function indexed(usage: UsageDoc): UsageDoc {
  const { at, charged: tokens } = usage
  const known = usage.indexed
  const isDue =
    at - known.at >= INDEX_MS || dateOf(known.at) !== usage.date || tokens > 2 * known.tokens
  return isDue ? { ...usage, indexed: { at, tokens } } : usage
}
