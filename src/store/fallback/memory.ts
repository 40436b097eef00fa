/**
 * What an isolate remembers, for use while the store is unavailable: the last counts and blocks that the store reported,
 * and what was used since then.
 */
import type { Admit, Report, Settle, UserCommand } from '../../ledger/commands.ts'
import type { Admitted, Answer, Refusal, Reported } from '../../ledger/answers.ts'
import { mapValues, own } from '../../ledger/records.ts'
import { newProfile, newQuota, newUsage } from '../../ledger/new-documents.ts'
import { useOf } from '../../ledger/rows.ts'
import type { Keep } from '../../ledger/advance.ts'
import {
  usedIn,
  windowsOf,
  type Limits,
  type Of,
  type Rows,
  type Standing,
} from '../../ledger/policy.ts'
import { cutTo } from '../../ledger/fit.ts'
import { reduce } from '../../ledger/rules.ts'
import type { Step, View } from '../../ledger/step.ts'
import {
  ALL_MODELS,
  type NewUsersDoc,
  type ProfileDoc,
  type QuotaDoc,
  type UsageDoc,
  type Windows,
} from '../../ledger/documents.ts'
import type { Amounts } from '../../ledger/units.ts'
import { chargedBy, correct, reservedBy } from '../../ledger/tally.ts'
import { WINDOW_NAMES, startOf, type Window } from '../../ledger/windows.ts'

/** The most users that are remembered (the last seen). */
const USERS = 1000

/**
 * Strangers are users whose counts the store has not reported. Together they are one more user, with a part of
 * everyone's limits. It is small for unverified callers, since anyone can be a new stranger with each request, and
 * larger for callers with a key or a signed token. No user has these ids.
 */
const STRANGERS = { unverified: '', verified: ' ' }
const SHARES = { unverified: 0.01, verified: 0.1 }

type Strangers = keyof typeof STRANGERS

const isStrangers = (id: string): boolean => Object.values(STRANGERS).includes(id)

const ALL_WINDOWS = Object.fromEntries(WINDOW_NAMES.map((window) => [window, 1 as const]))

export type Memory = {
  /** Remembers an answer of the store to an admission or to a browser's report. */
  learn(command: Admit, answer: Admitted | Refusal): void
  learn(command: Report, answer: Reported): void
  /** A request that the store admitted has ended: its charge takes the place of its reservation. */
  correct(command: Settle): void
  /** A user was erased. */
  forget(user: string): void
  /** The same as `run`, but undefined for a stranger if strangers have used up their share of everyone's limits. */
  admit(command: Admit): Admitted | Refusal | undefined
  /** Runs a command on the remembered documents. */
  run(command: UserCommand): Answer
}

