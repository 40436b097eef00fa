/**
 * The schemas in the OpenAPI document: the requests, as the routes validate them, the answers, and the fields that
 * are read from the provider's answers.
 */
import * as z from 'zod/mini'
import { TOKEN_KINDS, type TokenKind } from '../src/config/tokens.ts'
import { CODES, type ErrorCode } from '../src/errors.ts'
import { AUDIT_ID_CHARS, MODELS_PER_USER } from '../src/ledger/capacity.ts'
import { UNITS } from '../src/ledger/units.ts'
import type { Audit, Event } from '../src/ledger/events.ts'
import { MAX_MESSAGES } from '../src/gateway/body.ts'
import { MODEL_NAME } from '../src/metering/models.ts'
import { blockBody, tokenBody } from '../src/routes/admin-schemas.ts'
import { exportQuery } from '../src/routes/export-schemas.ts'
import { MODEL_PATH } from '../src/providers/groq.ts'
import { simpleForm } from '../src/routes/simple-form-schemas.ts'
import { syncBody } from '../src/routes/sync-schemas.ts'
import { tokensQuery } from '../src/routes/tokens-schemas.ts'
import { USER_ID, userQuery } from '../src/routes/user-query.ts'
import type { StoreHealth } from '../src/store/fallback/store.ts'
import type { HistoryRow, HistoryStats } from '../src/reports/history.ts'
import type { RefusalLine, refusedReport } from '../src/reports/refusals.ts'
import type { TagStats } from '../src/reports/tags.ts'
import type { daysReport, modelStats, syncReport, userReport } from '../src/reports/usage.ts'

type Schema = z.core.$ZodType
type Words = {
  id?: string
  description?: string
  pattern?: string
  maxProperties?: number
}

/** The names of schemas, and descriptions of schemas and fields. */
export const words = z.registry<Words>()

export function say<T extends Schema>(schema: T, told: string | Words): T {
  const added = typeof told === 'string' ? { description: told } : told
  words.add(schema, { ...words.get(schema), ...added })
  return schema
}

export const sayOf = <S extends Record<string, Schema>>(
  { shape }: { shape: S },
  told: { [field in keyof S]?: string | Words },
): void => {
  for (const [field, schema] of Object.entries(shape)) say(schema, told[field] ?? {})
}

export const named = <T extends Schema>(id: string, schema: T, description?: string): T =>
  say(schema, { id, ...(description !== undefined && { description }) })

export const count = (description?: string) => {
  const schema = z.int().check(z.nonnegative())
  return description === undefined ? schema : say(schema, description)
}
/** A whole number, or dollars. */
export const amount = (description?: string) => {
  const schema = z.number().check(z.nonnegative())
  return description === undefined ? schema : say(schema, description)
}
/** Dollars with at most nine decimals; null if tokens were charged and no price was known. */
export const dollars = (description: string) => say(z.nullable(amount()), description)
export const time = (description?: string) =>
  say(z.int(), [description, 'Epoch milliseconds.'].filter(Boolean).join(' '))
const left = () =>
  say(z.nullable(count()), 'Tokens left under the tightest limit of the day; null without a limit.')
const date = () => say(z.iso.date(), 'A day in UTC.')
const model = () => say(z.string().check(z.regex(MODEL_NAME)), 'The name of a model.')
export const userId = () =>
  say(
    z.string().check(z.regex(USER_ID)),
    'A keyed hash of the user token, or of the name of the user that it proves.',
  )

/** The name of a model, or `*` for all of them. */
const ANY_MODEL = MODEL_NAME.source.replace(/^\^(.*)\$$/, String.raw`^(?:\*|$1)$`)

// Errors.

const types = [...new Set(Object.values(CODES).map(([, type]) => type))]

export const errorAnswer = named(
  'Error',
  z.object({
    error: z.object({
      message: say(z.string(), 'What is wrong and how to correct it, for people to read.'),
      type: z.enum(types),
      code: z.enum(Object.keys(CODES) as ErrorCode[]),
      param: z.optional(say(z.string(), 'The wrong field or header.')),
      id: say(z.string(), 'The id of the request, as in `x-weir-id`.'),
      help: z.optional(say(z.string(), 'Where callers find help, as in `HELP_URL`.')),
    }),
  }),
  'The form of all errors of the gateway.',
)

