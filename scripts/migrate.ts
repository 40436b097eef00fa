/**
 * `npm run migrate [-- FILE]`: imports a usage file into the database, ours or the old system's, if the server has no
 * disk. `npm run migrate -- --kv`: imports the predecessor's own keys in the same database.
 */
import { ConfigError, readConfig, type Config, type Database } from '../src/config/config.ts'
import { loadEnvFiles } from '../src/platform/node/env-files.ts'
import { useProxies } from '../src/platform/node/http.ts'
import { createLog } from '../src/log.ts'
import { rekey } from '../src/migration/rekey.ts'
import { migrated, type MigrationReport } from '../src/migration/report.ts'
import { migrate, TIMEOUT_MS } from '../src/migration/start.ts'
import { connect } from '../src/platform/node/store.ts'
import {
  checkInDatabase,
  isSecretChanged,
  SECRET_CHANGED,
} from '../src/platform/node/secret-check.ts'
import { createImport } from '../src/store/redis/import.ts'
import { IMPORT_SCRIPT } from '../src/store/redis/import-script.ts'
import { StoreError } from '../src/store/store.ts'
import { createIds } from '../src/identity/ids.ts'

const KEYS = '--kv'

const [arg, ...more] = process.argv.slice(2)
if (more.length || (arg?.startsWith('-') && arg !== KEYS)) {
  fail(`Usage: npm run migrate [-- FILE], or npm run migrate -- ${KEYS}`)
}
loadEnvFiles()
try {
  useProxies(process.env)
  const file = arg !== undefined && arg !== KEYS ? { USAGE_FILE: arg } : {}
  const config = readConfig({ ...process.env, ...file }, 'node')
  const { redis: database } = config
  if (!database) fail('No database is configured: set KV_REST_API_URL and KV_REST_API_TOKEN.')
  await checkSecret(config, database)
  await (arg === KEYS ? migrateKeys : migrateUsage)(config, database)
} catch (error) {
  if (!(error instanceof ConfigError || error instanceof StoreError)) throw error
  fail(error.message)
}

/** Warns if ids in the database were made with another secret, before any new id is made. */
async function checkSecret(config: Readonly<Config>, database: Database): Promise<void> {
  const { redis, disconnect } = await connect(database, TIMEOUT_MS)
  try {
    const place = checkInDatabase(redis, config.usageFile)
    if (await isSecretChanged(config.userHashSecret, place)) console.error(SECRET_CHANGED)
  } finally {
    disconnect()
  }
}

async function migrateUsage(config: Readonly<Config>, database: Database): Promise<void> {
  const report = await migrate({ config, database, connect, log: createWarnings(), now: Date.now })
  if (!report) fail(`There is nothing to migrate at ${config.usageFile}.`)
  console.log(migrated(report))
  const { historyDays } = config.retention
  if (report.leftOut) {
    console.log(`${report.leftOut} requests older than ${historyDays} days were left out.`)
  }
  if (report.damaged) console.log(tellDamaged(report))
}

function tellDamaged({ damaged, positions, setAside }: MigrationReport): string {
  const further = damaged > positions.length ? ' and more' : ''
  return (
    `${damaged} damaged records are set aside in ${setAside ?? 'a file beside it'}. ` +
    `Positions in the array: ${positions.join(', ')}${further}.`
  )
}

async function migrateKeys(config: Readonly<Config>, database: Database): Promise<void> {
  const { userHashSecret, ipStorage, retention } = config
  const [now, { warn }] = [Date.now, createWarnings()]
  const { redis, disconnect } = await connect(database, TIMEOUT_MS)
  try {
    const target = createImport({ redis, script: IMPORT_SCRIPT, retention, now, warn })
    const ids = createIds(userHashSecret)
    const report = await rekey({ redis, target, ids, ipStorage, retention, now })
    console.log(`📊 Migrated ${report.users} users and ${report.blocks} blocks to new keys`)
    for (const name of report.unreadable) console.error(`Cannot be read, not migrated: ${name}`)
    if (report.stats) {
      console.log(`${report.stats} model:stats keys were not migrated: they do not separate days.`)
    }
    if (report.unreadable.length) process.exitCode = 1
  } finally {
    disconnect()
  }
}

function createWarnings() {
  return createLog({ level: 'warn', format: 'text', write: (line) => console.error(line) })
}

function fail(message: string): never {
  console.error(message)
  process.exit(1)
}
