/** The journal as a file. Commands are appended as lines, and all lines are removed at once. */
import { constants } from 'node:fs'
import { open, type FileHandle } from 'node:fs/promises'
import { VERSION } from '../../ledger/shapes.ts'

/** One line of the journal, with its line break. */
export type Line = { number: number; bytes: Buffer }

export type Entry = { v: number; seq: number; command: unknown }

const LINE_END = 0x0a
const utf8 = new TextDecoder('utf-8', { fatal: true })

/** The line of a command. */
export const formatEntry = (seq: number, command: unknown): string =>
  `${JSON.stringify({ v: VERSION, seq, command })}\n`

/** The entry of a line, or undefined if the line is invalid. A line without a version has the first version. */
export function readEntry({ bytes }: Line): Entry | undefined {
  try {
    const { v = 1, seq, command } = JSON.parse(utf8.decode(bytes)) as Record<string, unknown>
    return typeof v === 'number' && typeof seq === 'number' ? { v, seq, command } : undefined
  } catch {
    return undefined
  }
}

/** The complete lines, and their size in bytes. An incomplete last line was never acknowledged and will be cut off. */
export function readLines(bytes: Buffer): { lines: Line[]; size: number } {
  const lines: Line[] = []
  let size = 0
  for (let end; (end = bytes.indexOf(LINE_END, size)) >= 0; size = end + 1) {
    lines.push({ number: lines.length + 1, bytes: bytes.subarray(size, end + 1) })
  }
  return { lines, size }
}

/** Opens the file for writing, and truncates it to `size`. */
export async function openJournalFile(path: string, size: number) {
  const handle = await open(path, constants.O_RDWR | constants.O_CREAT)
  let written = size
  await handle.truncate(written)
  return {
    /** Bytes in the file. */
    get size() {
      return written
    },
    /** Appends the whole text or nothing. */
    async append(text: string): Promise<void> {
      const bytes = Buffer.from(text)
      try {
        await writeAll(handle, bytes, written)
      } catch (error) {
        await handle.truncate(written).catch(() => undefined)
        throw error
      }
      written += bytes.length
    },
    async empty(): Promise<void> {
      await handle.truncate(0)
      written = 0
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
