/** Reads documents from the database. A document that cannot be parsed is reported and left out. */
import type { Redis } from '@upstash/redis'
import { newProfile, newUsage } from '../../ledger/new-documents.ts'
import { NewerVersion, readDocument } from '../../ledger/reading.ts'
import type { Kind } from '../../ledger/shapes.ts'
import { list } from './call.ts'
import { profileKey, usageKey } from './keys.ts'
import type { User } from '../store.ts'

export type DocumentOf<K extends Kind> = NonNullable<ReturnType<typeof readDocument<K>>>

/** Documents by key. */
export type Found<K extends Kind = Kind> = Map<string, DocumentOf<K>>

export type DocumentReader = ReturnType<typeof documentReader>

/** Builds the reader of documents. `warn` is called for documents that cannot be parsed. */
export function documentReader(
  redis: Pick<Redis, 'mget'>,
  warn: (event: string, fields: Record<string, unknown>) => void,
) {
  /** The value of a text in a list, or an empty list: a damaged text must not hide the others. */
  function parse<T>(text: string, key: string): T[] {
    try {
      const value: unknown = JSON.parse(text)
      if (typeof value === 'object' && value !== null) return [value as T]
    } catch {
      // Reported below like any other unreadable document.
    }
    warn('store.unreadable', { key })
    return []
  }

  /** The documents under these keys, without missing and unreadable ones. */
  async function read<K extends Kind>(keys: Map<string, K>): Promise<Found<K>> {
    const found: Found<K> = new Map()
    if (keys.size === 0) return found
    const texts = await list(() => redis.mget<(string | null)[]>(...keys.keys()))
    for (const [index, [key, kind]] of [...keys].entries()) {
      const text = texts[index] ?? null
      if (text === null) continue
      for (const value of parse<object>(text, key)) {
        const doc = readAny(kind, value)
        if (doc) found.set(key, doc)
        else warn('store.unreadable', { key })
      }
    }
    return found
  }

  return { parse, read }
}

/** For display, the known fields of a newer document are better than nothing. */
function readAny<K extends Kind>(kind: K, value: object): DocumentOf<K> | undefined {
  try {
    return readDocument(kind, value)
  } catch (error) {
    if (!(error instanceof NewerVersion)) throw error
    return readDocument(kind, { ...value, v: 0 })
  }
}

/** The keys of a user's documents, without the past days. */
export const userKeys = (id: string): [string, Kind][] => [
  [usageKey(id), 'usage'],
  [profileKey(id), 'profile'],
]

/** A user, or undefined if no document was found. */
export function userIn(docs: Found, id: string): User | undefined {
  const usage = docs.get(usageKey(id)) as User['usage'] | undefined
  const profile = docs.get(profileKey(id)) as User['profile'] | undefined
  if (!usage && !profile) return undefined
  return { usage: usage ?? newUsage(id, 0), profile: profile ?? newProfile(id) }
}

/** The users of a page. An expired user may still be in the index. */
export const usersIn = (docs: Found, ids: string[]): User[] =>
  ids.flatMap((id) => (docs.has(usageKey(id)) ? (userIn(docs, id) ?? []) : []))
