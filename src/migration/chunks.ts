/** A state as one list of items, which is imported in chunks. */
import type { Chunk } from '../store/redis/import.ts'
import type { State } from '../store/local/state.ts'
import type { UserParts } from '../ledger/merge.ts'

/** The most items in a chunk, and the most bytes of their JSON in total. A larger item is a chunk of its own. */
export type ChunkSize = { items: number; bytes: number }

export const CHUNK: ChunkSize = { items: 1000, bytes: 512 * 1024 }

export type ChunkQueue = {
  /** The number of items. */
  length: number
  /** Items from number `start` on (0 to `length` - 1): at least one, and all of one kind. */
  from(start: number, most: ChunkSize): Chunk
}

/**
 * The same state gives the same items in the same order. Everyone's counters come first, because their clock tells
 * which day is the current one. Days come before their users.
 */
export function queueOf(state: State): ChunkQueue {
  const { quotas, plans = [], settings = [], entered = [], erased = [], events, audit = [] } = state
  const days = state.days.toSorted((a, b) => (a.date < b.date ? -1 : 1))
  const parts = [
    itemsOf(quotas, (items) => ({ kind: 'quotas', items })),
    itemsOf(plans, (items) => ({ kind: 'plans', items })),
    itemsOf(settings, (items) => ({ kind: 'settings', items })),
    itemsOf(days, (items) => ({ kind: 'days', items })),
    itemsOf(userPartsOf(state), (items) => ({ kind: 'users', items })),
    itemsOf(entered, (items) => ({ kind: 'entered', items })),
    itemsOf(erased, (items) => ({ kind: 'erased', items })),
    itemsOf(events.toReversed(), (items) => ({ kind: 'events', items })),
    itemsOf(audit, (items) => ({ kind: 'audit', items })),
  ]
  return {
    length: parts.reduce((sum, { length }) => sum + length, 0),
    from(start, most) {
      let rest = start
      for (const part of parts) {
        if (rest < part.length) return part.from(rest, most)
        rest -= part.length
      }
      throw new RangeError(`there is no item ${start}`)
    },
  }
}

/** The users with all their documents. */
export function userPartsOf({ usage, past, profiles }: State): UserParts[] {
  const users = new Map<string, UserParts>()
  const keep = (id: string, parts: Partial<UserParts>) =>
    users.set(id, { ...users.get(id), ...parts, id })
  for (const doc of usage) keep(doc.id, { usage: doc })
  for (const doc of past) keep(doc.id, { past: doc })
  for (const doc of profiles) keep(doc.id, { profile: doc })
  return [...users.values()]
}

const itemsOf = <T>(items: T[], chunkOf: (items: T[]) => Chunk): ChunkQueue => ({
  length: items.length,
  from: (start, most) => chunkOf(some(items, start, most)),
})

function some<T>(items: T[], start: number, most: ChunkSize): T[] {
  let bytes = 0
  let end = start
  for (const item of items.slice(start, start + most.items)) {
    bytes += Buffer.byteLength(JSON.stringify(item))
    if (bytes > most.bytes && end > start) break
    end += 1
  }
  return items.slice(start, end)
}
