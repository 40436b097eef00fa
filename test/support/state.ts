/** The reducer on maps. Every store must agree with it. */
import type { Command } from '../../src/ledger/commands.ts'
import type { Answer } from '../../src/ledger/answers.ts'
import type { Keep } from '../../src/ledger/advance.ts'
import { reduce } from '../../src/ledger/rules.ts'
import type { View } from '../../src/ledger/step.ts'
import type { Audit, Event } from '../../src/ledger/events.ts'
import type {
  DayDoc,
  NewUsersDoc,
  OutboxDoc,
  PastDoc,
  PlanDoc,
  ProfileDoc,
  QuotaDoc,
  SettingsDoc,
  UsageDoc,
} from '../../src/ledger/documents.ts'

export function reducerState(
  keep: Keep,
  look: <T>(value: T) => T = (value) => value,
  { tolerance = Infinity, time = Date.now } = {},
) {
  const usage = new Map<string, UsageDoc>()
  const past = new Map<string, PastDoc>()
  const profiles = new Map<string, ProfileDoc>()
  const plans = new Map<string, PlanDoc>()
  let settings: SettingsDoc | undefined
  const quotas = new Map<string, QuotaDoc>()
  const days = new Map<string, DayDoc>()
  const entered = new Set<string>()
  const erased = new Map<string, number>()
  const audit: Audit[] = []
  let events: Event[] = []
  const sessions = new Map<string, number | undefined>()
  let newUsers: NewUsersDoc | undefined
  let outbox: OutboxDoc | undefined
  const view: View = {
    usage: (user) => usage.get(user),
    past: (user) => past.get(user),
    profile: (user) => profiles.get(user),
    plan: (name) => plans.get(name),
    settings: () => settings,
    quota: (scope) => quotas.get(scope),
    day: (date) => days.get(date),
    entered: (id) => entered.has(id),
    newUsers: () => newUsers,
    outbox: () => outbox,
    lastAudit: () => audit[0],
    erasedAt: (user) => erased.get(user),
    time,
  }
  return {
    usage,
    past,
    profiles,
    plans,
    settings: () => settings,
    outbox: () => outbox,
    quotas,
    days,
    audit,
    sessions,
    /** Newest first. */
    events: () => events.toReversed(),
    do(command: Command): Answer {
      const step = look(reduce(command, view, { ...keep, tolerance }))
      if (step.cleared) {
        for (const date of days.keys()) if (date < step.cleared) days.delete(date)
        events = []
      }
      if (step.entered !== undefined) entered.add(step.entered)
      if (step.usage) usage.set(step.usage.id, step.usage)
      if (step.past) past.set(step.past.id, step.past)
      if (step.profile) profiles.set(step.profile.id, step.profile)
      if (step.settings) settings = step.settings
      if (step.plan?.doc) plans.set(step.plan.name, step.plan.doc)
      else if (step.plan) plans.delete(step.plan.name)
      for (const [scope, quota] of Object.entries(step.quotas ?? {})) quotas.set(scope, quota)
      if (step.day) days.set(step.day.date, step.day)
      newUsers = step.newUsers ?? newUsers
      outbox = step.outbox ?? outbox
      if (step.event) events.push(step.event)
      if (step.again) audit.shift()
      if (step.audit) audit.unshift(step.audit)
      if (step.session) sessions.set(step.session.hash, step.session.until)
      if (step.erased) {
        const { user, at } = step.erased
        for (const documents of [usage, past, profiles]) documents.delete(user)
        events = events.filter((event) => event.user !== user)
        erased.set(user, at)
      }
      return step.answer
    },
  }
}
