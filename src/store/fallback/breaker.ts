/** A circuit breaker. Consecutive failures open it; while it is open, calls fail at once. */
import type { Log } from '../../log.ts'
import { CommandError, StoreError } from '../store.ts'

/** Consecutive failures that open the breaker. */
const FAILURES = 3

export type BreakerOptions = {
  /** What is logged after the first call that succeeds. */
  connected: string | undefined
  /** Called with the error that opens the breaker. */
  opened(error: StoreError): void
  now(): number
  log: Log
}

export type Breaker = {
  /** When it was opened, epoch ms; undefined while it is closed. */
  openSince(): number | undefined
  /** Runs a call. While the breaker is open, rejects with `StoreError` at once. */
  call<T>(run: () => Promise<T>): Promise<T>
  /** Reports a successful call that did not go through the breaker. */
  succeeded(): void
  close(): void
}

/** Builds a breaker, which is closed. */
export function createBreaker({ connected, opened, now, log }: BreakerOptions): Breaker {
  let failures = 0
  let lastFailure: StoreError | undefined
  /** How often it was closed again. Failures of calls that were sent before that are ignored. */
  let recoveries = 0
  let openSince: number | undefined
  let told = connected === undefined

  function succeeded(): void {
    failures = 0
    if (!told) log.info(connected as string)
    told = true
  }

  function failed(error: StoreError): void {
    // Commands that shared a call fail with the same error, which counts as one failure.
    if (error === lastFailure) return
    lastFailure = error
    failures += 1
    if (failures < FAILURES || openSince !== undefined) return
    openSince = now()
    opened(error)
  }

  return {
    openSince: () => openSince,
    succeeded,
    async call(run) {
      if (openSince !== undefined) throw new StoreError('the store is down; Weir retries it soon')
      const sentAt = recoveries
      try {
        const result = await run()
        succeeded()
        return result
      } catch (error) {
        if (error instanceof CommandError) succeeded()
        else if (error instanceof StoreError && sentAt === recoveries) failed(error)
        throw error
      }
    },
    close() {
      openSince = undefined
      recoveries += 1
      succeeded()
    },
  }
}