/** Builds a memory. It holds 1,000 users, as many strangers, and everyone's counts of each model that limits name. */
export function createMemory(keep: Keep): Memory {
  /** Users whose counts the store has reported. */
  const users = new Map<string, UsageDoc>()
  /** Users of whom only the requests since the outage are known. They displace no other user. */
  const strangers = new Map<string, UsageDoc>()
  const together = new Map<string, UsageDoc>()
  /** The last limits of users that the store reported, by model and `*`; null for none. */
  const rows = new Map<string, Record<string, Limits | null | undefined>>()
  /** The same for everyone. */
  const everyoneRows = new Map<string, Limits | null | undefined>()
  /** Keys that the store has refused: their ids with their hashes. */
  const deadKeys = new Map<string, Refusal>()
  const profiles = new Map<string, ProfileDoc>()
  /** Everyone's counts by model and `*`: of the models that a limit names, and of the latest other models. */
  const quotas = { named: new Map<string, QuotaDoc>(), others: new Map<string, QuotaDoc>() }
  /** Running requests whose reservations are in `quotas`. An answer of the store replaces these counts. */
  const inQuotas = new Set<string>()
  let newUsers: NewUsersDoc | undefined
  const view: View = {
    usage: (user) => together.get(user) ?? users.get(user) ?? strangers.get(user),
    profile: (user) => profiles.get(user),
    plan: () => undefined,
    settings: () => undefined,
    quota: (scope) => quotas.named.get(scope) ?? quotas.others.get(scope),
    // Past days, days and entries limit nothing.
    past: () => undefined,
    day: () => undefined,
    entered: () => false,
    newUsers: () => newUsers,
    outbox: () => undefined,
    lastAudit: () => undefined,
    erasedAt: () => undefined,
    time: Date.now,
  }
  const terms = { ...keep, tolerance: Infinity }

  /** Remembers which limits the store applied to an admission, if they are not those of the command. */
  function learnRows({ user, model, limits, everyone }: Admit, standings: Standing[]): void {
    const applied = (of: Of, scope: string, named: Limits | undefined) => {
      const row = standings.find((one) => one.of === of && one.model === scope)?.limits
      return row === named ? undefined : (row ?? null)
    }
    const scopes = [
      [model, limits.model, everyone?.model],
      [ALL_MODELS, limits.total, everyone?.total],
    ] as const
    const mine = rows.get(user)
    const changed: Record<string, Limits | null | undefined> = {}
    for (const [scope, own, all] of scopes) {
      const row = applied('user', scope, own)
      if (row !== undefined || mine?.[scope] !== undefined) changed[scope] = row
      const shared = applied('everyone', scope, all)
      if (shared !== undefined || everyoneRows.get(scope) !== undefined) {
        set(everyoneRows, scope, shared)
      }
    }
    if (Object.keys(changed).length > 0) set(rows, user, { ...mine, ...changed })
  }

  /** Replaces the local counts for one row of limits with those of the store. */
  function learnUsed(user: string, { of, model: scope, used }: Learned, at: number): void {
    if (of === 'unverified') return
    if (of === 'everyone') {
      const quota = named(scope, at)
      const windows = withUsed(quota.windows, used, at)
      quotas.named.set(scope, { ...quota, at: Math.max(quota.at, at), windows })
      return
    }
    // The document is brought up to date when it is used, which is rare.
    const doc = meet(user, at)
    const windows = withUsed(windowsOf(doc, scope) ?? {}, used, at)
    const learned =
      scope === ALL_MODELS
        ? { windows }
        : { models: { ...doc.models, [scope]: { ...useOf(doc, scope), windows } } }
    // The store counts the leases of an earlier outage now, or will count them soon.
    users.set(user, { ...doc, ...learned, at: Math.max(doc.at, at), leases: {} })
  }

  /** The document of a user whom the store knows. */
  function meet(user: string, at: number): UsageDoc {
    const doc = users.get(user) ?? strangers.get(user) ?? newUsage(user, at)
    strangers.delete(user)
    set(users, user, doc)
    return doc
  }

  function learnReport(user: string, { at, known, models, total, blocks }: Reported): void {
    keepProfile({ ...(profiles.get(user) ?? newProfile(user)), blocks })
    // Anyone can report, so a report alone does not make a user known.
    if (!known && !users.has(user)) return
    for (const standing of [total, ...Object.values(models)]) {
      if (Object.keys(standing.used).length) learnUsed(user, standing, at)
    }
  }

  function learnAdmission(command: Admit, answer: Admitted | Refusal): void {
    const { user, model, now, key, claims } = command
    if (!answer.ok && answer.reason === 'blocked') {
      const profile = profiles.get(user) ?? newProfile(user)
      const block = { at: now, reason: answer.why, until: answer.until }
      set(profiles, user, { ...profile, blocks: { ...profile.blocks, [answer.model]: block } })
      return
    }
    if (key && !answer.ok && answer.reason === 'key') {
      set(deadKeys, nameOf(key), answer)
      return
    }
    if (claims && !answer.ok && answer.reason === 'revoked') {
      const profile = profiles.get(user) ?? newProfile(user)
      keepProfile({ ...profile, notBefore: claims.issuedAt + 1 })
      return
    }
    if (key) deadKeys.delete(nameOf(key))
    // A user who is admitted, or refused for another reason, is not blocked from this model.
    for (const scope of [model, ALL_MODELS]) {
      const profile = profiles.get(user)
      if (profile && own(profile.blocks, scope)) unblock(profile, scope)
    }
    if (answer.ok) {
      inQuotas.clear()
      meet(user, answer.at)
      learnRows(command, answer.limits ?? [])
      for (const standing of answer.limits ?? []) learnUsed(user, standing, answer.at)
    } else if (answer.reason === 'limit') {
      const { of, model: scope, window, unit, used } = answer
      const counted = { ...usedIn(windowsFor(of, user, scope), window, now), [unit]: used }
      learnUsed(user, { of, model: scope, used: { [window]: counted } }, now)
    }
  }

  function windowsFor(of: Of, user: string, scope: string): Windows | undefined {
    if (of === 'everyone') return view.quota(scope)?.windows
    const doc = view.usage(user)
    return doc && windowsOf(doc, scope)
  }

  /** Keeps the user of a step. */
  function keepUsage(usage: UsageDoc | undefined): void {
    if (usage && isStrangers(usage.id)) together.set(usage.id, usage)
    else if (usage) set(users.has(usage.id) ? users : strangers, usage.id, usage)
  }

  /** Everyone's counts for a row of limits. Clients choose models, so those that a limit names are kept apart. */
  function named(scope: string, at: number): QuotaDoc {
    const quota = view.quota(scope) ?? newQuota(at)
    quotas.others.delete(scope)
    quotas.named.set(scope, quota)
    return quota
  }

  function keepQuota(scope: string, quota: QuotaDoc): void {
    if (quotas.named.has(scope)) quotas.named.set(scope, quota)
    else set(quotas.others, scope, quota)
  }

  /** Keeps only profiles with a block or a revocation, so that no other profile displaces one of these. */
  function keepProfile(profile: ProfileDoc): void {
    if (Object.keys(profile.blocks).length || profile.notBefore !== undefined)
      set(profiles, profile.id, profile)
    else profiles.delete(profile.id)
  }

  function unblock(profile: ProfileDoc, scope: string): void {
    const { [scope]: _, ...blocks } = profile.blocks
    keepProfile({ ...profile, blocks })
  }

  /** Charges a stranger's request to all strangers; refused if that would be more than their share. */
  function share(kind: Strangers, { everyone, ...command }: Admit & { everyone: Rows }) {
    const limits = mapRows(everyone, (limit) => Math.ceil(limit * SHARES[kind]))
    const user = STRANGERS[kind]
    const step = reduce({ ...command, user, limits }, view, terms) as Step<Admitted | Refusal>
    keepUsage(step.usage)
    return step.answer
  }

  /**
   * The admission with the last limits that the store reported for its user and for everyone. A key counts as valid
   * unless the store has refused it, and a plan that a token names cannot be looked up.
   */
  function asRemembered({ key: _, unverified: __, claims, ...command }: Admit): Admit {
    const seen = rows.get(command.user) ?? {}
    const limits = lastSeen(command.limits, (scope) => own(seen, scope), command.model)
    const everyone = lastSeen(command.everyone, (scope) => everyoneRows.get(scope), command.model)
    return {
      ...command,
      limits,
      ...(Object.keys(everyone).length > 0 && { everyone }),
      ...(claims && { claims: { issuedAt: claims.issuedAt } }),
    }
  }

  return {
    learn(command: Admit | Report, answer: Admitted | Refusal | Reported) {
      if (command.op === 'report') learnReport(command.user, answer as Reported)
      else learnAdmission(command, answer)
    },
    correct({ user, event }) {
      const { model, at } = event
      const lease = { model, at, until: at, reserved: reservedBy(event), windows: ALL_WINDOWS }
      const charged = chargedBy(event)
      const doc = users.get(user)
      if (doc) {
        // As in the ledger: of a user's requests, the failed ones count too.
        const ofUser = { ...charged, requests: 1 }
        const use = useOf(doc, model)
        const corrected = { ...use, windows: correct(use.windows, lease, ofUser) }
        const models = own(doc.models, model) ? { ...doc.models, [model]: corrected } : doc.models
        users.set(user, { ...doc, models, windows: correct(doc.windows, lease, ofUser) })
      }
      for (const scope of [ALL_MODELS, model]) {
        const quota = quotas.named.get(scope)
        if (!quota) continue
        quotas.named.set(scope, { ...quota, windows: correct(quota.windows, lease, charged) })
      }
    },
    forget(user) {
      for (const documents of [users, strangers, profiles, rows]) documents.delete(user)
    },
    admit(asked) {
      const dead = asked.key && deadKeys.get(nameOf(asked.key))
      if (dead) return dead
      const kind = asked.key || asked.claims ? 'verified' : 'unverified'
      const command = asRemembered(asked)
      const { user, model, now, everyone } = command
      if (!everyone) return run(command) as Admitted | Refusal
      if (everyone.total) named(ALL_MODELS, now)
      if (everyone.model) named(model, now)
      const { answer } = reduce(command, view, terms) as Step<Admitted | Refusal>
      const isStranger = answer.ok && !users.has(user)
      if (!isStranger) return run(command) as Admitted | Refusal
      const shared = share(kind, { ...command, everyone })
      if (!shared.ok) return undefined
      // Less may be left of the strangers' share than of everyone's limits.
      const granted = run(cutTo(command, shared.maximum)) as Admitted | Refusal
      return granted.ok && shared.maximum !== undefined
        ? { maximum: shared.maximum, ...granted }
        : granted
    },
    run,
  }

  function run(command: UserCommand): Answer {
    const isHeld =
      command.op === 'settle' && own(view.usage(command.user)?.leases ?? {}, command.event.id)
    const step = reduce(command, view, terms)
    const { usage, quotas: changed, profile, answer } = step
    newUsers = step.newUsers ?? newUsers
    if (command.op === 'admit') inQuotas.add(command.id)
    const isCounted = command.op !== 'settle' || inQuotas.delete(command.event.id) || !isHeld
    keepUsage(usage)
    for (const [scope, quota] of Object.entries((isCounted && changed) || {})) {
      keepQuota(scope, quota)
    }
    if (profile) keepProfile(profile)
    if (command.op !== 'settle') return answer
    for (const { id, leases } of together.values()) {
      if (own(leases, command.event.id)) {
        keepUsage(reduce({ ...command, user: id }, view, terms).usage)
      }
    }
    return answer
  }
}

