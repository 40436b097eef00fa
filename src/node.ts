/** The entry for Node: a server, on Redis or on files. */
import { ConfigError, readConfig, type Config } from './config/config.ts'
import { loadEnvFiles } from './platform/node/env-files.ts'
import { createLog } from './log.ts'
import { startMigration } from './migration/start.ts'
import { connect, openStore } from './platform/node/store.ts'
import { tellSecretChange } from './platform/node/secret-check.ts'
import { createApp } from './app.ts'
import { startServer } from './platform/node/server.ts'
import { startupLines } from './platform/node/startup.ts'
import { onStopSignal } from './platform/node/signals.ts'
import { StoreError } from './store/store.ts'

loadEnvFiles()

try {
  await start(readConfig(process.env, 'node'))
} catch (error) {
  const expected = error instanceof ConfigError || error instanceof StoreError
  // The port is taken, or the address is not one of this machine.
  const deaf =
    error instanceof Error &&
    'syscall' in error &&
    /^(listen|getaddrinfo)$/.test(String(error.syscall))
  if (!expected && !deaf) throw error
  console.error(error.message)
  process.exit(1)
}

async function start(config: Readonly<Config>): Promise<void> {
  const production = process.env.NODE_ENV === 'production'
  const format = production ? 'json' : 'text'
  const write = (line: string) => console.log(line)
  const log = createLog({ level: config.logLevel, format, write })
  const { store, storage, check, close } = await openStore(config, log)
  const server = await startServer({ createApp, config, store, log })
  void tellSecretChange(config.userHashSecret, check, log)
  const { redis: database } = config
  const migration = database && startMigration({ config, database, connect, log, now: Date.now })
  if (database) {
    // A first call, so that the log says at once whether the store answers.
    store.events(1).catch((error: unknown) => log.warn('store.no_answer', { error }))
  }
  onStopSignal(async () => {
    await server.close()
    await migration?.stop()
    await close()
  })

  // Printed last: a process that waits for these lines may stop the server after them.
  for (const line of startupLines(config, storage)) console.log(line)
  console.log(`Weir listens on http://${urlHost(config.host)}:${server.port}${config.basePath}`)
}

/** The host of an address that leads to this server. */
function urlHost(host = 'localhost'): string {
  return host.includes(':') ? `[${host}]` : host
}
