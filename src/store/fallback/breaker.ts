/** A circuit breaker. Consecutive failures open it; while it is open, calls fail at once. */
import type { Log } from '../../log.ts'
import { CommandError, RefusedError, StoreError } from '../store.ts'

/** Consecutive failures that open the breaker. */
const FAILURES = 3

export type BreakerOptions = {
  /** What is logged after the first command or probe that succeeds. */
  connected: string | undefined
  /** Called with the error that opens the breaker. */
  opened(error: StoreError): void
  now(): number
  log: Log
}

export type Breaker = {
  /** When it was opened, epoch ms; undefined while it is closed. */
  openSince(): number | undefined
  /** Why it is open, in the words of the store. */
  reason(): string | undefined
  /** Runs a command or a probe. While the breaker is open, rejects with `StoreError` at once. */
  call<T>(run: () => Promise<T>): Promise<T>
  /** The same as `call`, for reads: they may succeed while commands fail. */
  read<T>(run: () => Promise<T>): Promise<T>
  /** Reports a successful command that did not go through the breaker. */
  succeeded(): void
  /** Reports a failed probe while the breaker is open. */
  stillAway(error: StoreError): void
  close(): void
}

/** Builds a breaker, which is closed. */
export function createBreaker({ connected, opened, now, log }: BreakerOptions): Breaker {
  /** Failures in a row: of all calls, and of commands and probes without the reads between them. */
  let failures = { all: 0, commands: 0 }
  let lastFailure: StoreError | undefined
  /** How often it was closed again. Failures of calls that were sent before that are ignored. */
  let recoveries = 0
  let openSince: number | undefined
  let reason: string | undefined
  let told = connected === undefined

  function succeeded(): void {
    failures = { all: 0, commands: 0 }
    if (!told) log.info(connected as string)
    told = true
  }

  function failed(error: StoreError, isRead: boolean): void {
    // Commands that shared a call fail with the same error, which counts as one failure.
    if (error === lastFailure) return
    lastFailure = error
    failures.all += 1
    if (!isRead) failures.commands += 1
    const isRefused = error instanceof RefusedError
    const isAway = isRefused || Math.max(failures.all, failures.commands) >= FAILURES
    if (!isAway || openSince !== undefined) return
    openSince = now()
    reason = error.reason
    opened(error)
  }

  async function guarded<T>(run: () => Promise<T>, isRead: boolean): Promise<T> {
    if (openSince !== undefined) throw new StoreError('the store is down; Weir retries it soon')
    const sentAt = recoveries
    try {
      const result = await run()
      if (isRead) failures.all = 0
      else succeeded()
      return result
    } catch (error) {
      if (error instanceof CommandError) succeeded()
      else if (error instanceof StoreError && sentAt === recoveries) failed(error, isRead)
      throw error
    }
  }

  return {
    openSince: () => openSince,
    reason: () => reason,
    succeeded,
    call: (run) => guarded(run, false),
    read: (run) => guarded(run, true),
    stillAway(error) {
      const isNews = error.reason !== reason
      reason = error.reason
      if (isNews && error instanceof RefusedError) log.error('store.refused', { reason })
    },
    close() {
      openSince = undefined
      reason = undefined
      recoveries += 1
      succeeded()
    },
  }
}
