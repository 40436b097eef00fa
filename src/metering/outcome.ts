/** How a request ended, and what it is charged. */
import type { Outcome } from '../ledger/shapes.ts'
import type { Metered, Usage } from './meter.ts'
import type { Cap } from './reservation.ts'

export type Ending = {
  /** Upstream's status; absent when it could not be reached. */
  status?: number
  /** What the meter saw of a 2xx answer. */
  metered?: Metered
  /** The answer came to its end. If not, the usage seen so far is not final. */
  ended: boolean
  /** We stopped reading upstream, or waiting for it. It may have continued to generate. */
  cut: boolean
  /** Tokens. */
  reserved: number
  promptBytes: number
  cap: Cap
}

export type Charge = { outcome: Outcome; charged: number; usage?: Usage }

/** Ordinary text has about four bytes a token. */
const BYTES_PER_TOKEN = 4

/**
 * Exact if upstream reported usage and the answer ended. Estimated if not: from the prompt and the bytes received, at
 * most the reservation. The whole reservation is charged if we cut upstream, if the answer was too large to read, and
 * always in strict mode. A failed request is charged nothing. Charges are in tokens.
 */
export function chargeOf(ending: Ending): Charge {
  const { status, metered, ended, cut, reserved, promptBytes, cap } = ending
  const usage = metered?.usage
  if (usage && ended && !cut) return { outcome: 'exact', charged: usage.total, usage }
  const succeeded = status !== undefined && status >= 200 && status <= 299
  if (!succeeded && (status !== undefined || !cut)) return { outcome: 'failed', charged: 0 }
  if (cut || metered?.over || cap === 'strict') return { outcome: 'estimated', charged: reserved }
  const { deltas = 0, bytes = 0 } = metered ?? {}
  const received = Math.max(Math.ceil(bytes / BYTES_PER_TOKEN), deltas)
  const estimate = Math.ceil(promptBytes / BYTES_PER_TOKEN) + received
  const charged = Math.min(Math.max(estimate, usage?.total ?? 0), reserved)
  return { outcome: 'estimated', charged }
}
