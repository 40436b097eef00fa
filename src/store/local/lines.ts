/** Reads a file line by line, however large it is. */
import { createReadStream } from 'node:fs'

const LINE_END = 0x0a

/** Whether a line has its line break; without it, its end may be missing. */
export const isWhole = (line: Buffer): boolean => line.at(-1) === LINE_END

/** The lines of a file with their line breaks. The last one may have none. */
export async function* linesOf(path: string): AsyncGenerator<Buffer> {
  /** The parts of a line that continues in the next chunk. */
  let parts: Buffer[] = []
  for await (const chunk of createReadStream(path) as AsyncIterable<Buffer>) {
    let start = 0
    for (let end; (end = chunk.indexOf(LINE_END, start)) >= 0; start = end + 1) {
      const rest = chunk.subarray(start, end + 1)
      yield parts.length ? Buffer.concat([...parts, rest]) : rest
      parts = []
    }
    if (start < chunk.length) parts.push(chunk.subarray(start))
  }
  if (parts.length) yield Buffer.concat(parts)
}

/** The lines of a file, or no lines if there is no file. */
export async function* linesIfThere(path: string): AsyncGenerator<Buffer> {
  try {
    yield* linesOf(path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
  }
}
