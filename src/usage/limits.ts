/** Which limits a request is held against, and what is said when it would pass one. */
import {
  ALL_MODELS,
  MINUTE_MS,
  minuteOf,
  nextDay,
  own,
  type Admit,
  type Count,
  type DayDoc,
  type Limits,
  type Refusal,
  type UserDoc,
} from './record.ts'
import { dayCount, NOTHING, sum } from './tally.ts'

export type Check = {
  of: 'user' | 'everyone'
  model: string
  limits: Limits | undefined
  day: Count
  minute: Count
}

/** What is held against which limits, in the order in which refusals are told. */
export function checks(
  doc: UserDoc,
  day: DayDoc | undefined,
  { model, limits, global }: Admit,
): Check[] {
  const { rows } = doc.minute
  const all: Check[] = [
    {
      of: 'user',
      model,
      limits: limits.model,
      day: dayCount(own(doc.rows, model)),
      minute: own(rows, model) ?? NOTHING,
    },
    {
      of: 'user',
      model: ALL_MODELS,
      limits: limits.total,
      day: sum(Object.values(doc.rows).map(dayCount)),
      minute: sum(Object.values(rows)),
    },
  ]
  if (!day || !global) return all
  const shared = (scope: string, limits: Limits | undefined): Check => ({
    of: 'everyone',
    model: scope,
    limits,
    day: own(day.quota, scope) ?? NOTHING,
    minute: own(day.minute.rows, scope) ?? NOTHING,
  })
  return [...all, shared(ALL_MODELS, global.total), shared(model, global.model)]
}

/** The refusal, if a request of `bound` tokens would pass one of the limits. */
export function refuse(check: Check, bound: number, at: number): Refusal | undefined {
  const { of, model, limits, day, minute } = check
  if (!limits) return undefined
  const tries = [
    ['day', 'requests', limits.requestsPerDay, day.requests, 1],
    ['day', 'tokens', limits.tokensPerDay, day.tokens, bound],
    ['minute', 'requests', limits.requestsPerMinute, minute.requests, 1],
    ['minute', 'tokens', limits.tokensPerMinute, minute.tokens, bound],
  ] as const
  for (const [per, unit, limit, used, asked] of tries) {
    if (limit === undefined || used + asked <= limit) continue
    const resetAt = per === 'day' ? nextDay(at) : (minuteOf(at) + 1) * MINUTE_MS
    return { ok: false, reason: 'limit', of, model, per, unit, limit, used, asked, resetAt }
  }
  return undefined
}
