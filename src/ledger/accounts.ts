/** What the commands of requests share: the counters that they charge or correct, and a user's row of today. */
import {
  ALL_MODELS,
  type UsageDoc,
  type Lease,
  type Windows,
  type QuotaDoc,
  type Row,
} from './documents.ts'
import { charge } from './tally.ts'
import { own } from './records.ts'
import { useOf, whole, answersOf, thin } from './rows.ts'
import { current } from './policy.ts'
import type { View } from './step.ts'
import { unverifiedScope } from './plans.ts'
import { newQuota } from './new-documents.ts'

/** The user's document with a lease's reservation charged to its windows. */
export const charged = (usage: UsageDoc, lease: Lease): UsageDoc =>
  changeWindows(usage, lease.model, (windows) => charge(windows, lease, usage.at))

/** Applies a change to a user's windows of all models and of one model. */
export function changeWindows(
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

/**
 * Applies a change to everyone's windows of all models and of a lease's model, and for an unverified caller also to
 * those of all unverified callers.
 */
export function changeQuotas(
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
export const chargeAll = ({ quota }: View, lease: Lease, now: number) =>
  changeQuotas(quota, lease, now, (windows, at) => charge(windows, lease, at))

/** The document with one of today's rows replaced and the sums updated. */
export function withToday(usage: UsageDoc, model: string, row: Row): UsageDoc {
  const use = useOf(usage, model)
  const old = whole(use.row)
  return {
    ...usage,
    charged: usage.charged + row.charged - old.charged,
    answered: usage.answered + answersOf(row) - answersOf(old),
    models: { ...usage.models, [model]: { ...use, row: thin(row) } },
  }
}
