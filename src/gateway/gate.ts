/** The gate: admits a request or refuses it before upstream is called, and remembers refusals for a short time. */
import type { Config } from '../config/config.ts'
import type { Deps } from '../context.ts'
import type { ApiError } from '../errors.ts'
import type { Admit } from '../ledger/commands.ts'
import type { Admitted, Refusal } from '../ledger/answers.ts'
import { canFit, overLimit, type OverLimit } from './over-limit.ts'
import { amountsOf, cutTo, leastOf, type Asked } from '../ledger/fit.ts'
import { labelWords } from '../ledger/labels.ts'
import type { Price } from '../ledger/money.ts'
import { rowsFor } from '../ledger/policy.ts'
import { minuteOf } from '../ledger/windows.ts'
import { priceFor } from '../metering/cost.ts'
import type { Reservation } from '../metering/reservation.ts'
import type { Degraded, FallbackStore } from '../store/fallback/store.ts'
import type { Caller } from '../identity/caller.ts'
import type { RefusalCounter } from './refusal-counts.ts'
import { refusalError } from './refusal.ts'

export type Gate = (entrant: Entrant) => Promise<Admitted & Degraded>

export type Entrant = {
  /** The request's id, which is also the id of its lease. */
  id: string
  caller: Caller
  tag?: string | undefined
  model: string
  reservation: Pick<
    Reservation,
    'tokens' | 'completion' | 'sent' | 'room' | 'audioMs' | 'characters'
  >
}

/**
 * A refusal is repeated from memory for this long. After a block is lifted, requests may still be refused until then.
 */
const REMEMBER_MS = 2000
const REMEMBERED = 1000

/** The refusals that are remembered. */
const REASONS = ['key', 'revoked', 'blocked', 'limit'] as const

/** What a remembered refusal is about: the key or the token alone, or else the user and the model. */
function nameOf(reason: (typeof REASONS)[number], { caller, model }: Entrant): string | undefined {
  const { id, key, claims } = caller
  if (reason === 'key') return key && `${id} ${key.hash} key`
  if (reason === 'revoked') return claims && `${id} ${claims.issuedAt} revoked`
  return `${id} ${model} ${reason}`
}

/**
 * Builds the gate. It throws `ApiError` for a refusal, and `StoreError` if the store did not answer; then the lease may
 * or may not exist.
 */
export function createGate(
  { config, now, log }: Pick<Deps, 'config' | 'now' | 'log'>,
  store: Pick<FallbackStore, 'execute'>,
  counter: RefusalCounter,
): Gate {
  const refusals = new Map<string, { refusal: Refusal & Degraded; until: number }>()

  function remembered(entrant: Entrant): (Refusal & Degraded) | undefined {
    if (refusals.size === 0) return undefined
    for (const reason of REASONS) {
      const name = nameOf(reason, entrant)
      const known = name === undefined ? undefined : refusals.get(name)
      if (name === undefined || !known) continue
      if (known.until <= now()) refusals.delete(name)
      else {
        const refusal = asking(known.refusal, entrant, config)
        if (refusal) return refusal
      }
    }
    return undefined
  }

  function remember(entrant: Entrant, refusal: Refusal & Degraded): void {
    const reason = REASONS.find((one) => one === refusal.reason)
    const name = reason && nameOf(reason, entrant)
    if (name === undefined) return
    const end = refusal.reason === 'blocked' ? refusal.until : undefined
    const resetAt = refusal.reason === 'limit' ? refusal.resetAt : undefined
    const until = Math.min(now() + REMEMBER_MS, end ?? resetAt ?? Infinity)
    const [oldest] = refusals.keys()
    if (refusals.size >= REMEMBERED && oldest !== undefined) refusals.delete(oldest)
    refusals.set(name, { refusal, until })
  }

  let warnedIn = 0
  /** Warns once a minute. */
  function unknownPlan(plan: string): void {
    const minute = minuteOf(now())
    if (minute !== warnedIn) log.warn('plan.unknown', { plan })
    warnedIn = minute
  }

  function refused(refusal: Refusal & Degraded, entrant: Entrant): ApiError {
    const error =
      refusal.reason === 'limit'
        ? overLimit(refusal, now(), askedUnder(refusal, entrant, config))
        : refusalError(refusal, entrant.model, now())
    if (refusal.degraded) error.headers['x-weir-degraded'] = '1'
    return error
  }

  /** Asks the store, and tells it the refusals that were counted here since the last time. */
  async function ask(admit: Admit): Promise<(Admitted | Refusal) & Degraded> {
    const refusals = counter.take()
    if (!refusals) return store.execute(admit)
    let isTold = false
    try {
      const answer = await store.execute({ ...admit, refusals })
      isTold = !answer.degraded
      return answer
    } finally {
      if (!isTold) counter.giveBack(refusals)
    }
  }

  return async function admit(entrant) {
    const known = remembered(entrant)
    if (known) {
      const error = refused(known, entrant)
      counter.count(error, entrant.model)
      throw error
    }
    const answer = await ask(command(config, entrant, now()))
    if (answer.ok) {
      counter.admitted(entrant.model)
      if (answer.unknownPlan !== undefined) unknownPlan(answer.unknownPlan)
      return answer
    }
    remember(entrant, answer)
    const error = refused(answer, entrant)
    if (answer.counted && !answer.degraded) counter.isCounted(error)
    else counter.count(error, entrant.model)
    throw error
  }
}

