/** Numbers, times and names as text for people, always in English and UTC, so that all admins see the same. */
import { usdOf } from '../ledger/money.ts'
import { isMoney } from '../ledger/policy.ts'
import type { Unit } from '../ledger/units.ts'
import { DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, type Window } from '../ledger/windows.ts'

const LOCALE = 'en-US'
const whole = new Intl.NumberFormat(LOCALE)
const compact = new Intl.NumberFormat(LOCALE, { notation: 'compact', maximumSignificantDigits: 3 })
const dollars = new Intl.NumberFormat(LOCALE, { style: 'currency', currency: 'USD' })
const smallDollars = new Intl.NumberFormat(LOCALE, {
  style: 'currency',
  currency: 'USD',
  minimumSignificantDigits: 3,
  maximumSignificantDigits: 3,
})
const compactDollars = new Intl.NumberFormat(LOCALE, {
  style: 'currency',
  currency: 'USD',
  notation: 'compact',
  maximumSignificantDigits: 3,
})
const decimals = new Intl.NumberFormat(LOCALE, { maximumFractionDigits: 6 })
const allDecimals = new Intl.NumberFormat(LOCALE, {
  style: 'currency',
  currency: 'USD',
  maximumFractionDigits: 9,
})
const day = new Intl.DateTimeFormat(LOCALE, { month: 'short', day: 'numeric', timeZone: 'UTC' })
const wholePercent = new Intl.NumberFormat(LOCALE, { style: 'percent' })
const finePercent = new Intl.NumberFormat(LOCALE, { style: 'percent', maximumFractionDigits: 1 })
const relative = new Intl.RelativeTimeFormat(LOCALE, { numeric: 'auto', style: 'narrow' })

/** The least amount that is shortened. */
const LONG = 10_000

const UNITS = [
  ['day', DAY_MS],
  ['hour', HOUR_MS],
  ['minute', MINUTE_MS],
  ['second', SECOND_MS],
] as const

/** `1,234,567`. */
export const exact = (amount: number): string => whole.format(amount)

/** `1 request`, `1,234 requests`. */
export const many = (amount: number, what: string): string =>
  `${exact(amount)} ${what}${amount === 1 ? '' : 's'}`

/** `1.23M`; small amounts are not shortened. */
export const short = (amount: number): string =>
  Math.abs(amount) < LONG
    ? whole.format(Math.abs(amount) < 100 ? amount : Math.round(amount))
    : compact.format(amount)

/** That the database is away. `reason` is in its own words. */
export const awayText = (reason: string | undefined): string =>
  reason === undefined
    ? 'The database does not answer.'
    : `The database cannot be used: ${reason.replace(/\.?$/, '.')}`

/** The used share of a limit as `61%`. It is never rounded up to more than is used. A small share is `<1%`. */
export const percent = (share: number): string =>
  share > 0 && share < 0.01 ? '<1%' : `${Math.floor(share * 100)}%`

/** A part of a whole, or a change, rounded: `12%`, and below 10% with one decimal, `2.8%`. */
export const rate = (share: number): string =>
  share > 0 && share < 0.0005
    ? '<0.1%'
    : (share < 0.0995 ? finePercent : wholePercent).format(share)

/**
 * The shares of amounts in all of them, as whole percent that add up to 100: those with the largest remainders are rounded up.
 * A small share that rounds to 0 is `<1%`.
 */
export function shares(amounts: number[]): string[] {
  const all = amounts.reduce((sum, amount) => sum + amount, 0)
  if (all <= 0) return amounts.map(() => '0%')
  const exact = amounts.map((amount) => (amount / all) * 100)
  const whole = exact.map(Math.floor)
  const missing = 100 - whole.reduce((sum, one) => sum + one, 0)
  const order = exact.map((share, at) => ({ at, rest: share % 1 })).sort((a, b) => b.rest - a.rest)
  for (const { at } of order.slice(0, missing)) whole[at] = (whole[at] ?? 0) + 1
  return whole.map((share, at) => (share === 0 && (amounts[at] ?? 0) > 0 ? '<1%' : `${share}%`))
}

/**
 * Nano-USD as US dollars: `$12.30`. Below one dollar it has three significant digits, `$0.00310`, so that a column is as exact
 * everywhere; large amounts are shortened, `$1.23M`.
 */
export function usd(nano: number): string {
  const amount = usdOf(nano)
  if (amount >= LONG) return compactDollars.format(amount)
  return (amount > 0 && amount < 0.9995 ? smallDollars : dollars).format(amount)
}

/** The same with all decimals. */
export const exactUsd = (nano: number): string => allDecimals.format(usdOf(nano))

/** A limit as a form has it: a whole number, or dollars without their sign. */
export const limitField = (name: string, limit: number): string =>
  isMoney(name) ? decimals.format(limit) : exact(limit)

/** A limit as people read it. */
export const limitText = (name: string, limit: number): string =>
  isMoney(name) ? `$${decimals.format(limit)}` : exact(limit)

/** `240 ms`, `1.2 s`. */
export const duration = (ms: number): string =>
  ms < SECOND_MS ? `${Math.round(ms)} ms` : `${(ms / SECOND_MS).toFixed(1)} s`

/** A UTC date, `2026-11-22`, as `Nov 22`. */
export const shortDate = (date: string): string => day.format(new Date(date))

/** `2026-11-22 14:05:09 UTC`. */
export const utc = (at: number): string =>
  `${new Date(at).toISOString().slice(0, 19).replace('T', ' ')} UTC`

/** `Nov 22, 14:05:09`, in UTC. */
export const clockText = (at: number): string =>
  `${day.format(at)}, ${new Date(at).toISOString().slice(11, 19)}`

/** `5m ago`, `in 2h`, `yesterday`. assets/admin.js updates these texts by the same rule. */
export function ago(at: number, now: number): string {
  const passed = at - now
  const [unit, ms] = UNITS.find(([, ms]) => Math.abs(passed) >= ms) ?? ['second', SECOND_MS]
  return relative.format(Math.trunc(passed / ms), unit)
}

/** The units of limits, as headings. */
export const UNIT_TITLES: Record<Unit, string> = {
  requests: 'Requests',
  tokens: 'Tokens',
  usd: 'Dollars',
  audioSeconds: 'Audio seconds',
  characters: 'Characters',
}

/** The name of a count in the current window: `Tokens today`, `Requests this minute`. */
export const counted = (unit: Unit, window: Window): string =>
  `${UNIT_TITLES[unit]} ${window === 'day' ? 'today' : `this ${window}`}`
