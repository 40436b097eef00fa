/**
 * Brings documents into a Redis that may be in use. A user that is there and one that comes are merged here, and
 * written by a script that does nothing when somebody else has changed the user in between. Days and everyone's counters,
 * which every request changes, are added up in the script, so that nobody can come in between.
 */
import type { Redis } from '@upstash/redis'
import { createHash } from 'node:crypto'
import { ENTER_MS } from '../ledger/commands.ts'
import { activityOf, endOfProfile } from '../ledger/documents.ts'
import {
  ALL_MODELS,
  NewerVersion,
  readDocument,
  type Audit,
  type Block,
  type DayDoc,
  type Event,
  type Kind,
  type PastDoc,
  type ProfileDoc,
  type QuotaDoc,
  type UsageDoc,
} from '../ledger/shapes.ts'
import { DAY_MS, NO_END, SECOND_MS, dateOf } from '../ledger/windows.ts'
import { addOverlaps, mergeUser, overlapOf, type Overlap, type UserParts } from '../usage/merge.ts'
import { guard, scriptOf } from './call.ts'
import {
  DAMAGED_SECONDS,
  PREFIX,
  QUOTA_DAYS,
  TOP_DAY,
  dayKey,
  erasedKey,
  modelsKey,
  onceKey,
  pastKey,
  profileKey,
  quotaKey,
  rowKey,
  usageKey,
} from './keys.ts'
import { AUDIT_KEPT, NewerError, StoreError, type Retention } from './store.ts'

export type ImportCommands = Pick<Redis, 'evalsha' | 'eval' | 'mget' | 'get'>

export type ImportOptions = {
  redis: ImportCommands
  retention: Retention
  /** The script of `redis/import-script.ts`. */
  script: string
  now(): number
  warn(event: string, fields: Record<string, unknown>): void
}

/** What goes in at once. The clock in everyone's counters comes before days, and days before the users whose days they are. */
export type Chunk =
  | { kind: 'quotas'; items: [scope: string, quota: QuotaDoc][] }
  | { kind: 'days'; items: DayDoc[] }
  | { kind: 'users'; items: UserParts[] }
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
   * Rejects with `StoreError`, having written nothing, where a newer version of Weir wrote what is there.
   */
  bring(id: string, from: number, chunk: Chunk, isLast?: boolean): Promise<number>
  /**
   * Brings users in without their days and removes the keys they come from; false when something has changed
   * meanwhile, and nothing is done. Rejects like `bring`.
   */
  replace(users: UserParts[], old: Replaced[]): Promise<boolean>
  /** The texts of keys that hold a string or a hash, empty for those of another type; null where there is nothing. */
  read(keys: string[]): Promise<(string | null)[]>
}

/** An import that is over has no next item, however many there would be on another day or with other settings. */
export const ALL = Number.MAX_SAFE_INTEGER

/** How far an import has come is known for so long. */
const MARKER_SECONDS = String(400 * 86_400)

/** What the script says when it wrote nothing, since something is not as it was read. */
const CHANGED = -1

/** What it says when a newer version wrote what it would have changed. */
const NEWER = -2

/** What is under a key now, if there is anything. */
type Seen = { key: string; sha: string; text: string | undefined }

/** A user as they are in the database: when they were erased, and each document, in `there` those that can be read. */
type Known = { mark: Seen; usage: Seen; past: Seen; profile: Seen; there: UserParts }

/** Amounts for Redis are strings, so that Lua does not write them its own way. `until` is in seconds since the epoch. */
type Write = { key: string; text: string; sha?: string; seconds?: string; until?: string }
type End = Pick<Write, 'seconds' | 'until'>
type Index = { key: string; entries: string[]; seconds?: string }
/** How many items are in before a chunk, and after it. */
type Marker = { key: string; from: number; next: number; seconds: string }
type Plan = {
  writes?: Write[]
  /** Keys that must still be what they were when this was planned. */
  same?: { key: string; sha: string }[]
  /** To be added to those that are there. */
  days?: DayDoc[]
  /** By date, what is to be taken off again. */
  overlaps?: Record<string, Overlap>
  quotas?: Record<string, QuotaDoc>
  indexes?: Index[]
  list?: { key: string; texts: string[]; most: number; seconds?: string }
}

