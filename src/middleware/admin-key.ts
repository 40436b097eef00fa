/** The admin key: checked at login and as bearer, with so many wrong ones a minute from an address. */
import type { AppContext, Deps } from '../context.ts'
import { ApiError } from '../errors.ts'
import { MINUTE_MS, minuteOf } from '../ledger/windows.ts'
import { createIds } from '../usage/user-id.ts'
import { networkOf, storedIp } from './caller.ts'
import { secondsUntil } from './retry-after.ts'
import { answered, storeOf } from './store.ts'

export const WRONG_PER_MINUTE = 5

/** So many addresses with wrong keys are remembered in a minute. */
const REMEMBERED = 1000

/** Groups of an IPv6 address that a customer is given as a whole (RFC 6177). */
const CUSTOMER_GROUPS = 4

/**
 * Builds the check of a key against the admin's; it throws `invalid_token` for a wrong one, and `rate_limit_exceeded` for
 * any key from an address that has had its wrong ones: it is not told whether the next is right.
 *
 * The isolate's own count is raised before anything is waited for, so a crowd of guesses at once does not get past it,
 * nor guesses while the store is away. The store's count is shared by all isolates, and right keys cost no call of it.
 * Addresses are hashed there, since they may be unwanted (`IP_STORAGE`).
 */
export function createKeyCheck(deps: Deps): (c: AppContext, key: string) => Promise<void> {
  const { config, now, clientIp } = deps
  const ids = createIds(config.userHashSecret)
  let wrong = { minute: 0, by: new Map<string, number>() }

  function tooMany(resetAt: number): ApiError {
    const seconds = secondsUntil(resetAt, now())
    return new ApiError(
      'rate_limit_exceeded',
      `Too many wrong admin keys from this address; try again in ${seconds} s.`,
      { headers: { 'retry-after': String(seconds) } },
    )
  }

  return async function checkKey(c, key) {
    const minute = minuteOf(now())
    if (wrong.minute !== minute) wrong = { minute, by: new Map() }
    const { by } = wrong
    const address = networkOf(storedIp(clientIp(c), 'full') ?? '', CUSTOMER_GROUPS)
    const before = by.get(address) ?? 0
    const resetAt = (minute + 1) * MINUTE_MS
    if (before >= WRONG_PER_MINUTE) throw tooMany(resetAt)
    if (isSame(key, config.adminKey ?? '')) return

    const [oldest] = by.keys()
    if (by.size >= REMEMBERED && oldest !== undefined) by.delete(oldest)
    by.set(address, before + 1)
    const name = await ids.user(`wrong keys of ${address}`)
    const turn = await answered(storeOf(deps).takeTurn(name, WRONG_PER_MINUTE))
    if (!turn.taken) {
      by.set(address, WRONG_PER_MINUTE)
      throw tooMany(turn.resetAt)
    }
    throw new ApiError('invalid_token', 'That is not the admin key.')
  }
}

/** Compares in a time that depends on the length of what was sent only, and without waiting. */
function isSame(sent: string, key: string): boolean {
  let difference = sent.length ^ key.length
  for (let at = 0; at < sent.length; at += 1) {
    difference |= sent.charCodeAt(at) ^ key.charCodeAt(at % key.length)
  }
  return difference === 0
}
