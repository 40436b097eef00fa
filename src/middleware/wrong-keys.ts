/** Wrong admin keys: so many a minute from an address, whether at login or as bearer. */
import type { AppContext, Deps } from '../context.ts'
import { ApiError } from '../errors.ts'
import { createIds } from '../usage/user-id.ts'
import { networkOf, storedIp } from './caller.ts'
import { answered, storeOf } from './store.ts'

const WRONG_PER_MINUTE = 5

/** So many addresses that have no turn left are remembered. */
const REMEMBERED = 1000

/** Groups of an IPv6 address that a customer is given as a whole (RFC 6177). */
const CUSTOMER_GROUPS = 4

export type WrongKeys = {
  /** Throws `rate_limit_exceeded` for an address that has had its wrong keys: it is not told whether the next is right. */
  refuse(c: AppContext): Promise<void>
  /** Counts a wrong key. Throws `rate_limit_exceeded` beyond the last that is allowed. */
  count(c: AppContext): Promise<void>
}

/**
 * Builds the count, which isolates share in the store; right keys cost no call of it. Addresses are hashed, since
 * they may be unwanted there (`IP_STORAGE`).
 */
export function createWrongKeys(deps: Deps): WrongKeys {
  const { config, now, clientIp } = deps
  const ids = createIds(config.userHashSecret)
  /** When addresses without a turn have one again, epoch ms. */
  const closed = new Map<string, number>()

  const nameOf = (c: AppContext) =>
    ids.user(`wrong keys of ${networkOf(storedIp(clientIp(c), 'full') ?? '', CUSTOMER_GROUPS)}`)

  function refused(resetAt: number): ApiError {
    const seconds = Math.min(60, Math.max(1, Math.ceil((resetAt - now()) / 1000)))
    return new ApiError(
      'rate_limit_exceeded',
      `Too many wrong admin keys from this address; try again in ${seconds} s.`,
      { headers: { 'retry-after': String(seconds) } },
    )
  }

  return {
    async refuse(c) {
      if (closed.size === 0) return
      const name = await nameOf(c)
      const resetAt = closed.get(name)
      if (resetAt === undefined) return
      if (resetAt > now()) throw refused(resetAt)
      closed.delete(name)
    },
    async count(c) {
      const name = await nameOf(c)
      const { taken, resetAt } = await answered(storeOf(deps).takeTurn(name, WRONG_PER_MINUTE))
      if (taken) return
      const [oldest] = closed.keys()
      if (closed.size >= REMEMBERED && oldest !== undefined) closed.delete(oldest)
      closed.set(name, resetAt)
      throw refused(resetAt)
    },
  }
}
