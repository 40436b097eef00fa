/** The keys of the layout in the database. */

/** Kept apart from whatever else is in the database; the number is the version of the layout. */
export const PREFIX = 'weir:1:'

/** A day's place in the scores of the index by tokens, as in the script. */
export const TOP_DAY = 1e10

/** A document that was set aside since it could not be read is kept for so long. */
export const DAMAGED_SECONDS = 30 * 86_400

export const userKey = (id: string) => `${PREFIX}user:${id}`
export const onceKey = (id: string) => `${PREFIX}once:${id}`
export const dayKey = (date: string) => `${PREFIX}day:${date}`
export const erasedKey = (id: string) => `${PREFIX}erased:${id}`
export const sessionKey = (hash: string) => `${PREFIX}session:${hash}`
