import { execFile } from 'node:child_process'
import { mkdtemp, open, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { gzipSync } from 'node:zlib'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { readUnrecorded } from '../../scripts/log-entries.ts'
import { logLines } from '../../scripts/log-lines.ts'
import { createLog } from '../../src/log.ts'
import { memoryQueue } from '../../src/store/fallback/queue.ts'
import type { Entry } from '../../src/store/store.ts'
import { rowsOf, whole } from '../../src/ledger/rows.ts'
import { VERSION, VERSIONS } from '../../src/ledger/shapes.ts'
import { DAY_MS, HOUR_MS } from '../../src/ledger/windows.ts'
import { admitOf, eventOf, settleOf } from '../support/commands.ts'
import { useEntry } from '../support/entry.ts'
import { startRedis, type Redis } from '../support/redis.ts'
import { redisStore } from '../support/stores.ts'
import { startUpstash, type Upstash } from '../support/upstash.ts'

const NOW = Date.now()

const entryOf = (id: string): Entry => ({
  op: 'enter',
  now: NOW,
  user: 'alice',
  event: eventOf({ id, user: 'alice', at: NOW - 1000 }),
})

/** The lines that a gateway logs for queued entries. */
async function linesOf(...entries: Entry[]): Promise<string[]> {
  const lines: string[] = []
  const log = createLog({ level: 'error', format: 'json', write: (line) => lines.push(line) })
  const queue = memoryQueue(log)
  for (const entry of entries) await queue.add(entry)
  return lines
}

test('a line is read as the entry that it was written for', async () => {
  const settle = settleOf(admitOf({ id: '1', now: NOW }), { session: 's' }, NOW + 7)
  const failed = entryOf('3')
  failed.event = { ...failed.event, outcome: 'failed', status: 500, charged: 0 }
  const entries: Entry[] = [settle, entryOf('2'), failed]
  expect((await linesOf(...entries)).map((line) => readUnrecorded(line, NOW))).toEqual(entries)
})

test('a line in text format is read too', async () => {
  const lines: string[] = []
  const log = createLog({ level: 'error', format: 'text', write: (line) => lines.push(line) })
  const settle = settleOf(admitOf({ id: '1', now: NOW }), {}, NOW + 7)
  const failed = entryOf('3')
  failed.event = { ...failed.event, outcome: 'failed', status: 500, charged: 0 }
  const entries: Entry[] = [settle, entryOf('2'), failed]
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

test('other lines are ignored, and damaged ones are recognized', async () => {
  const [line = ''] = await linesOf(entryOf('1'))
  expect(readUnrecorded('', NOW)).toBeUndefined()
  expect(readUnrecorded('plain text', NOW)).toBeUndefined()
  expect(readUnrecorded('{"msg":"start","help":"see usage.unrecorded"}', NOW)).toBeUndefined()
  expect(readUnrecorded(line.slice(0, -3), NOW)).toBe('unreadable')
  expect(readUnrecorded(line.replace('"charged":15', '"charged":-1'), NOW)).toBe('unreadable')
  expect(readUnrecorded(line.replace('"op":"enter"', '"op":"clear"'), NOW)).toBe('unreadable')
  expect(readUnrecorded('usage.unrecorded', NOW)).toBe('unreadable')
})

/** A line as a given version writes it. */
const lineOf = async (id: string, v: number) =>
  (await linesOf(entryOf(id)))[0]?.replace(`"v":${VERSION}`, `"v":${v}`) ?? ''

test('a line of a newer version is not taken for a damaged one, with any fields', async () => {
  const newer = await lineOf('1', VERSION + 1)
  const text = `12:00:00 error usage.unrecorded op="enter" usage={"v":${VERSION + 1},"id":"1"}`
  const others = [
    newer,
    newer.replace('"outcome":"exact"', '"outcome":"refunded"'),
    newer.replace('"op":"enter"', '"op":"refund"'),
    JSON.stringify({ message: newer }),
    text,
  ]
  expect(others.map((line) => readUnrecorded(line, NOW))).toEqual(others.map(() => 'newer'))
  expect(readUnrecorded(newer.slice(0, -4), NOW)).toBe('unreadable')
})

test('a line of before the first release cannot be read', async () => {
  const line = await lineOf('1', 1)
  expect(readUnrecorded(line.replace('"reserved"', '"bound"'), NOW)).toBe('unreadable')
  expect(readUnrecorded(line, NOW)).toBe('unreadable')
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

const script = useEntry('scripts/replay.ts')

/** `npm run replay`, as a process in a folder without environment files. */
function replay(
  args: string[],
  vars: Record<string, string>,
  command = [script.path],
): Promise<Run> {
  const env = { PATH: process.env.PATH, ...vars }
  return new Promise((done) => {
    execFile(process.execPath, [...command, ...args], { cwd: folder, env }, (error, out, err) =>
      done({ code: typeof error?.code === 'number' ? error.code : 0, out, err }),
    )
  })
}

/** The script as it is in the checkout. */
const WITH_TSX = ['node_modules/tsx/dist/cli.mjs', 'scripts/replay.ts'].map((path) => resolve(path))

test('npm run replay counts each line once, however often it is run', async () => {
  const store = redisStore(upstash)
  const ids = Array.from({ length: 150 }, (_, n) => `${n}`)
  const lines = await linesOf(...ids.map(entryOf))
  const file = join(folder, 'captured.log')
  await writeFile(file, ['{"msg":"start"}', ...lines, ...lines.slice(3, 9), ''].join('\n'))
  const vars = { KV_REST_API_URL: upstash.url, KV_REST_API_TOKEN: upstash.token }

  const first = await replay([file], vars, WITH_TSX)
  expect(first).toMatchObject({ code: 0, err: '' })
  expect(first.out).toContain('150 counted in Redis over REST, 6 skipped')
  const second = await replay([file], { REDIS_URL: redis.url })
  expect(second.out).toContain('0 counted in Redis over TCP, 156 skipped')

  const user = await store.user('alice')
  const days = [user ? rowsOf(user.usage) : {}, ...Object.values(user?.past.days ?? {})]
  const rows = days.flatMap((day) => Object.values(day)).map(whole)
  expect(rows.reduce((sum, row) => sum + row.charged, 0)).toBe(150 * 15)
  expect(rows.reduce((sum, row) => sum + row.exact, 0)).toBe(150)
  expect(await store.events(1000)).toHaveLength(150)
})

const utf16 = (text: string, order: 'le' | 'be'): Buffer => {
  const bytes = Buffer.from(text, 'utf16le')
  return order === 'le' ? bytes : bytes.swap16()
}

/** How a log may have been captured. */
const ENCODINGS: [string, (text: string) => Buffer][] = [
  ['UTF-8', (text) => Buffer.from(text)],
  ['UTF-8 with a mark at its start', (text) => Buffer.from(`\uFEFF${text}`)],
  ['UTF-8 of two files with a mark each', (text) => Buffer.from(`{}\n\uFEFF${text}`)],
  ['UTF-16, as Windows PowerShell writes it', (text) => utf16(`\uFEFF${text}`, 'le')],
  ['UTF-16 with the high byte first', (text) => utf16(`\uFEFF${text}`, 'be')],
  ['UTF-16 without a mark', (text) => utf16(text, 'le')],
  ['UTF-16 without a mark and with the high byte first', (text) => utf16(text, 'be')],
  [
    'UTF-16 that was appended to UTF-8',
    (text) => Buffer.concat([Buffer.from('{}\n'), utf16(text, 'le')]),
  ],
]

test.each(ENCODINGS)(
  'each line of a log in %s is read, with any line breaks',
  async (_, encode) => {
    const entries = Array.from({ length: 300 }, (_, n) => entryOf(`${n}`))
    const lines = await linesOf(...entries)
    for (const [lineBreak, last] of [
      ['\n', ''],
      ['\r\n', '\r\n'],
    ] as const) {
      const file = join(folder, 'encoded.log')
      await writeFile(file, encode(lines.join(lineBreak) + last))
      const read: unknown[] = []
      for await (const line of logLines(await open(file))) read.push(readUnrecorded(line, NOW))
      expect(read.filter(Boolean)).toEqual(entries)
    }
  },
)

test('letters of other scripts in UTF-16 are kept', async () => {
  const file = join(folder, 'letters.log')
  const text = '{"city":"上海 • Zürich 🦢"}'
  for (const order of ['le', 'be'] as const) {
    await writeFile(file, utf16(`\uFEFF${text}\r\n${text}`, order))
    const read: string[] = []
    for await (const line of logLines(await open(file))) read.push(line)
    expect(read).toEqual([text, text])
  }
})

test('npm run replay reads a log that Windows PowerShell captured, and says that a compressed one is none', async () => {
  const lines = await linesOf(...['1', '2', '3'].map(entryOf))
  const file = join(folder, 'powershell.log')
  const text = lines.join('\r\n')
  await writeFile(file, utf16(`\uFEFF${text}\r\n`, 'le'))
  const run = await replay([file], { REDIS_URL: redis.url })
  expect(run).toMatchObject({ code: 0, err: '' })
  expect(run.out).toContain('3 counted in Redis over TCP, 0 skipped')
  await writeFile(file, gzipSync(text))
  expect(await replay([file], { REDIS_URL: redis.url })).toMatchObject({
    code: 1,
    err: `${file} cannot be read: it is compressed; unpack it first\n`,
  })
})

test('npm run replay settles requests that were admitted within a day, and no others', async () => {
  const store = redisStore(upstash)
  const early = admitOf({ id: '1', now: NOW - DAY_MS - HOUR_MS })
  const late = admitOf({ id: '2', user: 'bob', now: NOW - DAY_MS + HOUR_MS })
  for (const admit of [early, late]) await store.execute(admit)
  await store.execute(admitOf({ id: '3', user: 'carol', now: NOW }))
  const file = join(folder, 'late.log')
  await writeFile(file, (await linesOf(settleOf(early), settleOf(late))).join('\n'))
  const { out } = await replay([file], { REDIS_URL: redis.url })
  expect(out).toContain('1 counted in Redis over TCP, 1 skipped')
  expect((await store.events(9)).map(({ id, charged }) => [id, charged])).toEqual([['2', 15]])
})

test('npm run replay reports lines that it cannot read, and counts the rest', async () => {
  const [good = '', bad = ''] = await linesOf(entryOf('1'), entryOf('2'))
  const file = join(folder, 'damaged.log')
  await writeFile(file, `${bad.slice(0, 200)}\n${good}\n`)
  const run = await replay([file], { USAGE_FILE: join(folder, 'usage.json') })
  expect(run.code).toBe(1)
  expect(run.out).toContain('1 counted in the file')
  expect(run.err).toContain('Lines that cannot be read: 1')
})

test('npm run replay reports lines for a newer version, and counts the rest', async () => {
  const [first = '', second = ''] = await linesOf(entryOf('1'), entryOf('2'))
  const newer = await lineOf('3', VERSION + 1)
  const file = join(folder, 'newer.log')
  const text = ['{"msg":"start"}', first, newer, second, newer, ''].join('\n')
  await writeFile(file, text)
  const run = await replay([file], { REDIS_URL: redis.url })
  expect(run.code).toBe(1)
  expect(run.out).toContain('2 counted in Redis over TCP, 0 skipped')
  expect(run.err).toBe('Lines that only a newer version of Weir can count: 3, 5\n')
})

test('npm run replay reports entries of users with documents of a newer version', async () => {
  const store = redisStore(upstash)
  await store.replay([entryOf('1')])
  const key = 'weir:{2}:usage:alice'
  const text = String(await redis.command(['GET', key]))
  const document = text.replace(`"v":${VERSIONS.usage}`, `"v":${VERSIONS.usage + 1}`)
  await redis.command(['SET', key, document])
  const bob = entryOf('3')
  const entries = [entryOf('2'), { ...bob, user: 'bob', event: { ...bob.event, user: 'bob' } }]
  const file = join(folder, 'users.log')
  await writeFile(file, (await linesOf(...entries)).join('\n'))
  const run = await replay([file], { REDIS_URL: redis.url })
  expect(run.code).toBe(1)
  expect(run.out).toContain('1 counted')
  expect(run.err).toBe('1 events could not be counted by the store.\n')
  expect(await redis.command(['GET', key])).toBe(document)
  await redis.command(['SET', key, text])
  expect((await replay([file], { REDIS_URL: redis.url })).out).toContain('1 counted')
})

test.each([
  ['no file', [], {}, 'Name the file'],
  ['a file that is not there', ['nowhere.log'], {}, 'nowhere.log'],
  ['a wrong environment', ['here.log'], { CAP: 'loose' }, 'CAP must be one of'],
  ['a database that is away', ['here.log'], { REDIS_URL: 'redis://127.0.0.1:1' }, 'ECONNREFUSED'],
])('npm run replay with %s reports that in one line', async (_, args, vars, message) => {
  await writeFile(join(folder, 'here.log'), `${(await linesOf(entryOf('1'))).join('\n')}\n`)
  const run = await replay(args, vars)
  expect(run.code).toBe(1)
  expect(run.err).toContain(message)
  expect(run.err).not.toContain('    at ')
})
