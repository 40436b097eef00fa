/** Counts new users in memory: those of each network in the latest minute with any. A restart forgets them. */
import type { NewUsers } from '../ledger/step.ts'

export type NewUsersCount = ReturnType<typeof countNewUsers>

export function countNewUsers() {
  let latest = 0
  let counts = new Map<string, number>()
  return {
    /** The new users of a network in a minute. */
    in: (network: string, minute: number): number =>
      minute === latest ? (counts.get(network) ?? 0) : 0,
    keep({ network, minute, count }: NewUsers): void {
      if (minute !== latest) counts = new Map()
      latest = minute
      counts.set(network, count)
    },
  }
}
