/** What the dashboard shows: pure functions from documents to plain numbers. Nothing in it changes just because time goes on. */
import { newDay, newDayRow } from './documents.ts'
import {
  ALL_MODELS,
  HOUR_MS,
  DAY_MS,
  dateOf,
  limitsOf,
  nextDay,
  own,
  type Block,
  type Count,
  type DayDoc,
  type DayRow,
  type Limits,
  type ModelLimits,
  type UserDoc,
} from './record.ts'
import { userReport } from './report.ts'
import { NOTHING, sum } from './tally.ts'

/** What is used of a limit: the amounts and the larger part of one. */
export type Used = Count & { limits: Limits | undefined; share: number }

const part = (used: number, limit: number) => (limit > 0 ? used / limit : 1)

export const usedOf = (count: Count, limits: Limits | undefined): Used => ({
  ...count,
  limits,
  share: limits
    ? Math.max(part(count.tokens, limits.tokensPerDay), part(count.requests, limits.requestsPerDay))
    : 0,
})

export type ModelLine = DayRow & { model: string; used: Used }

/** Everyone's day so far. */
export type Today = {
  date: string
  resetAt: number
  total: DayRow
  sessions: number
  /** What GLOBAL_LIMITS hold on to: bounds of what has not ended are in it. */
  used: Used
  /** Requests that have been admitted and have not ended, where that is counted. */
  open: number | undefined
  hours: number[]
  /** Today's full hours against the same ones of yesterday, as a change: 0.5 is half more. */
  trend: number | undefined
  models: ModelLine[]
}

/** Today, with yesterday to compare with. */
export function today(days: DayDoc[], limits: ModelLimits | undefined, now: number): Today {
  const date = dateOf(now)
  const dayOf = (wanted: string) => days.find((day) => day.date === wanted) ?? newDay(wanted)
  const { total, sessions, models, quota } = dayOf(date)
  const before = dayOf(dateOf(now - DAY_MS)).total
  const hour = Math.floor((now % DAY_MS) / HOUR_MS)
  const until = (row: DayRow) =>
    Array.from({ length: hour }, (_, at) => row.hours[at] ?? 0).reduce((all, one) => all + one, 0)
  const held = own(quota, ALL_MODELS)
  return {
    date,
    resetAt: nextDay(now),
    total,
    sessions,
    used: usedOf(held ?? { tokens: total.charged, requests: total.requests }, limits?.total),
    open: held && Math.max(0, held.requests - total.requests),
    hours: Array.from({ length: hour + 1 }, (_, at) => total.hours[at] ?? 0),
    trend: until(before) > 0 ? until(total) / until(before) - 1 : undefined,
    models: Object.entries(models)
      .map(([model, row]) => {
        const limit = limits && own(limits.models, model)
        const count = own(quota, model) ?? { tokens: row.charged, requests: row.requests }
        return { ...row, model, used: usedOf(count, limit) }
      })
      .sort((a, b) => b.charged - a.charged),
  }
}

export type DayLine = { date: string; tokens: number; requests: number; users: number }

/** Many days of everyone, the oldest first, and what each model had of them. */
export type History = { days: DayLine[]; sum: Count; models: (Count & { model: string })[] }

export function history(docs: DayDoc[], dates: string[]): History {
  const byDate = new Map(docs.map((day) => [day.date, day]))
  const models = new Map<string, Count>()
  for (const day of docs) {
    for (const [model, row] of Object.entries(day.models)) {
      const count = { tokens: row.charged, requests: row.requests }
      models.set(model, sum([models.get(model) ?? NOTHING, count]))
    }
  }
  const days = dates
    .map((date) => {
      const { charged, requests, users } = byDate.get(date)?.total ?? newDayRow()
      return { date, tokens: charged, requests, users }
    })
    .reverse()
  return {
    days,
    sum: sum(days),
    models: [...models]
      .map(([model, count]) => ({ model, ...count }))
      .sort((a, b) => b.tokens - a.tokens),
  }
}

/** A user among others. */
export type UserLine = {
  id: string
  ip: string | undefined
  at: number
  tokens: number
  requests: number
  /** The limit of which most is used, and the model it is of. */
  nearest: { model: string; used: Used } | undefined
  /** Models that are blocked, `*` for all. */
  blocked: string[]
  overshoot: number
  /** Whether what the user's browser reported is far from what was metered. */
  differs: boolean
}

/** A report trails what was metered by a sync or so; less than this is no difference worth a look. */
const TRAILING = { tokens: 5000, share: 0.2 }

/** Whether a report is far from what was metered for good. */
export const differs = (metered: number, reported: number | null): boolean =>
  reported !== null &&
  Math.abs(reported - metered) > Math.max(TRAILING.tokens, TRAILING.share * metered)

export function userLine(user: UserDoc, limits: ModelLimits, now: number): UserLine {
  const models = userReport(user, limits, now).models.filter(({ model }) => model !== ALL_MODELS)
  const counts = models.map(({ tokensUsedDay: tokens, requestsDay: requests }) => ({
    tokens,
    requests,
  }))
  const all = sum(counts)
  const used = models.map(({ model }, at) => ({
    model,
    used: usedOf(counts[at] ?? NOTHING, limitsOf(limits, model)),
  }))
  if (limits.total) used.push({ model: ALL_MODELS, used: usedOf(all, limits.total) })
  return {
    id: user.id,
    ip: user.ip,
    at: user.at,
    ...all,
    nearest: used.sort((a, b) => b.used.share - a.used.share)[0],
    blocked: blocksOf(user, now).map(({ model }) => model),
    overshoot: models.reduce((sum, { overshoot }) => sum + overshoot, 0),
    differs: models.some((row) =>
      differs(row.tokensUsedDay - row.heldTokens, row.reportedTokensDay),
    ),
  }
}

export type BlockLine = Block & { user: string; model: string }

/** The blocks of a user that are in force, the latest first. */
export const blocksOf = (user: UserDoc, now: number): BlockLine[] =>
  Object.entries(user.blocks)
    .filter(([, { until }]) => until === undefined || until > now)
    .map(([model, block]) => ({ ...block, user: user.id, model }))
    .sort((a, b) => b.at - a.at)

/** A user's tokens by day, the oldest first, today last. */
export const userDays = (user: UserDoc, days: number, now: number): DayLine[] =>
  Array.from({ length: days }, (_, at) => {
    const date = dateOf(now - (days - 1 - at) * DAY_MS)
    const rows = date === user.date ? user.rows : (own(user.past, date) ?? {})
    const { tokens, requests } = sum(
      Object.values(rows).map(({ charged, requests }) => ({ tokens: charged, requests })),
    )
    return { date, tokens, requests, users: 0 }
  })
