/** The stores under test: each is new and uses the real service. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Redis } from '@upstash/redis'
import { openLocal, type LocalStore } from '../../src/store/local/store.ts'
import type { Sharing } from '../../src/store/redis/commands.ts'
import { createRedisStore, type RedisOptions } from '../../src/store/redis/store.ts'
import { LEDGER_SCRIPT } from '../../src/store/redis/script-files.ts'
import { restClient } from '../../src/store/redis/rest.ts'
import { tcpClient } from '../../src/store/redis/tcp.ts'
import { turnTaker } from '../../src/store/redis/turns.ts'
import type { Command } from '../../src/ledger/commands.ts'
import type { Answer } from '../../src/ledger/answers.ts'
import type { Retention } from '../../src/ledger/advance.ts'
import { answerOf, type Store, type UserQuery } from '../../src/store/store.ts'
import type { Upstash } from './upstash.ts'

export const RETENTION: Retention = { userDays: 7, historyDays: 90, eventsKept: 10_000 }

export type Warning = { event: string; fields: Record<string, unknown> }

type RedisStoreOptions = {
  sharing?: Sharing
  retention?: Partial<Retention>
  timeoutMs?: number
  warnings?: Warning[]
  script?: string
  tolerance?: number
}

export const redisStore = (upstash: Upstash, options: RedisStoreOptions = {}): Store =>
  createRedisStore(
    redisOptions(
      restClient({
        url: upstash.url,
        token: upstash.token,
        timeoutMs: options.timeoutMs ?? 10_000,
      }),
      options,
    ),
  )

const redisOptions = (redis: Redis, options: RedisStoreOptions): RedisOptions => ({
  redis,
  takeTurn: turnTaker(redis, { batch: options.sharing === 'calls' }),
  retention: { ...RETENTION, ...options.retention },
  script: options.script ?? LEDGER_SCRIPT,
  // The clocks of tests may jump.
  tolerance: options.tolerance ?? Infinity,
  sharing: options.sharing ?? 'none',
  warn: (event: string, fields: Record<string, unknown>) =>
    void options.warnings?.push({ event, fields }),
})

export type TcpStore = Store & { remove(): Promise<void> }

/** A Redis store with its own connection. */
export function tcpStore(url: string, options: RedisStoreOptions = {}): TcpStore {
  const { redis, close } = tcpClient({ url, timeoutMs: options.timeoutMs ?? 10_000 })
  const store = createRedisStore(redisOptions(redis, options))
  return { ...store, remove: async () => close() }
}

export type TemporaryLocal = LocalStore & { file: string; remove(): Promise<void> }

type LocalStoreOptions = {
  retention?: Partial<Retention>
  warnings?: Warning[]
  tolerance?: number
}

/** A local store with its own folder. */
export async function localStore(
  now: () => number = Date.now,
  options: LocalStoreOptions = {},
): Promise<TemporaryLocal> {
  const folder = await mkdtemp(join(tmpdir(), 'weir-'))
  const file = join(folder, 'logs', 'token_usage.json')
  const store = await openLocal({
    file,
    retention: { ...RETENTION, ...options.retention },
    now,
    tolerance: options.tolerance ?? Infinity,
    warn: (event, fields) => options.warnings?.push({ event, fields }),
  })
  return {
    ...store,
    file,
    async remove() {
      await store.close()
      await rm(folder, { recursive: true, force: true })
    },
  }
}

/** The users of one page. */
export const usersOf = async (store: Pick<Store, 'listUsers'>, query: UserQuery) =>
  (await store.listUsers(query)).users

/** Sends one command. An `enter` goes through `replay`, as entries that waited in the queue do. */
export async function send(store: Store, command: Command): Promise<Answer> {
  if (command.op !== 'enter') return store.execute(command)
  const [answer] = await store.replay([command])
  return answerOf(answer)
}
