/**
 * Money, in whole nano-USD. Prices are whole pico-USD a token or a character, since a cached token may cost 37.5 nano-USD, and
 * whole nano-USD an hour of audio, since a second has no whole price.
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
  /** Nano-USD an hour of audio that is transcribed, and pico-USD a character that is spoken. */
  audioHour?: number
  characters?: number
}

/** Tokens, ms of audio and characters of a request or of a reservation. Cached tokens are a part of the prompt. */
export type Priced = {
  prompt: number
  cached?: number | undefined
  completion: number
  audioMs?: number | undefined
  characters?: number | undefined
}

/** The largest reservation, in tokens: far above any limit, and still exact in a sum. */
export const MAX_RESERVATION = 1_000_000_000_000

/** A cost beyond this amount, in nano-USD, counts as this amount. */
export const MOST_MONEY = Number.MAX_SAFE_INTEGER

const NANO_PER_USD = 1e9
const PICO_PER_NANO = 1000
const MS_PER_HOUR = 3_600_000

/**
 * What a request costs, in nano-USD: the sum over its units, rounded up once. It is exact up to `MOST_MONEY`. More cached
 * tokens than the prompt has count as the prompt.
 */
export function costOf(use: Priced, price: Price): number {
  const { nano, pico } = partsOf(use, price)
  const audio = product(use.audioMs ?? 0, price.audioHour ?? 0, MS_PER_HOUR)
  // Both remainders in parts of an hour of audio, so that they are rounded up together.
  const rest = pico * (MS_PER_HOUR / PICO_PER_NANO) + audio.rest
  return Math.min(nano + audio.whole + Math.ceil(rest / MS_PER_HOUR), MOST_MONEY)
}

/** The cost of tokens and characters as nano-USD and the pico-USD that they leave, fewer than 4,000,000. */
function partsOf(
  { prompt, cached = 0, completion, characters = 0 }: Priced,
  { input, output, ...price }: Price,
) {
  const hits = Math.min(cached, prompt)
  const units = [
    [prompt - hits, input],
    [hits, price.cached ?? input],
    [completion, output],
    [characters, price.characters ?? 0],
  ] as const
  let nano = 0
  let pico = 0
  for (const [count, each] of units) {
    const { whole, rest } = product(count, each, PICO_PER_NANO)
    nano += whole
    pico += rest
  }
  return { nano, pico }
}

/**
 * count × each ÷ per, as a whole number and a remainder, which is below per² and not divided. The product may pass 2^53
 * although the quotient does not, so it is not computed.
 */
function product(count: number, each: number, per: number): { whole: number; rest: number } {
  const few = count % per
  const rest = each % per
  return { whole: count * ((each - rest) / per) + ((count - few) / per) * rest, rest: few * rest }
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
