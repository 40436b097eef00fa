/**
 * Money, in whole nano-USD. Prices are whole pico-USD a token, since a cached token may cost 37.5 nano-USD.
 *
 * In arithmetic an amount is a number, exact up to 2^53 nano-USD ($9.0 million). In documents, events and answers of
 * scripts it is a text of digits, because Lua writes numbers with 14 digits.
 */

/** The prices of a model in whole pico-USD a token: $0.075 a million tokens is 75,000. */
export type Price = {
  input: number
  /** Of input that upstream had in its cache. If absent, it costs the same as other input. */
  cached?: number
  output: number
}

/** Tokens of a request or of a reservation. Cached ones are a part of the prompt. */
export type PricedTokens = { prompt: number; cached?: number | undefined; completion: number }

/** The largest reservation, in tokens: far above any limit, and still exact in a sum. */
export const MAX_RESERVATION = 1_000_000_000_000

/** A cost beyond this amount, in nano-USD, counts as this amount. */
export const MOST_MONEY = Number.MAX_SAFE_INTEGER

const NANO_PER_USD = 1e9
const PICO_PER_NANO = 1000

/**
 * What a request costs, in nano-USD: the sum over its units, rounded up once. It is exact up to `MOST_MONEY`. More cached
 * tokens than the prompt has count as the prompt.
 */
export function costOf(tokens: PricedTokens, price: Price): number {
  const { nano, pico } = partsOf(tokens, price)
  return Math.min(nano + Math.ceil(pico / PICO_PER_NANO), MOST_MONEY)
}

/**
 * The cost of a request as nano-USD and the pico-USD that they leave, fewer than 3,000,000.
 * Tokens × price may pass 2^53 where the cost in nano-USD does not, so neither is multiplied whole.
 */
function partsOf(
  { prompt, cached = 0, completion }: PricedTokens,
  { input, output, ...price }: Price,
) {
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
 * The most tokens that each of `count` completions may have, so that all of it costs at most `left` nano-USD.
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

/** Dollars as nano-USD. */
export const nanoFrom = (usd: number): number => Math.round(usd * NANO_PER_USD)

/** Nano-USD as dollars. */
export const usdOf = (nano: number): number => nano / NANO_PER_USD

/** An amount as it is stored. */
export const digitsOf = (nano: number): string => nano.toFixed(0)

/** A stored amount; 0 if there is none. */
export const nanoOf = (digits: string | undefined): number => Number(digits ?? 0)
