/** The store on Redis: documents as JSON, changed by one script. */
import { Ratelimit } from '@upstash/ratelimit'
import type { Redis } from '@upstash/redis'
import type { Answer, AnswerOf, Command, Settled } from '../ledger/commands.ts'
import { newPast, newProfile, newUsage } from '../ledger/documents.ts'
import { CLOCK_TOLERANCE_MS } from '../ledger/rules.ts'
import {
  ALL_MODELS,
  NewerVersion,
  readDocument,
  type Audit,
  type DayDoc,
  type Event,
  type Kind,
  type QuotaDoc,
} from '../ledger/shapes.ts'
import { DAY_MS, dateOf } from '../ledger/windows.ts'
import { gather } from './batch.ts'
import { guard, scriptOf } from './call.ts'
import {
  PREFIX,
  TOP_DAY,
  dayKey,
  erasedKey,
  modelsKey,
  onceKey,
  pastKey,
  profileKey,
  quotaKey,
  rowKey,
  sessionKey,
  usageKey,
} from './keys.ts'
import {
  REPLAY_BATCH,
  StoreError,
  answerOf,
  type Cursor,
  type Failed,
  type Retention,
  type Store,
  type User,
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
  /** Milliseconds that a command may be ahead of the ledger's clock before the database is asked for the time. */
  tolerance?: number
  /** Whether commands of different requests may share a call; only where the runtime allows it. */
  batch: boolean
  warn(event: string, fields: Record<string, unknown>): void
}

type Reply = { answers: (Answer | Failed)[]; damaged?: string[] }

/** The keys that a command is known to touch. */
function keysOf(command: Command): string[] {
  const keys = [quotaKey(ALL_MODELS)]
  if (command.op === 'clear') return [...keys, dayKey(dateOf(command.now))]
  if (!('user' in command)) return keys
  const { user } = command
  if (command.op === 'block' || command.op === 'erase') return [...keys, profileKey(user)]
  keys.push(usageKey(user))
  if (command.op === 'report') return [...keys, profileKey(user)]
  if (command.op === 'admit') {
    const { model, id } = command
    return [...keys, profileKey(user), quotaKey(model), onceKey(id)]
  }
  const { id, model, at } = command.event
  const date = dateOf(at)
  keys.push(quotaKey(model), dayKey(date), rowKey(date, model))
  return command.op === 'enter' ? [...keys, onceKey(id), erasedKey(user)] : keys
}

