/**
 * The column `doc` of the table in variables.ts: what each variable is for, in sentences for the person who sets it, with the
 * unit and the range. It is a file of its own, because only .env.example and the documentation need it, and not the bundles.
 */
import type { Variable } from './variables.ts'

export const DOCS: Record<Variable, string> = {
  GROQ_API_KEY:
    "The provider's API key, which is sent upstream instead of the user's token. Without it, model calls answer 503, or with DEMO the built-in demo model answers.",
  GROQ_BASE_URL: "The provider's address: http or https, without /openai/v1.",
  DEFAULT_MODEL:
    'The model of a request in the simple form that names none. ALLOWED_MODELS must include it.',
  ADMIN_KEY:
    'The key that opens the admin routes, at least 16 characters. Without it and ADMIN_KEYS, they answer 503; DEMO makes one up.',
  ADMIN_KEYS:
    'Keys of further admins, as NAME:ROLE:KEY separated by commas. The audit trail has the name. The role is admin, or viewer: a viewer only reads, without addresses and exports. Each key has at least 16 characters. A session ends when its key is taken out.',
  METRICS_KEY:
    'The key with which Prometheus reads GET /metrics, at least 16 characters. Without it there is no such route.',
  ALERT_WEBHOOK_URL:
    'Where alerts are sent: an https address, in a private network also http. Without it there are none.',
  ALERT_WEBHOOK_SECRET:
    'The secret that signs alerts by Standard Webhooks: whsec_ and the base64 of 24 to 64 bytes. Two, separated by a comma, while one replaces the other; then both sign. ALERT_FORMAT=slack needs none.',
  ALERT_FORMAT:
    'How alerts are sent: standard, which is Standard Webhooks 1.0.0, or slack for an incoming webhook of Slack.',
  USER_HASH_SECRET:
    'The key of the hashes that serve as user ids, so that nobody can compute an id from a token. Without it, they are plain SHA-256. It cannot be rotated: with another secret every user has a new id, and no block, limit or key holds. USER_TOKENS with issued or signed needs it.',
  USER_TOKENS:
    'Which kinds of user tokens are taken, separated by commas. any: 8 to 512 printable ASCII characters, which anybody can make up. issued: keys that an admin issues. signed: JSON Web Tokens that are signed with USER_TOKEN_SECRETS or by JWT_ISSUERS. any beside others is a way to migrate: until any is left out, a blocked person can make up a token.',
  USER_TOKEN_SECRETS:
    "The secrets of the application's own signed tokens (HS256): one, or two separated by a comma while one replaces the other, each of at least 32 bytes. Both verify; POST /api/admin/tokens signs with the first.",
  JWT_ISSUERS:
    'The OIDC issuers whose signed tokens are taken, as a JSON list of issuer, audience, jwksUrl and, if wanted, userClaim (sub without it), planClaim and labelClaim, as in [{"issuer":"https://auth.example","audience":"weir","jwksUrl":"https://auth.example/jwks.json"}]. Addresses are https, on this machine also http.',
  KV_REST_API_URL:
    'The REST address of an Upstash Redis database. A database is required on the edge; on Node, if no variable for it is set, usage is kept in USAGE_FILE. A prefix, as in STORAGE_KV_REST_API_URL, is found if there is one such pair.',
  KV_REST_API_TOKEN: 'The token that belongs to KV_REST_API_URL.',
  UPSTASH_REDIS_REST_URL:
    'The same address under the name that Upstash gives it. If both pairs are set, they must be equal.',
  UPSTASH_REDIS_REST_TOKEN: 'The token that belongs to UPSTASH_REDIS_REST_URL.',
  REDIS_URL:
    'Instead of a pair: rediss://default:PASSWORD@NAME.upstash.io:6379, which gives the REST address and the token. On Node also any other Redis from version 7, over TCP: redis://HOST:6379 or, in full, rediss://USER:PASSWORD@HOST:6379/0.',
  USAGE_FILE:
    'The file in which usage is kept if there is no database, with its journal beside it. Node only.',
  MODEL_LIMITS:
    'What each user may use of each model, as JSON: requests, tokens, usd, audioSeconds or characters, each PerMinute, PerHour, PerDay, PerWeek or PerMonth. The row "*" is for models without a row of their own, "total" for all models of a user together. Windows are in UTC.',
  GLOBAL_LIMITS:
    'The same for all users together: "total" and names of models, no "*". With {} there is no limit, and then nothing bounds the bill, since anybody can make up a new token.',
  NEW_USERS_PER_MINUTE:
    'How many new users a minute may come from one network, which is an IPv4 address or the first 64 bits of an IPv6 address, from 0 to 1000000; 0 is no limit. Anybody can make up new tokens, and each is a new user. Behind a proxy it needs TRUST_PROXY.',
  UNVERIFIED_SHARE:
    'Where USER_TOKENS has the kind any beside others: the part of the limits for all users, in percent, that users of the kind any have together, from 1 to 100.',
  ALLOWED_MODELS:
    'The models that are offered, separated by commas; * stands for any characters, as in openai/*.',
  CAP: 'How many tokens are reserved for a request before it is sent. balanced counts two bytes as a token, which holds for ordinary text. strict counts the most that tokenizers and templates make of a byte; it adds a maximum to a request that has none, and refuses what cannot be bounded.',
  MAX_COMPLETION_TOKENS:
    'The tokens of completion that are reserved for a request without a maximum, from 1 to 1000000.',
  MAX_BODY_BYTES: 'The largest body of a model call, in bytes, from 1024 to 104857600.',
  MAX_AUDIO_BYTES:
    'The largest upload of audio, in bytes, from 1024 to 26214400, which is the most that the provider takes. Vercel takes no more than 4.5 MB.',
  AUDIO_METERING:
    'How the seconds of a transcription are counted where the client asks for json or text, in which the provider does not report them. exact asks the provider for verbose_json, and gives the client what it asked for. estimate leaves the request as it is, and charges what was reserved.',
  UPSTREAM_TIMEOUT_MS:
    'How long the provider may take until the first byte of its answer, in milliseconds, from 1 to 300000.',
  REQUEST_SECONDS:
    'How long a whole request may take, in seconds, from 1 to 300; then the call of the provider is aborted.',
  ALLOWED_ORIGINS:
    'The origins whose pages may call the proxy and sync, separated by commas, such as https://app.example; a label may be *, as in https://*.app.example; * alone stands for all. Those that are named may also show the page /usage in a frame.',
  IP_STORAGE:
    "How users' addresses are kept: full, truncated (only the network, /24 or /48) or off.",
  TRUST_PROXY:
    "How many proxies of your own are in front, from 1 to 9, or on for one: the client's address is that many from the end of X-Forwarded-For. off: none. Node only. If it is not set and such headers arrive, Weir warns, and limits no new users by address: they may come through a proxy.",
  ON_CLIENT_ABORT:
    'What happens when a client leaves in the middle of an answer: drain reads the rest, so that usage is exact; cancel stops the provider, and the whole reservation is charged.',
  ON_STORE_DOWN:
    'What happens when the database is slow or away: open continues to serve, with the blocks and counts that each server remembers, and counts the usage when the database is back; closed answers 503, and nothing reaches the provider.',
  STORE_TIMEOUT_MS: 'How long a database call may take, in milliseconds, from 1 to 60000.',
  USER_RETENTION_DAYS:
    "How long a user's counts are kept after the last request, and how many past days of them, in days, from 1 to 3650.",
  STATS_RETENTION_DAYS: 'How many days the totals per model cover, today included, from 1 to 3650.',
  HISTORY_RETENTION_DAYS: 'How long the daily totals are kept, in days, from 2 to 3650.',
  EVENTS_KEPT: 'How many finished requests are kept for the list of recent ones, from 0 to 20000.',
  MODEL_PRICES:
    'What models cost, as JSON by exact name, each price with at most 6 decimals: input, output and, where cached input is cheaper, cached, in USD per million tokens from 0 to 100000, as in {"openai/gpt-oss-20b":{"input":0.075,"cached":0.0375,"output":0.3}}; audioHour, in USD an hour of audio from 0 to 100; characters, in USD per million characters that are spoken. Weir knows the prices of Groq that were published; a row here takes the place of the whole row of its model. Costs are shown for models with a price.',
  HELP_URL:
    'Where callers find help, such as https://example.com/help. Errors name it; without it they name none.',
  HOME_PAGE:
    'Whether / is a page for developers, with a first call and a link to the dashboard. With off it is 404, like any unknown path.',
  HOST: 'The address to listen on, such as 127.0.0.1 where a proxy on the same machine is in front. Without it, all addresses. Node only.',
  BASE_PATH:
    'The path of a site under which the gateway is, such as /weir. The proxy in front may keep it or remove it.',
  PORT: 'The port to listen on, from 0 to 65535; 0 takes a free one. Node only.',
  DEMO: 'With 1, a gateway to try out: without GROQ_API_KEY a built-in demo model answers, /demo is a chat page, and ADMIN_KEY and USER_HASH_SECRET are made up once if they are not set, and kept beside USAGE_FILE. `npm run dev` and the command weir set it. Node only.',
  LOG_LEVEL: 'The lowest level that is logged: debug, info, warn, error or silent.',
}
