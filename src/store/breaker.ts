/** A circuit breaker: calls that fail one after the other open it, and from then on nobody waits for what is away. */
import type { Log } from '../log.ts'
import { CommandError, StoreError } from './store.ts'

/** So many calls that failed in a row open the breaker. */
const FAILURES = 3

export type BreakerOptions = {
  /** What an operator is told once a call has succeeded for the first time. */
  connected: string | undefined
  /** Told with the error that opens it. */
  opened(error: StoreError): void
  now(): number
  log: Log
}

export type Breaker = {
  /** Since when it has been open, in epoch ms. */
  openSince(): number | undefined
  /** Runs a call, if it is closed. Rejects with `StoreError` at once while it is open. */
  call<T>(run: () => Promise<T>): Promise<T>
  /** Something has answered that did not go through it. */
  succeeded(): void
  close(): void
}

/** Builds a closed one. */
export function createBreaker({ connected, opened, now, log }: BreakerOptions): Breaker {
  let failures = 0
  let lastFailure: StoreError | undefined
  /** How often it was closed again: what was sent before says nothing of now. */
  let recoveries = 0
  let openSince: number | undefined
  let told = connected === undefined

  function succeeded(): void {
    failures = 0
    if (!told) log.info(connected as string)
    told = true
  }

  function failed(error: StoreError): void {
    // Commands that shared a call fail with the same error, and that is one failure.
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
      if (openSince !== undefined) throw new StoreError('the store is away; it is tried again soon')
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