/** Builds the store. Its errors are `StoreError`s without commands or values. */
export function createRedisStore(options: RedisOptions): Store {
  const { redis, warn, tolerance = CLOCK_TOLERANCE_MS } = options
  const { userDays, historyDays, eventsKept } = options.retention
  /** Field by field: whatever else were in it would be sent along. Without a tolerance, which JSON could not tell, there is no end to it. */
  const head = JSON.stringify({
    keep: { userDays, historyDays, eventsKept },
    ...(Number.isFinite(tolerance) && { tolerance }),
  })

  const ledger = scriptOf(options.script)
  const limiters = new Map<number, Ratelimit>()
  /** Who has no turn left, so that asking again costs nothing; the limiter itself never forgets one. */
  const refused = new Map<string, number>()

  async function run(commands: Command[]): Promise<(Answer | Failed)[]> {
    const keys = new Set(commands.flatMap(keysOf))
    const args = [head, ...commands.map((command) => JSON.stringify(command))]
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
  /** How a command is sent; nobody waits for a settlement, and what admins do is rare. */
  const senders: Partial<Record<Command['op'], typeof alone>> = { admit: soon, settle: later }

  /** What is stored under keys, those that are missing or unreadable left out. */
  async function read<K extends Kind>(keys: Map<string, K>): Promise<Map<string, DocumentOf<K>>> {
    const found = new Map<string, DocumentOf<K>>()
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

  /** What a text stands for, or nothing: one that is damaged must not hide the others. */
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

  const userKeys = (id: string): [string, Kind][] => [
    [usageKey(id), 'usage'],
    [profileKey(id), 'profile'],
  ]

  function userIn(docs: Map<string, DocumentOf<Kind>>, id: string): User | undefined {
    const usage = docs.get(usageKey(id)) as User['usage'] | undefined
    const profile = docs.get(profileKey(id)) as User['profile'] | undefined
    if (!usage && !profile) return undefined
    return { usage: usage ?? newUsage(id, 0), profile: profile ?? newProfile(id) }
  }

  /** Those of a page; one that has aged may still be in the index. */
  const usersIn = (docs: Map<string, DocumentOf<Kind>>, ids: string[]): User[] =>
    ids.flatMap((id) => (docs.has(usageKey(id)) ? (userIn(docs, id) ?? []) : []))

  /** Models of the day that is going on, as they were when a day was last read: mostly they need no second call. */
  let known: { date: string; models: string[] } = { date: '', models: [] }

  /** Days with the rows of the one that is going on, other documents, and everyone's counters of that day's models. */
  async function readDays(dates: string[], others: [string, Kind][], withQuotas: boolean) {
    const ofModel = (date: string, model: string): [string, Kind][] => [
      [rowKey(date, model), 'row'],
      ...(withQuotas ? [[quotaKey(model), 'quota'] satisfies [string, Kind]] : []),
    ]
    // Only the day that is going on has these, and mostly it is one of the latest two.
    const latest = dates.toSorted().slice(-2)
    const guess = dates.includes(known.date) ? known : { date: '', models: [] }
    const docs = await read<Kind>(
      new Map([
        ...dates.map((date): [string, Kind] => [dayKey(date), 'day']),
        ...latest.map((date): [string, Kind] => [modelsKey(date), 'models']),
        ...guess.models.flatMap((model) => ofModel(guess.date, model)),
        ...others,
      ]),
    )
    const found = dates.flatMap((date) => (docs.get(dayKey(date)) as StoredDay | undefined) ?? [])
    const open = found.filter((day) => day.open)
    const unnamed = open.filter(({ date }) => !latest.includes(date))
    const named = new Map(unnamed.map(({ date }) => [modelsKey(date), 'models' as const]))
    for (const [key, doc] of await read(named)) docs.set(key, doc)
    const namesOf = (date: string) =>
      Object.keys((docs.get(modelsKey(date)) as DocumentOf<'models'> | undefined)?.models ?? {})
    const missing = open.flatMap(({ date }) =>
      namesOf(date)
        .filter((model) => date !== guess.date || !guess.models.includes(model))
        .flatMap((model) => ofModel(date, model)),
    )
    for (const [key, doc] of await read<Kind>(new Map(missing))) docs.set(key, doc)
    const current = open.toSorted((a, b) => (a.date < b.date ? 1 : -1))[0]
    if (current) known = { date: current.date, models: namesOf(current.date) }
    const days = found.map(({ open, ...day }): DayDoc => {
      if (!open) return day
      const rows = namesOf(day.date).flatMap((model) => {
        const row = docs.get(rowKey(day.date, model)) as DocumentOf<'row'> | undefined
        return row ? [[model, withoutVersion(row)] as const] : []
      })
      return { ...day, models: Object.fromEntries(rows) }
    })
    const quotas = [ALL_MODELS, ...(current ? known.models : [])].flatMap((scope) => {
      const quota = docs.get(quotaKey(scope)) as QuotaDoc | undefined
      return quota ? [[scope, quota] as const] : []
    })
    return { days, docs, quotas: Object.fromEntries(quotas) }
  }

  /** Where the users of a page stand in an index, and where the page after them begins. */
  async function places({ sort, ascending = false, from, limit, now }: UserQuery): Promise<Places> {
    if (limit < 1) return { ids: [] }
    const today = Math.floor(now / DAY_MS) * TOP_DAY
    const range =
      sort === 'tokens'
        ? { least: today + 1, most: today + TOP_DAY - 1 }
        : { least: 0, most: TOP_DAY - 1 }
    const offset = from && 'offset' in from ? from.offset : 0
    const after = from && 'id' in from ? from : undefined
    const start = after?.score ?? (ascending ? range.least : range.most)
    const end = ascending ? range.most : range.least

    const beyond = async (count: number): Promise<Place[]> => {
      const flat = await list(() =>
        redis.zrange<string[]>(`${PREFIX}users`, start, end, {
          byScore: true,
          rev: !ascending,
          offset,
          count,
          withScores: true,
        }),
      )
      const pairs = Array.from({ length: flat.length / 2 }, (_, n) => ({
        // Behind the letter of the order that this place is of.
        id: String(flat[2 * n]).slice(2),
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
    async execute<C extends Command>(command: C) {
      const send = senders[command.op] ?? alone
      return answerOf(await send(command)) as AnswerOf<C>
    },
    async replay(entries) {
      return (await run(entries)) as (Settled | Failed)[]
    },
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
    async session(hash, now) {
      const until = await guard(() => redis.get<string>(sessionKey(hash)))
      return Number(until) > now
    },
    async user(id) {
      const docs = await read<Kind>(new Map([...userKeys(id), [pastKey(id), 'past']]))
      const user = userIn(docs, id)
      const past = docs.get(pastKey(id)) as ReturnType<typeof newPast> | undefined
      return user && { ...user, past: past ?? newPast(id) }
    },
    async audit(limit) {
      const texts = await list(() => redis.lrange<string>(`${PREFIX}audit`, 0, limit - 1))
      // A limit of none would be read as all.
      return texts.slice(0, limit).flatMap((text) => parse<Audit>(text, `${PREFIX}audit`))
    },
    async listUsers(query) {
      const { ids, next } = await places(query)
      const docs = await read<Kind>(new Map(ids.flatMap(userKeys)))
      const users = usersIn(docs, ids)
      return next ? { users, next } : { users }
    },
    async overview({ dates, users: query, events: limit }) {
      const [{ ids, next }, newest] = await Promise.all([places(query), events(limit)])
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
      return [...(await read(new Map(keys))).values()]
    },
    days: async (dates) => (await readDays(dates, [], false)).days,
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

/** A day as it is stored: as long as it goes on, it is `open`, and its rows have keys of their own. */
type StoredDay = DayDoc & { open?: 1 }

type DocumentOf<K extends Kind> = NonNullable<ReturnType<typeof readDocument<K>>>

/** To be shown, as much of a newer document as this build knows is better than nothing. */
function readAny<K extends Kind>(kind: K, value: object): DocumentOf<K> | undefined {
  try {
    return readDocument(kind, value)
  } catch (error) {
    if (!(error instanceof NewerVersion)) throw error
    return readDocument(kind, { ...value, v: 0 })
  }
}

function withoutVersion(row: DocumentOf<'row'> & { v?: number }) {
  const { v: _, ...rest } = row
  return rest
}

type Place = { id: string; score: number }
type Places = { ids: string[]; next?: Cursor }

/** A guarded call whose answer is a list. */
const list = <T>(call: () => Promise<T[]>): Promise<T[]> =>
  guard(async () => {
    const items = await call()
    if (!Array.isArray(items)) throw new Error('not a list')
    return items
  })
