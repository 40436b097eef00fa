import { readFile, stat } from 'node:fs/promises'
import { expect, test } from 'vitest'
import { dateOf, DAY_MS, HOUR_MS, type DayDoc, type UserDoc } from '../src/usage/record.ts'
import { admitOf, NOON, settleOf } from './commands.ts'
import { useDatabase } from './database.ts'
import { localStore, redisStore } from './stores.ts'

const { redis, upstash } = useDatabase()

test('over 120 days a store that never stops keeps on disk what is to be kept and no more', async () => {
  let now = NOON
  const retention = { userDays: 7, historyDays: 90, eventsKept: 50 }
  const store = await localStore(() => now, { retention })
  let most = 0
  for (let day = 0; day < 120; day += 1) {
    for (let n = 0; n < 5; n += 1) {
      const admit = admitOf({ id: `${day}-${n}`, user: `of day ${day}`, now })
      await store.admit(admit)
      await store.settle(settleOf(admit))
    }
    most = Math.max(most, (await stat(`${store.file}.journal`)).size)
    now += DAY_MS
  }
  // The first write of a day is followed by a snapshot, here one without anything of that day but its first user.
  await expect
    .poll(async () => {
      const { state } = JSON.parse(await readFile(store.file, 'utf8')) as {
        state: { users: UserDoc[]; days: DayDoc[]; events: unknown[] }
      }
      const { users, days, events } = state
      return { users: users.length, days: days.length, events: events.length }
    })
    .toEqual({ users: 8, days: 90, events: 50 })
  const perDay =
    10 * JSON.stringify({ seq: 1200, command: settleOf(admitOf({ id: '119-1' })) }).length
  expect(most).toBeLessThan(2 * perDay)
  await store.remove()
})

test('in Redis each document goes by itself, after the time that is configured', async () => {
  const store = redisStore(upstash, { retention: { userDays: 3, historyDays: 5 } })
  const now = Date.now()
  const admit = admitOf({ id: '1', now })
  await store.admit(admit)
  await store.settle(settleOf(admit))
  await store.replay([{ ...settleOf(admitOf({ id: '2', now })), op: 'enter' }])
  for (const [key, days] of [
    ['user:alice', 3],
    [`day:${dateOf(now)}`, 5],
    ['once:2', 7],
  ] as const) {
    const left = Number(await redis.command(['PTTL', `weir:1:${key}`]))
    expect(left, key).toBeGreaterThan(days * DAY_MS - HOUR_MS)
    expect(left, key).toBeLessThanOrEqual(days * DAY_MS)
  }
})
