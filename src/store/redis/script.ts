/** The ledger script: the constants shared with TypeScript and the Lua files, as one chunk. */
import {
  AUDIT_ID_CHARS,
  ENTER_MS,
  FIT_MIN_TOKENS,
  KEYS_PER_USER,
  LATE_SETTLE_MS,
  MODELS_COUNTED,
  MODELS_PER_USER,
  NETWORKS,
  OTHER_TAG,
  PAST_LEASES,
  PLANS,
  QUOTA_DAYS,
  RUNNING_PER_USER,
  SESSIONS_PER_USER,
  SYNCS_PER_MINUTE,
  TAGS_PER_DAY,
} from '../../ledger/capacity.ts'
import { ERRORS, EXPIRING_MS, FAULTS, LEVELS, QUIET_MS } from '../../ledger/alerts.ts'
import { ALERTS_KEPT, ALERTS_TAKEN, CLAIM_MS } from '../../ledger/outbox.ts'
import { DEFAULT_PLAN, TOTAL } from '../../ledger/plans.ts'
import { MOST_MONEY } from '../../ledger/money.ts'
import { LIMITS, MOST_LIMITS } from '../../ledger/policy.ts'
import { NOTHING } from '../../ledger/units.ts'
import { KEY_CODES, REFUSAL_CODES, UNUSED_MODEL } from '../../ledger/refusals.ts'
import { INDEX_MS } from '../../ledger/activity.ts'
import {
  MODEL_USE,
  MONEY_FIELDS,
  MOST,
  HUGE,
  SHAPES,
  VERSION,
  VERSIONS,
  type Shape,
} from '../../ledger/shapes.ts'
import { ALL_MODELS, UNLIMITED } from '../../ledger/documents.ts'
import {
  DAY_MS,
  HOUR_MS,
  MINUTE_MS,
  NO_END,
  WINDOWS,
  WINDOW_NAMES,
  type Window,
} from '../../ledger/windows.ts'
import { DAMAGED_SECONDS, PREFIX, SWEEP_EVERY, SWEPT, TOP_DAY } from './keys.ts'
import { AUDIT_KEPT, REFUSED_KEPT } from '../store.ts'

/** Words that cannot be an identifier: https://www.lua.org/manual/5.1/manual.html#2.1 */
const RESERVED = new Set(
  (
    'and break do else elseif end false for function if in local nil not or repeat return then ' +
    'true until while'
  ).split(' '),
)

/** A value for each window that has one. */
const ofWindows = (valueOf: (row: (typeof WINDOWS)[Window]) => number | boolean) =>
  Object.fromEntries(
    WINDOW_NAMES.map((name) => [name, valueOf(WINDOWS[name])]).filter(
      ([, value]) => value !== false,
    ),
  )

/** The constants of the Lua files. The linter reports a constant that no file uses. */
const CONSTANTS: Record<string, unknown> = {
  PREFIX,
  MINUTE_MS,
  HOUR_MS,
  DAY_MS,
  NO_END,
  VERSION,
  VERSIONS,
  // Flat tables, because a table within a table takes as long to make as thirty values. The length of windows is in ms; the
  // script computes months, which have 0, itself.
  WINDOWS: ofWindows((row) => ('every' in row ? row.every.ms : 0)),
  WINDOWS_FROM: ofWindows((row) => 'every' in row && row.every.from),
  LONG: ofWindows((row) => row.longest > DAY_MS),
  ALWAYS: ofWindows((row) => row.always),
  WAITS: ofWindows((row) => row.waits),
  LIMIT_UNITS: Object.fromEntries(LIMITS.map(({ name, unit }) => [name, unit])),
  LIMIT_WINDOWS: Object.fromEntries(LIMITS.map(({ name, window }) => [name, window])),
  LIMIT_RANKS: Object.fromEntries(LIMITS.map(({ name }, rank) => [name, rank])),
  MOST_LIMITS,
  NOTHING,
  MONEY: Object.fromEntries(MONEY_FIELDS.map((name) => [name, 1])),
  MOST_MONEY,
  FIT_MIN_TOKENS,
  ALL_MODELS,
  MOST,
  HUGE,
  LATE_SETTLE_MS,
  ENTER_MS,
  ENTER_SECONDS: String(ENTER_MS / 1000),
  INDEX_MS,
  MODELS_COUNTED,
  MODELS_PER_USER,
  SESSIONS_PER_USER,
  TAGS_PER_DAY,
  OTHER_TAG,
  NETWORKS,
  RUNNING_PER_USER,
  PAST_LEASES,
  SYNCS_PER_MINUTE,
  KEYS_PER_USER,
  PLANS,
  DEFAULT_PLAN,
  TOTAL,
  UNLIMITED,
  AUDIT_KEPT,
  REFUSED_KEPT,
  ALERTS_KEPT,
  ALERTS_TAKEN,
  CLAIM_MS,
  EXPIRING_MS,
  // A text is inlined: as tables, these would pass the 60 locals of enclosing functions that a Lua function can use.
  ALERT_TERMS: JSON.stringify({ LEVELS, ERRORS, FAULTS, QUIET_MS }),
  REFUSAL_CODES: { ...REFUSAL_CODES, ...KEY_CODES },
  UNUSED_MODEL,
  AUDIT_ID_CHARS,
  DAMAGED_SECONDS,
  QUOTA_DAYS,
  TOP_DAY,
  SWEEP_EVERY,
  SWEPT,
}

