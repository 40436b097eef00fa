/** The store on Redis: documents as JSON, changed by one script. */
import type { Redis } from '@upstash/redis'
import type { Command } from '../../ledger/commands.ts'
import type { AnswerOf, Settled } from '../../ledger/answers.ts'
import { hasMoreThanBlocks } from '../../ledger/blocks.ts'
import { newPast } from '../../ledger/new-documents.ts'
import type { Kind } from '../../ledger/shapes.ts'
import { ALL_MODELS, type PastDoc } from '../../ledger/documents.ts'
import type { Audit, Event, RefusalCounts, Refused } from '../../ledger/events.ts'
import { guard, guardInWords, list } from './call.ts'
import { commandRunner, type CommandOptions } from './commands.ts'
import { dayReader } from './days.ts'
import { documentReader, userIn, userKeys, usersIn } from './documents.ts'
import { tryWrites } from './probe.ts'
import {
  PREFIX,
  outboxKey,
  pastKey,
  profileKey,
  quotaKey,
  refusalsKey,
  refusedKey,
  sessionKey,
} from './keys.ts'
import { policyReader } from './policy.ts'
import { readLatest, readPage } from './user-index.ts'
import { alertsIn } from '../alerts.ts'
import { pageAfter, type GrowingList } from '../event-page.ts'
import { IDS_LOOKED_AT, StoreError, answerOf, type Failed, type Store } from '../store.ts'

/** Operators search the log for this text. */
export const CONNECTED = '✅ Redis client connected for token usage'

/** The part of a client that the store uses. Each call must have a deadline, and answers must not be converted. */
export type RedisCommands = Pick<
  Redis,
  'evalsha' | 'eval' | 'mget' | 'zrange' | 'lrange' | 'hgetall' | 'set' | 'get' | 'del'
>

export type RedisOptions = CommandOptions & {
  redis: RedisCommands
  /** Counts turns; without it, the store refuses to. */
  takeTurn?: Store['takeTurn'] | undefined
}

