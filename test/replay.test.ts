import { execFile } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { readUnrecorded } from '../scripts/log-entries.ts'
import { createLog } from '../src/log.ts'
import { memoryQueue } from '../src/store/queue.ts'
import type { Entry } from '../src/store/store.ts'
import { DAY_MS } from '../src/usage/record.ts'
import { admitOf, eventOf, settleOf } from './commands.ts'
import { startRedis, type Redis } from './redis.ts'
import { redisStore, usersOf } from './stores.ts'
import { startUpstash, type Upstash } from './upstash.ts'

const NOW = Date.now()

const entryOf = (id: string): Entry => ({
  op: 'enter',
  now: NOW,
  user: 'alice',
  event: eventOf({ id, user: 'alice', at: NOW - 1000 }),
  scopes: ['*'],
})

/** The lines that a gateway logs for entries which have to wait. */
async function linesOf(...entries: Entry[]): Promise<string[]> {
  const lines: string[] = []
  const log = createLog({ level: 'error', format: 'json', write: (line) => lines.push(line) })
  const queue = memoryQueue(log)
  for (const entry of entries) await queue.add(entry)
  return lines
}

test('a line is read as the entry that it was written for', async () => {
  const settle = settleOf(admitOf({ id: '1', now: NOW }), { session: 's' }, NOW + 7)
  const { scopes: _, ...plain } = entryOf('2') as Entry & { scopes?: string[] }
  const entries: Entry[] = [settle, entryOf('3'), plain]
  expect((await linesOf(...entries)).map((line) => readUnrecorded(line, NOW))).toEqual(entries)
})

test('a line that is written for people is read too', async () => {
  const lines: string[] = []
  const log = createLog({ level: 'error', format: 'text', write: (line) => lines.push(line) })
  const settle = settleOf(admitOf({ id: '1', now: NOW }), {}, NOW + 7)
  const { scopes: _, ...plain } = entryOf('2') as Entry & { scopes?: string[] }
  const entries: Entry[] = [settle, entryOf('3'), plain]
  for (const entry of entries) await memoryQueue(log).add(entry)
  expect(lines.map((line) => readUnrecorded(line, NOW))).toEqual(entries)
  expect(lines.map((line) => readUnrecorded(line.slice(0, -4), NOW))).toEqual(
    entries.map(() => 'unreadable'),
  )
})

test.each([
  ['under message', (line: string) => JSON.stringify({ source: 'edge', message: line })],
  ['under msg', (line: string) => JSON.stringify({ msg: line, level: 'error' })],
  ['behind a time', (line: string) => `2026-11-22T12:00:00.000Z ${line}`],
])('a line that a collector keeps %s is read too', async (_, wrap) => {
  const [line = ''] = await linesOf(entryOf('1'))
  expect(readUnrecorded(wrap(line), NOW)).toEqual(entryOf('1'))
})

test('other lines are passed over, and damaged ones are told from them', async () => {
  const [line = ''] = await linesOf(entryOf('1'))
  expect(readUnrecorded('', NOW)).toBeUndefined()
  expect(readUnrecorded('plain text', NOW)).toBeUndefined()
  expect(readUnrecorded('{"msg":"start","help":"see usage.unrecorded"}', NOW)).toBeUndefined()
  expect(readUnrecorded(line.slice(0, -3), NOW)).toBe('unreadable')
  expect(readUnrecorded(line.replace('"charged":15', '"charged":-1'), NOW)).toBe('unreadable')
  expect(readUnrecorded(line.replace('"op":"enter"', '"op":"clear"'), NOW)).toBe('unreadable')
  expect(readUnrecorded('usage.unrecorded', NOW)).toBe('unreadable')
})

let redis: Redis
let upstash: Upstash
let folder: string

beforeAll(async () => {
  redis = await startRedis()
  upstash = await startUpstash(redis)
  folder = await mkdtemp(join(tmpdir(), 'weir-'))
})
beforeEach(() => redis.flush())
afterAll(async () => {
  await upstash.close()
  await redis.stop()
  await rm(folder, { recursive: true })
})

