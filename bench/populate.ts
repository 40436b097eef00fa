/** A past made up in the database: one user and one day that came about as usual, and copies of them. */
import type { Redis } from '../test/redis.ts'
import { createRedisStore } from '../src/store/redis.ts'
import { LEDGER_SCRIPT } from '../src/store/redis/script-files.ts'
import { PREFIX, TOP_DAY, dayKey, userKey } from '../src/store/keys.ts'
import { tcpClient } from '../src/store/tcp.ts'
import { DAY_MS, activityOf, dateOf, settledTokens, type UserDoc } from '../src/usage/record.ts'
import { createIds } from '../src/usage/user-id.ts'
import { RETENTION } from '../test/stores.ts'
import { admitOf, settleOf } from '../test/commands.ts'
import { BENCH_HASH_SECRET } from './weir-vars.ts'

const MODELS = 50
const MODELS_PER_USER = 3
const DAYS = 90
const EVENTS = RETENTION.eventsKept

/** So many commands are sent at a time. */
const BATCH = 1000

export const tokenOf = (user: number): string => `token-of-user-${user}`
export const modelOf = (model: number): string => `maker/model-${model}`

/** Users `token-of-user-0` and on, active within the last day; days with all models; and a full list of events. */
export async function populate(redis: Redis, users: number): Promise<void> {
  const now = Date.now()
  const { redis: client, close } = tcpClient({ url: redis.url, timeoutMs: 60_000 })
  const store = createRedisStore({
    redis: client,
    retention: RETENTION,
    script: LEDGER_SCRIPT,
    batch: false,
    warn: () => undefined,
  })
  const use = async (user: string, model: string) => {
    const admit = admitOf({ id: crypto.randomUUID(), user, model, now, bound: 500 })
    await store.admit(admit)
    await store.settle(settleOf(admit))
  }
  for (let model = 0; model < MODELS; model += 1) await use('a-busy-one', modelOf(model))
  for (let model = 0; model < MODELS_PER_USER; model += 1) await use('a-usual-one', modelOf(model))
  close()

  const day = String(await redis.command(['GET', dayKey(dateOf(now))]))
  const copies = Array.from({ length: DAYS - 1 }, (_, ago) => {
    const date = dateOf(now - (ago + 1) * DAY_MS)
    return ['SET', dayKey(date), JSON.stringify({ ...(JSON.parse(day) as object), date })]
  })
  await all(redis, copies)

  const event = String(await redis.command(['LINDEX', `${PREFIX}events`, '0']))
  await all(
    redis,
    Array.from({ length: EVENTS / BATCH }, () => [
      'RPUSH',
      `${PREFIX}events`,
      ...Array<string>(BATCH).fill(event),
    ]),
  )

  const usual = JSON.parse(String(await redis.command(['GET', userKey('a-usual-one')]))) as UserDoc
  const ids = createIds(BENCH_HASH_SECRET)
  const today = Math.floor(now / DAY_MS) * TOP_DAY
  for (let from = 0; from < users; from += BATCH) {
    const commands: string[][] = []
    for (let user = from; user < Math.min(from + BATCH, users); user += 1) {
      const doc: UserDoc = {
        ...usual,
        id: await ids.user(tokenOf(user)),
        seen: now - Math.floor((user / users) * DAY_MS),
      }
      commands.push(
        ['SET', userKey(doc.id), JSON.stringify(doc), 'EX', '604800'],
        ['ZADD', `${PREFIX}users`, String(activityOf(doc)), doc.id],
        ['ZADD', `${PREFIX}top`, String(today + settledTokens(doc) + user), doc.id],
      )
    }
    await all(redis, commands)
  }
}

async function all(redis: Redis, commands: string[][]): Promise<void> {
  await Promise.all(commands.map((command) => redis.command(command)))
}
