/** The environment → one frozen `Config`; every problem is reported in one message. */
import { LIMITS } from './ledger/policy.ts'
import * as z from 'zod/mini'
import type { Retention } from './store/store.ts'
import type { Cap } from './usage/reservation.ts'
import type { Price } from './usage/cost.ts'
import { MODEL_NAME, isOffered, isScope } from './usage/models.ts'
import type { ModelLimits } from './ledger/policy.ts'
import { ALL_MODELS } from './ledger/shapes.ts'

/** Every variable that is read, in the order of the documentation. */
export const VARIABLES = [
  'GROQ_API_KEY',
  'GROQ_BASE_URL',
  'DEFAULT_MODEL',
  'ADMIN_KEY',
  'USER_HASH_SECRET',
  'KV_REST_API_URL',
  'KV_REST_API_TOKEN',
  'UPSTASH_REDIS_REST_URL',
  'UPSTASH_REDIS_REST_TOKEN',
  'REDIS_URL',
  'USAGE_FILE',
  'MODEL_LIMITS',
  'GLOBAL_LIMITS',
  'ALLOWED_MODELS',
  'CAP',
  'MAX_COMPLETION_TOKENS',
  'MAX_BODY_BYTES',
  'UPSTREAM_TIMEOUT_MS',
  'REQUEST_SECONDS',
  'ALLOWED_ORIGINS',
  'IP_STORAGE',
  'TRUST_PROXY',
  'ON_CLIENT_ABORT',
  'ON_STORE_DOWN',
  'STORE_TIMEOUT_MS',
  'USER_RETENTION_DAYS',
  'STATS_RETENTION_DAYS',
  'HISTORY_RETENTION_DAYS',
  'EVENTS_KEPT',
  'MODEL_PRICES',
  'PORT',
  'LOG_LEVEL',
] as const

export type Variable = (typeof VARIABLES)[number]
export type Vars = Partial<Record<Variable, string | undefined>>

/** Where the app runs: edge isolates have a shorter breath than a server. */
export type Platform = 'edge' | 'node'

export type LogLevel = 'debug' | 'info' | 'warn' | 'error' | 'silent'

/** Where the database is, and by which protocol it is spoken to; TCP is for Node. */
export type Database = { kind: 'rest'; url: string; token: string } | { kind: 'tcp'; url: string }

export type Config = {
  groqKey: string | undefined
  groqUrl: string
  defaultModel: string
  adminKey: string | undefined
  userHashSecret: string | undefined
  redis: Database | undefined
  usageFile: string
  limits: ModelLimits
  globalLimits: ModelLimits | undefined
  /** Globs: `*` stands for any characters. */
  allowedModels: string[]
  cap: Cap
  maxCompletionTokens: number
  maxBodyBytes: number
  /** To the first byte. */
  upstreamTimeoutMs: number
  requestMs: number
  allowedOrigins: string[]
  ipStorage: 'full' | 'truncated' | 'off'
  trustProxy: boolean
  onClientAbort: 'drain' | 'cancel'
  onStoreDown: 'open' | 'closed'
  storeTimeoutMs: number
  retention: Retention
  /** The days that model stats sum up. */
  statsDays: number
  /** By exact name of a model. */
  prices: Record<string, Price>
  port: number
  logLevel: LogLevel
}

/** The environment cannot be used; the message names every variable that is wrong, and no value of a secret. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError'

  constructor(problems: string[]) {
    super(
      `The environment has settings that are wrong:\n${problems.map((problem) => `  - ${problem}`).join('\n')}`,
    )
  }
}

/** What is sent in headers. */
const HEADER_VALUES = [
  'GROQ_API_KEY',
  'ADMIN_KEY',
  'KV_REST_API_TOKEN',
  'UPSTASH_REDIS_REST_TOKEN',
] as const satisfies Variable[]

/** Limits stay far below the amounts whose sums JSON numbers keep exact. */
const MAX_LIMIT = 10_000_000_000_000

const amount = z.int().check(z.nonnegative(), z.maximum(MAX_LIMIT))
const limitRows = z.record(
  z.string().check(z.refine(isScope)),
  // Those of a day have to be there, so that nobody is without one by an oversight.
  z.strictObject({
    tokensPerDay: amount,
    requestsPerDay: amount,
    ...Object.fromEntries(
      LIMITS.filter(({ window }) => window !== 'day').map(({ name }) => [name, z.optional(amount)]),
    ),
  }),
)

/**
 * Erasing a user rewrites all events in one script, and everybody waits for it: 40 to 200 ms with so many, where a
 * call is given 300.
 */
const MAX_EVENTS = 20_000

/** In USD per million tokens: far above any model, and no sum of it is too large for a number. */
const MAX_PRICE = 100_000

const price = z.number().check(z.nonnegative(), z.maximum(MAX_PRICE))
const priceRows = z.record(
  z.string().check(z.regex(MODEL_NAME)),
  z.strictObject({ input: price, cached: z.optional(price), output: price }),
)

