/** The state of the local store: in memory as maps, in a snapshot as lists. */
import { readDocument } from '../../ledger/reading.ts'
import type { View } from '../../ledger/step.ts'
import type {
  Audit,
  DayDoc,
  Event,
  Kind,
  NewUsersDoc,
  PastDoc,
  ProfileDoc,
  QuotaDoc,
  UsageDoc,
} from '../../ledger/shapes.ts'

/** The contents of a snapshot. */
export type State = {
  usage: UsageDoc[]
  past: PastDoc[]
  profiles: ProfileDoc[]
  quotas: [scope: string, quota: QuotaDoc][]
  days: DayDoc[]
  events: Event[]
  /** Ids of events that must not be entered again, and the times of these events. */
  entered?: [id: string, at: number][]
  /** Users that were erased, and the time of each erasure. */
  erased?: [user: string, at: number][]
  /** Hashes of open sessions, and when each expires. */
  sessions?: [hash: string, until: number][]
  audit?: Audit[]
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
  past: Map<string, PastDoc>
  profiles: Map<string, ProfileDoc>
  quotas: Map<string, QuotaDoc>
  days: Map<string, DayDoc>
  /** Oldest first. */
  events: Event[]
  entered: Map<string, number>
  erased: Map<string, number>
  sessions: Map<string, number>
  /** Newest first. */
  audit: Audit[]
  /** Not in the snapshot: a restart forgets them, which is harmless. */
  newUsers: NewUsersDoc | undefined
}

export const noRecords = (): Records => ({
  usage: new Map(),
  past: new Map(),
  profiles: new Map(),
  quotas: new Map(),
  days: new Map(),
  events: [],
  entered: new Map(),
  erased: new Map(),
  sessions: new Map(),
  audit: [],
  newUsers: undefined,
})

/** The reducer's view of the records. `time` is the store's own clock. */
export const viewOf = (records: Records, time: () => number): View => ({
  usage: (user) => records.usage.get(user),
  past: (user) => records.past.get(user),
  profile: (user) => records.profiles.get(user),
  quota: (scope) => records.quotas.get(scope),
  day: (date) => records.days.get(date),
  entered: (id) => records.entered.has(id),
  newUsers: () => records.newUsers,
  lastAudit: () => records.audit[0],
  erasedAt: (user) => records.erased.get(user),
  time,
})

/** Loads the contents of a snapshot. Throws if they are not a valid state. */
export function restoreState(records: Records, state: State): void {
  for (const doc of documents('usage', state.usage)) records.usage.set(doc.id, doc)
  for (const doc of documents('past', state.past)) records.past.set(doc.id, doc)
  for (const doc of documents('profile', state.profiles)) records.profiles.set(doc.id, doc)
  for (const [scope, value] of state.quotas ?? []) {
    for (const quota of documents('quota', [value])) records.quotas.set(scope, quota)
  }
  for (const day of documents('day', state.days)) records.days.set(day.date, day)
  records.events = [...(state.events ?? [])]
  for (const [id, at] of state.entered ?? []) records.entered.set(id, at)
  for (const [user, at] of state.erased ?? []) records.erased.set(user, at)
  for (const [hash, until] of state.sessions ?? []) records.sessions.set(hash, until)
  records.audit = state.audit ?? []
}

const documents = <K extends Kind>(kind: K, all: unknown[] = []) =>
  all.map((value) => {
    const doc = readDocument(kind, value)
    if (doc) return doc
    throw new TypeError(`not a ${kind} document`)
  })

/** The state for a snapshot. */
export const stateOf = (records: Records): State => ({
  usage: [...records.usage.values()],
  past: [...records.past.values()],
  profiles: [...records.profiles.values()],
  quotas: [...records.quotas],
  days: [...records.days.values()],
  events: records.events,
  entered: [...records.entered],
  erased: [...records.erased],
  sessions: [...records.sessions],
  audit: records.audit,
})
