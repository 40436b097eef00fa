/**
 * Money, in whole nano-USD. Prices are whole pico-USD a token, since a cached token may cost 37.5 nano-USD.
 *
 * In arithmetic an amount is a number, exact up to 2^53 nano-USD ($9.0 million). In documents, events and answers of
 * scripts it is a text of digits, because Lua writes numbers with 14 digits.
 */

/** What a token costs, in whole pico-USD. */
export type Price = {
  input: number
  /** Of input that upstream had in its cache; like other input if absent. */
  cached?: number
  output: number
}

/** Tokens of a request or of a reservation. `cached` is a part of `prompt`. */
export type PricedTokens = { prompt: number; cached?: number; completion: number }

/** The largest reservation, in tokens: far above any limit, and still exact in a sum. */
export const MAX_RESERVATION = 1_000_000_000_000

/** A cost beyond this amount, in nano-USD, counts as this amount. */
export const MOST_MONEY = Number.MAX_SAFE_INTEGER

const NANO_PER_USD = 1e9

/** Of pico-USD. */
const PER_NANO = 1000

/** The cost of one request in nano-USD: the sum over its tokens, rounded up once. */
export function costOf({ prompt, cached = 0, completion }: PricedTokens, price: Price): number {
  const { input, output } = price
  const fresh = prompt - cached
  const priced = [
    [fresh, input],
    [cached, price.cached ?? input],
    [completion, output],
  ] as const
  // A product of tokens and pico-USD may pass 2^53, so whole nano-USD and the rest are summed separately.
  let nano = 0
  let pico = 0
  for (const [tokens, each] of priced) {
    nano += tokens * Math.floor(each / PER_NANO)
    pico += tokens * (each % PER_NANO)
  }
  return Math.min(nano + Math.ceil(pico / PER_NANO), MOST_MONEY)
}

/**
 * The most completion tokens, of each of `count` completions, with which a request costs at most `left` nano-USD. They
 * are not more than a reservation can be, since a number beyond 2^53 cannot be counted down.
 * Infinity if they are free; negative if the prompt alone costs more.
 */
export function mostCompletion(prompt: number, count: number, price: Price, left: number): number {
  const costs = (tokens: number) => costOf({ prompt, completion: count * tokens }, price)
  if (costs(0) > left) return -1
  if (price.output === 0) return Infinity
  const pico = left * PER_NANO - prompt * price.input
  const most = Math.floor(MAX_RESERVATION / count)
  let tokens = Math.min(Math.max(0, Math.floor(pico / (count * price.output))), most)
  // The division may be off by a little where products pass 2^53.
  while (tokens > 0 && costs(tokens) > left) tokens -= 1
  return tokens
}

/** Dollars as nano-USD. */
export const nanoFrom = (usd: number): number => Math.round(usd * NANO_PER_USD)

/** Nano-USD as dollars. */
export const usdOf = (nano: number): number => nano / NANO_PER_USD

/** An amount as it is stored. */
export const digitsOf = (nano: number): string => nano.toFixed(0)

/** A stored amount; 0 if there is none. */
export const nanoOf = (digits: string | undefined): number => Number(digits ?? 0)
