/** The environment → one frozen `Config`; every problem is reported in one message. */
import type { Retention } from '../ledger/advance.ts'
import type { ModelLimits } from '../ledger/policy.ts'
import type { LogLevel } from '../log.ts'
import type { Price } from '../ledger/money.ts'
import { isListed } from '../ledger/model-list.ts'
import { MODEL_NAME } from '../metering/models.ts'
import type { Cap } from '../metering/reservation.ts'
import { GROQ_PRICES } from '../providers/groq-prices.ts'
import { adminsOf, type AdminKey } from './admins.ts'
import { receiverOf, type AlertReceiver } from './alerts.ts'
import { databaseOf, type Database } from './database.ts'
import { tokenProblems, type Issuer, type TokenKind } from './tokens.ts'
import { TABLE, type Platform, type Values, type Variable, type Vars } from './variables.ts'

export type { Database } from './database.ts'
export { VARIABLES, type Platform, type Vars } from './variables.ts'

export type Config = {
  groqKey: string | undefined
  groqUrl: string
  /** Where callers find help. */
  helpUrl: string | undefined
  defaultModel: string
  /** Those who may use the admin routes; none if these are off. */
  admins: AdminKey[]
  metricsKey: string | undefined
  /** Where alerts are sent. */
  alerts: AlertReceiver | undefined
  userHashSecret: string | undefined
  /** The kinds of user tokens that are taken. */
  userTokens: TokenKind[]
  /**
   * The part of everyone's limits, in percent, that unverified callers have together if there are other kinds of
   * tokens.
   */
  unverifiedShare: number
  /** The secrets of the application's own signed tokens. The first one signs. */
  tokenSecrets: string[]
  jwtIssuers: Issuer[]
  redis: Database | undefined
  usageFile: string
  limits: ModelLimits
  globalLimits: ModelLimits | undefined
  /** Globs: `*` stands for any characters. */
  allowedModels: string[]
  cap: Cap
  maxCompletionTokens: number
  maxBodyBytes: number
  maxAudioBytes: number
  /** Whether the length of audio is asked for, or estimated where the client does not ask for it. */
  audioMetering: 'exact' | 'estimate'
  /** To the first byte. */
  upstreamTimeoutMs: number
  requestMs: number
  allowedOrigins: string[]
  ipStorage: 'full' | 'truncated' | 'off'
  /** How many proxies in front are trusted. */
  trustProxy: number
  /** Whether the environment says if a proxy is in front of Weir. */
  proxySaid: boolean
  /** The limit for one network; 0 is no limit. */
  newUsersPerMinute: number
  onClientAbort: 'drain' | 'cancel'
  onStoreDown: 'open' | 'closed'
  storeTimeoutMs: number
  retention: Retention
  /** The days that model stats sum up. */
  statsDays: number
  /** By exact name of a model. */
  prices: Record<string, Price>
  /** The address to listen on; all of them without it. */
  host: string | undefined
  port: number
  /** The path that the gateway is below, such as /weir; empty at the root of its site. */
  basePath: string
  /** Whether `/` tells visitors what this is. */
  homePage: boolean
  /** A gateway to try out. */
  demo: boolean
  logLevel: LogLevel
}

