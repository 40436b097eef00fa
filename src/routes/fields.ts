/**
 * What the bodies of the admin API mean: times, limits and lists as they are stored, and the messages about wrong
 * fields.
 */
import { ApiError } from '../errors.ts'
import type { Misfit } from '../http/json-body.ts'
import { LIMITS, limitFrom } from '../ledger/policy.ts'
import { UNLIMITED, type StoredRows } from '../ledger/documents.ts'
import { MOST_ROWS } from './fields-schemas.ts'

/** Limits as they are stored. */
export const storedRows = (
  rows: Record<string, Record<string, number | null | undefined>>,
): StoredRows =>
  Object.fromEntries(
    Object.entries(rows).map(([model, row]) => [
      model,
      Object.fromEntries(
        Object.entries(row).flatMap(([name, limit]) =>
          limit === undefined ? [] : [[name, limit === null ? UNLIMITED : limitFrom(name, limit)]],
        ),
      ),
    ]),
  )

/** A list as it is stored. */
export const storedNames = (names: string[]): Record<string, 1> =>
  Object.fromEntries(names.map((name) => [name, 1]))

/** A time in epoch ms. Throws `invalid_request` for a number that is not a time. */
export function momentFrom(moment: number | string, param: string): number {
  const time = new Date(moment).getTime()
  if (!Number.isNaN(time)) return time
  throw new ApiError('invalid_request', `\`${param}\` must be epoch ms or ISO time.`, { param })
}

/** The same for a time in the future. Throws `invalid_request`. */
export function futureOf(moment: number | string, at: number, param: string): number {
  const time = momentFrom(moment, param)
  if (time > at) return time
  throw new ApiError('invalid_request', `\`${param}\` must be in the future.`, { param })
}

/** What a request sets and clears of a record: absent fields stay, and null clears. */
export type Change<T> = { set: Partial<T>; clear: Partial<Record<keyof T, 1>> }

/** Separates the fields to set from those to clear. */
export function changeOf<T extends object>(fields: {
  [F in keyof T]?: T[F] | null | undefined
}): Change<T> {
  const change: { set: Record<string, unknown>; clear: Record<string, 1> } = { set: {}, clear: {} }
  for (const [name, value] of Object.entries(fields)) {
    if (value === null) change.clear[name] = 1
    else if (value !== undefined) change.set[name] = value
  }
  return change as Change<T>
}

const LIMIT_NAMES = LIMITS.map(({ name }) => name).join(', ')
const rows = (names: string) =>
  `must be rows by ${names} (at most ${MOST_ROWS}), each with some of ${LIMIT_NAMES}`
const ROWS = rows('name of a model, "*" for models without a row, or "total" for all together')
const LIMIT = 'a whole number, dollars for usd, or null for no limit'

/** How each field must be, for messages. */
const RIGHT: Record<string, string> = {
  userId: 'must be the id of a user: 22 letters, digits, _ and -',
  user: 'must be your own name of a user: 1 to 255 characters',
  name: 'must be one line of at most 100 characters',
  label: 'must be one line of at most 100 characters',
  note: 'must be a text of at most 2,000 characters',
  plan: 'must be the name of a plan: up to 32 small letters, digits and hyphens',
  limits: `${ROWS}: ${LIMIT}`,
  globalLimits: `${rows('name of a model or "total" for all together')}: ${LIMIT}`,
  boost: `must be {limits, until}: limits ${ROWS}, whole numbers to add; until is epoch ms or ISO time`,
  models: `must be a list of at most ${MOST_ROWS} names of models, in which * stands for any characters; [] is none`,
  expires_at: 'must be epoch ms or ISO time, in the future',
  notBefore: 'must be epoch ms, ISO time or "now"',
  disabled: 'must be true or false',
  defaultPlan: 'must be the name of a plan: up to 32 small letters, digits and hyphens',
}

/** The message about a body with these fields. `more` says how its other fields must be. */
export function refusalOf(names: string[], more: Record<string, string> = {}): Misfit {
  const right = { ...RIGHT, ...more }
  return {
    param: names[0] ?? '',
    message(param) {
      const [field = ''] = param.split('.')
      if (!names.includes(field)) return `\`${param}\` is no field here; send ${names.join(', ')}.`
      const told = right[field]
      return `\`${param}\` is wrong${told === undefined ? '' : `: \`${field}\` ${told}`}.`
    },
  }
}