/** Builds the store. Its errors are `StoreError`s that contain no commands and no values. */
export function createRedisStore(options: RedisOptions): Store {
  const { redis } = options
  const { eventsKept } = options.retention
  const { run, runAll, runNone } = commandRunner(redis, options)
  const documents = documentReader(redis, options.warn)
  const readDays = dayReader(documents)
  const policy = policyReader(documents)

  const readTexts = (key: string, skip: number, count: number): Promise<string[]> =>
    list(() => redis.lrange<string>(key, skip, skip + count - 1))

  const parse = <T>(texts: string[], key: string): T[] =>
    texts.flatMap((text) => documents.parse<T>(text, key))

  /** The newest first. */
  async function readList<T>(key: string, count: number): Promise<T[]> {
    // For 0, the range would end at -1, which means all.
    return count < 1 ? [] : parse(await readTexts(key, 0, count), key)
  }

  /** The counts in a hash, whose fields and values the database lists alternately. */
  async function readCounts(key: string): Promise<RefusalCounts> {
    const flat = await list(async () => (await redis.hgetall(key)) as unknown as string[])
    const fields = Array.from({ length: flat.length / 2 }, (_, n) => [flat[2 * n], flat[2 * n + 1]])
    return Object.fromEntries(fields.map(([name, count]) => [name, Number(count)]))
  }

  const eventsKey = `${PREFIX}events`
  const events = (limit: number): Promise<Event[]> =>
    readList(eventsKey, Math.min(limit, eventsKept))

  const eventList: GrowingList<Event> = {
    most: eventsKept,
    async read(skip, count) {
      const texts = await readTexts(eventsKey, skip, count)
      return texts.map((text) => parse<Event>([text], eventsKey).find(({ id }) => id))
    },
    keyOf: ({ id }) => id,
  }

  return {
    execute: async <C extends Command>(command: C) => answerOf(await run(command)) as AnswerOf<C>,
    replay: async (entries) => (await runAll(entries)) as (Settled | Failed)[],
    takeTurn: options.takeTurn ?? noTurns,
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
    async alerts() {
      const docs = await documents.read(new Map([[outboxKey, 'outbox']]))
      return alertsIn(docs.get(outboxKey))
    },
    policy: policy.read,
    async searchLabels(prefix, limit) {
      const members = await list(() =>
        redis.zrange<string[]>(`${PREFIX}labels`, `[${prefix}`, `[${prefix}\u{10ffff}`, {
          byLex: true,
          offset: 0,
          count: limit,
        }),
      )
      const ids = [...new Set(members.map((member) => member.slice(member.lastIndexOf(' ') + 1)))]
      const docs = await documents.read<Kind>(new Map(ids.flatMap(userKeys)))
      return ids.flatMap((id) => userIn(docs, id) ?? [])
    },
    async searchIds(prefix, limit) {
      const ids = await readLatest(redis, IDS_LOOKED_AT)
      return ids.filter((id) => id.startsWith(prefix)).slice(0, limit)
    },
    async listProfiles(limit, from = '') {
      const ids = await list(() =>
        redis.zrange<string[]>(`${PREFIX}profiles`, `(${from}`, '+', {
          byLex: true,
          offset: 0,
          count: limit,
        }),
      )
      const docs = await documents.read(new Map(ids.map((id) => [profileKey(id), 'profile'])))
      const profiles = [...docs.values()].filter(hasMoreThanBlocks)
      const last = ids.at(-1)
      return ids.length === limit && last !== undefined ? { profiles, next: last } : { profiles }
    },
    async listUsers(query) {
      const { ids, next } = await readPage(redis, query)
      const docs = await documents.read<Kind>(new Map(ids.flatMap(userKeys)))
      const users = usersIn(docs, ids)
      return next ? { users, next } : { users }
    },
    async overview({ dates, users: query, events: limit }) {
      const [{ ids, next }, newest] = await Promise.all([readPage(redis, query), events(limit)])
      const others: [string, Kind][] = [
        [quotaKey(ALL_MODELS), 'quota'],
        ...policy.keys(),
        ...ids.flatMap(userKeys),
      ]
      const { days, docs, quotas } = await readDays(dates, others, true)
      const users = usersIn(docs, ids)
      const page = next ? { users, next } : { users }
      return { days, page, events: newest, quotas, policy: await policy.from(docs) }
    },
    async blockedUsers(limit) {
      const members = await list(() =>
        redis.zrange<string[]>(`${PREFIX}blocks`, 0, 4 * limit - 1, { rev: true }),
      )
      const ids = new Set(members.map((member) => member.split(' ', 1)[0] ?? ''))
      const keys = [...ids].slice(0, limit).map((id) => [profileKey(id), 'profile'] as const)
      return [...(await documents.read(new Map(keys))).values()]
    },
    async users(ids) {
      const docs = await documents.read<Kind>(new Map(ids.flatMap(userKeys)))
      return ids.flatMap((id) => userIn(docs, id) ?? [])
    },
    async pasts(ids) {
      const keys = ids.map((id) => [pastKey(id), 'past'] as const)
      return [...(await documents.read(new Map(keys))).values()]
    },
    async refusals(dates, limit) {
      const [latest, ...days] = await Promise.all([
        readList<Refused>(refusedKey, limit),
        ...dates.map((date) => readCounts(refusalsKey(date))),
      ])
      const counted = dates.map((date, n) => [date, days[n] ?? {}] as const)
      return { latest, days: Object.fromEntries(counted.filter(([, all]) => size(all) > 0)) }
    },
    days: async (dates) => (await readDays(dates, [], false)).days,
    events,
    async eventPage(limit, from) {
      const { items, ...rest } = await pageAfter(eventList, limit, from)
      return { events: items, ...rest }
    },
    async probe() {
      const evicts = await guardInWords(async () => {
        await runNone()
        return tryWrites(redis)
      })
      return evicts === undefined ? {} : { evicts }
    },
  }
}

const size = (counts: object): number => Object.keys(counts).length

const noTurns = () => Promise.reject(new StoreError('this store counts no turns'))
