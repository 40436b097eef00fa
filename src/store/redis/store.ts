/** The store on Redis: documents as JSON, changed by one script. */
import type { Redis } from '@upstash/redis'
import type { AnswerOf, Command, Settled } from '../../ledger/commands.ts'
import { newPast } from '../../ledger/documents.ts'
import { ALL_MODELS, type Audit, type Event, type Kind, type PastDoc } from '../../ledger/shapes.ts'
import { guard, guardInWords, list } from './call.ts'
import { commandRunner, type CommandOptions } from './commands.ts'
import { dayReader } from './days.ts'
import { documentReader, userIn, userKeys, usersIn } from './documents.ts'
import { tryWrites } from './probe.ts'
import { PREFIX, pastKey, profileKey, quotaKey, sessionKey } from './keys.ts'
import { turnTaker } from './turns.ts'
import { readPage } from './user-index.ts'
import { answerOf, type Failed, type Store } from '../store.ts'

/** Operators search the log for this text. */
export const CONNECTED = '✅ Redis client connected for token usage'

/** The part of a client that the store uses. Each call must have a deadline, and answers must not be converted. */
export type RedisCommands = Pick<
  Redis,
  'evalsha' | 'eval' | 'mget' | 'zrange' | 'lrange' | 'set' | 'get' | 'del'
>

export type RedisOptions = CommandOptions & { redis: RedisCommands }

/** Builds the store. Its errors are `StoreError`s that contain no commands and no values. */
export function createRedisStore(options: RedisOptions): Store {
  const { redis } = options
  const { eventsKept } = options.retention
  const { run, runAll, runNone } = commandRunner(redis, options)
  const documents = documentReader(redis, options.warn)
  const readDays = dayReader(documents)

  /** The newest first, without the first `skip`. */
  async function readList<T>(key: string, count: number, skip = 0): Promise<T[]> {
    // For 0, the range would end at -1, which means all.
    if (count < 1) return []
    const texts = await list(() => redis.lrange<string>(key, skip, skip + count - 1))
    return texts.flatMap((text) => documents.parse<T>(text, key))
  }

  const events = (limit: number, skip = 0): Promise<Event[]> =>
    readList(`${PREFIX}events`, Math.min(limit, eventsKept - skip), skip)

  return {
    execute: async <C extends Command>(command: C) => answerOf(await run(command)) as AnswerOf<C>,
    replay: async (entries) => (await runAll(entries)) as (Settled | Failed)[],
    takeTurn: turnTaker(redis),
    async session(hash, now) {
      const until = await guard(() => redis.get<string>(sessionKey(hash)))
      return Number(until) > now
    },
    async user(id) {
      const docs = await documents.read<Kind>(new Map([...userKeys(id), [pastKey(id), 'past']]))
      const user = userIn(docs, id)
      const past = docs.get(pastKey(id)) as PastDoc | undefined
      return user && { ...user, past: past ?? newPast(id) }
    },
    audit: (limit) => readList<Audit>(`${PREFIX}audit`, limit),
    async listUsers(query) {
      const { ids, next } = await readPage(redis, query)
      const docs = await documents.read<Kind>(new Map(ids.flatMap(userKeys)))
      const users = usersIn(docs, ids)
      return next ? { users, next } : { users }
    },
    async overview({ dates, users: query, events: limit }) {
      const [{ ids, next }, newest] = await Promise.all([readPage(redis, query), events(limit)])
      const others: [string, Kind][] = [[quotaKey(ALL_MODELS), 'quota'], ...ids.flatMap(userKeys)]
      const { days, docs, quotas } = await readDays(dates, others, true)
      const users = usersIn(docs, ids)
      return { days, page: next ? { users, next } : { users }, events: newest, quotas }
    },
    async blockedUsers(limit) {
      const members = await list(() =>
        redis.zrange<string[]>(`${PREFIX}blocks`, 0, 4 * limit - 1, { rev: true }),
      )
      const ids = new Set(members.map((member) => member.split(' ', 1)[0] ?? ''))
      const keys = [...ids].slice(0, limit).map((id) => [profileKey(id), 'profile'] as const)
      return [...(await documents.read(new Map(keys))).values()]
    },
    days: async (dates) => (await readDays(dates, [], false)).days,
    events,
    async probe() {
      const evicts = await guardInWords(async () => {
        await runNone()
        return tryWrites(redis)
      })
      return evicts === undefined ? {} : { evicts }
    },
  }
}
