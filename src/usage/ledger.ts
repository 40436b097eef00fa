/**
 * The rules of metering as one pure reducer: (state, command) → (state, answer).
 *
 * The state in view is the document of the command's user and, where everyone together is counted, that of
 * a day. The local store runs this file; `store/ledger.lua.ts` is the port of it and of
 * what it calls, function by function.
 */
import { advance, advanceDay, newDay, newRow, newUser, shorten, type Keep } from './documents.ts'
import { checks, refuse } from './limits.ts'
import {
  ALL_MODELS,
  MODELS_PER_USER,
  SESSIONS_PER_USER,
  dateOf,
  minuteOf,
  own,
  type Admit,
  type Admitted,
  type Answer,
  type Block,
  type Clear,
  type Done,
  type Command,
  type DayDoc,
  type Event,
  type Lease,
  type PastRow,
  type Refusal,
  type SetBlock,
  type Settle,
  type Settled,
  type UserDoc,
} from './record.ts'
import { addCount, dayCount, end, endDay, firstAnswer, hold, NOTHING, type First } from './tally.ts'

/** What a reducer step leaves behind; an absent document is unchanged. */
export type Step<A extends Answer = Answer> = {
  user?: UserDoc
  day?: DayDoc
  event?: Event
  /** All days before this date and all events are forgotten. */
  cleared?: string
  answer: A
}

/** Reads a day's document; a lookup in the same state, not I/O. */
export type LoadDay = (date: string) => DayDoc | undefined

/** Applies one command to the state in view. */
export function reduce(
  user: UserDoc | undefined,
  command: Command,
  loadDay: LoadDay,
  keep: Keep,
): Step {
  switch (command.op) {
    case 'admit':
      return admit(user, command, loadDay, keep)
    case 'settle':
      return settle(user, command, loadDay, keep)
    case 'block':
      return setBlock(user, command)
    case 'clear':
      return clear(command, loadDay)
  }
}

/** Refuses, or charges the bound at once and records the lease. The same id again gets the same answer. */
export function admit(
  user: UserDoc | undefined,
  command: Admit,
  loadDay: LoadDay,
  keep: Keep,
): Step<Admitted | Refusal> {
  const doc = advance(user ?? newUser(command.user, command.now), command.now, keep)
  const { model, bound } = command
  const held = own(doc.leases, command.id)
  if (held) return { answer: admitted(doc, held) }

  const block = own(doc.blocks, ALL_MODELS) ?? own(doc.blocks, model)
  if (block) {
    const scope = own(doc.blocks, ALL_MODELS) ? ALL_MODELS : model
    return { answer: blocked(scope, block) }
  }
  const row = own(doc.rows, model)
  if (!row && Object.keys(doc.rows).length >= MODELS_PER_USER) {
    return { answer: { ok: false, reason: 'models' } }
  }

  const day = command.global && advanceDay(loadDay(dateOf(doc.at)), doc.at)
  for (const check of checks(doc, day, command)) {
    const refusal = refuse(check, bound, doc.at)
    if (refusal) return { answer: refusal }
  }

  const scopes = command.global?.model ? [ALL_MODELS, model] : [ALL_MODELS]
  const lease: Lease = { model, at: doc.at, bound, until: doc.at + command.lasts }
  if (day) lease.scopes = scopes
  const old = row ?? newRow()
  const next: UserDoc = {
    ...doc,
    rows: {
      ...doc.rows,
      [model]: {
        ...old,
        requests: old.requests + 1,
        charged: old.charged + bound,
        held: old.held + bound,
      },
    },
    minute: { n: doc.minute.n, rows: addCount(doc.minute.rows, model, bound, 1) },
    leases: { ...doc.leases, [command.id]: lease },
  }
  if (command.ip !== undefined) next.ip = command.ip
  const step: Step<Admitted> = { user: next, answer: admitted(next, lease) }
  if (day) step.day = hold(day, scopes, bound)
  return step
}

/** Replaces the bound by the real charge if the lease is still there, and does nothing otherwise. */
export function settle(
  user: UserDoc | undefined,
  command: Settle,
  loadDay: LoadDay,
  keep: Keep,
): Step<Settled> {
  if (!user || !own(user.leases, command.event.id)) return { answer: { applied: false } }
  const doc = advance(user, command.now, keep)
  const lease = own(doc.leases, command.event.id)
  if (!lease) return { answer: { applied: false } }

  const event: Event = {
    ...command.event,
    at: lease.at,
    user: doc.id,
    model: lease.model,
    bound: lease.bound,
  }
  if (doc.at > lease.until) event.late = true
  const { [event.id]: _, ...leases } = doc.leases
  const next: UserDoc = { ...doc, leases, seen: doc.at }

  const date = dateOf(lease.at)
  const rows: Record<string, PastRow> = (date === doc.date ? doc.rows : own(doc.past, date)) ?? {}
  const row = own(rows, lease.model)
  let first: First = { user: false, model: false, session: false }
  if (row && 'held' in row) {
    first = firstAnswer(rows, row, event)
    const ended = end(row, event)
    if (date === doc.date) next.rows = { ...doc.rows, [lease.model]: ended }
    else next.past = { ...doc.past, [date]: { ...rows, [lease.model]: shorten(ended) } }
  }
  if (minuteOf(lease.at) === doc.minute.n) {
    next.minute = {
      n: doc.minute.n,
      rows: addCount(doc.minute.rows, lease.model, event.charged - lease.bound, 0),
    }
  }
  const { session } = event
  if (session !== undefined && date === doc.date && event.outcome !== 'failed') {
    const known =
      own(doc.sessions, session) ?? Object.keys(doc.sessions).length >= SESSIONS_PER_USER
    if (!known) {
      first.session = true
      next.sessions = { ...doc.sessions, [session]: 1 }
    }
  }
  const day = endDay(loadDay(date) ?? newDay(date), lease, event, { first, at: doc.at })
  return { user: next, day, event, answer: { applied: true } }
}

/** Sets or lifts a block; a user who was never seen can be blocked. It is not activity of the user's. */
export function setBlock(user: UserDoc | undefined, command: SetBlock): Step<Done> {
  const doc = user ?? newUser(command.user, command.now)
  const { [command.model]: _, ...others } = doc.blocks
  const blocks = command.block ? { ...others, [command.model]: command.block } : others
  return { user: { ...doc, blocks }, answer: { ok: true } }
}

/** Forgets history and events; of today what the quotas hold on to stays, and so does a day that clocks ahead have begun. */
export function clear({ now }: Clear, loadDay: LoadDay): Step<Done> {
  const date = dateOf(now)
  const today = loadDay(date)
  const step: Step<Done> = { cleared: date, answer: { ok: true } }
  if (today) step.day = { ...newDay(date), quota: today.quota, minute: today.minute }
  return step
}

const blocked = (model: string, block: Block): Refusal => {
  const refusal: Refusal = { ok: false, reason: 'blocked', model }
  if (block.reason !== undefined) refusal.why = block.reason
  if (block.until !== undefined) refusal.until = block.until
  return refusal
}

const admitted = (doc: UserDoc, lease: Lease): Admitted => ({
  ok: true,
  at: lease.at,
  day: dayCount(own(doc.rows, lease.model)),
  minute: own(doc.minute.rows, lease.model) ?? NOTHING,
})
