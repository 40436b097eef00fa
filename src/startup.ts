/** What is said at start: which store, which limits, and what is not protected. */
import type { Config } from './config.ts'
import { limitName, type Limits } from './ledger/policy.ts'
import { UNITS } from './ledger/shapes.ts'
import { WINDOWS, WINDOW_NAMES } from './ledger/windows.ts'

/** One line per fact, without secrets. `storage` says where usage is kept. */
export function startupLines(config: Readonly<Config>, storage: string): string[] {
  const { limits, globalLimits } = config
  const lines = [`Storage: ${storage}`]
  const everyone = globalLimits?.total && inWords(globalLimits.total)
  lines.push(
    `Limits: each user ${inWords(limits.default) || 'without one'} with a model` +
      (everyone ? `, everyone together ${everyone}` : ', no limit for everyone together') +
      ` (cap: ${config.cap})`,
  )
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

/** A row of limits as a list: "200,000 tokens and 1,000 requests a day". */
function inWords(row: Limits = {}): string {
  const windows = WINDOW_NAMES.map((window) => {
    const amounts = UNITS.toReversed().flatMap((unit) => {
      const limit = row[limitName(unit, window)]
      return limit === undefined ? [] : [`${limit.toLocaleString('en-US')} ${unit}`]
    })
    return amounts.length ? `${amounts.join(' and ')} ${WINDOWS[window].words}` : ''
  })
  return windows.filter(Boolean).join(', ')
}
