/** Every variable: how its text is read, its default, and its purpose. */
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
  /** Sentences for the person who sets it, with the unit and the range. */
  doc: string
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
  {
    name: 'GROQ_API_KEY',
    parse: headerValue,
    default: undefined,
    doc: "The provider's API key, which is sent upstream instead of the user's token. Without it, model calls answer 503, or with DEMO the built-in demo model answers.",
  },
  {
    name: 'GROQ_BASE_URL',
    parse: providerUrl,
    default: GROQ_URL,
    doc: "The provider's address: http or https, without /openai/v1.",
  },
  {
    name: 'DEFAULT_MODEL',
    parse: anyText,
    default: DEFAULT_MODEL,
    doc: 'The model of a request in the simple form that names none. ALLOWED_MODELS must include it.',
  },
  {
    name: 'ADMIN_KEY',
    parse: adminKey,
    default: undefined,
    doc: 'The key that opens the admin routes, at least 16 characters. Without it and ADMIN_KEYS, they answer 503; DEMO makes one up.',
  },
  {
    name: 'ADMIN_KEYS',
    parse: adminKeys,
    default: undefined,
    doc: 'Keys of further admins, as NAME:ROLE:KEY separated by commas. The audit trail has the name. The role is admin, or viewer: a viewer only reads, without addresses and exports. Each key has at least 16 characters. A session ends when its key is taken out.',
  },
  {
    name: 'METRICS_KEY',
    parse: adminKey,
    default: undefined,
    doc: 'The key with which Prometheus reads GET /metrics, at least 16 characters. Without it there is no such route.',
  },
  {
    name: 'ALERT_WEBHOOK_URL',
    parse: alertUrl,
    default: undefined,
    doc: 'Where alerts are sent: an https address, in a private network also http. Without it there are none.',
  },
  {
    name: 'ALERT_WEBHOOK_SECRET',
    parse: alertSecrets,
    default: undefined,
    doc: 'The secret that signs alerts by Standard Webhooks: whsec_ and the base64 of 24 to 64 bytes. Two, separated by a comma, while one replaces the other; then both sign. ALERT_FORMAT=slack needs none.',
  },
  {
    name: 'ALERT_FORMAT',
    parse: oneOf(...ALERT_FORMATS),
    default: 'standard',
    doc: 'How alerts are sent: standard, which is Standard Webhooks 1.0.0, or slack for an incoming webhook of Slack.',
  },
  {
    name: 'USER_HASH_SECRET',
    parse: anyText,
    default: undefined,
    doc: 'The key of the hashes that serve as user ids, so that nobody can compute an id from a token. Without it, they are plain SHA-256. It cannot be rotated: with another secret every user has a new id, and no block, limit or key holds. USER_TOKENS with issued or signed needs it.',
  },
  {
    name: 'USER_TOKENS',
    parse: tokenKinds,
    default: 'any',
    doc: 'Which kinds of user tokens are taken, separated by commas. any: 8 to 512 printable ASCII characters, which anybody can make up. issued: keys that an admin issues. signed: JSON Web Tokens that are signed with USER_TOKEN_SECRETS or by JWT_ISSUERS. any beside others is a way to migrate: until any is left out, a blocked person can make up a token.',
  },
  {
    name: 'USER_TOKEN_SECRETS',
    parse: tokenSecrets,
    default: undefined,
    doc: "The secrets of the application's own signed tokens (HS256): one, or two separated by a comma while one replaces the other, each of at least 32 bytes. Both verify; POST /api/admin/tokens signs with the first.",
  },
  {
    name: 'JWT_ISSUERS',
    parse: jwtIssuers,
    default: undefined,
    doc: 'The OIDC issuers whose signed tokens are taken, as a JSON list of issuer, audience, jwksUrl and, if wanted, userClaim (sub without it), planClaim and labelClaim, as in [{"issuer":"https://auth.example","audience":"weir","jwksUrl":"https://auth.example/jwks.json"}]. Addresses are https, on this machine also http.',
  },
  {
    name: 'KV_REST_API_URL',
    parse: anyText,
    default: undefined,
    doc: 'The REST address of an Upstash Redis database. A database is required on the edge; on Node, if no variable for it is set, usage is kept in USAGE_FILE. A prefix, as in STORAGE_KV_REST_API_URL, is found if there is one such pair.',
  },
  {
    name: 'KV_REST_API_TOKEN',
    parse: headerValue,
    default: undefined,
    doc: 'The token that belongs to KV_REST_API_URL.',
  },
  {
    name: 'UPSTASH_REDIS_REST_URL',
    parse: anyText,
    default: undefined,
    doc: 'The same address under the name that Upstash gives it. If both pairs are set, they must be equal.',
  },
  {
    name: 'UPSTASH_REDIS_REST_TOKEN',
    parse: headerValue,
    default: undefined,
    doc: 'The token that belongs to UPSTASH_REDIS_REST_URL.',
  },
  {
    name: 'REDIS_URL',
    parse: anyText,
    default: undefined,
    doc: 'Instead of a pair: rediss://default:PASSWORD@NAME.upstash.io:6379, which gives the REST address and the token. On Node also any other Redis from version 7, over TCP: redis://HOST:6379 or, in full, rediss://USER:PASSWORD@HOST:6379/0.',
  },
  {
    name: 'USAGE_FILE',
    parse: anyText,
    default: USAGE_FILE,
    doc: 'The file in which usage is kept if there is no database, with its journal beside it. Node only.',
  },
  {
    name: 'MODEL_LIMITS',
    parse: modelLimits,
    default: MODEL_LIMITS,
    doc: 'What each user may use of each model, as JSON: requests, tokens, usd, audioSeconds or characters, each PerMinute, PerHour, PerDay, PerWeek or PerMonth. The row "*" is for models without a row of their own, "total" for all models of a user together. Windows are in UTC.',
  },
  {
    name: 'GLOBAL_LIMITS',
    parse: globalLimits,
    default: GLOBAL_LIMITS,
    doc: 'The same for all users together: "total" and names of models, no "*". With {} there is no limit, and then nothing bounds the bill, since anybody can make up a new token.',
  },
  {
    name: 'NEW_USERS_PER_MINUTE',
    parse: wholeNumber(0, 1_000_000),
    default: '60',
    doc: 'How many new users a minute may come from one network, which is an IPv4 address or the first 64 bits of an IPv6 address, from 0 to 1000000; 0 is no limit. Anybody can make up new tokens, and each is a new user. Behind a proxy it needs TRUST_PROXY.',
  },
  {
    name: 'UNVERIFIED_SHARE',
    parse: wholeNumber(1, 100),
    default: '50',
    doc: 'Where USER_TOKENS has the kind any beside others: the part of the limits for all users, in percent, that users of the kind any have together, from 1 to 100.',
  },
  {
    name: 'ALLOWED_MODELS',
    parse: list,
    default: '*',
    doc: 'The models that are offered, separated by commas; * stands for any characters, as in openai/*.',
  },
  {
    name: 'CAP',
    parse: oneOf('balanced', 'strict'),
    default: 'balanced',
    doc: 'How many tokens are reserved for a request before it is sent. balanced counts two bytes as a token, which holds for ordinary text. strict counts the most that tokenizers and templates make of a byte; it adds a maximum to a request that has none, and refuses what cannot be bounded.',
  },
  {
    name: 'MAX_COMPLETION_TOKENS',
    parse: wholeNumber(1, 1_000_000),
    default: '2500',
    doc: 'The tokens of completion that are reserved for a request without a maximum, from 1 to 1000000.',
  },
  {
    name: 'MAX_BODY_BYTES',
    parse: wholeNumber(1024, 100 * 1024 * 1024),
    default: '4194304',
    doc: 'The largest body of a model call, in bytes, from 1024 to 104857600.',
  },
  {
    name: 'MAX_AUDIO_BYTES',
    parse: wholeNumber(1024, 25 * 1024 * 1024),
    default: '26214400',
    doc: 'The largest upload of audio, in bytes, from 1024 to 26214400, which is the most that the provider takes. Vercel takes no more than 4.5 MB.',
  },
  {
    name: 'AUDIO_METERING',
    parse: oneOf('exact', 'estimate'),
    default: 'exact',
    doc: 'How the seconds of a transcription are counted where the client asks for json or text, in which the provider does not report them. exact asks the provider for verbose_json, and gives the client what it asked for. estimate leaves the request as it is, and charges what was reserved.',
  },
  {
    name: 'UPSTREAM_TIMEOUT_MS',
    parse: wholeNumber(1, 300_000),
    default: { edge: '25000', node: '120000' },
    doc: 'How long the provider may take until the first byte of its answer, in milliseconds, from 1 to 300000.',
  },
  {
    name: 'REQUEST_SECONDS',
    parse: wholeNumber(1, 300),
    default: { edge: '280', node: '300' },
    doc: 'How long a whole request may take, in seconds, from 1 to 300; then the call of the provider is aborted.',
  },
  {
    name: 'ALLOWED_ORIGINS',
    parse: origins,
    default: '*',
    doc: 'The origins whose pages may call the proxy and sync, separated by commas, such as https://app.example; a label may be *, as in https://*.app.example; * alone stands for all. Those that are named may also show the page /usage in a frame.',
  },
  {
    name: 'IP_STORAGE',
    parse: oneOf('full', 'truncated', 'off'),
    default: 'full',
    doc: "How users' addresses are kept: full, truncated (only the network, /24 or /48) or off.",
  },
  {
    name: 'TRUST_PROXY',
    parse: hops,
    default: undefined,
    doc: "How many proxies of your own are in front, from 1 to 9, or on for one: the client's address is that many from the end of X-Forwarded-For. off: none. Node only. If it is not set and such headers arrive, Weir warns, and limits no new users by address: they may come through a proxy.",
  },
  {
    name: 'ON_CLIENT_ABORT',
    parse: oneOf('drain', 'cancel'),
    default: 'drain',
    doc: 'What happens when a client leaves in the middle of an answer: drain reads the rest, so that usage is exact; cancel stops the provider, and the whole reservation is charged.',
  },
  {
    name: 'ON_STORE_DOWN',
    parse: oneOf('open', 'closed'),
    default: 'open',
    doc: 'What happens when the database is slow or away: open continues to serve, with the blocks and counts that each server remembers, and counts the usage when the database is back; closed answers 503, and nothing reaches the provider.',
  },
  {
    name: 'STORE_TIMEOUT_MS',
    parse: wholeNumber(1, 60_000),
    default: '300',
    doc: 'How long a database call may take, in milliseconds, from 1 to 60000.',
  },
  {
    name: 'USER_RETENTION_DAYS',
    parse: wholeNumber(1, 3650),
    default: '35',
    doc: "How long a user's counts are kept after the last request, and how many past days of them, in days, from 1 to 3650.",
  },
  {
    name: 'STATS_RETENTION_DAYS',
    parse: wholeNumber(1, 3650),
    default: '2',
    doc: 'How many days the totals per model cover, today included, from 1 to 3650.',
  },
  {
    name: 'HISTORY_RETENTION_DAYS',
    parse: wholeNumber(2, 3650),
    default: '90',
    doc: 'How long the daily totals are kept, in days, from 2 to 3650.',
  },
  {
    name: 'EVENTS_KEPT',
    parse: wholeNumber(0, MAX_EVENTS),
    default: '10000',
    doc: 'How many finished requests are kept for the list of recent ones, from 0 to 20000.',
  },
  {
    name: 'MODEL_PRICES',
    parse: modelPrices,
    default: '{}',
    doc: 'What models cost, as JSON by exact name, each price with at most 6 decimals: input, output and, where cached input is cheaper, cached, in USD per million tokens from 0 to 100000, as in {"openai/gpt-oss-20b":{"input":0.075,"cached":0.0375,"output":0.3}}; audioHour, in USD an hour of audio from 0 to 100; characters, in USD per million characters that are spoken. Weir knows the prices of Groq that were published; a row here takes the place of the whole row of its model. Costs are shown for models with a price.',
  },
  {
    name: 'HELP_URL',
    parse: pageUrl,
    default: undefined,
    doc: 'Where callers find help, such as https://example.com/help. Errors name it; without it they name none.',
  },
  {
    name: 'HOME_PAGE',
    parse: oneOf('on', 'off'),
    default: 'on',
    doc: 'Whether / is a page for developers, with a first call and a link to the dashboard. With off it is 404, like any unknown path.',
  },
  {
    name: 'HOST',
    parse: host,
    default: undefined,
    doc: 'The address to listen on, such as 127.0.0.1 where a proxy on the same machine is in front. Without it, all addresses. Node only.',
  },
  {
    name: 'BASE_PATH',
    parse: path,
    default: '/',
    doc: 'The path of a site under which the gateway is, such as /weir. The proxy in front may keep it or remove it.',
  },
  {
    name: 'PORT',
    parse: wholeNumber(0, 65_535),
    default: '8787',
    doc: 'The port to listen on, from 0 to 65535; 0 takes a free one. Node only.',
  },
  {
    name: 'DEMO',
    parse: oneOf('0', '1'),
    default: '0',
    doc: 'With 1, a gateway to try out: without GROQ_API_KEY a built-in demo model answers, /demo is a chat page, and ADMIN_KEY and USER_HASH_SECRET are made up once if they are not set, and kept beside USAGE_FILE. `npm run dev` and the command weir set it. Node only.',
  },
  {
    name: 'LOG_LEVEL',
    parse: oneOf('info', 'debug', 'warn', 'error', 'silent'),
    default: 'info',
    doc: 'The lowest level that is logged: debug, info, warn, error or silent.',
  },
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
