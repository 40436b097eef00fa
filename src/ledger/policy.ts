/** The limits: how they are named, which of them hold for a request, and what is left of them. */
import { UNITS, NOTHING, amountsFrom, type Unit, type Amounts } from './units.ts'
import { WINDOWS, WINDOW_NAMES, SECOND_MS, startOf, endOf, type Window } from './windows.ts'
import { nanoFrom, usdOf } from './money.ts'
import { own } from './records.ts'
import { ALL_MODELS, type Windows, type UsageDoc } from './documents.ts'

/**
 * Amounts by the name of their limit, such as `tokensPerDay`; those of `usd` are in nano-USD. An absent name means that
 * there is no limit.
 */
export type Limits = Partial<Record<LimitName, number>>

export type LimitName = `${Unit}Per${(typeof WINDOWS)[Window]['name']}`

/** Every possible limit: its name, unit and window, in the order in which limits are checked. */
export const LIMITS = WINDOW_NAMES.flatMap((window) =>
  UNITS.map((unit) => ({ name: limitName(unit, window), unit, window })),
)

export function limitName(unit: Unit, window: Window): LimitName {
  return `${unit}Per${WINDOWS[window].name}`
}

const UNIT_OF: Record<string, Unit> = Object.fromEntries(
  LIMITS.map(({ name, unit }) => [name, unit]),
)

/** Whether the amounts of a limit are money. Its name is one of `LIMITS`. */
export const isMoney = (name: string): boolean => UNIT_OF[name] === 'usd'

/** Whether the amounts of a limit are seconds. */
export const isTime = (name: string): boolean => UNIT_OF[name] === 'audioSeconds'

/** A limit as people write it, in dollars or seconds where it is money or time, as the ledger has it. */
export const limitFrom = (name: string, said: number): number =>
  isMoney(name) ? nanoFrom(said) : isTime(name) ? said * SECOND_MS : said

/** A limit of the ledger as people write it. */
export const limitTo = (name: string, limit: number): number =>
  amountTo(UNIT_OF[name] ?? 'requests', limit)

/** A unit in words. */
export const unitWords = (unit: Unit): string => (unit === 'audioSeconds' ? 'audio seconds' : unit)

/** An amount of a unit as people read it: dollars where it is money, seconds where it is time. */
export const amountTo = (unit: Unit, amount: number): number =>
  unit === 'usd' ? usdOf(amount) : unit === 'audioSeconds' ? amount / SECOND_MS : amount

/** Limits per model, for every model without a row, and for all models together. */
export type ModelLimits = {
  default?: Limits | undefined
  total?: Limits | undefined
  models: Record<string, Limits>
}

/** The row of a model, or the one for models without a row. */
export const limitsOf = (limits: ModelLimits, model: string): Limits | undefined =>
  own(limits.models, model) ?? limits.default

/** Whose use a limit counts. */
export type Of = 'user' | 'everyone' | 'unverified'

/** The rows of limits that hold for one request: of its model, and of all models together. */
export type Rows = { model?: Limits | undefined; total?: Limits | undefined }

/** The rows that hold for a model. */
export const rowsFor = (limits: ModelLimits, model: string): Rows => {
  const rows: Rows = {}
  const row = limitsOf(limits, model)
  if (row) rows.model = row
  if (limits.total) rows.total = limits.total
  return rows
}

/** A row of limits, and its use in windows that are counted. */
export type Standing = {
  of: Of
  /** The model of the row, `*` for all together. */
  model: string
  limits: Limits
  /** By window; only windows that are counted. */
  used: Record<string, Amounts>
  /** The part of `used` that is reservations of requests that have not ended; only in the answer to a report. */
  reserved?: Record<string, Amounts>
}

/** What is left of one limit. */
export type LimitLine = {
  unit: Unit
  window: Window
  limit: number
  used: number
  left: number
  /** Epoch ms. */
  resetAt: number
}

/** The use in a window at a moment; `NOTHING` if the counters are of another span. */
export function usedIn(windows: Windows | undefined, window: Window, at: number): Amounts {
  const counted = windows && own(windows, window)
  if (counted?.start !== startOf(window, at)) return NOTHING
  return amountsFrom((unit) => counted[unit] ?? 0)
}

/** The windows that have not ended. A window that this build does not know stays as it is. */
export const current = (windows: Windows, at: number): Windows =>
  Object.fromEntries(
    Object.entries(windows).filter(
      ([window, { start }]) =>
        !Object.hasOwn(WINDOWS, window) || start === startOf(window as Window, at),
    ),
  )

/** A user's windows of a model, or of all models (`*`). */
export const windowsOf = ({ windows, models }: UsageDoc, scope: string): Windows | undefined =>
  isTotal(scope) ? windows : own(models, scope)?.windows

/** A row of limits with its use at a moment in the windows `shown`, from the windows of the row's model. */
export function standingOf(
  of: Of,
  scope: string,
  limits: Limits,
  windows: Windows | undefined,
  at: number,
  shown: readonly Window[] = WINDOW_NAMES,
): Standing {
  const used: Standing['used'] = {}
  for (const window of shown) {
    const amounts = usedIn(windows, window, at)
    if (amounts !== NOTHING) used[window] = amounts
  }
  return { of, model: scope, limits, used }
}

/** The windows that a row has limits of. */
export const windowsIn = (limits: Limits): Window[] =>
  WINDOW_NAMES.filter((window) =>
    UNITS.some((unit) => limits[limitName(unit, window)] !== undefined),
  )

/** Whether a row has a limit of a unit. */
export const hasUnit = (limits: Limits, unit: Unit): boolean =>
  WINDOW_NAMES.some((window) => limits[limitName(unit, window)] !== undefined)

/** Nine million dollars, or as many tokens. Amounts are exact up to 2^53, and this one can be written in 14 digits. */
const MOST = 9e15

/**
 * The most that everyone together may use, whatever the limits are: documents with much larger amounts cannot be read.
 * A week may be in two months, so it is limited too. Requests and audio come nowhere near it.
 */
export const MOST_LIMITS: Limits = Object.fromEntries(
  LIMITS.filter(
    ({ unit, window }) =>
      (unit === 'tokens' || unit === 'usd') && (window === 'month' || window === 'week'),
  ).map(({ name }) => [name, MOST]),
)

/** Every limit of a row, with what is left of it at a moment. */
export function linesOf(
  { limits, used }: Pick<Standing, 'limits' | 'used'>,
  at: number,
): LimitLine[] {
  const lines: LimitLine[] = []
  for (const { name, unit, window } of LIMITS) {
    const limit = limits[name]
    if (limit === undefined) continue
    const count = used[window]?.[unit] ?? 0
    const left = Math.max(0, limit - count)
    lines.push({ unit, window, limit, used: count, left, resetAt: endOf(window, at) })
  }
  return lines
}

/** Whether a scope is all models (`*`) and not one model. */
export const isTotal = (model: string): boolean => model === ALL_MODELS
