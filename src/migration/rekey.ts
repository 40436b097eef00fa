/**
 * Converts the predecessor's keys in the same database to Weir's layout. The step that writes a key's data also
 * removes the key.
 */
import type { Redis } from '@upstash/redis'
import type { Config } from '../config/config.ts'
import { storedIp } from '../identity/caller.ts'
import { guard } from '../store/redis/call.ts'
import type { Ids } from '../identity/ids.ts'
import { blockedUser, readOldBlock, readOldUser, splitBlocked } from './old-keys.ts'
import { replaceKeys, type Read, type Reading, type ReplaceOptions } from './replace-keys.ts'

export type RekeyOptions = ReplaceOptions & {
  redis: Pick<Redis, 'scan'>
  ids: Ids
  ipStorage: Config['ipStorage']
}

export type RekeyReport = {
  users: number
  /** Keys of blocks, including those with the value `false`. */
  blocks: number
  /** Keys that could not be read and were not removed, with ids in place of tokens: `user:ID`, `blocked:ID`. */
  unreadable: string[]
  /** Keys of model stats. They have no dates, so they are ignored. */
  stats: number
}

const USER = 'user:'
const BLOCKED = 'blocked:'
const STATS = 'model:stats:'

/** Keys that one step replaces. */
const BATCH = 100
/** Keys that one SCAN call examines. */
const SCANNED = 1000

/** Converts the keys of users and blocks. A second run finds nothing to do. Throws `StoreError`. */
export async function rekey(options: RekeyOptions): Promise<RekeyReport> {
  const { redis } = options
  const tokens = new Set<string>()
  for await (const keys of scan(redis, USER)) {
    for (const key of keys) tokens.add(key.slice(USER.length))
  }

  const unreadable = new Set<string>()
  /** Replaces the keys with this prefix, and returns their number. */
  async function replaceAll(prefix: string, read: Read): Promise<number> {
    let count = 0
    for await (const keys of scan(redis, prefix)) {
      const replaced = await replaceKeys(keys, read, options)
      for (const name of replaced.unreadable) unreadable.add(name)
      count += replaced.count
    }
    return count
  }

  // Blocks first, because their tokens are recognized by the keys of users.
  const blocks = await replaceAll(BLOCKED, (key, text) => readBlock(key, text, tokens, options))
  const users = await replaceAll(USER, (key, text) => readUser(key, text, options))
  let stats = 0
  for await (const keys of scan(redis, STATS)) stats += keys.length
  return { users, blocks, unreadable: [...unreadable], stats }
}

async function readUser(
  key: string,
  text: string,
  { ids, ipStorage, now }: RekeyOptions,
): Promise<Reading> {
  const id = await ids.user(key.slice(USER.length))
  const usage = readOldUser(id, text, now())
  if (!usage) return { unreadable: `user:${id}` }
  const { ip: address, ...rest } = usage
  const ip = storedIp(address, ipStorage)
  return { user: { id, usage: ip === undefined ? rest : { ...rest, ip } } }
}

async function readBlock(
  key: string,
  text: string,
  tokens: Set<string>,
  { ids, now }: RekeyOptions,
): Promise<Reading> {
  const rest = key.slice(BLOCKED.length)
  const parts = splitBlocked(rest, (token) => tokens.has(token))
  const blocked = readOldBlock(text)
  // An unreadable key may contain a token, so the report shows its hash.
  const id = await ids.user(parts?.token ?? rest)
  if (!parts || blocked === undefined) return { unreadable: `blocked:${id}` }
  return blocked ? { user: blockedUser(id, parts.model, now()) } : {}
}

/** The keys with this prefix. A key may appear more than once. */
async function* scan(redis: RekeyOptions['redis'], prefix: string): AsyncGenerator<string[]> {
  let cursor = '0'
  do {
    const [next, keys] = await scanOnce(redis, cursor, `${prefix}*`)
    for (let from = 0; from < keys.length; from += BATCH) yield keys.slice(from, from + BATCH)
    cursor = next
  } while (cursor !== '0')
}

const scanOnce = (
  redis: Pick<Redis, 'scan'>,
  cursor: string,
  match: string,
): Promise<[string, string[]]> => guard(() => redis.scan(cursor, { match, count: SCANNED }))
