/** The gate: admits a request or refuses it before upstream is called, and remembers refusals for a short time. */
import type { Config } from '../config/config.ts'
import type { Deps } from '../context.ts'
import type { ApiError } from '../errors.ts'
import type { Admit, Admitted, Refusal } from '../ledger/commands.ts'
import { rowsFor } from '../ledger/policy.ts'
import type { Degraded, FallbackStore } from '../store/fallback/store.ts'
import type { Caller } from '../identity/caller.ts'
import { refusalError } from './refusal.ts'

export type Gate = (entrant: Entrant) => Promise<Admitted & Degraded>

export type Entrant = {
  /** The request's id, which is also the id of its lease. */
  id: string
  caller: Caller
  model: string
  /** Tokens. */
  reserved: number
}

/**
 * A refusal is repeated from memory for this long. After a block is lifted, requests may still be refused until then.
 */
const REMEMBER_MS = 2000
const REMEMBERED = 1000

/**
 * Builds the gate. It throws a refusal as `ApiError`, and `StoreError` if the store did not answer; then the lease may
 * or may not exist.
 */
export function createGate(
  { config, now }: Pick<Deps, 'config' | 'now'>,
  store: Pick<FallbackStore, 'execute'>,
): Gate {
  const refusals = new Map<
    string,
    { refusal: Refusal & Degraded; reserved: number; until: number }
  >()

  function remembered({ caller, model, reserved }: Entrant): (Refusal & Degraded) | undefined {
    for (const reason of ['blocked', 'limit'] as const) {
      const key = `${caller.id} ${model} ${reason}`
      const known = refusals.get(key)
      if (!known) continue
      if (known.until <= now()) refusals.delete(key)
      // A smaller request may still fit where a larger one did not.
      else if (reason === 'blocked' || reserved >= known.reserved)
        return asking(known.refusal, reserved)
    }
    return undefined
  }

  function remember({ caller, model, reserved }: Entrant, refusal: Refusal & Degraded): void {
    if (refusal.reason !== 'blocked' && refusal.reason !== 'limit') return
    const end = refusal.reason === 'blocked' ? refusal.until : refusal.resetAt
    const until = Math.min(now() + REMEMBER_MS, end ?? Infinity)
    const [oldest] = refusals.keys()
    if (refusals.size >= REMEMBERED && oldest !== undefined) refusals.delete(oldest)
    refusals.set(`${caller.id} ${model} ${refusal.reason}`, { refusal, reserved, until })
  }

  function refused(refusal: Refusal & Degraded, model: string): ApiError {
    const error = refusalError(refusal, model, now())
    if (refusal.degraded) error.headers['x-weir-degraded'] = '1'
    return error
  }

  return async function admit(entrant) {
    const known = remembered(entrant)
    if (known) throw refused(known, entrant.model)
    const answer = await store.execute(command(config, entrant, now()))
    if (answer.ok) return answer
    remember(entrant, answer)
    throw refused(answer, entrant.model)
  }
}

function command(
  config: Readonly<Config>,
  { id, caller, model, reserved }: Entrant,
  now: number,
): Admit {
  const { limits, globalLimits, newUsersPerMinute: perMinute } = config
  const { network } = caller
  const admit: Admit = {
    op: 'admit',
    id,
    user: caller.id,
    model,
    reserved,
    now,
    lasts: config.requestMs,
    limits: rowsFor(limits, model),
  }
  if (caller.ip !== undefined) admit.ip = caller.ip
  if (network !== undefined) admit.newUsers = { network, perMinute }
  if (globalLimits) admit.everyone = rowsFor(globalLimits, model)
  return admit
}

/** A remembered refusal, with the amount that this request asks for. */
const asking = (refusal: Refusal & Degraded, reserved: number): Refusal & Degraded =>
  refusal.reason === 'limit' && refusal.unit === 'tokens'
    ? { ...refusal, asked: reserved }
    : refusal
