/**
 * The files of the local store: a snapshot, and beside it a journal of the commands since.
 *
 * A line is in the file before its command is answered, so kill -9 loses nothing acknowledged (power loss may).
 * The snapshot is written to a temporary file and renamed; sequence numbers keep a journal that outlived
 * the renaming from being applied twice.
 */
import { constants } from 'node:fs'
import { appendFile, mkdir, open, readFile, rename, type FileHandle } from 'node:fs/promises'
import { dirname } from 'node:path'
import { acquireLock } from './lock.ts'
import { StoreError } from './store.ts'

/** The journal is folded into the snapshot when it is at least this large, and larger than the snapshot. */
const COMPACT_BYTES = 4 * 1024 * 1024

export type JournalOptions = {
  /** The snapshot's path; journal and lock are beside it. */
  file: string
  /** Takes the state of the snapshot, if there is one. */
  restore(state: unknown): void
  /** Takes each command journaled since, in order. */
  replay(command: unknown): void
  /** The state with all commands applied so far. */
  snapshot(): unknown
  warn(event: string, fields: Record<string, unknown>): void
}

export type Journal = {
  /** Writes a command that has been applied; resolves when it is in the file, rejects with `StoreError`. */
  append(command: unknown): Promise<void>
  /** Writes what is waiting and a last snapshot, and gives the files up. */
  close(): Promise<void>
}

type Waiter = { done(): void; fail(error: StoreError): void }
type Line = { seq: number; command: unknown }

/** Becomes the one owner of the files and hands over what they hold. Throws `StoreError`. */
export async function openJournal(options: JournalOptions): Promise<Journal> {
  const { file, warn } = options
  const path = `${file}.journal`
  await mkdir(dirname(file), { recursive: true })
  const lock = await acquireLock(`${file}.lock`)

  const saved = await readIfThere(file)
  const snapshot = saved === undefined ? undefined : readSnapshot(saved, file)
  let seq = snapshot?.seq ?? 0
  if (snapshot) options.restore(snapshot.state)
  const journal = readLines((await readIfThere(path)) ?? '')
  if (journal.damaged.length) {
    await appendFile(`${file}.damaged`, journal.damaged.map(({ text }) => `${text}\n`).join(''))
    const lines = journal.damaged.map(({ position }) => position)
    warn('journal.damaged', { file: path, lines, setAside: `${file}.damaged` })
  }
  for (const line of journal.lines) {
    if (line.seq <= seq) continue
    options.replay(line.command)
    seq = line.seq
  }

  const handle = await open(path, constants.O_RDWR | constants.O_CREAT)
  let written = journal.bytes
  await handle.truncate(written)
  let compactAt = Math.max(COMPACT_BYTES, saved?.length ?? 0)

  /** Lines that are not in the file yet, and who waits for them. */
  let pending = ''
  let waiters: Waiter[] = []
  let flushing: Promise<void> | undefined

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
    const text = `${JSON.stringify({ v: 1, seq, state: options.snapshot() })}\n`
    const ok = await write(() => replaceFile(file, text))
    if (!ok) {
      compactAt = written * 2
      return warn('journal.not_compacted', { file })
    }
    await handle.truncate(0)
    written = 0
    compactAt = Math.max(COMPACT_BYTES, text.length)
  }

  async function flush(): Promise<void> {
    while (waiters.length) {
      await write(appendText)
      if (written >= compactAt) await compact()
    }
    flushing = undefined
  }

  return {
    append(command) {
      seq += 1
      pending += `${JSON.stringify({ seq, command })}\n`
      return new Promise((done, fail) => {
        waiters.push({ done, fail })
        flushing ??= new Promise(setImmediate).then(flush)
      })
    },
    async close() {
      await flushing
      await compact()
      await handle.close()
      await lock.release()
    },
  }
}

async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw new StoreError(`cannot read ${path}`, { cause: error })
  }
}

function readSnapshot(text: string, file: string): { seq: number; state: unknown } {
  const value = parse(text)
  const snapshot = value as { v?: unknown; seq?: unknown; state?: unknown } | undefined
  if (snapshot?.v !== 1 || typeof snapshot.seq !== 'number' || snapshot.state === undefined) {
    throw new StoreError(`${file} is not a usage file of Weir; move it away to start afresh`)
  }
  return { seq: snapshot.seq, state: snapshot.state }
}

type Damage = { position: number; text: string }

/** The whole lines; a last line without its end was never acknowledged and is cut off. */
function readLines(text: string): { lines: Line[]; damaged: Damage[]; bytes: number } {
  const whole = text.slice(0, text.lastIndexOf('\n') + 1)
  const lines: Line[] = []
  const damaged: Damage[] = []
  for (const [index, line] of whole.split('\n').slice(0, -1).entries()) {
    const value = parse(line) as Partial<Line> | undefined
    if (typeof value?.seq === 'number') lines.push({ seq: value.seq, command: value.command })
    else damaged.push({ position: index + 1, text: line })
  }
  return { lines, damaged, bytes: Buffer.byteLength(whole) }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
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

async function replaceFile(path: string, text: string): Promise<void> {
  const temporary = `${path}.tmp`
  const handle = await open(temporary, 'w')
  try {
    await handle.writeFile(text)
    await handle.sync()
  } finally {
    await handle.close()
  }
  await rename(temporary, path)
}
