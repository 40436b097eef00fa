/**
 * Brings documents into a Redis that may be in use. A user that is there and one that comes are merged here, and
 * written by a script that does nothing when somebody else has changed the user in between. Days, which every request
 * changes, are added up in the script, so that nobody can come in between.
 */
import type { Redis } from '@upstash/redis'
import { createHash } from 'node:crypto'
import { addOverlaps, mergeUser, overlapOf, type Overlap } from '../usage/merge.ts'
import {
  activityOf,
  DAY_MS,
  ENTER_MS,
  NO_END,
  SECOND_MS,
  own,
  settledTokens,
  type Audit,
  type DayDoc,
  type Event,
  type UserDoc,
} from '../usage/record.ts'
import { guard, scriptOf } from './call.ts'
import { DAMAGED_SECONDS, PREFIX, TOP_DAY, dayKey, erasedKey, onceKey, userKey } from './keys.ts'
import { AUDIT_KEPT, StoreError, type Retention } from './store.ts'

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
  /** Users that were erased, and when. */
  | { kind: 'erased'; items: [user: string, at: number][] }
  /** Newest first, and older than those of the chunks before. */
  | { kind: 'events'; items: Event[] }
  | { kind: 'audit'; items: Audit[] }

/** An old key, with the digest of what was read there. */
export type Replaced = { key: string; sha: string }

export type Import = {
  /** How many items of an import are in, `ALL` after the last; rejects with `StoreError` when the database does not answer. */
  progress(id: string): Promise<number>
  /**
   * Brings in the items from number `from` on, from 0, and gives the number of the next one to bring. That is the same
   * one again when live traffic was faster, whichever is due when `from` is not, and `ALL` when these were the last.
   */
  bring(id: string, from: number, chunk: Chunk, isLast?: boolean): Promise<number>
  /** Brings users in without their days and removes the keys they come from; false when something has changed meanwhile, and nothing is done. */
  replace(users: UserDoc[], old: Replaced[]): Promise<boolean>
  /** The texts of keys that hold a string or a hash, empty for those of another type; null where there is nothing. */
  read(keys: string[]): Promise<(string | null)[]>
}

/** An import that is over has no next item, however many there would be on another day or with other settings. */
export const ALL = Number.MAX_SAFE_INTEGER

/** How far an import has come is known for so long. */
const MARKER_SECONDS = 400 * 86_400

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

/** Most values of one command in a script: Lua cannot pass more than some 8000. */
const SLICE = 2000

/**
 * KEYS are those of the writes, of the days and of what must be as it was read. ARGV[1] is the plan, and what follows
 * the texts: of the writes, of the days, of the list. Everything that can fail comes before the first write, since Redis
 * does not roll back. Gives how many items are in, and the keys of days that could not be read.
 */
