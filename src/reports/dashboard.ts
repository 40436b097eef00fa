/** The numbers of the dashboard: pure functions from documents. No number changes only because time passes. */
import { isInForce } from '../ledger/blocks.ts'
import { newDay } from '../ledger/new-documents.ts'
import { rowsOf, useOf, whole } from '../ledger/rows.ts'
import { labelOf } from '../ledger/labels.ts'
import { linesOf, usedIn, windowsOf, type LimitLine, type Standing } from '../ledger/policy.ts'
import { NOTHING, type Counts } from '../ledger/units.ts'
import { ALL_MODELS, type Block, type DayRow, type ProfileDoc } from '../ledger/documents.ts'
import { own } from '../ledger/records.ts'
import { DAY_MS, HOUR_MS, WINDOWS, dateOf, nextDay, type Window } from '../ledger/windows.ts'
import type { Overview, User, WholeUser } from '../store/store.ts'
import {
  audioFields,
  chargedIn,
  costIn,
  ended,
  heldBy,
  recordedCost,
  sumOf,
  type Cost,
} from './costs.ts'
import {
  everyoneStanding,
  lastActiveOf,
  tokensLeftToday,
  userLimits,
  userReport,
  type UsageTerms,
  type UserLimit,
} from './usage.ts'

/** The used share of a limit; 1 if the limit allows nothing. */
export const partUsed = (used: number, limit: number): number => (limit > 0 ? used / limit : 1)

/** A limit and its use. */
export type Use = Pick<LimitLine, 'unit' | 'window' | 'used' | 'limit'>

/** A limit of a user. What running requests reserve is not in `used`. */
export type UserUse = Use & Pick<UserLimit, 'reserved'>

/** Without the fields that change with time. */
const usesOf = (standing: Standing, now: number): Use[] =>
  linesOf(standing, now).map(({ unit, window, used, limit }) => ({ unit, window, used, limit }))
const userUsesOf = (lines: UserLimit[]): UserUse[] =>
  lines.map(({ unit, window, used, reserved, limit }) => ({ unit, window, used, reserved, limit }))

/** Everyone's use of a model, on one day or on many. */
export type ModelLine = Counts & {
  audioMs?: number
  characters?: number
  model: string
  users?: number
  cost: Cost
  /** Tokens that everyone together has left today, if there is a limit. */
  left?: number | undefined
}

const countsOf = (all: Counts[]): Counts => ({
  requests: all.reduce((sum, { requests }) => sum + requests, 0),
  tokens: all.reduce((sum, { tokens }) => sum + tokens, 0),
})

const mostFirst = <T extends Counts>(lines: T[]): T[] => lines.sort((a, b) => b.tokens - a.tokens)

/** Everyone's day so far. */
export type Today = {
  total: DayRow
  sessions: number
  cost: Cost
  /** What limits count of this month, with the reservations of running requests. */
  monthCost: Cost
  resetAt: number
  /** The limits of everyone and their use, with the reservations of running requests. */
  uses: Use[]
  /** Requests that were admitted and have not ended. */
  running: number
  /** Tokens that these have reserved; undefined where the day was cleared, and nobody can tell. */
  reserved: number | undefined
  /** Tokens of each UTC hour that has begun. */
  hours: number[]
  /** Today's full hours compared with the same hours of yesterday: 0.5 means half more. */
  trend: number | undefined
  models: ModelLine[]
}

/** Today compared with yesterday; the limits are everyone's. */
export function today(
  { days, quotas }: Pick<Overview, 'days' | 'quotas'>,
  { limits, prices }: UsageTerms,
  now: number,
): Today {
  const dayOf = (at: number) => days.find(({ date }) => date === dateOf(at)) ?? newDay(dateOf(at))
  const day = dayOf(now)
  const hour = Math.floor((now % DAY_MS) / HOUR_MS)
  const hoursOf = (row: DayRow) => Array.from({ length: hour + 1 }, (_, at) => row.hours[at] ?? 0)
  const full = (row: DayRow) =>
    hoursOf(row)
      .slice(0, -1)
      .reduce((all, one) => all + one, 0)
  const before = full(dayOf(now - DAY_MS).total)
  const { exact, estimated } = day.total
  const all = own(quotas, ALL_MODELS)?.windows
  const { requests, tokens } = usedIn(all, 'day', now)
  const month = usedIn(all, 'month', now)
  const models = Object.entries(day.models).map(([model, row]) => ({
    model,
    tokens: row.charged,
    requests: row.requests,
    users: row.users,
    ...audioFields(row),
    cost: recordedCost(row, own(prices, model)),
    left: tokensLeftToday([everyoneStanding(quotas, model, limits, now)], now) ?? undefined,
  }))
  return {
    total: day.total,
    sessions: day.sessions,
    cost: sumOf(models.map(({ cost }) => cost)),
    monthCost: recordedCost(chargedIn(month), undefined),
    resetAt: nextDay(now),
    uses: usesOf(everyoneStanding(quotas, ALL_MODELS, limits, now), now),
    running: Math.max(0, requests - exact - estimated - day.forgotten),
    reserved: day.forgotten > 0 ? undefined : Math.max(0, tokens - day.total.charged),
    hours: hoursOf(day.total),
    trend: before > 0 ? full(day.total) / before - 1 : undefined,
    models: mostFirst(models),
  }
}

