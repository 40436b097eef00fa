/** A changed USER_HASH_SECRET is detected: tests of the function, and of the commands as separate processes. */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { createLog } from '../../src/log.ts'
import {
  checkInDatabase,
  checkInFile,
  isSecretChanged,
  tellSecretChange,
  type CheckPlace,
} from '../../src/platform/node/secret-check.ts'
import { PREFIX } from '../../src/store/redis/keys.ts'
import { restClient } from '../../src/store/redis/rest.ts'
import { linesOf } from '../support/old-file.ts'
import { useDatabase } from '../support/database.ts'
import { useEntry } from '../support/entry.ts'

const { redis, upstash } = useDatabase()
const KEY = `${PREFIX}secret`
let folder: string
let file: string
let children: ChildProcess[]

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'weir-secret-'))
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

const inDatabase = () =>
  checkInDatabase(
    restClient({ url: upstash.url, token: upstash.token, timeoutMs: 10_000 }),
    join(folder, 'usage.json'),
  )

const PLACES: [string, () => CheckPlace][] = [
  ['beside the files', () => checkInFile(file)],
  ['in the database', inDatabase],
]

test.each(PLACES)('a changed secret is reported once, %s', async (_, place) => {
  const secrets = ['a', 'a', 'b', 'b', undefined, undefined, 'a']
  const told: boolean[] = []
  for (const secret of secrets) told.push(await isSecretChanged(secret, place()))
  expect(told).toEqual([false, false, true, false, true, false, true])
})

test('the stored value is not a secret, and stays until the secret changes', async () => {
  await isSecretChanged('a-secret-of-the-tests', inDatabase())
  expect(await redis.command(['GET', KEY])).toMatch(/^[\w-]{22}$/)
  expect(await redis.command(['TTL', KEY])).toBe(-1)
})

test('files that are moved into a database bring their check value', async () => {
  await isSecretChanged('a', checkInFile(file))
  expect(await isSecretChanged('b', inDatabase())).toBe(true)
  expect(await isSecretChanged('b', inDatabase())).toBe(false)
})

test('an unavailable database is asked again until it answers', async () => {
  await isSecretChanged('a', inDatabase())
  upstash.fault(() => ({ status: 500 }))
  const lines: string[] = []
  const log = createLog({ level: 'info', format: 'json', write: (line) => lines.push(line) })
  const telling = tellSecretChange('b', inDatabase(), log)
  await expect.poll(() => upstash.log.length).toBeGreaterThan(0)
  upstash.fault(undefined)
  await telling
  expect(lines.map((line) => JSON.parse(line) as object)).toMatchObject([
    { level: 'warn', msg: 'secret.changed' },
  ])
})

type Vars = Record<string, string>

const start = useEntry()
const dev = useEntry('scripts/dev.ts')
const migrate = useEntry('scripts/migrate.ts')

/** Runs a script to its end, or until it listens and a condition holds. Returns its output. */
async function run(
  script: { readonly path: string },
  vars: Vars,
  isSo: (output: string) => boolean | Promise<boolean> = () => true,
): Promise<string> {
  const { PATH, HOME } = process.env
  const child = spawn(process.execPath, [script.path], {
    env: { PATH, HOME, PORT: '0', USAGE_FILE: file, ...vars },
  })
  children.push(child)
  let output = ''
  child.stdout.on('data', (data: Buffer) => (output += data.toString()))
  child.stderr.on('data', (data: Buffer) => (output += data.toString()))
  const ended = once(child, 'close')
  if (script !== migrate) {
    await expect.poll(() => output, { timeout: 20_000 }).toMatch(/listens on/)
    await expect.poll(() => isSo(output)).toBe(true)
    child.kill('SIGTERM')
  }
  await ended
  return output
}

const rest = () => ({ KV_REST_API_URL: upstash.url, KV_REST_API_TOKEN: upstash.token })
const CHANGED = 'USER_HASH_SECRET has changed since'

const isTold = (output: string) => output.includes(CHANGED)

test.each<[string, () => Vars]>([
  ['files', () => ({})],
  ['Redis', () => ({ REDIS_URL: redis.url })],
])('npm start on %s reports that the secret has changed', async (_, vars) => {
  const isKept = async () =>
    existsSync(`${file}.secret`) || (await redis.command(['GET', KEY])) !== null
  const first = await run(start, { ...vars(), USER_HASH_SECRET: 'one' }, isKept)
  expect(first).not.toContain(CHANGED)
  await run(start, { ...vars(), USER_HASH_SECRET: 'two' }, isTold)
})

test.each<[string, () => CheckPlace, () => Vars]>([
  ['files', () => checkInFile(file), () => ({})],
  ['Redis', inDatabase, rest],
])('npm run dev on %s reports that the secret has changed', async (_, place, vars) => {
  await isSecretChanged('one', place())
  await run(dev, { ...vars(), USER_HASH_SECRET: 'two' }, isTold)
})

test('npm run migrate reports it before it moves anything', async () => {
  await isSecretChanged('one', inDatabase())
  await writeFile(file, JSON.stringify(linesOf(0, { timestamp: Date.now() })))
  const output = await run(migrate, { ...rest(), USER_HASH_SECRET: 'two' })
  expect(output).toMatch(/USER_HASH_SECRET has changed since[^]*Migrated 3 records/)
}, 20_000)
