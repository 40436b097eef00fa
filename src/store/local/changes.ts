/** Changes the data of the local store: applies the steps of the reducer, and removes expired data. */
import { ENTER_MS, QUOTA_DAYS } from '../../ledger/capacity.ts'
import { bareWindows, type Retention } from '../../ledger/advance.ts'
import { endOfProfile } from '../../ledger/blocks.ts'
import type { Step } from '../../ledger/step.ts'
import { ALL_MODELS } from '../../ledger/documents.ts'
import { own } from '../../ledger/records.ts'
import type { Event, Refused } from '../../ledger/events.ts'
import { DAY_MS, dateOf, minuteOf } from '../../ledger/windows.ts'
import { AUDIT_KEPT, REFUSED_KEPT } from '../store.ts'
import type { Records } from './state.ts'

/** Applies a step. Keeps about `eventsKept` events. */
export function applyStep(records: Records, step: Step, eventsKept: number, now: number): void {
  if (step.cleared) {
    for (const date of records.days.keys()) if (date < step.cleared) records.days.delete(date)
    records.events = []
    records.refused = []
    records.refusals.clear()
  }
  if (step.usage) {
    records.usage.set(step.usage.id, step.usage)
    records.windows.delete(step.usage.id)
  }
  if (step.past) records.past.set(step.past.id, step.past)
  if (step.profile) records.profiles.set(step.profile.id, step.profile)
  if (step.settings) records.settings = step.settings
  if (step.plan) {
    const { name, doc } = step.plan
    if (doc) records.plans.set(name, doc)
    else records.plans.delete(name)
  }
  for (const [scope, quota] of Object.entries(step.quotas ?? {})) records.quotas.set(scope, quota)
  if (step.outbox) records.outbox = step.outbox
  if (step.day) records.days.set(step.day.date, step.day)
  if (step.event) keepEvent(records, step.event, eventsKept)
  if (step.audit) {
    const others = step.again ? records.audit.slice(1) : records.audit
    records.audit = [step.audit, ...others].slice(0, AUDIT_KEPT)
  }
  if (step.session) {
    const { hash, until } = step.session
    if (until === undefined) records.sessions.delete(hash)
    else records.sessions.set(hash, until)
  }
  if (step.erased) {
    const { user, at } = step.erased
    const { usage, windows, past, profiles } = records
    for (const documents of [usage, windows, past, profiles]) documents.delete(user)
    records.erased.set(user, at)
    records.events = records.events.filter((event) => event.user !== user)
    records.refused = records.refused.filter((one) => one.user !== user)
  }
  if (step.refused) keepRefused(records, step.refused)
  for (const [date, counts] of Object.entries(step.refusals ?? {})) {
    const all = { ...records.refusals.get(date) }
    for (const [name, count] of Object.entries(counts)) all[name] = (own(all, name) ?? 0) + count
    records.refusals.set(date, all)
  }
  if (step.newUsers) records.newUsers = step.newUsers
  if (step.entered !== undefined) records.entered.set(step.entered, step.event?.at ?? now)
}

function keepEvent(records: Records, event: Event, eventsKept: number): void {
  records.events.push(event)
  // The list is cut rarely, so that most requests do not pay for it.
  if (records.events.length > eventsKept * 1.1 + 64) {
    records.events = newestOf(records.events, eventsKept)
  }
}

/** Keeps a refusal, unless one of this user, code and minute is kept. */
function keepRefused(records: Records, refused: Refused): void {
  const minute = minuteOf(refused.at)
  const isSame = ({ user, code, at }: Refused) =>
    user === refused.user && code === refused.code && minuteOf(at) === minute
  // Clocks of commands differ a little, so an earlier minute may be among the last ones.
  const same = records.refused.findLast((one) => isSame(one) || minuteOf(one.at) < minute - 5)
  if (!same || !isSame(same)) records.refused.push(refused)
  if (records.refused.length > 2 * REFUSED_KEPT) {
    records.refused = records.refused.slice(-REFUSED_KEPT)
  }
}

/** The newest `count` events, oldest first. */
export const newestOf = (events: Event[], count: number): Event[] =>
  count > 0 ? events.slice(-count) : []

/** Removes everything that has expired at a given time. */
export function removeAged(records: Records, at: number, retention: Retention): void {
  const { usage, windows, past, profiles, quotas, days, refusals, entered, erased, sessions } =
    records
  const oldestUser = at - retention.userDays * DAY_MS
  const oldestDay = dateOf(at - retention.historyDays * DAY_MS)
  const oldestQuota = at - QUOTA_DAYS * DAY_MS
  for (const doc of usage.values()) {
    if (doc.at >= oldestUser) continue
    usage.delete(doc.id)
    past.delete(doc.id)
    windows.set(doc.id, bareWindows(doc))
  }
  for (const { id, limitedUntil = 0 } of windows.values()) {
    if (limitedUntil <= at) windows.delete(id)
  }
  for (const profile of profiles.values()) {
    if (endOfProfile(profile) <= at) profiles.delete(profile.id)
  }
  // The quota of all models is kept, because it contains the clock.
  for (const [scope, { at: last }] of quotas) {
    if (scope !== ALL_MODELS && last < oldestQuota) quotas.delete(scope)
  }
  for (const date of days.keys()) if (date < oldestDay) days.delete(date)
  for (const date of refusals.keys()) if (date < oldestDay) refusals.delete(date)
  records.refused = records.refused.filter((one) => one.at >= oldestUser).slice(-REFUSED_KEPT)
  for (const [user, since] of erased) if (at - since >= ENTER_MS) erased.delete(user)
  for (const [hash, until] of sessions) if (until <= at) sessions.delete(hash)
  for (const [id, since] of entered) if (at - since >= ENTER_MS) entered.delete(id)
  // The same as in Redis, where the list expires.
  const newest = records.events.at(-1)
  if (newest && newest.at < at - retention.historyDays * DAY_MS) records.events = []
  if (records.events.length > retention.eventsKept) {
    records.events = newestOf(records.events, retention.eventsKept)
  }
}
