/** Detects a change of `USER_HASH_SECRET`, by a check value that is stored with the data. */
import { readFile } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import type { Log } from '../../log.ts'
import { replaceFile } from '../../store/local/private-file.ts'
import { guard } from '../../store/redis/call.ts'
import { PREFIX } from '../../store/redis/keys.ts'
import type { RedisCommands } from '../../store/redis/store.ts'
import { createIds } from '../../identity/ids.ts'

/**
 * Hashed like a token. It is too short to be a token, so the hash is no user's id; it helps an attacker no more than
 * an id does.
 */
const CHECKED = 'check'

const RETRY_MS = 2000

export const SECRET_CHANGED =
  'USER_HASH_SECRET has changed since this data was last used: every user has a new id, counts start from zero and ' +
  'blocks do not apply. If you did not mean to change it, set the old one.'

/** Where the check value is stored. */
export type CheckPlace = {
  read(): Promise<string | undefined>
  write(value: string): Promise<void>
}

/** Beside the local store's files. */
export function checkInFile(file: string): CheckPlace {
  const path = `${file}.secret`
  return {
    read: () => readFile(path, 'utf8').catch(() => undefined),
    write: (value) => replaceFile(path, [value]),
  }
}

/**
 * In the database. Until it has a check value, the one beside the files counts, because those files are moved into
 * the database.
 */
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

/**
 * Whether the secret has changed since the last check. Stores the new check value. Rejects if the place does not
 * answer.
 */
export async function isSecretChanged(
  secret: string | undefined,
  { read, write }: CheckPlace,
): Promise<boolean> {
  const value = await createIds(secret).user(CHECKED)
  const known = await read()
  if (known !== value) await write(value)
  return known !== undefined && known !== value
}

/** Logs a change of the secret, as soon as the place answers. */
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
      // Not logged here: the code that waits for the store reports that it is unavailable.
      await delay(RETRY_MS, undefined, { ref: false })
    }
  }
}
