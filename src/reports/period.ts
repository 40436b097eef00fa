/** What everyone used in some days, in numbers and as series for a chart: pure functions from documents. */
import { newDay } from '../ledger/new-documents.ts'
import { nanoOf } from '../ledger/money.ts'
import { own } from '../ledger/records.ts'
import type { Counts } from '../ledger/units.ts'
import type { DayDoc, DayRow } from '../ledger/documents.ts'
import type { Event } from '../ledger/events.ts'
import { HOUR_MS, DAY_MS, dateOf, startOf } from '../ledger/windows.ts'
import { audioFields, costOfDay, recordedCost, sumOf, type Cost, type Prices } from './costs.ts'
import type { Range } from './range.ts'

/** Everyone's use of a model. */
export type ModelLine = Counts & {
  model: string
  failed: number
  users?: number
  cost: Cost
  audioMs?: number
  characters?: number
}

/** Everyone's use of some days. */
export type Period = Counts & {
  cost: Cost
  exact: number
  estimated: number
  failed: number
  overReservation: number
  /** The users of the day with the most users. */
  users: number
  /** The most used first. */
  models: ModelLine[]
  /** Failed requests that are of no model: a day has a model only from its first answer on. */
  unanswered: number
}

const NO_COUNTS: Counts = { requests: 0, tokens: 0 }
const NONE = { exact: 0, estimated: 0, failed: 0, overReservation: 0, users: 0, unanswered: 0 }

/** The sums of some days. */
export function periodOf(docs: DayDoc[], dates: string[], prices: Prices): Period {
  const days = dates.flatMap((date) => docs.find((day) => day.date === date) ?? [])
  const models = new Map<string, ModelLine & { costs: Cost[] }>()
  for (const day of days) {
    for (const [model, row] of Object.entries(day.models)) {
      const line = models.get(model) ?? { ...NO_COUNTS, model, failed: 0, cost: 0, costs: [] }
      models.set(model, {
        ...line,
        tokens: line.tokens + row.charged,
        requests: line.requests + row.requests,
        failed: line.failed + row.failed,
        ...audioFields({
          audioMs: (line.audioMs ?? 0) + (row.audioMs ?? 0),
          characters: (line.characters ?? 0) + (row.characters ?? 0),
        }),
        costs: [...line.costs, recordedCost(row, own(prices, model))],
        ...(days.length === 1 && { users: row.users }),
      })
    }
  }
  const lines = [...models.values()].map(({ costs, ...line }) => ({ ...line, cost: sumOf(costs) }))
  const sum = (of: (row: DayRow) => number) => days.reduce((all, { total }) => all + of(total), 0)
  return {
    ...NONE,
    tokens: sum(({ charged }) => charged),
    requests: sum(({ requests }) => requests),
    exact: sum((row) => row.exact),
    estimated: sum((row) => row.estimated),
    failed: sum((row) => row.failed),
    overReservation: sum((row) => row.overReservation),
    users: Math.max(0, ...days.map(({ total }) => total.users)),
    cost: sumOf(days.map((day) => costOfDay(day, prices))),
    models: lines.sort((a, b) => b.tokens - a.tokens),
    unanswered: total(days.map(unansweredOf)),
  }
}

/** The requests of a day that none of its models has. */
const unansweredOf = ({ total: { requests }, models }: DayDoc): number =>
  Math.max(0, requests - total(Object.values(models).map((row) => row.requests)))

/**
 * The current hour and the 23 before it: the tokens by the hours of days, and the rest of the recent requests. `since` is where
 * these end, if they do not reach back so far.
 */
