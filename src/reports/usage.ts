/** The reports for admins and browsers: pure functions from documents and answers to rows. */
import type { Reported } from '../ledger/answers.ts'
import { filter, own } from '../ledger/records.ts'
import { isInForce } from '../ledger/blocks.ts'
import { rowsOf, runningOf, whole } from '../ledger/rows.ts'
import {
  amountTo,
  limitsOf,
  linesOf,
  standingOf,
  usedIn,
  windowsOf,
  type LimitLine,
  type ModelLimits,
  type Standing,
} from '../ledger/policy.ts'
import { NOTHING, amountsFrom, type Amounts } from '../ledger/units.ts'
import {
  ALL_MODELS,
  type DayDoc,
  type DayRow,
  type QuotaDoc,
  type UsageDoc,
} from '../ledger/documents.ts'
import { labelOf } from '../ledger/labels.ts'
import { DEFAULT_PLAN } from '../ledger/plans.ts'
import { SECOND_MS, dateOf, nextDay } from '../ledger/windows.ts'
import type { User, UserQuery } from '../store/store.ts'
import {
  asTold,
  costIn,
  costOfDay,
  ended,
  heldBy,
  recordedCost,
  sumOf,
  usdOrNull,
  type Prices,
} from './costs.ts'

/** The limits of a user or of everyone, and the prices, which are shown beside the counts. */
export type UsageTerms = { limits: ModelLimits; prices: Prices }

/** A user's day per model. A model without use is listed too if it (or `*`) is blocked or reported. */
export function userReport(
  { usage, profile }: User,
  limits: ModelLimits,
  now: number,
  plan = DEFAULT_PLAN,
  prices: Prices = {},
) {
  const isToday = usage.date === dateOf(now)
  const rows = isToday ? rowsOf(usage) : {}
  const reported = isToday ? usage.reported : {}
  const blocks = filter(profile.blocks, (block) => isInForce(block, now))
  const all = userStanding(usage, ALL_MODELS, limits, now)
  const names = [rows, reported, blocks].flatMap((one) => Object.keys(one))
  const models = [...new Set(names)].map((model) => {
    const row = whole(own(rows, model) ?? {})
    const said = own(reported, model)
    const block = own(blocks, model) ?? own(blocks, ALL_MODELS)
    const running = runningToday(usage, model, now)
    return {
      model,
      tokensUsedDay: row.charged,
      tokensRemainingDay: tokensLeftToday([userStanding(usage, model, limits, now), all], now),
      requestsDay: row.requests,
      exact: row.exact,
      estimated: row.estimated,
      failed: row.failed,
      running,
      lost: row.lost + Math.max(0, runningOf(row) - running),
      reservedTokens: row.reserved,
      overReservation: row.overReservation,
      audioSecondsDay: row.audioMs / SECOND_MS,
      charactersDay: row.characters,
      costUsd: usdOrNull(recordedCost(ended(row), own(prices, model))),
      reportedTokensDay: said?.tokens ?? null,
      reportedRequestsDay: said?.requests ?? null,
      blocked: block !== undefined,
      blockReason: block?.reason ?? null,
      blockedUntil: block?.until ?? null,
    }
  })
  const lastActive = lastActiveOf(usage) || null
  const label = labelOf({ usage, profile }) ?? null
  const monthCostUsd = usdOrNull(costIn(usage, 'month', prices, now))
  const ipAddress = usage.ip ?? null
  return { userId: usage.id, label, plan, ipAddress, lastActive, monthCostUsd, models }
}

/** The limits of a model, or of all models (`*`). */
const limitsFor = (limits: ModelLimits, model: string) =>
  (model === ALL_MODELS ? limits.total : limitsOf(limits, model)) ?? {}

/** A user's limits and use for a model, or for all models (`*`). */
const userStanding = (usage: UsageDoc, model: string, limits: ModelLimits, now: number): Standing =>
  standingOf('user', model, limitsFor(limits, model), windowsOf(usage, model), now)

/** A limit of a user. `used` is without what running requests reserve, and `left` is not. */
export type UserLimit = LimitLine & { reserved: number }

/** Every limit of a user for a model, or for all models (`*`). */
export function userLimits(
  usage: UsageDoc,
  model: string,
  limits: ModelLimits,
  now: number,
): UserLimit[] {
  const held = heldBy(usage, model, now)
  return linesOf(userStanding(usage, model, limits, now), now).map((line) => {
    const reserved = held[line.window]?.[line.unit] ?? 0
    return { ...line, used: line.used - reserved, reserved }
  })
}

