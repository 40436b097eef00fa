/**
 * The data sheet: every document that is stored, as a type and as a shape.
 *
 * The shapes are data, so that both ledgers read documents by the same table: a field that is missing gets its
 * default, a field that this build does not know stays, and text that does not fit is no document. Documents hold
 * neither `null` nor arrays, since Lua reads `null` as an object and writes `[]` as `{}`; a list is `{name: 1}`.
 *
 * Times are epoch ms, dates are UTC `YYYY-MM-DD`, amounts are whole tokens and requests.
 */
import { dateOf } from './windows.ts'

/** What this build writes of events, of the audit trail, and of files and their lines; it rises with any of `VERSIONS`. */
export const VERSION = 2

/** The first version of files and lines that is read. What was written before the first release has another form. */
export const OLDEST = 2

/** Stands for "all models" in blocks, in limits and in counters. */
export const ALL_MODELS = '*'

/** In what use is limited, in the order in which refusals are told. */
export const UNITS = ['requests', 'tokens'] as const
export type Unit = (typeof UNITS)[number]

/** An amount in each unit. */
export type Amounts = Record<Unit, number>

/** What was used since the start of each window, of one model or of all. A window of the past counts nothing. */
export type Windows = Record<string, { start: number } & Amounts>

/**
 * One user's day with one model. `requests` counts admissions, so those that are running are `requests` less the four
 * ways in which one ends.
 */
export type Row = {
  requests: number
  exact: number
  estimated: number
  failed: number
  /** Admitted, and never heard of again within a day. */
  lost: number
  /** Tokens charged: real charges of what has ended, reservations of what has not. */
  charged: number
  /** The part of `charged` that is reservations of what is running. */
  reserved: number
  /** The part of `charged` that is reservations of what was lost. */
  lostTokens: number
  prompt: number
  /** The part of `prompt` that upstream had in its cache. */
  cached: number
  completion: number
  /** Tokens that upstream reported beyond the reservations. */
  overReservation: number
}

/** A row as it is stored, without the fields that are zero. */
export type ThinRow = Partial<Row>

/** What a user has used of one model: today's row, empty where there was no request today, and each window. */
export type ModelUse = { row: ThinRow; windows: Windows }

/** The permission to charge once. */
export type Lease = {
  model: string
  /** When it was admitted, by the ledger's clock. */
  at: number
  /** Until then the request may still be running; afterwards it is shown as lost until it settles after all. */
  until: number
  reserved: Amounts
  /** The windows that hold the reservation. */
  windows: Record<string, 1>
}

/** What requests write of one user. */
export type UsageDoc = {
  v: number
  id: string
  ip?: string
  /** Never goes backwards, and with it neither do the user's windows. */
  at: number
  /** When a request of theirs last began or ended. */
  seen?: number
  /** What the indexes know: since when, and how many tokens of that day. */
  indexed: { at: number; tokens: number }
  /** The day of the rows in `models`, of their sums below, of `sessions` and of `reported`. */
  date: string
  /** Tokens that today's rows are charged. */
  charged: number
  /** Today's answered requests. */
  answered: number
  /** Sessions with an answered request today. */
  sessions: Record<string, 1>
  /** Of all models together. */
  windows: Windows
  models: Record<string, ModelUse>
  leases: Record<string, Lease>
  /** What the user's own browser says it has used today, per model: shown beside what was metered, and never proof. */
  reported: Record<string, Amounts>
}

/** A user's days before the current one. */
export type PastDoc = { v: number; id: string; days: Record<string, Record<string, ThinRow>> }

export type Block = { at: number; reason?: string | undefined; until?: number | undefined }

/** What admins write of one user. */
export type ProfileDoc = {
  v: number
  id: string
  /** By model, or `*` for all of them. */
  blocks: Record<string, Block>
}

/** What everyone together has used of one model, or of all. The one of all has the clock of the ledger. */
export type QuotaDoc = { v: number; at: number; windows: Windows }

/** A day of everyone together, with one model or with all. Only what has ended is in it. */
export type DayRow = {
  requests: number
  exact: number
  estimated: number
  failed: number
  charged: number
  prompt: number
  cached: number
  completion: number
  overReservation: number
  /** Users with at least one answered request. */
  users: number
  /** Tokens by UTC hour, "0" to "23". */
  hours: Record<string, number>
  /** When it last changed. */
  at: number
}

/** One day of everyone together. */
export type DayDoc = {
  v: number
  date: string
  total: DayRow
  /** Sessions with at least one answered request. */
  sessions: number
  models: Record<string, DayRow>
  /** Answered requests that were cleared away, which the quotas still have. */
  forgotten: number
}

/** How a request ended. An admitted one that never says so is `lost`, and has no event. */
export type Outcome = 'exact' | 'estimated' | 'failed'

/** One request that has ended. No address and no text, by intention. */
export type Event = {
  v: number
  id: string
  at: number
  user: string
  session?: string
  route: string
  model: string
  outcome: Outcome
  /** The HTTP status the client got. */
  status: number
  prompt?: number
  completion?: number
  total?: number
  cached?: number
  reasoning?: number
  mismatch?: true
  /** Tokens. */
  reserved: number
  /** Tokens. */
  charged: number
  ttfbMs?: number
  totalMs: number
  /** It settled after its lease had been shown as lost. */
  late?: true
}

/** Something that an admin did. Of a user only the first characters of the id, since the trail outlives them. */
export type Audit = {
  v: number
  at: number
  action: 'login' | 'logout' | 'block' | 'unblock' | 'erase' | 'clear' | 'export'
  user?: string
  model?: string
  reason?: string
  until?: number
  ip?: string
}

