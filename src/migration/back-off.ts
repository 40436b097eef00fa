/** The pause before another attempt, if other traffic was faster. */
import { setTimeout as delay } from 'node:timers/promises'

const FIRST_MS = 5
const MOST_MS = 1000

/**
 * Waits for a random time. The maximum is 5 ms after the first miss, and doubles with each further one up to a
 * second.
 */
export async function backOff(misses: number, signal?: AbortSignal): Promise<void> {
  const most = Math.min(MOST_MS, FIRST_MS * 2 ** (misses - 1))
  // An aborted wait is no error: callers check the signal.
  await delay(Math.random() * most, undefined, signal && { signal }).catch(() => undefined)
}
