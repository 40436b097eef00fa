/** What the import script writes for each kind of chunk. Users are in users.ts. */
import { ENTER_MS, QUOTA_DAYS } from '../../../ledger/capacity.ts'
import type { Overlap } from '../../../ledger/merge.ts'
import { mergeOutbox } from '../../../ledger/outbox.ts'
import { filter } from '../../../ledger/records.ts'
import {
  ALL_MODELS,
  type DayDoc,
  type OutboxDoc,
  type PlanDoc,
  type QuotaDoc,
  type SettingsDoc,
} from '../../../ledger/documents.ts'
import type { Audit, Event } from '../../../ledger/events.ts'
import { DAY_MS } from '../../../ledger/windows.ts'
import { PREFIX, erasedKey, onceKey } from '../keys.ts'
import { AUDIT_KEPT } from '../../store.ts'
import { dayEnd, secondsOfDays, secondsLeft, type End, type ImportTerms } from './ends.ts'
import { parse } from './documents.ts'
import type { KnownErased, Seen } from './known.ts'

/** `sha` is the digest that the stored text must still have. */
export type Write = End & { key: string; text: string; sha?: string }

/** Scores and members, alternating. */
export type Index = { key: string; entries: string[]; seconds?: string }

type List = { key: string; texts: string[]; most: number; seconds?: string }

export type Plan = {
  writes?: Write[]
  /** Keys that must not have changed since the plan was made. */
  same?: { key: string; sha: string }[]
  /** Days to add to the stored ones. */
  days?: DayDoc[]
  /** By date, the amounts to subtract. */
  overlaps?: Record<string, Overlap>
  quotas?: Record<string, QuotaDoc>
  indexes?: Index[]
  list?: List
  /** Keys of unreadable documents that one of the writes sets aside. */
  damaged?: string[]
}

export const planDays = (days: DayDoc[], terms: ImportTerms): Plan => ({
  days: days.filter(({ date }) => dayEnd(date, terms) > terms.now),
})

/** Leaves out alerts of users that were erased later. */
export function planOutbox(
  all: OutboxDoc[],
  [seen]: Seen[],
  { same, isErased }: KnownErased,
): Plan {
  const [comes] = all
  if (!comes || !seen) return {}
  const { key, sha, text } = seen
  const alerts = filter(comes.alerts, ({ user, at }) => user === undefined || !isErased(user, at))
  const merged = mergeOutbox(parse('outbox', text), { ...comes, alerts })
  return { writes: [{ key, sha, text: JSON.stringify(merged) }], same }
}

/** Plans that the database has stay as they are. */
export function planPlans(plans: (readonly [name: string, doc: PlanDoc])[], seen: Seen[]): Plan {
  const writes = plans.flatMap(([, doc], n): Write[] => {
    const { key, sha, text } = seen[n] as Seen
    return text === undefined ? [{ key, sha, text: JSON.stringify(doc) }] : []
  })
  return { writes, same: seen }
}

/** Settings that the database has stay as they are. */
export function planSettings(all: SettingsDoc[], [seen]: Seen[]): Plan {
  const there = parse('settings', seen?.text)
  const [comes] = all
  if (!comes || !seen) return {}
  const plans = { ...comes.plans, ...there?.plans }
  return { writes: [{ ...seen, text: JSON.stringify({ ...comes, ...there, plans }) }] }
}

/** Leaves out windows that have not begun yet by this clock. */
export function planQuotas(all: [scope: string, quota: QuotaDoc][], { now }: ImportTerms): Plan {
  const oldest = now - QUOTA_DAYS * DAY_MS
  const kept = all
    .filter(([scope, { at }]) => scope === ALL_MODELS || at >= oldest)
    .map(([scope, quota]): [string, QuotaDoc] => {
      const begun = Object.entries(quota.windows).filter(([, { start }]) => start <= now)
      return [scope, { ...quota, at: Math.min(quota.at, now), windows: Object.fromEntries(begun) }]
    })
  return { quotas: Object.fromEntries(kept) }
}

export const planEntered = (entered: [id: string, at: number][], terms: ImportTerms): Plan =>
  planMarks(
    entered.map(([id, at]) => ({ key: onceKey(id), text: '1', at })),
    terms,
  )

/** If a user was erased twice, the later time counts. */
export function planErased(
  erased: [user: string, at: number][],
  { same, isErased }: KnownErased,
  terms: ImportTerms,
): Plan {
  const marks = erased
    .filter(([user, at]) => !isErased(user, at))
    .map(([user, at]) => ({ key: erasedKey(user), text: String(at), at }))
  return { ...planMarks(marks, terms), same }
}

/** Marks that keep events from being entered again, for as long as an entry is possible. */
function planMarks(marks: { key: string; text: string; at: number }[], terms: ImportTerms): Plan {
  const writes = marks
    .filter(({ at }) => at + ENTER_MS > terms.now)
    .map(({ key, text, at }) => ({ key, text, seconds: secondsLeft(at + ENTER_MS, terms) }))
  return { writes }
}

/** Leaves out events of users that were erased later. */
export function planEvents(
  events: Event[],
  { same, isErased }: KnownErased,
  { retention }: ImportTerms,
): Plan {
  const texts = textsOf(events.filter(({ user, at }) => !isErased(user, at)))
  const seconds = secondsOfDays(retention.historyDays)
  return { list: { key: `${PREFIX}events`, texts, most: retention.eventsKept, seconds }, same }
}

export const planAudit = (audit: Audit[]): Plan => ({
  list: { key: `${PREFIX}audit`, texts: textsOf(audit), most: AUDIT_KEPT },
})

const textsOf = (items: unknown[]): string[] => items.map((item) => JSON.stringify(item))
