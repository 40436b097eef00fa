/** When imported documents expire. The ledger script has the same rules. */
import { endOfProfile } from '../../../ledger/blocks.ts'
import type { Retention } from '../../../ledger/advance.ts'
import type { PastDoc, ProfileDoc, UsageDoc } from '../../../ledger/documents.ts'
import { DAY_MS, NO_END, SECOND_MS } from '../../../ledger/windows.ts'

export type ImportTerms = { retention: Retention; now: number }

/**
 * The remaining seconds, or an expiry in seconds since the epoch; without both, the document is kept for ever.
 * Strings, because Lua would format numbers differently.
 */
export type End = { seconds?: string; until?: string }

export const secondsOfDays = (days: number): string => String(days * 86_400)

export const secondsLeft = (end: number, { now }: ImportTerms): string =>
  String(Math.max(1, Math.ceil((end - now) / SECOND_MS)))

export const usageEnd = (at: number, { retention }: ImportTerms): number =>
  at + retention.userDays * DAY_MS

export const dayEnd = (date: string, { retention }: ImportTerms): number =>
  Date.parse(date) + (retention.historyDays + 1) * DAY_MS

export function profileEnd(profile: ProfileDoc): End {
  const end = endOfProfile(profile)
  return end === NO_END ? {} : { until: String(Math.ceil(end / SECOND_MS)) }
}

/** The last known activity of a user, taken from the past days if there is no usage document. */
export const lastOf = (usage: UsageDoc | undefined, past: PastDoc | undefined): number =>
  usage?.at ??
  Math.max(0, ...Object.keys(past?.days ?? {}).map((date) => Date.parse(date) + DAY_MS - 1))