/**
 * `number` and `text` are 0 and empty where they are missing; those with a `?` stay away. What is `packed` may be kept
 * as JSON text within the document, so that a step takes apart only the parts that it needs.
 */
export type Shape =
  | 'number'
  | 'text'
  | 'number?'
  | 'text?'
  | { each: Shape }
  | { fields: Record<string, Shape> }
  | { packed: Shape }

const numbers = (...names: string[]): { fields: Record<string, Shape> } => ({
  fields: Object.fromEntries(names.map((name) => [name, 'number'])),
})

const amounts = numbers(...UNITS)
const windows: Shape = { each: numbers('start', ...UNITS) }
const thinRow: Shape = { each: 'number' }
const outcomes = ['requests', 'exact', 'estimated', 'failed']
const tokens = ['charged', 'prompt', 'cached', 'completion', 'overReservation']
const row = numbers(...outcomes, 'lost', ...tokens, 'reserved', 'lostTokens')
const dayRow: { fields: Record<string, Shape> } = {
  fields: { ...numbers(...outcomes, ...tokens, 'users', 'at').fields, hours: { each: 'number' } },
}

const modelUse: Shape = { fields: { row: thinRow, windows } }

/** The documents by kind; where each is kept is the store's. */
export const SHAPES = {
  usage: {
    fields: {
      v: 'number',
      id: 'text',
      ip: 'text?',
      at: 'number',
      seen: 'number?',
      indexed: numbers('at', 'tokens'),
      date: 'text',
      charged: 'number',
      answered: 'number',
      sessions: { each: 'number' },
      windows,
      models: { each: { packed: modelUse } },
      leases: {
        each: {
          fields: {
            model: 'text',
            at: 'number',
            until: 'number',
            reserved: amounts,
            windows: { each: 'number' },
          },
        },
      },
      reported: { each: amounts },
    },
  },
  past: { fields: { v: 'number', id: 'text', days: { each: { each: thinRow } } } },
  profile: {
    fields: {
      v: 'number',
      id: 'text',
      blocks: { each: { fields: { at: 'number', reason: 'text?', until: 'number?' } } },
    },
  },
  quota: { fields: { v: 'number', at: 'number', windows } },
  /** The models of the day that is going on, and the row of one of them. */
  models: { fields: { v: 'number', models: { each: 'number' } } },
  row: { fields: { v: 'number', ...dayRow.fields } },
  day: {
    fields: {
      v: 'number',
      date: 'text',
      total: dayRow,
      sessions: 'number',
      models: { each: dayRow },
      forgotten: 'number',
    },
  },
} as const satisfies Record<string, Shape>

/**
 * What this build writes of each kind of document. It rises when such a document means something else than before, and
 * `UPGRADES` then says how one of the version before becomes one of this; a field that is added needs neither. The other
 * kinds keep theirs, so that an older build on the same database goes on with all that has not changed.
 */
export const VERSIONS: Record<Kind, number> = {
  usage: 2,
  past: 2,
  profile: 2,
  quota: 2,
  models: 2,
  row: 2,
  day: 2,
}

/** The shapes of parts that are read by themselves too. */
export const ROW: Shape = row
export const MODEL_USE: Shape = modelUse

export type Kind = keyof typeof SHAPES
type Documents = {
  usage: UsageDoc
  past: PastDoc
  profile: ProfileDoc
  quota: QuotaDoc
  models: { v: number; models: Record<string, 1> }
  row: DayRow
  day: DayDoc
}

/** How a document of one version becomes one of the next: by kind, and by the version it has. */
export type Upgrades = Partial<Record<Kind, Record<number, (doc: Json) => Json>>>

type Json = Record<string, unknown>

/** The upgrades of this build; the Lua port has the same, in `shapes.lua`. */
export const UPGRADES: Upgrades = {}

/** A document that a newer build wrote. Nothing may be written over it. */
export class NewerVersion extends Error {
  override readonly name = 'NewerVersion'
}

/** Numbers beyond this cannot be written by every part that reads them. */
export const MOST = 1e16

const isJson = (value: unknown): value is Json =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

const isNumber = (value: unknown) => typeof value === 'number' && value > -MOST && value < MOST

/** Whether a value has all that its shape wants. Almost all documents do, and are taken as they are. */
function isWhole(shape: Shape, value: unknown): boolean {
  if (shape === 'number') return isNumber(value)
  if (shape === 'number?') return value === undefined || isNumber(value)
  if (shape === 'text') return typeof value === 'string'
  if (shape === 'text?') return value === undefined || typeof value === 'string'
  if ('packed' in shape) return isWhole(shape.packed, value)
  if (!isJson(value)) return false
  // A page of days has tens of thousands of fields, so nothing is made of them here.
  if ('each' in shape) {
    for (const name in value) if (!isWhole(shape.each, value[name])) return false
    return true
  }
  for (const name in value) if (value[name] === null) return false
  for (const name in shape.fields) {
    if (!isWhole(shape.fields[name] as Shape, value[name])) return false
  }
  return true
}

/** A value as its shape wants it, with defaults for what is missing; throws where it does not fit. */
export function fit(shape: Shape, value: unknown): unknown {
  const missing = value === undefined || value === null
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
  if ('packed' in shape) {
    return fit(shape.packed, typeof value === 'string' ? JSON.parse(value) : value)
  }
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

/**
 * A document of a kind from what was stored: an older one is upgraded, and what is missing gets its default. Undefined
 * where the value is no document of that kind. Throws `NewerVersion`.
 */
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

/** A property of the record itself: names come from users, and `constructor` is a fine model name. */
export const own = <T>(record: Record<string, T>, key: string): T | undefined =>
  Object.hasOwn(record, key) ? record[key] : undefined