/** Builds the import. Its errors are `StoreError`s without commands or values. */
export function createImport({ redis, retention, script, now, warn }: ImportOptions): Import {
  const { userDays, historyDays, eventsKept } = retention
  const runScript = scriptOf(script)
  const markerKey = (id: string) => `${PREFIX}import:${id}`
  const daysAsSeconds = (days: number) => String(days * 86_400)

  /** The texts of these keys, and the digests to know them by. */
  async function look(keys: string[]): Promise<Seen[]> {
    if (keys.length === 0) return []
    const texts = await guard(() => redis.mget<(string | null)[]>(...keys))
    return keys.map((key, index) => {
      const text = texts[index] ?? undefined
      return { key, sha: sha1(text ?? ''), text }
    })
  }

  /** When users were erased, as far as is known. */
  async function lookErased(ids: string[]) {
    const same = await look([...new Set(ids)].map(erasedKey))
    const marks = new Map(same.map(({ key, text }) => [key, text]))
    /** Whether somebody was erased at a moment or after it. */
    const isErased = (id: string, at: number) => at <= erasedAt(marks.get(erasedKey(id)))
    return { same, isErased }
  }

  /** What is there of each of these users, in as few calls as that takes, since others change it meanwhile. */
  async function lookUsers(users: UserParts[]): Promise<Known[]> {
    const keys = users.map(({ id }) => [erasedKey(id), usageKey(id), pastKey(id), profileKey(id)])
    const seen = await look(keys.flat())
    return users.map(({ id }, index) => {
      const [mark, usage, past, profile] = seen.slice(4 * index) as [Seen, Seen, Seen, Seen]
      const there: UserParts = {
        id,
        usage: parse('usage', usage.text),
        past: parse('past', past.text),
        profile: parse('profile', profile.text),
      }
      return { mark, usage, past, profile, there }
    })
  }

  /** What replaces a document until it ends; one that cannot be read is set aside like the ledger does it. */
  function writesOf(seen: Seen, isRead: boolean, next: object, end: End): Write[] {
    const { key, sha, text } = seen
    const write: Write = { key, text: JSON.stringify(next), sha, ...end }
    if (text === undefined || isRead) return [write]
    tellDamaged(key)
    return [write, { key: asideOf(key), text, seconds: String(DAMAGED_SECONDS) }]
  }

  const tellDamaged = (key: string) =>
    warn('store.damaged', { keys: [key], setAside: asideOf(key) })
  const secondsUntil = (end: number) => String(Math.max(1, Math.ceil((end - now()) / SECOND_MS)))
  const ahead = (end: number): boolean => end > now()
  const usageEnds = (at: number) => at + userDays * DAY_MS
  const dayEnds = (date: string) => Date.parse(date) + (historyDays + 1) * DAY_MS

  const planDays = (all: DayDoc[]): Plan => ({
    days: all.filter(({ date }) => ahead(dayEnds(date))),
  })

  /** By a clock that is ahead nothing is counted: what was used of windows that have not begun here is left out. */
  function planQuotas(all: [scope: string, quota: QuotaDoc][]): Plan {
    const oldest = now() - QUOTA_DAYS * DAY_MS
    const kept = all
      .filter(([scope, { at }]) => scope === ALL_MODELS || at >= oldest)
      .map(([scope, quota]): [string, QuotaDoc] => {
        const begun = Object.entries(quota.windows).filter(([, { start }]) => start <= now())
        const windows = Object.fromEntries(begun)
        return [scope, { ...quota, at: Math.min(quota.at, now()), windows }]
      })
    return { quotas: Object.fromEntries(kept) }
  }

  /** A user's documents as far as they are to be kept, and what was not erased since. */
  function keptOf(
    { id, usage, past, profile }: UserParts,
    erased: number,
    blockedAt: (block: Block) => number,
  ): UserParts {
    const at = usage?.at ?? lastOf(past)
    const isUsed = ahead(usageEnds(at)) && at > erased
    const blocks = Object.entries(profile?.blocks ?? {}).filter(
      ([, block]) => ahead(block.until ?? NO_END) && blockedAt(block) > erased,
    )
    return {
      id,
      ...(isUsed && { usage, past }),
      ...(profile &&
        blocks.length && { profile: { ...profile, blocks: Object.fromEntries(blocks) } }),
    }
  }

  /** Blocks are as old as they say, unless told. */
  async function planUsers(all: UserParts[], blockedAt = ({ at }: Block) => at): Promise<Plan> {
    const known = await lookUsers(all)
    const writes: Write[] = []
    const same: Seen[] = known.map(({ mark }) => mark)
    const overlaps: Record<string, Overlap> = {}
    const [places, blocks]: [string[], string[]] = [[], []]
    for (const [index, user] of all.entries()) {
      const { mark, there, ...seen } = known[index] as Known
      const comes = keptOf(user, erasedAt(mark.text), blockedAt)
      const { usage, past, profile } = mergeUser(there, comes, { ...retention, now: now() })
      if (comes.usage ?? comes.past) {
        const end = { seconds: secondsUntil(usageEnds(usage?.at ?? lastOf(past))) }
        if (usage) writes.push(...writesOf(seen.usage, there.usage !== undefined, usage, end))
        if (usage) places.push(...placesOf(usage))
        if (past) writes.push(...writesOf(seen.past, there.past !== undefined, past, end))
        else same.push(seen.past)
        for (const [date, overlap] of Object.entries(overlapOf(there, comes))) {
          const other = overlaps[date]
          if (ahead(dayEnds(date))) overlaps[date] = other ? addOverlaps(other, overlap) : overlap
        }
      }
      if (comes.profile && profile) {
        const isRead = there.profile !== undefined
        writes.push(...writesOf(seen.profile, isRead, profile, profileEnd(profile)))
        for (const [model, { until = NO_END }] of Object.entries(profile.blocks)) {
          blocks.push(String(until), `${user.id} ${model}`)
        }
      }
    }
    const indexes: Index[] = [
      { key: `${PREFIX}users`, entries: places, seconds: daysAsSeconds(userDays) },
      { key: `${PREFIX}blocks`, entries: blocks },
    ]
    return { writes, same, overlaps, indexes: indexes.filter(({ entries }) => entries.length) }
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
      .filter(({ at }) => ahead(at + ENTER_MS))
      .map(({ key, text, at }) => ({ key, text, seconds: secondsUntil(at + ENTER_MS) }))
    return { writes }
  }

  const planList = (items: unknown[], list: Omit<NonNullable<Plan['list']>, 'texts'>): Plan => ({
    list: { ...list, texts: items.map((item) => JSON.stringify(item)) },
  })

  function plan(chunk: Chunk): Promise<Plan> | Plan {
    switch (chunk.kind) {
      case 'quotas':
        return planQuotas(chunk.items.map(([scope, quota]) => [scope, sound('quota', quota)]))
      case 'days':
        return planDays(chunk.items.map((day) => sound('day', day)))
      case 'users':
        return planUsers(chunk.items.map(soundUser))
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
    const { writes = [], same = [], days = [], overlaps = {}, quotas = {}, indexes = [] } = plan
    checkAmounts(plan)
    const { texts = [], ...list } = plan.list ?? {}
    const dates = [...days.map(({ date }) => date), ...Object.keys(overlaps)]
    const head = {
      keep: { historyDays },
      ...also,
      writes: writes.map(({ text: _, ...write }) => write),
      same: same.map(({ key, sha }) => ({ key, sha })),
      days,
      overlaps,
      quotas,
      today: dateOf(now()),
      seconds: Object.fromEntries(dates.map((date) => [date, secondsUntil(dayEnds(date))])),
      indexes,
      ...(plan.list && { list }),
    }
    const keys = new Set([
      quotaKey(ALL_MODELS),
      ...(also.marker ? [also.marker.key] : []),
      ...[...writes, ...same].map(({ key }) => key),
      ...dates.flatMap((date) => [dayKey(date), modelsKey(date)]),
      ...days.flatMap(({ date, models }) => Object.keys(models).map((name) => rowKey(date, name))),
      ...Object.keys(quotas).map(quotaKey),
    ])
    const args = [JSON.stringify(head), ...writes.map(({ text }) => text), ...texts]
    const [next, ...damaged] = await guard(() =>
      runScript<[number, ...string[]]>(redis, [...keys], args),
    )
    for (const key of damaged) tellDamaged(key)
    if (next === NEWER) throw newer()
    return next
  }

  return {
    async progress(id) {
      return Number(await guard(() => redis.get<string>(markerKey(id))))
    },
    async bring(id, from, chunk, isLast) {
      const next = isLast ? ALL : from + chunk.items.length
      const marker = { key: markerKey(id), from, next, seconds: MARKER_SECONDS }
      const due = await write(await plan(chunk), { marker, old: [] })
      return due === CHANGED ? from : due
    },
    async replace(users, old) {
      // Nobody knows how old these blocks are. No day came before, so nobody is in one twice.
      const plan = { ...(await planUsers(users, () => 0)), overlaps: {} }
      return (await write(plan, { old })) !== CHANGED
    },
    async read(keys) {
      if (keys.length === 0) return []
      const args = [JSON.stringify({ read: true })]
      return guard(() => runScript<(string | null)[]>(redis, keys, args))
    },
  }
}

/** Until when somebody was erased, as a mark says; long ago without one. */
const erasedAt = (mark: string | undefined): number => Number(mark ?? -1)

/** Where a document that cannot be read is put. */
const asideOf = (key: string) => `${PREFIX}damaged:${key.slice(PREFIX.length)}`

/** The script would fail half way on an amount that is none. Throws `StoreError`. */
function checkAmounts({ writes = [], indexes = [], list }: Plan): void {
  const places = [...writes, ...indexes, ...(list ? [list] : [])]
  const seconds = places.flatMap((place) => place.seconds ?? [])
  const ends = writes.flatMap(({ until }) => until ?? [])
  const scores = indexes.flatMap(({ entries }) => entries.filter((_, index) => index % 2 === 0))
  const areWhole = [...seconds, ...ends].every((amount) => /^\d{1,15}$/.test(amount))
  if (areWhole && scores.every((score) => Number.isFinite(Number(score)))) return
  throw new StoreError('what is to be written has a time that is none')
}

/** When a profile leaves, as the ledger's script gives it. */
function profileEnd(profile: ProfileDoc): End {
  const end = endOfProfile(profile)
  return end === NO_END ? {} : { until: String(Math.ceil(end / SECOND_MS)) }
}

/** The last moment that is known of a user by their past days alone. */
const lastOf = (past: PastDoc | undefined): number =>
  Math.max(0, ...Object.keys(past?.days ?? {}).map((date) => Date.parse(date) + DAY_MS - 1))

/** The places of a user in the index, by last activity and by tokens, as the ledger's script gives them. */
function placesOf(usage: UsageDoc): string[] {
  const { id, indexed } = usage
  if (indexed.at === 0) return []
  const places = [String(activityOf(usage)), `a:${id}`]
  if (indexed.tokens <= 0) return places
  const score = Math.floor(indexed.at / DAY_MS) * TOP_DAY + Math.min(indexed.tokens, TOP_DAY - 1)
  return [...places, String(score), `t:${id}`]
}

const newer = () =>
  new NewerError('a newer version of Weir has written what would be changed; update this one')

/** A document as this build knows it. Throws `StoreError` where a newer one wrote it. */
function read<K extends Kind>(kind: K, value: unknown) {
  try {
    return readDocument(kind, value)
  } catch (error) {
    throw error instanceof NewerVersion ? newer() : error
  }
}

function parse<K extends Kind>(kind: K, text: string | undefined) {
  let value: unknown
  try {
    value = JSON.parse(text ?? 'null')
  } catch {
    return undefined
  }
  return read(kind, value)
}

/** A document that is to come in. Throws `StoreError` where it is none. */
function sound<K extends Kind>(kind: K, value: unknown) {
  const doc = read(kind, value)
  if (doc) return doc
  throw new StoreError(`what is to be brought in is no ${kind} document`)
}

const soundUser = ({ id, usage, past, profile }: UserParts): UserParts => ({
  id,
  usage: usage && sound('usage', usage),
  past: past && sound('past', past),
  profile: profile && sound('profile', profile),
})

const sha1 = (text: string): string => createHash('sha1').update(text).digest('hex')
