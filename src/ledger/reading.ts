/**
 * Reads documents. An older version is upgraded, a missing field gets its default, and a value that does not fit is not
 * a document.
 */
import {
  COUNTERS,
  HUGE,
  MOST,
  SHAPES,
  VERSIONS,
  type Documents,
  type Kind,
  type Shape,
} from './shapes.ts'
import { audioOf, type Unit } from './units.ts'
import { own } from './records.ts'
import type { Windows } from './documents.ts'
import { DAY_MS, WINDOWS, WINDOW_NAMES, dateOf, startOf } from './windows.ts'

/** The conversion of one version to the next, by kind and by the older version. */
export type Upgrades = Partial<Record<Kind, Record<number, (doc: Json) => Json>>>

type Json = Record<string, unknown>

/** The upgrades of this build; the Lua port has the same, in `shapes.lua`. */
const UPGRADES: Upgrades = {}

/** The document is from a newer build, and must not be overwritten. */
export class NewerVersion extends Error {
  override readonly name = 'NewerVersion'
}

const isJson = (value: unknown): value is Json =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

const isNumber = (value: unknown) => typeof value === 'number' && value > -MOST && value < MOST

/** A stored amount of money as a number; any other value stays as it is. */
const moneyOf = (value: unknown): unknown =>
  typeof value === 'string' && /^-?\d{1,18}$/.test(value) ? Number(value) : value

const isAmount = (value: unknown) => typeof value === 'number' && value > -HUGE && value < HUGE

const isMoneyShape = (shape: Shape) => shape === 'money' || shape === 'money?'

/** The counters of a window as the script writes them. */
const WINDOW = /^([^:]+):(\d+):(-?\d+):(-?\d+):(-?\d+)(?::(-?\d+):(-?\d+))?$/

const LONG_WINDOWS = WINDOW_NAMES.filter((name) => WINDOWS[name].longest > DAY_MS)

/** The windows that a part of a stored text has; undefined if it has anything else. */
function countersOf(text: string): Windows | undefined {
  const windows: Windows = {}
  for (const one of text ? text.split(' ') : []) {
    const [found, name = '', ...amounts] = WINDOW.exec(one) ?? []
    if (found === undefined) return undefined
    const [start = 0, requests = 0, tokens = 0, usd = 0, audioMs, characters] = amounts.map(
      (amount) => Number(amount ?? 0),
    )
    windows[name] = { start, requests, tokens, usd, ...audioOf(audioMs, characters) }
  }
  return windows
}

/**
 * Stored windows as an object; any other value stays as it is. The script keeps windows longer than a day after a `;`,
 * without what the window of the day has: `windows.lua`.
 */
function windowsOf(value: unknown): unknown {
  if (typeof value !== 'string') return value
  const [first = '', rest = ''] = value.split(';')
  const windows = countersOf(first)
  if (!windows) return value
  const before = countersOf(rest) ?? {}
  const { day } = windows
  for (const name of day ? LONG_WINDOWS : []) {
    const start = startOf(name, day!.start)
    const known = own(before, name)
    // A window that was not counted until now has a start of 0.
    const isNew = known?.start === 0
    if (known && known.start > start && !isNew) continue
    const earlier = isNew || known?.start === start ? known : undefined
    const sum = (unit: Unit) => (earlier?.[unit] ?? 0) + (day![unit] ?? 0)
    const amounts = {
      requests: sum('requests'),
      tokens: sum('tokens'),
      usd: sum('usd'),
      ...audioOf(sum('audioSeconds'), sum('characters')),
    }
    if (isNew && Object.values(amounts).every((amount) => amount === 0)) delete before[name]
    else before[name] = { start, ...amounts }
  }
  return { ...windows, ...before }
}

/** A stored value as it is in memory, where the two differ. */
function inMemory(shape: Shape, value: unknown): unknown {
  if (isMoneyShape(shape)) return moneyOf(value)
  if (shape === 'windows') return windowsOf(value)
  if (typeof shape === 'object' && 'optional' in shape) return inMemory(shape.optional, value)
  return value
}

