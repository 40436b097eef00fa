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
import { mkdir, readFile, unlink } from 'node:fs/promises'
import { dirname } from 'node:path'
import { checkVersion } from './file-version.ts'
import { formatEntry, openJournalFile, readJournalEntry, type JournalFile } from './journal-file.ts'
import { isWhole, linesIfThere } from './lines.ts'
import { acquireLock, unusable, type Lock } from './lock.ts'
import { PIECE, appendPrivate, createPrivate, removeTemporary } from './private-file.ts'
import { restoreSnapshot, writeSnapshot, type SnapshotReader } from './snapshot.ts'
import { StoreError } from '../store.ts'

/** The journal is folded into the snapshot when it has at least this size and is larger than the snapshot. */
const COMPACT_BYTES = 4 * 1024 * 1024

export type JournalOptions = {
  /** The snapshot's path; journal and lock are beside it. */
  file: string
  /** Receives each item of the snapshot. Throws if it is not valid. */
  restore: SnapshotReader['item']
  /** Receives each later command of the journal, in order. Throws and changes nothing if it cannot be applied. */
  replay(command: unknown): void
  /** The state after all commands so far. Later commands do not change it. */
  snapshot(): Record<string, unknown[]>
  /** Whether a new snapshot is needed, regardless of the journal's size. */
  stale(): boolean
  warn(event: string, fields: Record<string, unknown>): void
  /** Called once if another process has taken over the files. From then on everything rejects with this error. */
  lost?: ((error: StoreError) => void) | undefined
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
  const { file, warn, lost } = options
  const failed = (cause: unknown): StoreError =>
    cause instanceof StoreError ? cause : unusable('use', file, cause)
  try {
    await mkdir(dirname(file), { recursive: true })
  } catch (error) {
    throw failed(error)
  }
  const path = `${file}.lock`
  const lock = await acquireLock(path, {
    waiting: (seconds) => warn('lock.waiting', { file: path, seconds }),
    lost(error) {
      warn('lock.lost', { file: path })
      lost?.(error)
    },
  })
  try {
    return await openFiles(options, lock)
  } catch (error) {
    await lock.release()
    throw failed(error)
  }
}

async function openFiles(options: JournalOptions, lock: Lock): Promise<Journal> {
  const { file } = options
  const path = `${file}.journal`
  // Before anything is read: a previous owner that was paused could still put its snapshot in place.
  await removeTemporary(file)
  const saved = await restoreSnapshot(file, options.restore)
  const replayed = replayJournal(path, options, saved.seq)
  const journalFile = await openJournalFile(path, replayed.pieces(), async () => {
    await replayed.setAside()
    await lock.verify()
  }).catch((cause: unknown) => {
    const reading = (cause as NodeJS.ErrnoException).syscall === 'read'
    throw reading ? unusable('read', path, cause) : cause
  })
  const compactAt = Math.max(COMPACT_BYTES, saved.size)
  return startWriting(options, lock, journalFile, { seq: replayed.seq, compactAt })
}

/** Replays the commands of the journal that are not in the snapshot. */
function replayJournal(path: string, options: JournalOptions, savedSeq: number) {
  const { file, replay, warn } = options
  const damaged: { number: number; line: Buffer }[] = []
  let seq = savedSeq

  /** Whether the line is to be kept: it is in order, and not in the snapshot. */
  function take(line: Buffer): boolean {
    const entry = readJournalEntry(line)
    if (entry && entry.seq <= seq) return false
    if (entry) checkVersion(path, entry.v)
    if (!entry) throw new Error('not an entry')
    replay(entry.command)
    seq = entry.seq
    return true
  }

  return {
    /** The sequence number of the last command. */
    get seq() {
      return seq
    },
    /** Replays the lines and returns those to keep. A last line that is incomplete was never acknowledged. */
    async *pieces(): AsyncGenerator<Buffer> {
      let number = 0
      let kept: Buffer[] = []
      let bytes = 0
      for await (const line of linesIfThere(path)) {
        number += 1
        if (!isWhole(line)) break
        try {
          if (!take(line)) continue
        } catch (error) {
          if (error instanceof StoreError) throw error
          damaged.push({ number, line })
          continue
        }
        kept.push(line)
        bytes += line.length
        if (bytes < PIECE) continue
        yield Buffer.concat(kept)
        kept = []
        bytes = 0
      }
      yield Buffer.concat(kept)
    },
    /** Sets the damaged lines aside, just before the journal without them takes its place. */
    async setAside(): Promise<void> {
      if (damaged.length === 0) return
      const setAside = `${file}.damaged`
      await appendPrivate(setAside, Buffer.concat(damaged.map(({ line }) => line)))
      warn('journal.damaged', { file: path, lines: damaged.map(({ number }) => number), setAside })
    },
  }
}

