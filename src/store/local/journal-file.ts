/** The journal as a file. Commands are appended as lines; lines that are in the snapshot are removed together. */
import type { FileHandle } from 'node:fs/promises'
import { VERSION } from '../../ledger/shapes.ts'
import { replaceOpen, type Pieces } from './private-file.ts'

export type JournalEntry = { v: number; seq: number; command: unknown }

const utf8 = new TextDecoder('utf-8', { fatal: true })

/** The line of a command. */
export const formatEntry = (seq: number, command: unknown): string =>
  `${JSON.stringify({ v: VERSION, seq, command })}\n`

/** The entry of a line, or undefined if the line is invalid. A line without a version has the first version. */
export function readJournalEntry(line: Buffer): JournalEntry | undefined {
  try {
    const { v = 1, seq, command } = JSON.parse(utf8.decode(line)) as Record<string, unknown>
    return typeof v === 'number' && typeof seq === 'number' ? { v, seq, command } : undefined
  } catch {
    return undefined
  }
}

export type JournalFile = {
  /** Bytes in the file. */
  readonly size: number
  /** Appends the whole text or nothing. */
  append(text: string): Promise<void>
  /** Removes the first `size` bytes. `ready` is called before the file is replaced. */
  drop(size: number, ready: () => Promise<void>): Promise<void>
  close(): Promise<void>
}

/**
 * Replaces the journal by a new file with some lines, and opens it. A previous owner that still has the old file open
 * can write into that one only.
 */
export async function openJournalFile(
  path: string,
  lines: Pieces,
  ready: () => Promise<void>,
): Promise<JournalFile> {
  let handle = await replaceOpen(path, lines, ready)
  let { size: written } = await handle.stat()
  return {
    get size() {
      return written
    },
    async append(text) {
      const bytes = Buffer.from(text)
      try {
        await writeAll(handle, bytes, written)
      } catch (error) {
        await handle.truncate(written).catch(() => undefined)
        throw error
      }
      written += bytes.length
    },
    async drop(size, ready) {
      if (size === written) {
        await handle.truncate(0)
        written = 0
        return
      }
      const old = handle
      handle = await replaceOpen(path, partOf(old, size, written), ready)
      written -= size
      await old.close()
    },
    close: () => handle.close(),
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

async function* partOf(handle: FileHandle, start: number, end: number): AsyncGenerator<Buffer> {
  const buffer = Buffer.alloc(1 << 20)
  for (let at = start; at < end;) {
    const length = Math.min(buffer.length, end - at)
    const { bytesRead } = await handle.read(buffer, 0, length, at)
    if (bytesRead === 0) throw new Error('the journal is shorter than what was written')
    yield buffer.subarray(0, bytesRead)
    at += bytesRead
  }
}