const WRITE_SCRIPT = String.raw`${READ_TEXT}
local plan = cjson.decode(ARGV[1])
local writes, days = #plan.writes, #plan.days

if plan.marker then
  local done = tonumber(redis.call('GET', plan.marker.key) or 0)
  if done ~= plan.marker.from then return { done } end
end
for _, old in ipairs(plan.old) do
  if redis.sha1hex(text_of(old.key) or '') ~= old.sha then return { ${CHANGED} } end
end
local current = {}
for from = 1, #KEYS, ${SLICE} do
  local to = math.min(from + ${SLICE} - 1, #KEYS)
  for i, text in ipairs(redis.call('MGET', unpack(KEYS, from, to))) do current[from + i - 1] = text end
end
for i, write in ipairs(plan.writes) do
  if write.sha and redis.sha1hex(current[i] or '') ~= write.sha then return { ${CHANGED} } end
end
for i, sha in ipairs(plan.same) do
  if redis.sha1hex(current[writes + days + i] or '') ~= sha then return { ${CHANGED} } end
end

-- Numbers by name, at any depth; of two moments the later one.
local function add(one, other)
  for name, value in pairs(other) do
    if type(value) == 'table' then
      one[name] = add(one[name] or {}, value)
    elseif name == 'at' then
      one[name] = math.max(one[name] or 0, value)
    else
      one[name] = (one[name] or 0) + value
    end
  end
  return one
end

-- What both have counted; of two minutes the later one.
local function add_day(day, other)
  add(day.total, other.total)
  add(day.models, other.models)
  add(day.quota, other.quota)
  day.sessions = day.sessions + other.sessions
  if day.minute.n == other.minute.n then
    add(day.minute.rows, other.minute.rows)
  elseif day.minute.n < other.minute.n then
    day.minute = other.minute
  end
end

-- Those counted once who were counted twice. History may have been cleared meanwhile, and then they are not there.
local function take_overlap(day, overlap)
  day.total.users = math.max(0, day.total.users - overlap.users)
  day.sessions = math.max(0, day.sessions - overlap.sessions)
  for model, users in pairs(overlap.models) do
    local row = day.models[model]
    if row then row.users = math.max(0, row.users - users) end
  end
end

local function change(text, comes, overlap)
  local day = cjson.decode(text)
  if day.v ~= 1 then error('not a day') end
  if overlap then take_overlap(day, cjson.decode(comes)) else add_day(day, cjson.decode(comes)) end
  return cjson.encode(day)
end

local texts, damaged = {}, {}
for i, day in ipairs(plan.days) do
  local text, comes = current[writes + i], ARGV[writes + i + 1]
  local ok, changed = pcall(change, text, comes, day.overlap)
  if ok then
    texts[i] = changed
  elseif not day.overlap then
    texts[i] = comes
    damaged[i] = text or nil
  end
end

for _, index in ipairs(plan.indexes) do redis.call('ZCARD', index.key) end
local room = plan.list and plan.list.most - redis.call('LLEN', plan.list.key) or 0

local function set(key, text, seconds)
  if seconds then redis.call('SET', key, text, 'EX', seconds) else redis.call('SET', key, text) end
end

local function add_all(name, key, values, from, to)
  for first = from, to, ${SLICE} do
    redis.call(name, key, unpack(values, first, math.min(first + ${SLICE} - 1, to)))
  end
end

for i, write in ipairs(plan.writes) do set(KEYS[i], ARGV[i + 1], write.seconds) end
local reply = { plan.marker and plan.marker.next or 0 }
for i, day in ipairs(plan.days) do
  if damaged[i] then
    set(day.setAside, damaged[i], ${DAMAGED_SECONDS})
    reply[#reply + 1] = KEYS[writes + i]
  end
  if texts[i] then set(KEYS[writes + i], texts[i], day.seconds) end
end
for _, index in ipairs(plan.indexes) do
  add_all('ZADD', index.key, index.entries, 1, #index.entries)
  if index.seconds then redis.call('EXPIRE', index.key, index.seconds) end
end
if room > 0 then
  local first = writes + days + 2
  add_all('RPUSH', plan.list.key, ARGV, first, math.min(#ARGV, first + room - 1))
  if plan.list.seconds then redis.call('EXPIRE', plan.list.key, plan.list.seconds) end
end
for _, old in ipairs(plan.old) do redis.call('DEL', old.key) end
if plan.marker then redis.call('SET', plan.marker.key, plan.marker.next, 'EX', ${MARKER_SECONDS}) end
return reply
`

/** What is under a key now; `doc` is absent when there is nothing or nothing that can be read. */
type Found<T> = { key: string; sha: string; text: string | undefined; doc: T | undefined }

/** Amounts for Redis are strings, so that Lua does not write them its own way. */
type Write = { key: string; text: string; sha?: string; seconds?: string }
/** A day to be added to the one that is there, or `overlap` that is to be taken off it. */
type DayWrite = { key: string; text: string; seconds: string; setAside: string; overlap?: true }
type Index = { key: string; entries: string[]; seconds?: string }
/** How many items are in before a chunk, and after it. */
type Marker = { key: string; from: number; next: number }
type Plan = {
  writes: Write[]
  /** Keys that must still be what they were when this was planned. */
  same?: { key: string; sha: string }[]
  days: DayWrite[]
  indexes: Index[]
  list?: { key: string; texts: string[]; most: number; seconds?: string }
}

