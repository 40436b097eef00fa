/** What was used and what it cost, summed up for an invoice. */
import { rowsOf, runningOf, whole } from '../ledger/documents.ts'
import { own, type DayDoc, type DayRow, type PastDoc, type UsageDoc } from '../ledger/shapes.ts'
import type { Price } from '../ledger/money.ts'
import { ended, recordedCost, sumOf, usdDigits, type Prices } from './costs.ts'

/** A use of one model on one day that has ended. */
type Item = { date: string; model: string; row: Counted }
type Counted = Pick<DayRow, 'requests' | 'prompt' | 'cached' | 'completion' | 'charged' | 'cost'>

/** What a line of an invoice sums up. */
export type Group = 'user' | 'day' | 'model'

/** The columns after those that say what a line is of. Prices are those of today, in dollars per million tokens. */
export const INVOICE = [
  'date',
  'model',
  'requests',
  'prompt',
  'cached',
  'completion',
  'charged',
  'inputPrice',
  'cachedPrice',
  'outputPrice',
  'costUsd',
  'unpricedTokens',
] as const

/** A user's use on some days. What runs is not in it until it has ended. */
export const itemsOfUser = (usage: UsageDoc, past: PastDoc | undefined, dates: string[]): Item[] =>
  dates.flatMap((date) => {
    const rows = date === usage.date ? rowsOf(usage) : (own(past?.days ?? {}, date) ?? {})
    return Object.entries(rows).map(([model, thin]) => {
      const row = whole(thin)
      return { date, model, row: { ...ended(row), requests: row.requests - runningOf(row) } }
    })
  })

/** Everyone's use on some days. */
export const itemsOfDays = (days: DayDoc[]): Item[] =>
  days.flatMap(({ date, models }) =>
    Object.entries(models).map(([model, row]) => ({ date, model, row })),
  )

/** The lines of an invoice, in the order of days or models. */
export function invoiceLines(items: Item[], group: Group, prices: Prices) {
  const groups = new Map<string, Item[]>()
  for (const item of items) {
    if (item.row.requests === 0) continue
    const key = group === 'user' ? '' : group === 'day' ? item.date : item.model
    groups.set(key, [...(groups.get(key) ?? []), item])
  }
  return [...groups]
    .sort(([one], [other]) => (one < other ? -1 : 1))
    .map(([key, of]) => lineOf(key, of, group, prices))
}

function lineOf(key: string, items: Item[], group: Group, prices: Prices) {
  const sum = (field: keyof Counted) => items.reduce((all, { row }) => all + row[field], 0)
  const costs = items.map(({ model, row }) => ({
    charged: row.charged,
    cost: recordedCost(row, own(prices, model)),
  }))
  return {
    date: group === 'day' ? key : null,
    model: group === 'model' ? key : null,
    requests: sum('requests'),
    prompt: sum('prompt'),
    cached: sum('cached'),
    completion: sum('completion'),
    charged: sum('charged'),
    ...pricesOf(group === 'model' ? own(prices, key) : undefined),
    costUsd: usdDigits(sumOf(costs.map(({ cost }) => cost))),
    unpricedTokens: costs.reduce(
      (all, { charged, cost }) => all + (cost === undefined ? charged : 0),
      0,
    ),
  }
}

const PICO_PER_USD_A_MILLION = 1_000_000

function pricesOf(price: Price | undefined) {
  const perMillion = (pico: number | undefined) =>
    pico === undefined ? null : pico / PICO_PER_USD_A_MILLION
  return {
    inputPrice: perMillion(price?.input),
    cachedPrice: perMillion(price?.cached ?? price?.input),
    outputPrice: perMillion(price?.output),
  }
}
