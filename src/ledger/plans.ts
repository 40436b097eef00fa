/** Which plan a user has, and which limits hold: the plan's, with the user's own ones and the boost. */
import type { Limits, ModelLimits, Rows } from './policy.ts'
import {
  ALL_MODELS,
  UNLIMITED,
  type PlanDoc,
  type ProfileDoc,
  type SettingsDoc,
  type StoredLimits,
  type StoredRows,
  type UsageDoc,
} from './documents.ts'
import { own } from './records.ts'

/** The plan of users without one. Its limits are those of the environment until an admin stores others. */
export const DEFAULT_PLAN = 'default'

/** The row of stored limits for all models together. */
export const TOTAL = 'total'

/** What is looked up of plans and settings. */
export type Plans = {
  plan(name: string): PlanDoc | undefined
  settings(): SettingsDoc | undefined
}

/** A user's plan. `doc` is absent where the limits of the environment hold. */
export type UserPlan = { name: string; doc?: PlanDoc; unknown?: string }

/** The plan by the profile, else by the user's token, else the default one. A plan that is not stored counts as the default. */
export function planOf(
  profile: Pick<ProfileDoc, 'plan'> | undefined,
  claimed: string | undefined,
  { plan, settings }: Plans,
): UserPlan {
  const byDefault = settings()?.defaultPlan ?? DEFAULT_PLAN
  const named = profile?.plan ?? claimed ?? byDefault
  const doc = plan(named)
  if (doc) return { name: named, doc }
  if (named === byDefault || named === DEFAULT_PLAN) return { name: named }
  const fallback = plan(byDefault)
  return fallback
    ? { name: byDefault, doc: fallback, unknown: named }
    : { name: byDefault, unknown: named }
}

/** The rows of a user for a model. `environment` are the rows of the environment for it. */
export function userRows(
  model: string,
  environment: Rows,
  doc: PlanDoc | undefined,
  profile: Pick<ProfileDoc, 'limits' | 'boost'> | undefined,
  at: number,
): Rows {
  let rows = doc ? storedRows(doc.limits, model) : environment
  if (profile && Object.keys(profile.limits).length > 0) {
    rows = combine(rows, storedRows(profile.limits, model), overridden)
  }
  if (profile?.boost && profile.boost.until > at) {
    rows = combine(rows, storedRows(profile.boost.limits, model), boosted)
  }
  return rows
}

/** The rows of everyone for a model. */
export const everyoneRows = (
  model: string,
  environment: Rows | undefined,
  settings: SettingsDoc | undefined,
): Rows => (settings?.globalLimits ? storedRows(settings.globalLimits, model) : (environment ?? {}))

/** All plans and the settings, as the store reads them. */
export type Policy = { settings?: SettingsDoc | undefined; plans: Record<string, PlanDoc> }

/** The same as `planOf`, from plans that were read before. */
export const planOfUser = (
  profile: Pick<ProfileDoc, 'plan'>,
  claimed: string | undefined,
  { settings, plans }: Policy,
): UserPlan =>
  planOf(profile, claimed, { plan: (name) => own(plans, name), settings: () => settings })

/** The plan and all limits of a user, for pages. If a token names the plan, it is that of the last request. */
export function limitsOfUser(
  environment: ModelLimits,
  { usage, profile }: { usage: Pick<UsageDoc, 'plan'>; profile: ProfileDoc },
  { settings, plans }: Policy,
  at: number,
): { plan: string; limits: ModelLimits } {
  const found = planOfUser(profile, usage.plan, { settings, plans })
  return { plan: found.name, limits: userLimits(environment, found.doc, profile, at) }
}

/** All rows of a user: those that the plan or the user's own limits name, and that of other models. */
function userLimits(
  environment: ModelLimits,
  doc: PlanDoc | undefined,
  profile: ProfileDoc | undefined,
  at: number,
): ModelLimits {
  const plan = doc ? modelLimits(doc.limits) : environment
  const named = [plan.models, profile?.limits ?? {}, profile?.boost?.limits ?? {}].flatMap(
    Object.keys,
  )
  const rowsOf = (model: string): Rows => {
    const rows: Rows = {}
    const row = own(plan.models, model) ?? plan.default
    if (row) rows.model = row
    if (plan.total) rows.total = plan.total
    return userRows(model, rows, undefined, profile, at)
  }
  const { model: byDefault, total } = rowsOf(ALL_MODELS)
  const models = named.filter((name) => name !== ALL_MODELS && name !== TOTAL)
  return {
    ...(byDefault && { default: byDefault }),
    ...(total && { total }),
    models: Object.fromEntries(models.map((model) => [model, rowsOf(model).model ?? {}])),
  }
}

/** The limits of everyone; no rows if there are none. */
export const everyoneLimits = (
  environment: ModelLimits | undefined,
  settings: SettingsDoc | undefined,
): ModelLimits =>
  settings?.globalLimits ? modelLimits(settings.globalLimits) : (environment ?? { models: {} })

/**
 * A part in percent, rounded down. The product of a limit in dollars and a percentage may pass 2^53, so it is not
 * computed.
 */
const percentOf = (limit: number, percent: number): number =>
  Math.floor(limit / 100) * percent + Math.floor(((limit % 100) * percent) / 100)

/** The part of everyone's limits that unverified callers have together; `share` is in percent. */
export const shareOf = (rows: Rows, share: number): Rows => {
  const part = (row: Limits): Limits =>
    Object.fromEntries(Object.entries(row).map(([name, limit]) => [name, percentOf(limit, share)]))
  return {
    ...(rows.model && { model: part(rows.model) }),
    ...(rows.total && { total: part(rows.total) }),
  }
}

/** Where the use of unverified callers is counted. No model has this name. */
export const unverifiedScope = (scope: string): string => `~${scope}`

/** Stored rows as limits by model. */
function modelLimits(stored: StoredRows): ModelLimits {
  const { [ALL_MODELS]: byDefault, [TOTAL]: total, ...models } = stored
  return {
    ...(byDefault && { default: limited(byDefault) }),
    ...(total && { total: limited(total) }),
    models: Object.fromEntries(Object.entries(models).map(([name, row]) => [name, limited(row)])),
  }
}

/** The stored rows that apply to a model. */
function storedRows(stored: StoredRows, model: string): Rows {
  const rows: Rows = {}
  const row = (model === TOTAL ? undefined : own(stored, model)) ?? stored[ALL_MODELS]
  const total = stored[TOTAL]
  if (row) rows.model = row
  if (total) rows.total = total
  return rows
}

const limited = (row: StoredLimits): Limits =>
  Object.fromEntries(Object.entries(row).filter(([, limit]) => limit !== UNLIMITED))

function combine(rows: Rows, more: Rows, merge: (row: Limits, more: Limits) => Limits): Rows {
  const combined = { ...rows }
  if (more.model) combined.model = merge(rows.model ?? {}, more.model)
  if (more.total) combined.total = merge(rows.total ?? {}, more.total)
  return combined
}

/** A number takes the place of the limit, and `UNLIMITED` removes it. */
const overridden = (row: Limits, own: StoredLimits): Limits => limited({ ...row, ...own })

/** A boost only raises limits that are there. */
const boosted = (row: Limits, boost: StoredLimits): Limits =>
  Object.fromEntries(
    Object.entries(row).map(([name, limit]) => [name, limit + Math.max(0, boost[name] ?? 0)]),
  )
