/**
 * The cost of tokens. Prices are whole pico-USD a token, since those of cached tokens are no whole nano-USD; costs are
 * whole nano-USD.
 */
import type { Row } from '../ledger/shapes.ts'

/** The prices of a model in whole pico-USD a token: $0.075 a million tokens is 75,000. */
export type Price = {
  input: number
  /** Of input that upstream had in its cache. If absent, it costs the same as other input. */
  cached?: number
  output: number
}

const PICO_PER_USD_A_MILLION = 1_000_000

/** A price in USD per million tokens as pico-USD a token; undefined if it has more than six decimals. */
export function picoOf(usd: number): number | undefined {
  const pico = Math.round(usd * PICO_PER_USD_A_MILLION)
  return pico / PICO_PER_USD_A_MILLION === usd ? pico : undefined
}

/** The tokens of a request. Cached ones are a part of the prompt. */
type Tokens = { prompt: number; cached?: number | undefined; completion: number }

const PICO_PER_NANO = 1000

/**
 * What a request costs, in nano-USD: the sum over its units, rounded up once. It is exact up to
 * `Number.MAX_SAFE_INTEGER` ($9 million), and that beyond. More cached tokens than the prompt has count as the prompt.
 */
export function costOf(tokens: Tokens, price: Price): number {
  const { nano, pico } = partsOf(tokens, price)
  return Math.min(nano + Math.ceil(pico / PICO_PER_NANO), Number.MAX_SAFE_INTEGER)
}

/**
 * The cost of a request as nano-USD and the pico-USD that they leave, fewer than 3,000,000.
 * Tokens × price may pass 2^53 where the cost in nano-USD does not, so neither is multiplied whole.
 */
function partsOf({ prompt, cached = 0, completion }: Tokens, { input, output, ...price }: Price) {
  const hits = Math.min(cached, prompt)
  const units = [
    [prompt - hits, input],
    [hits, price.cached ?? input],
    [completion, output],
  ] as const
  let nano = 0
  let pico = 0
  for (const [count, each] of units) {
    const few = count % PICO_PER_NANO
    const rest = each % PICO_PER_NANO
    nano += count * ((each - rest) / PICO_PER_NANO) + ((count - few) / PICO_PER_NANO) * rest
    pico += few * rest
  }
  return { nano, pico }
}

/**
 * The most tokens that each of `count` answers to a prompt may have, so that all of it costs at most `left` nano-USD.
 * It is -1 if the prompt alone costs more, and Infinity if no number of tokens does, as where output is free.
 */
export function mostTokens(prompt: number, count: number, price: Price, left: number): number {
  const fits = (each: number) => costOf({ prompt, completion: count * each }, price) <= left
  if (!fits(0)) return -1
  const highest = Math.floor(Number.MAX_SAFE_INTEGER / count)
  if (fits(highest)) return Infinity
  const { nano, pico } = partsOf({ prompt, completion: 0 }, price)
  const ample = ((left - nano) * PICO_PER_NANO - pico) / (count * price.output)
  // Large amounts make this division inexact by a few tokens.
  let most = Math.min(Math.max(0, Math.floor(ample)), highest)
  while (!fits(most)) most -= 1
  while (fits(most + 1)) most += 1
  return most
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
