/** The pause before another attempt where somebody else was faster. */
import { setTimeout as delay } from 'node:timers/promises'

const FIRST_MS = 5
const MOST_MS = 1000

/** Waits after so many misses: at most 5 ms, twice that with each further one, up to a second, by chance less. */
export async function backOff(misses: number, signal?: AbortSignal): Promise<void> {
  const most = Math.min(MOST_MS, FIRST_MS * 2 ** (misses - 1))
  // Who is to stop finds that out from the signal.
  await delay(Math.random() * most, undefined, signal && { signal }).catch(() => undefined)
}
