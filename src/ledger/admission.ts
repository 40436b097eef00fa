/** Whether a request may begin, and what it reserves. */
import type { Admit } from './commands.ts'
import { MODELS_COUNTED, MODELS_PER_USER, NETWORKS, RUNNING_PER_USER } from './capacity.ts'
import type { Admitted, Refusal } from './answers.ts'
import { advance, isPast } from './advance.ts'
import { filter, own } from './records.ts'
import { newUsage } from './new-documents.ts'
import { useOf, whole, rowsOf } from './rows.ts'
import {
  LIMITS,
  MOST_LIMITS,
  hasUnit,
  standingOf,
  windowsIn,
  windowsOf,
  type Limits,
  type Of,
  type Rows,
  type Standing,
} from './policy.ts'
import { NOTHING, type Amounts } from './units.ts'
import { VERSIONS } from './shapes.ts'
import {
  ALL_MODELS,
  type Lease,
  type NewUsersDoc,
  type ProfileDoc,
  type UsageDoc,
} from './documents.ts'
import { accessRefused } from './access.ts'
import { holding, watchKey } from './alerts.ts'
import { amountsOf, cutTo, fitted, type Asked } from './fit.ts'
import { UNUSED_MODEL, codeOf, refusalName, refusedOf } from './refusals.ts'
import { everyoneRows, planOf, shareOf, unverifiedScope, userRows, type UserPlan } from './plans.ts'
import { stepOf, type Step, type Terms, type View } from './step.ts'
import { open, sum } from './tally.ts'
import { WINDOWS, WINDOW_NAMES, dateOf, endOf, minuteOf } from './windows.ts'
import { charged, chargeAll, withToday } from './accounts.ts'
import { indexed } from './activity.ts'

/**
 * Refuses, or charges the reservation at once and records the lease. A repeated id gets the same answer. An id that was
 * entered before gets no lease, because the store was slow and the request was served without a lease.
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
    overLimit([...groups, mostOf(view, at)], reserved, at, policy)
  if (refusal) return refuseWith(command, refusal, known, at, view)

  const newUsers = known ? {} : newUsersOf(command, at, view)
  if (newUsers.refusal) return refuseWith(command, newUsers.refusal, known, at, view)

  const windows = countedIn(groups)
  const lease: Lease = { model, at, until: at + command.lasts, reserved, windows }
  if (maximum !== undefined) lease.maximum = maximum
  if (command.unverified !== undefined) lease.unverified = 1
  if (command.watch) lease.watched = 1
  const charges = chargeAll(view, lease, at)
  const quotas = command.watch ? holding(charges, lease) : charges
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
  const changed = { ...stepOf({ ...account, usage: next }), quotas, answer }
  const step: Step<Admitted> = command.watch
    ? watchKey(changed, command, profile, view, terms)
    : changed
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
type RequestPolicy = {
  user: Rows
  everyone: Rows
  /** The unverified callers' part of these, if this is one of them. */
  unverified?: Rows
  plan: UserPlan
  asked: Asked
}

function policyOf(
  command: Admit,
  profile: ProfileDoc | undefined,
  view: View,
  at: number,
): RequestPolicy {
  const { model, limits, everyone, claims } = command
  const plan = planOf(profile, claims?.plan, view)
  const policy: RequestPolicy = {
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
  { plan }: RequestPolicy,
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

/**
 * The refusal, if the reservation would pass one of the limits: the first that the request can never be within, since waiting
 * does not help there, or else the first. A request that asks for nothing of a unit cannot pass a limit of that unit.
 */
function overLimit(
  groups: Standing[],
  reserved: Amounts,
  at: number,
  { plan }: RequestPolicy,
): Refusal | undefined {
  const maximum = plan.doc?.maxCompletionTokens
  let first: Refusal | undefined
  for (const { of, model, limits, used: counted } of groups) {
    for (const { name, unit, window } of LIMITS) {
      const limit = limits[name]
      const used = counted[window]?.[unit] ?? 0
      const asked = reserved[unit] ?? 0
      if (limit === undefined || asked === 0 || used + asked <= limit) continue
      const isNever = asked > limit
      if (first && !isNever) continue
      const resetAt = endOf(window, at)
      first = { ok: false, reason: 'limit', of, model, window, unit, limit, used, asked, resetAt }
      if (maximum !== undefined) first.maximum = maximum
      if (isNever) return first
    }
  }
  return first
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
 * Counts a new user in the network's minute, or refuses. A network beyond `NETWORKS` is not counted: the limit cannot
 * stop a caller who has so many networks, and such a caller must not shut out everybody else.
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

/** All limits that hold for a request, in the order in which they are checked. */
function groupsOf(
  { model }: Pick<Admit, 'model'>,
  { user: limits, everyone, unverified }: Pick<RequestPolicy, 'user' | 'everyone' | 'unverified'>,
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

const admitted = (
  at: number,
  groups: Standing[],
  { plan }: RequestPolicy,
  maximum: number | undefined,
): Admitted => {
  const answer: Admitted = { ok: true, at }
  if (groups.length > 0) answer.limits = groups
  if (plan.doc) answer.plan = plan.name
  if (plan.unknown !== undefined) answer.unknownPlan = plan.unknown
  if (maximum !== undefined) answer.maximum = maximum
  return answer
}
