/** How a request ended and what it is charged: one table, used once per request. */
import type { Metered } from './meter.ts'
import type { Outcome, Usage } from './record.ts'

export type Ending = {
  /** Upstream's status; absent when it could not be reached. */
  status?: number
  /** What the meter saw of a 2xx answer. */
  metered?: Metered
  /** We stopped reading upstream, or gave up waiting for it; it may have gone on generating. */
  cut: boolean
  bound: number
  promptBytes: number
}

export type Charge = { outcome: Outcome; charged: number; estimated: boolean; usage?: Usage }

/** Ordinary text has about four bytes a token. */
const BYTES_PER_TOKEN = 4

/**
 * Settled at what upstream reported; partial at an estimate of at most the bound, or at the whole bound
 * where we cut upstream ourselves or the answer was too large to be read; failed at nothing.
 */
export function chargeOf({ status, metered, cut, bound, promptBytes }: Ending): Charge {
  if (metered?.usage) {
    const { usage } = metered
    return { outcome: 'settled', charged: usage.total, estimated: false, usage }
  }
  const answered = status !== undefined && status >= 200 && status <= 299
  if (!answered && (status !== undefined || !cut)) {
    return { outcome: 'failed', charged: 0, estimated: false }
  }
  if (cut || metered?.over) return { outcome: 'partial', charged: bound, estimated: true }
  const estimate = Math.ceil(promptBytes / BYTES_PER_TOKEN) + (metered?.deltas ?? 0)
  return { outcome: 'partial', charged: Math.min(estimate, bound), estimated: true }
}
