/** The store on Redis: documents as JSON, changed by one script. */
import { Ratelimit } from '@upstash/ratelimit'
import type { Redis } from '@upstash/redis'
import type { Answer, Audit, Command, DayDoc, Event, Settled, UserDoc } from '../usage/record.ts'
import { DAY_MS, dateOf } from '../usage/record.ts'
import { gather } from './batch.ts'
import { guard, scriptOf } from './call.ts'
import { PREFIX, TOP_DAY, dayKey, erasedKey, onceKey, sessionKey, userKey } from './keys.ts'
import {
  CommandError,
  REPLAY_BATCH,
  StoreError,
  type Cursor,
  type Failed,
  type Retention,
  type Store,
  type UserQuery,
} from './store.ts'

/** What operators look for in the log. */
export const CONNECTED = '✅ Redis client connected for token usage'

/** Most commands of one script call, so that none holds the database for long. */
const BATCH = REPLAY_BATCH

/** So many refused are remembered. */
const REFUSED = 1000

/** How long ended requests wait for others to settle with; nobody waits for a settlement. */
const SETTLE_GATHER_MS = 25

/** What is needed of a client: that each call ends in time, and that answers come as they are. */
export type RedisCommands = Pick<
  Redis,
  'evalsha' | 'eval' | 'mget' | 'zrange' | 'lrange' | 'set' | 'get' | 'del'
>

export type RedisOptions = {
  redis: RedisCommands
  retention: Retention
  /** The script of the ledger: of `redis/script-files.ts` on Node, of `redis/script-inlined.ts` on the edge. */
  script: string
  /** Whether commands of different requests may share a call; only where the runtime allows it. */
  batch: boolean
  warn(event: string, fields: Record<string, unknown>): void
}

type Reply = { answers: (Answer | Failed)[]; damaged?: string[] }