function command(
  config: Readonly<Config>,
  { id, caller, tag, model, reservation }: Entrant,
  now: number,
): Admit {
  const { limits, globalLimits, newUsersPerMinute: perMinute } = config
  const { network, key, claims } = caller
  const admit: Admit = {
    op: 'admit',
    id,
    user: caller.id,
    model,
    ...askedOf(reservation, priceFor(config.prices, model, reservation)),
    now,
    lasts: config.requestMs,
    limits: rowsFor(limits, model),
  }
  if (reservation.sent !== undefined) admit.maximum = reservation.sent
  if (caller.isUnverified && config.userTokens.length > 1) {
    admit.unverified = config.unverifiedShare
  }
  if (key) admit.key = key
  if (tag !== undefined) admit.tag = tag
  if (claims) admit.claims = withWords(claims)
  if (caller.ip !== undefined) admit.ip = caller.ip
  if (network !== undefined) admit.newUsers = { network, perMinute }
  if (config.alerts) admit.watch = 1
  if (globalLimits) admit.everyone = rowsFor(globalLimits, model)
  return admit
}

/** What a request asks for. */
function askedOf(
  { tokens, completion, room, audioMs, characters }: Entrant['reservation'],
  price: Price | undefined,
): Asked {
  const asked: Asked = { reserved: tokens, completion }
  if (room) asked.completions = { count: room.completions, tokens: room.tokens }
  if (audioMs !== undefined) asked.audioMs = audioMs
  if (characters !== undefined) asked.characters = characters
  if (price) asked.price = price
  return asked
}

/** What a token says, with the words by which its user is found. */
const withWords = (claims: NonNullable<Caller['claims']>): NonNullable<Admit['claims']> =>
  claims.label === undefined ? claims : { ...claims, words: labelWords(claims.label) }

/**
 * A remembered refusal with the amount that this request asks for; undefined if this request may be granted, because it
 * is smaller than the refused one.
 */
function asking(
  refusal: Refusal & Degraded,
  entrant: Entrant,
  config: Readonly<Config>,
): (Refusal & Degraded) | undefined {
  if (refusal.reason !== 'limit') return refusal
  const asked = askedUnder(refusal, entrant, config)
  const amounts = amountsOf(asked, canFit(refusal, asked) ? leastOf(asked) : undefined)
  const amount = amounts[refusal.unit] ?? 0
  return amount >= refusal.asked ? { ...refusal, asked: amount } : undefined
}

/** What a request asks for under the plan of a refusal. */
const askedUnder = (
  { maximum }: OverLimit,
  { model, reservation }: Entrant,
  { prices }: Readonly<Config>,
): Asked => cutTo(askedOf(reservation, priceFor(prices, model, reservation)), maximum)
