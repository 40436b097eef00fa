/** Amounts as the ledger has them, for expectations. */
import type { Amounts } from '../../src/ledger/units.ts'

export const amounts = (requests: number, tokens: number, usd = 0): Amounts => ({
  requests,
  tokens,
  usd,
})

/** The same value in each window that is always counted. */
export const inLong = <T>(value: T): Record<'month' | 'week' | 'day', T> => ({
  month: value,
  week: value,
  day: value,
})
