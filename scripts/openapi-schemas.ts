/** The shapes of the API's document: what the routes validate with, what they answer, and what is read of the provider's. */
import * as z from 'zod/mini'
import { CODES, type ErrorCode } from '../src/errors.ts'
import { AUDIT_ID_CHARS, MODELS_PER_USER } from '../src/ledger/commands.ts'
import type { Audit, DayRow, Event } from '../src/ledger/shapes.ts'
import { MAX_MESSAGES } from '../src/proxy/body.ts'
import { MODEL_NAME } from '../src/usage/models.ts'
import { blockBody } from '../src/routes/admin.ts'
import { exportQuery } from '../src/routes/export.ts'
import { MODEL_PATH, simpleForm } from '../src/routes/proxy.ts'
import { syncBody } from '../src/routes/sync.ts'
import { tokensQuery } from '../src/routes/tokens.ts'
import { MOST_USERS, USERS, USER_ID, userQuery } from '../src/routes/user-query.ts'
import type { StoreHealth } from '../src/store/fallback.ts'
import type { HistoryRow, HistoryStats } from '../src/usage/history.ts'
import type { modelStats, syncReport, userReport } from '../src/usage/report.ts'

type Schema = z.core.$ZodType
type Words = {
  id?: string
  description?: string
  type?: 'integer'
  minimum?: number
  maximum?: number
  default?: number
  pattern?: string
  maxProperties?: number
}

/** The names of schemas, and what is said of them and of their fields beyond what they check. */
export const words = z.registry<Words>()

function say<T extends Schema>(schema: T, told: string | Words): T {
  const added = typeof told === 'string' ? { description: told } : told
  words.add(schema, { ...words.get(schema), ...added })
  return schema
}

const sayOf = <S extends Record<string, Schema>>(
  { shape }: { shape: S },
  told: { [field in keyof S]?: string | Words },
): void => {
  for (const [field, schema] of Object.entries(shape)) say(schema, told[field] ?? {})
}

const named = <T extends Schema>(id: string, schema: T, description?: string): T =>
  say(schema, { id, ...(description !== undefined && { description }) })

const count = (description?: string) => {
  const schema = z.int().check(z.nonnegative())
  return description === undefined ? schema : say(schema, description)
}
const time = (description?: string) =>
  say(z.int(), [description, 'Epoch milliseconds.'].filter(Boolean).join(' '))
const left = () =>
  say(z.nullable(count()), 'The least that the limits of the day leave; null where there is none.')
const date = () => say(z.iso.date(), 'A day in UTC.')
const model = () => say(z.string().check(z.regex(MODEL_NAME)), 'The name of a model.')
const userId = () => say(z.string().check(z.regex(USER_ID)), 'A keyed hash of the user token.')

/** The name of a model, or `*` for all of them. */
const ANY_MODEL = MODEL_NAME.source.replace(/^\^(.*)\$$/, String.raw`^(?:\*|$1)$`)

// Errors.

const types = [...new Set(Object.values(CODES).map(([, type]) => type))]

export const errorAnswer = named(
  'Error',
  z.object({
    error: z.object({
      message: say(z.string(), 'What was wrong and what would be right, for people to read.'),
      type: z.enum(types),
      code: z.enum(Object.keys(CODES) as ErrorCode[]),
      param: z.optional(say(z.string(), 'The field or header that was wrong.')),
    }),
  }),
  'The one shape of all errors of the gateway itself.',
)

export const providerError = named(
  'ProviderError',
  z.looseObject({ error: z.looseObject({ message: z.string() }) }),
  'An error of the provider, byte for byte.',
)

// The proxy.

const positive = (description: string) =>
  say(z.optional(z.nullable(z.int().check(z.positive()))), description)
const MAXIMUM = 'The most completion tokens; the reservation is made of it.'
const STREAM = 'Answer with server-sent events.'
const stream = () => say(z.optional(z.nullable(z.boolean())), STREAM)
const list = () => z.array(z.unknown()).check(z.maxLength(MAX_MESSAGES))

named('SimpleForm', simpleForm, 'A prompt, and some of the parameters of the provider.')
sayOf(simpleForm, {
  prompt: 'What the user says.',
  model: { description: 'Without it, the default model.', pattern: MODEL_NAME.source },
  max_tokens: MAXIMUM,
  userToken: 'The user token, where it is in no header.',
})

