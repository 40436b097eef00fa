/** What is said at start: which store, which limits, and what is not protected. */
import type { Config } from './config.ts'

/** One line per fact, without secrets. `storage` says where usage is kept. */
export function startupLines(config: Readonly<Config>, storage: string): string[] {
  const { limits, globalLimits } = config
  const amount = (value: number) => value.toLocaleString('en-US')
  const perUser = limits.default
  const lines = [`Storage: ${storage}`]
  if (perUser) {
    lines.push(
      `Limits: each user ${amount(perUser.tokensPerDay)} tokens and ${amount(perUser.requestsPerDay)} requests a day with a model` +
        (globalLimits?.total
          ? `, everyone together ${amount(globalLimits.total.tokensPerDay)} tokens and ${amount(globalLimits.total.requestsPerDay)} requests a day`
          : ', no limit for everyone together') +
        ` (cap: ${config.cap})`,
    )
  }
  lines.push(
    globalLimits?.total
      ? 'User tokens are not verified: anyone may make one up. GLOBAL_LIMITS bounds the bill.'
      : 'User tokens are not verified: anyone may make one up, and without a total in GLOBAL_LIMITS nothing bounds the bill.',
  )
  if (config.redis) {
    lines.push(
      config.onStoreDown === 'open'
        ? 'While the database is away requests are served and counted later (ON_STORE_DOWN=open).'
        : 'While the database is away calls answer 503 (ON_STORE_DOWN=closed).',
    )
  }
  if (config.userHashSecret === undefined) {
    lines.push('USER_HASH_SECRET is not set: user ids are plain SHA-256 of the tokens.')
  }
  if (config.groqKey === undefined) lines.push('GROQ_API_KEY is not set: calls answer 503.')
  if (config.adminKey === undefined) lines.push('ADMIN_KEY is not set: admin routes answer 503.')
  return lines
}
