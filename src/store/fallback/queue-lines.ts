/** The lines of the queue's files: one entry per line, and empty lines where a line may have been cut off. */
import { createReadStream } from 'node:fs'
import { OLDEST, VERSION } from '../../ledger/shapes.ts'
import type { Entry } from '../store.ts'

const LINE_END = 0x0a

export const lineOf = (entry: Entry): string => `${JSON.stringify({ v: VERSION, ...entry })}\n`

/** The entry of a line; undefined if the line is damaged or older than the first release. */
export function readEntry(line: string): Entry | 'newer' | undefined {
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

/**
 * Counts the lines that are not empty; 0 if there is no file. If reading fails, calls `failed` and returns the count
 * so far.
 */
export async function countLines(name: string, failed: (error: unknown) => void): Promise<number> {
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
    if (code !== 'ENOENT' && code !== 'ENOTDIR') failed(error)
  }
  return lines
}
