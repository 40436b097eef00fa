/** The variables that are JSON of rows: limits and prices by name, and a list of issuers. */
import type { Parse } from './parse.ts'

type RowRules = {
  isName(text: string): boolean
  isAmount(value: unknown, field: string): boolean
  /** The names of the fields in a row. */
  required: readonly string[]
  optional: readonly string[]
}

/**
 * Takes JSON of such rows. `like` is an example for the message, with units.
 *
 * It does not use zod, because an isolate reads the configuration when it starts, and building its first schemas takes
 * a seventh of the time to its first answer.
 */
export function rows<T>(shape: RowRules, like: string): Parse<Record<string, T>> {
  return (text) => {
    const value = valueOf(text)
    const wrong = wrongIn(value, shape)
    return wrong ? problemAt(wrong, like) : { value: value as Record<string, T> }
  }
}

/** Takes a JSON list of at least one row. */
export function rowList<T>(shape: Omit<RowRules, 'isName'>, like: string): Parse<T[]> {
  return (text) => {
    const value = valueOf(text)
    if (!Array.isArray(value) || !value.length) return problemAt([], like)
    const byPlace = Object.fromEntries(Object.entries(value))
    const wrong = wrongIn(byPlace, { ...shape, isName: () => true })
    return wrong ? problemAt(wrong, like) : { value: value as T[] }
  }
}

function problemAt(path: string[], like: string): { problem: string } {
  const where = path.length ? ` (at ${path.join('.')})` : ''
  return { problem: `must be JSON like ${like}${where}.` }
}

/** The path to the first wrong part of a value; `undefined` if all of it is right. */
function wrongIn(value: unknown, { isName, isAmount, required, optional }: RowRules) {
  const fields = [...required, ...optional]
  if (!isObject(value)) return []
  for (const [name, row] of Object.entries(value)) {
    if (!isName(name) || !isObject(row)) return [name]
    const wrong = fields.find((field) =>
      Object.hasOwn(row, field) ? !isAmount(row[field], field) : required.includes(field),
    )
    if (wrong !== undefined) return [name, wrong]
    if (!Object.keys(row).every((field) => fields.includes(field))) return [name]
  }
  return undefined
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

function valueOf(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
