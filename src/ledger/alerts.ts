/**
 * Alerts in the ledger: who claims one, and the outbox from which they are delivered. A claim and its entry in the outbox
 * are written in one step, so that many isolates that pass a limit together make one alert with one id.
 */
import type { Admit, Admitted, Settle, Settled, Take, Taken, Tried } from './commands.ts'
import { filter, mapValues, newQuota } from './documents.ts'
import { labelOf } from './labels.ts'
import {
  LIMITS,
  NOTHING,
  amountsFrom,
  usedIn,
  windowsOf,
  type Limits,
  type Of,
  type Rows,
} from './policy.ts'
import {
  ALL_MODELS,
  VERSIONS,
  own,
  type Alert,
  type Amounts,
  type Claims,
  type Event,
  type Lease,
  type OutboxDoc,
  type ProfileDoc,
  type QuotaDoc,
  type UsageDoc,
} from './shapes.ts'
import type { Step, Terms, View } from './step.ts'
import { reservedIn, sum } from './tally.ts'
import { DAY_MS, HOUR_MS, MINUTE_MS, WINDOWS, endOf, startOf, type Window } from './windows.ts'

/** The percentages of a limit that are told, the highest first. */
export const LEVELS: Record<'user' | 'everyone', number[]> = {
  user: [100, 80],
  everyone: [100, 80, 50],
}

/** The outbox keeps the latest alerts. */
export const ALERTS_KEPT = 100

/** At most this many are taken at a time. */
export const ALERTS_TAKEN = 5

/** Who takes an alert has this long to deliver it. */
export const CLAIM_MS = MINUTE_MS

/** A key that is used is told this long before its end. Keys with a shorter life are not told. */
export const EXPIRING_MS = 7 * DAY_MS

/** The provider fails: of at least `calls` in `ms`, more than a part of `of`. */
export const ERRORS = { ms: 5 * MINUTE_MS, calls: 20, of: 10 }

/** How long no second alert of a type is sent. */
export const QUIET_MS = { 'upstream.errors': 30 * MINUTE_MS, 'upstream.spend_blocked': HOUR_MS }

/** Statuses below 500 by which the provider itself fails, and not the request. */
export const FAULTS: Record<string, 1> = { 401: 1, 402: 1, 403: 1, 408: 1, 429: 1 }

type Quotas = Record<string, QuotaDoc>
type New = Omit<Alert, 'state' | 'attempts' | 'due'>

const newOutbox = (): OutboxDoc => ({ v: VERSIONS.outbox, alerts: {} })

/** What is held in a quota's day. What is not given back leaves with the day. */
function heldIn({ held, at }: QuotaDoc): NonNullable<QuotaDoc['held']> {
  const start = startOf('day', at)
  return held?.start === start ? held : { start, ...NOTHING }
}

/** The counters of everyone with a reservation held. */
export const holding = (quotas: Quotas, { at, reserved }: Lease): Quotas =>
  mapValues(quotas, (quota) => {
    const held = heldIn(quota)
    const isToday = startOf('day', at) === held.start
    return { ...quota, held: isToday ? { ...held, ...sum([held, reserved]) } : held }
  })

/** The counters of everyone with a reservation given back. */
export const releasing = (quotas: Quotas, { at, reserved }: Lease): Quotas =>
  mapValues(quotas, (quota) => {
    if (!quota.held) return quota
    const held = heldIn(quota)
    const isToday = startOf('day', at) === held.start
    return { ...quota, held: isToday ? { ...held, ...minus(held, reserved) } : held }
  })

/** The claims with one more; undefined if it was claimed before. A higher limit in the same window can be claimed again. */
function claim(
  claims: Claims,
  name: string,
  { start, level, limit }: Claims[string],
): Claims | undefined {
  const known = own(claims, name)
  const same = known?.start === start ? known : undefined
  if (same && level <= same.level && limit <= same.limit) return undefined
  return { ...claims, [name]: { start, level, limit: Math.max(limit, same?.limit ?? 0) } }
}

/** The claims of windows that have not ended. */
const lasting = (claims: Claims, at: number): Claims =>
  filter(claims, ({ start }, name) => {
    const window = name.slice(name.lastIndexOf(' ') + 1)
    return Object.hasOwn(WINDOWS, window) && startOf(window as Window, at) === start
  })

