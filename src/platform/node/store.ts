/** The store of a process on Node: Redis over REST or TCP, or files. Each has the fallback. */
import type { Config, Database } from '../../config/config.ts'
import type { Log } from '../../log.ts'
import { importOld } from '../../migration/import-old.ts'
import { fieldsOf, imported } from '../../migration/report.ts'
import { checkInDatabase, checkInFile, type CheckPlace } from './secret-check.ts'
import { withFallback, type FallbackStore } from '../../store/fallback/store.ts'
import { openLocal } from '../../store/local/store.ts'
import { fileQueue } from '../../store/fallback/queue-file.ts'
import { memoryQueue } from '../../store/fallback/queue.ts'
import { CONNECTED, createRedisStore } from '../../store/redis/store.ts'
import { LEDGER_SCRIPT } from '../../store/redis/script-files.ts'
import { turnTaker } from '../../store/redis/turns.ts'
import { restNodeClient } from './rest.ts'
import type { Store } from '../../store/store.ts'

export type NodeStore = {
  store: FallbackStore
  /** The store without the fallback, for work that may wait. */
  direct: Store
  /** Where usage is stored, as text for people. */
  storage: string
  /** Where the check value of the secret is stored. */
  check: CheckPlace
  /** Aborted when another process has taken over the files that everything is counted in. */
  lost: AbortSignal
  close(): Promise<void>
}

/** Opens the configured store. Throws `StoreError` if the files cannot be used. An unavailable database is no error. */
export async function openStore(config: Readonly<Config>, log: Log): Promise<NodeStore> {
  const { redis: database, storeTimeoutMs, retention, usageFile: file, onStoreDown: mode } = config
  const { warn } = log
  const losing = new AbortController()
  const lost = losing.signal
  const options = { mode, retention, now: Date.now, log }
  if (!database) {
    const report = await importOld({ ...config, file, now: Date.now })
    if (report) log.info(imported(report), fieldsOf(report))
    const local = await openLocal({
      ...{ file, retention, now: Date.now, warn },
      lost: (error) => losing.abort(error),
    })
    const store = withFallback({ ...options, store: local, queue: memoryQueue(log) })
    const [storage, check] = [`the file ${file}`, checkInFile(file)]
    return { store, direct: local, storage, check, lost, close: () => local.close() }
  }
  const { redis, storage, disconnect } = await connect(database, storeTimeoutMs)
  const direct = createRedisStore({
    redis,
    takeTurn: turnTaker(redis, { batch: true }),
    retention,
    script: LEDGER_SCRIPT,
    sharing: 'calls',
    warn,
  })
  const queue = await fileQueue(file, log)
  const store = withFallback({ ...options, store: direct, queue, connected: CONNECTED })
  const close = async () => {
    await queue.close()
    disconnect()
  }
  return { store, direct, storage, check: checkInDatabase(redis, file), lost, close }
}

/** Builds a separate client for the database. */
export async function connect(database: Database, timeoutMs: number) {
  if (database.kind === 'rest') {
    const redis = restNodeClient({ ...database, timeoutMs })
    return { redis, storage: 'Redis over REST', disconnect: () => undefined }
  }
  // Imported here, because it takes longer to load than everything else.
  const { tcpClient } = await import('../../store/redis/tcp.ts')
  const { redis, close } = tcpClient({ ...database, timeoutMs })
  return { redis, storage: 'Redis over TCP', disconnect: close }
}