export const simpleAnswer = named(
  'SimpleAnswer',
  z.object({
    content: z.string(),
    usage: z.optional(
      z.object({ prompt_tokens: count(), completion_tokens: count(), total_tokens: count() }),
    ),
    model: z.string(),
  }),
)

export const chatRequest = named(
  'ChatRequest',
  z.looseObject({
    model: model(),
    messages: list(),
    stream: stream(),
    n: positive('How many choices.'),
    max_completion_tokens: positive(MAXIMUM),
    max_tokens: positive('The same by its older name; the larger of the two counts.'),
  }),
  'What the gateway reads of a chat request; all of it goes to the provider as it is.',
)

export const groqRequest = named('GroqRequest', z.union([simpleForm, chatRequest]))

export const responsesRequest = named(
  'ResponsesRequest',
  z.looseObject({
    model: model(),
    input: z.optional(z.union([z.string(), list()])),
    stream: stream(),
    max_output_tokens: positive(MAXIMUM),
  }),
  'What the gateway reads of a request to the Responses API; all of it goes to the provider as it is.',
)

export const embeddingsRequest = named(
  'EmbeddingsRequest',
  z.looseObject({ model: model(), input: z.union([z.string(), z.array(z.unknown())]) }),
  'What the gateway reads of an embeddings request; all of it goes to the provider as it is.',
)

/** Answers of the provider come byte for byte, so only what clients rely on is told of them. */
const provided = (id: string, fields: Record<string, Schema>) =>
  named(id, z.looseObject(fields), 'An answer of the provider, byte for byte.')

export const chatCompletion = provided('ChatCompletion', {
  model: z.string(),
  choices: z.array(z.looseObject({})),
  usage: z.optional(z.looseObject({})),
})
export const groqAnswer = named('GroqAnswer', z.union([simpleAnswer, chatCompletion]))
export const responseAnswer = provided('Response', {
  model: z.string(),
  output: z.array(z.unknown()),
})
export const embeddings = provided('Embeddings', { data: z.array(z.looseObject({})) })
export const modelAnswer = provided('Model', { id: z.string() })
export const modelsAnswer = provided('Models', { data: z.array(modelAnswer) })
export const events = named(
  'ServerSentEvents',
  z.string(),
  'The events of the provider as they come, byte for byte, `data: [DONE]` included.',
)

/** As it is matched decoded; in a path it stands encoded. */
export const modelPath = z.object({
  id: say(
    z.string().check(z.regex(MODEL_PATH)),
    'The name of a model, without `..`; a slash in it may be written `%2F`.',
  ),
})

/** A file of lines. */
export const text = z.string()

// The browser's report.

named('SyncReport', syncBody, 'What a browser has counted of its own use.')
sayOf(syncBody, {
  userToken: 'The user token, where it is in no header.',
  ipAddress: 'Not believed, and not stored.',
  modelUsage: {
    description: `By model, at most ${MODELS_PER_USER}: what was used in the window that ends at \`resetAt\`, epoch milliseconds.`,
    maxProperties: MODELS_PER_USER,
  },
})

type SyncAnswer = { success: true } & ReturnType<typeof syncReport>
const syncAnswer: z.ZodMiniType<SyncAnswer> = z.object({
  success: z.literal(true),
  usage: say(
    z.record(
      z.string(),
      z.object({
        tokensUsedDay: count(),
        tokensRemainingDay: left(),
        requestsDay: count(),
        resetAt: time(),
      }),
    ),
    'By model, as the gateway has metered it.',
  ),
  blocked: z.array(
    z.object({
      model: say(z.string(), 'The name of a model, or `*` for all.'),
      reason: z.nullable(z.string()),
      until: z.nullable(time()),
    }),
  ),
})
export const synced = named('SyncAnswer', syncAnswer)

// The admin.

export const login = named('Login', z.object({ key: say(z.string(), 'The admin key.') }))
export const loggedIn = named('LoggedIn', z.object({ success: z.literal(true), expiresAt: time() }))
export const session = named(
  'Session',
  z.object({ authenticated: z.boolean(), expiresAt: z.optional(time()) }),
)
export const success = named('Success', z.object({ success: z.literal(true) }))
export const erased = named(
  'Erased',
  z.object({
    success: z.literal(true),
    found: say(z.boolean(), 'Whether anything was kept of that user.'),
  }),
)