/** The claims without those of a window, or without any. */
export const withoutClaims = (claims: Claims, window?: Window): Claims =>
  window === undefined ? {} : filter(claims, (_, name) => !name.endsWith(` ${window}`))

/**
 * Claims the limits of a row whose use has reached a percentage. `usedOf` gives what is used in a window, without what is
 * reserved.
 */
function reached(
  of: 'user' | 'everyone',
  model: string,
  row: Limits | undefined,
  usedOf: (window: Window) => Amounts,
  claims: Claims,
  at: number,
): { claims: Claims; told: Omit<New, 'id' | 'type' | 'at'>[] } {
  const told: Omit<New, 'id' | 'type' | 'at'>[] = []
  let next = claims
  for (const { name, unit, window } of LIMITS) {
    const limit = row?.[name]
    if (limit === undefined || limit <= 0 || WINDOWS[window].waits) continue
    const used = usedOf(window)[unit] ?? 0
    const level = LEVELS[of].find((percent) => used * 100 >= limit * percent)
    if (level === undefined) continue
    const claimed = claim(next, `${model} ${unit} ${window}`, {
      start: startOf(window, at),
      level,
      limit,
    })
    if (!claimed) continue
    next = claimed
    told.push({
      ...{ of, model, unit, window, percent: level, limit, used },
      resetAt: endOf(window, at),
    })
  }
  return { claims: next, told }
}

const minus = (amounts: Amounts, held: Amounts): Amounts =>
  amountsFrom((unit) => Math.max(0, (amounts[unit] ?? 0) - (held[unit] ?? 0)))

const isFault = ({ outcome, status }: Event): boolean =>
  outcome === 'failed' && (status >= 500 || FAULTS[status] !== undefined)

/** A settlement with the alerts that it claims. Tells its sender to deliver if some are due. */
export function watched(
  step: Step<Settled> & { usage: UsageDoc; quotas: Quotas; event: Event },
  watch: NonNullable<Settle['watch']>,
  view: View,
  terms: Terms,
): Step<Settled> {
  const { usage, quotas, event } = step
  const all = quotas[ALL_MODELS] ?? newQuota(event.at)
  const { at } = all
  const found: Omit<New, 'id' | 'at'>[] = []

  let mine = usage.alerted ?? {}
  const leases = Object.values(usage.leases)
  const ofUser = (scope: string) => (window: Window) => {
    const own = scope === ALL_MODELS ? leases : leases.filter(({ model }) => model === scope)
    const held = reservedIn(own, window, startOf(window, usage.at))
    return minus(usedIn(windowsOf(usage, scope), window, usage.at), held)
  }
  let everyones = all.alerted ?? {}
  const ofEveryone = (scope: string) => (window: Window) => {
    const { windows, held } = quotas[scope] ?? all
    const isToday = held?.start === startOf('day', at)
    return minus(usedIn(windows, window, at), isToday ? held : NOTHING)
  }
  for (const [scope, part] of [
    [event.model, 'model'],
    [ALL_MODELS, 'total'],
  ] as const) {
    const own = reached('user', scope, watch.user?.[part], ofUser(scope), mine, usage.at)
    const shared = reached(
      'everyone',
      scope,
      watch.everyone?.[part],
      ofEveryone(scope),
      everyones,
      at,
    )
    ;[mine, everyones] = [own.claims, shared.claims]
    for (const one of [...own.told, ...shared.told]) found.push({ type: 'limit.threshold', ...one })
  }

  const told = { ...all.told }
  const tellOnce = (type: keyof typeof QUIET_MS, facts: Partial<New>) => {
    if (at - (told[type] ?? -Infinity) < QUIET_MS[type]) return
    told[type] = at
    found.push({ type, ...facts })
  }
  const calls = countCall(all, event)
  const { count, failures } = calls
  if (count >= ERRORS.calls && failures * ERRORS.of > count) {
    tellOnce('upstream.errors', { calls: count, failures })
  }
  if (watch.spendBlocked) tellOnce('upstream.spend_blocked', { model: event.model })

  const label = found.some(({ of }) => of === 'user')
    ? labelOf({ usage, profile: view.profile(usage.id) })
    : undefined
  const alerts = found.map((facts, n): New => {
    const user =
      facts.of === 'user' ? { user: usage.id, ...(label !== undefined && { label }) } : {}
    return { id: `${event.id}-${n + 1}`, at, ...facts, ...user }
  })
  const quota: QuotaDoc = { ...all, calls }
  if (found.some(({ of }) => of === 'everyone')) quota.alerted = lasting(everyones, at)
  if (Object.keys(told).length > 0) quota.told = told
  const next: Step<Settled> = { ...step, quotas: { ...quotas, [ALL_MODELS]: quota } }
  if (found.some(({ of }) => of === 'user')) {
    next.usage = { ...usage, alerted: lasting(mine, usage.at) }
  }
  if (alerts.length > 0) next.outbox = withNew(view.outbox(), alerts, at, terms)
  if (alerts.length > 0 || (all.alertsDue ?? Infinity) <= at) {
    // The instance that gets the answer takes them. If it is cut off, the next settlement after this moment does.
    quota.alertsDue = at + CLAIM_MS
    next.answer = { ...step.answer, alerts: 1 }
  }
  return next
}

