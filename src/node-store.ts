/** The store of a process on Node: Redis over REST or TCP, or files; behind the fallback in each case. */
import type { Config, Database } from './config.ts'
import type { Log } from './log.ts'
import { importOld } from './migration/import-old.ts'
import { fieldsOf, imported } from './migration/report.ts'
import { checkInDatabase, checkInFile, type CheckPlace } from './secret-check.ts'
import { withFallback, type FallbackStore } from './store/fallback.ts'
import { openLocal } from './store/local.ts'
import { fileQueue } from './store/queue-file.ts'
import { memoryQueue } from './store/queue.ts'
import { CONNECTED, createRedisStore } from './store/redis.ts'
import { LEDGER_SCRIPT } from './store/redis/script-files.ts'
import { restNodeClient } from './store/rest-node.ts'
import type { Store } from './store/store.ts'

export type NodeStore = {
  store: FallbackStore
  /** The store itself, for work that may wait. */
  direct: Store
  /** Where usage is kept, for people. */
  storage: string
  /** Where it is kept which secret made the ids. */
  check: CheckPlace
  close(): Promise<void>
}

/** Opens what the configuration names. Throws `StoreError` when the files cannot be used; a database may be away. */
export async function openStore(config: Readonly<Config>, log: Log): Promise<NodeStore> {
  const { redis: database, storeTimeoutMs, retention, usageFile: file, onStoreDown: mode } = config
  const { warn } = log
  const options = { mode, retention, now: Date.now, log }
  if (!database) {
    const report = await importOld({ ...config, file, now: Date.now })
    if (report) log.info(imported(report), fieldsOf(report))
    const local = await openLocal({ file, retention, now: Date.now, warn })
    const store = withFallback({ ...options, store: local, queue: memoryQueue(log) })
    const [storage, check] = [`the file ${file}`, checkInFile(file)]
    return { store, direct: local, storage, check, close: () => local.close() }
  }
  const { redis, storage, disconnect } = await connect(database, storeTimeoutMs)
  const direct = createRedisStore({ redis, retention, script: LEDGER_SCRIPT, batch: true, warn })
  const queue = await fileQueue(file, log)
  const store = withFallback({ ...options, store: direct, queue, connected: CONNECTED })
  const close = async () => {
    await queue.close()
    disconnect()
  }
  return { store, direct, storage, check: checkInDatabase(redis, file), close }
}

/** A client of its own for the database. */
export async function connect(database: Database, timeoutMs: number) {
  if (database.kind === 'rest') {
    const redis = restNodeClient({ ...database, timeoutMs })
    return { redis, storage: 'Redis over REST', disconnect: () => undefined }
  }
  // Only here, since it takes longer to load than everything else.
  const { tcpClient } = await import('./store/tcp.ts')
  const { redis, close } = tcpClient({ ...database, timeoutMs })
  return { redis, storage: 'Redis over TCP', disconnect: close }
}
