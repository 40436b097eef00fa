/** The headers that tell a client what is left of its limits. */
import type { Admitted } from '../ledger/answers.ts'
import { isTotal, linesOf } from '../ledger/policy.ts'
import type { Unit } from '../ledger/units.ts'
import type { Reservation } from '../metering/reservation.ts'
import { SECOND_MS, startOf } from '../ledger/windows.ts'

/**
 * How amounts are written. They must be integers of at most 15 digits, and $1 million has 16 in nano-USD. Limits have
 * whole micro-USD, and what is left of them is rounded down.
 */
const WRITTEN: Record<Unit, { unit: string; of(amount: number): number }> = {
  requests: { unit: '', of: (amount) => amount },
  tokens: { unit: ';qu="tokens"', of: (amount) => amount },
  usd: { unit: ';qu="micro-usd"', of: (nano) => Math.floor(nano / 1000) },
  audioSeconds: { unit: ';qu="audio-seconds"', of: (ms) => Math.floor(ms / SECOND_MS) },
  characters: { unit: ';qu="characters"', of: (amount) => amount },
}

/** The unit in which a request is charged, beside requests and dollars. */
const unitOf = ({ audioMs, characters }: Pick<Reservation, 'audioMs' | 'characters'>): Unit =>
  audioMs !== undefined ? 'audioSeconds' : characters !== undefined ? 'characters' : 'tokens'

/**
 * What is left of the user's own limits for this model, by draft-ietf-httpapi-ratelimit-headers-10. A policy that does
 * not count requests names its unit. Limits in units that the request is not charged in are left out.
 */
export function* limitHeaders(
  { at, limits = [] }: Admitted,
  reservation: Pick<Reservation, 'audioMs' | 'characters'>,
): Generator<[string, string]> {
  const mine = limits.find(({ of, model }) => of === 'user' && !isTotal(model))
  if (!mine) return
  const charged = unitOf(reservation)
  const [policies, standings]: [string[], string[]] = [[], []]
  for (const { unit, window, limit, left, resetAt } of linesOf(mine, at)) {
    if (unit !== 'requests' && unit !== 'usd' && unit !== charged) continue
    const name = `"${unit}-${window}"`
    const { unit: quotaUnit, of } = WRITTEN[unit]
    policies.push(`${name};q=${of(limit)}${quotaUnit};w=${seconds(resetAt - startOf(window, at))}`)
    standings.push(`${name};r=${of(left)};t=${seconds(resetAt - at)}`)
  }
  if (policies.length === 0) return
  yield ['ratelimit-policy', policies.join(', ')]
  yield ['ratelimit', standings.join(', ')]
}

const seconds = (ms: number): number => Math.ceil(ms / SECOND_MS)
