/** The fields of a form for limits: a row for each model. */
import { TOTAL } from '../ledger/plans.ts'
import { LIMITS, type LimitName } from '../ledger/policy.ts'
import { ALL_MODELS, own } from '../ledger/shapes.ts'
import { WINDOWS } from '../ledger/windows.ts'
import type { LimitRows } from '../reports/people.ts'
import type { Fields } from './form.tsx'
import { exact } from './format.ts'
import { NAME_CHARS } from './parts.tsx'

/** What stands for no limit. */
export const UNLIMITED_WORD = 'unlimited'

/** The name of a field of a row. */
export const rowField = (row: number, field: 'model' | 'remove' | LimitName): string =>
  `${field}-${row}`

/** The name of a limit, `Tokens a day`. */
export const LIMIT_TITLES: Record<string, string> = Object.fromEntries(
  LIMITS.map(({ name, unit, window }) => [
    name,
    `${unit.charAt(0).toUpperCase()}${unit.slice(1)} ${WINDOWS[window].words}`,
  ]),
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
        limit === null ? UNLIMITED_WORD : exact(limit),
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
            {LIMITS.map(({ name }) => (
              <label>
                {LIMIT_TITLES[name]}
                <input
                  name={rowField(at, name)}
                  value={values[rowField(at, name)]}
                  placeholder={at === last ? undefined : placeholder(name)}
                  autocomplete="off"
                />
              </label>
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