/** The environment is invalid. The message names every invalid variable, and contains no secret. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError'

  constructor(problems: string[]) {
    super(
      `The environment has settings that are wrong:\n${problems.map((problem) => `  - ${problem}`).join('\n')}`,
    )
  }
}

/** Reads and checks the environment. Throws `ConfigError`. */
export function readConfig(vars: Vars, platform: Platform): Readonly<Config> {
  const problems: string[] = []
  const text = (name: Variable) => vars[name]?.trim() || undefined

  const entries = TABLE.map(({ name, parse, default: byDefault }) => {
    const ownDefault = typeof byDefault === 'object' ? byDefault[platform] : byDefault
    const given = text(name) ?? ownDefault
    if (given === undefined) return [name, undefined]
    if (/^(["'`]).*\1$/s.test(given)) {
      problems.push(`${name} is in quotes, which are part of the value here; leave them off.`)
      return [name, undefined]
    }
    const parsed = parse(given)
    if ('value' in parsed) return [name, parsed.value]
    problems.push(`${name} ${parsed.problem}`)
    return [name, undefined]
  })
  // If there are no problems, each value has the type of its row.
  const values = Object.fromEntries(entries) as Values

  const redis = databaseOf(vars, platform, problems)
  const model = text('DEFAULT_MODEL')
  if (model && !(MODEL_NAME.test(model) && isListed(model, values.ALLOWED_MODELS))) {
    problems.push('DEFAULT_MODEL must be the name of a model in ALLOWED_MODELS.')
  }
  const { admins, problem } = adminsOf(values.ADMIN_KEY, values.ADMIN_KEYS)
  if (problem !== undefined) problems.push(problem)
  const told = receiverOf(
    values.ALERT_WEBHOOK_URL,
    values.ALERT_FORMAT,
    // A wrong secret is reported as a problem of its own variable.
    values.ALERT_WEBHOOK_SECRET ?? (text('ALERT_WEBHOOK_SECRET') ? [new Uint8Array()] : []),
  )
  if (told.problem !== undefined) problems.push(told.problem)
  problems.push(...tokenProblems(values.USER_TOKENS, (name) => text(name) !== undefined))
  // A token may be wrong both as a variable and as a part of a pair.
  if (problems.length) throw new ConfigError([...new Set(problems)])

  const config: Config = {
    groqKey: values.GROQ_API_KEY,
    groqUrl: values.GROQ_BASE_URL,
    helpUrl: values.HELP_URL,
    defaultModel: values.DEFAULT_MODEL,
    admins,
    metricsKey: values.METRICS_KEY,
    alerts: told.receiver,
    userHashSecret: values.USER_HASH_SECRET,
    userTokens: values.USER_TOKENS,
    unverifiedShare: values.UNVERIFIED_SHARE,
    tokenSecrets: values.USER_TOKEN_SECRETS ?? [],
    jwtIssuers: values.JWT_ISSUERS ?? [],
    redis,
    usageFile: values.USAGE_FILE,
    limits: values.MODEL_LIMITS,
    globalLimits: values.GLOBAL_LIMITS,
    allowedModels: values.ALLOWED_MODELS,
    cap: values.CAP,
    maxCompletionTokens: values.MAX_COMPLETION_TOKENS,
    maxBodyBytes: values.MAX_BODY_BYTES,
    maxAudioBytes: values.MAX_AUDIO_BYTES,
    audioMetering: values.AUDIO_METERING,
    upstreamTimeoutMs: values.UPSTREAM_TIMEOUT_MS,
    requestMs: values.REQUEST_SECONDS * 1000,
    allowedOrigins: values.ALLOWED_ORIGINS,
    ipStorage: values.IP_STORAGE,
    trustProxy: values.TRUST_PROXY ?? 0,
    proxySaid: values.TRUST_PROXY !== undefined,
    newUsersPerMinute: values.NEW_USERS_PER_MINUTE,
    onClientAbort: values.ON_CLIENT_ABORT,
    onStoreDown: values.ON_STORE_DOWN,
    storeTimeoutMs: values.STORE_TIMEOUT_MS,
    retention: {
      userDays: values.USER_RETENTION_DAYS,
      historyDays: values.HISTORY_RETENTION_DAYS,
      eventsKept: values.EVENTS_KEPT,
    },
    statsDays: values.STATS_RETENTION_DAYS,
    prices: {
      ...Object.fromEntries(GROQ_PRICES.flatMap(({ prices }) => Object.entries(prices))),
      ...values.MODEL_PRICES,
    },
    host: values.HOST,
    port: values.PORT,
    basePath: values.BASE_PATH,
    homePage: values.HOME_PAGE === 'on',
    demo: values.DEMO === '1',
    logLevel: values.LOG_LEVEL,
  }
  return Object.freeze(config)
}
