/**
 * The rules of requests: admission, settlement, and the entry of a request that was served while the store was
 * unreachable.
 */
import {
  ENTER_MS,
  LATE_SETTLE_MS,
  MODELS_COUNTED,
  MODELS_PER_USER,
  NETWORKS,
  RUNNING_PER_USER,
  SESSIONS_PER_USER,
  type Admit,
  type Admitted,
  type Enter,
  type Refusal,
  type Settle,
  type Settled,
} from './commands.ts'
import {
  advance,
  answersOf,
  filter,
  hasAnswers,
  isPast,
  newDay,
  newPast,
  newQuota,
  newRow,
  newUsage,
  thin,
  useOf,
  whole,
  withPastRow,
  type Account,
  rowsOf,
} from './documents.ts'
import {
  LIMITS,
  MOST_LIMITS,
  NOTHING,
  current,
  hasUnit,
  standingOf,
  windowsIn,
  windowsOf,
  type Limits,
  type Of,
  type Rows,
  type Standing,
} from './policy.ts'
import {
  ALL_MODELS,
  VERSIONS,
  own,
  type Amounts,
  type Event,
  type Lease,
  type NewUsersDoc,
  type ProfileDoc,
  type QuotaDoc,
  type Row,
  type UsageDoc,
  type Windows,
} from './shapes.ts'
import { accessRefused } from './access.ts'
import { amountsOf, cutTo, fitted, type Asked } from './fit.ts'
import { digitsOf } from './money.ts'
import { UNUSED_MODEL, codeOf, refusalName, refusedOf } from './refusals.ts'
import { everyoneRows, planOf, shareOf, unverifiedScope, userRows, type UserPlan } from './plans.ts'
import { stepOf, type Step, type Terms, type View } from './step.ts'
import {
  charge,
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
import { MINUTE_MS, WINDOWS, WINDOW_NAMES, dateOf, endOf, minuteOf, startOf } from './windows.ts'

/**
 * A user's place in the indexes changes at most this often, unless a new day began or the tokens of the day have
 * doubled.
 */
export const INDEX_MS = 10 * MINUTE_MS

/**
 * Refuses, or charges the reservation at once and records the lease. A repeated id gets the same answer. An id that was
 * entered before gets no lease: the store was slow, and the request was served without it.
 */
export function admit(
  command: Admit,
  now: number,
  view: View,
  terms: Terms,
): Step<Admitted | Refusal> {
  const { id, user, model, claims } = command
  const known = view.usage(user)
  const account = advance(known ?? newUsage(user, now), now, view.past, terms)
  const { usage } = account
  const { at } = usage
  const profile = view.profile(user)
  const policy = policyOf(command, profile, view, at)
  const { asked } = policy
  const groups = groupsOf(command, policy, usage, view.quota)
  const held = own(usage.leases, id)
  if (held) return { answer: admitted(held.at, groups, policy, held.maximum) }
  const granted = fitted(asked, groups)
  const maximum = granted === command.completions?.tokens ? undefined : granted
  if (view.entered(id)) return { answer: admitted(at, groups, policy, maximum) }

  const reserved = amountsOf(asked, granted)
  const refusal =
    accessRefused(command, profile, policy, at) ??
    unpriced(command, groups) ??
    tooMany(usage, model, at, policy) ??
    firstRefusal([...groups, mostOf(view, at)], reserved, at, policy)
  if (refusal) return refuseWith(command, refusal, known, at, view)

  const newUsers = known ? {} : newUsersOf(command, at, view)
  if (newUsers.refusal) return refuseWith(command, newUsers.refusal, known, at, view)

  const windows = countedIn(groups)
  const lease: Lease = { model, at, until: at + command.lasts, reserved, windows }
  if (maximum !== undefined) lease.maximum = maximum
  if (command.unverified !== undefined) lease.unverified = 1
  const quotas = chargeAll(view, lease, at)
  const row = open(whole(useOf(usage, model).row), reserved)
  const next = indexed({
    ...withToday(charged(usage, lease), model, row),
    seen: at,
    leases: { ...usage.leases, [id]: lease },
  })
  if (command.ip !== undefined) next.ip = command.ip
  if (claims?.label !== undefined && claims.label !== usage.label) {
    next.label = claims.label
    next.words = claims.words ?? {}
  }
  if (claims?.plan !== undefined) next.plan = claims.plan
  else if (claims) delete next.plan
  const limitedUntil = lastEnd(groups, at)
  if (limitedUntil > endOf('day', at)) next.limitedUntil = limitedUntil
  else delete next.limitedUntil
  if (command.key) next.keysUsed = usedKeys(usage, profile, command.key.id)
  const answer = admitted(at, withReserved(groups, lease), policy, maximum)
  const step: Step<Admitted> = { ...stepOf({ ...account, usage: next }), quotas, answer }
  if (command.refusals) step.refusals = command.refusals
  return newUsers.doc ? { ...step, newUsers: newUsers.doc } : step
}

/**
 * Refuses a request, and counts the refusal of a user who is known. Others are counted by the sender: a refusal writes no
 * document of a user.
 */
function refuseWith(
  command: Admit,
  refusal: Refusal,
  known: UsageDoc | undefined,
  at: number,
  view: View,
): Step<Refusal> {
  const carried = command.refusals
  if (!known) return { answer: refusal, ...(carried && { refusals: carried }) }
  const model = view.quota(command.model) ? command.model : UNUSED_MODEL
  const [date, name] = [dateOf(at), refusalName(codeOf(refusal), model)]
  const today = own(carried ?? {}, date) ?? {}
  const refusals = { ...carried, [date]: { ...today, [name]: (own(today, name) ?? 0) + 1 } }
  const refused = refusedOf(command, refusal, at)
  return { answer: { ...refusal, counted: true }, refused, refusals }
}

/** What holds for one request: its rows of limits, its plan, and what it asks for under that plan. */
type Policy = {
  user: Rows
  everyone: Rows
  /** The part of these for callers who are not verified, if this is one. */
  unverified?: Rows
  plan: UserPlan
  asked: Asked
}

function policyOf(command: Admit, profile: ProfileDoc | undefined, view: View, at: number): Policy {
  const { model, limits, everyone, claims } = command
  const plan = planOf(profile, claims?.plan, view)
  const policy: Policy = {
    user: userRows(model, limits, plan.doc, profile, at),
    everyone: everyoneRows(model, everyone, view.settings()),
    plan,
    // Without a maximum of its own, a request gets the plan's.
    asked: cutTo(command, plan.doc?.maxCompletionTokens),
  }
  if (command.unverified !== undefined) {
    policy.unverified = shareOf(policy.everyone, command.unverified)
  }
  return policy
}

/** The refusal of a model without a price where a limit is in dollars. */
const unpriced = ({ price }: Admit, groups: Standing[]): Refusal | undefined =>
  price === undefined && groups.some(({ limits }) => hasUnit(limits, 'usd'))
    ? { ok: false, reason: 'unpriced' }
    : undefined

/** The refusal of a user who has too many requests running, or too many models today. */
function tooMany(
  usage: UsageDoc,
  model: string,
  at: number,
  { plan }: Policy,
): Refusal | undefined {
  const use = own(usage.models, model)
  if (!use && Object.keys(usage.models).length >= MODELS_COUNTED) {
    return { ok: false, reason: 'models', window: 'month' }
  }
  if (use?.row.requests === undefined && Object.keys(rowsOf(usage)).length >= MODELS_PER_USER) {
    return { ok: false, reason: 'models', window: 'day' }
  }
  const limit = Math.min(plan.doc?.concurrentRequests ?? RUNNING_PER_USER, RUNNING_PER_USER)
  return runningAt(usage.leases, at) >= limit ? { ok: false, reason: 'running', limit } : undefined
}

/** When the last window ends of which the user has a limit; 0 without limits. */
const lastEnd = (groups: Standing[], at: number): number =>
  Math.max(
    0,
    ...groups
      .filter(({ of }) => of === 'user')
      .flatMap(({ limits }) => windowsIn(limits).map((window) => endOf(window, at))),
  )

function firstRefusal(
  groups: Standing[],
  reserved: Amounts,
  at: number,
  { plan }: Policy,
): Refusal | undefined {
  const maximum = plan.doc?.maxCompletionTokens
  for (const group of groups) {
    const refusal = refuse(group, reserved, at)
    if (refusal) return maximum === undefined ? refusal : { ...refusal, maximum }
  }
  return undefined
}

/** When each of the user's keys was last used. Keys that were deleted are left out. */
const usedKeys = (
  { keysUsed, at }: UsageDoc,
  profile: ProfileDoc | undefined,
  id: string,
): Record<string, number> => ({
  ...filter(keysUsed ?? {}, (_, key) => own(profile?.keys ?? {}, key) !== undefined),
  [id]: at,
})

/**
 * Counts a new user in the network's minute, or refuses. A network beyond `NETWORKS` is not counted: who has so many
 * networks is not bounded by them, and must not shut out everybody else.
 */
function newUsersOf({ newUsers }: Admit, at: number, view: View) {
  if (!newUsers) return {}
  const { network, perMinute } = newUsers
  const minute = minuteOf(at)
  const known = view.newUsers()
  const networks = known?.minute === minute ? known.networks : {}
  const count = own(networks, network) ?? 0
  if (count >= perMinute) {
    const refusal: Refusal = {
      ok: false,
      reason: 'newUsers',
      perMinute,
      resetAt: endOf('minute', at),
    }
    return { refusal }
  }
  if (count === 0 && Object.keys(networks).length >= NETWORKS) return {}
  const counted = { ...networks, [network]: count + 1 }
  const doc: NewUsersDoc = { v: VERSIONS.newUsers, minute, networks: counted }
  return { doc }
}

const runningAt = (leases: Record<string, Lease>, at: number): number =>
  Object.values(leases).filter((lease) => !isPast(lease, at)).length

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
  return close(account, lease, event, now, view)
}

