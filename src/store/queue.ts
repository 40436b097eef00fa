/** What could not be counted yet: kept in memory, and told in the log in case that is lost too. */
import type { Log } from '../log.ts'
import { REPLAY_BATCH, type Entry } from './store.ts'

export type Queue = {
  /** Entries that are waiting. */
  readonly length: number
  add(entry: Entry): Promise<void>
  /**
   * Hands entries over, oldest first, and gives the number of those that wait for a newer version of Weir. Rejects as
   * `send` does; what was not taken waits on.
   */
  drain(send: Send): Promise<number>
  close(): Promise<void>
}

/** Takes entries, but for those that it gives back, which only a newer version of Weir can count. */
export type Send = (entries: Entry[]) => Promise<Entry[]>

/** Some 10 MB. What comes beyond is in the log only. */
const MOST = 10_000

/** On the edge one request does the work, and may make 50 calls (the free plan of Cloudflare). */
const CALLS_PER_DRAIN = 32

/** The log's name for an entry, by which `npm run replay` finds it. */
export const UNRECORDED = 'usage.unrecorded'

/** Builds a queue in memory. */
export function memoryQueue(log: Log): Queue {
  let waiting: Entry[] = []
  return {
    get length() {
      return waiting.length
    },
    async add(entry) {
      log.error(UNRECORDED, unrecorded(entry))
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

/** The fields of an entry's log line: `usage` is the event, whose `v` tells what it means. */
const unrecorded = ({ op, event }: Entry): Record<string, unknown> => ({ op, usage: event })
