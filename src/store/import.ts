/**
 * Brings documents into a Redis that may be in use: what is there and what comes are merged here, and written by a
 * script that does nothing when somebody else has changed a document in between.
 */
import type { Redis } from '@upstash/redis'
import { createHash } from 'node:crypto'
import {
  addOverlaps,
  mergeDay,
  mergeUser,
  overlapOf,
  withoutOverlap,
  type Overlap,
} from '../usage/merge.ts'
import {
  DAY_MS,
  ENTER_MS,
  SECOND_MS,
  minuteOf,
  own,
  settledTokens,
  type DayDoc,
  type Event,
  type UserDoc,
} from '../usage/record.ts'
import { PREFIX, TOP_DAY, dayKey, onceKey, userKey } from './keys.ts'
import { StoreError, type Retention } from './store.ts'

export type ImportCommands = Pick<Redis, 'evalsha' | 'eval' | 'mget' | 'get'>

export type ImportOptions = {
  redis: ImportCommands
  retention: Retention
  now(): number
  warn(event: string, fields: Record<string, unknown>): void
}

/** What goes in at once. Days come before the users whose days they are. */
export type Chunk =
  | { kind: 'days'; items: DayDoc[] }
  | { kind: 'users'; items: UserDoc[] }
  /** Event ids that must not be entered again, and when these were. */
  | { kind: 'entered'; items: [id: string, at: number][] }
  /** Newest first, and older than those of the chunks before. */
  | { kind: 'events'; items: Event[] }

/** An old key, with the digest of what was read there. */
export type Replaced = { key: string; sha: string }

export type Import = {
  /** How many chunks of an import are in; rejects with `StoreError` when the database does not answer. */
  progress(id: string): Promise<number>
  /**
   * Brings chunk number `step` in and gives the number of the next one to bring. That is the same one again when live
   * traffic was faster, and whichever is due when `step` is not.
   */
  bring(id: string, step: number, chunk: Chunk): Promise<number>
  /** Brings users in and removes the keys they come from; false when something has changed meanwhile, and nothing is done. */
  replace(users: UserDoc[], old: Replaced[]): Promise<boolean>
  /** The texts of keys that hold a string or a hash, empty for those of another type; null where there is nothing. */
  read(keys: string[]): Promise<(string | null)[]>
}

/** How far an import has come is known for so long. */
const MARKER_SECONDS = 400 * 86_400
const DAMAGED_SECONDS = 30 * 86_400

/** What the script says when it wrote nothing, since something is not as it was read. */
const CHANGED = -1

/** Hashes are read as lists of names and values, as the database keeps them. */
const READ_TEXT = String.raw`
local function text_of(key)
  local kind = redis.call('TYPE', key).ok
  if kind == 'string' then return redis.call('GET', key) end
  if kind == 'hash' then return cjson.encode(redis.call('HGETALL', key)) end
  return kind ~= 'none' and ''
end
`

const READ_SCRIPT = String.raw`${READ_TEXT}
local texts = {}
for i, key in ipairs(KEYS) do texts[i] = text_of(key) end
return texts
`

/** KEYS are those of the writes, ARGV[1] is the plan, and what follows the texts. */
const WRITE_SCRIPT = String.raw`${READ_TEXT}
local plan = cjson.decode(ARGV[1])

if plan.marker then
  local step = tonumber(redis.call('GET', plan.marker.key) or 0)
  if step ~= plan.marker.step then return step end
end
for _, old in ipairs(plan.old) do
  if redis.sha1hex(text_of(old.key) or '') ~= old.sha then return ${CHANGED} end
end
local current = #KEYS > 0 and redis.call('MGET', unpack(KEYS))
for i, write in ipairs(plan.writes) do
  if write.sha and redis.sha1hex(current[i] or '') ~= write.sha then return ${CHANGED} end
end

for i, write in ipairs(plan.writes) do
  if write.seconds then
    redis.call('SET', KEYS[i], ARGV[i + 1], 'EX', write.seconds)
  else
    redis.call('SET', KEYS[i], ARGV[i + 1])
  end
end
for _, index in ipairs(plan.indexes) do
  redis.call('ZADD', index.key, unpack(index.entries))
  if index.seconds then redis.call('EXPIRE', index.key, index.seconds) end
end
if plan.list then
  local room = plan.list.most - redis.call('LLEN', plan.list.key)
  if room > 0 then
    redis.call('RPUSH', plan.list.key, unpack(ARGV, 2, math.min(#ARGV, room + 1)))
    redis.call('EXPIRE', plan.list.key, plan.list.seconds)
  end
end
for _, old in ipairs(plan.old) do redis.call('DEL', old.key) end
if not plan.marker then return 0 end
redis.call('SET', plan.marker.key, plan.marker.step + 1, 'EX', ${MARKER_SECONDS})
return plan.marker.step + 1
`

