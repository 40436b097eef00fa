/** Rebuilds the state from events of past requests, by the rules of the ledger. */
import { reduce } from '../ledger/rules.ts'
import type { Step, View } from '../ledger/step.ts'
import type { DayDoc, PastDoc, QuotaDoc, UsageDoc } from '../ledger/documents.ts'
import type { Event } from '../ledger/events.ts'
import { DAY_MS, dateOf } from '../ledger/windows.ts'
import { emptyState, type State } from '../store/local/state.ts'
import type { Retention } from '../ledger/advance.ts'
import { laterWindows } from '../ledger/merge.ts'

export type RebuildOptions = { retention: Retention; now: number }

/**
 * Expired data is removed after this many events, so that the retention bounds memory, and not the size of the file.
 */
const PRUNE_EVERY = 10_000

/** The result of the events so far. */
type Rebuilt = {
  usage: Map<string, UsageDoc>
  past: Map<string, PastDoc>
  quotas: Map<string, QuotaDoc>
  days: Map<string, DayDoc>
  events: Event[]
}

/** Builds the state from events in any order. Order by time is the fastest. */
export function createRebuild({ retention, now }: RebuildOptions) {
  const oldestDay = dateOf(now - retention.historyDays * DAY_MS)
  const rebuilt: Rebuilt = {
    usage: new Map(),
    past: new Map(),
    quotas: new Map(),
    days: new Map(),
    events: [],
  }
  let count = 0
  let newest = 0

  return {
    /** False if the event's day is no longer kept. */
    enter(event: Event): boolean {
      if (dateOf(event.at) < oldestDay) return false
      const { user, at } = event
      const command = { op: 'enter', now: at, user, event } as const
      keep(
        rebuilt,
        user,
        reduce(command, viewAt(rebuilt, at), { ...retention, tolerance: Infinity }),
      )
      newest = Math.max(newest, at)
      count += 1
      if (count % PRUNE_EVERY === 0) prune(rebuilt, retention, newest)
      return true
    },
    /** The state, without expired data. */
    state(): State {
      prune(rebuilt, retention, now)
      const { usage, past, quotas, days, events } = rebuilt
      return {
        ...emptyState(),
        usage: [...usage.values()],
        past: [...past.values()],
        quotas: [...quotas],
        days: [...days.values()],
        events,
      }
    },
  }
}

/**
 * The view of the data at the time of an event. By the clock of the latest event, the ledger would refuse old events.
 */
const viewAt = ({ usage, past, quotas, days }: Rebuilt, at: number): View => ({
  usage: (user) => usage.get(user),
  past: (user) => past.get(user),
  profile: () => undefined,
  plan: () => undefined,
  settings: () => undefined,
  quota(scope) {
    const quota = quotas.get(scope)
    return quota && { ...quota, at: Math.min(quota.at, at) }
  },
  day: (date) => days.get(date),
  entered: () => false,
  newUsers: () => undefined,
  outbox: () => undefined,
  lastAudit: () => undefined,
  erasedAt: () => undefined,
  time: () => at,
})

function keep({ usage, past, quotas, days, events }: Rebuilt, user: string, step: Step): void {
  if (step.usage) usage.set(user, step.usage)
  if (step.past) past.set(user, step.past)
  for (const [scope, quota] of Object.entries(step.quotas ?? {})) {
    quotas.set(scope, laterQuota(quota, quotas.get(scope)))
  }
  if (step.day) days.set(step.day.date, step.day)
  if (step.event) events.push(step.event)
}

/** An event older than the latest one opens a window that has ended. The later window must be kept. */
const laterQuota = (quota: QuotaDoc, known: QuotaDoc | undefined): QuotaDoc =>
  known
    ? {
        ...quota,
        at: Math.max(known.at, quota.at),
        windows: laterWindows(quota.windows, known.windows),
      }
    : quota

function prune({ usage, past, events }: Rebuilt, retention: Retention, now: number): void {
  for (const { id, at } of usage.values()) {
    if (at >= now - retention.userDays * DAY_MS) continue
    usage.delete(id)
    past.delete(id)
  }
  events.sort((a, b) => a.at - b.at)
  events.splice(0, events.length - retention.eventsKept)
}
