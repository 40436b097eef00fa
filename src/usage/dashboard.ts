/** What the dashboard shows: pure functions from documents to plain numbers. Nothing in them changes just because time goes on. */
import { costOf, type Price } from './cost.ts'
import { newDay, newDayRow, newRow } from './documents.ts'
import {
  ALL_MODELS,
  DAY_MS,
  HOUR_MS,
  dateOf,
  limitsOf,
  minuteOf,
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

/** What of the configuration is shown beside the counts. */
export type Terms = {
  limits: ModelLimits
  globalLimits: ModelLimits | undefined
  prices: Record<string, Price>
}

/** A part of a limit; all of one that allows nothing. */
export const part = (used: number, limit: number): number => (limit > 0 ? used / limit : 1)

/** The larger part, by tokens or by requests. */
const share = ({ tokens, requests }: Count, limits: Limits): number =>
  Math.max(part(tokens, limits.tokensPerDay), part(requests, limits.requestsPerDay))

/** What a model was used by everyone, in one day or in many. */
export type ModelLine = Count & {
  model: string
  users?: number
  /** USD, where the price is known. */
  cost: number | undefined
  /** Tokens that everyone together has left today, where that is limited. */
  left?: number | undefined
}

/** Costs together, where any is known. */
const total = (costs: (number | undefined)[]): number | undefined =>
  costs.reduce((all, cost) => (cost === undefined ? all : (all ?? 0) + cost), undefined)

const mostFirst = <T extends Count>(lines: T[]): T[] => lines.sort((a, b) => b.tokens - a.tokens)

/** Everyone's day so far. */
export type Today = {
  total: DayRow
  sessions: number
  cost: number | undefined
  resetAt: number
  /** What GLOBAL_LIMITS hold on to, with the bounds of what has not ended. */
  held: Count
  limits: Limits | undefined
  /** Requests that have been admitted and have not ended, where that is counted. */
  open: number | undefined
  /** The hours that have begun. */
  hours: number[]
  /** Today's full hours against the same ones of yesterday: 0.5 is half more. */
  trend: number | undefined
  models: ModelLine[]
}

/** Today, with yesterday to compare with. */
export function today(days: DayDoc[], { globalLimits, prices }: Terms, now: number): Today {
  const dayOf = (at: number) => days.find(({ date }) => date === dateOf(at)) ?? newDay(dateOf(at))
  const day = dayOf(now)
  const hour = Math.floor((now % DAY_MS) / HOUR_MS)
  const hoursOf = (row: DayRow) => Array.from({ length: hour + 1 }, (_, at) => row.hours[at] ?? 0)
  const full = (row: DayRow) =>
    hoursOf(row)
      .slice(0, -1)
      .reduce((all, one) => all + one, 0)
  const before = full(dayOf(now - DAY_MS).total)
  const { charged, requests } = day.total
  const held = own(day.quota, ALL_MODELS)
  const models = Object.entries(day.models).map(([model, row]) => {
    const limit = globalLimits && own(globalLimits.models, model)
    const used = own(day.quota, model)?.tokens ?? row.charged
    return {
      model,
      tokens: row.charged,
      requests: row.requests,
      users: row.users,
      cost: costOf(row, own(prices, model)),
      left: limit && Math.max(0, limit.tokensPerDay - used),
    }
  })
  return {
    total: day.total,
    sessions: day.sessions,
    cost: total(models.map(({ cost }) => cost)),
    resetAt: nextDay(now),
    held: held ?? { tokens: charged, requests },
    limits: globalLimits?.total,
    open: held && Math.max(0, held.requests - requests - (day.forgotten ?? 0)),
    hours: hoursOf(day.total),
    trend: before > 0 ? full(day.total) / before - 1 : undefined,
    models: mostFirst(models),
  }
}

export type DayLine = Count & { date: string; users: number }

/** Many days of everyone, the oldest first, and what each model had of them. */
export type History = Count & { days: DayLine[]; models: ModelLine[]; cost: number | undefined }

export function history(docs: DayDoc[], dates: string[], { prices }: Terms): History {
  const models = new Map<string, ModelLine>()
  const days = dates.map((date) => {
    const doc = docs.find((day) => day.date === date)
    for (const [model, row] of Object.entries(doc?.models ?? {})) {
      const { tokens, requests, cost } = models.get(model) ?? { ...NOTHING, cost: undefined }
      models.set(model, {
        model,
        tokens: tokens + row.charged,
        requests: requests + row.requests,
        cost: total([cost, costOf(row, own(prices, model))]),
      })
    }
    const { charged, requests, users } = doc?.total ?? newDayRow()
    return { date, tokens: charged, requests, users }
  })
  const lines = mostFirst([...models.values()])
  const cost = total(lines.map(({ cost }) => cost))
  return { ...sum(days), days: days.reverse(), models: lines, cost }
}

/** A user among others. */
export type UserLine = Count & {
  id: string
  at: number
  /** The limit of which most is used, and the model it is of. */
  nearest: { model: string; share: number } | undefined
  /** Models that are blocked, `*` for all. */
  blocked: string[]
  overshoot: number
  /** Whether what the user's browser reported is far from what was metered. */
  differs: boolean
}

export function userLine(user: UserDoc, terms: Terms, now: number): UserLine {
  const { models, ...all } = userDay(user, terms, now)
  const used = [...models, { model: ALL_MODELS, limits: terms.limits.total, ...all }]
  const nearest = used.flatMap(({ model, limits, tokens, requests }) => {
    return limits ? [{ model, share: share({ tokens, requests }, limits) }] : []
  })
  return {
    id: user.id,
    at: user.seen ?? user.at,
    ...all,
    nearest: nearest.sort((a, b) => b.share - a.share)[0],
    blocked: blocksOf(user, now).map(({ model }) => model),
    overshoot: models.reduce((sum, { overshoot }) => sum + overshoot, 0),
    differs: models.some(({ differs }) => differs),
  }
}

/** A report trails what was metered by a sync or so; less than this is no difference worth a look. */
const TRAILING = { tokens: 5000, share: 0.2 }

/** A user's day with a model, beside its limits. */
export type UserModel = ReturnType<typeof userDay>['models'][number]

/** A user's day per model and together. */
export function userDay(user: UserDoc, { limits, prices }: Terms, now: number) {
  const isToday = user.date === dateOf(now)
  const minutes = user.minute.n === minuteOf(now) ? user.minute.rows : {}
  const models = userReport(user, limits, now)
    .models.filter(({ model }) => model !== ALL_MODELS)
    .map((report) => {
      const { model, tokensUsedDay: tokens, requestsDay: requests, reportedTokensDay } = report
      const of = limitsOf(limits, model)
      const perMinute = of?.tokensPerMinute ?? of?.requestsPerMinute
      const metered = tokens - report.heldTokens
      return {
        ...report,
        tokens,
        requests,
        limits: of,
        minute: perMinute === undefined ? undefined : (own(minutes, model) ?? NOTHING),
        cost: costOf((isToday && own(user.rows, model)) || newRow(), own(prices, model)),
        differs:
          reportedTokensDay !== null &&
          Math.abs(reportedTokensDay - metered) >
            Math.max(TRAILING.tokens, TRAILING.share * metered),
      }
    })
  return { ...sum(models), models: mostFirst(models) }
}

export type BlockLine = Block & { user: string; model: string }

/** The blocks of a user that are in force, the latest first. */
export const blocksOf = (user: UserDoc, now: number): BlockLine[] =>
  Object.entries(user.blocks)
    .filter(([, { until }]) => until === undefined || until > now)
    .map(([model, block]) => ({ ...block, user: user.id, model }))
    .sort((a, b) => b.at - a.at)

/** A user's last days, the oldest first. */
export const userDays = (user: UserDoc, dates: string[]) =>
  dates
    .map((date) => {
      const rows = date === user.date ? user.rows : (own(user.past, date) ?? {})
      const counts = Object.values(rows).map(({ charged, requests }) => ({
        tokens: charged,
        requests,
      }))
      return { date, ...sum(counts) }
    })
    .reverse()
