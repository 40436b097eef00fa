/**
 * The rules of metering as one pure reducer: (state, command) → (state, answer).
 *
 * The state in view is the document of the command's user and, where everyone together is counted, that of
 * a day. The local store runs this file; `store/redis/ledger/rules.lua` is the port of
 * it and of what it calls, function by function.
 */
import { advance, advanceDay, newDay, newUser, shorten, type Keep } from './documents.ts'
import { checks, refuse } from './limits.ts'
import {
  ALL_MODELS,
  AUDIT_ID_CHARS,
  ENTER_MS,
  MODELS_PER_USER,
  SESSIONS_PER_USER,
  dateOf,
  minuteOf,
  nextDay,
  own,
  type Admit,
  type Admitted,
  type Answer,
  type Audit,
  type Block,
  type Clear,
  type Count,
  type Done,
  type Command,
  type DayDoc,
  type Enter,
  type Erase,
  type Event,
  type Lease,
  type Login,
  type Logout,
  type PastRow,
  type Refusal,
  type Report,
  type Reported,
  type Row,
  type SetBlock,
  type Settle,
  type Settled,
  type UserDoc,
} from './record.ts'
import {
  addCount,
  dayCount,
  end,
  endDay,
  firstAnswer,
  hold,
  NOTHING,
  open,
  type First,
} from './tally.ts'

/** What a reducer step leaves behind; an absent document is unchanged. */
export type Step<A extends Answer = Answer> = {
  user?: UserDoc
  day?: DayDoc
  event?: Event
  /** An event id that must not be entered again. */
  entered?: string
  /** The user is gone; requests of theirs until then are not entered any more. */
  erased?: { user: string; at: number }
  session?: { hash: string; until: number | undefined }
  audit?: Audit
  /** All days before this date and all events are forgotten. */
  cleared?: string
  answer: A
}

/** What else of the state a command may look at; lookups, not I/O. */
export type View = {
  day(date: string): DayDoc | undefined
  /** Whether an event with this id has been entered. */
  entered(id: string): boolean
  /** Until when a user's requests were erased. */
  erasedAt(user: string): number | undefined
}

/** Applies one command to the state in view. */
export function reduce(user: UserDoc | undefined, command: Command, view: View, keep: Keep): Step {
  switch (command.op) {
    case 'admit':
      return admit(user, command, view, keep)
    case 'settle':
      return settle(user, command, view, keep)
    case 'enter':
      return enter(user, command, view, keep)
    case 'block':
      return setBlock(user, command)
    case 'report':
      return report(user, command, keep)
    case 'erase':
      return erase(command)
    case 'clear':
      return clear(command, view)
    case 'login':
    case 'logout':
      return session(command)
    case 'note':
      return { audit: auditOf(command, command.action), answer: { ok: true } }
  }
}

/**
 * Refuses, or charges the bound at once and records the lease. The same id again gets the same answer; one that
 * has been entered, since the store was slow and the request served without it, gets no lease any more.
 */
export function admit(
  user: UserDoc | undefined,
  command: Admit,
  view: View,
  keep: Keep,
): Step<Admitted | Refusal> {
  const doc = advance(user ?? newUser(command.user, command.now), command.now, keep)
  const { model, bound } = command
  const held = own(doc.leases, command.id)
  if (held) return { answer: admitted(doc, held) }
  if (view.entered(command.id)) return { answer: admitted(doc, { model, at: doc.at }) }

  const block = own(doc.blocks, ALL_MODELS) ?? own(doc.blocks, model)
  if (block) {
    const scope = own(doc.blocks, ALL_MODELS) ? ALL_MODELS : model
    return { answer: blocked(scope, block) }
  }
  const row = own(doc.rows, model)
  if (!row && Object.keys(doc.rows).length >= MODELS_PER_USER) {
    return { answer: { ok: false, reason: 'models' } }
  }

  const day = command.global && advanceDay(view.day(dateOf(doc.at)), doc.at)
  for (const check of checks(doc, day, command)) {
    const refusal = refuse(check, bound, doc.at)
    if (refusal) return { answer: refusal }
  }

  const scopes = scopesOf(command)
  const lease: Lease = { model, at: doc.at, bound, until: doc.at + command.lasts }
  if (scopes) lease.scopes = scopes
  const next: UserDoc = {
    ...withRow(doc, doc.date, model, open(row, bound)),
    minute: { n: doc.minute.n, rows: addCount(doc.minute.rows, model, bound, 1) },
    leases: { ...doc.leases, [command.id]: lease },
  }
  if (command.ip !== undefined) next.ip = command.ip
  const step: Step<Admitted> = { user: next, answer: admitted(next, lease) }
  if (day && scopes) step.day = hold(day, scopes, bound)
  return step
}

