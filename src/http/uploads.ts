/** Uploads in progress, each of which may take much memory: a small number of them for an instance. */
import { ApiError } from '../errors.ts'
import type { Share } from './memory.ts'

/** An upload that takes longer gives way to one that finds no place. */
const SLOW_MS = 30_000

/** Builds the places of an instance. `now` is in ms. Opening a place throws `rate_limit_exceeded` if there is none. */
export function createUploads(places: number, now: () => number): (giveWay: () => void) => Share {
  type Arriving = { since: number; giveWay(): void }
  /** The oldest first. */
  const arriving = new Set<Arriving>()
  let taken = 0

  return function open(giveWay) {
    const [oldest] = arriving
    if (taken >= places && oldest && now() - oldest.since >= SLOW_MS) oldest.giveWay()
    if (taken >= places) {
      throw new ApiError(
        'rate_limit_exceeded',
        `This server is taking in ${places} uploads, the most at once. Send yours again in a moment.`,
        { headers: { 'retry-after': '1' } },
      )
    }
    const own: Arriving = { since: now(), giveWay }
    arriving.add(own)
    taken += 1
    let left = false
    return {
      take: () => true,
      arrived: () => void arriving.delete(own),
      release() {
        arriving.delete(own)
        if (!left) taken -= 1
        left = true
      },
    }
  }
}
