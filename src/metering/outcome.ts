/** How a request ended, and what it is charged. */
import { costOf, type Price, type Priced } from '../ledger/money.ts'
import type { Outcome } from '../ledger/events.ts'
import type { Metered, Usage } from './meter.ts'
import { chargedFor } from './audio.ts'
import type { Cap, Reservation } from './reservation.ts'

export type Ending = {
  /** Upstream's status; absent when it could not be reached. */
  status?: number
  /** What the meter saw of a 2xx answer. */
  metered?: Metered
  /** The answer came to its end. If not, the usage seen so far is not final. */
  ended: boolean
  /** We stopped reading upstream, or waiting for it. It may have continued to generate. */
  cut: boolean
  reservation: Pick<Reservation, 'tokens' | 'completion' | 'promptBytes' | 'audioMs' | 'characters'>
  /** Of the model; absent if it is not known. */
  price?: Price | undefined
  cap: Cap
}

/** `charged` is in tokens, costs are in nano-USD; they are absent without a price. */
export type Charge = {
  outcome: Outcome
  charged: number
  audioMs?: number
  characters?: number
  cost?: number
  reservedCost?: number
  usage?: Usage
}

/** Ordinary text has about four bytes a token. */
const BYTES_PER_TOKEN = 4

/** Whether the provider gave no answer, and cannot be working on one. */
const hasFailed = ({ status, cut }: Ending): boolean =>
  status === undefined ? !cut : status < 200 || status > 299

/**
 * The charge of audio. The characters that are spoken are exact. The length of a transcription is exact if upstream reported
 * it and the answer ended; if not, the reservation is the only estimate that there is.
 */
function audioCharge(ending: Ending): Charge {
  const { metered, ended, cut, price } = ending
  const { audioMs, characters } = ending.reservation
  const reserved = {
    ...(audioMs !== undefined && { audioMs }),
    ...(characters !== undefined && { characters }),
  }
  const costs = (use: Pick<Priced, 'audioMs' | 'characters'>) =>
    price ? costOf({ prompt: 0, completion: 0, ...use }, price) : 0
  const charge = (outcome: Outcome, use: Pick<Charge, 'audioMs' | 'characters'>): Charge => ({
    outcome,
    charged: 0,
    ...use,
    ...(price && { cost: costs(use), reservedCost: costs(reserved) }),
  })
  if (hasFailed(ending)) return charge('failed', {})
  if (!ended || cut) return charge('estimated', reserved)
  if (characters !== undefined) return charge('exact', reserved)
  return metered?.audioMs === undefined
    ? charge('estimated', reserved)
    : charge('exact', { audioMs: chargedFor(metered.audioMs) })
}

/**
 * Exact if upstream reported usage and the answer ended. Estimated if not: from the prompt and the bytes received, at
 * most the reservation. The whole reservation is charged if we cut upstream, if the answer was too large to read, and
 * always in strict mode. A failed request is charged nothing.
 */
export function chargeOf(ending: Ending): Charge {
  const { metered, ended, cut, reservation, price, cap } = ending
  if (reservation.audioMs !== undefined || reservation.characters !== undefined) {
    return audioCharge(ending)
  }
  const { tokens: reserved, completion } = reservation
  const costs = (tokens: Priced) => (price ? costOf(tokens, price) : 0)
  const reservedCost = costs({ prompt: reserved - completion, completion })
  const charge = (outcome: Outcome, charged: number, cost: number): Charge =>
    price ? { outcome, charged, cost, reservedCost } : { outcome, charged }

  const usage = metered?.usage
  if (usage && ended && !cut) return { ...charge('exact', usage.total, costs(usage)), usage }
  if (hasFailed(ending)) return charge('failed', 0, 0)
  if (cut || metered?.over || cap === 'strict') return charge('estimated', reserved, reservedCost)
  const { deltas = 0, bytes = 0 } = metered ?? {}
  const received = Math.max(Math.ceil(bytes / BYTES_PER_TOKEN), deltas)
  const prompt = Math.ceil(reservation.promptBytes / BYTES_PER_TOKEN)
  const charged = Math.min(Math.max(prompt + received, usage?.total ?? 0), reserved)
  const cost = Math.max(costs({ prompt, completion: received }), usage ? costs(usage) : 0)
  return charge('estimated', charged, Math.min(cost, reservedCost))
}
