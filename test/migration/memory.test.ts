/** The cost of migrating a large old file: memory does not grow with the file, and there are few commands. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, open, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { DAY_MS } from '../../src/ledger/windows.ts'
import { IMPORT_SCRIPT } from '../../src/store/redis/import-script.ts'
import { NOON } from '../support/commands.ts'
import { bundleText } from '../support/entry.ts'
import { oldRequests } from '../support/old-file.ts'
import { startRedis, type Redis } from '../support/redis.ts'
import { redisStore, RETENTION } from '../support/stores.ts'
import { startUpstash, type Upstash } from '../support/upstash.ts'

const CHILD = `
import { migrateFile } from '../../src/migration/migrate.ts'
import { createImport } from '../../src/store/redis/import.ts'
import { restClient } from '../../src/store/redis/rest.ts'

const { file, client, importScript: script } = JSON.parse(process.argv[2])
const common = { retention: ${JSON.stringify({ ...RETENTION, eventsKept: 1000 })}, now: () => ${NOON}, warn: () => undefined }
const target = createImport({ redis: restClient(client), script, ...common })
const started = performance.now()
const base = process.memoryUsage().rss
const report = await migrateFile({ file, userHashSecret: 'secret', target, ...common })
const megabytes = Math.round(process.resourceUsage().maxRSS / 1024 - base / 1024 / 1024)
console.log(JSON.stringify({ records: report.records, megabytes, ms: Math.round(performance.now() - started) }))
`

let redis: Redis
let upstash: Upstash
let root: string

beforeAll(async () => {
  redis = await startRedis()
  upstash = await startUpstash(redis)
  root = await mkdtemp(join(tmpdir(), 'weir-memory-'))
  await bundleText(CHILD, join(root, 'child.mjs'))
})

afterAll(async () => {
  await upstash?.close()
  await redis?.stop()
  await rm(root, { recursive: true, force: true })
})

const USERS = 500

/** Writes an old file with this many requests, over 80 days. */
async function write(requests: number): Promise<string> {
  const file = join(root, `${requests}.json`)
  const handle = await open(file, 'w')
  let text = '['
  for (const lines of oldRequests(requests, { users: USERS, days: 80 })) {
    text += `${lines.map((line) => JSON.stringify(line)).join(',')},`
    if (text.length < 1e6) continue
    await handle.write(text)
    text = ''
  }
  await handle.write(`${text.slice(0, -1)}]`)
  await handle.close()
  return file
}

type Cost = { records: number; megabytes: number; ms: number }

async function migrate(file: string): Promise<Cost> {
  const client = { url: upstash.url, token: upstash.token, timeoutMs: 10_000 }
  const args = [
    `--max-old-space-size=${HEAP_MB}`,
    join(root, 'child.mjs'),
    JSON.stringify({ file, client, importScript: IMPORT_SCRIPT }),
  ]
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  let output = ''
  child.stdout.on('data', (data: Buffer) => (output += data.toString()))
  const [code] = (await once(child, 'close')) as [number | null]
  // The process aborts if it has too little memory.
  expect(code, 'the exit code of a migration').toBe(0)
  return JSON.parse(output) as Cost
}

/** Numbers of requests. The larger file has 50,000 records. */
const SIZES = [1000, 19_300]
/**
 * The limit for objects; the records of the larger file need more. Buffers are additional, and count in the size of
 * the process.
 */
const HEAP_MB = 48
const MOST_MB = 200

test('memory and commands do not grow with the file', async () => {
  const costs = []
  for (const size of SIZES) {
    const file = await write(size)
    await redis.flush()
    await redis.resetStats()
    const cost = await migrate(file)
    const stats = await redis.commandstats()
    const commands = Object.values(stats).reduce((sum, calls) => sum + calls, 0)
    const dates = Array.from({ length: 91 }, (_, ago) => NOON - ago * DAY_MS)
    const days = await redisStore(upstash).days(
      dates.map((at) => new Date(at).toISOString().slice(0, 10)),
    )
    expect(days.reduce((sum, { total }) => sum + total.charged, 0)).toBe(25 * size)
    costs.push({ ...cost, commands })
  }
  console.table(costs)
  expect(costs.at(-1)?.records).toBeGreaterThanOrEqual(50_000)
  for (const { megabytes, commands } of costs) {
    expect(megabytes).toBeLessThan(MOST_MB)
    // Two documents per user, and a few others.
    expect(commands).toBeLessThan(2 * USERS + 300)
  }
}, 60_000)