type Run = { code: number; out: string; err: string }

/** `npm run replay`, as a process in a folder without environment files. */
function replay(args: string[], vars: Record<string, string>): Promise<Run> {
  const script = join(import.meta.dirname, '../scripts/replay.ts')
  const tsx = join(import.meta.dirname, '../node_modules/tsx/dist/cli.mjs')
  const env = { PATH: process.env.PATH, ...vars }
  return new Promise((resolve) => {
    execFile(process.execPath, [tsx, script, ...args], { cwd: folder, env }, (error, out, err) =>
      resolve({ code: typeof error?.code === 'number' ? error.code : 0, out, err }),
    )
  })
}

test('npm run replay counts each line once, however often it is run', async () => {
  const store = redisStore(upstash)
  const ids = Array.from({ length: 150 }, (_, n) => `${n}`)
  const lines = await linesOf(...ids.map(entryOf))
  const file = join(folder, 'captured.log')
  await writeFile(file, ['{"msg":"start"}', ...lines, ...lines.slice(3, 9), ''].join('\n'))
  const vars = { KV_REST_API_URL: upstash.url, KV_REST_API_TOKEN: upstash.token }

  const first = await replay([file], vars)
  expect(first).toMatchObject({ code: 0, err: '' })
  expect(first.out).toContain('150 counted in Redis over REST, 6 not')
  const second = await replay([file], { REDIS_URL: redis.url })
  expect(second.out).toContain('0 counted in Redis over TCP, 156 not')

  const [user] = await usersOf(store, { sort: 'lastActive', limit: 2, now: NOW })
  const charged = Object.values(user?.rows ?? {}).reduce((sum, row) => sum + row.charged, 0)
  const past = Object.values(user?.past ?? {}).flatMap((rows) => Object.values(rows))
  expect(charged + past.reduce((sum, row) => sum + row.charged, 0)).toBe(150 * 15)
  expect(await store.events(1000)).toHaveLength(150)
})

test('npm run replay settles what ended days ago, unless its lease is gone', async () => {
  const store = redisStore(upstash)
  const now = NOW - 2 * DAY_MS
  const [quiet, back] = [admitOf({ id: '1', now }), admitOf({ id: '2', user: 'bob', now })]
  for (const admit of [quiet, back]) await store.admit(admit)
  await store.admit(admitOf({ id: '3', user: 'bob', now: NOW }))
  const file = join(folder, 'late.log')
  await writeFile(file, (await linesOf(settleOf(quiet), settleOf(back))).join('\n'))
  const { out } = await replay([file], { REDIS_URL: redis.url })
  expect(out).toContain('1 counted in Redis over TCP, 1 not')
  expect((await store.events(9)).map(({ id, charged }) => [id, charged])).toEqual([['1', 15]])
})

test('npm run replay says what it cannot read, and counts the rest', async () => {
  const [good = '', bad = ''] = await linesOf(entryOf('1'), entryOf('2'))
  const file = join(folder, 'damaged.log')
  await writeFile(file, `${bad.slice(0, 200)}\n${good}\n`)
  const run = await replay([file], { USAGE_FILE: join(folder, 'usage.json') })
  expect(run.code).toBe(1)
  expect(run.out).toContain('1 counted in the file')
  expect(run.err).toContain('Lines that cannot be read: 1')
})

test.each([
  ['no file', [], {}, 'Name the file'],
  ['a file that is not there', ['nowhere.log'], {}, 'nowhere.log'],
  ['a wrong environment', ['here.log'], { CAP: 'loose' }, 'CAP must be one of'],
  ['a database that is away', ['here.log'], { REDIS_URL: 'redis://127.0.0.1:1' }, 'ECONNREFUSED'],
])('npm run replay with %s says so in one line', async (_, args, vars, message) => {
  await writeFile(join(folder, 'here.log'), `${(await linesOf(entryOf('1'))).join('\n')}\n`)
  const run = await replay(args, vars)
  expect(run.code).toBe(1)
  expect(run.err).toContain(message)
  expect(run.err).not.toContain('    at ')
})