/**
 * Whether a value fits its shape as it is. Almost all documents do, and are not copied. Money in it becomes numbers, and
 * windows become objects, in place.
 */
function isWhole(shape: Shape, value: unknown): boolean {
  if (shape === 'number') return isNumber(value)
  if (shape === 'money') return isAmount(value)
  if (shape === 'money?') return value === undefined || isAmount(value)
  if (shape === 'number?') return value === undefined || isNumber(value)
  if (shape === 'text') return typeof value === 'string'
  if (shape === 'text?') return value === undefined || typeof value === 'string'
  if (shape === 'windows') return isWhole(COUNTERS, value)
  if ('packed' in shape) return isWhole(shape.packed, value)
  if ('optional' in shape) return value === undefined || isWhole(shape.optional, value)
  if (!isJson(value)) return false
  // A page of days has tens of thousands of fields, so this allocates nothing.
  if ('each' in shape) {
    for (const name in value) if (!isWhole(shape.each, value[name])) return false
    return true
  }
  for (const name in value) if (value[name] === null) return false
  for (const name in shape.fields) {
    const field = shape.fields[name] as Shape
    if (value[name] !== undefined) {
      const known = inMemory(field, value[name])
      if (known !== value[name]) value[name] = known
    }
    if (!isWhole(field, value[name])) return false
  }
  return true
}

/** A value in its shape, with defaults for missing fields. Throws if it does not fit. */
export function fit(shape: Shape, value: unknown): unknown {
  const missing = value === undefined || value === null
  if (isMoneyShape(shape)) {
    if (missing) return shape === 'money' ? 0 : undefined
    const amount = moneyOf(value)
    if (isAmount(amount)) return amount
    throw new TypeError('not money')
  }
  if (shape === 'number' || shape === 'number?') {
    if (missing) return shape === 'number' ? 0 : undefined
    if (isNumber(value)) return value
    throw new TypeError('not a number')
  }
  if (shape === 'text' || shape === 'text?') {
    if (missing) return shape === 'text' ? '' : undefined
    if (typeof value === 'string') return value
    throw new TypeError('not a text')
  }
  if (shape === 'windows') return fit(COUNTERS, windowsOf(value))
  if ('packed' in shape) {
    return fit(shape.packed, typeof value === 'string' ? JSON.parse(value) : value)
  }
  if ('optional' in shape) return missing ? undefined : fit(shape.optional, value)
  // Lua cannot tell an empty list from an empty object.
  const found = missing || (Array.isArray(value) && value.length === 0) ? {} : value
  if (!isJson(found)) throw new TypeError('not an object')
  const entries =
    'each' in shape
      ? Object.entries(found).map(([name, one]) => [name, fit(shape.each, one)])
      : [
          ...Object.entries(found),
          ...Object.entries(shape.fields).map(([name, field]) => [
            name,
            fit(field, own(found, name)),
          ]),
        ]
  return Object.fromEntries(entries.filter(([, one]) => one !== undefined && one !== null))
}

/** Reads a stored value as a document of a kind; undefined if it is not one. Throws `NewerVersion`. */
export function readDocument<K extends Kind>(
  kind: K,
  value: unknown,
  upgrades: Upgrades = UPGRADES,
  version = VERSIONS[kind],
): Documents[K] | undefined {
  if (!isJson(value) || typeof value.v !== 'number' || value.v < 0) return undefined
  if (value.v > version) throw new NewerVersion(`a ${kind} document of version ${value.v}`)
  try {
    let doc = value
    for (let v = value.v; v < version; v += 1) doc = upgrades[kind]?.[v]?.(doc) ?? doc
    if (doc.v !== version) doc = { ...doc, v: version }
    const whole = (isWhole(SHAPES[kind], doc) ? doc : fit(SHAPES[kind], doc)) as Documents[K]
    if ('leases' in whole && whole.date === '') whole.date = dateOf(whole.at)
    return whole
  } catch {
    return undefined
  }
}
