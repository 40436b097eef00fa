/** The state that requests leave behind, rebuilt by the ledger's own rules from what is told of them. */
import { reduce, type View } from '../ledger/rules.ts'
import {
  VERSION,
  type DayDoc,
  type Event,
  type PastDoc,
  type QuotaDoc,
  type UsageDoc,
} from '../ledger/shapes.ts'
import { DAY_MS, dateOf } from '../ledger/windows.ts'
import { emptyState, type State } from '../store/local.ts'
import type { Retention } from '../store/store.ts'
import { laterWindows } from '../usage/merge.ts'
import type { Ids } from '../usage/user-id.ts'
import type { OldRequest } from './old-records.ts'

export type RebuildOptions = { retention: Retention; now: number }

/** What has aged goes after so many events, so that memory is bounded by the retention, not by the file. */
const PRUNE_EVERY = 10_000

/** Enters events in any order, cheapest in that of time. */
export function createRebuild({ retention, now }: RebuildOptions) {
  const { userDays, historyDays, eventsKept } = retention
  const oldestDay = dateOf(now - historyDays * DAY_MS)
  const usage = new Map<string, UsageDoc>()
  const past = new Map<string, PastDoc>()
  const quotas = new Map<string, QuotaDoc>()
  const days = new Map<string, DayDoc>()
  let events: Event[] = []
  let count = 0
  let newest = 0

  /** What there is, with the clock at a moment: by that of the latest event the ledger would refuse what is old. */
  const viewAt = (at: number): View => ({
    usage: (user) => usage.get(user),
    past: (user) => past.get(user),
    profile: () => undefined,
    quota(scope) {
      const quota = quotas.get(scope)
      return quota && { ...quota, at: Math.min(quota.at, at) }
    },
    day: (date) => days.get(date),
    entered: () => false,
    erasedAt: () => undefined,
    time: () => at,
  })

  /** An event from before the latest one opens the window of its own time, which is over. */
  function keepQuota(scope: string, quota: QuotaDoc): void {
    const known = quotas.get(scope)
    const kept = known && {
      at: Math.max(known.at, quota.at),
      windows: laterWindows(quota.windows, known.windows),
    }
    quotas.set(scope, { ...quota, ...kept })
  }

  function pruneUsers(now: number): void {
    for (const { id, at } of usage.values()) {
      if (at >= now - userDays * DAY_MS) continue
      usage.delete(id)
      past.delete(id)
    }
  }

  function pruneEvents(): void {
    events.sort((a, b) => a.at - b.at)
    events.splice(0, events.length - eventsKept)
  }

  return {
    /** False when the event is of a day that is not kept any more. */
    enter(event: Event): boolean {
      if (dateOf(event.at) < oldestDay) return false
      const { user, at } = event
      const command = { op: 'enter', now: at, user, event } as const
      const step = reduce(command, viewAt(at), { ...retention, tolerance: Infinity })
      if (step.usage) usage.set(user, step.usage)
      if (step.past) past.set(user, step.past)
      for (const [scope, quota] of Object.entries(step.quotas ?? {})) keepQuota(scope, quota)
      if (step.day) days.set(step.day.date, step.day)
      if (step.event) events.push(step.event)
      newest = Math.max(newest, at)
      count += 1
      if (count % PRUNE_EVERY === 0) {
        pruneUsers(newest)
        pruneEvents()
      }
      return true
    },
    /** What is to be kept now. */
    state(): State {
      pruneUsers(now)
      pruneEvents()
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

/** Stands for everybody whose token the old system did not know; too short to be one. */
const UNKNOWN = 'unknown'

/** The event of an old request. */
export async function eventOf(id: string, request: OldRequest, ids: Ids): Promise<Event> {
  const { at, model, tokens } = request
  const [user, session] = await Promise.all([
    ids.user(request.user ?? UNKNOWN),
    request.session === undefined ? undefined : ids.session(request.session),
  ])
  const total = 'total' in tokens ? tokens.total : tokens.prompt + tokens.completion
  const event: Event = {
    v: VERSION,
    id,
    at,
    user,
    route: 'migrated',
    model,
    outcome: 'exact',
    status: 200,
    ...tokens,
    total,
    reserved: total,
    charged: total,
    totalMs: 0,
  }
  if (session !== undefined) event.session = session
  return event
}
