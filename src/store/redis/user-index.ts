/** The index of users. Each user has two places: one by last activity, and one by the tokens of the last active day. */
import type { Redis } from '@upstash/redis'
import { activityOf } from '../../ledger/activity.ts'
import type { UsageDoc } from '../../ledger/documents.ts'
import { DAY_MS } from '../../ledger/windows.ts'
import { list } from './call.ts'
import { PREFIX, TOP_DAY } from './keys.ts'
import type { Cursor, UserQuery } from '../store.ts'

export const USER_INDEX = `${PREFIX}users`

type Place = { id: string; score: number }

/** The users of a page, in order, and where the next page begins. */
type PageOfIds = { ids: string[]; next?: Cursor }

/** A user's places, as the ledger script writes them: scores and members, alternating. */
export function placesOf(usage: UsageDoc): string[] {
  const { id, indexed } = usage
  if (indexed.at === 0) return []
  const places = [String(activityOf(usage)), `a:${id}`]
  if (indexed.tokens <= 0) return places
  const score = topOf(indexed.at) + Math.min(indexed.tokens, TOP_DAY - 1)
  return [...places, String(score), `t:${id}`]
}

/** Reads the user ids of a page. */
export async function readPage(redis: Pick<Redis, 'zrange'>, query: UserQuery): Promise<PageOfIds> {
  const { sort, ascending = false, from, limit } = query
  if (limit < 1) return { ids: [] }
  const offset = from && 'offset' in from ? from.offset : 0
  const after = from && 'id' in from ? from : undefined
  const { least, most } = scoresOf(query)
  const start = after?.score ?? (ascending ? least : most)
  const end = ascending ? most : least

  const beyond = async (count: number): Promise<Place[]> => {
    const flat = await list(() =>
      redis.zrange<string[]>(USER_INDEX, start, end, {
        byScore: true,
        rev: !ascending,
        offset,
        count,
        withScores: true,
      }),
    )
    const places = placesIn(flat)
    const rest = places.filter(
      ({ id, score }) => score !== after?.score || (ascending ? id > after.id : id < after.id),
    )
    // Users with the cursor's own score are read again. If they fill the whole page, it is read with twice the count.
    return rest.length <= limit && places.length === count ? beyond(2 * count) : rest
  }
  const found = await beyond(limit + 2)
  const ids = found.slice(0, limit).map(({ id }) => id)
  const last = found[limit - 1]
  if (!last || found.length <= limit) return { ids }
  return { ids, next: sort === 'tokens' ? { offset: offset + limit } : last }
}

/** The ids of the users who were active last, the latest first. */
export async function readLatest(redis: Pick<Redis, 'zrange'>, count: number): Promise<string[]> {
  const members = await list(() =>
    redis.zrange<string[]>(USER_INDEX, TOP_DAY - 1, 0, {
      byScore: true,
      rev: true,
      offset: 0,
      count,
    }),
  )
  return members.map((member) => member.slice(2))
}

/** The score of 0 tokens on the day of `at`. */
const topOf = (at: number): number => Math.floor(at / DAY_MS) * TOP_DAY

/** The range of scores of an order. */
function scoresOf({ sort, now }: UserQuery): { least: number; most: number } {
  if (sort === 'lastActive') return { least: 0, most: TOP_DAY - 1 }
  const today = topOf(now)
  return { least: today + 1, most: today + TOP_DAY - 1 }
}

/** The database lists members and scores alternately. */
const placesIn = (flat: string[]): Place[] =>
  Array.from({ length: flat.length / 2 }, (_, n) => ({
    // A member begins with the letter of its order and a separator.
    id: String(flat[2 * n]).slice(2),
    score: Number(flat[2 * n + 1]),
  }))