/** Reads and checks the environment. Throws `ConfigError`. */
export function readConfig(vars: Vars, platform: Platform): Readonly<Config> {
  const problems: string[] = []
  const edge = platform === 'edge'

  const text = (name: Variable) => vars[name]?.trim() || undefined
  const integer = (name: Variable, fallback: number, [min, max]: [number, number]) => {
    const value = text(name) ?? String(fallback)
    const number = /^\d+$/.test(value) ? Number(value) : NaN
    if (number >= min && number <= max) return number
    problems.push(`${name} must be a whole number from ${min} to ${max}.`)
    return fallback
  }
  const oneOf = <T extends string>(name: Variable, values: readonly [T, ...T[]]): T => {
    const value = text(name) ?? values[0]
    const found = values.find((known) => known === value)
    if (!found) problems.push(`${name} must be one of: ${values.join(', ')}.`)
    return found ?? values[0]
  }
  const list = (name: Variable) =>
    (text(name) ?? '*')
      .split(',')
      .map((item) => item.trim())
      .filter(Boolean)
  const json = <T>(name: Variable, rows: z.ZodMiniType<T>, fallback: string, like: string): T => {
    const read = rows.safeParse(parseJson(text(name) ?? fallback))
    if (read.success) return read.data
    const issue = read.error.issues[0]
    const where = issue?.path.length ? ` (at ${issue.path.join('.')})` : ''
    problems.push(`${name} must be JSON like ${like}${where}.`)
    // One problem is enough to be told of them.
    return rows.parse(JSON.parse(fallback))
  }
  const limits = (name: 'MODEL_LIMITS' | 'GLOBAL_LIMITS', fallback: string): ModelLimits =>
    limitsIn(
      json(
        name,
        limitRows,
        fallback,
        `${fallback}, by exact names of models, with tokensPerDay, requestsPerDay and, if wanted, tokensPerMinute, requestsPerMinute`,
      ),
    )

  const redis = database(text, edge, problems)
  for (const name of HEADER_VALUES) {
    // A line break in it would end up in an error message, the value beside it.
    if (!/^[\x21-\x7e]*$/.test(text(name) ?? '')) {
      problems.push(`${name} must be printable ASCII without blanks.`)
    }
  }
  const adminKey = text('ADMIN_KEY')
  if (adminKey !== undefined && adminKey.length < 16) {
    problems.push('ADMIN_KEY must have at least 16 characters.')
  }
  const groqUrl = text('GROQ_BASE_URL')?.replace(/\/+$/, '') ?? 'https://api.groq.com'
  if (!/^https?:$/.test(parseUrl(groqUrl)?.protocol ?? '') || groqUrl.endsWith('/openai/v1')) {
    problems.push(
      'GROQ_BASE_URL must be an http(s) address without /openai/v1, such as https://api.groq.com.',
    )
  }
  const modelLimits = limits('MODEL_LIMITS', '{"*":{"tokensPerDay":200000,"requestsPerDay":1000}}')
  if (!modelLimits.default) {
    problems.push(
      'MODEL_LIMITS needs a "*" row: the limits of every model that has no row of its own.',
    )
  }
  const globalLimits = limits(
    'GLOBAL_LIMITS',
    '{"total":{"tokensPerDay":2000000,"requestsPerDay":10000}}',
  )
  if (globalLimits.default) {
    problems.push(
      'GLOBAL_LIMITS takes "total" and model names; a "*" row would count every made-up name.',
    )
  }
  const prices = json(
    'MODEL_PRICES',
    priceRows,
    '{}',
    '{"openai/gpt-oss-20b":{"input":0.075,"output":0.3}}, by exact names of models, with input, output and, if wanted, cached ' +
      `in USD per million tokens, each from 0 to ${MAX_PRICE}`,
  )
  const allowedModels = list('ALLOWED_MODELS')
  const named = text('DEFAULT_MODEL')
  if (named && !(MODEL_NAME.test(named) && isOffered(named, allowedModels))) {
    problems.push('DEFAULT_MODEL must be the name of a model that ALLOWED_MODELS has.')
  }
  const allowedOrigins = list('ALLOWED_ORIGINS')
  // What a browser sends is held against them as it is.
  if (
    !allowedOrigins.every((item) => item === '*' || /^[a-z][\w+.-]*:\/\/[^/?#A-Z]+$/.test(item))
  ) {
    problems.push(
      'ALLOWED_ORIGINS must be * or origins such as https://app.example, without a path.',
    )
  }

  const config: Config = {
    groqKey: text('GROQ_API_KEY'),
    groqUrl,
    defaultModel: named ?? 'openai/gpt-oss-20b',
    adminKey,
    userHashSecret: text('USER_HASH_SECRET'),
    redis,
    usageFile: text('USAGE_FILE') ?? 'logs/token_usage.json',
    limits: modelLimits,
    globalLimits:
      globalLimits.total || Object.keys(globalLimits.models).length ? globalLimits : undefined,
    allowedModels,
    cap: oneOf('CAP', ['balanced', 'strict']),
    maxCompletionTokens: integer('MAX_COMPLETION_TOKENS', 2500, [1, 1_000_000]),
    maxBodyBytes: integer('MAX_BODY_BYTES', 4 * 1024 * 1024, [1024, 100 * 1024 * 1024]),
    upstreamTimeoutMs: integer('UPSTREAM_TIMEOUT_MS', edge ? 25_000 : 120_000, [1, 300_000]),
    requestMs: integer('REQUEST_SECONDS', edge ? 280 : 300, [1, 300]) * 1000,
    allowedOrigins,
    ipStorage: oneOf('IP_STORAGE', ['full', 'truncated', 'off']),
    trustProxy: oneOf('TRUST_PROXY', ['off', 'on']) === 'on',
    onClientAbort: oneOf('ON_CLIENT_ABORT', ['drain', 'cancel']),
    onStoreDown: oneOf('ON_STORE_DOWN', ['open', 'closed']),
    storeTimeoutMs: integer('STORE_TIMEOUT_MS', 300, [1, 60_000]),
    retention: {
      userDays: integer('USER_RETENTION_DAYS', 7, [1, 3650]),
      historyDays: integer('HISTORY_RETENTION_DAYS', 90, [2, 3650]),
      eventsKept: integer('EVENTS_KEPT', 10_000, [0, MAX_EVENTS]),
    },
    statsDays: integer('STATS_RETENTION_DAYS', 2, [1, 3650]),
    prices,
    port: integer('PORT', 8787, [0, 65_535]),
    logLevel: oneOf('LOG_LEVEL', ['info', 'debug', 'warn', 'error', 'silent']),
  }
  if (problems.length) throw new ConfigError(problems)
  return Object.freeze(config)
}

const limitsIn = ({
  [ALL_MODELS]: byDefault,
  total,
  ...models
}: z.infer<typeof limitRows>): ModelLimits => ({ default: byDefault, total, models })

type Text = (name: Variable) => string | undefined

/** The database by KV_* or UPSTASH_*, else by REDIS_URL. */
function database(text: Text, edge: boolean, problems: string[]): Database | undefined {
  const pairs = (
    [
      ['KV_REST_API_URL', 'KV_REST_API_TOKEN'],
      ['UPSTASH_REDIS_REST_URL', 'UPSTASH_REDIS_REST_TOKEN'],
    ] as const
  ).flatMap(([urlName, tokenName]) => {
    const [url, token] = [text(urlName)?.replace(/\/+$/, ''), text(tokenName)]
    if (url === undefined && token === undefined) return []
    if (url === undefined || token === undefined) {
      problems.push(`${urlName} and ${tokenName} go together; one of them is missing.`)
      return []
    }
    if (!/^https?:$/.test(parseUrl(url)?.protocol ?? '')) {
      problems.push(`${urlName} must be an https address.`)
      return []
    }
    return [{ kind: 'rest' as const, url, token }]
  })
  const [first, second] = pairs
  if (first && second && (first.url !== second.url || first.token !== second.token)) {
    problems.push('KV_REST_API_* and UPSTASH_REDIS_REST_* name two databases; unset one pair.')
  }
  return first ?? fromRedisUrl(text('REDIS_URL'), edge, problems)
}

/** On *.upstash.io:6379 the REST host is the same and the password is the token; any other host speaks TCP. */
function fromRedisUrl(
  value: string | undefined,
  edge: boolean,
  problems: string[],
): Database | undefined {
  if (value === undefined) return undefined
  const url = parseUrl(value)
  const password = url && decode(url.password)
  const redis = url && /^rediss?:$/.test(url.protocol) && url.hostname && password !== undefined
  if (redis && url.hostname.endsWith('.upstash.io')) {
    if (password && (url.port === '' || url.port === '6379')) {
      return { kind: 'rest', url: `https://${url.hostname}`, token: password }
    }
  } else if (redis && !edge) {
    const numbered = /^(\/\d*)?$/.test(url.pathname)
    if (numbered && decode(url.username) !== undefined) return { kind: 'tcp', url: value }
  }
  problems.push(
    edge
      ? 'REDIS_URL must be an Upstash address (rediss://default:PASSWORD@NAME.upstash.io:6379), ' +
          'since Redis over TCP works only on Node; or set KV_REST_API_URL and KV_REST_API_TOKEN.'
      : 'REDIS_URL must be an address of Redis (redis://HOST:6379/0, or rediss://USER:PASSWORD@HOST:6379/0 ' +
          'with TLS), on upstash.io with a password and port 6379.',
  )
  return undefined
}

function parseUrl(value: string): URL | undefined {
  return URL.canParse(value) ? new URL(value) : undefined
}

function parseJson(value: string): unknown {
  try {
    return JSON.parse(value)
  } catch {
    return undefined
  }
}

function decode(value: string): string | undefined {
  try {
    return decodeURIComponent(value)
  } catch {
    return undefined
  }
}