/** Replaces the bound by the real charge if the lease is still there, and does nothing otherwise. */
export function settle(
  user: UserDoc | undefined,
  command: Settle,
  view: View,
  keep: Keep,
): Step<Settled> {
  if (!user || !own(user.leases, command.event.id)) return { answer: { applied: false } }
  const doc = advance(user, command.now, keep)
  const lease = own(doc.leases, command.event.id)
  if (!lease) return { answer: { applied: false } }
  return close(doc, lease, command.event, view)
}

/** Counts what was served without a sure lease, as if it had been admitted at its own time; limits do not stop it. */
export function enter(
  user: UserDoc | undefined,
  command: Enter,
  view: View,
  keep: Keep,
): Step<Settled> {
  const { event, now, scopes } = command
  const gone = view.erasedAt(command.user) ?? -Infinity
  if (view.entered(event.id) || now - event.at >= ENTER_MS || event.at <= gone) {
    return { answer: { applied: false } }
  }
  const doc = advance(user ?? newUser(command.user, event.at), event.at, keep)
  const held = own(doc.leases, event.id)
  if (held) return { ...close(doc, held, event, view), entered: event.id }

  const { model, at, bound } = event
  const date = dateOf(at)
  const lease: Lease = { model, at, bound, until: doc.at }
  const opened = withRow(doc, date, model, open(own(rowsOf(doc, date), model), bound))
  if (minuteOf(at) === doc.minute.n) {
    opened.minute = { n: doc.minute.n, rows: addCount(doc.minute.rows, model, bound, 1) }
  }
  if (!scopes) return { ...close(opened, lease, event, view), entered: event.id }
  lease.scopes = scopes
  const day = advanceDay(view.day(date), at)
  const charged = hold(day, scopes, bound)
  // The minute of a day may be past.
  const kept = minuteOf(at) === day.minute.n ? charged : { ...charged, minute: day.minute }
  const step = close(opened, lease, event, { ...view, day: () => kept })
  return { ...step, entered: event.id }
}

/** Ends an admitted request: its charge takes the place of its bound in the day and minute of admission. */
function close(doc: UserDoc, lease: Lease, ended: Event, view: View): Step<Settled> {
  const event: Event = {
    ...ended,
    at: lease.at,
    user: doc.id,
    model: lease.model,
    bound: lease.bound,
  }
  if (doc.at > lease.until) event.late = true
  const { [event.id]: _, ...leases } = doc.leases

  const date = dateOf(lease.at)
  const rows = rowsOf(doc, date)
  const row = own(rows, lease.model)
  let next = doc
  let first: First = { user: false, model: false, session: false }
  if (row) {
    first = firstAnswer(rows, row, event)
    next = withRow(doc, date, lease.model, end(row, event))
  }
  next = { ...next, leases, seen: doc.at }
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
  const day = endDay(view.day(date) ?? newDay(date), lease, event, { first, at: doc.at })
  return { user: next, day, event, answer: { applied: true } }
}

/** The counters of everyone together that an admission is charged to. */
export const scopesOf = ({ model, global }: Admit): string[] | undefined =>
  global && (global.model ? [ALL_MODELS, model] : [ALL_MODELS])

