/** The rules of what admins decide: about users (profiles, keys, resets) and about everyone (plans and settings). */
import type { Reset, SetKey, SetPlan, SetProfile, SetSettings } from './commands.ts'
import { KEYS_PER_USER, PLANS } from './capacity.ts'
import type { Done, KeyDone, KeyRefusal, PlanRefusal, ProfileDone } from './answers.ts'
import { auditOf } from './admin.ts'
import { advance } from './advance.ts'
import { filter, mapValues, own } from './records.ts'
import { isInForce } from './blocks.ts'
import { newProfile, newSettings } from './new-documents.ts'
import { useOf } from './rows.ts'
import { VERSIONS } from './shapes.ts'
import {
  UNLIMITED,
  type Key,
  type Lease,
  type ProfileDoc,
  type SettingsDoc,
  type StoredRows,
  type Windows,
} from './documents.ts'
import type { AuditAction } from './events.ts'
import { stepOf, type Step, type Terms, type View } from './step.ts'
import { withoutClaims } from './alerts.ts'
import { reservedIn } from './tally.ts'
import { WINDOWS, type Window } from './windows.ts'

/** Changes a user's profile, also that of a user who has never sent a request. */
export function setProfile(command: SetProfile, at: number, view: View): Step<ProfileDone> {
  const { user, set, clear = {} } = command
  const profile = changed(profileAt(view, user, at), set, clear)
  profile.limits ??= {}
  const audit = { ...auditOf(command, at, 'user', user), what: namesOf(set, clear) }
  return { profile, audit, answer: { ok: true, profile } }
}

/** A user's profile without blocks that have ended. */
function profileAt(view: View, user: string, at: number): ProfileDoc {
  const profile = view.profile(user) ?? newProfile(user)
  return { ...profile, blocks: filter(profile.blocks, (block) => isInForce(block, at)) }
}

/** Creates, changes, rotates or deletes a key. */
export function setKey(command: SetKey, at: number, view: View): Step<KeyDone | KeyRefusal> {
  const { user, id, action } = command
  const profile = profileAt(view, user, at)
  const known = own(profile.keys, id)
  if (action === 'create' && known) return { answer: { ok: false, reason: 'exists' } }
  if (action === 'create' && Object.keys(profile.keys).length >= KEYS_PER_USER) {
    return { answer: { ok: false, reason: 'keys' } }
  }
  const key = keyAfter(command, known, at)
  if (!key) return { answer: { ok: false, reason: 'unknown' } }
  const { [id]: _, ...others } = profile.keys
  const keys = action === 'delete' ? others : { ...others, [id]: key }
  const audit = { ...auditOf(command, at, KEY_ACTIONS[action], user), what: id }
  return { profile: { ...profile, keys }, audit, answer: { ok: true, key } }
}

const KEY_ACTIONS = {
  create: 'create key',
  change: 'change key',
  rotate: 'rotate key',
  delete: 'delete key',
} as const satisfies Record<SetKey['action'], AuditAction>

function keyAfter(command: SetKey, known: Key | undefined, at: number): Key | undefined {
  if (command.action === 'create') return command.key
  if (!known || command.action === 'delete') return known
  if (command.action === 'change') return changed(known, command.set, command.clear ?? {})
  const { secret, graceUntil } = command
  const { previous: _, ...kept } = known
  const previous = { hash: known.hash, until: graceUntil }
  return { ...kept, ...secret, ...(graceUntil > at && { previous }) }
}

/** Stores or deletes a plan. */
export function setPlan(command: SetPlan, at: number, view: View): Step<Done | PlanRefusal> {
  const { name, plan } = command
  const settings = view.settings() ?? newSettings()
  const { [name]: known, ...others } = settings.plans
  if (!plan && !known) return { answer: { ok: false, reason: 'unknown' } }
  if (plan && !known && Object.keys(others).length >= PLANS) {
    return { answer: { ok: false, reason: 'plans' } }
  }
  const audit = { ...auditOf(command, at, plan ? 'plan' : 'delete plan'), what: name }
  const doc = plan && { v: VERSIONS.plan, ...plan, limits: withoutUnlimited(plan.limits) }
  return {
    settings: { ...settings, plans: doc ? { ...others, [name]: 1 } : others },
    plan: doc ? { name, doc } : { name },
    audit,
    answer: { ok: true },
  }
}

/** Changes the settings. */
export function setSettings(
  command: SetSettings,
  at: number,
  view: View,
): Step<{ ok: true; settings: SettingsDoc }> {
  const { set, clear = {} } = command
  const settings = changed(view.settings() ?? newSettings(), set, clear)
  if (settings.globalLimits) settings.globalLimits = withoutUnlimited(settings.globalLimits)
  const audit = { ...auditOf(command, at, 'settings'), what: namesOf(set, clear) }
  return { settings, audit, answer: { ok: true, settings } }
}

/** The rows without `UNLIMITED`: they replace no other limits, so a limit that is left out is no limit. */
const withoutUnlimited = (rows: StoredRows): StoredRows =>
  mapValues(rows, (row) => filter(row, (limit) => limit !== UNLIMITED))

/**
 * Sets a user's counters of a window, or of all, to the reservations of the requests that have not ended. Days and
 * everyone's counters stay.
 */
export function reset(command: Reset, now: number, view: View, terms: Terms): Step<Done> {
  const { user, window } = command
  const audit = { ...auditOf(command, now, 'reset', user), ...(window && { what: window }) }
  const known = view.usage(user)
  if (!known) return { audit, answer: { ok: true } }
  const account = advance(known, now, view.past, terms)
  const { usage } = account
  const leases = Object.values(usage.leases)
  const onlyLeases = (windows: Windows, of: Lease[]): Windows =>
    mapValues(windows, (counted, name) =>
      !Object.hasOwn(WINDOWS, name) || (window !== undefined && name !== window)
        ? counted
        : { start: counted.start, ...reservedIn(of, name as Window, counted.start) },
    )
  const models = mapValues(usage.models, (_, model) => {
    const use = useOf(usage, model)
    const own = leases.filter((lease) => lease.model === model)
    return { ...use, windows: onlyLeases(use.windows, own) }
  })
  const next = { ...usage, windows: onlyLeases(usage.windows, leases), models }
  // What is used again can be told again.
  if (usage.alerted) next.alerted = withoutClaims(usage.alerted, window)
  return { ...stepOf({ ...account, usage: next }), audit, answer: { ok: true } }
}

/** A record with some fields set and others removed. */
function changed<T extends object>(
  record: T,
  set: Partial<NoInfer<T>>,
  clear: Partial<Record<string, 1>>,
): T {
  const next = { ...record, ...set }
  for (const name of Object.keys(clear)) delete next[name as keyof T]
  return next
}

/** The names of changed fields, in order. */
const namesOf = (set: object, clear: object): string =>
  [...Object.keys(set), ...Object.keys(clear)]
    .filter((name) => name !== 'words')
    .toSorted()
    .join(' ')
