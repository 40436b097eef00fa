/**
 * Every document that is stored, as a type and as a shape.
 *
 * The shapes are data, so that both ledgers read documents by the same table: a missing field gets its default, a field
 * that this build does not know stays, and a text that does not fit is not a document. Documents hold neither `null`
 * nor arrays, because Lua reads `null` as an object and writes `[]` as `{}`; a list is `{name: 1}`.
 *
 * Times are epoch ms, dates are UTC `YYYY-MM-DD`, amounts are whole requests, tokens, nano-USD, ms of audio and characters.
 */
/**
 * The version that this build writes in events, audit entries, files and their lines. It rises with any of `VERSIONS`.
 */
export const VERSION = 2

/** The oldest version of files and lines that is read. Files from before the first release have another form. */
export const OLDEST = 2

/** In a row of limits: no limit. */
export const UNLIMITED = -1

/** Stands for "all models" in blocks, in limits and in counters. */
export const ALL_MODELS = '*'

/** The units of limits, in the order in which they are checked. */
export const UNITS = ['requests', 'tokens', 'usd', 'audioSeconds', 'characters'] as const
export type Unit = (typeof UNITS)[number]

/** The units of audio: what is transcribed, and what is spoken. */
export type AudioUnit = Extract<Unit, 'audioSeconds' | 'characters'>

/**
 * An amount in each unit: requests, tokens, nano-USD, ms of audio and characters. Amounts of audio are there only if they are
 * not zero, since most requests have none.
 */
export type Amounts = Record<Exclude<Unit, AudioUnit>, number> & Partial<Record<AudioUnit, number>>

/** Amounts of audio, if there are any. */
export const audioOf = (audioMs = 0, characters = 0): Pick<Amounts, AudioUnit> => ({
  ...(audioMs !== 0 && { audioSeconds: audioMs }),
  ...(characters !== 0 && { characters }),
})

/** Requests and tokens, without what they cost. */
export type Counts = Pick<Amounts, 'requests' | 'tokens'>

/** The use since the start of each window, of one model or of all. A window that has ended does not count. */
export type Windows = Record<string, { start: number } & Amounts>

/**
 * One user's day with one model. `requests` counts admissions, so the running requests are `requests` minus the exact,
 * estimated, failed and lost ones.
 */
export type Row = {
  requests: number
  exact: number
  estimated: number
  failed: number
  /** Admitted, and not ended within a day. */
  lost: number
  /** Tokens charged: the charges of ended requests, and the reservations of running and lost ones. */
  charged: number
  /** The part of `charged` that is reservations of running requests. */
  reserved: number
  /** The part of `charged` that is reservations of lost requests. */
  lostTokens: number
  prompt: number
  /** The part of `prompt` that upstream had in its cache. */
  cached: number
  completion: number
  /** Tokens that upstream reported beyond the reservations. */
  overReservation: number
  /** What `charged` costs, as far as prices were known. */
  cost: number
  /** The part of `cost` that is reservations of running requests. */
  reservedCost: number
  /** The part of `cost` that is reservations of lost requests. */
  lostCost: number
  /** Ms of audio, as `charged`, `reserved` and `lostTokens` are of tokens. */
  audioMs: number
  reservedAudioMs: number
  lostAudioMs: number
  /** The same of characters that are spoken. */
  characters: number
  reservedCharacters: number
  lostCharacters: number
}

/** A row as it is stored, without the fields that are zero. */
export type ThinRow = Partial<Row>

/** A user's use of one model: today's row, empty if there was no request today, and the windows. */
export type ModelUse = { row: ThinRow; windows: Windows }

/** The permission to charge once. */
export type Lease = {
  model: string
  /** When it was admitted, by the ledger's clock. */
  at: number
  /** The request may be running until then. Afterwards it is shown as lost, unless it settles late. */
  until: number
  reserved: Amounts
  /** The windows that hold the reservation. */
  windows: Record<string, 1>
  /** The maximum of completion tokens that the admission gave, where the sender must write it into the body. */
  maximum?: number
  /** It counts among the callers who are not verified. */
  unverified?: 1
  /** Its reservation is in `held` of everyone's counters. */
  watched?: 1
}

/**
 * That an alert was sent of a limit in a window that began at `start`: at which percentage, and of which amount. By the
 * model (`*` for all), the unit and the window of the limit, with spaces between.
 */
export type Claims = Record<string, { start: number; level: number; limit: number }>