/** The names of the files in src/store/redis/ledger/, in the order of the script. */
export const SCRIPT_PARTS = [
  'windows',
  'shapes',
  'accounts',
  'alerts',
  'settlement',
  'policy',
  'fit',
  'admission',
  'administration',
  'changes',
  'rule',
  'batch',
] as const

/** The texts of the files. A script of other commands has only some of them. */
export type ScriptParts = Partial<Record<(typeof SCRIPT_PARTS)[number], string>>

/**
 * The files as one chunk, after the constants that they use. A file that every command needs is a function around the
 * files after it, which see its locals. This is faster than one function: Lua finds the locals of an enclosing function
 * directly, and searches for those of the same function when it creates a closure. The files that only some commands
 * need are functions that `rule.lua` calls.
 */
export function layOut(parts: ScriptParts, constants = CONSTANTS): string {
  const { alerts = '', settlement = '', administration = '' } = parts
  const { policy = '', fit = '', admission = '', changes = '' } = parts
  const isNamed = (name: string, text: string) => new RegExp(`\\b${name}\\b`).test(text)
  const rest = { alerts, settlement, administration, policy, fit, admission, changes }
  const none = Object.fromEntries(Object.keys(rest).map((name) => [name, '']))
  const always = [...Object.values({ ...parts, ...none }), shapesByKind()].join('')
  const sometimes = Object.values(rest).join('')
  const header = (isIn: (name: string) => boolean) =>
    Object.entries(constants)
      .filter(([name]) => isIn(name))
      .map(([name, value]) => `local ${name} = ${luaOf(value)}\n`)
      .join('')
  const headerOf = (text: string) => header((name) => isNamed(name, text) && !isNamed(name, always))
  return [
    header((name) => isNamed(name, always) || !isNamed(name, sometimes)),
    parts.windows,
    shapesByKind(),
    'local function with_shapes()\n',
    parts.shapes,
    'local function with_accounts()\n',
    parts.accounts,
    onFirstUse('alerts', headerOf(alerts) + alerts),
    onFirstUse('administration', headerOf(administration) + administration),
    'local function with_settlement()\n',
    headerOf(settlement),
    settlement,
    'end\nlocal function with_policy()\n',
    headerOf(policy + fit + admission + changes),
    policy,
    'local function with_admission()\n',
    fit,
    admission,
    'end\nlocal function with_changes()\n',
    changes,
    'end\nreturn with_admission, with_changes\nend\n',
    parts.rule,
    'local function run_batch()\n',
    parts.batch,
    'end\nreturn run_batch()\nend\nreturn with_accounts()\nend\nreturn with_shapes()\n',
  ].join('')
}

/** A Lua function of this name: it runs a text on its first call, and returns what the text has returned. */
const onFirstUse = (name: string, text: string): string =>
  `local function with_${name}()\n${text}end\nlocal made_${name}\nlocal function ${name}()\n` +
  `made_${name} = made_${name} or with_${name}()\nreturn made_${name}\nend\n`

