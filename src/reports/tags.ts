/** What each tag of requests used and cost: sums over days. Pure. */
import { usdOf } from '../ledger/money.ts'
import { own } from '../ledger/records.ts'
import type { DayDoc } from '../ledger/documents.ts'
import { dateOf } from '../ledger/windows.ts'
import { usdDigits } from './costs.ts'

export type TagStats = ReturnType<typeof tagStats>[number]

/** The tags of some days, the one with the most tokens first. Costs are those of models with a price. */
export function tagStats(days: DayDoc[], now: number) {
  const today = days.find(({ date }) => date === dateOf(now))?.tags ?? {}
  return [...sumsOf(days)]
    .map(([tag, { requests, charged, cost }]) => ({
      tag,
      requestsDay: own(today, tag)?.requests ?? 0,
      tokensUsedDay: own(today, tag)?.charged ?? 0,
      costUsd: usdOf(own(today, tag)?.cost ?? 0),
      totalRequests: requests,
      totalTokensUsed: charged,
      totalCostUsd: usdOf(cost),
    }))
    .sort((a, b) => b.totalTokensUsed - a.totalTokensUsed || (a.tag < b.tag ? -1 : 1))
}

/** The columns of an export by tag. */
export const TAG_COLUMNS = ['tag', 'requests', 'charged', 'costUsd']

/** The lines of an export by tag, in the order of tags. */
export const tagLines = (days: DayDoc[]) =>
  [...sumsOf(days)]
    .sort(([one], [other]) => (one < other ? -1 : 1))
    .map(([tag, { requests, charged, cost }]) => ({
      tag,
      requests,
      charged,
      costUsd: usdDigits(cost),
    }))

function sumsOf(days: DayDoc[]) {
  const sums = new Map<string, { requests: number; charged: number; cost: number }>()
  for (const [tag, row] of days.flatMap(({ tags }) => Object.entries(tags ?? {}))) {
    const { requests, charged, cost } = sums.get(tag) ?? { requests: 0, charged: 0, cost: 0 }
    sums.set(tag, {
      requests: requests + row.requests,
      charged: charged + row.charged,
      cost: cost + row.cost,
    })
  }
  return sums
}
