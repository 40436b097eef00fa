/** The reads of the local store. */
import { activityOf } from '../../ledger/activity.ts'
import { endOfBlocks, hasMoreThanBlocks } from '../../ledger/blocks.ts'
import { newPast, newProfile, newUsage } from '../../ledger/new-documents.ts'
import { wordsOf } from '../../ledger/labels.ts'
import {
  ALL_MODELS,
  type DayDoc,
  type ProfileDoc,
  type QuotaDoc,
  type UsageDoc,
} from '../../ledger/documents.ts'
import type { Policy } from '../../ledger/plans.ts'
import { dateOf } from '../../ledger/windows.ts'
import {
  IDS_LOOKED_AT,
  type ProfilePage,
  type Refusals,
  type User,
  type UserPage,
  type UserQuery,
  type WholeUser,
} from '../store.ts'
import type { Records } from './state.ts'

/** The requested days, without days that are not stored. */
export const daysOf = ({ days }: Records, dates: string[]): DayDoc[] =>
  dates.flatMap((date) => days.get(date) ?? [])

/** Everyone's counters for the models of the current day, if it is one of these, and for all models together. */
export function quotasOf({ quotas }: Records, days: DayDoc[]): Record<string, QuotaDoc> {
  const today = dateOf(quotas.get(ALL_MODELS)?.at ?? 0)
  const day = days.find(({ date }) => date === today)
  const scopes = [ALL_MODELS, ...Object.keys(day?.models ?? {})]
  return Object.fromEntries(
    scopes.flatMap((scope) => {
      const quota = quotas.get(scope)
      return quota ? [[scope, quota] as const] : []
    }),
  )
}

/** The latest refusals, newest first, and the counts of some days. */
export const refusalsOf = (
  { refused, refusals }: Records,
  dates: string[],
  limit: number,
): Refusals => ({
  latest: limit > 0 ? refused.slice(-limit).reverse() : [],
  days: Object.fromEntries(
    dates.flatMap((date) => {
      const counts = refusals.get(date)
      return counts ? [[date, counts]] : []
    }),
  ),
})

/** The plans and the settings. */
export const policyOf = ({ plans, settings }: Records): Policy => ({
  ...(settings && { settings }),
  plans: Object.fromEntries(plans),
})

/** A user, or undefined if nothing is stored about them. */
export function wholeUserOf(records: Records, id: string): WholeUser | undefined {
  if (!records.usage.has(id) && !records.profiles.has(id)) return undefined
  return { ...userOf(records, id), past: records.past.get(id) ?? newPast(id) }
}

/** These users, without those about whom nothing is stored. */
export const usersOf = (records: Records, ids: string[]): User[] =>
  ids
    .filter((id) => records.usage.has(id) || records.profiles.has(id))
    .map((id) => userOf(records, id))

const userOf = ({ usage, profiles }: Records, id: string): User => ({
  usage: usage.get(id) ?? newUsage(id, 0),
  profile: profiles.get(id) ?? newProfile(id),
})

/** A page of the users. */
export function pageOfUsers(records: Records, query: UserQuery): UserPage {
  const { sort, ascending, from, limit, now } = query
  const today = dateOf(now)
  const sign = ascending ? 1 : -1
  const compare = (a: Place, b: Place) =>
    sign * (a.score - b.score || (a.id < b.id ? -1 : Number(a.id > b.id)))
  const after = from && 'id' in from ? from : undefined
  const skipped = from && 'offset' in from ? from.offset : 0
  const listable = function* () {
    for (const doc of records.usage.values()) {
      const score = sort === 'tokens' ? tokensOn(doc, today) : activityOf(doc)
      const place = { id: doc.id, score }
      if (score > 0 && !(after && compare(place, after) <= 0)) yield place
    }
  }
  const first = firstOf(listable(), skipped + limit + 1, compare)
  const listed = first.slice(skipped, skipped + limit)
  const last = listed.at(-1)
  const page: UserPage = { users: listed.map(({ id }) => userOf(records, id)) }
  if (!last || first.length <= skipped + limit) return page
  const { score, id } = last
  return { ...page, next: sort === 'tokens' ? { offset: skipped + limit } : { score, id } }
}

type Place = { score: number; id: string }

/** A user's tokens on a day, as the index has them. */
const tokensOn = ({ indexed }: UsageDoc, date: string): number =>
  dateOf(indexed.at) === date ? indexed.tokens : 0

/** Users with a word in their label that begins with a prefix, in the order in which Redis has them. */
export function usersByLabel(records: Records, prefix: string, limit: number): User[] {
  const ids = new Set([...records.profiles.keys(), ...records.usage.keys()])
  const found = [...ids].flatMap((id) => {
    const words = wordsOf(userOf(records, id)).filter((word) => word.startsWith(prefix))
    return words.map((word) => ({ place: `${word} ${id}`, id }))
  })
  const first = firstOf(found, limit, (a, b) => (a.place < b.place ? -1 : 1))
  return [...new Set(first.map(({ id }) => id))].map((id) => userOf(records, id))
}

/** The ids that begin with a text, of the users who were active last. */
export function idsFrom({ usage }: Records, prefix: string, limit: number): string[] {
  const places = [...usage.values()].map((doc) => ({ id: doc.id, score: activityOf(doc) }))
  return firstOf(places, IDS_LOOKED_AT, (a, b) => b.score - a.score)
    .map(({ id }) => id)
    .filter((id) => id.startsWith(prefix))
    .slice(0, limit)
}

/** A page of the profiles with more than blocks. */
export function pageOfProfiles({ profiles }: Records, limit: number, from = ''): ProfilePage {
  const after = [...profiles.values()].filter((one) => one.id > from && hasMoreThanBlocks(one))
  const page = firstOf(after, limit + 1, (a, b) => (a.id < b.id ? -1 : 1))
  const listed = page.slice(0, limit)
  const last = listed.at(-1)
  return page.length > limit && last ? { profiles: listed, next: last.id } : { profiles: listed }
}

/** Users with a block, the longest-lasting first. */
export const blockedUsersOf = ({ profiles }: Records, limit: number): ProfileDoc[] =>
  firstOf([...profiles.values()].filter(hasBlock), limit, (a, b) => endOfBlocks(b) - endOfBlocks(a))

const hasBlock = ({ blocks }: ProfileDoc): boolean => Object.keys(blocks).length > 0

/** The first `count` items in order. It does not sort items that cannot be among them. */
function firstOf<T>(items: Iterable<T>, count: number, compare: (a: T, b: T) => number): T[] {
  let first: T[] = []
  const cut = () => (first = first.sort(compare).slice(0, count))
  for (const item of items) if (first.push(item) > 2 * count + 1000) cut()
  return cut()
}
