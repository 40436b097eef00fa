/** Notices that `USER_HASH_SECRET` is another than before, by a check value that is kept beside the data. */
import { readFile, writeFile } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import type { Log } from './log.ts'
import { guard } from './store/call.ts'
import { PREFIX } from './store/keys.ts'
import type { RedisCommands } from './store/redis.ts'
import { createIds } from './usage/user-id.ts'

/** What is hashed like a token, and too short to be one: so the value is nobody's id, and no better for guessing than an id. */
const CHECKED = 'check'

const RETRY_MS = 2000

export const SECRET_CHANGED =
  'USER_HASH_SECRET is another than when this data was last used: every user has a new id, counts start from nothing and ' +
  'blocks do not hold. If that is not meant, set the old one.'

/** Where the check value is kept. */
export type CheckPlace = {
  read(): Promise<string | undefined>
  write(value: string): Promise<void>
}

/** Beside the local store's files. */
export function checkInFile(file: string): CheckPlace {
  const path = `${file}.secret`
  return {
    read: () => readFile(path, 'utf8').catch(() => undefined),
    write: (value) => writeFile(path, value, { mode: 0o600 }),
  }
}

/** In the database; as long as it has none, the one beside the files counts, which are moved into it. */
export function checkInDatabase(
  redis: Pick<RedisCommands, 'get' | 'set'>,
  file: string,
): CheckPlace {
  const key = `${PREFIX}secret`
  return {
    read: async () => (await guard(() => redis.get<string>(key))) ?? checkInFile(file).read(),
    write: async (value) => void (await guard(() => redis.set(key, value))),
  }
}

/** Whether the secret is another than when this was last asked; from now on this one is kept. Rejects when the place does not answer. */
export async function isSecretChanged(
  secret: string | undefined,
  { read, write }: CheckPlace,
): Promise<boolean> {
  const value = await createIds(secret).user(CHECKED)
  const known = await read()
  if (known !== value) await write(value)
  return known !== undefined && known !== value
}

/** Says it in the log, as soon as the place answers. */
export async function tellSecretChange(
  secret: string | undefined,
  place: CheckPlace,
  log: Log,
): Promise<void> {
  for (;;) {
    try {
      if (await isSecretChanged(secret, place)) log.warn('secret.changed', { help: SECRET_CHANGED })
      return
    } catch {
      // The part that waits for the store says that it is away.
      await delay(RETRY_MS, undefined, { ref: false })
    }
  }
}
