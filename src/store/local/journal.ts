/**
 * The files of the local store: a snapshot, and a journal of the commands after it.
 *
 * A command is answered after its line is in the file, so kill -9 loses no acknowledged command (a power failure
 * may). The snapshot is written to a temporary file and renamed. If a crash leaves the old journal beside the new
 * snapshot, sequence numbers prevent commands from being applied twice.
 *
 * Opening repairs what a crash can leave: an incomplete last line is cut off, and invalid lines are set aside and
 * reported. An empty or foreign snapshot is refused, even if there is a journal: a crash of this process cannot cause
 * it, and a start without the snapshot would lift blocks and reset limits. A person must decide that.
 *
 * While nothing can be written, for example on a full disk, each append rejects and leaves no incomplete line. Its
 * line stays pending: applied commands are written first as soon as writing works again.
 */
import { randomUUID } from 'node:crypto'
import { appendFile, mkdir, readFile, unlink, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { checkVersion } from './file-version.ts'
import { formatEntry, openJournalFile, readEntry, readLines, type Line } from './journal-file.ts'
import { acquireLock, unusable, type Lock } from './lock.ts'
import { formatSnapshot, replaceFile, restoreSnapshot } from './snapshot.ts'
import { StoreError } from '../store.ts'

/** The journal is folded into the snapshot when it has at least this size and is larger than the snapshot. */
const COMPACT_BYTES = 4 * 1024 * 1024

export type JournalOptions = {
  /** The snapshot's path; journal and lock are beside it. */
  file: string
  /** Receives the state of the snapshot, if there is one. Throws if it is not a state of Weir. */
  restore(state: unknown): void
  /** Receives each later command of the journal, in order. Throws and changes nothing if it cannot be applied. */
  replay(command: unknown): void
  /** The state after all commands so far. */
  snapshot(): unknown
  /** Whether a new snapshot is needed, regardless of the journal's size. */
  stale(): boolean
  warn(event: string, fields: Record<string, unknown>): void
}

export type Journal = {
  /** Writes a command that has been applied. Resolves when it is in the file; rejects with `StoreError`. */
  append(command: unknown): Promise<void>
  /** Resolves when all commands so far are in the file. */
  written(): Promise<void>
  /** Folds the journal into the snapshot at once, so that its lines are gone. Rejects with `StoreError`. */
  fold(): Promise<void>
  /** Writes, reads and deletes a test file beside the others. Rejects with `StoreError`. */
  probe(): Promise<void>
  /** Writes pending lines and a last snapshot, and releases the files. */
  close(): Promise<void>
}

type Waiter = { done(): void; fail(error: StoreError): void }

/** Takes the lock on the files and passes their contents on. Throws `StoreError`. */
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
  const { file, restore } = options
  const saved = await readIfThere(file)
  const savedSeq = saved ? restoreSnapshot(file, saved, restore) : 0
  const { seq, size } = await replayJournal(options, savedSeq)
  const journalFile = await openJournalFile(pathOf(file), size)
  const compactAt = Math.max(COMPACT_BYTES, saved?.length ?? 0)
  return startWriting(options, lock, { journalFile, seq, compactAt })
}

const pathOf = (file: string) => `${file}.journal`

async function readIfThere(path: string): Promise<Buffer | undefined> {
  try {
    return await readFile(path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw unusable('read', path, error)
  }
}

/**
 * Replays commands that are not in the snapshot. Returns the last sequence number, and the size of the complete
 * lines.
 */
async function replayJournal(options: JournalOptions, savedSeq: number) {
  const { file, replay, warn } = options
  const path = pathOf(file)
  const { lines, size } = readLines((await readIfThere(path)) ?? Buffer.alloc(0))
  let seq = savedSeq
  const damaged: Line[] = []
  for (const line of lines) {
    const entry = readEntry(line)
    if (entry && entry.seq <= seq) continue
    if (entry) checkVersion(path, entry.v)
    try {
      if (!entry) throw new Error('not an entry')
      replay(entry.command)
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
  return { seq, size }
}

type Opened = {
  journalFile: Awaited<ReturnType<typeof openJournalFile>>
  /** The sequence number of the last command. */
  seq: number
  compactAt: number
}

/** Builds the writer. It makes one write at a time, with all lines that have arrived since the previous one. */
function startWriting(options: JournalOptions, lock: Lock, opened: Opened): Journal {
  const { file, warn } = options
  const { journalFile } = opened
  let { seq, compactAt } = opened
  /** Lines that are not in the file yet, and the callers that wait for them. */
  let pending = ''
  let waiters: Waiter[] = []
  /** Callers that wait until the journal is folded. */
  let folders: Waiter[] = []
  let flushing: Promise<void> | undefined
  let closing: Promise<void> | undefined
  let closed = false

  /** Writes the pending lines with `how`. If that fails, they are pending again. */
  async function write(how: (text: string) => Promise<void>): Promise<boolean> {
    const [text, batch] = [pending, waiters]
    pending = ''
    waiters = []
    try {
      await how(text)
    } catch (cause) {
      pending = text + pending
      const error = cannotWrite(file, cause)
      for (const waiter of batch) waiter.fail(error)
      return false
    }
    for (const waiter of batch) waiter.done()
    return true
  }

  /** The snapshot also contains the pending commands, because they have been applied. */
  async function compact(): Promise<void> {
    const batch = folders
    folders = []
    const text = formatSnapshot(seq, options.snapshot())
    try {
      if (!(await write(() => replaceFile(file, text)))) throw new Error('no snapshot')
      await journalFile.empty()
    } catch (cause) {
      compactAt = journalFile.size * 2
      const error = cannotWrite(file, cause)
      for (const folder of batch) folder.fail(error)
      return warn('journal.not_compacted', { file })
    }
    compactAt = Math.max(COMPACT_BYTES, text.length)
    for (const folder of batch) folder.done()
  }

  async function flush(): Promise<void> {
    while (waiters.length || folders.length) {
      if (waiters.length) await write(journalFile.append)
      if (folders.length || journalFile.size >= compactAt || options.stale()) await compact()
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
    await journalFile.close()
    await lock.release()
  }

  return {
    append(command) {
      seq += 1
      pending += formatEntry(seq, command)
      return flushed()
    },
    written: async () => {
      if (pending || flushing) await flushed()
    },
    fold: () => queued(() => folders),
    probe: () => probe(file),
    close: () => (closing ??= shut()),
  }
}

async function probe(file: string): Promise<void> {
  const path = `${file}.probe.${randomUUID()}`
  try {
    await writeFile(path, 'here')
    if ((await readFile(path, 'utf8')) !== 'here') throw new Error('not what was written')
    await unlink(path)
  } catch (cause) {
    throw cannotWrite(file, cause)
  }
}

const cannotWrite = (file: string, cause: unknown): StoreError =>
  new StoreError(`cannot write beside ${file}`, { cause })
