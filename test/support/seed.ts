/** A database full of users, written without the ledger, for what must not depend on their number. */
import { createHash } from 'node:crypto'
import { mapValues } from '../../src/ledger/records.ts'
import { answersOf } from '../../src/ledger/rows.ts'
import { activityOf } from '../../src/ledger/activity.ts'
import { newDay, newRow, newUsage } from '../../src/ledger/new-documents.ts'
import type { Amounts } from '../../src/ledger/units.ts'
import type { ThinRow, UsageDoc, Windows } from '../../src/ledger/documents.ts'
import { sum } from '../../src/ledger/tally.ts'
import { DAY_MS, MINUTE_MS, dateOf, startOf, type Window } from '../../src/ledger/windows.ts'
import { dayKey, PREFIX, TOP_DAY, usageKey } from '../../src/store/redis/keys.ts'
import type { Redis } from './redis.ts'

/** A multiple of the variants, so that each chunk begins with the first one. */
const AT_ONCE = 10 * 1000
export const MODELS = ['openai/gpt-oss-20b', 'llama-3.1-8b-instant']

/** Ids like real ones: any two differ in their first characters. */
export const seededId = (n: number): string =>
  createHash('sha256').update(String(n)).digest('base64url').slice(0, 22)

/** Windows with this use. */
export const windowsOf = (amounts: Amounts, at: number, ...windows: readonly Window[]): Windows =>
  Object.fromEntries(
    (windows.length > 0 ? windows : ['day' as const]).map((window) => [
      window,
      { start: startOf(window, at), ...amounts },
    ]),
  )

/** A part of a user's document: the rows of a day, their sums, and the windows that contain a moment. */
export function usedToday(
  rows: Record<string, ThinRow>,
  at: number,
  windows: readonly Window[] = ['day'],
): Pick<UsageDoc, 'charged' | 'answered' | 'windows' | 'models'> {
  const whole = Object.values(rows).map((row) => ({ ...newRow(), ...row }))
  const all = sum(whole.map(({ requests, charged }) => ({ requests, tokens: charged, usd: 0 })))
  return {
    charged: all.tokens,
    answered: whole.reduce((answers, row) => answers + answersOf(row), 0),
    windows: windowsOf(all, at, ...windows),
    models: mapValues(rows, (row) => {
      const { requests = 0, charged = 0 } = row
      return { row, windows: windowsOf({ requests, tokens: charged, usd: 0 }, at, ...windows) }
    }),
  }
}

/** Users that differ in more than their id. */
const VARIANTS = 1000

/** The user with this number, who was active in the last minutes before `now`. */
function seededUser(n: number, now: number): UsageDoc {
  const at = Math.max(now - (n % 500) * MINUTE_MS, startOf('day', now))
  const used = { requests: 1, tokens: 1 + (n % VARIANTS), usd: 0 }
  const row = { ...newRow(), requests: 1, exact: 1, prompt: n % 100, charged: used.tokens }
  const all = sum(MODELS.map(() => used))
  return {
    ...newUsage(seededId(n), at),
    seen: at,
    indexed: { at, tokens: all.tokens },
    ip: '192.0.2.7',
    ...usedToday(Object.fromEntries(MODELS.map((model) => [model, row])), now),
  }
}

/**
 * Writes users, each of which is like one of the variants. A script does it, because a hundred thousand documents take
 * seconds on their way to the database.
 */
const WRITE = `
  local variants = cjson.decode(ARGV[1])
  for n, id in ipairs(cjson.decode(ARGV[2])) do
    local variant = variants[(n - 1) % #variants + 1]
    redis.call('SET', KEYS[1] .. id, variant.before .. id .. variant.after)
    redis.call('ZADD', KEYS[2], variant.activity, 'a:' .. id, variant.top, 't:' .. id)
  end`

/** Writes this many users, and their day, as the ledger would. */
export async function seedUsers(redis: Redis, count: number, now: number): Promise<void> {
  const today = Math.floor(now / DAY_MS) * TOP_DAY
  const variants = Array.from({ length: Math.min(VARIANTS, count) }, (_, n) => {
    const user = seededUser(n, now)
    const [before = '', after = ''] = JSON.stringify(user).split(user.id)
    // As text, because a script would shorten the digits.
    return { before, after, activity: `${activityOf(user)}`, top: `${today + user.indexed.tokens}` }
  })
  const told = JSON.stringify(variants)
  const keys = [usageKey(''), `${PREFIX}users`]
  for (let start = 0; start < count; start += AT_ONCE) {
    const length = Math.min(AT_ONCE, count - start)
    const ids = Array.from({ length }, (_, n) => seededId(start + n))
    await redis.command(['EVAL', WRITE, keys.length, ...keys, told, JSON.stringify(ids)])
  }
  const { models: _, ...day } = newDay(dateOf(now))
  await redis.command(['SET', dayKey(day.date), JSON.stringify({ ...day, open: 1 })])
}
