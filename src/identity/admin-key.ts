/** The check of the admin key, at login and as a bearer token. It limits the wrong keys of an address per minute. */
import type { AdminKey } from '../config/admins.ts'
import type { AppContext, Deps } from '../context.ts'
import { ApiError } from '../errors.ts'
import { MINUTE_MS, minuteOf } from '../ledger/windows.ts'
import { createIds } from './ids.ts'
import { CUSTOMER_GROUPS, networkOf, storedIp } from './caller.ts'
import { secondsUntil } from '../retry-after.ts'
import { storeAnswer, storeOf } from '../store/required.ts'

export const WRONG_PER_MINUTE = 5

/**
 * Behind a proxy that is not configured, a right key is accepted even after others have sent wrong keys: by the address
 * that the proxy's headers name. Clients may make these headers up, so at most this many keys a minute are checked in
 * this way.
 */
const LOOKED_AT = 60

/** A key of this length with this many different characters cannot be guessed, so it is always checked. */
const LONG_KEY = { length: 32, different: 10 }

/** The most addresses with wrong keys that are remembered in a minute. */
const REMEMBERED = 1000

/**
 * Builds the check of a key against the keys of the admins, which returns the admin. It throws `invalid_token` for a
 * wrong key. After too many wrong keys from an address it throws `rate_limit_exceeded` for any key, so that the address
 * does not learn whether a key is right; but never for a key that is long, so that no guesser can lock the admin out.
 *
 * The isolate raises its own count before it waits for anything, so neither many guesses at once nor guesses while the
 * store is unreachable pass the limit. All isolates share the store's count, and a right key needs no call to the
 * store. The store gets a hash of the address, because `IP_STORAGE` may forbid storing it.
 */
export function createKeyCheck(deps: Deps): (c: AppContext, key: string) => Promise<AdminKey> {
  const { config, now, clientIp, claimedIp } = deps
  const ids = createIds(config.userHashSecret)
  let wrong = { minute: 0, by: new Map<string, number>() }

  function tooMany(resetAt: number): ApiError {
    const seconds = secondsUntil(resetAt, now())
    return new ApiError(
      'rate_limit_exceeded',
      `Too many wrong admin keys from this address. Try again in ${seconds} s.`,
      { headers: { 'retry-after': String(seconds) } },
    )
  }

  function raise(name: string): void {
    const { by } = wrong
    const count = by.get(name) ?? 0
    const [oldest] = by.keys()
    if (count === 0 && by.size >= REMEMBERED && oldest !== undefined) by.delete(oldest)
    by.set(name, count + 1)
  }

  return async function checkKey(c, key) {
    const minute = minuteOf(now())
    if (wrong.minute !== minute) wrong = { minute, by: new Map() }
    const { by } = wrong
    const address = addressOf(clientIp(c))
    const claim = claimedIp(c)
    const claimed = claim === undefined ? undefined : `${addressOf(claim)} by ${address}`
    const all = `all by ${address}`
    const resetAt = (minute + 1) * MINUTE_MS
    const count = (name: string) => by.get(name) ?? 0
    const isWalled = count(address) >= WRONG_PER_MINUTE
    const isLookedAt = claimed !== undefined && count(all) < LOOKED_AT
    const isClaimOpen = isLookedAt && count(claimed) < WRONG_PER_MINUTE
    // All of them are compared, so that the time does not tell which one it is.
    const [found] = config.admins.filter((admin) => isSame(key, admin.key))
    if (found && (isLongKey(found.key) || !isWalled || isClaimOpen)) return found

    if (isLookedAt) for (const name of [claimed, all]) raise(name)
    if (isWalled) throw tooMany(resetAt)
    raise(address)
    const name = await ids.user(`wrong keys of ${address}`)
    const turn = await storeAnswer(storeOf(deps).takeTurn(name, WRONG_PER_MINUTE))
    if (!turn.taken) {
      by.set(address, WRONG_PER_MINUTE)
      throw tooMany(turn.resetAt)
    }
    throw new ApiError('invalid_token', 'That is not an admin key.')
  }
}

const addressOf = (ip: string | undefined): string =>
  networkOf(storedIp(ip, 'full') ?? '', CUSTOMER_GROUPS)

/** Whether a key is so long that it cannot be guessed, and is not one character repeated or the like. */
export const isLongKey = (key: string): boolean =>
  key.length >= LONG_KEY.length && new Set(key).size >= LONG_KEY.different

/**
 * The time depends only on the length of the sent key. It is synchronous, because the count must rise before anything
 * is awaited.
 */
export function isSame(sent: string, key: string): boolean {
  let difference = sent.length ^ key.length
  for (let at = 0; at < sent.length; at += 1) {
    difference |= sent.charCodeAt(at) ^ key.charCodeAt(at % key.length)
  }
  return difference === 0
}
