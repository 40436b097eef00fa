/** Fills the database with a past: one user and one day made by normal commands, and copies of them. */
import { activityOf } from '../src/ledger/activity.ts'
import { VERSIONS } from '../src/ledger/shapes.ts'
import type { Key, ProfileDoc, UsageDoc } from '../src/ledger/documents.ts'
import { DAY_MS, dateOf } from '../src/ledger/windows.ts'
import { PREFIX, TOP_DAY, dayKey, pastKey, profileKey, usageKey } from '../src/store/redis/keys.ts'
import { createRedisStore } from '../src/store/redis/store.ts'
import { LEDGER_SCRIPT } from '../src/store/redis/script-files.ts'
import { tcpClient } from '../src/store/redis/tcp.ts'
import { createIds } from '../src/identity/ids.ts'
import { admitOf, settleOf } from '../test/support/commands.ts'
import type { Redis } from '../test/support/redis.ts'
import { RETENTION } from '../test/support/stores.ts'
import { BENCH_HASH_SECRET, BENCH_MODEL, BENCH_USER_DAYS } from './weir-vars.ts'

const MODELS = 50
const MODELS_PER_USER = 5
const DAYS = 90
const EVENTS = RETENTION.eventsKept

/** Commands that are sent at a time. */
const BATCH = 1000

/** Users who send one request after the other, and come again and again. */
export const HOT_USERS = 32

export const subjectOf = (user: number): string => `user-${user}`
export const tokenOf = (user: number): string => `token-of-user-${user}`
export const modelOf = (model: number): string =>
  model === 0 ? BENCH_MODEL : `maker/model-${model}`

/** What each user has, in words. */
export const EACH_USER = `${BENCH_USER_DAYS} past days of ${MODELS_PER_USER} models and a profile with two keys`

/** What everyone together has, in words. */
export const EVERYONE = `${MODELS} models and ${DAYS} days`

/**
 * Writes users `token-of-user-0` and up, who were active within the last day and have a past; days with all models; and
 * a full list of events.
 */
export async function populate(redis: Redis, users: number): Promise<void> {
  const now = Date.now()
  const { redis: client, close } = tcpClient({ url: redis.url, timeoutMs: 60_000 })
  const store = createRedisStore({
    redis: client,
    retention: { ...RETENTION, userDays: BENCH_USER_DAYS },
    script: LEDGER_SCRIPT,
    // The commands start at the beginning of the past.
    tolerance: Infinity,
    sharing: 'none',
    warn: () => undefined,
  })
  const use = async (user: string, models: number, at: number) => {
    for (let model = 0; model < models; model += 1) {
      const id = crypto.randomUUID()
      const admit = admitOf({ id, user, model: modelOf(model), now: at, reserved: 500 })
      await store.execute(admit)
      await store.execute(settleOf(admit))
    }
  }
  for (let ago = BENCH_USER_DAYS; ago >= 0; ago -= 1) {
    await use('a-usual-one', MODELS_PER_USER, now - ago * DAY_MS)
  }
  await use('a-busy-one', MODELS, now)
  const [day] = await store.days([dateOf(now)])
  close()

  const copies = Array.from({ length: DAYS - 1 }, (_, ago) => {
    const date = dateOf(now - (ago + 1) * DAY_MS)
    return ['SET', dayKey(date), JSON.stringify({ ...day, date }), 'EX', '7776000']
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

  const read = async (key: string) => JSON.parse(String(await redis.command(['GET', key])))
  const usual = (await read(usageKey('a-usual-one'))) as UsageDoc
  const past = (await read(pastKey('a-usual-one'))) as object
  const ids = createIds(BENCH_HASH_SECRET)
  /** The first users are also the users of JWTs. */
  const idsOf = async (user: number) => [
    await ids.user(tokenOf(user)),
    ...(user < HOT_USERS ? [await ids.ofUser(subjectOf(user))] : []),
  ]
  const today = Math.floor(now / DAY_MS) * TOP_DAY
  const seconds = String((BENCH_USER_DAYS * DAY_MS) / 1000)
  for (let from = 0; from < users; from += BATCH) {
    const commands: string[][] = []
    for (let user = from; user < Math.min(from + BATCH, users); user += 1) {
      const seen = now - Math.floor((user / users) * DAY_MS)
      for (const id of await idsOf(user)) {
        const doc: UsageDoc = { ...usual, id, seen, indexed: { ...usual.indexed, at: seen } }
        commands.push(
          ['SET', usageKey(id), JSON.stringify(doc), 'EX', seconds],
          ['SET', pastKey(id), JSON.stringify({ ...past, id }), 'EX', seconds],
          ['SET', profileKey(id), JSON.stringify(profileOf(id, now))],
          ['ZADD', `${PREFIX}users`, String(activityOf(doc)), `a:${id}`],
          ['ZADD', `${PREFIX}users`, String(today + doc.indexed.tokens + user), `t:${id}`],
        )
      }
    }
    await all(redis, commands)
  }
}

/** The profile of a user with a label, a plan and two keys, which an admission reads. */
function profileOf(id: string, now: number): ProfileDoc {
  const key = (name: string): Key => ({
    name,
    hash: 'a'.repeat(43),
    start: 'weir_aBcDeF',
    last4: 'aBcD',
    created: now,
    expires: now + 90 * DAY_MS,
  })
  const keys = { AbCdEfGhIjKl: key('laptop'), MnOpQrStUvWx: key('server') }
  const v = VERSIONS.profile
  return { v, id, label: 'Ada Lovelace', plan: 'pro', blocks: {}, limits: {}, keys }
}

async function all(redis: Redis, commands: string[][]): Promise<void> {
  await Promise.all(commands.map((command) => redis.command(command)))
}
