/** The migration beside a running gateway. Requests do not wait for it. It waits until the database answers. */
import { setTimeout as delay } from 'node:timers/promises'
import type { Config, Database } from '../config/config.ts'
import type { Log } from '../log.ts'
import { createImport, type ImportCommands } from '../store/redis/import.ts'
import { IMPORT_SCRIPT } from '../store/redis/import-script.ts'
import { StoreError } from '../store/store.ts'
import { canMigrate, migrateFile } from './migrate.ts'
import { fieldsOf, migrated, type MigrationReport } from './report.ts'

/** Connects to the database with a long time-out, because commands and answers may be large. */
export type Connect = (
  database: Database,
  timeoutMs: number,
) => Promise<{ redis: ImportCommands; disconnect(): void }>

export type MigrationOptions = {
  config: Readonly<Config>
  database: Database
  connect: Connect
  log: Log
  now(): number
}

export type Migration = {
  /** Resolves when everything is moved, or after `stop`. */
  done: Promise<void>
  /** Ends the migration between two steps. The next start continues it. */
  stop(): Promise<void>
}

export const TIMEOUT_MS = 10_000
const RETRY_MS = 2000

/** Moves the data of `USAGE_FILE` into the database, and retries until that succeeds. */
export function startMigration(options: MigrationOptions): Migration {
  const stopping = new AbortController()
  const done = keepTrying(options, stopping.signal)
  return {
    done,
    stop() {
      stopping.abort()
      return done
    },
  }
}

async function keepTrying(options: MigrationOptions, signal: AbortSignal): Promise<void> {
  const { log } = options
  const { usageFile: file } = options.config
  let told = ''
  while (!signal.aborted) {
    try {
      const report = await migrate({ ...options, signal })
      if (report) log.info(migrated(report), fieldsOf(report))
      return
    } catch (error) {
      if (signal.aborted) return
      const { message } = error as Error
      if (message !== told) log.warn('migration.waiting', { file, error })
      told = message
      if (!(error instanceof StoreError)) return
    }
    await delay(RETRY_MS, undefined, { ref: false, signal }).catch(() => undefined)
  }
}

/** One attempt. Returns undefined if there is nothing to move. Throws `StoreError`. */
export async function migrate(
  options: MigrationOptions & { signal?: AbortSignal },
): Promise<MigrationReport | undefined> {
  const { config, database, connect, now } = options
  const { usageFile: file, retention, userHashSecret } = config
  const { warn } = options.log
  if (!(await canMigrate(file))) return undefined
  const { redis, disconnect } = await connect(database, TIMEOUT_MS)
  try {
    const target = createImport({ redis, script: IMPORT_SCRIPT, retention, now, warn })
    const { signal } = options
    return await migrateFile({
      file,
      retention,
      userHashSecret,
      now,
      target,
      warn,
      ...(signal && { signal }),
    })
  } finally {
    disconnect()
  }
}
