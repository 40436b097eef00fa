/** The search for one request by its id. */
import type { Event, Refused } from '../ledger/events.ts'
import { MINUTE_MS } from '../ledger/windows.ts'
import { REFUSED_KEPT, type EventCursor, type Store } from '../store/store.ts'

/** The id of a request: a UUIDv7, whose first 48 bits are the time at which it came. */
export const REQUEST_ID = /^[\da-f]{8}-[\da-f]{4}-7[\da-f]{3}-[89ab][\da-f]{3}-[\da-f]{12}$/i

/** The events that are read at once, and the most reads. */
const AT_ONCE = 2000
const READS = 5

/** Clocks of instances may differ by this much. */
const SLACK_MS = MINUTE_MS

/** When the request with an id came, in epoch ms. */
const timeOf = (id: string): number => parseInt(id.replace('-', '').slice(0, 12), 16)

/** A request that has ended or was refused: one of the newest `AT_ONCE * READS`, or of the kept refusals. */
export async function findRequest(
  store: Pick<Store, 'eventPage' | 'refusals'>,
  q: string,
): Promise<Event | Refused | undefined> {
  const id = q.toLowerCase()
  if (!REQUEST_ID.test(id)) return undefined
  let from: EventCursor | undefined
  for (let reads = 0; reads < READS; reads += 1) {
    const { events, next } = await store.eventPage(AT_ONCE, from)
    const found = events.find((event) => event.id === id)
    if (found) return found
    // The newest ends come first. An event that ended before the request came is not the request, and neither is any
    // older one.
    const last = events.at(-1)
    if (!next || (last && last.at + last.totalMs < timeOf(id) - SLACK_MS)) break
    from = next
  }
  const { latest } = await store.refusals([], REFUSED_KEPT)
  return latest.find((refused) => refused.id === id)
}
