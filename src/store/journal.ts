/**
 * The files of the local store: a snapshot, and beside it a journal of the commands since.
 *
 * A line is in the file before its command is answered, so kill -9 loses nothing acknowledged (power loss may).
 * The snapshot is written to a temporary file and renamed; sequence numbers keep a journal that outlived
 * the renaming from being applied twice.
 *
 * What a crash can leave is put right at opening: half a last line is cut off, and lines that make no sense are set
 * aside and reported. A snapshot that is empty or none of ours is refused, also where the journal might stand in
 * for it: a crash of this process leaves none, and to go on without it would lift blocks and give quotas again, which
 * is for a person to decide.
 *
 * While nothing can be written, say on a full disk, each append rejects, leaves no half line, and stays in line: what
 * has been applied is written before all else once that is possible again.
 */
import { randomUUID } from 'node:crypto'
import { constants } from 'node:fs'
import {
  appendFile,
  mkdir,
  open,
  readFile,
  rename,
  unlink,
  writeFile,
  type FileHandle,
} from 'node:fs/promises'
import { dirname } from 'node:path'
import { NewerVersion, OLDEST, VERSION } from '../ledger/shapes.ts'
import { acquireLock, unusable, type Lock } from './lock.ts'
import { StoreError } from './store.ts'

/** The journal is folded into the snapshot when it is at least this large, and larger than the snapshot. */
const COMPACT_BYTES = 4 * 1024 * 1024

export type JournalOptions = {
  /** The snapshot's path; journal and lock are beside it. */
  file: string
  /** Takes the state of the snapshot, if there is one; throws when it is none of ours. */
  restore(state: unknown): void
  /** Takes each command journaled since, in order; throws, changing nothing, when it cannot be applied. */
  replay(command: unknown): void
  /** The state with all commands applied so far. */
  snapshot(): unknown
  /** Whether a new snapshot is wanted, however short the journal. */
  stale(): boolean
  warn(event: string, fields: Record<string, unknown>): void
}

export type Journal = {
  /** Writes a command that has been applied; resolves when it is in the file, rejects with `StoreError`. */
  append(command: unknown): Promise<void>
  /** Resolves when all that was to be appended until now is in the file. */
  written(): Promise<void>
  /** Folds the journal into the snapshot at once, so that nothing is left of what its lines said; rejects with `StoreError`. */
  fold(): Promise<void>
  /** Writes, reads and deletes a file beside the others; rejects with `StoreError`. */
  probe(): Promise<void>
  /** Writes what is waiting and a last snapshot, and gives the files up. */
  close(): Promise<void>
}

type Waiter = { done(): void; fail(error: StoreError): void }

/** Becomes the one owner of the files and hands over what they hold. Throws `StoreError`. */
export async function openJournal(options: JournalOptions): Promise<Journal> {
  const { file } = options
  const failed = (cause: unknown): StoreError =>
    cause instanceof StoreError ? cause : unusable('use', file, cause)
  try {
    await mkdir(dirname(file), { recursive: true })
  } catch (error) {
    throw failed(error)
  }
  const lock = await acquireLock(`${file}.lock`)
  try {
    return await openFiles(options, lock)
  } catch (error) {
    await lock.release()
    throw failed(error)
  }
}

async function openFiles(options: JournalOptions, lock: Lock): Promise<Journal> {
  const { file, warn } = options
  const path = `${file}.journal`
  const saved = await readIfThere(file)
  let seq = saved ? restore(saved, options) : 0
  const journal = readLines((await readIfThere(path)) ?? Buffer.alloc(0))
  const damaged: Line[] = []
  for (const line of journal.lines) {
    const entry = readEntry(line)
    if (entry && entry.seq <= seq) continue
    if (entry) checkVersion(path, entry.v)
    try {
      if (!entry) throw new Error('not an entry')
      options.replay(entry.command)
      seq = entry.seq
    } catch {
      damaged.push(line)
    }
  }
  if (damaged.length) {
    const setAside = `${file}.damaged`
    await appendFile(setAside, Buffer.concat(damaged.map(({ bytes }) => bytes)))
    warn('journal.damaged', { file: path, lines: damaged.map(({ number }) => number), setAside })
  }

  const handle = await open(path, constants.O_RDWR | constants.O_CREAT)
  let written = journal.size
  await handle.truncate(written)
  let compactAt = Math.max(COMPACT_BYTES, saved?.length ?? 0)

  /** Lines that are not in the file yet, and who waits for them. */
  let pending = ''
  let waiters: Waiter[] = []
  /** Who waits for the journal to be folded. */
  let folders: Waiter[] = []
  let flushing: Promise<void> | undefined
  let closing: Promise<void> | undefined
  let closed = false

  /** Takes what is pending out and writes it by `how`; if that fails it is pending again, for the next try. */
  async function write(how: (text: string) => Promise<void>): Promise<boolean> {
    const [text, batch] = [pending, waiters]
    pending = ''
    waiters = []
    try {
      await how(text)
    } catch (cause) {
      pending = text + pending
      const error = new StoreError(`cannot write beside ${file}`, { cause })
      for (const waiter of batch) waiter.fail(error)
      return false
    }
    for (const waiter of batch) waiter.done()
    return true
  }

  async function appendText(text: string): Promise<void> {
    const bytes = Buffer.from(text)
    try {
      await writeAll(handle, bytes, written)
    } catch (error) {
      await handle.truncate(written).catch(() => undefined)
      throw error
    }
    written += bytes.length
  }

  /** The snapshot holds what is pending too, since that has been applied. */
  async function compact(): Promise<void> {
    const batch = folders
    folders = []
    const text = `${JSON.stringify({ v: VERSION, seq, state: options.snapshot() })}\n`
    try {
      if (!(await write(() => replaceFile(file, text)))) throw new Error('no snapshot')
      await handle.truncate(0)
    } catch (cause) {
      compactAt = written * 2
      const error = new StoreError(`cannot write beside ${file}`, { cause })
      for (const folder of batch) folder.fail(error)
      return warn('journal.not_compacted', { file })
    }
    written = 0
    compactAt = Math.max(COMPACT_BYTES, text.length)
    for (const folder of batch) folder.done()
  }

  async function flush(): Promise<void> {
    while (waiters.length || folders.length) {
      if (waiters.length) await write(appendText)
      if (folders.length || written >= compactAt || options.stale()) await compact()
    }
    flushing = undefined
  }

  const queued = (line: () => Waiter[]): Promise<void> =>
    new Promise((done, fail) => {
      if (closed) return fail(new StoreError(`${file} is closed`))
      line().push({ done, fail })
      flushing ??= new Promise(setImmediate).then(flush)
    })
  const flushed = () => queued(() => waiters)

  async function shut(): Promise<void> {
    while (flushing) await flushing
    closed = true
    await compact()
    await handle.close()
    await lock.release()
  }

  return {
    append(command) {
      seq += 1
      pending += `${JSON.stringify({ v: VERSION, seq, command })}\n`
      return flushed()
    },
    written: async () => {
      if (pending || flushing) await flushed()
    },
    fold: () => queued(() => folders),
    async probe() {
      const path = `${file}.probe.${randomUUID()}`
      try {
        await writeFile(path, 'here')
        if ((await readFile(path, 'utf8')) !== 'here') throw new Error('not what was written')
        await unlink(path)
      } catch (cause) {
        throw new StoreError(`cannot write beside ${file}`, { cause })
      }
    },
    close: () => (closing ??= shut()),
  }
}

