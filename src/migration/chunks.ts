/** A state cut into what goes into the database at once. */
import type { Chunk } from '../store/import.ts'
import type { State } from './rebuild.ts'

export type ChunkSize = { items: number; bytes: number }

const CHUNK: ChunkSize = { items: 1000, bytes: 512 * 1024 }

/** The same state gives the same chunks. */
export function chunksOf(state: State, most: ChunkSize = CHUNK): Chunk[] {
  const { users, entered = [], events } = state
  const days = state.days.toSorted((a, b) => (a.date < b.date ? -1 : 1))
  // Live requests change the newest day all the time, and with it a chunk is read and merged again.
  const newest = days.splice(-1)
  return [
    ...pack(days, most).map((items): Chunk => ({ kind: 'days', items })),
    ...pack(newest, most).map((items): Chunk => ({ kind: 'days', items })),
    ...pack(users, most).map((items): Chunk => ({ kind: 'users', items })),
    ...pack(entered, most).map((items): Chunk => ({ kind: 'entered', items })),
    ...pack(events.toReversed(), most).map((items): Chunk => ({ kind: 'events', items })),
  ]
}

/** Lists of at most so many items and bytes; an item that is larger by itself is alone. */
function pack<T>(items: T[], most: ChunkSize): T[][] {
  const lists: T[][] = []
  let bytes = Infinity
  for (const item of items) {
    const size = Buffer.byteLength(JSON.stringify(item))
    const last = lists.at(-1)
    if (last && last.length < most.items && bytes + size <= most.bytes) {
      last.push(item)
      bytes += size
    } else {
      lists.push([item])
      bytes = size
    }
  }
  return lists
}
