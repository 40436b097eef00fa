/** The entry for Node: a server of its own, on Redis or on files. */
import { ConfigError, readConfig, type Config, type Database } from './config.ts'
import { loadEnvFiles } from './env-files.ts'
import { createLog, type Log } from './log.ts'
import { startServer } from './server.ts'
import { startupLines } from './startup.ts'
import { openLocal } from './store/local.ts'
import { createRedisStore } from './store/redis.ts'
import { restClient } from './store/rest.ts'
import { StoreError, type Store } from './store/store.ts'

loadEnvFiles()

try {
  await start(readConfig(process.env, 'node'))
} catch (error) {
  const expected = error instanceof ConfigError || error instanceof StoreError
  const taken = error instanceof Error && 'code' in error && error.code === 'EADDRINUSE'
  if (!expected && !taken) throw error
  console.error(error.message)
  process.exit(1)
}

async function start(config: Readonly<Config>): Promise<void> {
  const production = process.env.NODE_ENV === 'production'
  const format = production ? 'json' : 'text'
  const write = (line: string) => console.log(line)
  const log = createLog({ level: config.logLevel, format, write })
  const { store, storage, close } = await openStore(config, log)
  const server = await startServer({ config, store, log })
  let stopping = false
  const stop = async () => {
    if (stopping) process.exit(1)
    stopping = true
    await server.close()
    await close()
    process.exit(0)
  }
  process.on('SIGTERM', () => void stop())
  process.on('SIGINT', () => void stop())

  // Last, so that whoever waits for it may stop us from then on.
  for (const line of startupLines(config, storage)) console.log(line)
  console.log(`Weir listens on http://localhost:${server.port}`)
}

type Opened = { store: Store; storage: string; close(): Promise<void> }

async function openStore(config: Readonly<Config>, log: Log): Promise<Opened> {
  const { redis: database, storeTimeoutMs, retention, usageFile: file } = config
  const { warn } = log
  if (database) {
    const { redis, storage, close } = await openRedis(database, storeTimeoutMs)
    return { store: createRedisStore({ redis, retention, batch: true, warn }), storage, close }
  }
  const store = await openLocal({ file, retention, now: Date.now, warn })
  return { store, storage: `the file ${file}`, close: () => store.close() }
}

async function openRedis(database: Database, timeoutMs: number) {
  if (database.kind === 'rest') {
    const redis = restClient({ ...database, timeoutMs })
    return { redis, storage: 'Redis over REST', close: async () => undefined }
  }
  // Only here, since it takes longer to load than everything else.
  const { tcpClient } = await import('./store/tcp.ts')
  const { redis, close } = tcpClient({ ...database, timeoutMs })
  return { redis, storage: 'Redis over TCP', close: async () => close() }
}