export const providerError = named(
  'ProviderError',
  z.looseObject({ error: z.looseObject({ message: z.string() }) }),
  'An error of the provider, byte for byte.',
)

// The proxy.

const positive = (description: string) =>
  say(z.optional(z.nullable(z.int().check(z.positive()))), description)
const MAXIMUM = 'The completion maximum. It is part of the reservation.'
const STREAM = 'Answer with server-sent events.'
const stream = () => say(z.optional(z.nullable(z.boolean())), STREAM)
const list = () => z.array(z.unknown()).check(z.maxLength(MAX_MESSAGES))

named('SimpleForm', simpleForm, 'A prompt, and some of the parameters of the provider.')
sayOf(simpleForm, {
  prompt: 'What the user says.',
  model: {
    description: 'If it is missing, the default model is used.',
    pattern: MODEL_NAME.source,
  },
  max_tokens: MAXIMUM,
  userToken: 'The user token, if no header has it.',
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
    max_tokens: positive(
      'The older name of the same field. If both are set, the larger one counts.',
    ),
  }),
  'The fields of a chat request that the gateway reads. The provider gets the whole body unchanged.',
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
  'The fields of a Responses request that the gateway reads. The provider gets the whole body unchanged.',
)

export const embeddingsRequest = named(
  'EmbeddingsRequest',
  z.looseObject({ model: model(), input: z.union([z.string(), z.array(z.unknown())]) }),
  'The fields of an embeddings request that the gateway reads. The provider gets the whole body unchanged.',
)

export const uploadRequest = named(
  'AudioUpload',
  z.looseObject({
    file: say(z.string(), 'The audio, under a file name with the extension of its format.'),
    model: model(),
    response_format: z.optional(
      say(
        z.string(),
        'Where it is `json`, `text` or left out, the provider is asked for `verbose_json`, and the answer is put in the form that was asked for.',
      ),
    ),
  }),
  'The fields of an upload that the gateway reads. The provider gets the whole body unchanged, but for `response_format`.',
)

export const speechRequest = named(
  'SpeechRequest',
  z.looseObject({
    model: model(),
    input: say(z.string().check(z.minLength(1)), 'The text to speak.'),
  }),
  'The fields of a speech request that the gateway reads. The provider gets the whole body unchanged.',
)

/** The provider's answers are passed on unchanged, so only the fields that clients rely on are described. */
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
export const transcription = provided('Transcription', { text: z.string() })
export const modelAnswer = provided('Model', { id: z.string() })
export const modelsAnswer = provided('Models', { data: z.array(modelAnswer) })
export const events = named(
  'ServerSentEvents',
  z.string(),
  'The events of the provider, byte for byte, including `data: [DONE]`.',
)

/** The decoded name is validated; in a path it is encoded. */
export const modelPath = z.object({
  id: say(
    z.string().check(z.regex(MODEL_PATH)),
    'The name of a model, without `..`; a slash in it may be written `%2F`.',
  ),
})

/** A file of lines. */
export const text = z.string()

// The browser's report.

named('SyncReport', syncBody, 'The counts of a browser.')
sayOf(syncBody, {
  userToken: 'The user token, if no header has it.',
  ipAddress: 'Ignored and not stored.',
  modelUsage: {
    description: `By model, at most ${MODELS_PER_USER}: the usage in the window that ends at \`resetAt\`, epoch milliseconds.`,
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
        tokensUsedDay: count('Without what running requests reserve.'),
        tokensReservedDay: count('What running requests reserve. The usage of each replaces it.'),
        tokensRemainingDay: left(),
        requestsDay: count('With running requests.'),
        resetAt: time(),
      }),
    ),
    'Usage by model, metered by the gateway.',
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
  z.object({
    authenticated: z.boolean(),
    expiresAt: z.optional(time()),
    name: z.optional(say(z.string(), 'The name of the admin.')),
    role: z.optional(z.enum(['admin', 'viewer'])),
  }),
)
export const success = named('Success', z.object({ success: z.literal(true) }))
export const erased = named(
  'Erased',
  z.object({
    success: z.literal(true),
    found: say(z.boolean(), 'Whether any data of that user was stored.'),
  }),
)