/** Sets or lifts a block; a user who was never seen can be blocked. It is not activity of the user's. */
export function setBlock(user: UserDoc | undefined, command: SetBlock): Step<Done> {
  const doc = user ?? newUser(command.user, command.now)
  const { [command.model]: _, ...others } = doc.blocks
  const { block, model } = command
  const blocks = block ? { ...others, [model]: block } : others
  const audit = auditOf(command, block ? 'block' : 'unblock', command.user)
  audit.model = model
  if (block?.reason !== undefined) audit.reason = block.reason
  if (block?.until !== undefined) audit.until = block.until
  return { user: { ...doc, blocks }, audit, answer: { ok: true } }
}

/**
 * Keeps what a user's browser says, if it is more than it said before and about today. It neither counts nor lowers
 * anything, and leaves nothing behind of users without a request.
 */
export function report(
  user: UserDoc | undefined,
  { now, models, user: id }: Report,
  keep: Keep,
): Step<Reported> {
  const doc = advance(user ?? newUser(id, now), now, keep)
  let reported: Record<string, Count> = doc.reported ?? {}
  for (const [model, { tokens, requests, resetAt }] of Object.entries(models)) {
    const known = own(reported, model)
    const full = !known && Object.keys(reported).length >= MODELS_PER_USER
    if (resetAt !== nextDay(doc.at) || full) continue
    const { tokens: least, requests: fewest } = known ?? NOTHING
    reported = {
      ...reported,
      [model]: { tokens: Math.max(least, tokens), requests: Math.max(fewest, requests) },
    }
  }
  const rows = Object.fromEntries(
    Object.entries(doc.rows).map(([model, row]) => [model, dayCount(row)]),
  )
  const answer: Reported = { ok: true, at: doc.at, rows, blocks: doc.blocks }
  return user ? { user: { ...doc, reported }, answer } : { answer }
}

/** Forgets a user. */
export const erase = (command: Erase): Step<Done> => ({
  erased: { user: command.user, at: command.now },
  audit: auditOf(command, 'erase', command.user),
  answer: { ok: true },
})

/** Opens or ends an admin's session. */
export const session = (command: Login | Logout): Step<Done> => ({
  session: { hash: command.session, until: command.op === 'login' ? command.until : undefined },
  audit: auditOf(command, command.op),
  answer: { ok: true },
})

function auditOf(
  { now, ip }: { now: number; ip?: string },
  action: Audit['action'],
  user?: string,
): Audit {
  const audit: Audit = { at: now, action }
  if (user !== undefined) audit.user = user.slice(0, AUDIT_ID_CHARS)
  if (ip !== undefined) audit.ip = ip
  return audit
}

/** Forgets history and events; of today what the quotas hold on to stays, and so does a day that clocks ahead have begun. */
export function clear(command: Clear, view: View): Step<Done> {
  const date = dateOf(command.now)
  const today = view.day(date)
  const step: Step<Done> = {
    cleared: date,
    audit: auditOf(command, 'clear'),
    answer: { ok: true },
  }
  if (today) {
    const forgotten = today.total.requests + (today.forgotten ?? 0)
    step.day = { ...newDay(date), quota: today.quota, minute: today.minute, forgotten }
  }
  return step
}

/** A user's rows of a day. */
const rowsOf = (doc: UserDoc, date: string): Record<string, PastRow> =>
  (date === doc.date ? doc.rows : own(doc.past, date)) ?? {}

/** The document with one row of a day replaced; the rows of today are always in full. */
const withRow = (doc: UserDoc, date: string, model: string, row: PastRow): UserDoc =>
  date === doc.date
    ? { ...doc, rows: { ...doc.rows, [model]: row as Row } }
    : { ...doc, past: { ...doc.past, [date]: { ...rowsOf(doc, date), [model]: shorten(row) } } }

const blocked = (model: string, block: Block): Refusal => {
  const refusal: Refusal = { ok: false, reason: 'blocked', model }
  if (block.reason !== undefined) refusal.why = block.reason
  if (block.until !== undefined) refusal.until = block.until
  return refusal
}

const admitted = (doc: UserDoc, lease: Pick<Lease, 'model' | 'at'>): Admitted => ({
  ok: true,
  at: lease.at,
  day: dayCount(own(doc.rows, lease.model)),
  minute: own(doc.minute.rows, lease.model) ?? NOTHING,
})
