/** The outbox: the latest alerts, and how far the delivery of each is. */
import { MINUTE_MS, DAY_MS } from './windows.ts'
import { ALL_MODELS, type Alert, type OutboxDoc, type QuotaDoc } from './documents.ts'
import { VERSIONS } from './shapes.ts'
import type { Terms, View, Step } from './step.ts'
import { filter, mapValues, own } from './records.ts'
import { newQuota } from './new-documents.ts'
import type { Take, Tried } from './commands.ts'
import type { Taken } from './answers.ts'

/** The outbox keeps the latest alerts. */
export const ALERTS_KEPT = 100

/** At most this many are taken at a time. */
export const ALERTS_TAKEN = 5

/** An instance that takes an alert has this long to deliver it. */
export const CLAIM_MS = MINUTE_MS

export type New = Omit<Alert, 'state' | 'attempts' | 'due'> & Partial<Pick<Alert, 'attempts'>>

const newOutbox = (): OutboxDoc => ({ v: VERSIONS.outbox, alerts: {} })

/** The outbox with new alerts, which are due at once. */
export function withNew(
  outbox: OutboxDoc | undefined,
  alerts: (New & Partial<Pick<Alert, 'state'>>)[],
  at: number,
  { userDays }: Pick<Terms, 'userDays'>,
): OutboxDoc {
  const known = outbox ?? newOutbox()
  const all = { ...known.alerts }
  for (const alert of alerts) {
    const { state = 'pending' } = alert
    all[alert.id] ??= { attempts: 0, ...alert, state, ...(state === 'pending' && { due: at }) }
  }
  return latestOf({ ...known, alerts: all }, at - userDays * DAY_MS)
}

/** The outbox with as many alerts as are kept, of those since `oldest`. */
function latestOf(outbox: OutboxDoc, oldest: number): OutboxDoc {
  const kept = Object.values(outbox.alerts).filter((alert) => alert.at >= oldest)
  const excess = kept.length - ALERTS_KEPT
  const gone = new Set(kept.sort(byAge).slice(0, Math.max(0, excess)))
  const alerts = filter(outbox.alerts, (alert) => alert.at >= oldest && !gone.has(alert))
  return { ...outbox, alerts }
}

/** Two outboxes as one. Of an alert that both have, the state of the first holds, and so does which receiver is gone. */
export const mergeOutbox = (first: OutboxDoc | undefined, second: OutboxDoc): OutboxDoc =>
  latestOf({ ...second, ...first, alerts: { ...second.alerts, ...first?.alerts } }, -Infinity)

/** Those that are delivered or given up first, and then the oldest. */
const byAge = (a: Alert, b: Alert): number =>
  Number(a.state === 'pending') - Number(b.state === 'pending') ||
  a.at - b.at ||
  (a.id < b.id ? -1 : 1)

/** When the next alert is due. */
function nextDue({ alerts }: OutboxDoc): number | undefined {
  const due = Object.values(alerts).flatMap((one) =>
    one.state === 'pending' ? [one.due ?? 0] : [],
  )
  return due.length > 0 ? Math.min(...due) : undefined
}

/** The parts of a step that write the outbox, and when its next alert is due. */
export function withOutbox(outbox: OutboxDoc, view: View, at: number) {
  const { alertsDue: _, ...quota } = view.quota(ALL_MODELS) ?? newQuota(at)
  const due = nextDue(outbox)
  const all: QuotaDoc = due === undefined ? quota : { ...quota, alertsDue: due }
  return { outbox, quotas: { [ALL_MODELS]: all } }
}

/** The parts of a step that add an alert. */
export const raised = (
  alert: New & Partial<Pick<Alert, 'state'>>,
  view: View,
  at: number,
  terms: Terms,
) => withOutbox(withNew(view.outbox(), [alert], at, terms), view, at)

/** Takes the alerts that are due, the longest waiting first. A receiver that is gone gets tests only. */
export function take({ to }: Take, at: number, view: View): Step<Taken> {
  const known = view.outbox() ?? newOutbox()
  const outbox = known.gone === to ? givenUp(known) : known
  const due = Object.values(outbox.alerts)
    .filter((one) => one.state === 'pending' && (one.due ?? 0) <= at)
    .sort((a, b) => (a.due ?? 0) - (b.due ?? 0) || (a.id < b.id ? -1 : 1))
    .slice(0, ALERTS_TAKEN)
  const taken = Object.fromEntries(due.map((one) => [one.id, { ...one, due: at + CLAIM_MS }]))
  const next = { ...outbox, alerts: { ...outbox.alerts, ...taken } }
  return { ...withOutbox(next, view, at), answer: { ok: true, alerts: taken, ...dueOf(next) } }
}

/** Keeps how deliveries went. */
export function tried(
  { to, results }: Tried,
  at: number,
  view: View,
): Step<{ ok: true; due?: number }> {
  const known = view.outbox()
  if (!known) return { answer: { ok: true } }
  const alerts = mapValues(known.alerts, (alert, id) => {
    const result = own(results, id)
    if (!result || alert.state !== 'pending') return alert
    const { due: _, ...rest } = alert
    return { ...rest, ...result, attempts: alert.attempts + 1, triedAt: at }
  })
  const { gone: _, ...others } = known
  const all = Object.values(results)
  const isGone = all.some(({ status }) => status === 410)
  const isBack = all.some(({ state }) => state === 'delivered')
  let outbox: OutboxDoc = { ...(isBack ? others : known), alerts }
  if (isGone && !isBack) outbox = givenUp({ ...outbox, gone: to })
  return { ...withOutbox(outbox, view, at), answer: { ok: true, ...dueOf(outbox) } }
}

const dueOf = (outbox: OutboxDoc) => {
  const due = nextDue(outbox)
  return due === undefined ? {} : { due }
}

/** The outbox of a receiver that is gone: only tests wait. */
const givenUp = (outbox: OutboxDoc): OutboxDoc => ({
  ...outbox,
  alerts: mapValues(outbox.alerts, (alert) => {
    if (alert.state !== 'pending' || alert.type === 'test') return alert
    const { due: _, ...rest } = alert
    return { ...rest, state: 'failed' as const, status: 410 }
  }),
})

/** The outbox without the alerts of a user. */
export const withoutUser = (outbox: OutboxDoc, user: string): OutboxDoc => ({
  ...outbox,
  alerts: filter(outbox.alerts, (alert) => alert.user !== user),
})