named('Block', blockBody, 'A block, or with `blocked: false` the end of one.')
sayOf(blockBody, {
  userId: 'As it is in the list of users.',
  model: { description: 'The name of a model, or `*` for all.', pattern: ANY_MODEL },
  reason: 'Told to the user.',
  until: 'In the future: ISO 8601 with an offset, or epoch milliseconds. Without it, for good.',
})
export { blockBody, exportQuery, simpleForm, syncBody, userQuery }

sayOf(userQuery, {
  sort: 'The last active first, or those with the most tokens today.',
  // In a URL it is text.
  limit: {
    description: 'How many users.',
    type: 'integer',
    minimum: 1,
    maximum: MOST_USERS,
    default: USERS,
  },
  cursor: 'The `nextCursor` of an answer of the same `sort`.',
  q: 'The id of the only user that is wanted.',
})
sayOf(exportQuery, {
  kind: 'What to export. Of users those of today, the least recently active first.',
  format: 'Columns for a spreadsheet, or a JSON object a line.',
})

export const userPath = z.object({ userId: userId() })

const userUsage: z.ZodMiniType<ReturnType<typeof userReport>> = z.object({
  userId: userId(),
  ipAddress: say(z.nullable(z.string()), 'As `IP_STORAGE` wants it kept.'),
  lastActive: say(
    z.nullable(time()),
    'When a request last began or ended; null of a user who has never called.',
  ),
  models: z.array(
    z.object({
      model: say(z.string(), 'The name of a model, or `*` for a block or limit of all together.'),
      tokensUsedDay: count('Charged today: real charges, and reservations of what has not ended.'),
      tokensRemainingDay: left(),
      requestsDay: count(),
      exact: count('Requests that ended with a usage report.'),
      estimated: count(
        'Requests that were answered without one or cut, so that their charge is estimated.',
      ),
      failed: count('Requests that the provider refused or did not answer.'),
      running: count('Requests that have been admitted and have not ended.'),
      lost: count('Requests that can no longer be running and have not ended.'),
      reservedTokens: count(
        'Reservations of requests that have not ended, part of `tokensUsedDay`.',
      ),
      overReservation: count('Tokens that the provider reported beyond the reservations.'),
      reportedTokensDay: say(z.nullable(count()), 'What the browser of the user says.'),
      reportedRequestsDay: z.nullable(count()),
      blocked: z.boolean(),
      blockReason: z.nullable(z.string()),
      blockedUntil: z.nullable(time()),
    }),
  ),
})

const stats: z.ZodMiniType<ReturnType<typeof modelStats>[number]> = z.object({
  model: z.string(),
  tokensUsedDay: count(),
  tokensRemainingDay: say(z.nullable(count()), 'Of `GLOBAL_LIMITS`.'),
  requestsDay: count(),
  totalTokensUsed: count('Over the days of `STATS_RETENTION_DAYS`.'),
  totalRequests: count(),
  activeUsers: count('Users with an answer today.'),
  lastUpdated: time(),
})

const day: z.ZodMiniType<DayRow & { date: string }> = z.object({
  date: date(),
  requests: count('Requests that have ended.'),
  exact: count(),
  estimated: count(),
  failed: count(),
  charged: count(),
  prompt: count(),
  cached: count('Part of `prompt`.'),
  completion: count(),
  overReservation: count(),
  users: count('Users with an answer.'),
  hours: say(z.record(z.string(), count()), 'Tokens by hour in UTC, 0 to 23.'),
  at: time('When it last changed.'),
})

