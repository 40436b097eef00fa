/** A user's rows: one for each day and model. */
import type { UsageDoc, ThinRow, ModelUse, PastDoc, Row } from './documents.ts'
import { filter, mapValues, own } from './records.ts'
import { fit } from './reading.ts'
import { ROW } from './shapes.ts'

/** A user's rows of the document's day, by model. */
export const rowsOf = ({ models }: UsageDoc): Record<string, ThinRow> =>
  filter(
    mapValues(models, ({ row }) => row),
    ({ requests }) => requests !== undefined,
  )

/** A user's use of a model; empty without a request. */
export const useOf = ({ models }: UsageDoc, model: string): ModelUse =>
  own(models, model) ?? { row: {}, windows: {} }

/** A user's row of a day before the current one, if it is kept. */
export function pastRow(past: PastDoc | undefined, date: string, model: string): Row | undefined {
  const row = past && own(own(past.days, date) ?? {}, model)
  return row && whole(row)
}

/** The past with one of its rows replaced. */
export const withPastRow = (past: PastDoc, date: string, model: string, row: Row): PastDoc => ({
  ...past,
  days: { ...past.days, [date]: { ...own(past.days, date), [model]: thin(row) } },
})

/** A row with all of its fields. */
export const whole = (row: ThinRow): Row => fit(ROW, row) as Row

/** A row without the fields that are zero. */
export const thin = (row: Row): ThinRow => filter(row, (value) => value !== 0) as ThinRow

/** Requests of a row that have been admitted and have not ended. */
export const runningOf = (row: Row): number =>
  row.requests - row.exact - row.estimated - row.failed - row.lost

/** Requests of a row that got an answer. */
export const answersOf = (row: Row): number => row.exact + row.estimated

/** Whether the user got an answer. */
export const hasAnswers = (row: Row): boolean => answersOf(row) > 0
