/**
 * The queue of a process with a disk: one line per entry in `FILE.queue`, so that a restart or a crash loses nothing.
 *
 * To hand them over the file is moved to `FILE.queue.replaying` first, and is removed when all of it has been taken. One that
 * a process before has left begins again with its first line: entries count once however often they are sent.
 */
import { OLDEST, VERSION } from '../ledger/shapes.ts'
import { createReadStream } from 'node:fs'
import { appendFile, mkdir, open, rename, stat, unlink } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { Log } from '../log.ts'
import { acquireLock, type Lock } from './lock.ts'
import { memoryQueue, type Queue, type Send } from './queue.ts'
import { REPLAY_BATCH, type Entry } from './store.ts'

/** What another process has at the start, and may leave behind, is asked for so often. */
const TAKE_OVER_MS = 30_000

/** Builds the queue beside `file` (`USAGE_FILE`); where that cannot be written, entries are kept in memory. */
export async function fileQueue(file: string, log: Log): Promise<Queue> {
  const path = `${file}.queue`
  const replaying = `${path}.replaying`
  const inMemory = memoryQueue(log)
  /** Lines of files that are this process's own; those of others are for them to count. */
  let inFiles = 0
  let lock: Lock | undefined
  let locking: Promise<boolean> | undefined
  /** Why the files cannot be had. */
  let inTheWay: unknown
  let warned = false
  /** Appending and moving take turns, or a line could be written to a file that has been read already. */
  let turn: Promise<unknown> = Promise.resolve()
  const inTurn = <T>(work: () => Promise<T>): Promise<T> => {
    const result = turn.then(work)
    turn = result.catch(() => undefined)
    return result
  }

  /** Makes the files this process's own, from the first time they are needed, or as soon as nobody else has them. */
  function locked(): Promise<boolean> {
    locking ??= acquire().finally(() => {
      if (!lock) locking = undefined
    })
    return locking
  }

  async function acquire(): Promise<boolean> {
    try {
      await mkdir(dirname(path), { recursive: true })
      const acquired = await acquireLock(`${path}.lock`)
      inFiles = await countFiles()
      lock = acquired
      clearInterval(takingOver)
      return true
    } catch (error) {
      inTheWay = error
      return false
    }
  }

  const countFiles = async () => (await countLines(path)) + (await countLines(replaying))

  async function takeOver(): Promise<void> {
    if ((await countFiles()) === 0 || (await locked())) clearInterval(takingOver)
  }

  let takingOver: ReturnType<typeof setInterval> | undefined
  if ((await countFiles()) > 0 && !(await locked())) {
    takingOver = setInterval(() => void takeOver(), TAKE_OVER_MS).unref()
  }

  /** Whether the last line may have been cut off, by a crash or a full disk. */
  let torn = true
  async function write(entries: Entry[]): Promise<void> {
    const lines = entries.map(lineOf).join('')
    const text = torn ? `\n${lines}` : lines
    torn = true
    await appendFile(path, text)
    torn = false
    inFiles += entries.length
  }

  /** What comes while a turn is awaited is written together, or a busy process would fall ever further behind. */
  let batch: { entries: Entry[]; written: Promise<void> } | undefined
  function append(entry: Entry): Promise<void> {
    if (!batch) {
      const entries: Entry[] = []
      const written = inTurn(() => {
        batch = undefined
        return write(entries)
      })
      batch = { entries, written }
    }
    batch.entries.push(entry)
    return batch.written
  }

  /** Lines of the file in hand that have been taken. */
  let taken = 0
  async function replay(send: Send): Promise<number> {
    let entries: Entry[] = []
    /** Lines that wait for a newer version of Weir. */
    let newer: string[] = []
    let waiting = 0
    let line = 0
    const sendAll = async () => {
      if (entries.length) newer.push(...(await send(entries)).map(lineOf))
      // Lines that are taken are not read again.
      if (newer.length) await inTurn(() => appendFile(path, `\n${newer.join('')}`))
      waiting += newer.length
      newer = []
      entries = []
      taken = line
    }
    const handle = await open(replaying)
    try {
      for await (const text of handle.readLines()) {
        line += 1
        if (line <= taken || text === '') continue
        const entry = readEntry(text)
        if (entry === 'newer') newer.push(`${text}\n`)
        else if (entry) entries.push(entry)
        else {
          await appendFile(`${path}.damaged`, `${text}\n`)
          log.error('queue.damaged', { file: path, setAside: `${path}.damaged` })
        }
        if (entries.length === REPLAY_BATCH) await sendAll()
      }
      await sendAll()
    } finally {
      await handle.close()
    }
    return waiting
  }

  async function drainFiles(send: Send): Promise<number> {
    await inTurn(async () => {
      if (!(await exists(replaying)) && (await exists(path))) await rename(path, replaying)
    })
    const newer = (await exists(replaying)) ? await replay(send) : 0
    await inTurn(async () => {
      await unlink(replaying).catch(() => undefined)
      taken = 0
      inFiles = await countLines(path)
    })
    return newer
  }

  let draining: Promise<number> | undefined
  return {
    get length() {
      return inFiles + inMemory.length
    },
    async add(entry) {
      try {
        if (await locked()) return await append(entry)
        if (!warned) {
          const help = 'what waits is kept in memory and in the log'
          log.warn('queue.no_file', { help, error: inTheWay })
        }
        warned = true
        await inMemory.add(entry)
      } catch (error) {
        log.warn('queue.not_written', { file: path, error })
        await inMemory.add(entry)
      }
    },
    async drain(send) {
      const newer = await inMemory.drain(send)
      if (inFiles === 0) return newer
      // Two at once would each remove what the other has in hand.
      draining ??= drainFiles(send).finally(() => (draining = undefined))
      return newer + (await draining)
    },
    async close() {
      clearInterval(takingOver)
      await locking
      await turn
      await lock?.release()
    },
  }

  /** Lines with something in them, none where there is no file. */
  async function countLines(name: string): Promise<number> {
    let lines = 0
    let last = LINE_END
    try {
      for await (const chunk of createReadStream(name) as AsyncIterable<Buffer>) {
        for (const byte of chunk) {
          if (last === LINE_END && byte !== LINE_END) lines += 1
          last = byte
        }
      }
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      if (code !== 'ENOENT' && code !== 'ENOTDIR')
        log.error('queue.unreadable', { file: name, error })
    }
    return lines
  }
}

const LINE_END = 0x0a

const exists = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  )

const lineOf = (entry: Entry): string => `${JSON.stringify({ v: VERSION, ...entry })}\n`

/** What a line says; nothing where it is damaged, or of before the first release. */
function readEntry(line: string): Entry | 'newer' | undefined {
  try {
    const { v = 1, ...entry } = JSON.parse(line) as Partial<Entry> & { v?: number }
    if (v > VERSION) return 'newer'
    if (v < OLDEST) return undefined
    const known = entry.op === 'settle' || entry.op === 'enter'
    return known && entry.event && entry.user ? (entry as Entry) : undefined
  } catch {
    return undefined
  }
}
