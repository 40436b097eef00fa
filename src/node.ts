/** The entry for Node: a server of its own, on Redis or on files. */
import { ConfigError, readConfig, type Config } from './config.ts'
import { loadEnvFiles } from './env-files.ts'
import { createLog } from './log.ts'
import { startMigration } from './migration/start.ts'
import { connect, openStore } from './node-store.ts'
import { tellSecretChange } from './secret-check.ts'
import { startServer } from './server.ts'
import { startupLines } from './startup.ts'
import { onStopSignal } from './stop-signals.ts'
import { StoreError } from './store/store.ts'

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
  const { store, storage, check, close } = await openStore(config, log)
  const server = await startServer({ config, store, log })
  void tellSecretChange(config.userHashSecret, check, log)
  const { redis: database } = config
  const migration = database && startMigration({ config, database, connect, log, now: Date.now })
  if (database) {
    // So that the log says at once whether it answers.
    store.events(1).catch((error: unknown) => log.warn('store.no_answer', { error }))
  }
  onStopSignal(async () => {
    await server.close()
    await migration?.stop()
    await close()
  })

  // Last, so that a process that waits for it may stop us from then on.
  for (const line of startupLines(config, storage)) console.log(line)
  console.log(`Weir listens on http://localhost:${server.port}`)
}