named('Block', blockBody, 'Blocks a user; with `blocked: false` unblocks them.')
sayOf(blockBody, {
  userId: 'The id in the list of users.',
  model: { description: 'The name of a model, or `*` for all.', pattern: ANY_MODEL },
  reason: 'Told to the user.',
  until:
    'In the future: ISO 8601 with an offset, or epoch milliseconds. Without it, the block has no end.',
})

named('TokenOfUser', tokenBody, 'Whose token to make.')
sayOf(tokenBody, {
  user: 'The application’s own name of the user.',
  plan: 'The plan of the user.',
  label: 'What admins see as the user’s name.',
  expires_in: 'Seconds until the token ends.',
})

export const tokenAnswer = named(
  'Token',
  z.object({
    token: say(z.string(), 'A user token. Nothing else ever has it.'),
    userId: userId(),
    expiresAt: time(),
  }),
)
export { blockBody, exportQuery, simpleForm, syncBody, tokenBody, userQuery }

sayOf(userQuery, {
  sort: 'By last activity, or by tokens today, the largest first.',
  limit: 'How many users.',
  cursor: 'The `nextCursor` of an answer of the same `sort`.',
  q: 'The id of a user; only this user is returned.',
  tag: 'Only events with this tag, among the latest 1,000.',
})
sayOf(exportQuery, {
  kind: 'What to export. Users are exported with today’s counts, the least recently active first.',
  from: 'The first day in UTC. Without it, the first day that is kept.',
  to: 'The last day in UTC. Without it, today.',
  group:
    'Makes an invoice: sums of the days, of `kind=users` by user, by user and day or by user and model, of `kind=days` by day, by model or by tag.',
  tag: 'Only events with this tag.',
  format: 'Columns for a spreadsheet, or a JSON object a line.',
})

