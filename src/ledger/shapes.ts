/**
 * The shapes of stored documents, and their versions.
 *
 * The shapes are data, so that both ledgers read documents by the same table: a missing field gets its default, a field
 * that this build does not know stays, and a text that does not fit is not a document.
 */
import type { Unit } from './units.ts'
import type {
  UsageDoc,
  PastDoc,
  ProfileDoc,
  PlanDoc,
  SettingsDoc,
  QuotaDoc,
  OutboxDoc,
  NewUsersDoc,
  DayRow,
  TagRow,
  DayDoc,
} from './documents.ts'

/**
 * The version that this build writes in events, audit entries, files and their lines. It rises with any of `VERSIONS`.
 */
export const VERSION = 2

/** The oldest version of files and lines that is read. Files from before the first release have another form. */
export const OLDEST = 2

/**
 * A missing `number` or `money` is 0, a missing `text` is empty, and one with a `?` stays absent. A `packed` part may be stored as
 * JSON text within the document, so that a step parses only the parts that it needs. An `optional` part may be absent, which
 * differs from an empty one. `money` is a number in memory, and a text of digits in the script and where the script wrote it.
 * `windows` are an object in memory, and one text where the script wrote them: `windows.lua`.
 */
export type Shape =
  | 'number'
  | 'text'
  | 'money'
  | 'number?'
  | 'text?'
  | 'money?'
  | 'windows'
  | { each: Shape }
  | { fields: Record<string, Shape> }
  | { packed: Shape }
  | { optional: Shape }

const numbers = (...names: string[]): { fields: Record<string, Shape> } => ({
  fields: Object.fromEntries(names.map((name) => [name, 'number'])),
})

/** The units as fields of a document. */
const units: Record<Unit, Shape> = {
  requests: 'number',
  tokens: 'number',
  usd: 'money',
  audioSeconds: 'number?',
  characters: 'number?',
}
const amounts: Shape = { fields: units }
/** The counters of windows. */
export const COUNTERS: Shape = { each: { fields: { start: 'number', ...units } } }
const outcomes = ['requests', 'exact', 'estimated', 'failed']
const tokens = ['charged', 'prompt', 'cached', 'completion', 'overReservation']
const audio = ['audioMs', 'reservedAudioMs', 'lostAudioMs']
const characters = ['characters', 'reservedCharacters', 'lostCharacters']
const row = {
  ...numbers(...outcomes, 'lost', ...tokens, 'reserved', 'lostTokens').fields,
  ...numbers(...audio, ...characters).fields,
  cost: 'money',
  reservedCost: 'money',
  lostCost: 'money',
} as const satisfies Record<string, Shape>
/** The fields of rows that are money. */
export const MONEY_FIELDS = ['cost', 'reservedCost', 'lostCost'] as const

/** The same fields, each of which may be absent. */
const thinRow: Shape = {
  fields: Object.fromEntries(Object.entries(row).map(([name, of]) => [name, `${of as 'money'}?`])),
}
const dayRow: { fields: Record<string, Shape> } = {
  fields: {
    ...numbers(...outcomes, ...tokens, 'users', 'at').fields,
    cost: 'money',
    audioMs: 'number?',
    characters: 'number?',
    hours: { each: 'number' },
  },
}

const claims: Shape = { each: { fields: { start: 'number', level: 'number', limit: 'money' } } }
const alert: Shape = {
  fields: {
    ...{ id: 'text', type: 'text', at: 'number', state: 'text', attempts: 'number' },
    ...{ due: 'number?', status: 'number?', triedAt: 'number?' },
    ...{ of: 'text?', user: 'text?', label: 'text?', model: 'text?', unit: 'text?' },
    ...{ window: 'text?', percent: 'number?', limit: 'money?', used: 'money?' },
    ...{ resetAt: 'number?', key: 'text?', until: 'number?', by: 'text?', calls: 'number?' },
    ...{ failures: 'number?', mode: 'text?', downMs: 'number?' },
  },
}

const tagRows: Shape = {
  each: { fields: { requests: 'number', charged: 'number', cost: 'money' } },
}

const limitRows: Shape = { each: { each: 'number' } }
const names: Shape = { each: 'number' }
const key: Shape = {
  fields: {
    hash: 'text',
    start: 'text',
    last4: 'text',
    name: 'text?',
    created: 'number',
    expires: 'number?',
    disabled: 'number?',
    models: { optional: names },
    previous: { optional: { fields: { hash: 'text', until: 'number' } } },
  },
}

