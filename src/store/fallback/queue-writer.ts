/** Appends entries to the queue's file. Code that moves or counts the file takes turns with it. */
import { appendPrivate } from '../local/private-file.ts'
import type { Entry } from '../store.ts'
import { lineOf } from './queue-lines.ts'

export type QueueWriter = {
  /** Resolves when the entry is in the file. */
  append(entry: Entry): Promise<void>
  /** Runs `work` while no other code uses the file. */
  inTurn<T>(work: () => Promise<T>): Promise<T>
  /** Resolves when all work that has begun has ended. */
  over(): Promise<unknown>
}

/** Builds a writer. `added` is called, within the same turn, with the number of entries that were appended. */
export function queueWriter(path: string, added: (entries: number) => void): QueueWriter {
  /** Without turns, a line could be appended to a file that has already been read. */
  let turn: Promise<unknown> = Promise.resolve()
  const inTurn = <T>(work: () => Promise<T>): Promise<T> => {
    const result = turn.then(work)
    turn = result.catch(() => undefined)
    return result
  }

  /** Whether the last line may have been cut off, by a crash or a full disk. */
  let torn = true
  async function write(entries: Entry[]): Promise<void> {
    const lines = entries.map(lineOf).join('')
    const text = torn ? `\n${lines}` : lines
    torn = true
    await appendPrivate(path, text)
    torn = false
    added(entries.length)
  }

  /**
   * Entries that arrive during the wait for a turn are written together. Otherwise a busy process would fall behind.
   */
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

  return { append, inTurn, over: () => turn }
}
