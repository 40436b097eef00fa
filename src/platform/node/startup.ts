/** The lines printed at the start: the store, the limits, and missing protection. */
import type { Config } from '../../config/config.ts'
import { tokenNotes } from '../../config/tokens.ts'
import { isLongKey } from '../../identity/admin-key.ts'
import { LIMITS, amountTo, limitName, unitWords, type Limits } from '../../ledger/policy.ts'
import { UNITS } from '../../ledger/units.ts'
import { WINDOWS, WINDOW_NAMES } from '../../ledger/windows.ts'
import { evictionWarning } from '../../reports/eviction.ts'
import type { StoreHealth } from '../../store/fallback/store.ts'

/** One line per fact, without secrets. `storage` is where usage is stored. */
export function startupLines(
  config: Readonly<Config>,
  storage: string,
  health: Pick<StoreHealth, 'reason' | 'evicts'> = {},
): string[] {
  const { limits, globalLimits } = config
  const lines = [`Storage: ${storage}`]
  const everyone = globalLimits?.total && inWords(globalLimits.total)
  lines.push(
    `Limits: each user ${inWords(limits.default) || 'no limit'} with a model` +
      (everyone ? `; all users together ${everyone}` : '; no limit for all users together') +
      ` (cap: ${config.cap})`,
  )
  const { notes, warnings } = tokenNotes(config)
  lines.push(...notes, ...warnings.map((warning) => `Warning: ${warning}`))
  if (!globalLimits?.total && config.userTokens.includes('any')) {
    lines.push('Without a total in GLOBAL_LIMITS nothing limits the bill.')
  }
  const free = (['audioSeconds', 'characters'] as const).filter((unit) =>
    LIMITS.every(
      ({ name, unit: of }) =>
        globalLimits?.total?.[name] === undefined || ![unit, 'usd'].includes(of),
    ),
  )
  if (globalLimits?.total && free.length > 0) {
    const names = free.map((unit) => `${unit}PerDay`).join(' and ')
    lines.push(
      `The total in GLOBAL_LIMITS leaves audio without a limit: add ${names}, or a limit in dollars.`,
    )
  }
  if (config.host === undefined) {
    lines.push(
      'HOST is not set: other machines of the network reach Weir too. HOST=127.0.0.1 is this machine only.',
    )
  }
  if (!config.proxySaid) {
    lines.push(
      'TRUST_PROXY is not set: client addresses are those of sockets. Set it behind a proxy.',
    )
  }
  const short = config.admins.filter(({ key }) => !isLongKey(key)).map(({ name }) => name)
  if (short.length > 0) {
    lines.push(
      `The key of ${short.join(', ')} is short: an admin who shares an address with a guesser may have to wait a minute.`,
    )
  }
  if (health.reason !== undefined) {
    lines.push(`The database cannot be used: ${health.reason}`)
  }
  if (health.evicts !== undefined) lines.push(evictionWarning(health.evicts))
  if (config.redis) {
    lines.push(
      config.onStoreDown === 'open'
        ? 'While the database is down, requests are served and counted later (ON_STORE_DOWN=open).'
        : 'While the database is down, calls answer 503 (ON_STORE_DOWN=closed).',
    )
  }
  if (config.userHashSecret === undefined) {
    lines.push('USER_HASH_SECRET is not set: user ids are plain SHA-256 of the tokens.')
  }
  if (config.groqKey === undefined) lines.push('GROQ_API_KEY is not set: calls answer 503.')
  if (config.admins.length === 0) lines.push('ADMIN_KEY is not set: admin routes answer 503.')
  return lines
}

const list = new Intl.ListFormat('en-US')

/** A row of limits as a list: "1,000 requests and 200,000 tokens a day". */
function inWords(row: Limits = {}): string {
  const windows = WINDOW_NAMES.map((window) => {
    const amounts = UNITS.flatMap((unit) => {
      const limit = row[limitName(unit, window)]
      if (limit === undefined) return []
      return [`${amountTo(unit, limit).toLocaleString('en-US')} ${unitWords(unit)}`]
    })
    return amounts.length ? `${list.format(amounts)} ${WINDOWS[window].words}` : ''
  })
  return windows.filter(Boolean).join(', ')
}