const event: z.ZodMiniType<Event> = z.object({
  v: count('The version of its shape.'),
  id: say(z.uuid(), 'The `x-weir-id` of the answer.'),
  at: time(),
  user: userId(),
  session: z.optional(z.string()),
  route: z.string(),
  model: z.string(),
  outcome: z.enum(['exact', 'estimated', 'failed']),
  status: say(z.int(), 'The HTTP status that the client got.'),
  prompt: z.optional(count()),
  completion: z.optional(count()),
  total: z.optional(count()),
  cached: z.optional(count()),
  reasoning: z.optional(count()),
  mismatch: z.optional(
    say(z.literal(true), 'The total of the provider was not prompt and completion.'),
  ),
  reserved: count('Tokens charged in advance.'),
  charged: count('Tokens: what the provider reported, or an estimate.'),
  ttfbMs: z.optional(count('To the first byte of the provider.')),
  totalMs: count(),
  late: z.optional(z.literal(true)),
})

const audit: z.ZodMiniType<Audit> = z.object({
  v: count('The version of its shape.'),
  at: time(),
  action: z.enum(['login', 'logout', 'block', 'unblock', 'erase', 'clear', 'export']),
  user: z.optional(say(z.string(), `The first ${AUDIT_ID_CHARS} characters of a user id.`)),
  model: z.optional(z.string()),
  reason: z.optional(z.string()),
  until: z.optional(time()),
  ip: z.optional(z.string()),
})

const health = {
  degraded: say(z.boolean(), 'The database is away, and the gateway does without it.'),
  queued: count('Events that wait for the database.'),
} satisfies Record<keyof StoreHealth, Schema>

export const usageAnswer = named(
  'Usage',
  z.object({
    users: z.array(named('UserUsage', userUsage)),
    stats: z.array(named('ModelStats', stats)),
    days: say(z.array(named('Day', day)), 'Those of `STATS_RETENTION_DAYS` with any use.'),
    quotas: say(
      z.record(z.string(), z.object({ tokens: count(), requests: count() })),
      'What `GLOBAL_LIMITS` are held against today, by model and `*`: with the reservations of what is running.',
    ),
    events: say(z.array(named('Event', event)), 'The newest first.'),
    audit: say(z.array(named('Audit', audit)), 'What admins did, the newest first.'),
    nextCursor: say(z.nullable(z.string()), 'The `cursor` of the next page, if there is one.'),
    ...health,
    timestamp: time(),
  }),
)

// The history.

/** How far back it goes is for each gateway to say, so none is told here. */
export const historyQuery = tokensQuery(Number.MAX_SAFE_INTEGER)
sayOf(historyQuery, {
  action: 'Which parts to answer with.',
  days: {
    description:
      'How many days of `history`: at most, and without it, `HISTORY_RETENTION_DAYS` of the gateway.',
    type: 'integer',
    minimum: 1,
  },
})

const historyRow: z.ZodMiniType<HistoryRow> = z.object({
  date: date(),
  totalTokens: count(),
  completionTokens: count(),
  promptTokens: count(),
  requestCount: count(),
  uniqueUsers: count(),
  uniqueSessions: count(),
})
named('HistoryRow', historyRow)

const historyStats: z.ZodMiniType<HistoryStats> = z.object({
  totalTokensAllTime: count('Of all days that are kept.'),
  totalRequests: count(),
  avgTokensPerRequest: z.number(),
  mostActiveDate: z.nullable(date()),
  daysTracked: count('Days with any use.'),
})

const STORAGE = z.enum(['database', 'file', 'none'])

export const historyAnswer = named(
  'History',
  z.object({
    todayUsage: say(z.optional(historyRow), 'With `action` all and today.'),
    history: say(
      z.optional(z.array(historyRow)),
      'With `action` all and history: days with any use, the newest first.',
    ),
    stats: say(z.optional(named('HistoryStats', historyStats)), 'With `action` all and stats.'),
    environment: say(
      z.optional(z.object({ isVercel: z.boolean(), storageType: STORAGE })),
      'With `action` all.',
    ),
    timestamp: time(),
  }),
)

export const healthAnswer = named(
  'Health',
  z.object({
    database: z.object({
      connected: say(z.nullable(z.boolean()), 'Null: the first check is under way.'),
      latencyMs: z.nullable(z.number()),
    }),
    checkedAt: time('When the database was tried; it is at most every ten seconds.'),
    ...health,
    storageType: STORAGE,
    environment: z.object({
      platform: z.enum(['vercel', 'workerd', 'node']),
      isVercel: z.boolean(),
    }),
    version: z.string(),
    timestamp: time(),
  }),
)
