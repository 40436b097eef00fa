/** What an admin is told: pure functions from documents to rows. */
import { newRow } from './documents.ts'
import {
  ALL_MODELS,
  dateOf,
  limitsOf,
  nextDay,
  own,
  unsettled,
  type Block,
  type DayDoc,
  type ModelLimits,
  type Reported,
  type UserDoc,
} from './record.ts'
import { NOTHING, sum } from './tally.ts'

/** A user's day per model; models they are blocked from, `*` among them, or report are told even without use. */
export function userReport(user: UserDoc, limits: ModelLimits, now: number) {
  const today = user.date === dateOf(now)
  const rows = today ? user.rows : {}
  const reported = (today && user.reported) || {}
  const all = Object.values(rows).reduce((total, row) => total + row.charged, 0)
  const inForce = (block: Block | undefined) =>
    block && (block.until === undefined || block.until > now) ? block : undefined
  const blockedModels = Object.keys(user.blocks).filter((model) => inForce(own(user.blocks, model)))
  const names = [...Object.keys(rows), ...Object.keys(reported), ...blockedModels]
  const models = [...new Set(names)].map((model) => {
    const row = own(rows, model) ?? newRow()
    const said = own(reported, model)
    const block = inForce(own(user.blocks, model)) ?? inForce(own(user.blocks, ALL_MODELS))
    const left = leftOf(limits, model, row.charged, all)
    return {
      model,
      tokensUsedDay: row.charged,
      tokensRemainingDay: left === Infinity ? null : left,
      requestsDay: row.requests,
      settled: row.settled,
      partial: row.partial,
      failed: row.failed,
      unsettled: unsettled(row),
      expired: Math.max(0, unsettled(row) - running(user, model, now)),
      heldTokens: row.held,
      overshoot: row.overshoot,
      reportedTokensDay: said?.tokens ?? null,
      reportedRequestsDay: said?.requests ?? null,
      blocked: block !== undefined,
      blockReason: block?.reason ?? null,
      blockedUntil: block?.until ?? null,
    }
  })
  // What admins do to a user, or the browser reports, is no use of theirs, and they are not listed by it.
  const lastActive = user.seen ?? user.at
  return { userId: user.id, ipAddress: user.ip ?? null, lastActive, models }
}

/** Tokens that a user may still use of a model today, of all they have used; of `*`, of all models together. */
function leftOf(limits: ModelLimits, model: string, used: number, all: number): number {
  const own = model === ALL_MODELS ? undefined : limitsOf(limits, model)
  const left = Math.min(
    (own?.tokensPerDay ?? Infinity) - used,
    (limits.total?.tokensPerDay ?? Infinity) - all,
  )
  return Math.max(0, left)
}

/** A user's requests with a model that may still be running today. */
const running = ({ leases, date }: UserDoc, model: string, now: number): number =>
  Object.values(leases).filter(
    (lease) => lease.model === model && lease.until > now && dateOf(lease.at) === date,
  ).length

/** What a user's browser is told: today's use of the models it knows and of those it asks about, and what is blocked. */
export function syncReport({ at, rows, blocks }: Reported, asked: string[], limits: ModelLimits) {
  const resetAt = nextDay(at)
  const all = sum(Object.values(rows)).tokens
  const usage = Object.fromEntries(
    [...new Set([...Object.keys(rows), ...asked])].map((model) => {
      const { tokens, requests } = own(rows, model) ?? NOTHING
      const left = leftOf(limits, model, tokens, all)
      return [
        model,
        {
          tokensUsedDay: tokens,
          tokensRemainingDay: left,
          requestsDay: requests,
          resetAt,
        },
      ]
    }),
  )
  const blocked = Object.entries(blocks)
    .filter(([, { until }]) => until === undefined || until > at)
    .map(([model, { reason, until }]) => ({ model, reason: reason ?? null, until: until ?? null }))
  return { usage, blocked }
}

/** Everyone's day per model; the totals are over the days given. */
export function modelStats(days: DayDoc[], limits: ModelLimits | undefined, now: number) {
  const today = days.find((day) => day.date === dateOf(now))
  const names = new Set(days.flatMap((day) => Object.keys(day.models)))
  return [...names].map((model) => {
    const row = today && own(today.models, model)
    const all = days.flatMap((day) => own(day.models, model) ?? [])
    const held = today ? (own(today.quota, model)?.tokens ?? row?.charged ?? 0) : 0
    const limit = limits && own(limits.models, model)
    return {
      model,
      tokensUsedDay: row?.charged ?? 0,
      tokensRemainingDay: limit ? Math.max(0, limit.tokensPerDay - held) : null,
      requestsDay: row?.requests ?? 0,
      totalTokensUsed: all.reduce((sum, day) => sum + day.charged, 0),
      totalRequests: all.reduce((sum, day) => sum + day.requests, 0),
      activeUsers: row?.users ?? 0,
      lastUpdated: Math.max(...all.map((day) => day.at)),
    }
  })
}