const readScript = scriptOf(READ_SCRIPT)
const writeScript = scriptOf(WRITE_SCRIPT)

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

  /** When users were erased, as far as is known. */
  async function lookErased(ids: string[]) {
    const found = await look([...new Set(ids)].map(erasedKey))
    const marks = new Map(found.map(({ key, text }) => [key, text]))
    /** Whether somebody was erased at a moment or after it. */
    const isErased = (id: string, at: number) => at <= Number(marks.get(erasedKey(id)) ?? -1)
    return { same: found, isErased }
  }

  /** What replaces a document until it ends; one that cannot be read is set aside like the ledger does it. */
  function writesOf<T>(found: Found<T>, next: T, end: number | undefined): Write[] {
    const { key, sha, text, doc } = found
    const write: Write = { key, text: JSON.stringify(next), sha, ...secondsTo(end) }
    if (text === undefined || doc) return [write]
    tellDamaged(key)
    return [write, { key: asideOf(key), text, seconds: String(DAMAGED_SECONDS) }]
  }

  const tellDamaged = (key: string) =>
    warn('store.damaged', { keys: [key], setAside: asideOf(key) })
  const secondsUntil = (end: number) => String(Math.max(1, Math.ceil((end - now()) / SECOND_MS)))
  const secondsTo = (end: number | undefined) =>
    end === undefined ? {} : { seconds: secondsUntil(end) }
  const ahead = (end: number | undefined): boolean => end === undefined || end > now()
  const userEnds = (user: UserDoc) => userEnd(user, userDays)
  const dayEnds = (date: string) => Date.parse(date) + (historyDays + 1) * DAY_MS

  function dayWrite(date: string, text: string): DayWrite {
    const key = dayKey(date)
    return { key, text, seconds: secondsUntil(dayEnds(date)), setAside: asideOf(key) }
  }

  function planDays(all: DayDoc[]): Plan {
    const kept = all.filter(({ date }) => ahead(dayEnds(date)))
    const days = kept.map((day) => dayWrite(day.date, JSON.stringify(day)))
    return { writes: [], days, indexes: [] }
  }

  async function planUsers(all: UserDoc[]): Promise<Plan> {
    const kept = all.filter((user) => ahead(userEnds(user)))
    const ids = kept.map(({ id }) => id)
    const [{ same, isErased }, there] = await Promise.all([
      lookErased(ids),
      look<UserDoc>(ids.map(userKey)),
    ])
    const comes = kept.map(({ id, at }) => !isErased(id, at))
    const users = kept.filter((_, index) => comes[index])
    const found = there.filter((_, index) => comes[index])
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
    const days = [...overlaps]
      .filter(([date]) => ahead(dayEnds(date)))
      .map(([date, overlap]): DayWrite => {
        return { ...dayWrite(date, JSON.stringify(overlap)), overlap: true }
      })
    const writes = merged.flatMap((user, index) =>
      writesOf(found[index] as Found<UserDoc>, user, userEnds(user)),
    )
    const blocks = users.flatMap(({ id, blocks }, index) =>
      Object.entries(blocks)
        .filter(([model]) => !own(found[index]?.doc?.blocks ?? {}, model))
        .flatMap(([model, { until }]) => [String(until ?? NO_END), `${id} ${model}`]),
    )
    const seconds = daysAsSeconds(userDays)
    const indexes: Index[] = [
      { key: `${PREFIX}users`, entries: merged.flatMap(lastSeen), seconds },
      { key: `${PREFIX}top`, entries: merged.flatMap(spent), seconds },
      { key: `${PREFIX}blocks`, entries: blocks },
    ]
    return { writes, same, days, indexes: indexes.filter(({ entries }) => entries.length) }
  }

  /** Of two moments at which a user was erased the later one counts. */
  async function planErased(erased: [user: string, at: number][]): Promise<Plan> {
    const { same, isErased } = await lookErased(erased.map(([user]) => user))
    const marks = erased
      .filter(([user, at]) => !isErased(user, at))
      .map(([user, at]) => ({ key: erasedKey(user), text: String(at), at }))
    return { ...planMarks(marks), same }
  }

  async function planEvents(all: Event[]): Promise<Plan> {
    const { same, isErased } = await lookErased(all.map(({ user }) => user))
    const events = all.filter(({ user, at }) => !isErased(user, at))
    const list = { key: `${PREFIX}events`, most: eventsKept, seconds: daysAsSeconds(historyDays) }
    return { ...planList(events, list), same }
  }

  /** What keeps events from being entered for as long as they could be. */
  function planMarks(marks: { key: string; text: string; at: number }[]): Plan {
    const writes = marks
      .map(({ key, text, at }) => ({ key, text, end: at + ENTER_MS }))
      .filter(({ end }) => ahead(end))
      .map(({ key, text, end }) => ({ key, text, ...secondsTo(end) }))
    return { writes, days: [], indexes: [] }
  }

  const planList = (items: unknown[], list: Omit<NonNullable<Plan['list']>, 'texts'>): Plan => ({
    writes: [],
    days: [],
    indexes: [],
    list: { ...list, texts: items.map((item) => JSON.stringify(item)) },
  })

  function plan(chunk: Chunk): Promise<Plan> | Plan {
    switch (chunk.kind) {
      case 'days':
        return planDays(chunk.items)
      case 'users':
        return planUsers(chunk.items)
      case 'entered':
        return planMarks(chunk.items.map(([id, at]) => ({ key: onceKey(id), text: '1', at })))
      case 'erased':
        return planErased(chunk.items)
      case 'events':
        return planEvents(chunk.items)
      case 'audit':
        return planList(chunk.items, { key: `${PREFIX}audit`, most: AUDIT_KEPT })
    }
  }

  /** Gives how many items are in, or `CHANGED`. */
  async function write(plan: Plan, also: { marker?: Marker; old: Replaced[] }): Promise<number> {
    const { writes, same = [], days, indexes, list } = plan
    checkAmounts(plan)
    const { texts = [], ...place } = list ?? {}
    const head = {
      ...also,
      writes: writes.map(({ sha, seconds }) => ({ sha, seconds })),
      same: same.map(({ sha }) => sha),
      days: days.map(({ seconds, setAside, overlap }) => ({ seconds, setAside, overlap })),
      indexes,
      ...(list && { list: place }),
    }
    const keyed = [...writes, ...days]
    const args = [JSON.stringify(head), ...keyed.map(({ text }) => text), ...texts]
    const keys = [...keyed, ...same].map(({ key }) => key)
    const [next, ...damaged] = await guard(() =>
      writeScript<[number, ...string[]]>(redis, keys, args),
    )
    for (const key of damaged) tellDamaged(key)
    return next
  }

  return {
    async progress(id) {
      return Number(await guard(() => redis.get<string>(markerKey(id))))
    },
    async bring(id, from, chunk, isLast) {
      const next = isLast ? ALL : from + chunk.items.length
      const marker = { key: markerKey(id), from, next }
      const due = await write(await plan(chunk), { marker, old: [] })
      return due === CHANGED ? from : due
    },
    async replace(users, old) {
      // No day came before these, so nobody is in one twice.
      const plan = { ...(await planUsers(users)), days: [] }
      return (await write(plan, { old })) !== CHANGED
    },
    read: (keys) => guard(() => readScript<(string | null)[]>(redis, keys, [])),
  }
}