/** What requests write about one user. */
export type UsageDoc = {
  v: number
  id: string
  ip?: string
  /** When this document began: at its first request, or at the first after its loss. */
  since: number
  /** The user's clock. It never goes backwards, and so the user's windows do not either. */
  at: number
  /** When a request of the user last began or ended. */
  seen?: number
  /** What the indexes hold: the time of the last change, and the tokens of that day. */
  indexed: { at: number; tokens: number }
  /** The day of the rows in `models`, of `charged`, `answered`, `sessions` and `reported`. */
  date: string
  /** Tokens: the sum of `charged` of today's rows. */
  charged: number
  /** Today's answered requests. */
  answered: number
  /** Sessions with an answered request today. */
  sessions: Record<string, 1>
  /** Of all models together. */
  windows: Windows
  /** When the last window ends for which the user has a limit, if that is later than its day. */
  limitedUntil?: number
  models: Record<string, ModelUse>
  leases: Record<string, Lease>
  /** The minute of the last report of the user's browser, since the epoch, and the reports in it. */
  syncMinute?: number
  syncs?: number
  /** What the user's browser reports as today's use, per model. It is shown beside the metered use, and is no proof. */
  reported: Record<string, Counts>
  /** What the user's signed token said last. */
  label?: string
  words?: Record<string, 1>
  plan?: string
  /** When each key was last used. */
  keysUsed?: Record<string, number>
  /** What ended requests of each key were charged in the month that began at `start`. */
  keysCharged?: Windows
  /** Alerts that were sent of the user's limits. */
  alerted?: Claims
  /** The ends of keys of which an alert was sent. */
  keysExpiring?: Record<string, number>
}

/** A user's days before the current one. */
export type PastDoc = { v: number; id: string; days: Record<string, Record<string, ThinRow>> }

/** Amounts by the name of a limit; `UNLIMITED` is no limit. */
export type StoredLimits = Record<string, number>

/** Rows of limits by model, `*` for models without a row, and `total` for all models together. */
export type StoredRows = Record<string, StoredLimits>

/** An issued key. Its secret is not here, only the SHA-256 of it. */
export type Key = {
  hash: string
  /** The first and the last characters of the key, for people. */
  start: string
  last4: string
  name?: string
  created: number
  expires?: number
  disabled?: 1
  /** The models that it may call; absent for all. */
  models?: Record<string, 1>
  /** The secret before the last rotation, and until when it is valid. */
  previous?: { hash: string; until: number }
}

export type Block = { at: number; reason?: string | undefined; until?: number | undefined }

/** What admins write about one user. */
export type ProfileDoc = {
  v: number
  id: string
  /** By model, or `*` for all of them. */
  blocks: Record<string, Block>
  label?: string
  /** The words of the label. */
  words?: Record<string, 1>
  note?: string
  plan?: string
  /** The user's own limits. They take the place of those of the plan. */
  limits: StoredRows
  /** What is added to limits until a moment. */
  boost?: Boost
  /** The models that the user may call; absent for all. */
  models?: Record<string, 1>
  keys: Record<string, Key>
  /** Signed tokens that were issued before this moment are refused. */
  notBefore?: number
}

export type Boost = { limits: StoredRows; until: number }

/** A named set of limits. */
export type PlanDoc = {
  v: number
  limits: StoredRows
  /** The models that its users may call; absent for all. */
  models?: Record<string, 1>
  /** The most completion tokens of one request. */
  maxCompletionTokens?: number
  /** The most requests that a user may have running. */
  concurrentRequests?: number
}

/** What admins set for everyone. */
export type SettingsDoc = {
  v: number
  /** The limits of everyone together; absent where those of the environment hold. */
  globalLimits?: StoredRows
  /** The plan of users without a plan; absent for `default`. */
  defaultPlan?: string
  /** The names of all plans that are stored. */
  plans: Record<string, 1>
}

/** Everyone's use of one model, or of all. In the document of all models, `at` is the clock of the ledger. */
export type QuotaDoc = {
  v: number
  at: number
  windows: Windows
  /** What requests that were admitted today reserve and that have not ended. Only where alerts are sent. */
  held?: { start: number } & Amounts
  /** These are in the document of all models. When an alert waits to be delivered. */
  alertsDue?: number
  /** Alerts that were sent of the limits of everyone. */
  alerted?: Claims
  /** When an alert of a type was last sent that is sent once in a while. */
  told?: Record<string, number>
  /** The calls of the provider in the five minutes since `start`, and how many of them failed. */
  calls?: { start: number; count: number; failures: number }
}

export const ALERT_TYPES = [
  'limit.threshold',
  'user.blocked',
  'key.expiring',
  'upstream.errors',
  'upstream.spend_blocked',
  'store.degraded',
  'store.recovered',
  'test',
] as const
type AlertType = (typeof ALERT_TYPES)[number]

