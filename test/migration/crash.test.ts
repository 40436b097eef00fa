/**
 * Migrations that are killed and run again: before each step with a visible effect, and at random times. In the end,
 * each record exists exactly once, and each file is in its place.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { cp, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { importOld } from '../../src/migration/import-old.ts'
import { migrateFile } from '../../src/migration/migrate.ts'
import { createImport } from '../../src/store/redis/import.ts'
import type { State } from '../../src/store/local/state.ts'
import { openLocal } from '../../src/store/local/store.ts'
import { IMPORT_SCRIPT } from '../../src/store/redis/import-script.ts'
import { restClient } from '../../src/store/redis/rest.ts'
import type { Store } from '../../src/store/store.ts'
import type { QuotaDoc } from '../../src/ledger/documents.ts'
import { admitOf, NOON, settleOf } from '../support/commands.ts'
import { bundleText } from '../support/entry.ts'
import { oldRequests } from '../support/old-file.ts'
import { startRedis, type Redis } from '../support/redis.ts'
import { redisStore, RETENTION } from '../support/stores.ts'
import { startUpstash, type Upstash } from '../support/upstash.ts'

/** The task of the child process. It dies before its change of a file or call of the database number `dieAt`. */
type Job = { what: 'migrate' | 'import'; file: string; dieAt?: number }

const CHUNK = { items: 20, bytes: 20_000 }
/** The number of kills at random times. */
const KILLS = 12
const retention = RETENTION
const now = () => NOON
const warn = () => undefined
const client = () => ({ url: upstash.url, token: upstash.token, timeoutMs: 10_000 })

const CHILD = `
import fs from 'node:fs/promises'
import { syncBuiltinESMExports } from 'node:module'
import { migrateFile } from '../../src/migration/migrate.ts'
import { importOld } from '../../src/migration/import-old.ts'
import { createImport } from '../../src/store/redis/import.ts'
import { restClient } from '../../src/store/redis/rest.ts'

const { what, file, dieAt, client } = JSON.parse(process.argv[2])
const script = ${JSON.stringify(IMPORT_SCRIPT)}
const retention = ${JSON.stringify(RETENTION)}
const now = () => ${NOON}
const warn = () => undefined
let step = 0
const dying = (call) => (...args) => {
  step += 1
  if (step === dieAt) process.kill(process.pid, 'SIGKILL')
  return call(...args)
}
for (const name of ['open', 'rename', 'unlink', 'rm', 'writeFile', 'appendFile']) {
  fs[name] = dying(fs[name])
}
syncBuiltinESMExports()
globalThis.fetch = dying(fetch)

const redis = restClient(client)
const target = createImport({ redis, script, retention, now, warn })
const options = { file, retention, userHashSecret: 'secret', now, warn, target }
process.stdout.write('here')
if (what === 'import') await importOld(options)
else await migrateFile({ ...options, chunk: ${JSON.stringify(CHUNK)} })
`

let redis: Redis
let upstash: Upstash
let store: Store
let root: string
let script: string

beforeAll(async () => {
  redis = await startRedis()
  upstash = await startUpstash(redis)
  store = redisStore(upstash)
  root = await mkdtemp(join(tmpdir(), 'weir-crash-'))
  script = join(root, 'child.mjs')
  await bundleText(CHILD, script)
})

afterAll(async () => {
  await upstash?.close()
  await redis?.stop()
  await rm(root, { recursive: true, force: true })
})

/** Removes the guard of a killed process, which the next one would do after two seconds. */
const unguard = (file: string) => rm(`${file}.lock.guard`, { force: true })

/**
 * Runs the child, and kills it after `killAfter` ms if it has not ended. `whole`: it was not killed; `ms`: how long
 * it worked.
 */
async function run(job: Job, killAfter?: number): Promise<{ whole: boolean; ms: number }> {
  await unguard(job.file)
  const args = [script, JSON.stringify({ ...job, client: client() })]
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  const ended = once(child, 'exit') as Promise<[number | null, string | null]>
  let timer: ReturnType<typeof setTimeout> | undefined
  let started = NaN
  child.stdout.once('data', () => {
    started = performance.now()
    if (killAfter !== undefined) timer = setTimeout(() => child.kill('SIGKILL'), killAfter)
  })
  const [code, signal] = await ended
  clearTimeout(timer)
  if (signal === null) expect(code).toBe(0)
  return { whole: signal === null, ms: performance.now() - started }
}

type Source = { name: string; make(file: string): Promise<void> }

const oldFile = (count: number): Source => ({
  name: 'an old file',
  async make(file) {
    const text = JSON.stringify([...oldRequests(count)].flat())
    await writeFile(file, text.replace('[', '[{"id":"damaged"},'))
  },
})

const ownFiles: Source = {
  name: 'files of our own',
  async make(file) {
    const store = await openLocal({ file, retention, now, warn, tolerance: Infinity })
    const spend = async (n: number) => {
      const admit = admitOf({ id: `id-${n}`, user: `user-${n % 10}`, now: NOON + n })
      await store.execute(admit)
      if (n % 4) await store.execute(settleOf(admit, { charged: n }))
    }
    for (let n = 0; n < 60; n += 1) await spend(n)
    // As after kill -9, everything is in the journal.
    const journal = await readFile(`${file}.journal`)
    await store.close()
    await rm(file)
    await writeFile(`${file}.journal`, journal)
  },
}

