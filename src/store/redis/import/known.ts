/** The stored documents that an import changes, with digests that show later whether they have changed. */
import type { Redis } from '@upstash/redis'
import { createHash } from 'node:crypto'
import type { UserParts } from '../../../ledger/merge.ts'
import { guard } from '../call.ts'
import { erasedKey, pastKey, profileKey, usageKey } from '../keys.ts'
import { parse } from './documents.ts'

/** The current text of a key, if it exists. */
export type Seen = { key: string; sha: string; text: string | undefined }

/** The erasures of users: their keys, and whether a user was erased at or after a given time. */
export type KnownErased = { same: Seen[]; isErased(id: string, at: number): boolean }

/**
 * An imported user, and what the database has of that user: the time of erasure and each document. `there` contains
 * the readable documents.
 */
export type KnownUser = {
  comes: UserParts
  there: UserParts
  mark: Seen
  usage: Seen
  past: Seen
  profile: Seen
}

/** Reads when users were erased. */
export async function lookErased(redis: Pick<Redis, 'mget'>, ids: string[]): Promise<KnownErased> {
  const same = await look(redis, [...new Set(ids)].map(erasedKey))
  const marks = new Map(same.map((mark) => [mark.key, mark]))
  return { same, isErased: (id, at) => at <= erasedAt(marks.get(erasedKey(id))) }
}

/** The time of erasure in a mark; without a mark, a time before any other. */
export const erasedAt = (mark: Seen | undefined): number => Number(mark?.text ?? -1)

/** Reads these users in as few calls as possible, because live traffic changes them in the meantime. */
export async function lookUsers(
  redis: Pick<Redis, 'mget'>,
  users: UserParts[],
): Promise<KnownUser[]> {
  const keys = users.map(({ id }) => [erasedKey(id), usageKey(id), pastKey(id), profileKey(id)])
  const seen = await look(redis, keys.flat())
  return users.map((comes, index) => {
    const [mark, usage, past, profile] = seen.slice(4 * index) as [Seen, Seen, Seen, Seen]
    const there: UserParts = {
      id: comes.id,
      usage: parse('usage', usage.text),
      past: parse('past', past.text),
      profile: parse('profile', profile.text),
    }
    return { comes, there, mark, usage, past, profile }
  })
}

/** The texts of these keys, with their digests. */
export async function look(redis: Pick<Redis, 'mget'>, keys: string[]): Promise<Seen[]> {
  if (keys.length === 0) return []
  const texts = await guard(() => redis.mget<(string | null)[]>(...keys))
  return keys.map((key, index) => {
    const text = texts[index] ?? undefined
    return { key, sha: sha1(text ?? ''), text }
  })
}

const sha1 = (text: string): string => createHash('sha1').update(text).digest('hex')