/** What an alert tells, by its type. Amounts are those of the unit. */
export type AlertFacts = {
  /** Whose limit. */
  of?: string
  user?: string
  label?: string
  model?: string
  unit?: string
  window?: string
  percent?: number
  limit?: number
  used?: number
  resetAt?: number
  key?: string
  until?: number
  /** The name of an admin. */
  by?: string
  calls?: number
  failures?: number
  /** `ON_STORE_DOWN`. */
  mode?: string
  downMs?: number
}

/** An alert, and how far its delivery is. */
export type Alert = AlertFacts & {
  id: string
  type: AlertType
  at: number
  state: 'pending' | 'delivered' | 'failed'
  attempts: number
  /** When the next attempt is due. */
  due?: number
  /** What the receiver answered last; 0 if it gave no answer. */
  status?: number
  triedAt?: number
}

/** The latest alerts by id. */
export type OutboxDoc = {
  v: number
  alerts: Record<string, Alert>
  /** The receiver that answered 410, by a hash of its address. It gets no more alerts. */
  gone?: string
}

/** How many new users each network has had in a minute, counted since the epoch. Networks are named by hashes. */
export type NewUsersDoc = { v: number; minute: number; networks: Record<string, number> }

/** A day of everyone together, with one model or with all. It counts ended requests only. */
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
  cost: number
  /** Ms of audio and characters; absent if there were none. */
  audioMs?: number
  characters?: number
  /** Users with at least one answered request. */
  users: number
  /** Tokens by UTC hour, "0" to "23". */
  hours: Record<string, number>
  /** When it last changed. */
  at: number
}

/** A day of everyone together with one tag, which callers give their requests: what a feature costs. */
export type TagRow = { requests: number; charged: number; cost: number }

/** One day of everyone together. */
export type DayDoc = {
  v: number
  date: string
  total: DayRow
  /** Sessions with at least one answered request. */
  sessions: number
  models: Record<string, DayRow>
  /** Answered requests that `clear` removed from the day. The quotas still count them. */
  forgotten: number
  /** By tag; further ones than `TAGS_PER_DAY` are `OTHER_TAG`. Absent without any. */
  tags?: Record<string, TagRow>
}

/** How a request ended. A request that never settles is `lost`, and has no event. */
export type Outcome = 'exact' | 'estimated' | 'failed'

/** One request that has ended. On purpose it holds no address and no text. */
export type Event = {
  v: number
  id: string
  at: number
  user: string
  session?: string
  /** The key by which the user was known. */
  key?: string
  /** What the caller says that the request is for. */
  tag?: string
  route: string
  model: string
  outcome: Outcome
  /** The HTTP status the client got. */
  status: number
  /** The code of upstream's error, where it told one. */
  error?: string
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
  /** What was reserved and charged, in digits of nano-USD; absent if the price of the model was not known. */
  reservedCost?: string
  cost?: string
  /** Ms of audio that were reserved and charged; absent if there were none. */
  reservedAudioMs?: number
  audioMs?: number
  /** The same of characters. */
  reservedCharacters?: number
  characters?: number
  ttfbMs?: number
  totalMs: number
  /** The request settled after it had been shown as lost. */
  late?: true
}

/** A request of a known user that was refused. Of one user and code, at most one in a minute is kept. */
export type Refused = {
  v: number
  id: string
  at: number
  user: string
  /** The code of the error, such as `insufficient_quota`. */
  code: string
  model: string
  /** The limit that refused it, and what the request asked for. */
  limit?: {
    of: string
    model: string
    unit: Unit
    window: string
    limit: number
    used: number
    asked: number
  }
}

/** How many requests were refused on a day, by `CODE MODEL`. */
export type RefusalCounts = Record<string, number>

export type AuditAction =
  | 'login'
  | 'failed login'
  | 'logout'
  | 'block'
  | 'unblock'
  | 'erase'
  | 'clear'
  | 'export'
  | 'user'
  | 'reset'
  | 'plan'
  | 'delete plan'
  | 'settings'
  | 'create key'
  | 'change key'
  | 'rotate key'
  | 'delete key'
  | 'make token'
  | 'test alert'

/**
 * An action of an admin. It holds only the first characters of a user's id, because the trail is kept after a user is
 * erased.
 */
export type Audit = {
  v: number
  at: number
  action: AuditAction
  user?: string
  model?: string
  /** What was changed: names of fields, of a plan, or of a key. */
  what?: string
  reason?: string
  until?: number
  /** Absent if several addresses failed to log in. */
  ip?: string
  /** The name of the admin. */
  by?: string
  /** How often logging in failed, within an hour and with no other action in between; absent for once. */
  times?: number
}

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

/** Reads own properties only: names come from users, and `constructor` is a valid model name. */
export const own = <T>(record: Record<string, T>, key: string): T | undefined =>
  Object.hasOwn(record, key) ? record[key] : undefined