type Opened = {
  /** The sequence number of the last command. */
  seq: number
  compactAt: number
}

/**
 * Builds the writer. It appends all lines that have arrived since the previous write together. Meanwhile the journal
 * may be folded into a snapshot; lines that are appended during this time stay in the journal.
 */
function startWriting(
  options: JournalOptions,
  lock: Lock,
  journalFile: JournalFile,
  opened: Opened,
): Journal {
  const { file, warn } = options
  let { seq, compactAt } = opened
  /** Lines that are not in the file yet, and the callers that wait for them. */
  let pending = ''
  let waiters: Waiter[] = []
  /** Callers that wait until the journal is folded. */
  let folders: Waiter[] = []
  /** Whether lines are in the file without a check of the lock after it. */
  let unchecked = false
  let flushing: Promise<void> | undefined
  let folding: Promise<void> | undefined
  let closing: Promise<void> | undefined
  let closed = false

  /** The journal's file is either appended to or shortened. */
  let turn: Promise<unknown> = Promise.resolve()
  function inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = turn.then(work)
    turn = result.catch(() => undefined)
    return result
  }

  function failed(cause: unknown): StoreError {
    return lock.lost ?? (cause instanceof StoreError ? cause : cannotWrite(file, cause))
  }

  /** Writes the pending lines. If that fails, they are pending again. */
  async function write(): Promise<void> {
    const [text, batch] = [pending, waiters]
    pending = ''
    waiters = []
    try {
      if (lock.lost) throw lock.lost
      await inTurn(() => journalFile.append(text))
    } catch (cause) {
      pending = text + pending
      const error = failed(cause)
      for (const waiter of batch) waiter.fail(error)
      return
    }
    try {
      // If the lock is still ours, the next owner will read these lines.
      unchecked = true
      await lock.check()
      unchecked = false
      for (const waiter of batch) waiter.done()
    } catch (cause) {
      const error = failed(cause)
      for (const waiter of batch) waiter.fail(error)
    }
  }

  /** The snapshot also contains the pending commands, because they have been applied. */
  async function compact(): Promise<void> {
    const batch = folders
    folders = []
    const { size } = journalFile
    try {
      const length = await writeSnapshot(file, { seq }, options.snapshot(), lock.verify)
      await inTurn(() => journalFile.drop(size, lock.verify))
      compactAt = Math.max(COMPACT_BYTES, length)
      for (const folder of batch) folder.done()
    } catch (cause) {
      compactAt = journalFile.size * 2
      const error = failed(cause)
      for (const folder of batch) folder.fail(error)
      warn('journal.not_compacted', { file })
    }
  }

  function startFolding(): void {
    folding ??= compact().finally(() => {
      folding = undefined
      if (folders.length) startFolding()
    })
  }

  async function flush(): Promise<void> {
    while (waiters.length) {
      await write()
      if (journalFile.size >= compactAt || options.stale()) startFolding()
    }
    flushing = undefined
  }

  const queued = (line: Waiter[], start: () => void): Promise<void> =>
    new Promise((done, fail) => {
      if (closed) return fail(new StoreError(`${file} is closed`))
      line.push({ done, fail })
      start()
    })
  const flushed = () =>
    queued(waiters, () => {
      flushing ??= new Promise(setImmediate).then(flush)
    })

  async function shut(): Promise<void> {
    while (flushing || folding) await (flushing ?? folding)
    closed = true
    if (!lock.lost) await compact()
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
      if (pending || flushing || unchecked) await flushed()
    },
    fold: () => queued(folders, startFolding),
    probe: () => probe(file),
    close: () => (closing ??= shut()),
  }
}

async function probe(file: string): Promise<void> {
  const path = `${file}.probe.${randomUUID()}`
  try {
    await createPrivate(path, 'here')
    if ((await readFile(path, 'utf8')) !== 'here') throw new Error('not what was written')
    await unlink(path)
  } catch (cause) {
    throw cannotWrite(file, cause)
  }
}

const cannotWrite = (file: string, cause: unknown): StoreError =>
  new StoreError(`cannot write beside ${file}`, { cause })
