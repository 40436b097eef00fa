/** The entry for Node: a server, on Redis or on files. */
import { ConfigError, readConfig, type Config } from './config/config.ts'
import { loadEnvFiles } from './platform/node/env-files.ts'
import { useProxies } from './platform/node/http.ts'
import { createLog } from './log.ts'
import { startMigration } from './migration/start.ts'
import { connect, openStore } from './platform/node/store.ts'
import { tellSecretChange } from './platform/node/secret-check.ts'
import { createApp } from './app.ts'
import { demoFetch } from './platform/node/demo/model.ts'
import { firstSteps } from './platform/node/demo/first-steps.ts'
import { readTrial, type Trial } from './platform/node/demo/trial.ts'
import { addressOf, cannotListen } from './platform/node/listening.ts'
import { startServer } from './platform/node/server.ts'
import { startupLines } from './platform/node/startup.ts'
import { onStopSignal } from './platform/node/signals.ts'
import { StoreError } from './store/store.ts'

loadEnvFiles()

try {
  useProxies(process.env)
  if (process.env.DEMO?.trim() === '1') {
    const trial = await readTrial(process.env, 'node')
    await start(trial.config, trial)
  } else {
    await start(readConfig(process.env, 'node'))
  }
} catch (error) {
  const expected = error instanceof ConfigError || error instanceof StoreError
  // The port is taken, or the address is not one of this machine.
  const told = expected ? error.message : cannotListen(error)
  if (told === undefined) throw error
  console.error(told)
  process.exit(1)
}

async function start(config: Readonly<Config>, trial?: Trial): Promise<void> {
  const production = process.env.NODE_ENV === 'production'
  const format = production ? 'json' : 'text'
  const write = (line: string) => console.log(line)
  const log = createLog({ level: config.logLevel, format, write })
  const { store, storage, check, lost, close } = await openStore(config, log)
  const upstream = trial?.isDemoModel ? demoFetch : undefined
  const server = await startServer({ createApp, config, store, log, upstream })
  void tellSecretChange(config.userHashSecret, check, log)
  const { redis: database } = config
  const migration = database && startMigration({ config, database, connect, log, now: Date.now })
  if (database) {
    // So that the lines below say whether the database does what Weir needs.
    await store.probe().catch((error: unknown) => log.warn('store.no_answer', { error }))
  }
  const stop = onStopSignal([server.close, () => migration?.stop(), close], log)
  // Another process counts now. This one would serve without a cap.
  lost.addEventListener('abort', stop)
  if (lost.aborted) stop()

  // Printed last: a process that waits for these lines may stop the server after them.
  const address = addressOf(config.host, server.port, config.basePath)
  for (const line of startupLines(config, storage, store.health())) console.log(line)
  console.log(`Weir listens on ${address}`)
  if (trial) for (const line of firstSteps(trial, address)) console.log(line)
}
