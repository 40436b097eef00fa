/**
 * Imports documents into a Redis database that may be in use. Users are merged here, and a script writes the result;
 * it writes nothing if the stored user has changed since it was read. The script itself adds up days and everyone's
 * counters, because every request changes them.
 */
import type { Redis } from '@upstash/redis'
import type { Retention } from '../../ledger/advance.ts'
import type { UserParts } from '../../ledger/merge.ts'
import type { Audit, Event } from '../../ledger/events.ts'
import type { DayDoc, OutboxDoc, PlanDoc, QuotaDoc, SettingsDoc } from '../../ledger/documents.ts'
import { guard, scriptOf } from './call.ts'
import { callOf, type Also } from './import/call.ts'
import { newer, sound, soundUser } from './import/documents.ts'
import type { ImportTerms } from './import/ends.ts'
import { look, lookErased, lookUsers } from './import/known.ts'
import {
  planAudit,
  planDays,
  planEntered,
  planErased,
  planEvents,
  planOutbox,
  planPlans,
  planQuotas,
  planSettings,
  type Plan,
} from './import/plan.ts'
import { asideOf, planUsers } from './import/users.ts'
import { PREFIX, outboxKey, planKey, settingsKey } from './keys.ts'

export type ImportCommands = Pick<Redis, 'evalsha' | 'eval' | 'mget' | 'get'>

export type ImportOptions = {
  redis: ImportCommands
  retention: Retention
  /** The script of `redis/import-script.ts`. */
  script: string
  now(): number
  warn(event: string, fields: Record<string, unknown>): void
}

/**
 * The items that one call imports. Alerts come first, since everyone's counters say when one is due. Everyone's
 * counters contain the clock, so they come before the days, and the days come before the users.
 */
export type Chunk =
  | { kind: 'outbox'; items: OutboxDoc[] }
  | { kind: 'quotas'; items: [scope: string, quota: QuotaDoc][] }
  /** Plans and settings, which are imported only if the database has none. */
  | { kind: 'plans'; items: [name: string, plan: PlanDoc][] }
  | { kind: 'settings'; items: SettingsDoc[] }
  | { kind: 'days'; items: DayDoc[] }
  | { kind: 'users'; items: UserParts[] }
  /** Ids of events that must not be entered again, and the times of these events. */
  | { kind: 'entered'; items: [id: string, at: number][] }
  /** Users that were erased, and the time of each erasure. */
  | { kind: 'erased'; items: [user: string, at: number][] }
  /** Newest first, and older than the events of earlier chunks. */
  | { kind: 'events'; items: Event[] }
  | { kind: 'audit'; items: Audit[] }

/** An old key, with the digest of the text that was read from it. */
export type Replaced = { key: string; sha: string }

export type Import = {
  /**
   * The number of imported items, or `ALL` after the last one. Rejects with `StoreError` if the database does not
   * answer.
   */
  progress(id: string): Promise<number>
  /**
   * Imports the items from number `from` on (the first is 0), and returns the number of the next item to import. That
   * is `from` again if live traffic changed a document first, the number that is due if `from` is not, and `ALL`
   * after the last item. Rejects with `StoreError` and writes nothing if a newer version of Weir wrote one of the
   * stored documents.
   */
  bring(id: string, from: number, chunk: Chunk, isLast?: boolean): Promise<number>
  /**
   * Imports users without their days and removes their old keys. Does nothing and returns false if something has
   * changed since it was read. Rejects like `bring`.
   */
  replace(users: UserParts[], old: Replaced[]): Promise<boolean>
  /** The texts of keys that hold a string or a hash: empty for a key of another type, null for a missing key. */
  read(keys: string[]): Promise<(string | null)[]>
}

/**
 * The next item of an import that has ended. A count would be wrong, because it depends on the day and the settings.
 */
const ALL = Number.MAX_SAFE_INTEGER

/** How long the progress of an import is kept. */
const MARKER_SECONDS = String(400 * 86_400)

/** The script's answer if it wrote nothing because a document has changed since it was read. */
const CHANGED = -1

/** The script's answer if a newer version of Weir wrote a document that the script should change. */
const NEWER = -2

/** Builds the import. Its errors are `StoreError`s that contain no commands and no values. */
export function createImport({ redis, retention, script, now, warn }: ImportOptions): Import {
  const runScript = scriptOf(script)
  const markerKey = (id: string) => `${PREFIX}import:${id}`
  const terms = (): ImportTerms => ({ retention, now: now() })

  async function plan(chunk: Chunk): Promise<Plan> {
    switch (chunk.kind) {
      case 'outbox': {
        const all = chunk.items.map((doc) => sound('outbox', doc))
        const users = all.flatMap(({ alerts }) => Object.values(alerts).map(({ user }) => user))
        const erased = await lookErased(
          redis,
          users.filter((user) => user !== undefined),
        )
        return planOutbox(all, await look(redis, [outboxKey]), erased)
      }
      case 'quotas': {
        const quotas = chunk.items.map(([scope, quota]): [string, QuotaDoc] => [
          scope,
          sound('quota', quota),
        ])
        return planQuotas(quotas, terms())
      }
      case 'plans': {
        const plans = chunk.items.map(([name, doc]) => [name, sound('plan', doc)] as const)
        return planPlans(
          plans,
          await look(
            redis,
            plans.map(([name]) => planKey(name)),
          ),
        )
      }
      case 'settings':
        return planSettings(
          chunk.items.map((doc) => sound('settings', doc)),
          await look(redis, [settingsKey]),
        )
      case 'days':
        return planDays(
          chunk.items.map((day) => sound('day', day)),
          terms(),
        )
      case 'users': {
        const known = await lookUsers(redis, chunk.items.map(soundUser))
        return planUsers(known, terms())
      }
      case 'entered':
        return planEntered(chunk.items, terms())
      case 'erased': {
        const users = chunk.items.map(([user]) => user)
        return planErased(chunk.items, await lookErased(redis, users), terms())
      }
      case 'events': {
        const users = chunk.items.map(({ user }) => user)
        return planEvents(chunk.items, await lookErased(redis, users), terms())
      }
      case 'audit':
        return planAudit(chunk.items)
    }
  }

  const tellDamaged = (key: string) =>
    warn('store.damaged', { keys: [key], setAside: asideOf(key) })

  /** Returns the number of imported items, or `CHANGED`. */
  async function write(plan: Plan, also: Also): Promise<number> {
    for (const key of plan.damaged ?? []) tellDamaged(key)
    const { keys, args } = callOf(plan, also, terms())
    const [next, ...damaged] = await guard(() =>
      runScript<[number, ...string[]]>(redis, keys, args),
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
      const known = await lookUsers(redis, users)
      // The age of these blocks is unknown. No days were imported before, so no user is counted twice.
      const plan = { ...planUsers(known, terms(), () => 0), overlaps: {} }
      return (await write(plan, { old })) !== CHANGED
    },
    async read(keys) {
      if (keys.length === 0) return []
      const args = [JSON.stringify({ read: true })]
      return guard(() => runScript<(string | null)[]>(redis, keys, args))
    },
  }
}
