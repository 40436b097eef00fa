/**
 * What an isolate does while the store is unavailable: it learns counts, blocks and limits from the store's answers, and
 * then decides by them and by what was used since.
 */
import type { Admit, Report, Settle, UserCommand } from '../../ledger/commands.ts'
import type { Admitted, Answer, Refusal, Reported } from '../../ledger/answers.ts'
import { mapValues, own } from '../../ledger/records.ts'
import { newProfile } from '../../ledger/new-documents.ts'
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
import type { Step } from '../../ledger/step.ts'
import { ALL_MODELS, type ProfileDoc, type Windows } from '../../ledger/documents.ts'
import type { Amounts } from '../../ledger/units.ts'
import { startOf, type Window } from '../../ledger/windows.ts'
import { setNewest } from './newest.ts'
import { STRANGERS, createRemembered } from './remembered.ts'
import { createSeenLimits } from './seen-limits.ts'

/**
 * The part of everyone's limits that all strangers of a kind have. It is small for unverified callers, since anyone can be
 * a new stranger with each request.
 */
const SHARES = { unverified: 0.01, verified: 0.1 }

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

/** Builds a memory. */
export function createMemory(keep: Keep): Memory {
  const remembered = createRemembered()
  const { view, knows, meet, named, keepUsage, keepQuota, keepProfile } = remembered
  const seen = createSeenLimits()
  /** Keys that the store has refused: their ids with their hashes. */
  const deadKeys = new Map<string, Refusal>()
  /** Running requests whose reservations are in everyone's counts. An answer of the store replaces these counts. */
  const inQuotas = new Set<string>()
  const terms = { ...keep, tolerance: Infinity }

  /** Replaces the local counts for one row of limits with those of the store. */
  function learnUsed(user: string, { of, model: scope, used }: Learned, at: number): void {
    if (of === 'unverified') return
    if (of === 'everyone') {
      const quota = named(scope, at)
      const windows = withUsed(quota.windows, used, at)
      keepQuota(scope, { ...quota, at: Math.max(quota.at, at), windows })
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
    keepUsage({ ...doc, ...learned, at: Math.max(doc.at, at), leases: {} })
  }

  const profileOf = (user: string): ProfileDoc => view.profile(user) ?? newProfile(user)

  function learnReport(user: string, { at, known, models, total, blocks }: Reported): void {
    keepProfile({ ...profileOf(user), blocks })
    // Anyone can report, so a report alone does not make a user known.
    if (!known && !knows(user)) return
    for (const standing of [total, ...Object.values(models)]) {
      if (Object.keys(standing.used).length) learnUsed(user, standing, at)
    }
  }

  function learnAdmission(command: Admit, answer: Admitted | Refusal): void {
    const { user, model, now, key, claims } = command
    if (!answer.ok && answer.reason === 'blocked') {
      const profile = profileOf(user)
      const block = { at: now, reason: answer.why, until: answer.until }
      keepProfile({ ...profile, blocks: { ...profile.blocks, [answer.model]: block } })
      return
    }
    if (key && !answer.ok && answer.reason === 'key') {
      setNewest(deadKeys, nameOf(key), answer)
      return
    }
    if (claims && !answer.ok && answer.reason === 'revoked') {
      keepProfile({ ...profileOf(user), notBefore: claims.issuedAt + 1 })
      return
    }
    if (key) deadKeys.delete(nameOf(key))
    // A user who is admitted, or refused for another reason, is not blocked from this model.
    for (const scope of [model, ALL_MODELS]) unblock(user, scope)
    if (answer.ok) {
      inQuotas.clear()
      meet(user, answer.at)
      seen.learn(command, answer.limits ?? [])
      for (const standing of answer.limits ?? []) learnUsed(user, standing, answer.at)
    } else if (answer.reason === 'limit' && answer.of !== 'unverified') {
      seen.learnRefusal(command, answer)
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

  function unblock(user: string, scope: string): void {
    const profile = view.profile(user)
    if (!profile || !own(profile.blocks, scope)) return
    const { [scope]: _, ...blocks } = profile.blocks
    keepProfile({ ...profile, blocks })
  }

  /** Charges a stranger's request to all strangers; refused if that would be more than their share. */
  function share(
    kind: keyof typeof STRANGERS,
    { everyone, ...command }: Admit & { everyone: Rows },
  ) {
    const limits = mapRows(everyone, (limit) => Math.ceil(limit * SHARES[kind]))
    const user = STRANGERS[kind]
    const { usage, answer } = reduce({ ...command, user, limits }, view, terms) as Step<
      Admitted | Refusal
    >
    if (usage) keepUsage(usage)
    return answer
  }

  /**
   * The admission with the last limits that the store reported for its user and for everyone. A key counts as valid
   * unless the store has refused it, and a plan that a token names cannot be looked up.
   */
  function asRemembered(asked: Admit): Admit {
    const { key: _, unverified: __, claims, ...command } = asked
    const { limits, everyone } = seen.rowsFor(asked)
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
    correct: remembered.correct,
    forget(user) {
      remembered.forget(user)
      seen.forget(user)
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
      const isStranger = answer.ok && !knows(user)
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
    if (step.newUsers) remembered.keepNewUsers(step.newUsers)
    if (command.op === 'admit') inQuotas.add(command.id)
    const isCounted = command.op !== 'settle' || inQuotas.delete(command.event.id) || !isHeld
    if (usage) keepUsage(usage)
    if (profile) keepProfile(profile)
    for (const [scope, quota] of Object.entries((isCounted && changed) || {})) {
      keepQuota(scope, quota)
    }
    if (command.op !== 'settle') return answer
    for (const { id, leases } of remembered.strangersTogether()) {
      if (own(leases, command.event.id)) {
        const { usage } = reduce({ ...command, user: id }, view, terms)
        if (usage) keepUsage(usage)
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

const mapRows = (rows: Rows, map: (limit: number) => number): Rows =>
  mapValues(rows as Record<string, Limits>, (row) => mapValues(row as Record<string, number>, map))
