/** The limits: how they are named, which of them hold for a request, and what is left of them. */
import {
  ALL_MODELS,
  UNITS,
  own,
  type Amounts,
  type ProfileDoc,
  type Unit,
  type UsageDoc,
  type Windows,
} from './shapes.ts'
import { WINDOWS, WINDOW_NAMES, endOf, startOf, type Window } from './windows.ts'

/** Amounts by the name of their limit, such as `tokensPerDay`; one that is absent does not hold. */
export type Limits = Partial<Record<LimitName, number>>

export type LimitName = `${Unit}Per${(typeof WINDOWS)[Window]['name']}`

/** Every limit there can be: its name, and what it is of. Refusals are told in this order. */
export const LIMITS = WINDOW_NAMES.flatMap((window) =>
  UNITS.map((unit) => ({ name: limitName(unit, window), unit, window })),
)

/** What the limit of a unit in a window is called. */
export function limitName(unit: Unit, window: Window): LimitName {
  return `${unit}Per${WINDOWS[window].name}`
}

/** Limits per model, for every model without a row, and for all models together. */
export type ModelLimits = {
  default?: Limits | undefined
  total?: Limits | undefined
  models: Record<string, Limits>
}

/** The row of a model, or the one for models without a row. */
export const limitsOf = (limits: ModelLimits, model: string): Limits | undefined =>
  own(limits.models, model) ?? limits.default

/** Whose use a limit is of. */
export type Of = 'user' | 'everyone'

/** The rows of limits that one request is held against: of its model, and of all models together. */
export type Rows = { model?: Limits | undefined; total?: Limits | undefined }

/** The rows that hold for a model. */
export const rowsFor = (limits: ModelLimits, model: string): Rows => {
  const rows: Rows = {}
  const row = limitsOf(limits, model)
  if (row) rows.model = row
  if (limits.total) rows.total = limits.total
  return rows
}

/** A row of limits that holds, and what was used of it in each window that is counted. */
export type Standing = {
  of: Of
  /** The model of the row, `*` for all together. */
  model: string
  limits: Limits
  /** Of the windows that are counted, by their names. */
  used: Record<string, Amounts>
}

/** What is left of one limit. */
export type Line = {
  unit: Unit
  window: Window
  limit: number
  used: number
  left: number
  /** Epoch ms. */
  resetAt: number
}

/** What was used of a window at a moment; nothing where the counters are of another span. */
export function usedIn(windows: Windows | undefined, window: Window, at: number): Amounts {
  const counted = windows && own(windows, window)
  if (counted?.start !== startOf(window, at)) return NOTHING
  return Object.fromEntries(UNITS.map((unit) => [unit, counted[unit]])) as Amounts
}

/** The windows without those that have ended. One that this build does not know stays as it is. */
export const current = (windows: Windows, at: number): Windows =>
  Object.fromEntries(
    Object.entries(windows).filter(
      ([window, { start }]) =>
        !Object.hasOwn(WINDOWS, window) || start === startOf(window as Window, at),
    ),
  )

/** What a user has used of the windows of a model, or of all of them (`*`). */
export const windowsOf = ({ windows, models }: UsageDoc, scope: string): Windows | undefined =>
  isTotal(scope) ? windows : own(models, scope)?.windows

/** Where somebody stands with a row of limits at a moment, by the windows of the row's model. */
export function standingOf(
  of: Of,
  scope: string,
  limits: Limits,
  windows: Windows | undefined,
  at: number,
): Standing {
  const used: Standing['used'] = {}
  for (const window of WINDOW_NAMES) {
    const amounts = usedIn(windows, window, at)
    if (amounts !== NOTHING) used[window] = amounts
  }
  return { of, model: scope, limits, used }
}

/** Every limit of a row, with what is left of it at a moment. */
export function linesOf({ limits, used }: Pick<Standing, 'limits' | 'used'>, at: number): Line[] {
  const lines: Line[] = []
  for (const { name, unit, window } of LIMITS) {
    const limit = limits[name]
    if (limit === undefined) continue
    const count = used[window]?.[unit] ?? 0
    const left = Math.max(0, limit - count)
    lines.push({ unit, window, limit, used: count, left, resetAt: endOf(window, at) })
  }
  return lines
}

/** The name of the model that a limit is of, or of all of them. */
export const isTotal = (model: string): boolean => model === ALL_MODELS

export const NOTHING: Amounts = { requests: 0, tokens: 0 }

/** The limits of one user: those that the environment names for each of them. */
export const effectiveLimits = (
  environment: ModelLimits,
  _user: { profile: ProfileDoc },
): ModelLimits => environment

/** The limits of everyone together; without any, no row of them. */
export const everyoneLimits = (environment: ModelLimits | undefined): ModelLimits =>
  environment ?? { models: {} }
