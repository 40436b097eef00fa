/**
 * Time in the ledger: epoch ms, dates in UTC, and the windows of limits.
 *
 * The windows are one table, and no other place names them: rules, headers, messages and pages go through it. The Lua
 * port gets the same table.
 */

export const SECOND_MS = 1000
export const MINUTE_MS = 60 * SECOND_MS
export const HOUR_MS = 60 * MINUTE_MS
export const DAY_MS = 24 * HOUR_MS

/** The last moment that a `Date` can hold. It stands for the end of a block without an end. */
export const NO_END = 8_640_000_000_000_000

type WindowRow = {
  /** Length in ms. The first window began at the epoch. */
  ms: number
  /** The end of a limit's name: `tokensPerDay`. */
  name: string
  /** The same in a sentence: "200,000 tokens a day". */
  words: string
  /**
   * Counted for every request, so that a limit that is set later knows the earlier use. Other windows are counted only
   * if a limit names them.
   */
  always: boolean
  /** Short enough that a client can wait for its end. */
  waits: boolean
}

/** In the order in which limits are checked. */
export const WINDOWS = {
  day: { ms: DAY_MS, name: 'Day', words: 'a day', always: true, waits: false },
  minute: { ms: MINUTE_MS, name: 'Minute', words: 'a minute', always: false, waits: true },
} as const satisfies Record<string, WindowRow>

export type Window = keyof typeof WINDOWS

export const WINDOW_NAMES = Object.keys(WINDOWS) as Window[]

/** When the window that contains a moment began, in epoch ms. */
export function startOf(window: Window, at: number): number {
  const { ms } = WINDOWS[window]
  return Math.floor(at / ms) * ms
}

/** When the window that contains a moment ends and its counters start again, in epoch ms. */
export const endOf = (window: Window, at: number): number =>
  startOf(window, at) + WINDOWS[window].ms

/** The UTC date of a moment, `YYYY-MM-DD`. */
export const dateOf = (at: number): string => new Date(at).toISOString().slice(0, 10)

/** The UTC dates of the last days up to a moment, the latest first. */
export const datesTo = (at: number, days: number): string[] =>
  Array.from({ length: days }, (_, ago) => dateOf(at - ago * DAY_MS))

/** The start of the next UTC day. */
export const nextDay = (at: number): number => endOf('day', at)

/** Minutes since the epoch. */
export const minuteOf = (at: number): number => Math.floor(at / MINUTE_MS)
