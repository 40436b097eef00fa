/**
 * The queue of a process with a disk: one line per entry in `FILE.queue`, so that a restart or a crash loses nothing.
 *
 * To hand them over the file is moved to `FILE.queue.replaying` first, and is removed when all of it has been taken. One that
 * was left over begins again with its first line: entries count once however often they are sent.
 */
import { appendFile, mkdir, open, readFile, rename, stat, unlink } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { Log } from '../log.ts'
import { acquireLock, type Lock } from './lock.ts'
import { memoryQueue, type Queue } from './queue.ts'
import { REPLAY_BATCH, type Entry } from './store.ts'

/** Builds the queue beside `file` (`USAGE_FILE`); where that cannot be written, entries are kept in memory. */
export async function fileQueue(file: string, log: Log): Promise<Queue> {
  const path = `${file}.queue`
  const replaying = `${path}.replaying`
  const inMemory = memoryQueue(log)
  let inFiles = (await countEntries(path)) + (await countEntries(replaying))
  let lock: Promise<Lock | undefined> | undefined
  /** Appending and moving take turns, or a line could be written to a file that has been read already. */
  let turn: Promise<unknown> = Promise.resolve()
  const inTurn = <T>(work: () => Promise<T>): Promise<T> => {
    const result = turn.then(work)
    turn = result.catch(() => undefined)
    return result
  }

  /** The files are this process's alone, from the first time they are needed. */
  const locked = (): Promise<Lock | undefined> =>
    (lock ??= mkdir(dirname(path), { recursive: true })
      .then(() => acquireLock(`${path}.lock`))
      .catch((error: unknown) => {
        log.warn('queue.no_file', { help: 'what waits is kept in memory and in the log', error })
        return undefined
      }))

  /** Whether the last line may have been cut off, by a crash or a full disk. */
  let torn = true
  async function write(entries: Entry[]): Promise<void> {
    const lines = entries.map((entry) => `${JSON.stringify(entry)}\n`).join('')
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

  async function replay(send: (entries: Entry[]) => Promise<void>): Promise<void> {
    let batch: Entry[] = []
    const handle = await open(replaying)
    try {
      for await (const line of handle.readLines()) {
        if (line === '') continue
        const entry = readEntry(line)
        if (entry) batch.push(entry)
        else {
          await appendFile(`${path}.damaged`, `${line}\n`)
          log.error('queue.damaged', { file: path, setAside: `${path}.damaged` })
        }
        if (batch.length === REPLAY_BATCH) {
          await send(batch)
          batch = []
        }
      }
      if (batch.length) await send(batch)
    } finally {
      await handle.close()
    }
  }

  return {
    get length() {
      return inFiles + inMemory.length
    },
    async add(entry) {
      try {
        if (!(await locked())) return await inMemory.add(entry)
        await append(entry)
      } catch (error) {
        log.warn('queue.not_written', { file: path, error })
        await inMemory.add(entry)
      }
    },
    async drain(send) {
      await inMemory.drain(send)
      if (inFiles === 0 || !(await locked())) return
      await inTurn(async () => {
        if (!(await exists(replaying))) await rename(path, replaying)
      })
      await replay(send)
      await inTurn(async () => {
        await unlink(replaying)
        inFiles = await countEntries(path)
      })
    },
    async close() {
      await turn
      await (await lock)?.release()
    },
  }
}

const exists = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  )

async function countEntries(path: string): Promise<number> {
  const text = await readFile(path, 'utf8').catch(() => '')
  return text.split('\n').filter((line) => line !== '').length
}

function readEntry(line: string): Entry | undefined {
  try {
    const entry = JSON.parse(line) as Partial<Entry> | null
    const known = entry?.op === 'settle' || entry?.op === 'enter'
    return known && entry.event && entry.user ? (entry as Entry) : undefined
  } catch {
    return undefined
  }
}
