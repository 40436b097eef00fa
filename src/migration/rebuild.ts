/** The state that requests leave behind, rebuilt by the ledger's own rules from what is told of them. */
import type { State } from '../store/local.ts'
import type { Retention } from '../store/store.ts'
import { reduce } from '../usage/ledger.ts'
import {
  ALL_MODELS,
  DAY_MS,
  dateOf,
  own,
  type DayDoc,
  type Event,
  type ModelLimits,
  type UserDoc,
} from '../usage/record.ts'
import type { Ids } from '../usage/user-id.ts'
import type { OldRequest } from './old-records.ts'

export type RebuildOptions = {
  retention: Retention
  /** Those of everyone together, if there are any; they count what is rebuilt too. */
  globalLimits: ModelLimits | undefined
  now: number
}

/** What has aged goes after so many events, so that memory is bounded by the retention, not by the file. */
const PRUNE_EVERY = 10_000

/** Enters events in any order, cheapest in that of time. */
export function createRebuild({ retention, globalLimits, now }: RebuildOptions) {
  const { userDays, historyDays, eventsKept } = retention
  const oldestDay = dateOf(now - historyDays * DAY_MS)
  const users = new Map<string, UserDoc>()
  const days = new Map<string, DayDoc>()
  let events: Event[] = []
  let count = 0
  let newest = 0
  const view = {
    day: (date: string) => days.get(date),
    entered: () => false,
    erasedAt: () => undefined,
  }

  function pruneUsers(now: number): void {
    for (const { id, at } of users.values()) if (at < now - userDays * DAY_MS) users.delete(id)
  }

  function pruneEvents(): void {
    events.sort((a, b) => a.at - b.at)
    events.splice(0, events.length - eventsKept)
  }

  return {
    /** False when the event is of a day that is not kept any more. */
    enter(event: Event): boolean {
      if (dateOf(event.at) < oldestDay) return false
      const { user: id, at } = event
      const everyone = globalLimits && [ALL_MODELS]
      if (globalLimits && own(globalLimits.models, event.model)) everyone?.push(event.model)
      const scopes = everyone && { scopes: everyone }
      // Its own time is the clock: by that of today the ledger would refuse what is old.
      const command = { op: 'enter', now: at, user: id, event, ...scopes } as const
      const step = reduce(users.get(id), command, view, retention)
      if (step.user) users.set(id, step.user)
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
      return { users: [...users.values()], days: [...days.values()], events }
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
    v: 1,
    id,
    at,
    user,
    route: 'migrated',
    model,
    outcome: 'settled',
    status: 200,
    ...tokens,
    total,
    bound: total,
    charged: total,
    estimated: false,
    totalMs: 0,
  }
  if (session !== undefined) event.session = session
  return event
}
