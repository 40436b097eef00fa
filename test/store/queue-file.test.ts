import {
  appendFile,
  mkdir,
  mkdtemp,
  readFile,
  readdir,
  rm,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { createLog } from '../../src/log.ts'
import { VERSION } from '../../src/ledger/shapes.ts'
import { memoryQueue, type Queue } from '../../src/store/fallback/queue.ts'
import { fileQueue } from '../../src/store/fallback/queue-file.ts'
import { StoreError, type Entry } from '../../src/store/store.ts'
import { admitOf, settleOf } from '../support/commands.ts'

let folder: string
let file: string
let lines: string[]

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'weir-'))
  file = join(folder, 'logs', 'usage.json')
  lines = []
})
afterEach(() => rm(folder, { recursive: true }))

const open = () =>
  fileQueue(file, createLog({ level: 'info', format: 'json', write: (line) => lines.push(line) }))

const entryOf = (id: string): Entry => settleOf(admitOf({ id }))
/** A line as a given version writes it. */
const lineOf = (id: string, v: number | undefined = VERSION) =>
  JSON.stringify({ v, ...entryOf(id) })
const numbers = (count: number, from = 0) =>
  Array.from({ length: count }, (_, n) => String(from + n))

/** The ids of the entries that a queue sends, in batches. */
async function drained(queue: Queue): Promise<string[][]> {
  const batches: string[][] = []
  await queue.drain(async (entries) => {
    batches.push(entries.map(({ event }) => event.id))
    return []
  })
  return batches
}

/** The files of the queue, with their contents. */
async function textsIn(): Promise<Record<string, string>> {
  const names = await readdir(dirname(file))
  const texts = names.map((name) => readFile(join(dirname(file), name), 'utf8'))
  return Object.fromEntries((await Promise.all(texts)).map((text, n) => [names[n], text]))
}

test('nothing is written before there is something to keep', async () => {
  const queue = await open()
  expect(await drained(queue)).toEqual([])
  await queue.close()
  expect(await readdir(folder)).toEqual([])
})

test('entries are sent in order, in batches of 64, and then the files are removed', async () => {
  const queue = await open()
  await Promise.all(numbers(150).map((id) => queue.add(entryOf(id))))
  expect(queue.length).toBe(150)
  const batches = await drained(queue)
  expect(batches.map((batch) => batch.length)).toEqual([64, 64, 22])
  expect(batches.flat()).toEqual(numbers(150))
  expect(queue.length).toBe(0)
  await queue.close()
  expect(await readdir(dirname(file))).toEqual([])
})

test('entries that another process left are sent', async () => {
  const first = await open()
  for (const id of numbers(3)) await first.add(entryOf(id))
  await first.close()
  const second = await open()
  expect(second.length).toBe(3)
  expect(await drained(second)).toEqual([numbers(3)])
})

test('entries that were not taken are sent again, without taken ones, and newer entries after them', async () => {
  const queue = await open()
  for (const id of numbers(100)) await queue.add(entryOf(id))
  let calls = 0
  const broken = queue.drain(async () => {
    calls += 1
    await queue.add(entryOf(`new-${calls}`))
    if (calls === 2) throw new StoreError('away again')
    return []
  })
  await expect(broken).rejects.toThrow('away again')
  expect(queue.length).toBe(102)
  expect((await drained(queue)).flat()).toEqual(numbers(36, 64))
  expect((await drained(queue)).flat()).toEqual(['new-1', 'new-2'])
  expect(queue.length).toBe(0)
})

test('a line that a crash cut off is set aside, and no other line is lost', async () => {
  const first = await open()
  await first.add(entryOf('1'))
  await first.close()
  const cut = lineOf('2').slice(0, 40)
  await appendFile(`${file}.queue`, cut)
  const second = await open()
  await second.add(entryOf('3'))
  expect(await drained(second)).toEqual([['1', '3']])
  expect(await readFile(`${file}.queue.damaged`, 'utf8')).toBe(`${cut}\n`)
  expect(lines.join()).toContain('queue.damaged')
})

test('if files cannot be written, entries are kept in memory and in the log', async () => {
  await writeFile(join(folder, 'logs'), 'in the way')
  const queue = await open()
  await queue.add(entryOf('1'))
  expect(queue.length).toBe(1)
  expect(lines.join()).toContain('usage.unrecorded')
  expect(await drained(queue)).toEqual([['1']])
  expect(queue.length).toBe(0)
})

test('a second process on the same files keeps its entries in memory', async () => {
  const [first, second] = [await open(), await open()]
  await first.add(entryOf('1'))
  await second.add(entryOf('2'))
  expect(await drained(second)).toEqual([['2']])
  expect(await drained(first)).toEqual([['1']])
})

test('a process that takes over from another one begins with the first line', async () => {
  const first = await open()
  for (const id of numbers(100)) await first.add(entryOf(id))
  let calls = 0
  const cut = first.drain(async () => {
    calls += 1
    if (calls === 2) throw new StoreError('gone')
    return []
  })
  await expect(cut).rejects.toThrow('gone')
  await first.close()
  expect((await drained(await open())).flat()).toEqual(numbers(100))
})

