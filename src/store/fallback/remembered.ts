/** The documents that an isolate remembers: of users, and everyone's counts. */
import type { Settle } from '../../ledger/commands.ts'
import {
  ALL_MODELS,
  type NewUsersDoc,
  type ProfileDoc,
  type QuotaDoc,
  type UsageDoc,
} from '../../ledger/documents.ts'
import { newQuota, newUsage } from '../../ledger/new-documents.ts'
import { own } from '../../ledger/records.ts'
import { useOf } from '../../ledger/rows.ts'
import type { View } from '../../ledger/step.ts'
import { chargedBy, correct, reservedBy } from '../../ledger/tally.ts'
import { WINDOW_NAMES } from '../../ledger/windows.ts'
import { setNewest } from './newest.ts'

/**
 * Strangers are users whose counts the store has not reported. All unverified ones together are one more user, and so are
 * those with a key or a signed token. No other user has these ids.
 */
export const STRANGERS = { unverified: '', verified: ' ' }

const isStrangers = (id: string): boolean => Object.values(STRANGERS).includes(id)

const ALL_WINDOWS = Object.fromEntries(WINDOW_NAMES.map((window) => [window, 1 as const]))

/** Builds the documents: of 1,000 users, as many strangers, and everyone's counts of each model that limits name. */
export function createRemembered() {
  /** Users whose counts the store has reported. */
  const users = new Map<string, UsageDoc>()
  /** Users of whom only the requests since the outage are known. They displace no other user. */
  const strangers = new Map<string, UsageDoc>()
  const together = new Map<string, UsageDoc>()
  const profiles = new Map<string, ProfileDoc>()
  /** Everyone's counts by model and `*`: of the models that a limit names, and of the latest other models. */
  const quotas = { named: new Map<string, QuotaDoc>(), others: new Map<string, QuotaDoc>() }
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

  function keepUsage(usage: UsageDoc): void {
    if (isStrangers(usage.id)) together.set(usage.id, usage)
    else setNewest(users.has(usage.id) ? users : strangers, usage.id, usage)
  }

  function keepQuota(scope: string, quota: QuotaDoc): void {
    if (quotas.named.has(scope)) quotas.named.set(scope, quota)
    else setNewest(quotas.others, scope, quota)
  }

  /** Keeps only profiles with a block or a revocation, so that no other profile displaces one of these. */
  function keepProfile(profile: ProfileDoc): void {
    if (Object.keys(profile.blocks).length || profile.notBefore !== undefined)
      setNewest(profiles, profile.id, profile)
    else profiles.delete(profile.id)
  }

  return {
    view,
    keepUsage,
    keepQuota,
    keepProfile,
    /** Whether the store has reported a user's counts. */
    knows: (user: string): boolean => users.has(user),
    /** The document of a user whom the store knows. */
    meet(user: string, at: number): UsageDoc {
      const doc = users.get(user) ?? strangers.get(user) ?? newUsage(user, at)
      strangers.delete(user)
      setNewest(users, user, doc)
      return doc
    },
    /** The documents in which all strangers of a kind are one user. */
    strangersTogether: () => together.values(),
    /** Everyone's counts for a row of limits. Clients choose models, so those that a limit names are kept apart. */
    named(scope: string, at: number): QuotaDoc {
      const quota = view.quota(scope) ?? newQuota(at)
      quotas.others.delete(scope)
      quotas.named.set(scope, quota)
      return quota
    },
    keepNewUsers(doc: NewUsersDoc): void {
      newUsers = doc
    },
    /** A request that the store admitted has ended: its charge takes the place of its reservation. */
    correct({ user, event }: Settle): void {
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
    forget(user: string): void {
      for (const documents of [users, strangers, profiles]) documents.delete(user)
    },
  }
}
