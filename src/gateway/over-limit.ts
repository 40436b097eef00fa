/** The error of a request that would pass a limit. */
import { ApiError } from '../errors.ts'
import type { Refusal } from '../ledger/answers.ts'
import { amountsOf, isFitted, type Asked } from '../ledger/fit.ts'
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

/** Whether a request would have been cut to what is left of a limit. */
export const canFit = (limit: OverLimit, asking: Asked): boolean =>
  asking.completions !== undefined && isFitted(limit, amountsOf(asking))

/** It says which limit, what the request needs, what is left, when the limit resets, and whether waiting helps. */
export function overLimit(refusal: OverLimit, now: number, asking: Asked): ApiError {
  const { of, window, limit, asked, resetAt } = refusal
  const { waits } = WINDOWS[window]
  const helps = asked <= limit
  const message = `${shortOf(refusal, asking)} ${helps ? resetOf(refusal, now) : neverOf(refusal, asking)}`
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
function shortOf(refusal: OverLimit, asking: Asked) {
  const { of, model, window, unit, limit, used, asked } = refusal
  const scope = isTotal(model) ? 'all models together' : model
  const amount = `${amountOf(unit, limit)} ${WINDOWS[window].words}`
  if (limit === 0) return `No use of ${scope} is allowed: ${WHOSE[of]} limit is ${amount}.`
  const whole = `${WHOSE[of]} ${amount}`
  if (unit === 'requests') return `All of ${whole} of ${scope} ${limit === 1 ? 'is' : 'are'} used.`
  const needs = canFit(refusal, asking) ? 'needs at least' : 'may need up to'
  const left = amountOf(unit, Math.max(0, limit - used), Math.floor)
  const are = /^(\$|1 )/.test(left) ? 'is' : 'are'
  const asks = amountOf(unit, asked, Math.ceil)
  return `This request ${needs} ${asks} of ${scope}, and ${left} of ${whole} ${are} left.`
}

function resetOf({ unit, limit, resetAt }: OverLimit, now: number): string {
  const reset = unit === 'usd' || limit === 1 ? 'It resets' : 'They reset'
  return `${reset} at ${time(resetAt)}, ${inWords(resetAt - now)}.`
}

function neverOf({ limit }: OverLimit, { audioMs, completion }: Asked): string {
  const never = 'Waiting will not help'
  if (limit === 0) return `${never}.`
  const shorter = audioMs === undefined ? 'Send less text' : 'Send a shorter recording'
  const fewer = completion === 0 ? '' : ', or ask for fewer completion tokens'
  return `${never}: this is more than the whole limit. ${shorter}${fewer}.`
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

/** A number as people write it: 200,000. */
export const number = (value: number): string => value.toLocaleString('en-US')

/** A moment in UTC, without milliseconds. */
export const time = (at: number): string => new Date(at).toISOString().replace(/\.\d+Z$/, 'Z')

/** The time until a moment in words, rounded up: "in 12 hours". */
function inWords(ms: number): string {
  const [unit, length] = SPANS.find(([, , most]) => ms <= most)!
  relative ??= new Intl.RelativeTimeFormat('en')
  return relative.format(Math.max(1, Math.ceil(ms / length)), unit)
}

/** Made when it is first used, since it takes a tenth of the start of an isolate. */
let relative: Intl.RelativeTimeFormat | undefined

/** Each unit, its length, and the times up to which it is used. */
const SPANS = [
  ['second', SECOND_MS, 90 * SECOND_MS],
  ['minute', MINUTE_MS, 90 * MINUTE_MS],
  ['hour', HOUR_MS, 36 * HOUR_MS],
  ['day', DAY_MS, Infinity],
] as const
