/** The state of the local store: in memory as maps, in a snapshot as lists. */
import { readDocument } from '../../ledger/reading.ts'
import type { View } from '../../ledger/step.ts'
import type { Kind } from '../../ledger/shapes.ts'
import type { Audit, Event, RefusalCounts, Refused } from '../../ledger/events.ts'
import type {
  DayDoc,
  NewUsersDoc,
  OutboxDoc,
  PastDoc,
  PlanDoc,
  ProfileDoc,
  QuotaDoc,
  SettingsDoc,
  UsageDoc,
} from '../../ledger/documents.ts'

/** The contents of a snapshot. */
export type State = {
  usage: UsageDoc[]
  /** The counters of users whose documents have expired. */
  windows?: UsageDoc[]
  past: PastDoc[]
  profiles: ProfileDoc[]
  plans?: [name: string, plan: PlanDoc][]
  /** At most one. */
  settings?: SettingsDoc[]
  quotas: [scope: string, quota: QuotaDoc][]
  /** At most one. */
  outbox?: OutboxDoc[]
  days: DayDoc[]
  events: Event[]
  /** Ids of events that must not be entered again, and the times of these events. */
  entered?: [id: string, at: number][]
  /** Users that were erased, and the time of each erasure. */
  erased?: [user: string, at: number][]
  /** Hashes of open sessions, and when each expires. */
  sessions?: [hash: string, until: number][]
  audit?: Audit[]
  /** Oldest first. */
  refused?: Refused[]
  refusals?: [date: string, counts: RefusalCounts][]
}

/** A state without data. */
export const emptyState = (): State => ({
  usage: [],
  past: [],
  profiles: [],
  quotas: [],
  days: [],
  events: [],
})

/** The state in memory. */
export type Records = {
  usage: Map<string, UsageDoc>
  windows: Map<string, UsageDoc>
  past: Map<string, PastDoc>
  profiles: Map<string, ProfileDoc>
  plans: Map<string, PlanDoc>
  settings: SettingsDoc | undefined
  quotas: Map<string, QuotaDoc>
  outbox: OutboxDoc | undefined
  days: Map<string, DayDoc>
  /** Oldest first. */
  events: Event[]
  entered: Map<string, number>
  erased: Map<string, number>
  sessions: Map<string, number>
  /** Newest first. */
  audit: Audit[]
  /** Refusals of users, oldest first, and the counts of all by date. */
  refused: Refused[]
  refusals: Map<string, RefusalCounts>
  /** Not in the snapshot: a restart forgets them, which is harmless. */
  newUsers: NewUsersDoc | undefined
}

export const noRecords = (): Records => ({
  usage: new Map(),
  windows: new Map(),
  past: new Map(),
  profiles: new Map(),
  plans: new Map(),
  settings: undefined,
  quotas: new Map(),
  outbox: undefined,
  days: new Map(),
  events: [],
  entered: new Map(),
  erased: new Map(),
  sessions: new Map(),
  audit: [],
  refused: [],
  refusals: new Map(),
  newUsers: undefined,
})

/** The reducer's view of the records. `time` is the store's own clock. */
export const viewOf = (records: Records, time: () => number): View => ({
  usage: (user) => records.usage.get(user) ?? records.windows.get(user),
  past: (user) => records.past.get(user),
  profile: (user) => records.profiles.get(user),
  plan: (name) => records.plans.get(name),
  settings: () => records.settings,
  quota: (scope) => records.quotas.get(scope),
  day: (date) => records.days.get(date),
  entered: (id) => records.entered.has(id),
  newUsers: () => records.newUsers,
  outbox: () => records.outbox,
  lastAudit: () => records.audit[0],
  erasedAt: (user) => records.erased.get(user),
  time,
})

/** Loads an item of a list of a snapshot. Throws if it is not valid. An unknown list is left out. */
export function restoreItem(records: Records, list: string, item: unknown): void {
  if (Object.hasOwn(RESTORE, list)) RESTORE[list as keyof State](records, item)
}

const RESTORE: Record<keyof State, (records: Records, item: unknown) => void> = {
  usage: ({ usage }, item) => keepById(usage, documentOf('usage', item)),
  windows: ({ windows }, item) => keepById(windows, documentOf('usage', item)),
  past: ({ past }, item) => keepById(past, documentOf('past', item)),
  profiles: ({ profiles }, item) => keepById(profiles, documentOf('profile', item)),
  plans({ plans }, item) {
    const [name, plan] = item as [string, unknown]
    plans.set(name, documentOf('plan', plan))
  },
  settings(records, item) {
    records.settings = documentOf('settings', item)
  },
  quotas({ quotas }, item) {
    const [scope, quota] = item as [string, unknown]
    quotas.set(scope, documentOf('quota', quota))
  },
  outbox(records, item) {
    records.outbox = documentOf('outbox', item)
  },
  days({ days }, item) {
    const day = documentOf('day', item)
    days.set(day.date, day)
  },
  events: ({ events }, item) => events.push(item as Event),
  entered: ({ entered }, item) => entered.set(...(item as [string, number])),
  erased: ({ erased }, item) => erased.set(...(item as [string, number])),
  sessions: ({ sessions }, item) => sessions.set(...(item as [string, number])),
  audit: ({ audit }, item) => audit.push(item as Audit),
  refused: ({ refused }, item) => refused.push(item as Refused),
  refusals: ({ refusals }, item) => refusals.set(...(item as [string, RefusalCounts])),
}

const keepById = <T extends { id: string }>(docs: Map<string, T>, doc: T) => docs.set(doc.id, doc)

function documentOf<K extends Kind>(kind: K, value: unknown) {
  const doc = readDocument(kind, value)
  if (doc) return doc
  throw new TypeError(`not a ${kind} document`)
}

/** The state for a snapshot. It does not change with the records, since documents are replaced and never changed. */
export const stateOf = (records: Records): State => ({
  usage: [...records.usage.values()],
  windows: [...records.windows.values()],
  past: [...records.past.values()],
  profiles: [...records.profiles.values()],
  plans: [...records.plans],
  settings: records.settings ? [records.settings] : [],
  quotas: [...records.quotas],
  outbox: records.outbox ? [records.outbox] : [],
  days: [...records.days.values()],
  events: [...records.events],
  entered: [...records.entered],
  erased: [...records.erased],
  sessions: [...records.sessions],
  audit: records.audit,
  refused: [...records.refused],
  refusals: [...records.refusals],
})
