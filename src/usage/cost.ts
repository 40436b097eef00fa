/** What tokens cost in money, by the prices an operator has told of. */
import type { Row } from '../ledger/shapes.ts'

/** The prices of a model in USD per million tokens. */
export type Price = {
  input: number
  /** Of input that upstream had in its cache; without it, that costs what other input does. */
  cached?: number | undefined
  output: number
}

const TOKENS_PER_PRICE = 1_000_000

/**
 * The cost in USD of what was used of one model; undefined where its price is not known.
 *
 * Charged tokens that nobody told apart, estimates and reservations, are taken at the higher of the two prices, so that a cost
 * is never shown too low.
 */
export function costOf(
  row: Pick<Row, 'prompt' | 'cached' | 'completion' | 'charged'>,
  price: Price | undefined,
): number | undefined {
  if (!price) return undefined
  const { prompt, completion, charged } = row
  const { input, output } = price
  // A row that was not counted here may have more cached tokens than prompt; no part of a cost is negative.
  const cached = Math.min(row.cached, prompt)
  const untold = Math.max(0, charged - prompt - completion)
  const sum =
    (prompt - cached) * input +
    cached * (price.cached ?? input) +
    completion * output +
    untold * Math.max(input, output)
  return sum / TOKENS_PER_PRICE
}
