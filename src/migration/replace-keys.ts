/**
 * Replaces old keys by the documents of their users. The step that writes a key's data removes the key, if it has not
 * changed.
 */
import { createHash } from 'node:crypto'
import type { Retention } from '../ledger/advance.ts'
import { mergeUser, type UserParts } from '../ledger/merge.ts'
import type { Import, Replaced } from '../store/redis/import.ts'
import { backOff } from './back-off.ts'

export type ReplaceOptions = { target: Import; retention: Retention; now(): number }

/** The contents of an old key: data of a user, nothing to keep, or unreadable. */
export type Reading = { user?: UserParts } | { unreadable: string }

export type Read = (key: string, text: string) => Promise<Reading>

type ReplaceReport = { count: number; unreadable: string[] }

/** Reads and replaces keys. If other traffic changes a key first, tries again with fewer keys at once. */
export async function replaceKeys(
  keys: string[],
  read: Read,
  options: ReplaceOptions,
): Promise<ReplaceReport> {
  const { target } = options
  for (let misses = 1; ; misses += 1) {
    const { users, old, unreadable } = await readKeys(keys, read, options)
    if (old.length === 0 || (await target.replace(users, old))) {
      return { count: old.length, unreadable }
    }
    await backOff(misses)
    if (keys.length === 1) continue
    const half = Math.ceil(keys.length / 2)
    const first = await replaceKeys(keys.slice(0, half), read, options)
    const second = await replaceKeys(keys.slice(half), read, options)
    return {
      count: first.count + second.count,
      unreadable: [...first.unreadable, ...second.unreadable],
    }
  }
}

/** The data of the keys by user, and the keys that can be replaced. */
async function readKeys(keys: string[], read: Read, { target, retention, now }: ReplaceOptions) {
  const texts = await target.read(keys)
  const users = new Map<string, UserParts>()
  const old: Replaced[] = []
  const unreadable: string[] = []
  for (const [index, key] of keys.entries()) {
    const text = texts[index]
    if (typeof text !== 'string') continue
    const reading = await read(key, text)
    if ('unreadable' in reading) {
      unreadable.push(reading.unreadable)
      continue
    }
    old.push({ key, sha: createHash('sha1').update(text).digest('hex') })
    const { user } = reading
    if (!user) continue
    const known = users.get(user.id)
    users.set(user.id, known ? mergeUser(known, user, { ...retention, now: now() }) : user)
  }
  return { users: [...users.values()], old, unreadable }
}
