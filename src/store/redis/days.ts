/** Reads days. A day that has ended is one document. For the current day, each row has its own key. */
import type { Kind } from '../../ledger/shapes.ts'
import { ALL_MODELS, type DayDoc, type DayRow, type QuotaDoc } from '../../ledger/documents.ts'
import type { DocumentOf, DocumentReader, Found } from './documents.ts'
import { dayKey, modelsKey, quotaKey, rowKey, tagsKey } from './keys.ts'

/**
 * A day as it is stored. The current day is `open`: each of its rows has its own key, and its totals have only what the
 * rows do not tell.
 */
type StoredDay = DayDoc & { open?: 1 }

type ModelsOfDay = { date: string; models: string[] }

const NO_MODELS: ModelsOfDay = { date: '', models: [] }

/**
 * Builds a function that reads days and, in the same call, other documents and everyone's counters of the current
 * day.
 */
export function dayReader({ read }: DocumentReader) {
  /** The models of the current day at the last read. They usually save a second call. */
  let known = NO_MODELS

  return async (dates: string[], others: [string, Kind][], withQuotas: boolean) => {
    const keysOf = (date: string, model: string): [string, Kind][] => [
      [rowKey(date, model), 'row'],
      ...(withQuotas ? [[quotaKey(model), 'quota'] satisfies [string, Kind]] : []),
    ]
    // Only the current day has these keys, and it is usually one of the latest two.
    const latest = dates.toSorted().slice(-2)
    const guess = dates.includes(known.date) ? known : NO_MODELS
    const docs = await read<Kind>(
      new Map([
        ...dates.map((date): [string, Kind] => [dayKey(date), 'day']),
        ...latest.flatMap((date): [string, Kind][] => [
          [modelsKey(date), 'models'],
          [tagsKey(date), 'tags'],
        ]),
        ...guess.models.flatMap((model) => keysOf(guess.date, model)),
        ...others,
      ]),
    )
    const readMore = async (keys: [string, Kind][]) => {
      for (const [key, doc] of await read(new Map(keys))) docs.set(key, doc)
    }

    const found = dates.flatMap((date): StoredDay[] => {
      const day = docs.get(dayKey(date)) as StoredDay | undefined
      return day ? [{ ...day, date }] : []
    })
    const open = found.filter((day) => day.open).map(({ date }) => date)
    const unnamed = open.filter((date) => !latest.includes(date))
    await readMore(
      unnamed.flatMap((date): [string, Kind][] => [
        [modelsKey(date), 'models'],
        [tagsKey(date), 'tags'],
      ]),
    )
    const isRead = (date: string, model: string) =>
      date === guess.date && guess.models.includes(model)
    await readMore(
      open.flatMap((date) =>
        modelsIn(docs, date).flatMap((model) => (isRead(date, model) ? [] : keysOf(date, model))),
      ),
    )

    const current = open.toSorted().at(-1)
    if (current !== undefined) known = { date: current, models: modelsIn(docs, current) }
    return {
      days: found.map((day) => wholeDay(docs, day)),
      docs,
      quotas: quotasIn(docs, current === undefined ? [] : known.models),
    }
  }
}

/** The models that have a row in a day. */
const modelsIn = (docs: Found, date: string): string[] =>
  Object.keys((docs.get(modelsKey(date)) as DocumentOf<'models'> | undefined)?.models ?? {})

/** A day with its rows. */
function wholeDay(docs: Found, { open, ...day }: StoredDay): DayDoc {
  if (!open) return day
  const rows = modelsIn(docs, day.date).flatMap((model) => {
    const row = docs.get(rowKey(day.date, model)) as DocumentOf<'row'> | undefined
    return row ? [[model, withoutVersion(row)] as const] : []
  })
  const tagged = docs.get(tagsKey(day.date)) as DocumentOf<'tags'> | undefined
  return {
    ...day,
    ...(tagged && { tags: tagged.tags }),
    total: rows.reduce((total, [, row]) => addRow(total, row), day.total),
    models: Object.fromEntries(rows),
  }
}

/** Totals with a row added. One user may be in several rows, so users are not added. */
export function addRow(total: DayRow, { users: _, at, hours, ...amounts }: DayRow): DayRow {
  const added = Object.entries(amounts) as [keyof typeof amounts, number][]
  const hourly = Object.entries(hours).map(([hour, tokens]) => [
    hour,
    (total.hours[hour] ?? 0) + tokens,
  ])
  return {
    ...total,
    ...Object.fromEntries(added.map(([name, amount]) => [name, (total[name] ?? 0) + amount])),
    hours: { ...total.hours, ...Object.fromEntries(hourly) },
    at: Math.max(total.at, at),
  }
}

function withoutVersion(row: DocumentOf<'row'> & { v?: number }) {
  const { v: _, ...rest } = row
  return rest
}

/** Everyone's counters for some models, and for all models together. */
function quotasIn(docs: Found, models: string[]): Record<string, QuotaDoc> {
  const quotas = [ALL_MODELS, ...models].flatMap((scope) => {
    const quota = docs.get(quotaKey(scope)) as QuotaDoc | undefined
    return quota ? [[scope, quota] as const] : []
  })
  return Object.fromEntries(quotas)
}
