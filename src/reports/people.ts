/** What the admin API answers about keys, users, plans and settings: pure functions from documents to answers. */
import { filter } from '../ledger/records.ts'
import { isInForce } from '../ledger/blocks.ts'
import { rowsOf } from '../ledger/rows.ts'
import { labelOf } from '../ledger/labels.ts'
import { DEFAULT_PLAN, TOTAL, everyoneLimits, limitsOfUser, type Policy } from '../ledger/plans.ts'
import { amountTo, limitTo, type ModelLimits } from '../ledger/policy.ts'
import {
  ALL_MODELS,
  UNLIMITED,
  type Key,
  type PlanDoc,
  type ProfileDoc,
  type StoredRows,
  type UsageDoc,
} from '../ledger/documents.ts'
import { WINDOWS, WINDOW_NAMES, dateOf } from '../ledger/windows.ts'
import type { User } from '../store/store.ts'
import { costIn, costOfKey, usdOrNull, type Prices } from './costs.ts'
import { lastActiveOf, userLimits } from './usage.ts'

/** The windows that are counted for every user. */
const ALWAYS = WINDOW_NAMES.filter((window) => WINDOWS[window].always)

/** Limits by model, `*` for models without a row, and `total` for all models together; null is no limit. */
export type LimitRows = Record<string, Record<string, number | null>>

/** The limits that the environment sets. */
export type OfEnvironment = { limits: ModelLimits; globalLimits: ModelLimits | undefined }

/** Stored limits, as the API shows them. */
export const rowsReport = (rows: StoredRows): LimitRows =>
  Object.fromEntries(
    Object.entries(rows).map(([model, row]) => [
      model,
      Object.fromEntries(
        Object.entries(row).map(([name, limit]) => [
          name,
          limit === UNLIMITED ? null : limitTo(name, limit),
        ]),
      ),
    ]),
  )

/** Limits by model as rows. */
export const effectiveRows = ({ default: byDefault, total, models }: ModelLimits): LimitRows =>
  rowsReport({
    ...(byDefault && { [ALL_MODELS]: byDefault }),
    ...(total && { [TOTAL]: total }),
    ...models,
  })

const namesIn = (list: Record<string, 1> | undefined): string[] | null =>
  list ? Object.keys(list) : null

/** A key, without its secret. Only the user's document knows its use. */
export function keyReport(userId: string, id: string, key: Key, at: number, usage?: UsageDoc) {
  const { name, start, last4, created, expires, disabled, models, previous } = key
  return {
    id: `${userId}.${id}`,
    userId,
    name: name ?? null,
    start,
    last4,
    createdAt: created,
    expiresAt: expires ?? null,
    disabled: disabled === 1,
    models: namesIn(models),
    previousExpiresAt: previous && previous.until > at ? previous.until : null,
    ...(usage && {
      lastUsedAt: usage.keysUsed?.[id] ?? null,
      monthCostUsd: usdOrNull(costOfKey(usage, id, at)),
    }),
  }
}

/** All keys of a user, the oldest first. */
export const keysReport = (
  { id, keys }: Pick<ProfileDoc, 'id' | 'keys'>,
  at: number,
  usage?: UsageDoc,
) =>
  Object.entries(keys)
    .map(([key, doc]) => keyReport(id, key, doc, at, usage))
    .sort((a, b) => a.createdAt - b.createdAt || (a.id < b.id ? -1 : 1))

/** What is known of a user, and what holds for them now. */
export function profileReport(
  user: User,
  environment: OfEnvironment & { prices: Prices },
  policy: Policy,
  at: number,
) {
  const { usage, profile } = user
  const { label, note, plan, limits, boost, models, notBefore } = profile
  const effective = limitsOfUser(environment.limits, user, policy, at)
  const inForce = filter(profile.blocks, (block) => isInForce(block, at))
  return {
    userId: profile.id,
    label: labelOf({ usage, profile }) ?? null,
    ownLabel: label ?? null,
    note: note ?? null,
    plan: plan ?? null,
    effectivePlan: effective.plan,
    limits: rowsReport(limits),
    effectiveLimits: effectiveRows(effective.limits),
    boost:
      boost && boost.until > at ? { limits: rowsReport(boost.limits), until: boost.until } : null,
    models: namesIn(models),
    notBefore: notBefore ?? null,
    blocks: Object.entries(inForce).map(([model, { at: since, reason, until }]) => ({
      model,
      at: since,
      reason: reason ?? null,
      until: until ?? null,
    })),
    keys: keysReport(profile, at, usage),
    costs: Object.fromEntries(
      ALWAYS.map((window) => [window, usdOrNull(costIn(usage, window, environment.prices, at))]),
    ),
    windows: windowsReport(usage, effective.limits, at),
    ipAddress: usage.ip ?? null,
    lastActive: lastActiveOf(usage) || null,
  }
}

/**
 * What is left of each limit of a user: of all models together (`*`), of models with a row, and of those that were used
 * today, and of those in `always`.
 */
export function windowsReport(
  usage: UsageDoc,
  limits: ModelLimits,
  at: number,
  always: string[] = [],
) {
  const used = usage.date === dateOf(at) ? Object.keys(rowsOf(usage)) : []
  const models = new Set([ALL_MODELS, ...Object.keys(limits.models), ...used, ...always])
  return [...models].flatMap((model) =>
    userLimits(usage, model, limits, at).map(
      ({ unit, window, limit, used, reserved, left, resetAt }) => ({
        model,
        unit,
        window,
        limit: amountTo(unit, limit),
        used: amountTo(unit, used),
        reserved: amountTo(unit, reserved),
        remaining: amountTo(unit, left),
        resetAt,
      }),
    ),
  )
}

/** A plan that is stored. */
export const planReport = (name: string, doc: Omit<PlanDoc, 'v'>) => ({
  name,
  limits: rowsReport(doc.limits),
  models: namesIn(doc.models),
  maxCompletionTokens: doc.maxCompletionTokens ?? null,
  concurrentRequests: doc.concurrentRequests ?? null,
  stored: true,
})

/** All plans by name. Until an admin stores the plan `default`, it has the limits of the environment. */
export function plansReport({ plans }: Policy, { limits }: OfEnvironment) {
  const byDefault = {
    name: DEFAULT_PLAN,
    limits: effectiveRows(limits),
    models: null,
    maxCompletionTokens: null,
    concurrentRequests: null,
    stored: false,
  }
  const stored = Object.entries(plans).map(([name, doc]) => planReport(name, doc))
  const all = Object.hasOwn(plans, DEFAULT_PLAN) ? stored : [...stored, byDefault]
  return all.sort((a, b) => (a.name < b.name ? -1 : 1))
}

/** What an admin set for everyone, and what holds. */
export const settingsReport = (settings: Policy['settings'], { globalLimits }: OfEnvironment) => ({
  globalLimits: settings?.globalLimits ? rowsReport(settings.globalLimits) : null,
  defaultPlan: settings?.defaultPlan ?? null,
  effectiveGlobalLimits: effectiveRows(everyoneLimits(globalLimits, settings)),
  effectiveDefaultPlan: settings?.defaultPlan ?? DEFAULT_PLAN,
})
