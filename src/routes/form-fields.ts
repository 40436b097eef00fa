/** What the forms of the dashboard send, as the bodies of the admin API, and what is said of a form that is wrong. */
import type { Config } from '../config/config.ts'
import { MAX_LIMIT, MAX_SECONDS, MAX_USD } from '../config/limits.ts'
import { ApiError } from '../errors.ts'
import { own } from '../ledger/records.ts'
import { LIMITS, isMoney, isTime } from '../ledger/policy.ts'
import { MODEL_NAME } from '../metering/models.ts'
import { THESE, type Fields, type Refused } from '../views/form.tsx'
import { exact } from '../views/format.ts'
import {
  LIMIT_TITLES,
  UNLIMITED_WORD,
  isFixed,
  rowField,
  scopeTitle,
} from '../views/limit-rows.tsx'
import { MOST_ROWS } from './fields-schemas.ts'

/** Models to choose from: those that the environment names. */
export const knownModels = ({
  limits,
  allowedModels,
  defaultModel,
}: Readonly<Config>): string[] => {
  const allowed = allowedModels.filter((name) => MODEL_NAME.test(name))
  return [...new Set([...Object.keys(limits.models), ...allowed, defaultModel])].sort()
}

/** A whole number, with or without commas between thousands. */
const NUMBER = /^(\d+|\d{1,3}(,\d{3})+)$/

/** Dollars, with or without their sign. */
const DOLLARS = /^\$?(?=\.?\d)(\d*|\d{1,3}(?:,\d{3})+)(\.\d{1,6}0*)?$/

/** The amount of a limit. A text that is none stays as it is, and the schema refuses it. */
function limitIn(name: string, text: string): number | string {
  if (!isMoney(name)) return numberIn(text)
  return DOLLARS.test(text) ? Number(text.replaceAll(/[$,]/g, '')) : text
}

/** A text that is no number stays as it is, and the schema refuses it. */
function numberIn(text: string): number | string {
  return NUMBER.test(text) ? Number(text.replaceAll(',', '')) : text
}

/** The number in a field; null for none. */
export const numberOrNone = (text = ''): number | string | null =>
  text === '' ? null : numberIn(text)

/** The text in a field, with line ends as they are stored; null for none. */
export const textOrNone = (text = ''): string | null => text.replaceAll('\r\n', '\n') || null

/** The time in a field, which is in UTC; null for none. */
export const timeOrNone = (text = ''): string | null => (text === '' ? null : `${text}Z`)

/** The limits of a form. Throws `invalid_request`. */
export function rowsIn(typed: Fields): Record<string, Record<string, number | string | null>> {
  const rows = new Map<string, Record<string, number | string | null>>()
  for (let at = 0; ; at += 1) {
    const model = typed[rowField(at, 'model')]
    if (model === undefined) return Object.fromEntries(rows)
    const cells = LIMITS.flatMap(({ name }) => {
      const text = typed[rowField(at, name)] ?? ''
      const isUnlimited = text.toLowerCase() === UNLIMITED_WORD
      return text === '' ? [] : [[name, isUnlimited ? null : limitIn(name, text)] as const]
    })
    const isEmpty = cells.length === 0 && (model === '' || isFixed(model))
    if (isEmpty || typed[rowField(at, 'remove')] === 'yes') continue
    if (model === '') throw wrong('A row has limits and no model: write the name of the model.')
    if (rows.has(model)) throw wrong(`${scopeTitle(model)} has two rows: leave one of them.`)
    rows.set(model, Object.fromEntries(cells))
  }
}

/** The list of models of a form; null for all. Throws `invalid_request`. */
export function modelsIn({ which, models = '' }: Fields): string[] | null {
  const names = models.split(/[\s,]+/).filter(Boolean)
  if (which === THESE) return names
  if (names.length === 0) return null
  throw wrong('The list has models, but all are allowed: choose "only these", or empty the list.')
}

const wrong = (message: string) => new ApiError('invalid_request', message)

/** How a message of the admin API names what a form calls otherwise. */
const TITLES: Record<string, string> = {
  label: 'The label',
  note: 'The note',
  plan: 'The plan',
  name: 'The name',
  user: 'The name in your application',
  'boost.until': 'The end',
  expires_at: 'The end',
  grace_seconds: 'The grace',
  window: 'The window',
  defaultPlan: 'The default plan',
  maxCompletionTokens: 'The most completion tokens',
  concurrentRequests: 'The most requests at once',
}

const IN_ROWS = /^(boost\.limits|limits|globalLimits)(?:\.(.+?))?(?:\.(\w+Per\w+))?$/

/** A form that was refused: what was typed, what is wrong, and in which field. */
export function refusedForm(form: string, typed: Fields, error: ApiError): Refused {
  const field = fieldOf(error, typed)
  return { form, typed, problem: problemOf(error), ...(field !== undefined && { field }) }
}

/** Fields that have another name than what they become. */
const FIELDS: Record<string, string> = { expires_at: 'expires', 'boost.until': 'until' }

/** The field that an error is about; undefined if it is about none of those that were typed. */
function fieldOf({ param = '' }: ApiError, typed: Fields): string | undefined {
  const [, rows, model, limit = 'model'] = IN_ROWS.exec(param) ?? []
  if (rows === undefined) {
    const [first = ''] = param.split('.')
    return [own(FIELDS, param) ?? first].find((name) => Object.hasOwn(typed, name))
  }
  return Object.keys(typed)
    .filter((name) => name.startsWith('model-') && typed[name] === model)
    .map((name) => name.replace('model', limit))[0]
}

/** What is wrong with a form, in the words of the form. */
function problemOf({ message, param = '' }: ApiError): string {
  const [, rows, model, limit = ''] = IN_ROWS.exec(param) ?? []
  const title = own(LIMIT_TITLES, limit)
  if (model !== undefined && title !== undefined) {
    const orNone = rows === 'boost.limits' ? '' : `, or "${UNLIMITED_WORD}"`
    const right = isMoney(limit)
      ? `dollars, such as 2.50, of at most ${exact(MAX_USD)} and with at most 6 decimals`
      : `a whole number of at most ${exact(isTime(limit) ? MAX_SECONDS : MAX_LIMIT)}`
    return `${scopeTitle(model)}, ${title.toLowerCase()}: write ${right}${orNone}, or nothing.`
  }
  if (model !== undefined) {
    return `${scopeTitle(model)} cannot have a row: write the exact name of a model, of letters, digits and . _ : / - only.`
  }
  if (rows !== undefined) return `There may be at most ${MOST_ROWS} rows: remove one.`
  if (param.startsWith('models')) {
    return `Write at most ${MOST_ROWS} names of models, one a line, of letters, digits and . _ : / - only; * stands for any characters.`
  }
  const [field = ''] = param.split('.')
  const name = own(TITLES, param) ?? own(TITLES, field) ?? field
  return message
    .replace(`\`${param}\` is wrong: \`${field}\``, name)
    .replace(`\`${param}\` is wrong: `, `${name} is wrong: `)
    .replace(`\`${param}\``, name)
    .replace(', or null', ', or nothing')
}
