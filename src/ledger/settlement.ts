/** How a request ends, and the entry of a request that was served while the store was unreachable. */
import type { Enter, Settle } from './commands.ts'
import { ENTER_MS, LATE_SETTLE_MS, SESSIONS_PER_USER } from './capacity.ts'
import type { Settled } from './answers.ts'
import { advance, type Account } from './advance.ts'
import { filter, own } from './records.ts'
import { hasAnswers, useOf, whole, withPastRow } from './rows.ts'
import { newDay, newPast, newRow, newUsage } from './new-documents.ts'
import { releasing, watched } from './alerts.ts'
import { NOTHING, type Amounts } from './units.ts'
import type { Event } from './events.ts'
import type { Lease, Row, UsageDoc } from './documents.ts'
import { digitsOf } from './money.ts'
import { stepOf, type Step, type Terms, type View } from './step.ts'
import {
  chargedBy,
  correct,
  end,
  endDay,
  firstAnswer,
  open,
  reservedBy,
  sum,
  type First,
} from './tally.ts'
import { WINDOW_NAMES, dateOf, startOf } from './windows.ts'
import { charged, changeWindows, changeQuotas, chargeAll, withToday } from './accounts.ts'
import { indexed } from './activity.ts'

/**
 * Replaces the reservation by the real charge if the lease is still there. If it was lost with the user's document, the
 * request is entered. Otherwise does nothing.
 */
export function settle(command: Settle, now: number, view: View, terms: Terms): Step<Settled> {
  const { user, event } = command
  const known = view.usage(user)
  if (!known || !own(known.leases, event.id)) {
    return isForgotten(event, known, now)
      ? enter(command, now, view, terms)
      : { answer: { applied: false } }
  }
  const account = advance(known, now, view.past, terms)
  const lease = own(account.usage.leases, event.id)
  if (!lease) return { answer: { applied: false } }
  return close(account, lease, command, now, view, terms)
}

/**
 * Whether the user's document is from after the admission, or from before it: the database was emptied, evicted the
 * document, or continues from an older copy. A document outlives a lease, so it did not expire.
 */
const isForgotten = ({ at }: Event, known: UsageDoc | undefined, now: number): boolean =>
  now - at < LATE_SETTLE_MS && (!known || known.since > at || known.at < at)

/** Counts a request whose lease is not certain, as if it had been admitted at its own time. Limits do not stop it. */
export function enter(
  command: Pick<Enter, 'user' | 'event' | 'refused' | 'watch'>,
  now: number,
  view: View,
  terms: Terms,
): Step<Settled> {
  const { user, event } = command
  const { id, model } = event
  const gone = view.erasedAt(user) ?? -Infinity
  if (view.entered(id) || now - event.at >= ENTER_MS || event.at <= gone) {
    return { answer: { applied: false } }
  }
  const at = Math.min(event.at, now)
  const account = advance(view.usage(user) ?? newUsage(user, at), at, view.past, terms)
  const held = own(account.usage.leases, id)
  if (held) return { ...close(account, held, command, now, view, terms), entered: id }
  if (command.refused) return { answer: { applied: false }, entered: id }

  const reserved = reservedBy(event)
  // The event does not say which windows its limits have, so it counts in all of them.
  const windows = Object.fromEntries(WINDOW_NAMES.map((window) => [window, 1 as const]))
  const lease: Lease = { model, at, until: account.usage.at, reserved, windows }
  const quotas = chargeAll(view, lease, now)
  const { row = newRow() } = rowOf(account, view.past, dateOf(at), model)
  const opened = withRow(
    { ...account, usage: charged(account.usage, lease) },
    view.past,
    dateOf(at),
    model,
    open(row, reserved),
  )
  const seen: View = { ...view, quota: (scope) => own(quotas, scope) }
  return { ...close(opened, lease, command, now, seen, terms), entered: id }
}

