/** The error of a request that would pass a limit. */
import { ApiError } from '../errors.ts'
import type { Refusal } from '../ledger/answers.ts'
import { isTotal, unitWords, type Of } from '../ledger/policy.ts'
import type { Unit } from '../ledger/units.ts'
import { DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, WINDOWS } from '../ledger/windows.ts'
import { secondsUntil } from '../retry-after.ts'

export type OverLimit = Refusal & { reason: 'limit' }

const WHOSE: Record<Of, string> = {
  user: 'your',
  everyone: "everyone's",
  unverified: "unverified callers'",
}

/**
 * It says which limit, what the request needs, what is left, when the limit resets, and whether waiting helps. With
 * `isLeast`, the amount is that of the smallest request that could be granted.
 */
export function overLimit(refusal: OverLimit, now: number, isLeast: boolean): ApiError {
  const { of, window, limit, asked, resetAt } = refusal
  const { waits } = WINDOWS[window]
  const helps = asked <= limit
  const message = `${shortOf(refusal, isLeast)} ${helps ? resetOf(refusal, now) : neverOf(refusal, isLeast)}`
  if (waits && helps) {
    const seconds = secondsUntil(resetAt, now, WINDOWS[window].longest / SECOND_MS)
    return new ApiError('rate_limit_exceeded', message, {
      headers: { 'retry-after': String(seconds) },
    })
  }
  const spent = of === 'user' ? 'insufficient_quota' : 'global_quota'
  // There is no retry-after: groq-sdk would sleep until then, even for hours.
  return new ApiError(waits ? 'rate_limit_exceeded' : spent, message, {
    headers: { 'x-should-retry': 'false' },
  })
}

/** What is needed, and what is left. */
function shortOf({ of, model, window, unit, limit, used, asked }: OverLimit, isLeast: boolean) {
  const scope = isTotal(model) ? 'all models together' : model
  const whole = `${WHOSE[of]} ${amountOf(unit, limit)} ${WINDOWS[window].words}`
  if (unit === 'requests') return `All of ${whole} of ${scope} ${limit === 1 ? 'is' : 'are'} used.`
  const needs = isLeast ? 'needs at least' : 'may need up to'
  const left = amountOf(unit, Math.max(0, limit - used), Math.floor)
  const isLeft = unit === 'usd' ? 'is left' : 'are left'
  const asks = amountOf(unit, asked, Math.ceil)
  return `This request ${needs} ${asks} of ${scope}, and ${left} of ${whole} ${isLeft}.`
}

function resetOf({ unit, limit, resetAt }: OverLimit, now: number): string {
  const reset = unit === 'usd' || limit === 1 ? 'It resets' : 'They reset'
  return `${reset} at ${time(resetAt)}, ${inWords(resetAt - now)}.`
}

const ADVICE: Partial<Record<Unit, string>> = {
  audioSeconds: 'Send a shorter recording.',
  characters: 'Send less text.',
}

function neverOf({ unit }: OverLimit, isLeast: boolean): string {
  if (unit === 'requests') return 'Waiting will not help: the limit allows none.'
  const advice =
    ADVICE[unit] ??
    (isLeast ? 'Send less text.' : 'Ask for fewer completion tokens, or send less text.')
  return `Waiting will not help: this is more than the whole limit. ${advice}`
}

/**
 * An amount of a unit in words. Dollars have up to six decimals, and seconds none; both are rounded so that the request
 * does not seem to fit.
 */
function amountOf(unit: Unit, amount: number, round = Math.round): string {
  if (unit === 'usd') {
    return `$${(round(amount / 1000) / 1e6).toLocaleString('en-US', { maximumFractionDigits: 6 })}`
  }
  const count = unit === 'audioSeconds' ? round(amount / SECOND_MS) : amount
  const name = unitWords(unit)
  return `${number(count)} ${count === 1 ? name.slice(0, -1) : name}`
}

const number = (value: number) => value.toLocaleString('en-US')

/** A moment in UTC, without milliseconds. */
export const time = (at: number): string => new Date(at).toISOString().replace(/\.\d+Z$/, 'Z')

/** The time until a moment in words, rounded up: "in 12 hours". */
function inWords(ms: number): string {
  const [unit, length] = SPANS.find(([, , most]) => ms <= most) ?? DAYS
  relative ??= new Intl.RelativeTimeFormat('en')
  return relative.format(Math.max(1, Math.ceil(ms / length)), unit)
}

/** Made when it is first used, since it takes a tenth of the start of an isolate. */
let relative: Intl.RelativeTimeFormat | undefined

const DAYS = ['day', DAY_MS, Infinity] as const
/** Each unit, its length, and the times up to which it is used. */
const SPANS = [
  ['second', SECOND_MS, 90 * SECOND_MS],
  ['minute', MINUTE_MS, 90 * MINUTE_MS],
  ['hour', HOUR_MS, 36 * HOUR_MS],
] as const
