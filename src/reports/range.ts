/** The days that the overview is about, and those before them. */
import { DAY_MS, dateOf, datesTo } from '../ledger/windows.ts'

/** The ranges that have a name: their days, and the words for them and for the days before. */
export const RANGES = {
  today: { days: 1, title: 'Today', before: 'yesterday' },
  '24h': { days: 2, title: '24 hours', before: 'the 24 hours before' },
  '7d': { days: 7, title: '7 days', before: 'the 7 days before' },
  '30d': { days: 30, title: '30 days', before: 'the 30 days before' },
  '90d': { days: 90, title: '90 days', before: 'the 90 days before' },
} as const

type RangeName = keyof typeof RANGES

export type Range = {
  /** Absent for days that were chosen. */
  name: RangeName | undefined
  title: string
  /** The words for the days before. */
  beforeTitle: string
  /** UTC dates, the latest first. */
  dates: string[]
  /** None if some of them are no longer kept: they would look like days without requests. */
  before: string[]
  /** The current day is among the dates. It has not ended. */
  current: boolean
  /** The bars are hours. */
  hourly: boolean
  /** Why these are not the days that were asked for. */
  problem?: string
}

type Asked = { range?: string | undefined; from?: string | undefined; to?: string | undefined }

/** The most days of a range. */
const MOST_DAYS = 90

/** Reads `range`, or `from` and `to`, of an address. Days that are not kept are left out. */
export function readRange({ range, from, to }: Asked, now: number, keptDays: number): Range {
  if (from !== undefined || to !== undefined) return chosen(from ?? '', to ?? '', now, keptDays)
  return named(
    range !== undefined && Object.hasOwn(RANGES, range) ? (range as RangeName) : 'today',
    now,
    keptDays,
  )
}

function named(name: RangeName, now: number, keptDays: number): Range {
  const { days, title, before } = RANGES[name]
  const kept = Math.min(days, keptDays)
  const dates = datesTo(now, kept)
  // Hours of the day before yesterday end the 24 hours before.
  const step = name === '24h' ? 1 : kept
  return {
    name,
    title,
    beforeTitle: before,
    dates,
    before: ifKept(datesTo(now - step * DAY_MS, kept), now, keptDays),
    current: true,
    hourly: days <= 2,
  }
}

const oldestKept = (now: number, keptDays: number) => datesTo(now, keptDays).at(-1) ?? ''

const ifKept = (dates: string[], now: number, keptDays: number) =>
  (dates.at(-1) ?? '') < oldestKept(now, keptDays) ? [] : dates

function chosen(from: string, to: string, now: number, keptDays: number): Range {
  const start = Date.parse(from)
  const end = Math.min(Date.parse(to), now)
  const days = Math.round((end - (end % DAY_MS) - start) / DAY_MS) + 1
  if (!(days >= 1)) {
    const problem = 'Choose a first day that is not after the last one, as YYYY-MM-DD.'
    return { ...named('today', now, keptDays), problem }
  }
  const oldest = Date.parse(oldestKept(now, keptDays))
  const most = Math.min(days, MOST_DAYS, Math.floor((end - oldest) / DAY_MS) + 1)
  if (most < 1) {
    const problem = `Days are kept for ${keptDays} days (HISTORY_RETENTION_DAYS).`
    return { ...named('today', now, keptDays), problem }
  }
  const dates = datesTo(end, most)
  const isCut = most < days
  return {
    name: undefined,
    title: most === 1 ? dateOf(end) : `${dates.at(-1)} to ${dates[0]}`,
    beforeTitle: most === 1 ? 'the day before' : `the ${most} days before`,
    dates,
    before: ifKept(datesTo(end - most * DAY_MS, most), now, keptDays),
    current: dateOf(end) === dateOf(now),
    hourly: most === 1,
    ...(isCut && { problem: `Only ${most} of these days can be shown.` }),
  }
}