/** What is under a key now; `doc` is absent when there is nothing or nothing that can be read. */
type Found<T> = { key: string; sha: string; text: string | undefined; doc: T | undefined }

/** Amounts for Redis are strings, so that Lua does not write them its own way. */
type Write = { key: string; text: string; sha?: string; seconds?: string }
type Index = { key: string; entries: string[]; seconds?: string }
type Plan = {
  writes: Write[]
  indexes: Index[]
  list?: { key: string; texts: string[]; most: number; seconds: string }
}

/** Builds the import. Its errors are `StoreError`s without commands or values. */
export function createImport({ redis, retention, now, warn }: ImportOptions): Import {
  const { userDays, historyDays, eventsKept } = retention
  const markerKey = (id: string) => `${PREFIX}import:${id}`
  const daysAsSeconds = (days: number) => String(days * 86_400)

  /** The documents of these keys as they are, and the digests to know them by. */
  async function look<T extends { v: 1 }>(keys: string[]): Promise<Found<T>[]> {
    if (keys.length === 0) return []
    const texts = await guard(() => redis.mget<(string | null)[]>(...keys))
    return keys.map((key, index) => {
      const text = texts[index] ?? undefined
      return { key, sha: sha1(text ?? ''), text, doc: parse<T>(text) }
    })
  }

  /** What replaces a document until it ends; one that cannot be read is set aside like the ledger does it. */
  function writesOf<T>(found: Found<T>, next: T, end: number | undefined): Write[] {
    const { key, sha, text, doc } = found
    const write: Write = { key, text: JSON.stringify(next), sha, ...secondsTo(end) }
    if (text === undefined || doc) return [write]
    const setAside = `${PREFIX}damaged:${key.slice(PREFIX.length)}`
    warn('store.damaged', { keys: [key], setAside })
    return [write, { key: setAside, text, seconds: String(DAMAGED_SECONDS) }]
  }

  const secondsTo = (end: number | undefined) =>
    end === undefined ? {} : { seconds: String(Math.max(1, Math.ceil((end - now()) / SECOND_MS))) }
  const ahead = (end: number | undefined): boolean => end === undefined || end > now()
  const userEnds = (user: UserDoc) => userEnd(user, userDays)
  const dayEnds = (date: string) => Date.parse(date) + (historyDays + 1) * DAY_MS

  async function planDays(all: DayDoc[]): Promise<Plan> {
    const days = all.filter(({ date }) => ahead(dayEnds(date)))
    const found = await look<DayDoc>(days.map(({ date }) => dayKey(date)))
    const writes = days.flatMap((day, index) => {
      const there = found[index] as Found<DayDoc>
      const merged = there.doc ? mergeDay(there.doc, day) : day
      return writesOf(there, merged, dayEnds(day.date))
    })
    return { writes, indexes: [] }
  }

  async function planUsers(all: UserDoc[]): Promise<Plan> {
    const users = all.filter((user) => ahead(userEnds(user)))
    const found = await look<UserDoc>(users.map(({ id }) => userKey(id)))
    const merged = users.map((user, index) => {
      const there = found[index]?.doc
      return there ? mergeUser(there, user, retention) : user
    })
    const overlaps = new Map<string, Overlap>()
    for (const [index, user] of users.entries()) {
      const there = found[index]?.doc
      for (const [date, overlap] of Object.entries(there ? overlapOf(there, user) : {})) {
        const known = overlaps.get(date)
        overlaps.set(date, known ? addOverlaps(known, overlap) : overlap)
      }
    }
    const dates = [...overlaps.keys()]
    const days = dates.length ? await look<DayDoc>(dates.map(dayKey)) : []
    const writes = [
      ...merged.flatMap((user, index) =>
        writesOf(found[index] as Found<UserDoc>, user, userEnds(user)),
      ),
      ...days.flatMap((day, index) => {
        const overlap = overlaps.get(dates[index] ?? '')
        if (!day.doc || !overlap) return []
        return writesOf(day, withoutOverlap(day.doc, overlap), dayEnds(day.doc.date))
      }),
    ]
    const blocks = users.flatMap(({ id, blocks }, index) =>
      Object.entries(blocks)
        .filter(([model]) => !own(found[index]?.doc?.blocks ?? {}, model))
        .flatMap(([model, { until }]) => [String(until ?? 0), `${id} ${model}`]),
    )
    const seconds = daysAsSeconds(userDays)
    const indexes: Index[] = [
      { key: `${PREFIX}users`, entries: merged.flatMap(lastSeen), seconds },
      { key: `${PREFIX}top`, entries: merged.flatMap(spent), seconds },
      { key: `${PREFIX}blocks`, entries: blocks },
    ]
    return { writes, indexes: indexes.filter(({ entries }) => entries.length) }
  }

  function planEntered(entered: [id: string, at: number][]): Plan {
    const writes = entered
      .map(([id, at]) => ({ key: onceKey(id), text: '1', end: at + ENTER_MS }))
      .filter(({ end }) => ahead(end))
      .map(({ key, text, end }) => ({ key, text, ...secondsTo(end) }))
    return { writes, indexes: [] }
  }

  function planEvents(events: Event[]): Plan {
    const texts = events.map((event) => JSON.stringify(event))
    const [key, seconds] = [`${PREFIX}events`, daysAsSeconds(historyDays)]
    return { writes: [], indexes: [], list: { key, texts, most: eventsKept, seconds } }
  }

  function plan(chunk: Chunk): Promise<Plan> | Plan {
    switch (chunk.kind) {
      case 'days':
        return planDays(chunk.items)
      case 'users':
        return planUsers(chunk.items)
      case 'entered':
        return planEntered(chunk.items)
      case 'events':
        return planEvents(chunk.items)
    }
  }

  function write({ writes, indexes, list }: Plan, also: { marker?: object; old: Replaced[] }) {
    const { texts = [], ...place } = list ?? {}
    const rest = writes.map(({ sha, seconds }) => ({ sha, seconds }))
    const head = { ...also, writes: rest, indexes, ...(list && { list: place }) }
    const args = [JSON.stringify(head), ...writes.map(({ text }) => text), ...texts]
    return runScript<number>(
      redis,
      WRITE_SCRIPT,
      writes.map(({ key }) => key),
      args,
    )
  }

  return {
    async progress(id) {
      return Number(await guard(() => redis.get<string>(markerKey(id))))
    },
    async bring(id, step, chunk) {
      const marker = { key: markerKey(id), step }
      const next = await write(await plan(chunk), { marker, old: [] })
      return next === CHANGED ? step : next
    },
    async replace(users, old) {
      return (await write(await planUsers(users), { old })) !== CHANGED
    },
    read: (keys) => runScript<(string | null)[]>(redis, READ_SCRIPT, keys, []),
  }
}

