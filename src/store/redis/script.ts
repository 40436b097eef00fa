/** The script of the ledger: three files of Lua as one chunk, behind the constants that they share with TypeScript. */
import {
  ALL_MODELS,
  AUDIT_ID_CHARS,
  DAY_MS,
  ENTER_MS,
  HOUR_MS,
  LATE_SETTLE_MS,
  MINUTE_MS,
  MODELS_PER_USER,
  NO_END,
  SECOND_MS,
  SESSIONS_PER_USER,
} from '../../usage/record.ts'
import { DAMAGED_SECONDS, TOP_DAY } from '../keys.ts'
import { AUDIT_KEPT } from '../store.ts'

/** What the files are given by name. The linter reports a name that none of them uses. */
const CONSTANTS: Record<string, unknown> = {
  SECOND: SECOND_MS,
  MINUTE: MINUTE_MS,
  HOUR: HOUR_MS,
  DAY: DAY_MS,
  SECONDS_PER_DAY: DAY_MS / SECOND_MS,
  NO_END,
  LATE_SETTLE: LATE_SETTLE_MS,
  ENTER: ENTER_MS,
  ENTER_SECONDS: ENTER_MS / SECOND_MS,
  ALL_MODELS,
  MODELS_PER_USER,
  SESSIONS_PER_USER,
  AUDIT_KEPT,
  AUDIT_ID_CHARS,
  DAMAGED_SECONDS,
  TOP_DAY,
  // With the first request of a day and each 64th after it the indexes are rid of what has aged.
  CHORES_EVERY: 64,
}

/** Words that cannot be a name: https://www.lua.org/manual/5.1/manual.html#2.1 */
const RESERVED = new Set(
  (
    'and break do else elseif end false for function if in local nil not or repeat return then ' +
    'true until while'
  ).split(' '),
)

/** The texts of the files in src/store/redis/ledger/. */
export type ScriptParts = { shapes: string; rules: string; batch: string }

/** The files as the one script that Redis runs. Locals at the top level of a file are seen by those after it. */
export function assembleScript({ shapes, rules, batch }: ScriptParts): string {
  const header = Object.entries(CONSTANTS).map(
    ([name, value]) => `local ${name} = ${luaOf(value)}\n`,
  )
  return [...header, shapes, rules, batch].join('')
}

/**
 * A value as a literal of Lua 5.1: a finite number, a string, a boolean, or an array or plain object of such.
 * Throws a `TypeError` for anything else, since a `nil` would leave no trace in a table.
 */
export function luaOf(value: unknown): string {
  if (typeof value === 'boolean' || (typeof value === 'number' && Number.isFinite(value))) {
    return String(value)
  }
  if (typeof value === 'string') return quoted(value)
  if (Array.isArray(value)) return table(Array.from(value, luaOf))
  if (isPlain(value)) {
    return table(Object.entries(value).map(([key, item]) => `${keyOf(key)} = ${luaOf(item)}`))
  }
  throw new TypeError(`Lua has no literal for ${String(value)}`)
}

const table = (fields: string[]) => (fields.length ? `{ ${fields.join(', ')} }` : '{}')

const keyOf = (key: string) =>
  /^[A-Za-z_]\w*$/.test(key) && !RESERVED.has(key) ? key : `[${quoted(key)}]`

/** A byte by its number has three digits, so that a digit after it is not read as part of it. */
const quoted = (text: string) =>
  `'${text.replace(/[\x00-\x1f\x7f\\']/g, (char) => `\\${String(char.charCodeAt(0)).padStart(3, '0')}`)}'`

function isPlain(value: unknown): value is Record<string, unknown> {
  if (typeof value !== 'object' || value === null) return false
  const prototype: unknown = Object.getPrototypeOf(value)
  return prototype === Object.prototype || prototype === null
}