/** Ends an admitted request: its charge replaces its reservation in the day and the windows of its admission. */
function close(
  account: Account,
  lease: Lease,
  { event: ended, watch }: Pick<Settle, 'event' | 'watch'>,
  now: number,
  view: View,
  terms: Terms,
): Step<Settled> {
  const { usage } = account
  const { model, at } = lease
  const { tokens, usd, audioSeconds, characters } = lease.reserved
  const { reservedAudioMs: _ms, reservedCharacters: _characters, ...told } = ended
  const event: Event = { ...told, at, user: usage.id, model, reserved: tokens }
  if (audioSeconds !== undefined) event.reservedAudioMs = audioSeconds
  if (characters !== undefined) event.reservedCharacters = characters
  if (ended.cost !== undefined || usd > 0) event.reservedCost = digitsOf(usd)
  if (usage.at > lease.until) event.late = true
  const { [event.id]: _, ...leases } = usage.leases

  const date = dateOf(at)
  const { row, isUnanswered } = rowOf(account, view.past, date, model)
  let next = account
  let first: First = { user: false, model: false, session: false }
  if (row) {
    first = firstAnswer(isUnanswered, row, event)
    next = withRow(account, view.past, date, model, end(row, event))
  }
  const sessions = withSession(usage, date, event)
  first.session = sessions !== usage.sessions

  const amounts = chargedBy(event)
  // Of a user's requests, the failed ones count too.
  const ofUser = { ...amounts, requests: 1 }
  const corrected = changeWindows(next.usage, model, (windows) => correct(windows, lease, ofUser))
  const charges = changeQuotas(view.quota, lease, now, (windows) =>
    correct(windows, lease, amounts),
  )
  const quotas = lease.watched ? releasing(charges, lease) : charges
  const closed = indexed({ ...corrected, leases, sessions, seen: usage.at })
  if (event.key !== undefined) closed.keysCharged = chargedKeys(closed, event.key, at, ofUser)
  const step = {
    ...stepOf({ ...next, usage: closed }),
    quotas,
    day: endDay(view.day(date) ?? newDay(date), event, first, usage.at),
    event,
    answer: { applied: true },
  }
  return watch ? watched(step, watch, view, terms) : step
}

/** What each key was charged this month, with a request added. A request of another month changes nothing. */
function chargedKeys(
  { keysCharged = {}, at: now }: UsageDoc,
  key: string,
  at: number,
  by: Amounts,
) {
  const month = startOf('month', now)
  const kept = filter(keysCharged, ({ start }) => start === month)
  if (startOf('month', at) !== month) return kept
  return { ...kept, [key]: { start: month, ...sum([own(kept, key) ?? NOTHING, by]) } }
}

/** The sessions, with the session of an answered request added; at most `SESSIONS_PER_USER`. */
function withSession(usage: UsageDoc, date: string, { session, outcome }: Event) {
  const { sessions } = usage
  if (session === undefined || date !== usage.date || outcome === 'failed') return sessions
  if (own(sessions, session) || Object.keys(sessions).length >= SESSIONS_PER_USER) return sessions
  return { ...sessions, [session]: 1 as const }
}

/** A user's row of a day, and whether no request of that day was answered. */
function rowOf(
  { usage, past }: Account,
  load: View['past'],
  date: string,
  model: string,
): { row?: Row; isUnanswered: boolean } {
  if (date === usage.date) {
    const { row } = useOf(usage, model)
    const isUnanswered = usage.answered === 0
    return row.requests === undefined ? { isUnanswered } : { row: whole(row), isUnanswered }
  }
  const kept = past ?? load(usage.id)
  const rows = (kept && own(kept.days, date)) ?? {}
  const row = own(rows, model)
  const isUnanswered = !Object.values(rows).map(whole).some(hasAnswers)
  return row ? { row: whole(row), isUnanswered } : { isUnanswered }
}

/** The account with one row of a day replaced. */
function withRow(
  { usage, past }: Account,
  load: View['past'],
  date: string,
  model: string,
  row: Row,
): Account {
  if (date === usage.date) return { usage: withToday(usage, model, row), past }
  const kept = past ?? load(usage.id) ?? newPast(usage.id)
  return { usage, past: withPastRow(kept, date, model, row) }
}