export function lastDay(docs: DayDoc[], recent: Recent, prices: Prices, now: number) {
  const from = startOf('hour', now) - 23 * HOUR_MS
  const events = recent.events.filter(({ at }) => at >= from)
  const oldest = recent.events.at(-1)?.at ?? now
  const models = [
    ...new Set([
      ...docs.flatMap((day) => Object.keys(day.models)),
      ...events.map(({ model }) => model),
    ]),
  ]
  const lines = models
    .map((model) => {
      const own = events.filter((event) => event.model === model)
      return {
        model,
        tokens: total(hoursOf(docs, model, now)),
        requests: own.length,
        failed: countOf(own, 'failed'),
        cost: costOfEvents(own, model, prices),
      }
    })
    .filter(({ tokens, requests }) => tokens > 0 || requests > 0)
  const period: Period = {
    ...NONE,
    tokens: total(hoursOf(docs, undefined, now)),
    requests: events.length,
    exact: countOf(events, 'exact'),
    estimated: countOf(events, 'estimated'),
    failed: countOf(events, 'failed'),
    overReservation: total(events.map(({ charged, reserved }) => Math.max(0, charged - reserved))),
    cost: sumOf(lines.map(({ cost }) => cost)),
    models: lines.sort((a, b) => b.tokens - a.tokens),
  }
  const before: Partial<Period> = { tokens: total(hoursOf(docs, undefined, now, 24)) }
  const since = recent.whole || oldest <= from ? undefined : oldest
  return { period, before, since }
}

const countOf = (events: Event[], outcome: Event['outcome']): number =>
  events.filter((event) => event.outcome === outcome).length

const costOfEvents = (events: Event[], model: string, prices: Prices): Cost =>
  recordedCost(
    {
      cost: total(events.map(({ cost }) => nanoOf(cost))),
      charged: total(events.map(({ charged }) => charged)),
    },
    own(prices, model),
  )

/** The tokens of the 24 hours that end `ago` hours ago, and of each of them, the oldest first. The current hour counts. */
function hoursOf(docs: DayDoc[], model: string | undefined, now: number, ago = 0) {
  return Array.from({ length: 24 }, (_, n) => {
    const at = now - (ago + 23 - n) * HOUR_MS
    return tokensOfHour(docs, model, dateOf(at), Math.floor((at % DAY_MS) / HOUR_MS))
  })
}

function tokensOfHour(docs: DayDoc[], model: string | undefined, date: string, hour: number) {
  const day = docs.find((one) => one.date === date) ?? newDay(date)
  const row = model === undefined ? day.total : own(day.models, model)
  return row?.hours[hour] ?? 0
}

/** What a chart can show. */
export const MEASURES = {
  tokens: { title: 'Tokens', by: 'model', unit: 'tokens' },
  cost: { title: 'Cost', by: 'model', unit: '' },
  requests: { title: 'Requests', by: 'model', unit: 'requests' },
  outcomes: { title: 'Outcomes', by: 'outcome', unit: 'requests' },
} as const

export type Measure = keyof typeof MEASURES

/** The parts of the bars of a chart. `kind` is an outcome, or the colour of a model. */
export type Series = { name: string; amounts: number[]; kind?: string }

/** The bars of a chart: their names, and the parts that are stacked in each. */
export type Bars = {
  names: string[]
  series: Series[]
  /** The bar of the hour or the day that has not ended, if it is one of them. */
  current?: number
  /** The first bars lack requests: these are known only since this time. */
  since?: number
}

/** The most models that have a part of their own. */
const MOST_SERIES = 5
const REST = 'other models'
/** What failed before its model answered on that day. */
export const UNANSWERED = 'models without an answer'

const OUTCOMES = ['exact', 'estimated', 'failed'] as const

/** The recent requests of everyone. */
export type Recent = {
  events: Event[]
  /** The list has no more than these. */
  whole: boolean
}

/**
 * The bars of a range: hours, or days. Days have no hours of requests, outcomes and costs, which the recent requests tell.
 * `models`, the most used first, have the same colours whatever is measured.
 */