/** Where a document that cannot be read is put. */
const asideOf = (key: string) => `${PREFIX}damaged:${key.slice(PREFIX.length)}`

/** The script would fail half way on an amount that is none. Throws `StoreError`. */
function checkAmounts({ writes, days, indexes, list }: Plan): void {
  const places = [...writes, ...days, ...indexes, ...(list ? [list] : [])]
  const seconds = places.flatMap((place) => place.seconds ?? [])
  const scores = indexes.flatMap(({ entries }) => entries.filter((_, index) => index % 2 === 0))
  const areWhole = seconds.every((amount) => /^\d{1,15}$/.test(amount))
  if (areWhole && scores.every((score) => Number.isFinite(Number(score)))) return
  throw new StoreError('what is to be written has a time that is none')
}

/** When a user's document ends, as if it had been written when they were last active. */
function userEnd(user: UserDoc, userDays: number): number | undefined {
  const ends = Object.values(user.blocks).map(({ until }) => until)
  if (ends.includes(undefined)) return undefined
  return Math.max(user.at + userDays * DAY_MS, ...ends.filter((end) => end !== undefined))
}

/** A place in the index by last activity, as the ledger's script gives it. */
const lastSeen = (user: UserDoc): string[] =>
  user.seen === undefined ? [] : [String(activityOf(user)), user.id]

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
