/** An import plan as the keys and arguments of the script. */
import { ALL_MODELS } from '../../../ledger/documents.ts'
import { dateOf } from '../../../ledger/windows.ts'
import { dayKey, modelsKey, quotaKey, rowKey, tagsKey } from '../keys.ts'
import { StoreError } from '../../store.ts'
import { dayEnd, secondsLeft, type ImportTerms } from './ends.ts'
import type { Plan } from './plan.ts'

/** The number of imported items before a chunk, and after it. */
type Marker = { key: string; from: number; next: number; seconds: string }

/**
 * What the step does besides: it advances the progress of the import, and removes old keys if they have not changed.
 */
export type Also = { marker?: Marker; old: { key: string; sha: string }[] }

/** The keys and arguments of the script call. Throws `StoreError` if the plan contains an invalid amount. */
export function callOf(
  plan: Plan,
  also: Also,
  terms: ImportTerms,
): { keys: string[]; args: string[] } {
  checkAmounts(plan)
  const { writes = [], same = [], days = [], overlaps = {}, quotas = {}, indexes = [] } = plan
  const { texts = [], ...list } = plan.list ?? {}
  const dates = [...days.map(({ date }) => date), ...Object.keys(overlaps)]
  const head = {
    keep: { userDays: terms.retention.userDays, historyDays: terms.retention.historyDays },
    ...also,
    writes: writes.map(({ text: _, ...write }) => write),
    same: same.map(({ key, sha }) => ({ key, sha })),
    days,
    overlaps,
    quotas,
    today: dateOf(terms.now),
    seconds: Object.fromEntries(
      dates.map((date) => [date, secondsLeft(dayEnd(date, terms), terms)]),
    ),
    indexes,
    ...(plan.list && { list }),
  }
  const keys = new Set([
    quotaKey(ALL_MODELS),
    ...(also.marker ? [also.marker.key] : []),
    ...[...writes, ...same].map(({ key }) => key),
    ...dates.flatMap((date) => [dayKey(date), modelsKey(date), tagsKey(date)]),
    ...days.flatMap(({ date, models }) => Object.keys(models).map((name) => rowKey(date, name))),
    ...Object.keys(quotas).map(quotaKey),
  ])
  return {
    keys: [...keys],
    args: [JSON.stringify(head), ...writes.map(({ text }) => text), ...texts],
  }
}

/** Throws `StoreError` for an invalid amount, on which the script would fail halfway. */
function checkAmounts({ writes = [], indexes = [], list }: Plan): void {
  const places = [...writes, ...indexes, ...(list ? [list] : [])]
  const seconds = places.flatMap((place) => place.seconds ?? [])
  const ends = writes.flatMap(({ until }) => until ?? [])
  const scores = indexes.flatMap(({ entries }) => entries.filter((_, index) => index % 2 === 0))
  const areWhole = [...seconds, ...ends].every((amount) => /^\d{1,15}$/.test(amount))
  if (areWhole && scores.every((score) => Number.isFinite(Number(score)))) return
  throw new StoreError('a document to be written has an invalid time')
}
