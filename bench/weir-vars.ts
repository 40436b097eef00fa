/** The environment of the gateways under test: every limit is checked and none is reached, and every feature is on. */
import type { Vars } from '../src/config/config.ts'
import type { Cap } from '../src/metering/reservation.ts'

export type WeirOptions = {
  upstream: string
  /** Where usage is kept: over REST, over TCP, or in a file. */
  rest?: { url: string; token: string }
  tcp?: string
  file?: string
  /** Signed tokens are taken too. */
  signed?: boolean
  /** Rows of MODEL_LIMITS that the run is to reach. */
  limits?: Record<string, object>
  cap?: Cap
}

const AMPLE = {
  tokensPerDay: 1e12,
  requestsPerDay: 1e9,
  tokensPerMinute: 1e12,
  requestsPerMinute: 1e9,
}

/** Days that a user's past is kept. */
export const BENCH_USER_DAYS = 35

/** The model that has its own limits for everyone together. */
export const BENCH_MODEL = 'openai/gpt-oss-20b'

export const BENCH_ADMIN_KEY = 'admin-key-of-the-bench'
export const BENCH_HASH_SECRET = 'secret-of-the-bench'
export const BENCH_TOKEN_SECRET = 'secret-of-an-application-of-the-bench'

export const weirVars = ({
  upstream,
  rest,
  tcp,
  file,
  signed,
  limits,
  cap,
}: WeirOptions): Vars => ({
  GROQ_API_KEY: 'gsk_bench',
  GROQ_BASE_URL: upstream,
  ADMIN_KEY: BENCH_ADMIN_KEY,
  USER_HASH_SECRET: BENCH_HASH_SECRET,
  ...(rest && { KV_REST_API_URL: rest.url, KV_REST_API_TOKEN: rest.token }),
  ...(tcp !== undefined && { REDIS_URL: tcp }),
  ...(file !== undefined && { USAGE_FILE: file }),
  ...(cap && { CAP: cap }),
  ...(signed && { USER_TOKENS: 'any,signed', USER_TOKEN_SECRETS: BENCH_TOKEN_SECRET }),
  MODEL_LIMITS: JSON.stringify({ '*': AMPLE, total: AMPLE, ...limits }),
  GLOBAL_LIMITS: JSON.stringify({ total: AMPLE, [BENCH_MODEL]: AMPLE }),
  NEW_USERS_PER_MINUTE: '1000000',
  USER_RETENTION_DAYS: String(BENCH_USER_DAYS),
  ON_CLIENT_ABORT: 'drain',
  // A busy machine must not look like an unreachable database.
  STORE_TIMEOUT_MS: '3000',
  PORT: '0',
})
