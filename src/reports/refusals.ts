/** What is told of refusals: how many, and the latest ones. */
import { amountTo } from '../ledger/policy.ts'
import type { RefusalCounts, Refused } from '../ledger/events.ts'
import type { Refusals } from '../store/store.ts'

/** How many requests were refused on a day with a code. `?` stands for models that nobody has used. */
export type RefusalLine = { date: string; code: string; model: string; count: number }

/** The counts of each day, the latest day first, and the most refused first. */
export const refusalsReport = (days: Refusals['days']): RefusalLine[] =>
  Object.entries(days)
    .sort(([one], [other]) => (one < other ? 1 : -1))
    .flatMap(([date, counts]) =>
      Object.entries(counts)
        .map(([name, count]) => ({ date, ...partsOf(name), count }))
        .sort((a, b) => b.count - a.count || (a.code < b.code ? -1 : 1)),
    )

/** A code has no space. */
function partsOf(name: string): { code: string; model: string } {
  const [code = '', ...model] = name.split(' ')
  return { code, model: model.join(' ') }
}

/** How many were refused with each code, the most first. */
export function codesOf(counts: RefusalCounts): { code: string; count: number }[] {
  const codes = new Map<string, number>()
  for (const [name, count] of Object.entries(counts)) {
    const { code } = partsOf(name)
    codes.set(code, (codes.get(code) ?? 0) + count)
  }
  return [...codes].map(([code, count]) => ({ code, count })).sort((a, b) => b.count - a.count)
}

/** A refused request, with the amounts of its limit as people read them. */
export function refusedReport({ v: _, limit, ...refused }: Refused) {
  if (!limit) return refused
  const shown = (amount: number) => amountTo(limit.unit, amount)
  const { limit: most, used, asked } = limit
  return {
    ...refused,
    limit: { ...limit, limit: shown(most), used: shown(used), asked: shown(asked) },
  }
}
