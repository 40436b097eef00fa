/** The cost of tokens, by the prices that the operator has set. */
import type { Row } from '../ledger/shapes.ts'

/** The prices of a model in USD per million tokens. */
export type Price = {
  input: number
  /** Of input that upstream had in its cache. If absent, it costs the same as other input. */
  cached?: number | undefined
  output: number
}

const TOKENS_PER_PRICE = 1_000_000

/**
 * The cost in USD of the use of one model; undefined if its price is not known.
 *
 * Charged tokens that are neither prompt nor completion (estimates and reservations) get the higher of the two prices,
 * so that a cost is never shown too low.
 */
export function costOf(
  row: Pick<Row, 'prompt' | 'cached' | 'completion' | 'charged'>,
  price: Price | undefined,
): number | undefined {
  if (!price) return undefined
  const { prompt, completion, charged } = row
  const { input, output } = price
  // A row from another system may have more cached tokens than prompt tokens; no cost may be
  // negative.
  const cached = Math.min(row.cached, prompt)
  const untold = Math.max(0, charged - prompt - completion)
  const sum =
    (prompt - cached) * input +
    cached * (price.cached ?? input) +
    completion * output +
    untold * Math.max(input, output)
  return sum / TOKENS_PER_PRICE
}
