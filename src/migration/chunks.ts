/** A state as one list of items, of which some go into the database at once. */
import type { Chunk } from '../store/import.ts'
import type { State } from '../store/local.ts'

/** Most items of a chunk, and most bytes of their JSON together; an item that is larger by itself is alone. */
export type ChunkSize = { items: number; bytes: number }

export const CHUNK: ChunkSize = { items: 1000, bytes: 512 * 1024 }

export type Queue = {
  /** Items in all. */
  length: number
  /** The items from number `start` on, from 0 to `length` - 1; at least one, and all of one kind. */
  from(start: number, most: ChunkSize): Chunk
}

/** The same state gives the same items in the same order, days before the users whose days they are. */
export function queueOf(state: State): Queue {
  const { users, entered = [], erased = [], events, audit = [] } = state
  const days = state.days.toSorted((a, b) => (a.date < b.date ? -1 : 1))
  const parts = [
    part(days, (items) => ({ kind: 'days', items })),
    part(users, (items) => ({ kind: 'users', items })),
    part(entered, (items) => ({ kind: 'entered', items })),
    part(erased, (items) => ({ kind: 'erased', items })),
    part(events.toReversed(), (items) => ({ kind: 'events', items })),
    part(audit, (items) => ({ kind: 'audit', items })),
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

const part = <T>(items: T[], chunkOf: (items: T[]) => Chunk): Queue => ({
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
