/** Usage that could not be counted yet. It is kept in memory, and logged in case the memory is lost too. */
import type { Log } from '../../log.ts'
import { REPLAY_BATCH, type Entry } from '../store.ts'

export type Queue = {
  /** Entries that are waiting. */
  readonly length: number
  add(entry: Entry): Promise<void>
  /**
   * Sends entries, oldest first, and returns the number of those that wait for a newer version of Weir. Rejects if
   * `send` does; entries that were not taken stay in the queue.
   */
  drain(send: Send): Promise<number>
  close(): Promise<void>
}

/** Takes entries. Returns those that it did not take, because only a newer version of Weir can count them. */
export type Send = (entries: Entry[]) => Promise<Entry[]>

/** About 10 MB. Further entries are only in the log. */
const MOST = 10_000

/** On the edge one request sends the entries, and may make 50 calls (Cloudflare's free plan). */
const CALLS_PER_DRAIN = 32

/** The log event of an entry. `npm run replay` finds entries by it. */
export const UNRECORDED = 'usage.unrecorded'

/** Builds a queue in memory. */
export function memoryQueue(log: Log): Queue {
  let waiting: Entry[] = []
  return {
    get length() {
      return waiting.length
    },
    async add(entry) {
      // A refused request has no usage that could be lost.
      if (!isRefused(entry)) log.error(UNRECORDED, unrecorded(entry))
      if (waiting.length < MOST) waiting.push(entry)
    },
    async drain(send) {
      let newer = 0
      for (let call = 0; call < CALLS_PER_DRAIN && waiting.length > newer; call += 1) {
        const batch = waiting.slice(newer, newer + REPLAY_BATCH)
        const given = new Set(await send(batch))
        const taken = new Set(batch.filter((entry) => !given.has(entry)))
        waiting = waiting.filter((entry) => !taken.has(entry))
        newer += given.size
      }
      return newer
    },
    async close() {},
  }
}

const isRefused = (entry: Entry): boolean => entry.op === 'enter' && entry.refused === true

/** The fields of an entry's log line. `usage` is the event; its `v` is the version of its shape. */
const unrecorded = ({ op, event }: Entry): Record<string, unknown> => ({ op, usage: event })
