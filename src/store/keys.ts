/** The keys of the layout in the database. */
import { ALL_MODELS } from '../ledger/shapes.ts'
import { DAY_MS, WINDOWS } from '../ledger/windows.ts'

/**
 * Kept apart from whatever else is in the database; the number is the version of the layout. The braces put all keys
 * on one node of a cluster: https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#hash-tags
 */
export const PREFIX = 'weir:{2}:'

/** A day's place in the scores of users by tokens. Scores below the first day's are of users by activity. */
export const TOP_DAY = 1e10

/** How long a document that cannot be read stays set aside. */
export const DAMAGED_SECONDS = 30 * 86_400

/** With the first request of a day and each so many further ones, what has aged is swept out of the indexes. */
export const SWEEP_EVERY = 1024

/** Members swept at a time: more than so many requests leave behind, and few enough that nobody waits for it. */
export const SWEPT = 2048

/** Days after which everyone's counters of a model that nobody uses say nothing more: the longest window, and one for late ends. */
export const QUOTA_DAYS =
  1 + Math.ceil(Math.max(...Object.values(WINDOWS).map(({ ms }) => ms)) / DAY_MS)

export const usageKey = (id: string) => `${PREFIX}usage:${id}`
export const pastKey = (id: string) => `${PREFIX}past:${id}`
export const profileKey = (id: string) => `${PREFIX}profile:${id}`
export const quotaKey = (scope: string) =>
  `${PREFIX}quota${scope === ALL_MODELS ? '' : `:${scope}`}`
export const dayKey = (date: string) => `${PREFIX}day:${date}`
export const modelsKey = (date: string) => `${PREFIX}models:${date}`
export const rowKey = (date: string, model: string) => `${PREFIX}day:${date}:${model}`
export const onceKey = (id: string) => `${PREFIX}once:${id}`
export const erasedKey = (id: string) => `${PREFIX}erased:${id}`
export const sessionKey = (hash: string) => `${PREFIX}session:${hash}`
