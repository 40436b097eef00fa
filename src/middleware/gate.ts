/** The gate: admits a request or refuses it, before upstream is called, and remembers refusals for a moment. */
import type { Config } from '../config.ts'
import type { AppEnv, Deps } from '../context.ts'
import { ApiError } from '../errors.ts'
import { MODELS_PER_USER, type Admit, type Admitted, type Refusal } from '../ledger/commands.ts'
import { isTotal, rowsFor } from '../ledger/policy.ts'
import type { Unit } from '../ledger/shapes.ts'
import { WINDOWS } from '../ledger/windows.ts'
import type { Degraded, FallbackStore } from '../store/fallback.ts'
import type { Caller } from './caller.ts'
import { secondsUntil } from './retry-after.ts'

export type Gate = (entrant: Entrant) => Promise<Admitted & Degraded>

export type Entrant = {
  id: AppEnv['Variables']['id']
  caller: Caller
  model: string
  /** Tokens. */
  reserved: number
}

/** So long a door stays closed without asking again; unblocking is seen within it. */
const REMEMBER_MS = 2000
const REMEMBERED = 1000

/**
 * Builds the gate. It throws the refusal as `ApiError`, and `StoreError` when the store did not answer, in
 * which case the lease may or may not be there.
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
    if (refusal.reason === 'models') return
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
  const { limits, globalLimits } = config
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
  if (globalLimits) admit.everyone = rowsFor(globalLimits, model)
  return admit
}

/** A remembered refusal, as it is told to a request that may ask for more than the one that met it. */
const asking = (refusal: Refusal & Degraded, reserved: number): Refusal & Degraded =>
  refusal.reason === 'limit' && refusal.unit === 'tokens'
    ? { ...refusal, asked: reserved }
    : refusal

const number = (value: number) => value.toLocaleString('en-US')
const time = (at: number) => new Date(at).toISOString().replace('.000Z', 'Z')

/** What a request asks for, by unit. */
const ASKED: Record<Unit, (amount: string) => string> = {
  requests: (amount) => `${amount} request`,
  tokens: (amount) => `up to ${amount} tokens`,
}

function refusalError(refusal: Refusal, model: string, now: number): ApiError {
  if (refusal.reason === 'blocked') {
    const what = isTotal(refusal.model) ? 'all models' : `the model ${refusal.model}`
    const until = refusal.until === undefined ? '' : ` until ${time(refusal.until)}`
    const why = refusal.why === undefined ? '.' : `: ${refusal.why}`
    return new ApiError('user_blocked', `You are blocked from ${what}${until}${why}`)
  }
  if (refusal.reason === 'models') {
    return new ApiError(
      'model_not_allowed',
      `You have used ${MODELS_PER_USER} different models today, which is the most; ${model} would be one more.`,
      { param: 'model' },
    )
  }
  const { of, window, unit, limit, used, asked, resetAt } = refusal
  const { waits, words } = WINDOWS[window]
  const scope = isTotal(refusal.model) ? 'all models together' : refusal.model
  const whose = of === 'user' ? 'your' : "everyone's"
  const message =
    `This request asks for ${ASKED[unit](number(asked))} of ${scope}, and ${number(Math.max(0, limit - used))} of ${whose} ${number(limit)} ${unit} ${words} are left. ` +
    `They reset at ${time(resetAt)}.`
  // What asks for more than there ever is gets no better by waiting.
  if (waits && asked <= limit) {
    return new ApiError('rate_limit_exceeded', message, {
      headers: { 'retry-after': String(secondsUntil(resetAt, now)) },
    })
  }
  const spent = of === 'user' ? 'insufficient_quota' : 'global_quota'
  // Without a retry-after: groq-sdk would sleep until then, however long.
  return new ApiError(waits ? 'rate_limit_exceeded' : spent, message, {
    headers: { 'x-should-retry': 'false' },
  })
}
