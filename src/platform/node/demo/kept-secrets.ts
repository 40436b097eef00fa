/** The secrets of a trial gateway: made up once, and kept beside the data, so that a restart logs nobody out. */
import { randomBytes } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { dirname } from 'node:path'
import { parseEnv } from 'node:util'
import type { Platform, Vars } from '../../../config/config.ts'
import { databaseOf } from '../../../config/database.ts'
import { replaceFile } from '../../../store/local/private-file.ts'

type Secrets = Partial<Record<'ADMIN_KEY' | 'USER_HASH_SECRET', string>>

/**
 * Returns ADMIN_KEY and USER_HASH_SECRET if they are missing: those that an earlier run made up, or new ones. A
 * database may hold users of a deployment, and files may hold users of earlier runs without a secret. With a new
 * secret, all of them would be new users, so USER_HASH_SECRET is made up only for new files.
 */
export async function keptSecrets(
  vars: Vars,
  platform: Platform,
  usageFile: string,
): Promise<Secrets> {
  const path = secretsPath(usageFile)
  const known: Secrets = existsSync(path) ? parseEnv(readFileSync(path, 'utf8')) : {}
  const isSet = (name: keyof Vars) => Boolean(vars[name]?.trim())
  const inFiles = !databaseOf(vars, platform, [])
  const isNew = inFiles && !existsSync(`${usageFile}.secret`)

  const secrets: Secrets = {}
  if (!isSet('ADMIN_KEY') && !isSet('ADMIN_KEYS')) secrets.ADMIN_KEY = known.ADMIN_KEY ?? made()
  const hashSecret = inFiles ? (known.USER_HASH_SECRET ?? (isNew ? made() : undefined)) : undefined
  if (!isSet('USER_HASH_SECRET') && hashSecret) secrets.USER_HASH_SECRET = hashSecret

  const kept = { ...known, ...secrets }
  const lines = Object.entries(kept).map(([name, value]) => `${name}=${value}\n`)
  if (Object.keys(kept).length > Object.keys(known).length) {
    await mkdir(dirname(path), { recursive: true })
    await replaceFile(path, lines)
  }
  return secrets
}

/** The file that they are kept in. */
export const secretsPath = (usageFile: string): string => `${usageFile}.secrets`

const made = () => randomBytes(24).toString('base64url')
