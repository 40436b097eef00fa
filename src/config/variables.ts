/** The table of the variables: how the text of each is read, and its default. Its column `doc` is variable-docs.ts. */
import { DEFAULT_MODEL, GROQ_URL } from '../providers/groq.ts'
import { adminKeys } from './admins.ts'
import { ALERT_FORMATS, alertSecrets, alertUrl } from './alerts.ts'
import { GLOBAL_LIMITS, MODEL_LIMITS, globalLimits, modelLimits, modelPrices } from './limits.ts'
import {
  adminKey,
  anyText,
  headerValue,
  hops,
  host,
  list,
  oneOf,
  origins,
  pageUrl,
  path,
  providerUrl,
  wholeNumber,
  type Parse,
} from './parse.ts'
import { jwtIssuers, tokenKinds, tokenSecrets } from './tokens.ts'

/** Where the app runs. An edge isolate may work for a shorter time than a server. */
export type Platform = 'edge' | 'node'

/** The text that is used if a variable is not set; `undefined` if there is none. */
export type Default = string | Record<Platform, string> | undefined

export type Definition = {
  name: string
  parse: Parse<unknown>
  default: Default
}

/**
 * The erasure of a user rewrites all events in one script, and all requests wait for it. With this many events it
 * takes 40 to 200 ms; the time-out of a call is 300 ms.
 */
const MAX_EVENTS = 20_000

/** Where usage is kept without a database, unless the environment says otherwise. */
export const USAGE_FILE = 'logs/token_usage.json'

/** In the order of the documentation; `npx tsx scripts/env-example.ts` writes .env.example from it. */
export const TABLE = [
  { name: 'GROQ_API_KEY', parse: headerValue, default: undefined },
  { name: 'GROQ_BASE_URL', parse: providerUrl, default: GROQ_URL },
  { name: 'DEFAULT_MODEL', parse: anyText, default: DEFAULT_MODEL },
  { name: 'ADMIN_KEY', parse: adminKey, default: undefined },
  { name: 'ADMIN_KEYS', parse: adminKeys, default: undefined },
  { name: 'METRICS_KEY', parse: adminKey, default: undefined },
  { name: 'ALERT_WEBHOOK_URL', parse: alertUrl, default: undefined },
  { name: 'ALERT_WEBHOOK_SECRET', parse: alertSecrets, default: undefined },
  { name: 'ALERT_FORMAT', parse: oneOf(...ALERT_FORMATS), default: 'standard' },
  { name: 'USER_HASH_SECRET', parse: anyText, default: undefined },
  { name: 'USER_TOKENS', parse: tokenKinds, default: 'any' },
  { name: 'USER_TOKEN_SECRETS', parse: tokenSecrets, default: undefined },
  { name: 'JWT_ISSUERS', parse: jwtIssuers, default: undefined },
  { name: 'KV_REST_API_URL', parse: anyText, default: undefined },
  { name: 'KV_REST_API_TOKEN', parse: headerValue, default: undefined },
  { name: 'UPSTASH_REDIS_REST_URL', parse: anyText, default: undefined },
  { name: 'UPSTASH_REDIS_REST_TOKEN', parse: headerValue, default: undefined },
  { name: 'REDIS_URL', parse: anyText, default: undefined },
  { name: 'USAGE_FILE', parse: anyText, default: USAGE_FILE },
  { name: 'MODEL_LIMITS', parse: modelLimits, default: MODEL_LIMITS },
  { name: 'GLOBAL_LIMITS', parse: globalLimits, default: GLOBAL_LIMITS },
  { name: 'NEW_USERS_PER_MINUTE', parse: wholeNumber(0, 1_000_000), default: '60' },
  { name: 'UNVERIFIED_SHARE', parse: wholeNumber(1, 100), default: '50' },
  { name: 'ALLOWED_MODELS', parse: list, default: '*' },
  { name: 'CAP', parse: oneOf('balanced', 'strict'), default: 'balanced' },
  { name: 'MAX_COMPLETION_TOKENS', parse: wholeNumber(1, 1_000_000), default: '2500' },
  { name: 'MAX_BODY_BYTES', parse: wholeNumber(1024, 100 * 1024 * 1024), default: '4194304' },
  { name: 'MAX_AUDIO_BYTES', parse: wholeNumber(1024, 25 * 1024 * 1024), default: '26214400' },
  { name: 'AUDIO_METERING', parse: oneOf('exact', 'estimate'), default: 'exact' },
  {
    name: 'UPSTREAM_TIMEOUT_MS',
    parse: wholeNumber(1, 300_000),
    default: { edge: '25000', node: '120000' },
  },
  { name: 'REQUEST_SECONDS', parse: wholeNumber(1, 300), default: { edge: '280', node: '300' } },
  { name: 'ALLOWED_ORIGINS', parse: origins, default: '*' },
  { name: 'IP_STORAGE', parse: oneOf('full', 'truncated', 'off'), default: 'full' },
  { name: 'TRUST_PROXY', parse: hops, default: undefined },
  { name: 'ON_CLIENT_ABORT', parse: oneOf('drain', 'cancel'), default: 'drain' },
  { name: 'ON_STORE_DOWN', parse: oneOf('open', 'closed'), default: 'open' },
  { name: 'STORE_TIMEOUT_MS', parse: wholeNumber(1, 60_000), default: '300' },
  { name: 'USER_RETENTION_DAYS', parse: wholeNumber(1, 3650), default: '35' },
  { name: 'STATS_RETENTION_DAYS', parse: wholeNumber(1, 3650), default: '2' },
  { name: 'HISTORY_RETENTION_DAYS', parse: wholeNumber(2, 3650), default: '90' },
  { name: 'EVENTS_KEPT', parse: wholeNumber(0, MAX_EVENTS), default: '10000' },
  { name: 'MODEL_PRICES', parse: modelPrices, default: '{}' },
  { name: 'HELP_URL', parse: pageUrl, default: undefined },
  { name: 'HOME_PAGE', parse: oneOf('on', 'off'), default: 'on' },
  { name: 'HOST', parse: host, default: undefined },
  { name: 'BASE_PATH', parse: path, default: '/' },
  { name: 'PORT', parse: wholeNumber(0, 65_535), default: '8787' },
  { name: 'DEMO', parse: oneOf('0', '1'), default: '0' },
  { name: 'LOG_LEVEL', parse: oneOf('info', 'debug', 'warn', 'error', 'silent'), default: 'info' },
] as const satisfies Definition[]

type Definitions = (typeof TABLE)[number]

export type Variable = Definitions['name']
export type Vars = Partial<Record<Variable, string | undefined>>

/** The names, in the order of the documentation. */
export const VARIABLES: readonly Variable[] = TABLE.map(({ name }) => name)

type ValueOf<R extends Definition> =
  | Extract<ReturnType<R['parse']>, { value: unknown }>['value']
  | (R['default'] extends undefined ? undefined : never)

/** The values of the variables, by name. */
export type Values = { [R in Definitions as R['name']]: ValueOf<R> }
