/** The check of the admin key, at login and as a bearer token. It limits the wrong keys of an address per minute. */
import type { AppContext, Deps } from '../context.ts'
import { ApiError } from '../errors.ts'
import { MINUTE_MS, minuteOf } from '../ledger/windows.ts'
import { createIds } from './ids.ts'
import { networkOf, storedIp } from './caller.ts'
import { secondsUntil } from '../retry-after.ts'
import { storeAnswer, storeOf } from '../store/required.ts'

export const WRONG_PER_MINUTE = 5

/** Addresses with wrong keys that are remembered within a minute. */
const REMEMBERED = 1000

/** The groups of an IPv6 address that identify a customer's network (RFC 6177). */
const CUSTOMER_GROUPS = 4

/**
 * Builds the check of a key against the admin key. It throws `invalid_token` for a wrong key. After too many wrong keys
 * from an address it throws `rate_limit_exceeded` for any key, so that the address does not learn whether a key is
 * right.
 *
 * The isolate raises its own count before it waits for anything, so neither many guesses at once nor guesses while the
 * store is unreachable pass the limit. All isolates share the store's count, and a right key needs no call to the
 * store. The store gets a hash of the address, because `IP_STORAGE` may forbid storing it.
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
    const turn = await storeAnswer(storeOf(deps).takeTurn(name, WRONG_PER_MINUTE))
    if (!turn.taken) {
      by.set(address, WRONG_PER_MINUTE)
      throw tooMany(turn.resetAt)
    }
    throw new ApiError('invalid_token', 'That is not the admin key.')
  }
}

/**
 * The time depends only on the length of the sent key. It is synchronous, because the count must rise before anything
 * is awaited.
 */
function isSame(sent: string, key: string): boolean {
  let difference = sent.length ^ key.length
  for (let at = 0; at < sent.length; at += 1) {
    difference |= sent.charCodeAt(at) ^ key.charCodeAt(at % key.length)
  }
  return difference === 0
}