async function readIfThere(path: string): Promise<Buffer | undefined> {
  try {
    return await readFile(path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw unusable('read', path, error)
  }
}

/** Hands the snapshot over and gives its sequence number. */
function restore(saved: Buffer, { file, restore }: JournalOptions): number {
  if (saved.length === 0) {
    throw new StoreError(
      `${file} is empty; put a copy of it back, or move it away to go on with what ${file}.journal holds`,
    )
  }
  try {
    const { v, seq, state } = JSON.parse(saved.toString()) as Record<string, unknown>
    if (typeof v !== 'number' || typeof seq !== 'number') throw new Error('not a snapshot')
    checkVersion(file, v)
    restore(state)
    return seq
  } catch (cause) {
    if (cause instanceof StoreError) throw cause
    if (cause instanceof NewerVersion) throw isNewer(file)
    const advice = 'move it away to begin with no usage'
    throw new StoreError(`${file} is not a usage file of Weir; ${advice}`, { cause })
  }
}

/** Refuses what this build cannot read as it was meant, and leaves it as it is. Throws `StoreError`. */
function checkVersion(path: string, v: number): void {
  if (v > VERSION) throw isNewer(path)
  if (v < OLDEST) {
    throw new StoreError(
      `${path} was written by a version of Weir from before the first release; move it away to begin with no usage`,
    )
  }
}

const isNewer = (path: string): StoreError =>
  new StoreError(`${path} was written by a newer version of Weir; update this one`)

/** One line of the journal, with its end. */
type Line = { number: number; bytes: Buffer }

/** The whole lines; a last line without its end was never acknowledged and is cut off. */
function readLines(bytes: Buffer): { lines: Line[]; size: number } {
  const lines: Line[] = []
  let size = 0
  for (let end; (end = bytes.indexOf(LINE_END, size)) >= 0; size = end + 1) {
    lines.push({ number: lines.length + 1, bytes: bytes.subarray(size, end + 1) })
  }
  return { lines, size }
}

const LINE_END = 0x0a
const utf8 = new TextDecoder('utf-8', { fatal: true })

type Entry = { v: number; seq: number; command: unknown }

/** What a line says; one without a version is of the first. */
function readEntry({ bytes }: Line): Entry | undefined {
  try {
    const { v = 1, seq, command } = JSON.parse(utf8.decode(bytes)) as Record<string, unknown>
    return typeof v === 'number' && typeof seq === 'number' ? { v, seq, command } : undefined
  } catch {
    return undefined
  }
}

async function writeAll(handle: FileHandle, bytes: Buffer, position: number): Promise<void> {
  let offset = 0
  while (offset < bytes.length) {
    const left = bytes.length - offset
    const { bytesWritten } = await handle.write(bytes, offset, left, position + offset)
    offset += bytesWritten
  }
}

export async function replaceFile(path: string, text: string): Promise<void> {
  const temporary = `${path}.tmp`
  const handle = await open(temporary, 'w')
  try {
    try {
      await handle.writeFile(text)
      await handle.sync()
    } finally {
      await handle.close()
    }
    await rename(temporary, path)
  } catch (error) {
    // On a full disk it would keep the room that the journal needs.
    await unlink(temporary).catch(() => undefined)
    throw error
  }
}
