/** A database full of users, written past the ledger, for what has to be the same however many there are. */
import { createHash } from 'node:crypto'
import { newDay, newRow, newUser } from '../src/usage/documents.ts'
import { activityOf, dateOf, DAY_MS, MINUTE_MS, type UserDoc } from '../src/usage/record.ts'
import { dayKey, PREFIX, TOP_DAY, userKey } from '../src/store/keys.ts'
import type { Redis } from './redis.ts'

const AT_ONCE = 1000

/** As ids are: any two differ from their first characters on. */
export const seededId = (n: number): string =>
  createHash('sha256').update(String(n)).digest('base64url').slice(0, 22)

/** The user of this number, of those that were active in the last minutes before `now`. */
export function seededUser(n: number, now: number): UserDoc {
  const at = Math.max(now - (n % 500) * MINUTE_MS, Math.floor(now / DAY_MS) * DAY_MS)
  const row = { ...newRow(), requests: 1, settled: 1, prompt: n % 100, charged: n % 1000 }
  const rows = { 'openai/gpt-oss-20b': row, 'llama-3.1-8b-instant': row }
  return { ...newUser(seededId(n), at), seen: at, ip: '192.0.2.7', rows }
}

/** Writes so many users, and a day of them all, as the ledger would have left them. */
export async function seedUsers(redis: Redis, count: number, now: number): Promise<void> {
  for (let start = 0; start < count; start += AT_ONCE) {
    const users = Array.from({ length: Math.min(AT_ONCE, count - start) }, (_, n) =>
      seededUser(start + n, now),
    )
    await redis.command([
      'MSET',
      ...users.flatMap((user) => [userKey(user.id), JSON.stringify(user)]),
    ])
    await redis.command([
      'ZADD',
      `${PREFIX}users`,
      ...users.flatMap((user) => [activityOf(user), user.id]),
    ])
    const today = Math.floor(now / DAY_MS) * TOP_DAY
    await redis.command([
      'ZADD',
      `${PREFIX}top`,
      ...users.flatMap((user, n) => [today + 1 + ((start + n) % 1000), user.id]),
    ])
  }
  const day = newDay(dateOf(now))
  await redis.command(['SET', dayKey(day.date), JSON.stringify(day)])
}
