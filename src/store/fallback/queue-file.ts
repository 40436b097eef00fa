/**
 * The queue of a process with a disk: one line per entry in `FILE.queue`, so that a restart or a crash loses nothing.
 *
 * Before entries are sent, the file is renamed to `FILE.queue.replaying`. It is removed after the store has taken all
 * entries. If an earlier process left such a file, it is sent again from the first line: each entry counts once,
 * however often it is sent.
 *
 * One process owns the files. If it finds that it has lost them, it keeps what it has just written in memory too, and
 * neither renames nor removes anything.
 */
import { mkdir, open, rename, stat, unlink } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { Log } from '../../log.ts'
import { acquireLock, type Lock } from '../local/lock.ts'
import { appendPrivate } from '../local/private-file.ts'
import { countLines, lineOf, readEntry } from './queue-lines.ts'
import { queueWriter } from './queue-writer.ts'
import { memoryQueue, type Queue, type Send } from './queue.ts'
import { REPLAY_BATCH, StoreError, type Entry } from '../store.ts'

/** How often to try to get the files that another process had at the start. */
const TAKE_OVER_MS = 30_000

/** Builds the queue beside `file` (`USAGE_FILE`). If its files cannot be written, entries are kept in memory. */
export async function fileQueue(file: string, log: Log): Promise<Queue> {
  const path = `${file}.queue`
  const replaying = `${path}.replaying`
  const inMemory = memoryQueue(log)
  /** Lines in files that this process owns. Another owner counts its own lines. */
  let inFiles = 0
  /** Lines of the replayed file that the store has taken. */
  let taken = 0
  let lock: Lock | undefined
  let locking: Promise<boolean> | undefined
  let acquiring: Promise<void> | undefined
  const closing = new AbortController()
  /** Why this process cannot own the files. */
  let inTheWay: unknown
  let warned = false
  const writer = queueWriter(path, (entries) => {
    inFiles += entries
  })
  const { inTurn } = writer

  /**
   * Takes the lock on the files when they are first needed, or as soon as no other process holds it. If finding that
   * out takes seconds, the files do not belong to this process for now.
   */
  function locked(): Promise<boolean> {
    locking ??= new Promise((resolve) => {
      acquiring = acquire(() => resolve(false)).then(() => {
        locking = lock && Promise.resolve(true)
        resolve(lock !== undefined)
      })
    })
    return locking
  }

  async function acquire(waiting: () => void): Promise<void> {
    const name = `${path}.lock`
    try {
      await mkdir(dirname(path), { recursive: true })
      const acquired = await acquireLock(name, {
        signal: closing.signal,
        waiting() {
          inTheWay = new StoreError(`it is not clear yet whether the owner of ${name} is alive`)
          waiting()
        },
        lost() {
          log.warn('lock.lost', { file: name })
          lock = locking = undefined
          inFiles = 0
        },
      })
      taken = 0
      inFiles = await countFiles()
      if (acquired.lost) throw acquired.lost
      lock = acquired
      clearInterval(takingOver)
    } catch (error) {
      inTheWay = error
    }
  }

  const count = (name: string) =>
    countLines(name, (error) => log.error('queue.unreadable', { file: name, error }))
  const countFiles = async () => (await count(path)) + (await count(replaying))

  async function takeOver(): Promise<void> {
    if ((await countFiles()) === 0 || (await locked())) clearInterval(takingOver)
  }

  let takingOver: ReturnType<typeof setInterval> | undefined
  if ((await countFiles()) > 0 && !(await locked())) {
    takingOver = setInterval(() => void takeOver(), TAKE_OVER_MS).unref()
  }

  async function replay(send: Send): Promise<number> {
    let entries: Entry[] = []
    /** Lines that wait for a newer version of Weir. */
    let newer: string[] = []
    let waiting = 0
    let line = 0
    const sendAll = async () => {
      if (entries.length) newer.push(...(await send(entries)).map(lineOf))
      // Taken lines are not read again, so these go into the queue's file.
      if (newer.length) await inTurn(() => appendPrivate(path, `\n${newer.join('')}`))
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
          await appendPrivate(`${path}.damaged`, `${text}\n`)
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

  async function drainFiles(send: Send, owned: Lock): Promise<number> {
    await inTurn(async () => {
      await owned.verify()
      if (!(await exists(replaying)) && (await exists(path))) await rename(path, replaying)
    })
    const newer = (await exists(replaying)) ? await replay(send) : 0
    await inTurn(async () => {
      await owned.verify()
      await unlink(replaying).catch(() => undefined)
      taken = 0
      inFiles = await count(path)
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
        if (await locked()) {
          const owned = lock
          await writer.append(entry)
          // A later owner may have counted its lines before this one.
          return await owned?.check()
        }
        if (!warned) {
          const help = 'queued events are kept in memory and in the log'
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
      if (inFiles === 0 || !lock) return newer
      // Two drains at once would remove each other's file.
      draining ??= drainFiles(send, lock).finally(() => (draining = undefined))
      return newer + (await draining)
    },
    async close() {
      clearInterval(takingOver)
      closing.abort()
      await acquiring
      await writer.over()
      await lock?.release()
    },
  }
}

const exists = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  )
