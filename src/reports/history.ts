/** Daily totals as rows, and sums over them. */
import type { DayDoc } from '../ledger/documents.ts'

/** One day of everyone: total tokens as charged, prompt and completion tokens as upstream reported them. */
export type HistoryRow = {
  date: string
  totalTokens: number
  completionTokens: number
  promptTokens: number
  requestCount: number
  uniqueUsers: number
  uniqueSessions: number
}

export type HistoryStats = {
  totalTokensAllTime: number
  totalRequests: number
  avgTokensPerRequest: number
  mostActiveDate: string | null
  daysTracked: number
}

/** A day as a row; all zeros if no request ended on it. */
export const historyRow = (date: string, day: DayDoc | undefined): HistoryRow => ({
  date,
  totalTokens: day?.total.charged ?? 0,
  completionTokens: day?.total.completion ?? 0,
  promptTokens: day?.total.prompt ?? 0,
  requestCount: day?.total.requests ?? 0,
  uniqueUsers: day?.total.users ?? 0,
  uniqueSessions: day?.sessions ?? 0,
})

/** Sums over the days that are kept. The most active day has the most tokens; of two equal days it is the later one. */
export function historyStats(rows: HistoryRow[]): HistoryStats {
  const sum = (field: 'totalTokens' | 'requestCount') =>
    rows.reduce((total, row) => total + row[field], 0)
  const [tokens, requests] = [sum('totalTokens'), sum('requestCount')]
  const most = rows.reduce<HistoryRow | undefined>(
    (best, row) =>
      !best ||
      row.totalTokens > best.totalTokens ||
      (row.totalTokens === best.totalTokens && row.date > best.date)
        ? row
        : best,
    undefined,
  )
  return {
    totalTokensAllTime: tokens,
    totalRequests: requests,
    avgTokensPerRequest: requests === 0 ? 0 : Math.round((tokens / requests) * 100) / 100,
    mostActiveDate: most?.date ?? null,
    daysTracked: rows.length,
  }
}
