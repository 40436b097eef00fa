/** Pages of a list that grows at its beginning and loses items while it is read. */
import type { EventCursor } from './store.ts'

export type GrowingList<T> = {
  /** The number of items that count. Later ones have expired. */
  most: number
  /**
   * `count` items from position `skip` on, with undefined for one that cannot be read. There are fewer only at the end.
   */
  read(skip: number, count: number): Promise<(T | undefined)[]>
  /** No two items have the same key. */
  keyOf(item: T): string
}

/**
 * The next page. New items move the others back, so the page begins after the last item of the previous page that is
 * found, wherever that is now. If none is left, nothing older is left either.
 */
export async function pageAfter<T>(
  { most, read, keyOf }: GrowingList<T>,
  limit: number,
  from?: EventCursor,
): Promise<{ items: T[]; next?: EventCursor }> {
  const known = new Set(from?.known)
  let found = !from
  // Usually nothing has moved. Erased items move the others to the front.
  for (const start of from ? [from.skip - 1, 0] : [0]) {
    for (let skip = start; skip < most;) {
      const count = Math.min(limit, most - skip)
      const page = await read(skip, count)
      const last = page.findLastIndex((item) => item !== undefined && known.has(keyOf(item)))
      found ||= last >= 0
      const items = page.slice(last + 1).filter((item) => item !== undefined)
      skip += page.length
      const isEnd = page.length < count || skip >= most
      if (found && (items.length || isEnd)) {
        return isEnd ? { items } : { items, next: { skip, known: items.map(keyOf) } }
      }
      if (isEnd) break
    }
  }
  return { items: [] }
}
