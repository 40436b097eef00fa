/** What use cost, as it was recorded when it was charged. A price that was set later changes no cost. */
import { usdOf, type Price } from '../ledger/money.ts'
import { usedIn, windowsOf } from '../ledger/policy.ts'
import { NOTHING, type Amounts, type Unit } from '../ledger/units.ts'
import { isPast } from '../ledger/advance.ts'
import { LATE_SETTLE_MS } from '../ledger/capacity.ts'
import { filter, own } from '../ledger/records.ts'
import type { DayDoc, DayRow, Row, UsageDoc } from '../ledger/documents.ts'
import { reservedOf } from '../ledger/tally.ts'
import { SECOND_MS, startOf, type Window } from '../ledger/windows.ts'
import { costOfCharge } from '../metering/cost.ts'

export type Prices = Record<string, Price>

/** Nano-USD; undefined if tokens were charged while no price was known. */
export type Cost = number | undefined

type Charged = Pick<Row, 'cost' | 'charged'> & Partial<Pick<Row, 'audioMs' | 'characters'>>

/** The recorded cost of a model. Where none was recorded, it is known only if the model is free. */
export function recordedCost(
  { cost, charged, audioMs = 0, characters = 0 }: Charged,
  price: Price | undefined,
): Cost {
  const isFree =
    costOfCharge({ ...WITHOUT_PARTS, charged }, price) === 0 &&
    (audioMs === 0 || price?.audioHour === 0) &&
    (characters === 0 || price?.characters === 0)
  const isUsed = charged > 0 || audioMs > 0 || characters > 0
  return cost > 0 || !isUsed || isFree ? cost : undefined
}

const WITHOUT_PARTS = { prompt: 0, cached: 0, completion: 0 }

/** The sum of the known costs; undefined if there are costs and none is known. */
export function sumOf(costs: Cost[]): Cost {
  const known = costs.filter((cost) => cost !== undefined)
  return costs.length > 0 && known.length === 0
    ? undefined
    : known.reduce((all, cost) => all + cost, 0)
}

/** What everyone's requests of a day cost. */
export const costOfDay = ({ models }: Pick<DayDoc, 'models'>, prices: Prices): Cost =>
  sumOf(Object.entries(models).map(([model, row]) => recordedCost(row, own(prices, model))))

/** A row without what running requests reserve. */
export const ended = (row: Row): Row => ({
  ...row,
  charged: row.charged - row.reserved,
  cost: row.cost - row.reservedCost,
  audioMs: row.audioMs - row.reservedAudioMs,
  characters: row.characters - row.reservedCharacters,
})

/** What a user's requests of the current window cost, without what running ones reserve. */
export const costIn = (usage: UsageDoc, window: Window, prices: Prices, at: number): Cost =>
  sumOf(
    Object.keys(usage.models).map((model) => {
      const used = usedIn(windowsOf(usage, model), window, at)
      const held = heldBy(usage, model, at)[window] ?? NOTHING
      const less = (unit: Unit) => (used[unit] ?? 0) - (held[unit] ?? 0)
      const row = {
        cost: less('usd'),
        charged: less('tokens'),
        audioMs: less('audioSeconds'),
        characters: less('characters'),
      }
      return recordedCost(row, own(prices, model))
    }),
  )

/**
 * What a user's requests of a model, or of all (`*`), reserve in the windows of a moment that have not ended. Those that are
 * lost reserve nothing, though the ledger drops their leases only with the next request of their user.
 */
export function heldBy(usage: UsageDoc, model: string, at: number): Record<string, Amounts> {
  const leases = filter(
    usage.leases,
    (lease) => at - lease.at < LATE_SETTLE_MS || !isPast(lease, at),
  )
  return reservedOf({ ...usage, at, leases }, model)
}

/** What windows count, as a row has it. */
export const chargedIn = ({ usd, tokens, audioSeconds = 0, characters = 0 }: Amounts) => ({
  cost: usd,
  charged: tokens,
  audioMs: audioSeconds,
  characters,
})

/** What ended requests with a key cost this month. */
export function costOfKey({ keysCharged = {} }: UsageDoc, key: string, at: number): Cost {
  const charged = own(keysCharged, key)
  if (charged?.start !== startOf('month', at)) return 0
  return recordedCost(chargedIn(charged), undefined)
}

/** A cost in dollars, as answers have it. */
export const usdOrNull = (cost: Cost): number | null => (cost === undefined ? null : usdOf(cost))

/** A row as answers have it: with its cost in dollars, and audio in seconds. */
export function asTold<T extends Pick<DayRow, 'cost' | 'audioMs' | 'characters'>>(
  { cost: _, audioMs = 0, characters = 0, ...row }: T,
  cost: Cost,
) {
  return { ...row, audioSeconds: audioMs / SECOND_MS, characters, costUsd: usdOrNull(cost) }
}

const DECIMALS = 9

/** Nano-USD as dollars in exact decimal digits; an exponent would not be one. */
export function usdDigits(cost: Cost): string | null {
  if (cost === undefined) return null
  const digits = cost.toFixed(0).padStart(DECIMALS + 1, '0')
  return `${digits.slice(0, -DECIMALS)}.${digits.slice(-DECIMALS)}`.replace(/\.?0+$/, '')
}

/** Audio, if there is any. */
export const audioFields = ({
  audioMs = 0,
  characters = 0,
}: Partial<Pick<DayRow, 'audioMs' | 'characters'>>) => ({
  ...(audioMs > 0 && { audioMs }),
  ...(characters > 0 && { characters }),
})