const modelUse: Shape = { fields: { row: thinRow, windows: 'windows' } }

/** The documents by kind. The store decides where each is kept. */
export const SHAPES = {
  usage: {
    fields: {
      v: 'number',
      id: 'text',
      ip: 'text?',
      since: 'number',
      at: 'number',
      seen: 'number?',
      indexed: numbers('at', 'tokens'),
      date: 'text',
      charged: 'number',
      answered: 'number',
      sessions: { each: 'number' },
      windows: 'windows',
      limitedUntil: 'number?',
      models: { each: { packed: modelUse } },
      leases: {
        each: {
          fields: {
            model: 'text',
            at: 'number',
            until: 'number',
            reserved: amounts,
            windows: { each: 'number' },
            maximum: 'number?',
            unverified: 'number?',
            watched: 'number?',
          },
        },
      },
      syncMinute: 'number?',
      syncs: 'number?',
      reported: { each: numbers('requests', 'tokens') },
      label: 'text?',
      words: { optional: names },
      plan: 'text?',
      keysUsed: { optional: names },
      keysCharged: { optional: 'windows' },
      alerted: { optional: claims },
      keysExpiring: { optional: names },
    },
  },
  past: { fields: { v: 'number', id: 'text', days: { each: { each: thinRow } } } },
  profile: {
    fields: {
      v: 'number',
      id: 'text',
      blocks: { each: { fields: { at: 'number', reason: 'text?', until: 'number?' } } },
      label: 'text?',
      words: { optional: names },
      note: 'text?',
      plan: 'text?',
      limits: limitRows,
      boost: { optional: { fields: { limits: limitRows, until: 'number' } } },
      models: { optional: names },
      keys: { each: key },
      notBefore: 'number?',
    },
  },
  plan: {
    fields: {
      v: 'number',
      limits: limitRows,
      models: { optional: names },
      maxCompletionTokens: 'number?',
      concurrentRequests: 'number?',
    },
  },
  settings: {
    fields: {
      v: 'number',
      globalLimits: { optional: limitRows },
      defaultPlan: 'text?',
      plans: names,
    },
  },
  quota: {
    fields: {
      v: 'number',
      at: 'number',
      windows: 'windows',
      held: { optional: { fields: { start: 'number', ...units } } },
      alertsDue: 'number?',
      alerted: { optional: claims },
      told: { optional: names },
      calls: { optional: numbers('start', 'count', 'failures') },
    },
  },
  outbox: { fields: { v: 'number', alerts: { each: alert }, gone: 'text?' } },
  newUsers: { fields: { v: 'number', minute: 'number', networks: { each: 'number' } } },
  /** The models of the current day, and the row of one of them. */
  models: { fields: { v: 'number', models: { each: 'number' } } },
  row: { fields: { v: 'number', ...dayRow.fields } },
  /** The tags of the current day. */
  tags: { fields: { v: 'number', tags: tagRows } },
  day: {
    fields: {
      v: 'number',
      date: 'text',
      total: dayRow,
      sessions: 'number',
      models: { each: dayRow },
      forgotten: 'number',
      tags: { optional: tagRows },
    },
  },
} as const satisfies Record<string, Shape>

/**
 * The version of each kind of document that this build writes. It rises when the meaning of such a document changes;
 * `UPGRADES` then converts the version before. An added field needs neither. Kinds that did not change keep their
 * version, so that an older build on the same database can still use them.
 */
export const VERSIONS: Record<Kind, number> = {
  usage: 2,
  past: 2,
  profile: 2,
  plan: 2,
  settings: 2,
  quota: 2,
  outbox: 2,
  newUsers: 2,
  models: 2,
  row: 2,
  tags: 2,
  day: 2,
}

/** The shapes of parts that are also read separately. */
export const ROW: Shape = { fields: row }
export const MODEL_USE: Shape = modelUse

export type Kind = keyof typeof SHAPES
export type Documents = {
  usage: UsageDoc
  past: PastDoc
  profile: ProfileDoc
  plan: PlanDoc
  settings: SettingsDoc
  quota: QuotaDoc
  outbox: OutboxDoc
  newUsers: NewUsersDoc
  models: { v: number; models: Record<string, 1> }
  row: DayRow
  tags: { v: number; tags: Record<string, TagRow> }
  day: DayDoc
}

/** Larger numbers are refused, because not every part that reads them can write them. */
export const MOST = 1e16

/** The same of money, which is written as text. It is exact up to 2^53 nano-USD. */
export const HUGE = 1e18
