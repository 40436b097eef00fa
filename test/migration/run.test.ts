/** Migration as an operator runs it: `npm start`, `npm run dev` and `npm run migrate`, as separate processes. */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { DAY_MS, dateOf } from '../../src/ledger/windows.ts'
import { linesOf } from '../support/old-file.ts'
import { useDatabase } from '../support/database.ts'
import { useEntry } from '../support/entry.ts'
import { redisStore } from '../support/stores.ts'

const ADMIN_KEY = 'admin-key-of-the-tests'

const { redis, upstash } = useDatabase()
let folder: string
let file: string
let children: ChildProcess[]

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'weir-migrate-'))
  file = join(folder, 'usage.json')
  children = []
})

afterEach(async () => {
  for (const child of children) {
    if (child.exitCode !== null || child.signalCode !== null) continue
    child.kill('SIGKILL')
    await once(child, 'exit')
  }
  await rm(folder, { recursive: true, force: true })
})

type Vars = Record<string, string>

const migrate = useEntry('scripts/migrate.ts')
const start = useEntry()
const dev = useEntry('scripts/dev.ts')

/** Starts a script, from the sources or bundled, and collects its output. */
function run(script: string, args: string[] = [], vars: Vars = {}) {
  const { PATH, HOME } = process.env
  const command = script.endsWith('.ts') ? ['--import', 'tsx', script] : [script]
  const child = spawn(process.execPath, [...command, ...args], {
    env: { PATH, HOME, PORT: '0', ADMIN_KEY, USAGE_FILE: file, ...vars },
  })
  children.push(child)
  let output = ''
  child.stdout.on('data', (data: Buffer) => (output += data.toString()))
  child.stderr.on('data', (data: Buffer) => (output += data.toString()))
  return { output: () => output, ended: once(child, 'close') as Promise<[number | null]> }
}

const database = () => ({ KV_REST_API_URL: upstash.url, KV_REST_API_TOKEN: upstash.token })

/** Writes an old file with two requests of yesterday. */
async function writeOld(): Promise<void> {
  const timestamp = Date.now() - DAY_MS
  const requests = [0, 4].map((n) => linesOf(n, { timestamp: timestamp - n }))
  await writeFile(file, JSON.stringify(requests.flat()))
}

const yesterday = async () =>
  (await redisStore(upstash).days([dateOf(Date.now() - DAY_MS - 4)]))[0]?.total.charged

test('npm start with a database moves the file there in the background, and logs that', async () => {
  await writeOld()
  const { output } = run(start.path, [], { REDIS_URL: redis.url })
  await expect.poll(output, { timeout: 20_000 }).toMatch(/listens on/)
  await expect.poll(output).toContain('📊 Migrated 4 records from file to database')
  expect(await yesterday()).toBe(50)
  expect(existsSync(`${file}.migrated`)).toBe(true)
}, 30_000)

test.each([
  ['npm start', () => start.path],
  ['npm run dev', () => dev.path],
])(
  '%s without a database imports the old file before it serves',
  async (_, script) => {
    await writeOld()
    const { output } = run(script())
    await expect.poll(output, { timeout: 20_000 }).toMatch(/listens on/)
    expect(output()).toContain('📊 Imported 4 records of an old file')
    const [, url] = /listens on (\S+)/.exec(output()) ?? []
    const headers = { authorization: `Bearer ${ADMIN_KEY}` }
    const answer = await fetch(`${url}/api/tokens?action=stats`, { headers })
    expect(JSON.stringify(await answer.json())).toContain('"totalTokensAllTime":50')
    expect(existsSync(`${file}.migrated`)).toBe(true)
  },
  30_000,
)

test('npm run migrate moves a file from a checkout, and reports the result', async () => {
  await writeOld()
  const { output, ended } = run('scripts/migrate.ts', [file], { ...database(), USAGE_FILE: 'x' })
  expect((await ended)[0], output()).toBe(0)
  expect(output()).toBe('📊 Migrated 4 records from file to database\n')
  expect(await yesterday()).toBe(50)
  await rename(`${file}.migrated`, file)
  const again = run(migrate.path, [file], database())
  expect((await again.ended)[0], again.output()).toBe(0)
  expect(again.output()).toContain(
    '📊 Migrated 0 records from file to database: this file was migrated',
  )
  expect(await yesterday()).toBe(50)
}, 20_000)

test('npm run migrate reports damaged and expired records', async () => {
  const old = linesOf(0, { timestamp: 0 })
  await writeFile(file, JSON.stringify([{}, ...old, { id: 'x' }]))
  const { output, ended } = run(migrate.path, [], { REDIS_URL: redis.url })
  expect((await ended)[0], output()).toBe(0)
  expect(output()).toContain('1 requests older than 90 days were left out.')
  expect(output()).toContain(`2 damaged records are set aside in ${file}.damaged`)
  expect(output()).toContain('Positions in the array: 1, 5.')
}, 20_000)

test.each<[string, string[], () => Vars, RegExp]>([
  ['without a database', [], () => ({}), /^No database is configured/],
  ['without a file', [], database, /^There is nothing to migrate at /],
  ['with an unknown option', ['--help'], database, /^Usage: /],
  ['with a wrong environment', [], () => ({ CAP: 'soft' }), /CAP must be/],
])('npm run migrate %s reports that and fails', async (_, args, vars, message) => {
  const { output, ended } = run(migrate.path, args, vars())
  expect((await ended)[0]).toBe(1)
  expect(output()).toMatch(message)
  expect(output()).not.toMatch(/\n +at /)
})

test('npm run migrate -- --kv converts keys, shows no token, and fails if a key cannot be read', async () => {
  const usage = { tokensUsedDay: 9, tokensRemainingDay: 1, requestsDay: 2 }
  const user = { lastActive: Date.now(), ipAddress: null, modelUsage: { 'a/one': usage } }
  await redis.command(['SET', 'user:token-of-alice', JSON.stringify(user)])
  await redis.command(['SET', 'user:token-of-bob', 'spoilt'])
  await redis.command(['SET', 'blocked:token-of-alice:a/one', 'true'])
  await redis.command(['SET', 'model:stats:a/one', '{}'])
  const { output, ended } = run(migrate.path, ['--kv'], database())
  expect((await ended)[0]).toBe(1)
  expect(output()).toContain('📊 Migrated 1 users and 1 blocks to new keys')
  expect(output()).toMatch(/Cannot be read, not migrated: user:\S{22}\n/)
  expect(output()).toContain('1 model:stats keys were not migrated')
  expect(output()).not.toContain('token-of')
}, 20_000)