test('two drains at once send entries once, and remove no later entry', async () => {
  const queue = await open()
  for (const id of numbers(3)) await queue.add(entryOf(id))
  const handed: string[] = []
  let proceed = () => {}
  let begun = () => {}
  const held = new Promise<void>((resolve) => (proceed = resolve))
  const started = new Promise<void>((resolve) => (begun = resolve))
  const send = async (entries: Entry[]) => {
    begun()
    await held
    handed.push(...entries.map(({ event }) => event.id))
    return []
  }
  const both = [queue.drain(send), queue.drain(send)]
  await started
  await queue.add(entryOf('later'))
  proceed()
  await Promise.all(both)
  expect(handed).toEqual(numbers(3))
  expect(queue.length).toBe(1)
  expect((await drained(queue)).flat()).toEqual(['later'])
})

test('files of another process are taken over after it has ended', async () => {
  const [first, second] = [await open(), await open()]
  await first.add(entryOf('1'))
  await second.add(entryOf('2'))
  await first.close()
  await second.add(entryOf('3'))
  expect((await drained(second)).flat().toSorted()).toEqual(['1', '2', '3'])
  expect(second.length).toBe(0)
})

test('entries of another process are not counted, and their lock is tried from time to time until it has ended', async () => {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
  try {
    const first = await open()
    for (const id of numbers(3)) await first.add(entryOf(id))
    const second = await open()
    expect(second.length).toBe(0)
    expect(await drained(second)).toEqual([])
    vi.advanceTimersByTime(30_000)
    await first.close()
    vi.advanceTimersByTime(30_000)
    await expect.poll(() => second.length).toBe(3)
    // The heartbeat of its own lock.
    expect(vi.getTimerCount()).toBe(1)
    expect(await drained(second)).toEqual([numbers(3)])
    await second.close()
    expect(lines).toEqual([])
  } finally {
    vi.useRealTimers()
  }
})

test('the lock is not tried any more after another process has sent its entries', async () => {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
  try {
    const first = await open()
    await first.add(entryOf('1'))
    const second = await open()
    // The heartbeat of the first, and the attempts of the second.
    expect(vi.getTimerCount()).toBe(2)
    await drained(first)
    vi.advanceTimersByTime(30_000)
    await expect.poll(() => vi.getTimerCount()).toBe(1)
    expect(second.length).toBe(0)
  } finally {
    vi.useRealTimers()
  }
})

/** Lets another process take the files over, as if the first one had been paused for long. */
async function takeOver(): Promise<Queue> {
  await rm(`${file}.queue.lock`)
  const other = await open()
  await other.add(entryOf('of the other'))
  return other
}

test('a process that has lost the files keeps its entries in memory and in the log', async () => {
  const first = await open()
  await first.add(entryOf('1'))
  const second = await takeOver()
  const lock = await readFile(`${file}.queue.lock`, 'utf8')
  await first.add(entryOf('2'))
  await first.add(entryOf('3'))
  expect(lines.join()).toContain('lock.lost')
  expect(lines.filter((line) => line.includes('usage.unrecorded'))).toHaveLength(2)
  expect(await drained(first)).toEqual([['2', '3']])
  await first.close()
  expect(await readFile(`${file}.queue.lock`, 'utf8')).toBe(lock)
  // The line that it wrote before it noticed is sent twice, and counts once.
  expect(await drained(second)).toEqual([['1', 'of the other', '2']])
})

test('a process that loses the files while it sends them removes nothing', async () => {
  const first = await open()
  await first.add(entryOf('1'))
  let second: Queue | undefined
  const sending = first.drain(async () => {
    second = await takeOver()
    return []
  })
  await expect(sending).rejects.toThrow('another process has taken over')
  expect(await drained(first)).toEqual([])
  expect(await drained(second as Queue)).toEqual([['1']])
  expect(await drained(second as Queue)).toEqual([['of the other']])
})

test('nobody waits while it is not clear whether the owner of the files is alive', async () => {
  const first = await open()
  await first.add(entryOf('1'))
  const lock = await readFile(`${file}.queue.lock`, 'utf8')
  await first.close()
  await writeFile(`${file}.queue.lock`, JSON.stringify({ ...JSON.parse(lock), space: 'another' }))
  const second = await open()
  await second.add(entryOf('2'))
  expect(lines.join()).toContain('it is not clear yet whether the owner of')
  expect(await drained(second)).toEqual([['2']])
  await second.close()
  expect(Object.keys(await textsIn())).toEqual(['usage.json.queue', 'usage.json.queue.lock'])
})

