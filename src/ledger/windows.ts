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
  /** When the window that contains a moment began, and when it ends: epoch ms, in UTC. */
  start(at: number): number
  end(at: number): number
  /** The longest that it lasts, in ms. */
  longest: number
  /** Of windows of equal length: the length in ms, and when one of them began. */
  every?: { ms: number; from: number }
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

/** Windows of equal length. One of them began at `from`, in epoch ms. */
function every(ms: number, from = 0) {
  const start = (at: number) => at - ((((at - from) % ms) + ms) % ms)
  return { start, end: (at: number) => start(at) + ms, longest: ms, every: { ms, from } }
}

const monthly = {
  start: (at: number) => monthOf(at, 0),
  end: (at: number) => monthOf(at, 1),
  longest: 31 * DAY_MS,
}

/** When a month begins, counted from the month of a moment. */
function monthOf(at: number, ahead: number): number {
  const date = new Date(at)
  return Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + ahead)
}

/** The first Monday after the epoch. Weeks begin on Mondays: https://www.iso.org/iso-8601-date-and-time-format.html */
const MONDAY = 4 * DAY_MS

const long = { always: true, waits: false }
const short = { always: false, waits: true }

/** In the order in which limits are checked, so that of those that are spent a refusal tells the one that lasts longest. */
export const WINDOWS = {
  month: { ...monthly, ...long, name: 'Month', words: 'a month' },
  week: { ...every(7 * DAY_MS, MONDAY), ...long, name: 'Week', words: 'a week' },
  day: { ...every(DAY_MS), ...long, name: 'Day', words: 'a day' },
  hour: { ...every(HOUR_MS), ...short, name: 'Hour', words: 'an hour' },
  minute: { ...every(MINUTE_MS), ...short, name: 'Minute', words: 'a minute' },
} as const satisfies Record<string, WindowRow>

export type Window = keyof typeof WINDOWS

export const WINDOW_NAMES = Object.keys(WINDOWS) as Window[]

/** When the window that contains a moment began, in epoch ms. */
export const startOf = (window: Window, at: number): number => WINDOWS[window].start(at)

/** When the window that contains a moment ends and its counters start again, in epoch ms. */
export const endOf = (window: Window, at: number): number => WINDOWS[window].end(at)

/** The UTC date of a moment, `YYYY-MM-DD`. */
export const dateOf = (at: number): string => new Date(at).toISOString().slice(0, 10)

/** The UTC dates of the last days up to a moment, the latest first. */
export const datesTo = (at: number, days: number): string[] =>
  Array.from({ length: days }, (_, ago) => dateOf(at - ago * DAY_MS))

/** The start of the next UTC day. */
export const nextDay = (at: number): number => endOf('day', at)

/** Minutes since the epoch. */
export const minuteOf = (at: number): number => Math.floor(at / MINUTE_MS)
