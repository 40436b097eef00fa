/** Recovers from an outage of the store: tries it again, and sends queued entries. */
import type { Log } from '../../log.ts'
import { StoreError, type Entry, type Store } from '../store.ts'
import type { Breaker } from './breaker.ts'
import type { Queue } from './queue.ts'

/** The wait before the next attempt. It doubles after each failure. */
const RETRY_MS = { first: 250, most: 5000 }

/** An attempt that takes longer has been cut off together with the request that ran it. */
const TRY_MS = 12_000

export type RecoveryOptions = {
  store: Pick<Store, 'probe' | 'replay'>
  breaker: Breaker
  queue: Queue
  now(): number
  log: Log
}

export type Recovery = {
  /** The store has just become unavailable. */
  begin(): void
  /** Sends no more entries. */
  pause(): void
  /** Tries the store again and sends queued entries, if that is due. */
  tend(): Promise<void> | undefined
}

/** Builds the recovery, for a store that works. */
export function createRecovery({ store, breaker, queue, now, log }: RecoveryOptions): Recovery {
  let paused = false
  let retry = { at: 0, wait: RETRY_MS.first }
  let tryingUntil = 0
  let newerTold = 0

  /** Sends entries, and returns those that only a newer version of Weir can count. */
  async function send(entries: Entry[]): Promise<Entry[]> {
    if (paused) throw new StoreError('queued events are counted after the next start')
    tryingUntil = now() + TRY_MS
    // The age limit of an event is checked against the present time, not against the time of queueing.
    const fresh = entries.map((entry) => (entry.op === 'enter' ? { ...entry, now: now() } : entry))
    const answers = await store.replay(fresh)
    breaker.succeeded()
    return entries.filter((entry, index) => {
      const answer = answers[index]
      const error = answer && 'error' in answer ? answer.error : undefined
      // It would fail again each time, so it is not kept.
      if (error === 'failed') log.error('usage.refused', { op: entry.op, usage: entry.event })
      return error === 'newer'
    })
  }

  /** Logs once how many entries wait for an update of this instance. */
  function tellNewer(entries: number): void {
    if (entries > newerTold) {
      const help = 'only a newer version of Weir can count them; update this instance'
      log.warn('usage.newer', { entries, help })
    }
    newerTold = entries
  }

  async function probe(): Promise<void> {
    try {
      await store.probe()
    } catch (error) {
      if (error instanceof StoreError) breaker.stillAway(error)
      throw error
    }
  }

  function tryLater(): void {
    const wait = Math.min(retry.wait * 2, RETRY_MS.most)
    retry = { at: now() + wait, wait }
  }

  /** Returns how many entries stay for later. Rejects only if the store failed. */
  async function sendQueued(): Promise<number> {
    const { length } = queue
    try {
      const newer = await queue.drain(send)
      if (queue.length < length) log.info('usage.replayed', { events: length - queue.length })
      tellNewer(newer)
      return newer
    } catch (error) {
      if (error instanceof StoreError) throw error
      log.error('store.tend', { error })
      return queue.length
    }
  }

  async function recover(): Promise<void> {
    try {
      const since = breaker.openSince()
      if (since !== undefined) await probe()
      // Before requests are admitted again: queued usage may have reached a limit.
      const newer = await sendQueued()
      if (since !== undefined) {
        log.info('store.up', { downMs: now() - since, queued: queue.length })
        breaker.close()
      }
      if (newer) tryLater()
      else retry = { at: 0, wait: RETRY_MS.first }
    } catch (error) {
      if (!(error instanceof StoreError)) log.error('store.tend', { error })
      tryLater()
    } finally {
      tryingUntil = 0
    }
  }

  return {
    begin() {
      retry = { at: now() + RETRY_MS.first, wait: RETRY_MS.first }
    },
    pause() {
      paused = true
    },
    tend() {
      const idle = breaker.openSince() === undefined && queue.length === 0
      if (paused || idle || now() < retry.at || now() < tryingUntil) return undefined
      tryingUntil = now() + TRY_MS
      return recover()
    },
  }
}