test('the files of the queue are for their owner only, and a planted link is not followed', async () => {
  const queue = await open()
  await queue.add(entryOf('1'))
  await queue.close()
  expect((await stat(`${file}.queue`)).mode & 0o777).toBe(0o600)
  await rm(`${file}.queue`)
  const victim = join(folder, 'victim')
  await writeFile(victim, 'precious')
  await symlink(victim, `${file}.queue`)
  const again = await open()
  await again.add(entryOf('2'))
  expect(await readFile(victim, 'utf8')).toBe('precious')
  expect(lines.join()).toContain('queue.not_written')
  await again.close()
})

test('a removed queue file ends the attempts', async () => {
  const queue = await open()
  await queue.add(entryOf('1'))
  await rm(`${file}.queue`)
  expect(await drained(queue)).toEqual([])
  expect(queue.length).toBe(0)
})

test('a queue file that cannot be written any more does not lose an entry', async () => {
  const queue = await open()
  await queue.add(entryOf('1'))
  await rm(`${file}.queue`)
  await mkdir(`${file}.queue`)
  await queue.add(entryOf('2'))
  expect(lines.join()).toContain('queue.not_written')
  expect(await drained(queue).catch(() => [])).toEqual([])
  expect(queue.length).toBeGreaterThan(0)
})

test('each line contains its version', async () => {
  const queue = await open()
  for (const id of numbers(2)) await queue.add(entryOf(id))
  const lines = (await readFile(`${file}.queue`, 'utf8')).split('\n').filter(Boolean)
  expect(lines).toEqual(numbers(2).map((id) => lineOf(id)))
})

test('lines of a newer version stay in the queue, and others are sent', async () => {
  const first = await open()
  for (const id of numbers(70)) await first.add(entryOf(id))
  await first.close()
  const newer = ['newer-1', 'newer-2'].map((id) => lineOf(id, VERSION + 1))
  await writeFile(
    `${file}.queue`,
    `${newer[0]}\n${await readFile(`${file}.queue`, 'utf8')}${newer[1]}\n`,
  )
  const second = await open()
  expect(second.length).toBe(72)
  const handed: string[] = []
  const take = async (entries: Entry[]) => {
    handed.push(...entries.map(({ event }) => event.id))
    return []
  }
  expect(await second.drain(take)).toBe(2)
  expect(handed).toEqual(numbers(70))
  expect(second.length).toBe(2)
  await second.add(entryOf('70'))
  expect(await second.drain(take)).toBe(2)
  expect(handed).toEqual(numbers(71))
  await second.close()
  const texts = await textsIn()
  expect(Object.keys(texts)).toEqual(['usage.json.queue'])
  expect(texts['usage.json.queue']?.split('\n').filter(Boolean).toSorted()).toEqual(newer)
  expect(lines).toEqual([])
})

test('a line of a newer version is not lost if later lines cannot be sent', async () => {
  const first = await open()
  for (const id of numbers(100)) await first.add(entryOf(id))
  await first.close()
  const newer = lineOf('newer', VERSION + 1)
  await writeFile(`${file}.queue`, `${newer}\n${await readFile(`${file}.queue`, 'utf8')}`)
  const second = await open()
  let calls = 0
  const broken = second.drain(async () => {
    calls += 1
    if (calls === 2) throw new StoreError('away again')
    return []
  })
  await expect(broken).rejects.toThrow('away again')
  expect((await drained(second)).flat()).toEqual(numbers(36, 64))
  expect(second.length).toBe(1)
  await second.close()
  expect((await textsIn())['usage.json.queue']).toContain(newer)
})

test.each([
  ['with version 1', 1],
  ['without a version', undefined],
])('a line of before the first release, %s, is set aside', async (_, v) => {
  const first = await open()
  await first.add(entryOf('1'))
  await first.close()
  const old = JSON.stringify({ ...entryOf('2'), v })
  await appendFile(`${file}.queue`, `${old}\n`)
  const second = await open()
  expect(await drained(second)).toEqual([['1']])
  expect(second.length).toBe(0)
  expect(await readFile(`${file}.queue.damaged`, 'utf8')).toBe(`${old}\n`)
  expect(lines.join()).toContain('queue.damaged')
})

const inMemory = async () =>
  memoryQueue(createLog({ level: 'silent', format: 'json', write: () => undefined }))

test.each<[string, () => Promise<Queue>]>([
  ['a file', open],
  ['memory', inMemory],
])('in %s, returned entries wait, and later entries are still sent', async (_, opened) => {
  const queue = await opened()
  for (const id of numbers(200)) await queue.add(entryOf(id))
  const handed: string[] = []
  const isNewer = ({ event }: Entry) => Number(event.id) % 50 === 7
  const send = async (entries: Entry[]) => {
    handed.push(...entries.map(({ event }) => event.id))
    return entries.filter(isNewer)
  }
  expect(await queue.drain(send)).toBe(4)
  expect(handed).toEqual(numbers(200))
  expect(queue.length).toBe(4)
  await queue.add(entryOf('200'))
  expect((await drained(queue)).flat().toSorted((a, b) => Number(a) - Number(b))).toEqual([
    '7',
    '57',
    '107',
    '157',
    '200',
  ])
  expect(queue.length).toBe(0)
  await queue.close()
})