/** When a user's document ends, as if it had been written when they were last active. */
function userEnd(user: UserDoc, userDays: number): number | undefined {
  const ends = Object.values(user.blocks).map(({ until }) => until)
  if (ends.includes(undefined)) return undefined
  return Math.max(user.at + userDays * DAY_MS, ...ends.filter((end) => end !== undefined))
}

/** A place in the index by last activity, as the ledger's script gives it. */
const lastSeen = ({ id, seen }: UserDoc): string[] =>
  seen === undefined ? [] : [String(minuteOf(seen)), id]

/** A place in the index by tokens, as the ledger's script gives it. */
function spent(user: UserDoc): string[] {
  const tokens = settledTokens(user)
  if (tokens <= 0) return []
  const score = Math.floor(user.at / DAY_MS) * TOP_DAY + Math.min(tokens, TOP_DAY - 1)
  return [String(score), user.id]
}

function parse<T extends { v: 1 }>(text: string | undefined): T | undefined {
  try {
    const value = JSON.parse(text ?? 'null') as T | null
    return value?.v === 1 ? value : undefined
  } catch {
    return undefined
  }
}

const sha1 = (text: string): string => createHash('sha1').update(text).digest('hex')

async function runScript<T>(
  redis: Pick<Redis, 'evalsha' | 'eval'>,
  script: string,
  keys: string[],
  args: string[],
): Promise<T> {
  return guard(async () => {
    try {
      return await redis.evalsha<string[], T>(sha1(script), keys, args)
    } catch (error) {
      if (!(error instanceof Error && error.message.includes('NOSCRIPT'))) throw error
      return await redis.eval<string[], T>(script, keys, args)
    }
  })
}

/** The client's errors hold the whole command with its values, so only their kind is kept. */
async function guard<T>(call: () => Promise<T>): Promise<T> {
  try {
    return await call()
  } catch (error) {
    const kind = error instanceof Error ? error.name : 'unknown'
    throw new StoreError(`the database call failed (${kind})`)
  }
}