export function barsOf(
  docs: DayDoc[],
  range: Range,
  measure: Measure,
  { events, whole }: Recent,
  { prices, models, now }: { prices: Prices; models: ModelLine[]; now: number },
): Bars {
  const { names, of, from } = range.hourly ? hoursIn(range, now) : daysIn(range)
  const current = of(now)
  const bars = (parts: Map<string, number[]>): Bars => ({
    names,
    series: measure === 'outcomes' ? byOutcome(parts) : coloured(inOrder(parts), models),
    ...(current !== undefined && { current }),
  })
  if (range.hourly && measure !== 'tokens') {
    const oldest = events.at(-1)?.at
    const isShort = !whole && oldest !== undefined && oldest > from
    return {
      ...bars(fromEvents(events, names.length, of, measure)),
      ...(isShort && { since: oldest }),
    }
  }
  const empty = () => names.map(() => 0)
  const parts = new Map<string, number[]>()
  const add = (name: string, bar: number | undefined, amount: number) => {
    if (bar === undefined || amount === 0) return
    const amounts = parts.get(name) ?? empty()
    amounts[bar] = (amounts[bar] ?? 0) + amount
    parts.set(name, amounts)
  }
  for (const day of docs.filter(({ date }) => range.dates.includes(date))) {
    const start = Date.parse(day.date)
    if (measure === 'outcomes') {
      for (const kind of OUTCOMES) add(kind, of(start), day.total[kind])
      continue
    }
    for (const [model, row] of Object.entries(day.models)) {
      if (range.hourly) {
        for (const [hour, tokens] of Object.entries(row.hours)) {
          add(model, of(start + Number(hour) * HOUR_MS), tokens)
        }
      } else if (measure === 'cost') {
        add(model, of(start), recordedCost(row, own(prices, model)) ?? 0)
      } else add(model, of(start), measure === 'tokens' ? row.charged : row.requests)
    }
    if (measure === 'requests') add(UNANSWERED, of(start), unansweredOf(day))
  }
  return bars(parts)
}

function fromEvents(
  events: Event[],
  bars: number,
  of: (at: number) => number | undefined,
  measure: Measure,
): Map<string, number[]> {
  const parts = new Map<string, number[]>()
  for (const { at, model, outcome, cost } of events) {
    const bar = of(at)
    if (bar === undefined) continue
    const name = measure === 'outcomes' ? outcome : model
    const amounts = parts.get(name) ?? Array.from({ length: bars }, () => 0)
    amounts[bar] = (amounts[bar] ?? 0) + (measure === 'cost' ? nanoOf(cost) : 1)
    parts.set(name, amounts)
  }
  return parts
}

const total = (amounts: number[]) => amounts.reduce((sum, one) => sum + one, 0)

const byOutcome = (parts: Map<string, number[]>): Series[] =>
  OUTCOMES.flatMap((kind) => {
    const amounts = parts.get(kind)
    return amounts ? [{ name: kind, amounts, kind }] : []
  })

/** The largest parts first, and the small ones as one. */
function inOrder(parts: Map<string, number[]>): Series[] {
  const all = [...parts]
    .map(([name, amounts]) => ({ name, amounts }))
    .sort((a, b) => total(b.amounts) - total(a.amounts))
  if (all.length <= MOST_SERIES + 1) return all
  const rest = all.slice(MOST_SERIES)
  const amounts = all[0]!.amounts.map((_, bar) => total(rest.map((one) => one.amounts[bar] ?? 0)))
  return [...all.slice(0, MOST_SERIES), { name: REST, amounts }]
}

/** The most used models have the first colours, in this order. The others take those that are left. */
function coloured(series: Series[], models: ModelLine[]): Series[] {
  const placeOf = (name: string) => models.findIndex(({ model }) => model === name)
  const isFixed = ({ name }: Series) => placeOf(name) >= 0 && placeOf(name) < MOST_SERIES
  const taken = new Set(series.filter(isFixed).map(({ name }) => placeOf(name)))
  const free = series.map((_, n) => n).filter((n) => !taken.has(n))
  return series.map((one) => ({
    ...one,
    kind: `s${isFixed(one) ? placeOf(one.name) : free.shift()}`,
  }))
}

const hourName = (hour: number) => `${String(hour).padStart(2, '0')}:00`

/** The hours of a range, and in which of them a moment is. */
function hoursIn(range: Range, now: number) {
  const isDay = range.name !== '24h'
  const hour = Math.floor(now / HOUR_MS)
  const first = isDay ? Date.parse(range.dates[0] ?? '') / HOUR_MS : hour - 23
  const names = Array.from({ length: 24 }, (_, n) => hourName((first + n) % 24))
  const of = (at: number) => {
    const bar = Math.floor(at / HOUR_MS) - first
    return bar >= 0 && bar < 24 ? bar : undefined
  }
  return { names, of, from: first * HOUR_MS }
}

function daysIn({ dates }: Range) {
  const names = dates.toReversed()
  const of = (at: number) => {
    const bar = names.indexOf(dateOf(at))
    return bar < 0 ? undefined : bar
  }
  return { names, of, from: Date.parse(names[0] ?? '') }
}
