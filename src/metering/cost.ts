/**
 * The cost of tokens. Prices are whole pico-USD a token, since cached tokens do not cost whole nano-USD; costs are
 * whole nano-USD.
 */
import { costOf, type Price } from '../ledger/money.ts'
import { own } from '../ledger/records.ts'
import type { Row } from '../ledger/documents.ts'
import type { Reservation } from './reservation.ts'

const PICO_PER_USD_A_MILLION = 1_000_000

/** A price in USD per million tokens as pico-USD a token; undefined if it has more than six decimals. */
export function picoOf(usd: number): number | undefined {
  const pico = Math.round(usd * PICO_PER_USD_A_MILLION)
  return pico / PICO_PER_USD_A_MILLION === usd ? pico : undefined
}

/** The price of a model by which a request is charged; undefined if it has none in the request's unit. */
export function priceFor(
  prices: Record<string, Price>,
  model: string,
  { audioMs, characters }: Pick<Reservation, 'audioMs' | 'characters'>,
): Price | undefined {
  const price = own(prices, model)
  if (!price) return undefined
  const isOfAudio = price.audioHour !== undefined || price.characters !== undefined
  const each =
    audioMs !== undefined
      ? price.audioHour
      : characters !== undefined
        ? price.characters
        : isOfAudio
          ? price.input || price.output || undefined
          : price.input
  return each === undefined ? undefined : price
}

/**
 * The cost in nano-USD of the use of one model that was counted without its cost; undefined if the price is not known.
 *
 * Charged tokens that are neither prompt nor completion (estimates and reservations) get the higher of the two prices,
 * so that a cost is never shown too low.
 */
export function costOfCharge(
  row: Pick<Row, 'prompt' | 'cached' | 'completion' | 'charged'>,
  price: Price | undefined,
): number | undefined {
  if (!price) return undefined
  const { prompt, completion, charged } = row
  const cached = Math.min(row.cached, prompt)
  const untold = Math.max(0, charged - prompt - completion)
  return price.input > price.output
    ? costOf({ prompt: prompt + untold, cached, completion }, price)
    : costOf({ prompt, cached, completion: completion + untold }, price)
}
