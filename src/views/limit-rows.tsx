/** The fields of a form for limits: a row for each model. */
import type { Child } from 'hono/jsx'
import { TOTAL } from '../ledger/plans.ts'
import { LIMITS, limitName, unitWords, type LimitName } from '../ledger/policy.ts'
import { ALL_MODELS } from '../ledger/documents.ts'
import { UNITS } from '../ledger/units.ts'
import { own } from '../ledger/records.ts'
import { WINDOWS, WINDOW_NAMES } from '../ledger/windows.ts'
import type { LimitRows } from '../reports/people.ts'
import { Input, type Fields } from './form.tsx'
import { UNIT_TITLES, limitField, limitText } from './format.ts'
import { NAME_CHARS } from './parts.tsx'

/** What stands for no limit. */
export const UNLIMITED_WORD = 'unlimited'

/** The name of a field of a row. */
export const rowField = (row: number, field: 'model' | 'remove' | LimitName): string =>
  `${field}-${row}`

/** The name of a limit, `Tokens a day`. */
export const LIMIT_TITLES: Record<string, string> = Object.fromEntries(
  LIMITS.map(({ name, unit, window }) => [name, `${UNIT_TITLES[unit]} ${WINDOWS[window].words}`]),
)

const SCOPES: Record<string, string> = {
  [ALL_MODELS]: 'Every other model',
  [TOTAL]: 'All models together',
}
export const scopeTitle = (model: string): string =>
  own(SCOPES, model) ?? model.slice(0, NAME_CHARS)

/** Rows that cannot be removed. Without limits they are not stored. */
export const FIXED_ROWS = [TOTAL, ALL_MODELS]
export const isFixed = (model: string): boolean => FIXED_ROWS.includes(model)

/** Rows in the order in which a form has them. */
export const inFormOrder = (rows: LimitRows): [string, LimitRows[string]][] =>
  [...new Set([...FIXED_ROWS, ...Object.keys(rows)])].flatMap((model) => {
    const row = own(rows, model)
    return row ? [[model, row]] : []
  })

/** The values of the fields. `always` are rows that are shown also if they have no limit. */
export function rowFields(rows: LimitRows, always: string[]): Fields {
  const names = [...new Set([...always, ...Object.keys(rows)]), '']
  return Object.fromEntries(
    names.flatMap((model, at) => [
      [rowField(at, 'model'), model],
      ...Object.entries(own(rows, model) ?? {}).map(([name, limit]) => [
        rowField(at, name as LimitName),
        limit === null ? UNLIMITED_WORD : limitField(name, limit),
      ]),
    ]),
  )
}

type RowsProps = {
  values: Fields
  /** What an empty field means, by row. */
  empty: (model: string) => (limit: LimitName) => string
  /** Names to choose from for a new row. */
  names: string[]
  /** Tells the lists of a page apart. */
  id: string
}

/** The limits of a row in the order of the form: `40,000 tokens a day`, `$25 a month`. */
export const limitWords = (row: Record<string, number | null>): string[] =>
  LIMITS.flatMap(({ name, unit, window }) => {
    const amount = own(row, name)
    if (amount === undefined) return []
    const text = amount === null ? UNLIMITED_WORD : limitText(name, amount)
    const words = unit === 'usd' ? amount === null && 'dollars' : unitWords(unit)
    return [[text, words, WINDOWS[window].words].filter(Boolean).join(' ')]
  })

/** The fields of a row, windows by units. The headings are for the eyes, since each field says what it is. */
const grid = (field: (name: LimitName) => Child) => (
  <div class="limits">
    <span />
    {UNITS.map((unit) => (
      <span aria-hidden="true">{UNIT_TITLES[unit]}</span>
    ))}
    {WINDOW_NAMES.map((window) => (
      <>
        <span aria-hidden="true">{WINDOWS[window].words}</span>
        {UNITS.map((unit) => field(limitName(unit, window)))}
      </>
    ))}
  </div>
)

/** The fields of all limits of a row. */
const limitFields = (values: Fields, at: number, placeholder?: (limit: LimitName) => string) =>
  grid((name) => (
    <Input
      name={rowField(at, name)}
      value={values[rowField(at, name)]}
      placeholder={placeholder?.(name)}
      aria-label={LIMIT_TITLES[name]}
    />
  ))

export function limitRows(props: RowsProps) {
  const { values, empty } = props
  const models: string[] = []
  for (let at = 0; ; at += 1) {
    const model = values[rowField(at, 'model')]
    if (model === undefined) break
    models.push(model)
  }
  const last = models.length - 1
  return (
    <>
      {models.slice(0, last).map((model, at) => (
        <fieldset class="wide row">
          <legend>
            <bdi>{scopeTitle(model)}</bdi>
          </legend>
          <input type="hidden" name={rowField(at, 'model')} value={model} />
          {limitFields(values, at, empty(model))}
          {!isFixed(model) && (
            <label class="tick">
              <span>
                <input
                  type="checkbox"
                  name={rowField(at, 'remove')}
                  value="yes"
                  checked={values[rowField(at, 'remove')] === 'yes'}
                />{' '}
                Remove <bdi>{scopeTitle(model)}</bdi>
              </span>
            </label>
          )}
        </fieldset>
      ))}
      {newRow(props, last)}
    </>
  )
}

/** The row of one more model, which is closed while it is empty. */
function newRow({ values, empty, names, id }: RowsProps, at: number) {
  const fields = ['model', ...LIMITS.map(({ name }) => name)] as const
  const isFilled = fields.some((field) => values[rowField(at, field)])
  return (
    <details class="form wide" open={isFilled}>
      <summary>Add a model</summary>
      <fieldset class="row">
        <legend class="hide">Add a model</legend>
        <label>
          Model
          <Input name={rowField(at, 'model')} value={values[rowField(at, 'model')]} list={id} />
        </label>
        {limitFields(values, at, empty(''))}
      </fieldset>
      <datalist id={id}>
        {names.map((model) => (
          <option value={model} />
        ))}
      </datalist>
    </details>
  )
}
