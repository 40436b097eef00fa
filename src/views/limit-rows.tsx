/** The fields of a form for limits: a row for each model. */
import type { Child } from 'hono/jsx'
import { TOTAL } from '../ledger/plans.ts'
import { LIMITS, limitName, type LimitName } from '../ledger/policy.ts'
import { ALL_MODELS } from '../ledger/documents.ts'
import { UNITS } from '../ledger/units.ts'
import { own } from '../ledger/records.ts'
import { WINDOWS, WINDOW_NAMES } from '../ledger/windows.ts'
import type { LimitRows } from '../reports/people.ts'
import type { Fields } from './form.tsx'
import { UNIT_TITLES, limitField } from './format.ts'
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
  [ALL_MODELS]: 'Each model without a row',
  [TOTAL]: 'All models together',
}
export const scopeTitle = (model: string): string =>
  own(SCOPES, model) ?? model.slice(0, NAME_CHARS)

/** Rows that cannot be removed. Without limits they are not stored. */
export const isFixed = (model: string): boolean => Object.hasOwn(SCOPES, model)

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

export function limitRows({ values, empty, names, id }: RowsProps) {
  const rows = []
  for (let at = 0; values[rowField(at, 'model')] !== undefined; at += 1) rows.push(at)
  const last = rows.length - 1
  return (
    <>
      {rows.map((at) => {
        const model = values[rowField(at, 'model')] ?? ''
        const placeholder = empty(model)
        return (
          <fieldset class="wide row">
            <legend>
              <bdi>{at === last ? 'One more model' : scopeTitle(model)}</bdi>
            </legend>
            {at === last ? (
              <label class="wide">
                Model
                <input name={rowField(at, 'model')} value={model} list={id} autocomplete="off" />
              </label>
            ) : (
              <input type="hidden" name={rowField(at, 'model')} value={model} />
            )}
            {grid((name) => (
              <input
                name={rowField(at, name)}
                value={values[rowField(at, name)]}
                placeholder={at === last ? undefined : placeholder(name)}
                aria-label={LIMIT_TITLES[name]}
                autocomplete="off"
              />
            ))}
            {at < last && !isFixed(model) && (
              <label class="tick">
                <span>
                  <input
                    type="checkbox"
                    name={rowField(at, 'remove')}
                    value="yes"
                    checked={values[rowField(at, 'remove')] === 'yes'}
                  />{' '}
                  Remove
                </span>
              </label>
            )}
          </fieldset>
        )
      })}
      <datalist id={id}>
        {names.map((model) => (
          <option value={model} />
        ))}
      </datalist>
    </>
  )
}