/** Sorted, and without the ids that a migration creates. */
const plain = ({ usage, past, profiles, quotas, days, events }: State) => ({
  users: [usage, past, profiles].map((documents) =>
    documents.toSorted((a, b) => (a.id < b.id ? -1 : 1)),
  ),
  quotas: Object.fromEntries(quotas),
  days: days.toSorted((a, b) => (a.date < b.date ? -1 : 1)),
  events: events
    .map(({ id: _, ...event }) => JSON.stringify(event, Object.keys(event).sort()))
    .sort(),
})

async function inDatabase(): Promise<State> {
  const keys = (await redis.command(['KEYS', 'weir:{2}:*'])) as string[]
  const named = (kind: string) => keys.filter((key) => key.startsWith(`weir:{2}:${kind}`))
  async function read<T>(kind: string): Promise<T[]> {
    const texts = named(kind).length
      ? ((await redis.command(['MGET', ...named(kind)])) as string[])
      : []
    return texts.map((text) => JSON.parse(text) as T)
  }
  const quotas = await read<QuotaDoc>('quota')
  const dates = named('day:').map((key) => key.slice('weir:{2}:day:'.length).slice(0, 10))
  return {
    usage: await read('usage:'),
    past: await read('past:'),
    profiles: await read('profile:'),
    quotas: quotas.map((quota, index) => [named('quota')[index] ?? '', quota]),
    days: await store.days([...new Set(dates)]),
    events: await store.events(10_000),
  }
}

async function inFile(file: string): Promise<State> {
  return (JSON.parse(await readFile(file, 'utf8')) as { state: State }).state
}

/** Completes in this process the work of a killed one. */
async function goOn({ what, file }: Job): Promise<void> {
  await unguard(file)
  const importing = { redis: restClient(client()), script: IMPORT_SCRIPT }
  const target = createImport({ ...importing, retention, now, warn })
  const options = { file, retention, userHashSecret: 'secret', now, warn }
  if (what === 'import') await importOld(options)
  else await migrateFile({ ...options, target, chunk: CHUNK })
}

/** Creates the files of a source. Each call of the result copies them for one run. */
async function fresh(source: Source): Promise<(name: string) => Promise<string>> {
  const origin = await mkdtemp(join(root, 'origin-'))
  await source.make(join(origin, 'usage.json'))
  return async (name) => {
    const place = join(root, `${name}-${Math.random()}`)
    await cp(origin, place, { recursive: true, preserveTimestamps: true })
    await redis.flush()
    return join(place, 'usage.json')
  }
}

const placed = async (file: string) =>
  (await readdir(join(file, '..'))).filter((name) => !name.endsWith('.lock')).sort()

/** The job, its files, the least number of steps, and of how many steps one is tried, which is another one in each run. */
const WHAT: [Job['what'], Source, least: number, stride: number][] = [
  ['migrate', oldFile(40), 20, 2],
  ['migrate', ownFiles, 20, 3],
  ['import', oldFile(40), 11, 1],
]

test.each(
  WHAT.map(([what, source, least, stride]) => ({ what, source, least, stride, of: source.name })),
)(
  '$what of $of that is killed before one of its steps ends as if it had not been',
  async ({ what, source, least, stride }) => {
    const begin = await fresh(source)
    const found = (file: string) => (what === 'import' ? inFile(file) : inDatabase())
    const undisturbed = await begin('undisturbed')
    expect(await run({ what, file: undisturbed })).toMatchObject({ whole: true })
    const expected = plain(await found(undisturbed))
    const files = await placed(undisturbed)
    expect(expected.days.length).toBeGreaterThan(0)
    expect(files.join()).not.toMatch(/migrating|imported|tmp/)

    let dieAt = 1 + Math.floor(Math.random() * stride)
    for (; ; dieAt += stride) {
      const file = await begin('killed')
      const { whole } = await run({ what, file, dieAt })
      if (!whole) await goOn({ what, file })
      expect(plain(await found(file)), `killed before step ${dieAt}`).toEqual(expected)
      expect(await placed(file), `killed before step ${dieAt}`).toEqual(files)
      if (source !== ownFiles) {
        expect(await readFile(`${file}.damaged`, 'utf8')).toBe('{"id":"damaged"}\n')
      }
      if (whole) break
    }
    expect(dieAt).toBeGreaterThan(least)
  },
  60_000,
)

test(`a migration that is killed at random moments, ${KILLS} in all, and run again has each record there once`, async () => {
  const begin = await fresh(oldFile(200))
  const job = async (name: string): Promise<Job> => ({ what: 'migrate', file: await begin(name) })
  const undisturbed = await job('undisturbed')
  const { ms } = await run(undisturbed)
  const expected = plain(await inDatabase())
  const files = await placed(undisturbed.file)
  expect(expected.events).toHaveLength(200)
  let kills = 0
  while (kills < KILLS) {
    const killed = await job('killed')
    let whole = false
    while (!whole && kills < KILLS) {
      ;({ whole } = await run(killed, Math.random() * ms))
      if (!whole) kills += 1
    }
    if (!whole) await goOn(killed)
    expect(plain(await inDatabase()), `after ${kills} kills`).toEqual(expected)
    expect(await placed(killed.file)).toEqual(files)
  }
}, 60_000)
