/** The headers that tell a client what is left of its limits. */
import type { Admitted } from '../ledger/commands.ts'
import { isTotal, linesOf } from '../ledger/policy.ts'
import { SECOND_MS, startOf } from '../ledger/windows.ts'

/**
 * What is left of the user's own limits for this model, by draft-ietf-httpapi-ratelimit-headers-10. A policy that does
 * not count requests names its unit.
 */
export function* limitHeaders({ at, limits = [] }: Admitted): Generator<[string, string]> {
  const mine = limits.find(({ of, model }) => of === 'user' && !isTotal(model))
  if (!mine) return
  const [policies, standings]: [string[], string[]] = [[], []]
  for (const { unit, window, limit, left, resetAt } of linesOf(mine, at)) {
    const name = `"${unit}-${window}"`
    const quotaUnit = unit === 'requests' ? '' : `;qu="${unit}"`
    policies.push(`${name};q=${limit}${quotaUnit};w=${seconds(resetAt - startOf(window, at))}`)
    standings.push(`${name};r=${left};t=${seconds(resetAt - at)}`)
  }
  if (policies.length === 0) return
  yield ['ratelimit-policy', policies.join(', ')]
  yield ['ratelimit', standings.join(', ')]
}

const seconds = (ms: number): number => Math.ceil(ms / SECOND_MS)
