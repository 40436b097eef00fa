/** The end of an exchange in the ledger: what it is charged, and its event. */
import type { Deps } from '../context.ts'
import type { Caller } from '../identity/caller.ts'
import { watchOf } from '../ledger/alerts.ts'
import type { Settle } from '../ledger/commands.ts'
import type { Admitted } from '../ledger/answers.ts'
import { digitsOf } from '../ledger/money.ts'
import type { Standing } from '../ledger/policy.ts'
import { VERSION } from '../ledger/shapes.ts'
import type { Event } from '../ledger/events.ts'
import { priceFor } from '../metering/cost.ts'
import { SPEND_BLOCKED } from '../providers/groq.ts'
import { chargeOf, type Ending } from '../metering/outcome.ts'
import type { Reservation } from '../metering/reservation.ts'
import type { FallbackStore } from '../store/fallback/store.ts'
import type { ProxyRequest } from './body.ts'
import type { Incoming } from './incoming.ts'

/** How far an exchange came; `ttfbMs` is the time to the first byte, `code` that of upstream's error. */
export type Seen = Pick<Ending, 'status' | 'metered' | 'ended' | 'cut'> & {
  ttfbMs?: number
  code?: string
}

export type Settlement = {
  /**
   * Keeps what the admission answered: its time, and what it reserved. By the time, the ledger finds out if the lease
   * was lost with the user's document.
   */
  admitted(admission: Pick<Admitted, 'at' | 'limits'>, reserved: Reservation): void
  /** Settles the request in the background; `sent` is the status the client gets. */
  settle(seen: Seen, sent: number): Promise<void>
}

/** What was charged, in words. */
function amountOf({ charged, audioMs, characters }: Event): string {
  if (audioMs !== undefined) return `${audioMs / 1000} audio seconds`
  return characters === undefined ? `${charged} tokens` : `${characters} characters`
}

/** Builds the settlement of one request. */
export function settlement(
  { id, tag, waitUntil }: Pick<Incoming, 'id' | 'tag' | 'waitUntil'>,
  { deps, store }: { deps: Deps; store: FallbackStore },
  caller: Caller,
  request: ProxyRequest,
): Settlement {
  const { route, model } = request
  let { reservation } = request
  const started = deps.now()
  let at = started
  let limits: Standing[] = []

  function settle({ ttfbMs, code, ...ending }: Seen, sent: number): Promise<void> {
    const { cap, prices } = deps.config
    const charge = chargeOf({
      ...ending,
      reservation,
      price: priceFor(prices, model, reservation),
      cap,
    })
    const { outcome, charged, cost, reservedCost, usage, audioMs, characters } = charge
    const event: Event = {
      v: VERSION,
      id,
      at,
      user: caller.id,
      route,
      model,
      outcome,
      status: sent,
      ...usage,
      reserved: reservation.tokens,
      charged,
      ...(reservedCost !== undefined && { reservedCost: digitsOf(reservedCost) }),
      ...(cost !== undefined && { cost: digitsOf(cost) }),
      ...(reservation.audioMs && { reservedAudioMs: reservation.audioMs }),
      ...(audioMs && { audioMs }),
      ...(reservation.characters && { reservedCharacters: reservation.characters }),
      ...(characters && { characters }),
      totalMs: Math.max(0, deps.now() - started),
    }
    if (tag !== undefined) event.tag = tag
    if (caller.session !== undefined) event.session = caller.session
    if (caller.key) event.key = caller.key.id
    if (code !== undefined) event.error = code
    if (ttfbMs !== undefined) event.ttfbMs = Math.round(ttfbMs)
    const { log, environment } = deps
    const place = environment.storage === 'database' ? 'Database' : 'File'
    const command: Settle = { op: 'settle', now: deps.now(), user: caller.id, event }
    if (caller.isUnverified && deps.config.userTokens.length > 1) command.unverified = 1
    const isBlocked = code === SPEND_BLOCKED
    if (deps.alerts) command.watch = { ...watchOf(limits), ...(isBlocked && { spendBlocked: 1 }) }
    const settled = store.execute(command).then(
      ({ applied, alerts }) => {
        if (alerts && deps.alerts) waitUntil(deps.alerts.deliver())
        if (!applied) return
        log.info(`📊 Logged ${amountOf(event)} for model ${model} (${place})`, { usage: event })
      },
      (error: unknown) => log.error('usage.refused', { usage: event, error }),
    )
    waitUntil(settled)
    return settled
  }

  function admitted(admission: Pick<Admitted, 'at' | 'limits'>, reserved: Reservation): void {
    ;({ at, limits = [] } = admission)
    reservation = reserved
  }

  return { admitted, settle }
}