/** The calls of these five minutes with one more. */
function countCall({ calls, at }: QuotaDoc, event: Event): NonNullable<QuotaDoc['calls']> {
  const start = at - (at % ERRORS.ms)
  const known = calls?.start === start ? calls : { start, count: 0, failures: 0 }
  return {
    start,
    count: known.count + 1,
    failures: known.failures + (isFault(event) ? 1 : 0),
  }
}

/** An admission with the alert that its key is about to end, once for each end of a key. */
export function watchKey(
  step: Step<Admitted> & { usage: UsageDoc; quotas: Quotas },
  { id, key, user }: Admit,
  profile: ProfileDoc | undefined,
  view: View,
  terms: Terms,
): Step<Admitted> {
  const { usage, quotas } = step
  const { at } = usage
  if (!key || !profile) return step
  const known = own(profile.keys, key.id)
  if (!known?.expires || known.expires - at > EXPIRING_MS) return step
  if (known.expires - known.created <= EXPIRING_MS) return step
  if (own(usage.keysExpiring ?? {}, key.id) === known.expires) return step
  const label = labelOf({ usage, profile })
  const alert: New = {
    ...{ id: `${id}-key`, type: 'key.expiring', at, user },
    ...(label !== undefined && { label }),
    ...{ key: key.id, until: known.expires },
  }
  const kept = filter(usage.keysExpiring ?? {}, (_, name) => own(profile.keys, name) !== undefined)
  const all = quotas[ALL_MODELS] ?? newQuota(at)
  return {
    ...step,
    usage: { ...usage, keysExpiring: { ...kept, [key.id]: known.expires } },
    quotas: { ...quotas, [ALL_MODELS]: { ...all, alertsDue: Math.min(all.alertsDue ?? at, at) } },
    outbox: withNew(view.outbox(), [alert], at, terms),
  }
}

/** The outbox with new alerts, which are due at once. */
function withNew(
  outbox: OutboxDoc | undefined,
  alerts: (New & Partial<Pick<Alert, 'state'>>)[],
  at: number,
  { userDays }: Pick<Terms, 'userDays'>,
): OutboxDoc {
  const known = outbox ?? newOutbox()
  const all = { ...known.alerts }
  for (const alert of alerts) {
    const { state = 'pending' } = alert
    all[alert.id] ??= { ...alert, state, attempts: 0, ...(state === 'pending' && { due: at }) }
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

/** The rows of limits that alerts look at: those of windows that no client can wait for. */
export function watchOf(
  limits: { of: Of; model: string; limits: Limits }[],
): Pick<NonNullable<Settle['watch']>, 'user' | 'everyone'> {
  const watch: { user?: Rows; everyone?: Rows } = {}
  for (const { of, model, limits: row } of limits) {
    if (of === 'unverified') continue
    const long = LIMITS.filter(
      ({ name, window }) => row[name] !== undefined && !WINDOWS[window].waits,
    )
    if (long.length === 0) continue
    const kept = Object.fromEntries(long.map(({ name }) => [name, row[name]])) as Limits
    watch[of] = { ...watch[of], [model === ALL_MODELS ? 'total' : 'model']: kept }
  }
  return watch
}
