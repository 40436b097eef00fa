/** What could not be counted yet: kept in memory, and told in the log in case that is lost too. */
import type { Log } from '../log.ts'
import { REPLAY_BATCH, type Entry } from './store.ts'

export type Queue = {
  /** Entries that are waiting. */
  readonly length: number
  add(entry: Entry): Promise<void>
  /** Hands entries over, oldest first; rejects as `send` does, and what was not taken waits on. */
  drain(send: (entries: Entry[]) => Promise<void>): Promise<void>
  close(): Promise<void>
}

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
      for (let call = 0; call < CALLS_PER_DRAIN && waiting.length > 0; call += 1) {
        const batch = waiting.slice(0, REPLAY_BATCH)
        await send(batch)
        const sent = new Set(batch)
        waiting = waiting.filter((entry) => !sent.has(entry))
      }
    },
    async close() {},
  }
}

/** The fields of an entry's log line: `usage` is the event, and `scopes` are there if it has to be entered. */
const unrecorded = (entry: Entry): Record<string, unknown> => ({
  op: entry.op,
  usage: entry.event,
  ...(entry.op === 'enter' && entry.scopes && { scopes: entry.scopes }),
})
