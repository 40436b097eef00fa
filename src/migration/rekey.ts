/** Brings the predecessor's keys in the same database to our layout, each removed in the step that writes what it said. */
import type { Redis } from '@upstash/redis'
import { createHash } from 'node:crypto'
import type { Config } from '../config.ts'
import { storedIp } from '../middleware/caller.ts'
import { guard } from '../store/call.ts'
import type { Import, Replaced } from '../store/import.ts'
import type { Retention } from '../store/store.ts'
import { mergeUser, type UserParts } from '../usage/merge.ts'
import type { Ids } from '../usage/user-id.ts'
import { backOff } from './back-off.ts'
import { blockedUser, readOldBlock, readOldUser, splitBlocked } from './old-keys.ts'

export type RekeyOptions = {
  redis: Pick<Redis, 'scan'>
  target: Import
  ids: Ids
  ipStorage: Config['ipStorage']
  retention: Retention
  now(): number
}

export type RekeyReport = {
  users: number
  /** Keys of blocks, those that say `false` among them. */
  blocks: number
  /** What could not be read and is still there, without tokens: `user:ID`, `blocked:ID`. */
  unreadable: string[]
  /** Keys of model stats, which have no days and are left alone. */
  stats: number
}

/** Keys that are replaced at once. */
const BATCH = 100
/** Keys that the database looks at in one step of a scan. */
const SCANNED = 1000

/** What an old key says: something of a user, nothing that need be kept, or nothing that can be read. */
type Reading = { user?: UserParts } | { unreadable: string }

/** Re-keys users and blocks; a second run finds nothing to do. Throws `StoreError`. */
export async function rekey(options: RekeyOptions): Promise<RekeyReport> {
  const { redis, target, ids, ipStorage, retention, now } = options
  const unreadable: string[] = []

  /** The keys that begin so, once or more often. */
  async function* scan(prefix: string): AsyncGenerator<string[]> {
    let cursor = '0'
    do {
      const [next, keys] = await scanOnce(redis, cursor, `${prefix}*`)
      for (let from = 0; from < keys.length; from += BATCH) yield keys.slice(from, from + BATCH)
      cursor = next
    } while (cursor !== '0')
  }

  /**
   * Replaces keys as they are read, fewer at once where somebody is faster, again until nobody is; gives how many
   * there were.
   */
  async function replace(
    keys: string[],
    read: (key: string, text: string) => Promise<Reading>,
  ): Promise<number> {
    for (let misses = 1; ; misses += 1) {
      const texts = await target.read(keys)
      const users = new Map<string, UserParts>()
      const old: Replaced[] = []
      const failed: string[] = []
      for (const [index, key] of keys.entries()) {
        const text = texts[index]
        if (typeof text !== 'string') continue
        const reading = await read(key, text)
        if ('unreadable' in reading) {
          failed.push(reading.unreadable)
          continue
        }
        old.push({ key, sha: createHash('sha1').update(text).digest('hex') })
        const { user } = reading
        if (!user) continue
        const known = users.get(user.id)
        users.set(user.id, known ? mergeUser(known, user, { ...retention, now: now() }) : user)
      }
      if (old.length && !(await target.replace([...users.values()], old))) {
        await backOff(misses)
        if (keys.length === 1) continue
        const half = Math.ceil(keys.length / 2)
        return (await replace(keys.slice(0, half), read)) + (await replace(keys.slice(half), read))
      }
      unreadable.push(...failed)
      return old.length
    }
  }

  async function readUser(key: string, text: string): Promise<Reading> {
    const id = await ids.user(key.slice('user:'.length))
    const usage = readOldUser(id, text, now())
    if (!usage) return { unreadable: `user:${id}` }
    const { ip: address, ...rest } = usage
    const ip = storedIp(address, ipStorage)
    return { user: { id, usage: ip === undefined ? rest : { ...rest, ip } } }
  }

  const tokens = new Set<string>()
  for await (const keys of scan('user:')) {
    for (const key of keys) tokens.add(key.slice('user:'.length))
  }

  async function readBlock(key: string, text: string): Promise<Reading> {
    const rest = key.slice('blocked:'.length)
    const parts = splitBlocked(rest, (token) => tokens.has(token))
    const blocked = readOldBlock(text)
    // What is no token may hold one.
    const id = await ids.user(parts?.token ?? rest)
    if (!parts || blocked === undefined) return { unreadable: `blocked:${id}` }
    return blocked ? { user: blockedUser(id, parts.model, now()) } : {}
  }

  // Blocks first: which tokens there are is told by the keys of the users.
  let [blocks, users, stats] = [0, 0, 0]
  for await (const keys of scan('blocked:')) blocks += await replace(keys, readBlock)
  for await (const keys of scan('user:')) users += await replace(keys, readUser)
  for await (const keys of scan('model:stats:')) stats += keys.length
  return { users, blocks, unreadable: [...new Set(unreadable)], stats }
}

const scanOnce = (
  redis: Pick<Redis, 'scan'>,
  cursor: string,
  match: string,
): Promise<[string, string[]]> => guard(() => redis.scan(cursor, { match, count: SCANNED }))
