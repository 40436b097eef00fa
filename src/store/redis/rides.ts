/**
 * Lets a call to the database carry what other requests have left for it.
 *
 * For runtimes in which a request must not wait for a promise of another one, as on the edge: only plain values are
 * shared. What is carried must be safe to send twice, because two requests may send it without knowing of each other.
 */

/** How long an owner waits before it looks for its answer. */
const LOOK_MS = 50

/**
 * How long items stay with the request that took them. A request whose call fails returns them, but a request that was
 * cut never does. The time is longer than a call to a slow database takes, because such a database must not get
 * everything twice.
 */
const TAKEN_MS = 1000

/** The most that one call carries, so that nobody waits long for others. */
const SEATS = 16

/** The most calls that carry the same item. More would only repeat what has failed. */
const MOST_CALLS = 3

/** The most items in the list, and the most characters of each. Other items are sent by their owners at once. */
const LISTED = 1000
const MOST_CHARS = 2048

/** Shares calls: `run` sends items in one call, and returns one result per item, in order. */
export function createRides<Item extends { text: string }, Result extends object>(
  run: (items: Item[]) => Promise<Result[]>,
) {
  type Ride = { item: Item; takenUntil: number; calls: number; result?: Result }
  const listed = new Set<Ride>()
  const now = () => performance.now()

  function mark(ride: Ride): void {
    ride.takenUntil = now() + TAKEN_MS
    ride.calls += 1
  }

  function take(): Ride[] {
    const taken: Ride[] = []
    for (const ride of listed) {
      if (taken.length === SEATS) break
      if (ride.takenUntil > now()) continue
      if (ride.calls < MOST_CALLS) taken.push(ride)
      // From now on, only its owner may send it.
      else listed.delete(ride)
    }
    for (const ride of taken) mark(ride)
    return taken
  }

  /** Sends an item, after what is listed. */
  async function carry(item: Item): Promise<Result> {
    const taken = take()
    try {
      const results = await run([...taken.map((ride) => ride.item), item])
      for (const [n, ride] of taken.entries()) {
        ride.result ??= results[n] as Result
        listed.delete(ride)
      }
      return results[taken.length] as Result
    } catch (error) {
      for (const ride of taken) ride.takenUntil = 0
      throw error
    }
  }

  /** Lists an item for the calls of others, and sends it itself if none of them has brought an answer soon. */
  async function ride(item: Item): Promise<Result> {
    if (listed.size >= LISTED || item.text.length > MOST_CHARS) return carry(item)
    const own: Ride = { item, takenUntil: 0, calls: 0 }
    listed.add(own)
    do await new Promise((resolve) => setTimeout(resolve, LOOK_MS))
    while (!own.result && own.takenUntil > now())
    try {
      if (own.result) return own.result
      mark(own)
      return await carry(item)
    } finally {
      // If this request is cut before this line, others still carry the item.
      listed.delete(own)
    }
  }

  return { carry, ride }
}