/** Builds the store. Its errors are `StoreError`s without commands or values. */
export function createRedisStore(options: RedisOptions): Store {
  const { redis, warn } = options
  const { userDays, historyDays, eventsKept } = options.retention
  /** Field by field: whatever else were in it would be sent along. */
  const keep = { userDays, historyDays, eventsKept }

  const ledger = scriptOf(options.script)
  const limiters = new Map<number, Ratelimit>()
  /** Who has no turn left, so that asking again costs nothing; the limiter itself never forgets one. */
  const refused = new Map<string, number>()

  async function run(commands: Command[]): Promise<(Answer | Failed)[]> {
    const keys = new Set<string>()
    for (const command of commands) {
      if (command.op === 'clear') keys.add(dayKey(dateOf(command.now)))
      if ('user' in command) keys.add(userKey(command.user))
      if (command.op === 'admit' && command.global) keys.add(dayKey(dateOf(command.now)))
      if (command.op === 'settle' || command.op === 'enter') {
        keys.add(dayKey(dateOf(command.event.at)))
      }
      if (command.op === 'admit') keys.add(onceKey(command.id))
      if (command.op === 'enter') keys.add(onceKey(command.event.id)).add(erasedKey(command.user))
      if ('session' in command) keys.add(sessionKey(command.session))
      if (command.op === 'note') keys.add(`${PREFIX}audit`)
    }
    const args = [{ prefix: PREFIX, keep }, ...commands].map((arg) => JSON.stringify(arg))
    const { answers, damaged } = await guard(async () => {
      const reply = JSON.parse(await ledger<string>(redis, [...keys], args)) as Reply | null
      if (reply?.answers?.length !== commands.length) throw new Error('not an answer of the script')
      return reply
    })
    if (damaged) warn('store.damaged', { keys: damaged, setAside: `${PREFIX}damaged:` })
    return answers
  }

  const alone = async (command: Command) => (await run([command]))[0]
  const together = (schedule: (go: () => void) => void) =>
    options.batch ? gather({ schedule, size: BATCH, run }) : alone
  const soon = together((go) => setImmediate(go))
  const later = together((go) => setTimeout(go, SETTLE_GATHER_MS))

  async function one<A extends Answer>(
    send: (command: Command) => Promise<Answer | Failed | undefined>,
    command: Command,
  ): Promise<A> {
    const answer = await send(command)
    if (!answer || 'error' in answer) throw new CommandError('the script could not run the command')
    return answer as A
  }

  /** Documents by key, those that are missing or unreadable left out. */
  async function read<T extends { v: 1 }>(keys: string[]): Promise<T[]> {
    if (keys.length === 0) return []
    const texts = await list(() => redis.mget<(string | null)[]>(...keys))
    return texts.flatMap((text, index) => (text === null ? [] : parse<T>(text, keys[index])))
  }

  /** What a text stands for, or nothing: one that is damaged must not hide the others. */
  function parse<T>(text: string, key: string | undefined, isWhole = isVersioned): T[] {
    try {
      const value: unknown = JSON.parse(text)
      if (isWhole(value)) return [value as T]
    } catch {
      // Reported below like any other unreadable document.
    }
    warn('store.unreadable', { key })
    return []
  }

  /** Where the users of a page stand in an index, and where the page after them begins. */
  async function places({ sort, ascending = false, from, limit, now }: UserQuery): Promise<Places> {
    if (limit < 1) return { ids: [] }
    const today = Math.floor(now / DAY_MS) * TOP_DAY
    const range =
      sort === 'tokens'
        ? { index: 'top', least: today + 1, most: today + TOP_DAY - 1 }
        : { index: 'users', least: 0, most: '+inf' as const }
    const offset = from && 'offset' in from ? from.offset : 0
    const after = from && 'id' in from ? from : undefined
    const start = after?.score ?? (ascending ? range.least : range.most)
    const end = ascending ? range.most : range.least

    const beyond = async (count: number): Promise<Place[]> => {
      const flat = await list(() =>
        redis.zrange<string[]>(`${PREFIX}${range.index}`, start, end, {
          byScore: true,
          rev: !ascending,
          offset,
          count,
          withScores: true,
        }),
      )
      const pairs = Array.from({ length: flat.length / 2 }, (_, n) => ({
        id: String(flat[2 * n]),
        score: Number(flat[2 * n + 1]),
      }))
      const rest = pairs.filter(
        ({ id, score }) => score !== after?.score || (ascending ? id > after.id : id < after.id),
      )
      // Those with the cursor's own score come again, the whole page of them if they are many.
      return rest.length <= limit && pairs.length === count ? beyond(2 * count) : rest
    }
    const found = await beyond(limit + 2)
    const ids = found.slice(0, limit).map(({ id }) => id)
    const last = found[limit - 1]
    if (!last || found.length <= limit) return { ids }
    return { ids, next: sort === 'tokens' ? { offset: offset + limit } : last }
  }

  async function events(limit: number, skip = 0): Promise<Event[]> {
    const count = Math.min(limit, eventsKept - skip)
    if (count < 1) return []
    const texts = await list(() => redis.lrange<string>(`${PREFIX}events`, skip, skip + count - 1))
    return texts.flatMap((text) => parse<Event>(text, `${PREFIX}events`))
  }

  return {
    admit: (command) => one(soon, command),
    settle: (command) => one(later, command),
    async replay(entries) {
      return (await run(entries)) as (Settled | Failed)[]
    },
    setBlock: (command) => one(alone, command),
    clear: (command) => one(alone, command),
    async takeTurn(key, perMinute) {
      if (refused.size > REFUSED) refused.clear()
      let limiter = limiters.get(perMinute)
      if (!limiter) {
        limiter = new Ratelimit({
          redis,
          limiter: Ratelimit.fixedWindow(perMinute, '1 m'),
          prefix: `${PREFIX}turns`,
          // The client gives up by itself, and that is no turn.
          timeout: 0,
          ephemeralCache: refused,
        })
        limiters.set(perMinute, limiter)
      }
      const turn = limiter
      const { success, reset } = await guard(() => turn.limit(key))
      return { taken: success, resetAt: reset }
    },
    report: (command) => one(alone, command),
    erase: (command) => one(alone, command),
    login: (command) => one(alone, command),
    logout: (command) => one(alone, command),
    note: (command) => one(alone, command),
    async session(hash, now) {
      const until = await guard(() => redis.get<string>(sessionKey(hash)))
      return Number(until) > now
    },
    user: async (id) => (await read<UserDoc>([userKey(id)]))[0],
    async audit(limit) {
      const texts = await list(() => redis.lrange<string>(`${PREFIX}audit`, 0, limit - 1))
      // A limit of none would be read as all.
      return texts.slice(0, limit).flatMap((text) => parse<Audit>(text, `${PREFIX}audit`, isAudit))
    },
    async listUsers(query) {
      const { ids, next } = await places(query)
      const users = await read<UserDoc>(ids.map(userKey))
      return next ? { users, next } : { users }
    },
    async overview({ dates, users, events: limit }) {
      const [{ ids, next }, newest] = await Promise.all([places(users), events(limit)])
      const docs = await read<DayDoc | UserDoc>([...dates.map(dayKey), ...ids.map(userKey)])
      const days = docs.filter((doc) => 'total' in doc)
      const page = { users: docs.filter((doc) => 'leases' in doc) }
      return { days, page: next ? { ...page, next } : page, events: newest }
    },
    async blockedUsers(limit) {
      const members = await list(() =>
        redis.zrange<string[]>(`${PREFIX}blocks`, 0, 4 * limit - 1, { rev: true }),
      )
      const ids = new Set(members.map((member) => member.split(' ', 1)[0] ?? ''))
      return read<UserDoc>([...ids].slice(0, limit).map(userKey))
    },
    days: (dates) => read<DayDoc>(dates.map(dayKey)),
    events,
    async probe() {
      const key = `${PREFIX}probe:${crypto.randomUUID()}`
      const found = await guard(async () => {
        await redis.set(key, 'here', { ex: 60 })
        const value = await redis.get<string>(key)
        await redis.del(key)
        return value
      })
      if (found !== 'here')
        throw new StoreError('the database does not give back what it was given')
    },
  }
}

const isVersioned = (value: unknown) => (value as { v?: unknown } | null)?.v === 1
const isAudit = (value: unknown) => (value as Partial<Audit> | null)?.action !== undefined

type Place = { id: string; score: number }
type Places = { ids: string[]; next?: Cursor }

/** A guarded call whose answer is a list. */
const list = <T>(call: () => Promise<T[]>): Promise<T[]> =>
  guard(async () => {
    const items = await call()
    if (!Array.isArray(items)) throw new Error('not a list')
    return items
  })
