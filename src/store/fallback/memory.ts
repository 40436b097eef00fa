/**
 * What an isolate remembers, for use while the store is unavailable: the counts and blocks that the store told last, and
 * what was used since.
 */
import type {
  Admit,
  Admitted,
  Answer,
  Refusal,
  Report,
  Reported,
  Settle,
  UserCommand,
} from '../../ledger/commands.ts'
import {
  mapValues,
  newProfile,
  newQuota,
  newUsage,
  useOf,
  type Keep,
} from '../../ledger/documents.ts'
import {
  usedIn,
  windowsOf,
  type Limits,
  type Of,
  type Rows,
  type Standing,
} from '../../ledger/policy.ts'
import { reduce } from '../../ledger/rules.ts'
import type { Step, View } from '../../ledger/step.ts'
import {
  ALL_MODELS,
  own,
  type Amounts,
  type NewUsersDoc,
  type ProfileDoc,
  type QuotaDoc,
  type UsageDoc,
  type Windows,
} from '../../ledger/shapes.ts'
import { chargedBy, correct, reservedBy } from '../../ledger/tally.ts'
import { WINDOW_NAMES, startOf, type Window } from '../../ledger/windows.ts'

/** The most users that are remembered (the last seen). */
const USERS = 1000

/**
 * The part of everyone's limits that strangers have together: users of whom the store has told no counts. Anyone can be
 * a new stranger with each request.
 */
const STRANGERS_SHARE = 0.01

/** Strangers are one more user, who has these limits. No user has this id. */
const STRANGERS = ''

const ALL_WINDOWS = Object.fromEntries(WINDOW_NAMES.map((window) => [window, 1 as const]))

export type Memory = {
  /** Remembers an answer of the store to an admission or to a browser's report. */
  learn(command: Admit, answer: Admitted | Refusal): void
  learn(command: Report, answer: Reported): void
  /** A request that the store admitted has ended: its charge takes the place of its reservation. */
  correct(command: Settle): void
  /** A user was erased. */
  forget(user: string): void
  /** As `run`, but undefined for a stranger if strangers have used up their share of everyone's limits. */
  admit(command: Admit): Admitted | Refusal | undefined
  /** Runs a command on the remembered documents. */
  run(command: UserCommand): Answer
}

/** Builds a memory. It holds 1,000 users, as many strangers, and everyone's counts of each model that limits name. */
export function createMemory(keep: Keep): Memory {
  /** Users whose counts the store has told. */
  const users = new Map<string, UsageDoc>()
  /** Users of whom only their requests since the outage are known. They displace no other user. */
  const strangers = new Map<string, UsageDoc>()
  let together: UsageDoc | undefined
  const profiles = new Map<string, ProfileDoc>()
  /** Everyone's counts, by model and `*`: those that a limit names, and the latest of the other models. */
  const quotas = { named: new Map<string, QuotaDoc>(), others: new Map<string, QuotaDoc>() }
  /** Running requests whose reservations are in `quotas`. An answer of the store replaces these counts. */
  const inQuotas = new Set<string>()
  let newUsers: NewUsersDoc | undefined
  const view: View = {
    usage: (user) => (user === STRANGERS ? together : (users.get(user) ?? strangers.get(user))),
    profile: (user) => profiles.get(user),
    quota: (scope) => quotas.named.get(scope) ?? quotas.others.get(scope),
    // Past days, days and entries limit nothing.
    past: () => undefined,
    day: () => undefined,
    entered: () => false,
    newUsers: () => newUsers,
    lastAudit: () => undefined,
    erasedAt: () => undefined,
    time: Date.now,
  }
  const terms = { ...keep, tolerance: Infinity }

  /** Replaces the local counts for one row of limits with those of the store. */
  function learnUsed(user: string, { of, model: scope, used }: Learned, at: number): void {
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

  function learnAdmission({ user, model, now }: Admit, answer: Admitted | Refusal): void {
    if (!answer.ok && answer.reason === 'blocked') {
      const profile = profiles.get(user) ?? newProfile(user)
      const block = { at: now, reason: answer.why, until: answer.until }
      set(profiles, user, { ...profile, blocks: { ...profile.blocks, [answer.model]: block } })
      return
    }
    // A user who is admitted, or refused for another reason, is not blocked from this model.
    for (const scope of [model, ALL_MODELS]) {
      const profile = profiles.get(user)
      if (profile && own(profile.blocks, scope)) unblock(profile, scope)
    }
    if (answer.ok) {
      inQuotas.clear()
      meet(user, answer.at)
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
    if (usage?.id === STRANGERS) together = usage
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

  /** Keeps only a profile with a block: one without must not displace it. */
  function keepProfile(profile: ProfileDoc): void {
    if (Object.keys(profile.blocks).length) set(profiles, profile.id, profile)
    else profiles.delete(profile.id)
  }

  function unblock(profile: ProfileDoc, scope: string): void {
    const { [scope]: _, ...blocks } = profile.blocks
    keepProfile({ ...profile, blocks })
  }

  /** Charges a stranger's request to all strangers. False if that would be more than their share. */
  function share({ everyone, ...command }: Admit & { everyone: Rows }): boolean {
    const limits = mapRows(everyone, (limit) => Math.ceil(limit * STRANGERS_SHARE))
    const { usage, answer } = reduce({ ...command, user: STRANGERS, limits }, view, terms)
    keepUsage(usage)
    return 'ok' in answer && answer.ok
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
      for (const documents of [users, strangers, profiles]) documents.delete(user)
    },
    admit(command) {
      const { user, model, now, everyone } = command
      if (!everyone) return run(command) as Admitted | Refusal
      if (everyone.total) named(ALL_MODELS, now)
      if (everyone.model) named(model, now)
      const { answer } = reduce(command, view, terms) as Step<Admitted | Refusal>
      if (answer.ok && !users.has(user) && !share({ ...command, everyone })) return undefined
      return run(command) as Admitted | Refusal
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
    if (command.op === 'settle' && together && own(together.leases, command.event.id)) {
      keepUsage(reduce({ ...command, user: STRANGERS }, view, terms).usage)
    }
    return answer
  }
}

type Learned = Pick<Standing, 'of' | 'model' | 'used'>

/** The windows, with the amounts that were used of some of them at a given time. */
function withUsed(windows: Windows, used: Learned['used'], at: number): Windows {
  const next = { ...windows }
  for (const [window, amounts] of Object.entries(used) as [Window, Amounts][]) {
    next[window] = { start: startOf(window, at), ...amounts }
  }
  return next
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