type Learned = Pick<Standing, 'of' | 'model' | 'used'>

const nameOf = ({ id, hash }: NonNullable<Admit['key']>): string => `${id} ${hash}`

/** The windows, with the use that the store reported in place of ours. */
function withUsed(windows: Windows, used: Learned['used'], at: number): Windows {
  const next = { ...windows }
  for (const [window, amounts] of Object.entries(used) as [Window, Amounts][]) {
    next[window] = { start: startOf(window, at), ...amounts }
  }
  return next
}

/** The last rows that the store reported, or else those of the environment. */
function lastSeen(
  environment: Rows | undefined,
  seen: (scope: string) => Limits | null | undefined,
  model: string,
): Rows {
  const [one, total] = [seen(model), seen(ALL_MODELS)]
  const rows: Rows = {
    model: one === undefined ? environment?.model : (one ?? undefined),
    total: total === undefined ? environment?.total : (total ?? undefined),
  }
  if (!rows.model) delete rows.model
  if (!rows.total) delete rows.total
  return rows
}

const mapRows = (rows: Rows, map: (limit: number) => number): Rows =>
  mapValues(rows as Record<string, Limits>, (row) => mapValues(row as Record<string, number>, map))

/** Sets a value as the newest one, and removes the oldest if there are too many. */
function set<T>(map: Map<string, T>, key: string, value: T): void {
  map.delete(key)
  map.set(key, value)
  const [oldest] = map.keys()
  if (map.size > USERS && oldest !== undefined) map.delete(oldest)
}
