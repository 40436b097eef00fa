/**
 * Which requests cause alerts. The claim of an alert and its entry in the outbox are written in one step, so that many
 * isolates that pass a limit together make one alert with one id.
 */
import { DAY_MS, MINUTE_MS, HOUR_MS, startOf, WINDOWS, endOf, type Window } from './windows.ts'
import {
  ALL_MODELS,
  type QuotaDoc,
  type Lease,
  type AlertClaims,
  type UsageDoc,
  type ProfileDoc,
} from './documents.ts'
import { NOTHING, amountsFrom, type Amounts } from './units.ts'
import { mapValues, own, filter } from './records.ts'
import { sum, reservedIn } from './tally.ts'
import { LIMITS, usedIn, windowsOf, type Limits, type Of, type Rows } from './policy.ts'
import { withNew, CLAIM_MS, type New } from './outbox.ts'
import type { Event } from './events.ts'
import type { Step, View, Terms } from './step.ts'
import type { Settled, Admitted } from './answers.ts'
import type { Settle, Admit } from './commands.ts'
import { newQuota } from './new-documents.ts'
import { labelOf } from './labels.ts'

/** The percentages of a limit at which an alert is sent, the highest first. */
export const LEVELS: Record<'user' | 'everyone', number[]> = {
  user: [100, 80],
  everyone: [100, 80, 50],
}

/** An alert is sent this long before a key in use ends. A key with a shorter life causes none. */
export const EXPIRING_MS = 7 * DAY_MS

/** When the provider counts as failing: of at least `calls` calls in `ms`, more than one in `of` fails. */
export const ERRORS = { ms: 5 * MINUTE_MS, calls: 20, of: 10 }

/** How long after an alert of a type no second one is sent. */
export const QUIET_MS = { 'upstream.errors': 30 * MINUTE_MS, 'upstream.spend_blocked': HOUR_MS }

/** Statuses below 500 that are a failure of the provider, not of the request. */
export const FAULTS: Record<string, 1> = { 401: 1, 402: 1, 403: 1, 408: 1, 429: 1 }

type Quotas = Record<string, QuotaDoc>

/** What running requests hold in a quota's day. What is never given back leaves with the day. */
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
  claims: AlertClaims,
  name: string,
  { start, level, limit }: AlertClaims[string],
): AlertClaims | undefined {
  const known = own(claims, name)
  const same = known?.start === start ? known : undefined
  if (same && level <= same.level && limit <= same.limit) return undefined
  return { ...claims, [name]: { start, level, limit: Math.max(limit, same?.limit ?? 0) } }
}

/** The claims of windows that have not ended. */
const lasting = (claims: AlertClaims, at: number): AlertClaims =>
  filter(claims, ({ start }, name) => {
    const window = name.slice(name.lastIndexOf(' ') + 1)
    return Object.hasOwn(WINDOWS, window) && startOf(window as Window, at) === start
  })

/** The claims without those of a window, or without any. */
export const withoutClaims = (claims: AlertClaims, window?: Window): AlertClaims =>
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
  claims: AlertClaims,
  at: number,
): { claims: AlertClaims; told: Omit<New, 'id' | 'type' | 'at'>[] } {
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

type Claimed = Omit<New, 'id' | 'at'>

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
  const limits = limitsReached(step, watch, all)
  const provider = providerFailures(event, watch, all)
  const found = [...limits.found, ...provider.found]

  const ofUser = found.some(({ of }) => of === 'user')
  const label = ofUser ? labelOf({ usage, profile: view.profile(usage.id) }) : undefined
  const alerts = found.map((facts, n): New => {
    const user =
      facts.of === 'user' ? { user: usage.id, ...(label !== undefined && { label }) } : {}
    return { id: `${event.id}-${n + 1}`, at, ...facts, ...user }
  })
  const quota: QuotaDoc = { ...all, calls: provider.calls }
  if (found.some(({ of }) => of === 'everyone')) quota.alerted = lasting(limits.everyones, at)
  if (Object.keys(provider.told).length > 0) quota.told = provider.told
  const next: Step<Settled> = { ...step, quotas: { ...quotas, [ALL_MODELS]: quota } }
  if (ofUser) next.usage = { ...usage, alerted: lasting(limits.mine, usage.at) }
  if (alerts.length > 0) next.outbox = withNew(view.outbox(), alerts, at, terms)
  if (alerts.length > 0 || (all.alertsDue ?? Infinity) <= at) {
    // The instance that gets the answer takes them. If it is cut off, the next settlement after this moment does.
    quota.alertsDue = at + CLAIM_MS
    next.answer = { ...step.answer, alerts: 1 }
  }
  return next
}

/** The limits of the user and of everyone whose use has reached a percentage, and the claims with them. */
function limitsReached(
  { usage, quotas, event }: { usage: UsageDoc; quotas: Quotas; event: Event },
  watch: NonNullable<Settle['watch']>,
  all: QuotaDoc,
): { found: Claimed[]; mine: AlertClaims; everyones: AlertClaims } {
  const found: Claimed[] = []
  const { at } = all
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
    const rows = watch.everyone?.[part]
    const shared = reached('everyone', scope, rows, ofEveryone(scope), everyones, at)
    ;[mine, everyones] = [own.claims, shared.claims]
    for (const one of [...own.told, ...shared.told]) found.push({ type: 'limit.threshold', ...one })
  }
  return { found, mine, everyones }
}

/** What an ended request tells about the provider: that it fails, and that its own spending limit is reached. */
function providerFailures(
  event: Event,
  { spendBlocked }: NonNullable<Settle['watch']>,
  all: QuotaDoc,
): { found: Claimed[]; told: Record<string, number>; calls: NonNullable<QuotaDoc['calls']> } {
  const found: Claimed[] = []
  const told = { ...all.told }
  const tellOnce = (type: keyof typeof QUIET_MS, facts: Partial<New>) => {
    if (all.at - (told[type] ?? -Infinity) < QUIET_MS[type]) return
    told[type] = all.at
    found.push({ type, ...facts })
  }
  const calls = countCall(all, event)
  const { count, failures } = calls
  if (count >= ERRORS.calls && failures * ERRORS.of > count) {
    tellOnce('upstream.errors', { calls: count, failures })
  }
  if (spendBlocked) tellOnce('upstream.spend_blocked', { model: event.model })
  return { found, told, calls }
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

/** An admission with the alert that its key ends soon. Each end of a key is told once. */
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
