/** What was used and what it cost, summed up for an invoice. */
import { rowsOf, runningOf, whole } from '../ledger/rows.ts'
import { own } from '../ledger/records.ts'
import type { DayDoc, DayRow, PastDoc, UsageDoc } from '../ledger/documents.ts'
import { usdOf, type Price } from '../ledger/money.ts'
import { newDayRow } from '../ledger/new-documents.ts'
import { UNUSED_MODEL } from '../ledger/refusals.ts'
import { SECOND_MS } from '../ledger/windows.ts'
import { ended, recordedCost, sumOf, usdDigits, type Prices } from './costs.ts'

/** A use of one model on one day that has ended. */
type Item = { date: string; model: string; row: Counted }
type Counted = Pick<
  DayRow,
  'requests' | 'prompt' | 'cached' | 'completion' | 'charged' | 'cost' | 'audioMs' | 'characters'
>

/** What a line of an invoice sums up. */
export type Group = 'user' | 'day' | 'model'

/** The columns after those that say what a line is of. Prices are those of today, in dollars per million, or an hour of audio. */
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
  'audioSeconds',
  'characters',
  'audioHourPrice',
  'charactersPrice',
  'unpricedAudioSeconds',
  'unpricedCharacters',
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

/** Everyone's use on some days. Failed requests of models that gave no answer on a day are in its total only. */
export const itemsOfDays = (days: DayDoc[]): Item[] =>
  days.flatMap(({ date, total, models }) => {
    const items = Object.entries(models).map(([model, row]) => ({ date, model, row }))
    const requests = items.reduce((rest, { row }) => rest - row.requests, total.requests)
    return [...items, { date, model: UNUSED_MODEL, row: { ...newDayRow(), requests } }]
  })

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
  const sum = (field: keyof Counted) => items.reduce((all, { row }) => all + (row[field] ?? 0), 0)
  const costs = items.map(({ model, row }) => ({
    row,
    cost: recordedCost(row, own(prices, model)),
  }))
  const unpriced = (field: keyof Counted) =>
    costs.reduce((all, { row, cost }) => all + (cost === undefined ? (row[field] ?? 0) : 0), 0)
  const price = group === 'model' ? own(prices, key) : undefined
  return {
    date: group === 'day' ? key : null,
    model: group === 'model' ? key : null,
    requests: sum('requests'),
    prompt: sum('prompt'),
    cached: sum('cached'),
    completion: sum('completion'),
    charged: sum('charged'),
    ...pricesOf(price),
    costUsd: usdDigits(sumOf(costs.map(({ cost }) => cost))),
    unpricedTokens: unpriced('charged'),
    audioSeconds: sum('audioMs') / SECOND_MS,
    characters: sum('characters'),
    ...audioPricesOf(price),
    unpricedAudioSeconds: unpriced('audioMs') / SECOND_MS,
    unpricedCharacters: unpriced('characters'),
  }
}

const PICO_PER_USD_A_MILLION = 1_000_000

const perMillion = (pico: number | undefined) =>
  pico === undefined ? null : pico / PICO_PER_USD_A_MILLION

const pricesOf = (price: Price | undefined) => ({
  inputPrice: perMillion(price?.input),
  cachedPrice: perMillion(price?.cached ?? price?.input),
  outputPrice: perMillion(price?.output),
})

const audioPricesOf = (price: Price | undefined) => ({
  audioHourPrice: price?.audioHour === undefined ? null : usdOf(price.audioHour),
  charactersPrice: perMillion(price?.characters),
})