/** The windows that the list of users can show. */
export type UserWindow = Extract<Window, 'day' | 'week' | 'month'>

/** A user's line in the list of users. */
export type UserLine = Counts & {
  id: string
  label: string | undefined
  at: number
  cost: Cost
  /** Requests of today that failed. */
  failed: number
  /** The model and the used share of the limit that is used most. Limits whose end a client waits for do not count. */
  nearest: { model: string; share: number } | undefined
  /** Models that are blocked, `*` for all. */
  blocked: string[]
  overReservation: number
  /** Whether what the user's browser reported is far from what was metered. */
  differs: boolean
}

/** `tokens`, `requests` and `cost` are those of a window, without what running requests reserve. */
export function userLine(
  user: User,
  terms: UsageTerms,
  now: number,
  window: UserWindow = 'day',
): UserLine {
  const { models, uses, ...day } = userDay(user, terms, now)
  const held = heldBy(user.usage, ALL_MODELS, now)[window] ?? NOTHING
  const used = usedIn(windowsOf(user.usage, ALL_MODELS), window, now)
  const isDay = window === 'day'
  const tokens = isDay ? day.tokens : used.tokens - held.tokens
  // A request that runs is a request, whatever it will use.
  const requests = isDay ? day.requests : used.requests
  const nearest = [...models, { model: ALL_MODELS, uses }].flatMap(({ model, uses }) =>
    uses
      .filter(({ window }) => !WINDOWS[window].waits)
      .map(({ used, limit }) => ({ model, share: partUsed(used, limit) })),
  )
  return {
    id: user.usage.id,
    label: labelOf(user),
    at: lastActiveOf(user.usage),
    tokens,
    requests,
    cost: isDay ? day.cost : costIn(user.usage, window, terms.prices, now),
    failed: models.reduce((sum, { failed }) => sum + failed, 0),
    nearest: nearest.sort((a, b) => b.share - a.share)[0],
    blocked: blocksOf(user.profile, now).map(({ model }) => model),
    overReservation: models.reduce((sum, { overReservation }) => sum + overReservation, 0),
    differs: models.some(({ differs }) => differs),
  }
}

/** A report is often one sync behind the metered use. A difference smaller than this is not shown. */
const TRAILING = { tokens: 5000, share: 0.2 }

/** A user's day with a model, beside its limits. */
export type UserModel = ReturnType<typeof userDay>['models'][number]

/**
 * A user's day per model and in total, with the limits of each window; the limits are the user's. Tokens and costs are
 * without what running requests reserve.
 */
export function userDay(user: User, { limits, prices }: UsageTerms, now: number) {
  const { usage } = user
  const isToday = usage.date === dateOf(now)
  const models = userReport(user, limits, now)
    .models.filter(({ model }) => model !== ALL_MODELS)
    .map((report) => {
      const { model, requestsDay: requests, reservedTokens, reportedTokensDay } = report
      const tokens = report.tokensUsedDay - reservedTokens
      const row = ended(whole(isToday ? useOf(usage, model).row : {}))
      return {
        ...report,
        ...audioFields(row),
        tokens,
        requests,
        reserved: reservedTokens,
        uses: userUsesOf(userLimits(usage, model, limits, now)),
        cost: recordedCost(row, own(prices, model)),
        differs:
          reportedTokensDay !== null &&
          Math.abs(reportedTokensDay - tokens) > Math.max(TRAILING.tokens, TRAILING.share * tokens),
      }
    })
  const uses = userUsesOf(userLimits(usage, ALL_MODELS, limits, now))
  return {
    ...countsOf(models),
    reserved: models.reduce((sum, { reserved }) => sum + reserved, 0),
    ...audioFields({
      audioMs: models.reduce((sum, { audioMs = 0 }) => sum + audioMs, 0),
      characters: models.reduce((sum, { characters = 0 }) => sum + characters, 0),
    }),
    cost: sumOf(models.map(({ cost }) => cost)),
    monthCost: costIn(usage, 'month', prices, now),
    uses,
    models: mostFirst(models),
  }
}

export type BlockLine = Block & { user: string; model: string }

/** The blocks of a user that are in force, the latest first. */
export const blocksOf = ({ id, blocks }: ProfileDoc, now: number): BlockLine[] =>
  Object.entries(blocks)
    .filter(([, block]) => isInForce(block, now))
    .map(([model, block]) => ({ ...block, user: id, model }))
    .sort((a, b) => b.at - a.at)

/** A user's last days, the oldest first. */
export const userDays = (
  { usage, past }: Pick<WholeUser, 'usage' | 'past'>,
  dates: string[],
): (Counts & { date: string })[] =>
  dates
    .map((date) => {
      const rows = date === usage.date ? rowsOf(usage) : (own(past.days, date) ?? {})
      const counts = Object.values(rows)
        .map(whole)
        .map(({ charged, reserved, requests }) => ({ tokens: charged - reserved, requests }))
      return { date, ...countsOf(counts) }
    })
    .reverse()
