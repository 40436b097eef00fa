/** The database keys. */
import { ALL_MODELS } from '../../ledger/documents.ts'

/**
 * The prefix separates our keys from other keys in the database. The number is the version of the layout. The braces
 * put all keys on one node of a cluster:
 * https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#hash-tags
 */
export const PREFIX = 'weir:{2}:'

/** The weight of a day number in the scores that sort users by tokens. Lower scores sort users by activity. */
export const TOP_DAY = 1e10

/** How long an unreadable document is kept aside. */
export const DAMAGED_SECONDS = 30 * 86_400

/** The first request of a day, and then each request after this many, removes expired members from the indexes. */
export const SWEEP_EVERY = 1024

/** Members removed at a time. `SWEEP_EVERY` requests cannot add as many, and requests do not wait for so few. */
export const SWEPT = 2048

export const usageKey = (id: string) => `${PREFIX}usage:${id}`
export const windowsKey = (id: string) => `${PREFIX}windows:${id}`
export const pastKey = (id: string) => `${PREFIX}past:${id}`
export const profileKey = (id: string) => `${PREFIX}profile:${id}`
export const planKey = (name: string) => `${PREFIX}plan:${name}`
export const settingsKey = `${PREFIX}settings`
export const quotaKey = (scope: string) =>
  `${PREFIX}quota${scope === ALL_MODELS ? '' : `:${scope}`}`
export const dayKey = (date: string) => `${PREFIX}day:${date}`
export const modelsKey = (date: string) => `${PREFIX}models:${date}`
export const tagsKey = (date: string) => `${PREFIX}tags:${date}`
/** The latest refusals of users, and how many requests were refused on a day. */
export const refusedKey = `${PREFIX}refused`
export const refusalsKey = (date: string) => `${PREFIX}refusals:${date}`
export const outboxKey = `${PREFIX}alerts`
export const newUsersKey = `${PREFIX}new-users`
export const rowKey = (date: string, model: string) => `${PREFIX}day:${date}:${model}`
export const onceKey = (id: string) => `${PREFIX}once:${id}`
export const erasedKey = (id: string) => `${PREFIX}erased:${id}`
export const sessionKey = (hash: string) => `${PREFIX}session:${hash}`