/**
 * The script that Redis runs. Constants that are numbers or texts are inlined, because a Lua function can use at most
 * 60 locals of enclosing functions, and each of them costs time at each call.
 */
export function assembleScript(parts: ScriptParts): string {
  const constants = Object.entries(CONSTANTS)
  const tables = constants.filter(([, value]) => typeof value === 'object')
  const single = constants.filter(([, value]) => typeof value !== 'object')
  const literals = new Map(single.map(([name, value]) => [name, luaOf(value)]))
  // In one pass, because a starting isolate waits for this.
  return layOut(parts, Object.fromEntries(tables)).replace(
    /\b[A-Z][A-Z_]*\b/g,
    (name) => literals.get(name) ?? name,
  )
}

/**
 * Two Lua functions for each kind of document: one builds its shape when asked, the other tells whether a document
 * has all fields of it.
 */
function shapesByKind(): string {
  const kinds = [...Object.entries(SHAPES), ['use', MODEL_USE]] as [string, Shape][]
  const checks = kinds.map(
    ([kind, shape]) => `if kind == '${kind}' then ${checkOf(shape, 'v')} return true end\n`,
  )
  return (
    `local function shape_of(kind) return (${luaOf(Object.fromEntries(kinds))})[kind] end\n` +
    `local function is_whole(kind, v)\n${checks.join('')}end\n`
  )
}

/**
 * Lua that returns false if a value does not match its shape. It raises an error if a value cannot be compared with a
 * number.
 */
function checkOf(shape: Shape, value: string): string {
  const refuse = (condition: string) => `if ${condition} then return false end `
  const isNumber = `${value} < MOST and ${value} > -MOST`
  if (shape === 'number') return refuse(`not (${isNumber})`)
  if (shape === 'number?') return refuse(`${value} ~= nil and not (${isNumber})`)
  if (shape === 'money' || shape === 'money?') {
    // Where TypeScript wrote it, money is a number, which Lua would write with 14 digits.
    const check =
      `local n = tonumber(${value}) ${refuse('not (n and n < HUGE and n > -HUGE)')}` +
      `if n == ${value} then ${value} = string.format('%.0f', n) end `
    return shape === 'money' ? `do ${check}end ` : `if ${value} ~= nil then ${check}end `
  }
  if (shape === 'windows') {
    return `${value} = windows_of(${value}) ${refuse(`not ${value}`)}`
  }
  if (shape === 'text') return refuse(`type(${value}) ~= 'string'`)
  if (shape === 'text?') return refuse(`${value} ~= nil and type(${value}) ~= 'string'`)
  // A packed value is checked when it is unpacked.
  if ('packed' in shape) return refuse(`type(${value}) ~= 'string'`)
  if ('optional' in shape) return `if ${value} ~= nil then ${checkOf(shape.optional, value)}end `
  const inner = `${/^\w+/.exec(value)?.[0]}_`
  if ('each' in shape) {
    const isList = refuse(`${value}[1] ~= nil`)
    return `${isList}for _, ${inner} in pairs(${value}) do ${checkOf(shape.each, inner)}end `
  }
  const fields = Object.entries(shape.fields)
  // A field that must be there shows that this is an object.
  const isOpen = fields.every(([, field]) => typeof field === 'string' && field.endsWith('?'))
  const isObject = isOpen ? refuse(`type(${inner}) ~= 'table' or ${inner}[1] ~= nil`) : ''
  const checks = fields.map(([name, field]) => checkOf(field, `${inner}[${quoted(name)}]`))
  return `do local ${inner} = ${value} ${isObject}${checks.join('')}end `
}

/**
 * A value as a Lua 5.1 literal: a finite number, a string, a boolean, or an array or plain object of these. Throws a
 * `TypeError` for anything else, because a table would drop a `nil`.
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

/** A byte is escaped with three digits, so that a following digit is not read as part of the escape. */
const quoted = (text: string) =>
  `'${text.replace(/[\x00-\x1f\x7f\\']/g, (char) => `\\${String(char.charCodeAt(0)).padStart(3, '0')}`)}'`

function isPlain(value: unknown): value is Record<string, unknown> {
  if (typeof value !== 'object' || value === null) return false
  const prototype: unknown = Object.getPrototypeOf(value)
  return prototype === Object.prototype || prototype === null
}