/**
 * Whether the user's document is from after the admission, or from before it: the database was emptied, evicted the
 * document, or continues from an older copy. A document outlives a lease, so it did not expire.
 */
const isForgotten = ({ at }: Event, known: UsageDoc | undefined, now: number): boolean =>
  now - at < LATE_SETTLE_MS && (!known || known.since > at || known.at < at)

/** Counts a request whose lease is not certain, as if it had been admitted at its own time. Limits do not stop it. */
export function enter(
  command: Pick<Enter, 'user' | 'event' | 'refused'>,
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
  if (held) return { ...close(account, held, event, now, view), entered: id }
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
  return { ...close(opened, lease, event, now, seen), entered: id }
}

/** Ends an admitted request: its charge replaces its reservation in the day and the windows of its admission. */
function close(
  account: Account,
  lease: Lease,
  ended: Event,
  now: number,
  view: View,
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
  const quotas = changeQuotas(view.quota, lease, now, (windows) => correct(windows, lease, amounts))
  const closed = indexed({ ...corrected, leases, sessions, seen: usage.at })
  if (event.key !== undefined) closed.keysCharged = chargedKeys(closed, event.key, at, ofUser)
  return {
    ...stepOf({ ...next, usage: closed }),
    quotas,
    day: endDay(view.day(date) ?? newDay(date), event, first, usage.at),
    event,
    answer: { applied: true },
  }
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

/** All limits that hold for a request, in the order in which they are checked. */
function groupsOf(
  { model }: Pick<Admit, 'model'>,
  { user: limits, everyone, unverified }: Pick<Policy, 'user' | 'everyone' | 'unverified'>,
  usage: UsageDoc,
  quota: View['quota'],
): Standing[] {
  const group = (of: Of, scope: string, row: Limits | undefined) => {
    const counted = of === 'unverified' ? unverifiedScope(scope) : scope
    const windows = of === 'user' ? windowsOf(usage, scope) : quota(counted)?.windows
    return row ? [standingOf(of, scope, row, windows, usage.at, windowsIn(row))] : []
  }
  return [
    ...group('user', model, limits.model),
    ...group('user', ALL_MODELS, limits.total),
    ...group('everyone', ALL_MODELS, everyone.total),
    ...group('everyone', model, everyone.model),
    ...group('unverified', ALL_MODELS, unverified?.total),
    ...group('unverified', model, unverified?.model),
  ]
}

/** What everyone uses, against the most that can be counted. */
const mostOf = ({ quota }: View, at: number): Standing =>
  standingOf('everyone', ALL_MODELS, MOST_LIMITS, quota(ALL_MODELS)?.windows, at)

/** The same groups after the admission. */
const withReserved = (groups: Standing[], { reserved }: Lease): Standing[] =>
  groups.map((group) => {
    const { used, limits } = group
    const charged = windowsIn(limits).map((window) => [
      window,
      sum([used[window] ?? NOTHING, reserved]),
    ])
    return { ...group, used: { ...used, ...Object.fromEntries(charged) } }
  })

/** The refusal, if the reservation would pass one of the limits. A request that asks for nothing of a unit does not. */
function refuse(
  group: Standing,
  reserved: Amounts,
  at: number,
): Extract<Refusal, { reason: 'limit' }> | undefined {
  const { of, model } = group
  for (const { name, unit, window } of LIMITS) {
    const limit = group.limits[name]
    const used = group.used[window]?.[unit] ?? 0
    const asked = reserved[unit] ?? 0
    if (limit === undefined || asked === 0 || used + asked <= limit) continue
    const resetAt = endOf(window, at)
    return { ok: false, reason: 'limit', of, model, window, unit, limit, used, asked, resetAt }
  }
  return undefined
}

/** The windows that are always counted, and the windows of these limits. */
function countedIn(groups: Standing[]): Lease['windows'] {
  const named = new Set(groups.flatMap(({ limits }) => windowsIn(limits)))
  return Object.fromEntries(
    WINDOW_NAMES.filter((window) => WINDOWS[window].always || named.has(window)).map((window) => [
      window,
      1,
    ]),
  )
}

/** The user's document with a lease's reservation charged to its windows. */
const charged = (usage: UsageDoc, lease: Lease): UsageDoc =>
  changeWindows(usage, lease.model, (windows) => charge(windows, lease, usage.at))

/** Applies a change to a user's windows of all models and of one model. */
function changeWindows(
  usage: UsageDoc,
  model: string,
  change: (windows: Windows) => Windows,
): UsageDoc {
  const known = own(usage.models, model)
  const use = known ?? useOf(usage, model)
  const windows = change(current(use.windows, usage.at))
  const isUsed = known !== undefined || Object.keys(windows).length > 0
  return {
    ...usage,
    windows: change(usage.windows),
    models: isUsed ? { ...usage.models, [model]: { ...use, windows } } : usage.models,
  }
}

/** Applies a change to everyone's windows of all models and of a lease's model, and to those of who is not verified. */
function changeQuotas(
  quota: View['quota'],
  { model, unverified }: Lease,
  now: number,
  change: (windows: Windows, at: number) => Windows,
): Record<string, QuotaDoc> {
  const scopes = [ALL_MODELS, model]
  const all = unverified ? [...scopes, ...scopes.map(unverifiedScope)] : scopes
  const changed = all.map((scope) => {
    const doc = quota(scope) ?? newQuota(now)
    const at = Math.max(doc.at, now)
    return [scope, { ...doc, at, windows: change(current(doc.windows, at), at) }] as const
  })
  return Object.fromEntries(changed)
}

/** Everyone's counters with a lease's reservation charged. */
const chargeAll = ({ quota }: View, lease: Lease, now: number) =>
  changeQuotas(quota, lease, now, (windows, at) => charge(windows, lease, at))

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

/** The document with one of today's rows replaced and the sums updated. */
function withToday(usage: UsageDoc, model: string, row: Row): UsageDoc {
  const use = useOf(usage, model)
  const old = whole(use.row)
  return {
    ...usage,
    charged: usage.charged + row.charged - old.charged,
    answered: usage.answered + answersOf(row) - answersOf(old),
    models: { ...usage.models, [model]: { ...use, row: thin(row) } },
  }
}

/** The document with a new index entry, if one is due. */
function indexed(usage: UsageDoc): UsageDoc {
  const { at, charged: tokens } = usage
  const known = usage.indexed
  const isDue =
    at - known.at >= INDEX_MS || dateOf(known.at) !== usage.date || tokens > 2 * known.tokens
  return isDue ? { ...usage, indexed: { at, tokens } } : usage
}

const admitted = (
  at: number,
  groups: Standing[],
  { plan }: Policy,
  maximum: number | undefined,
): Admitted => {
  const answer: Admitted = { ok: true, at }
  if (groups.length > 0) answer.limits = groups
  if (plan.doc) answer.plan = plan.name
  if (plan.unknown !== undefined) answer.unknownPlan = plan.unknown
  if (maximum !== undefined) answer.maximum = maximum
  return answer
}
