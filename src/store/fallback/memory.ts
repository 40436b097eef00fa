/** What an isolate remembers: the counts and blocks that it saw last, for use while the store is unavailable. */
import type { Admit, Admitted, Answer, Refusal, UserCommand } from '../../ledger/commands.ts'
import { newProfile, newQuota, newUsage, useOf, type Keep } from '../../ledger/documents.ts'
import { usedIn, windowsOf, type Standing } from '../../ledger/policy.ts'
import { reduce } from '../../ledger/rules.ts'
import type { View } from '../../ledger/step.ts'
import {
  ALL_MODELS,
  own,
  type Amounts,
  type DayDoc,
  type NewUsersDoc,
  type PastDoc,
  type ProfileDoc,
  type QuotaDoc,
  type UsageDoc,
  type Windows,
} from '../../ledger/shapes.ts'
import { DAY_MS, dateOf, startOf, type Window } from '../../ledger/windows.ts'

/** The most users that are remembered (the last seen), and the most models of everyone (the last used). */
const USERS = 1000
const MODELS = 1000

export type Memory = {
  /** Remembers an answer of the store. */
  learn(command: Admit, answer: Admitted | Refusal): void
  /** A user was erased. */
  forget(user: string): void
  /** Runs a command on the remembered documents. */
  run(command: UserCommand): Answer
}

/** Builds a memory. It holds 1,000 users, and the latest two days of everyone together. */
export function createMemory(keep: Keep): Memory {
  const usage = new Map<string, UsageDoc>()
  const past = new Map<string, PastDoc>()
  const profiles = new Map<string, ProfileDoc>()
  const quotas = new Map<string, QuotaDoc>()
  const days = new Map<string, DayDoc>()
  let newUsers: NewUsersDoc | undefined
  const view: View = {
    usage: (user) => usage.get(user),
    past: (user) => past.get(user),
    profile: (user) => profiles.get(user),
    quota: (scope) => quotas.get(scope),
    day: (date) => days.get(date),
    entered: () => false,
    newUsers: () => newUsers,
    lastAudit: () => undefined,
    erasedAt: () => undefined,
    time: Date.now,
  }

  /** Replaces the local counts for one row of limits with those of the store. */
  function learnUsed(user: string, { of, model: scope, used }: Learned, at: number): void {
    if (of === 'everyone') {
      const quota = quotas.get(scope) ?? newQuota(at)
      const windows = withUsed(quota.windows, used, at)
      set(quotas, scope, { ...quota, at: Math.max(quota.at, at), windows }, MODELS)
      return
    }
    // The document is brought up to date when it is used, which is rare.
    const doc = usage.get(user) ?? newUsage(user, at)
    const windows = withUsed(windowsOf(doc, scope) ?? {}, used, at)
    const learned =
      scope === ALL_MODELS
        ? { windows }
        : { models: { ...doc.models, [scope]: { ...useOf(doc, scope), windows } } }
    // The store counts the leases of an earlier outage now, or will count them soon.
    set(usage, user, { ...doc, ...learned, at: Math.max(doc.at, at), leases: {} }, USERS)
  }

  return {
    learn({ user, model, now }, answer) {
      if (!answer.ok && answer.reason === 'blocked') {
        const profile = profiles.get(user) ?? newProfile(user)
        const block = { at: now, reason: answer.why, until: answer.until }
        const blocks = { ...profile.blocks, [answer.model]: block }
        set(profiles, user, { ...profile, blocks }, USERS)
        return
      }
      // A user who is admitted, or refused for another reason, is not blocked from this model.
      for (const scope of [model, ALL_MODELS]) {
        const profile = profiles.get(user)
        if (profile && own(profile.blocks, scope)) unblock(profile, scope)
      }
      if (answer.ok) {
        for (const standing of answer.limits ?? []) learnUsed(user, standing, answer.at)
      } else if (answer.reason === 'limit') {
        const { of, model: scope, window, unit, used } = answer
        const doc = usage.get(user)
        const windows =
          of === 'everyone' ? quotas.get(scope)?.windows : doc && windowsOf(doc, scope)
        const counted = { ...usedIn(windows, window, now), [unit]: used }
        learnUsed(user, { of, model: scope, used: { [window]: counted } }, now)
      }
    },
    forget(user) {
      for (const documents of [usage, past, profiles]) documents.delete(user)
    },
    run(command) {
      const step = reduce(command, view, { ...keep, tolerance: Infinity })
      if (step.usage) set(usage, command.user, step.usage, USERS)
      if (step.past) set(past, command.user, step.past, USERS)
      if (step.profile) keepProfile(step.profile)
      for (const [scope, quota] of Object.entries(step.quotas ?? {})) {
        set(quotas, scope, quota, MODELS)
      }
      if (step.day) days.set(step.day.date, step.day)
      newUsers = step.newUsers ?? newUsers
      const oldest = dateOf(command.now - 2 * DAY_MS)
      for (const date of days.keys()) if (date < oldest) days.delete(date)
      return step.answer
    },
  }

  /** Keeps only a profile with a block: one without must not displace it. */
  function keepProfile(profile: ProfileDoc): void {
    if (Object.keys(profile.blocks).length) set(profiles, profile.id, profile, USERS)
    else profiles.delete(profile.id)
  }

  function unblock(profile: ProfileDoc, scope: string): void {
    const { [scope]: _, ...blocks } = profile.blocks
    keepProfile({ ...profile, blocks })
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

/** Sets a value as the newest one, and removes the oldest if there are too many. */
function set<T>(map: Map<string, T>, key: string, value: T, most: number): void {
  map.delete(key)
  map.set(key, value)
  const [oldest] = map.keys()
  if (map.size > most && oldest !== undefined) map.delete(oldest)
}