/** Everyone's limits and use for a model, or for all models (`*`). */
export const everyoneStanding = (
  quotas: Quotas,
  model: string,
  limits: ModelLimits,
  now: number,
): Standing =>
  standingOf('everyone', model, limitsFor(limits, model), own(quotas, model)?.windows, now)

type Quotas = Record<string, QuotaDoc>

/** When a request of a user last began or ended, in epoch ms; 0 for a user without a request. */
export const lastActiveOf = ({ seen, at }: UsageDoc): number => seen ?? at

/** The tokens that the limits of the day leave: the smallest number, or null if there is no such limit. */
export function tokensLeftToday(standings: Standing[], at: number): number | null {
  const left = standings
    .flatMap((standing) => linesOf(standing, at))
    .filter(({ unit, window }) => unit === 'tokens' && window === 'day')
    .map((line) => line.left)
  return left.length ? Math.min(...left) : null
}

/** A user's requests with a model that may still be running today. */
const runningToday = ({ leases }: UsageDoc, model: string, now: number): number =>
  Object.values(leases).filter(
    (lease) => lease.model === model && lease.until > now && dateOf(lease.at) === dateOf(now),
  ).length

/** Sorts the users of a page by their current numbers: their places in the store's order are older. */
export function inOrder(
  users: User[],
  { sort, ascending, now }: Pick<UserQuery, 'sort' | 'ascending' | 'now'>,
): User[] {
  const numberOf = ({ usage }: User) => {
    if (sort === 'lastActive') return lastActiveOf(usage)
    return usage.date === dateOf(now) ? usage.charged : 0
  }
  const sign = ascending ? 1 : -1
  return users.toSorted(
    (a, b) => sign * (numberOf(a) - numberOf(b) || (a.usage.id < b.usage.id ? -1 : 1)),
  )
}

/**
 * The answer to a user's browser: the day with each model that it used or asks about, and the blocks. What running requests
 * reserve is not used yet, but it is not left either.
 */
export function syncReport({ at, models, total, blocks }: Reported) {
  const resetAt = nextDay(at)
  const usage = Object.fromEntries(
    Object.entries(models).map(([model, standing]) => {
      const { tokens, requests } = standing.used.day ?? NOTHING
      const { tokens: tokensReservedDay } = standing.reserved?.day ?? NOTHING
      const row = {
        tokensUsedDay: tokens - tokensReservedDay,
        tokensReservedDay,
        tokensRemainingDay: tokensLeftToday([standing, total], at),
        requestsDay: requests,
        resetAt,
      }
      return [model, row]
    }),
  )
  const blocked = Object.entries(blocks).map(([model, { reason, until }]) => ({
    model,
    reason: reason ?? null,
    until: until ?? null,
  }))
  return { usage, blocked }
}

/** Everyone's use today as limits count it: an admission counts with its reservation until it ends. */
export const quotasToday = (quotas: Quotas, now: number): Record<string, Amounts> =>
  Object.fromEntries(
    Object.entries(quotas).map(([model, { windows }]) => {
      const used = usedIn(windows, 'day', now)
      return [model, amountsFrom((unit) => amountTo(unit, used[unit] ?? 0))]
    }),
  )

/** Everyone's days, with their cost in dollars. */
export const daysReport = (days: DayDoc[], prices: Prices) =>
  days.map(({ date, total, models }) => ({
    date,
    ...asTold(total, costOfDay({ models }, prices)),
  }))

/** Everyone's day per model; the totals are over the days given. */
export function modelStats(
  days: DayDoc[],
  quotas: Quotas,
  { limits, prices }: UsageTerms,
  now: number,
) {
  const today = days.find((day) => day.date === dateOf(now))
  const names = new Set(days.flatMap((day) => Object.keys(day.models)))
  return [...names].map((model) => {
    const row = today && own(today.models, model)
    const all = days.flatMap((day) => own(day.models, model) ?? [])
    const costOf = (one: DayRow) => recordedCost(one, own(prices, model))
    return {
      model,
      tokensUsedDay: row?.charged ?? 0,
      tokensRemainingDay: tokensLeftToday([everyoneStanding(quotas, model, limits, now)], now),
      requestsDay: row?.requests ?? 0,
      totalTokensUsed: all.reduce((sum, day) => sum + day.charged, 0),
      totalRequests: all.reduce((sum, day) => sum + day.requests, 0),
      activeUsers: row?.users ?? 0,
      audioSecondsDay: (row?.audioMs ?? 0) / SECOND_MS,
      charactersDay: row?.characters ?? 0,
      costUsd: usdOrNull(row ? costOf(row) : 0),
      totalCostUsd: usdOrNull(sumOf(all.map(costOf))),
      lastUpdated: Math.max(...all.map((day) => day.at)),
    }
  })
}