const userUsage: z.ZodMiniType<ReturnType<typeof userReport>> = z.object({
  userId: userId(),
  label: say(z.nullable(z.string()), 'The name that an admin or a signed token gave the user.'),
  plan: say(z.string(), 'The plan of the user.'),
  ipAddress: say(z.nullable(z.string()), 'Stored as `IP_STORAGE` says.'),
  lastActive: say(z.nullable(time()), 'When a request last began or ended; null if none ever did.'),
  monthCostUsd: dollars(
    'Dollars charged in this month, UTC, without what running requests reserve; null if no price was known.',
  ),
  models: z.array(
    z.object({
      model: say(
        z.string(),
        'The name of a model, or `*` for a block or limit of all models together.',
      ),
      tokensUsedDay: count(
        'Tokens charged today, including the reservations of requests that have not ended.',
      ),
      tokensRemainingDay: left(),
      requestsDay: count(),
      exact: count('Requests that ended with a usage report.'),
      estimated: count(
        'Requests without a usage report or with a cut answer; their charge is estimated.',
      ),
      failed: count('Requests that the provider refused or did not answer.'),
      running: count('Admitted requests that have not ended.'),
      lost: count('Requests that did not end within their time limit.'),
      reservedTokens: count(
        'Reservations of requests that have not ended, part of `tokensUsedDay`.',
      ),
      overReservation: count('Tokens that the provider reported beyond the reservations.'),
      audioSecondsDay: say(z.number(), 'Seconds of audio charged today, reservations included.'),
      charactersDay: count('Characters charged today that were spoken, reservations included.'),
      costUsd: dollars(
        'Dollars charged today, as recorded when they were charged, without what running requests reserve; null if no price was known.',
      ),
      reportedTokensDay: say(z.nullable(count()), 'Reported by the user’s browser.'),
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
  tokensRemainingDay: say(z.nullable(count()), 'Tokens left under `GLOBAL_LIMITS`.'),
  requestsDay: count(),
  totalTokensUsed: count('Over the days of `STATS_RETENTION_DAYS`.'),
  totalRequests: count(),
  activeUsers: count('Users with an answer today.'),
  audioSecondsDay: say(z.number(), 'Seconds of audio charged today.'),
  charactersDay: count('Characters charged today that were spoken.'),
  costUsd: dollars('Dollars charged today; null if no price was known.'),
  totalCostUsd: dollars('Dollars charged over the days of `STATS_RETENTION_DAYS`.'),
  lastUpdated: time(),
})

const day: z.ZodMiniType<ReturnType<typeof daysReport>[number]> = z.object({
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
  costUsd: dollars('What `charged` cost, in dollars; null if no price was known.'),
  audioSeconds: say(z.number(), 'Seconds of audio that were transcribed.'),
  characters: count('Characters that were spoken.'),
  users: count('Users with an answer.'),
  hours: say(z.record(z.string(), count()), 'Tokens by hour in UTC, 0 to 23.'),
  at: time('When the day last changed.'),
})

const nano = (description: string) =>
  say(z.string().check(z.regex(/^\d+$/)), `${description} Billionths of a dollar, as digits.`)

const event: z.ZodMiniType<Event> = z.object({
  v: count('The version of this document.'),
  id: say(z.uuid(), 'The `x-weir-id` of the answer.'),
  at: time(),
  user: userId(),
  tag: say(z.optional(z.string()), 'The `x-weir-tag` of the request.'),
  session: z.optional(z.string()),
  key: z.optional(
    say(z.string(), 'The key by which the user was known: its own id, without that of the user.'),
  ),
  route: z.string(),
  model: z.string(),
  outcome: z.enum(['exact', 'estimated', 'failed']),
  status: say(z.int(), 'The HTTP status that the client got.'),
  prompt: z.optional(count()),
  completion: z.optional(count()),
  total: z.optional(count()),
  cached: z.optional(count()),
  reasoning: z.optional(count()),
  error: z.optional(say(z.string(), 'The code of the provider’s error, where it told one.')),
  mismatch: z.optional(
    say(z.literal(true), 'The total of the provider was not prompt + completion.'),
  ),
  reserved: count('Tokens charged in advance.'),
  charged: count('Tokens: what the provider reported, or an estimate.'),
  reservedCost: z.optional(nano('What `reserved` costs.')),
  cost: z.optional(nano('What `charged` cost; absent if no price was known.')),
  reservedAudioMs: z.optional(count('Milliseconds of audio that were reserved.')),
  audioMs: z.optional(count('Milliseconds of audio that were charged.')),
  reservedCharacters: z.optional(count('Characters that were reserved.')),
  characters: z.optional(count('Characters that were charged.')),
  ttfbMs: z.optional(count('To the first byte of the provider.')),
  totalMs: count(),
  late: z.optional(z.literal(true)),
})

const audit: z.ZodMiniType<Audit> = z.object({
  v: count('The version of this document.'),
  at: time(),
  action: z.enum([
    'login',
    'failed login',
    'logout',
    'block',
    'unblock',
    'erase',
    'clear',
    'export',
    'user',
    'reset',
    'plan',
    'delete plan',
    'settings',
    'create key',
    'change key',
    'rotate key',
    'delete key',
    'make token',
    'test alert',
  ]),
  user: z.optional(say(z.string(), `The first ${AUDIT_ID_CHARS} characters of a user id.`)),
  model: z.optional(z.string()),
  what: z.optional(
    say(z.string(), 'What was changed: names of fields, of a plan, of a window, or of a key.'),
  ),
  reason: z.optional(z.string()),
  until: z.optional(time()),
  ip: z.optional(z.string()),
  by: z.optional(say(z.string(), 'The name of the admin.')),
  times: z.optional(count('Failed logins in a row, within an hour.')),
})

const health = {
  degraded: say(z.boolean(), 'The database is down, and the gateway works without it.'),
  queued: count('Events that wait for the database.'),
  reason: z.optional(say(z.string(), 'Why the database cannot be used, in its own words.')),
  evicts: z.optional(
    say(z.string(), 'The `maxmemory-policy` by which the database may remove counts and blocks.'),
  ),
  stopping: z.optional(say(z.literal(true), 'The instance is about to end.')),
} satisfies Record<keyof StoreHealth, Schema>

const refusedLine: z.ZodMiniType<ReturnType<typeof refusedReport>> = z.object({
  id: say(z.uuid(), 'The `x-weir-id` of the answer.'),
  at: time(),
  user: userId(),
  code: say(z.string(), 'The code of the error.'),
  model: z.string(),
  limit: z.optional(
    say(
      z.object({
        of: say(z.string(), '`user`, `everyone` or `unverified`.'),
        model: say(z.string(), 'The name of a model, or `*` for all of them together.'),
        unit: z.enum(UNITS),
        window: z.string(),
        limit: amount('Dollars where the unit is usd.'),
        used: amount('With what running requests reserve.'),
        asked: amount(),
      }),
      'The limit that refused the request.',
    ),
  ),
})

const refusalCount: z.ZodMiniType<RefusalLine> = z.object({
  date: date(),
  code: say(z.string(), 'The code of the error.'),
  model: say(z.string(), 'The name of a model; `?` for one that nobody has used, or none.'),
  count: count(),
})

const tagStat: z.ZodMiniType<TagStats> = z.object({
  tag: z.string(),
  requestsDay: count(),
  tokensUsedDay: count(),
  costUsd: amount('Dollars, of models with a price.'),
  totalRequests: count(),
  totalTokensUsed: count(),
  totalCostUsd: amount(),
})
export const usageAnswer = named(
  'Usage',
  z.object({
    users: z.array(named('UserUsage', userUsage)),
    stats: z.array(named('ModelStats', stats)),
    days: say(z.array(named('Day', day)), 'The days of `STATS_RETENTION_DAYS` with usage.'),
    quotas: say(
      z.record(
        z.string(),
        z.object({
          tokens: count(),
          requests: count(),
          usd: amount('Dollars.'),
          audioSeconds: z.optional(amount('Seconds of audio.')),
          characters: z.optional(count('Characters that were spoken.')),
        }),
      ),
      'Today’s use of `GLOBAL_LIMITS` by model, and `*` for all, including the reservations of running requests.',
    ),
    tags: say(
      z.array(named('TagStats', tagStat)),
      'What requests with each `x-weir-tag` used and cost, over the same days.',
    ),
    events: say(z.array(named('Event', event)), 'The newest first.'),
    audit: say(z.array(named('Audit', audit)), 'Actions of admins, the newest first.'),
    refusals: say(
      z.array(named('RefusalCount', refusalCount)),
      'How many requests were refused on the days of `STATS_RETENTION_DAYS`, as well as it is known.',
    ),
    refused: say(
      z.array(named('RefusedRequest', refusedLine)),
      'The latest refused requests of users who have called before, at most one of a user, code and minute.',
    ),
    nextCursor: say(z.nullable(z.string()), 'The `cursor` of the next page, if there is one.'),
    ...health,
    timestamp: time(),
  }),
)

// The history.

/** Each gateway configures how far back the history goes, so the document states no maximum. */
export const historyQuery = tokensQuery(Number.MAX_SAFE_INTEGER)
sayOf(historyQuery, {
  action: 'The parts to return.',
  days: 'How many days of `history`. The default and the maximum are `HISTORY_RETENTION_DAYS`.',
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
  totalTokensAllTime: count('Of all stored days.'),
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
      'With `action` all and history: days with usage, the newest first.',
    ),
    stats: say(z.optional(named('HistoryStats', historyStats)), 'With `action` all and stats.'),
    environment: say(
      z.optional(z.object({ isVercel: z.boolean(), storageType: STORAGE })),
      'With `action` all.',
    ),
    timestamp: time(),
  }),
)

export const servesAnswer = z.object({ status: z.literal('ok') })

export const healthAnswer = named(
  'Health',
  z.object({
    database: z.object({
      connected: say(z.nullable(z.boolean()), 'Null until the first check ends.'),
      latencyMs: z.nullable(z.number()),
      reason: health.reason,
    }),
    checkedAt: time('When the database was checked, at most every ten seconds.'),
    degraded: health.degraded,
    queued: health.queued,
    evicts: health.evicts,
    stopping: health.stopping,
    storageType: STORAGE,
    userTokens: z.object({
      kinds: say(z.array(z.enum(Object.keys(TOKEN_KINDS) as TokenKind[])), '`USER_TOKENS`.'),
      notes: say(z.array(z.string()), 'What that means, for people to read.'),
      warnings: say(z.array(z.string()), 'What is risky about it.'),
    }),
    environment: z.object({
      platform: z.enum(['vercel', 'workerd', 'node']),
      isVercel: z.boolean(),
    }),
    version: z.string(),
    timestamp: time(),
  }),
)
