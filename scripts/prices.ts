/**
 * `npx tsx scripts/prices.ts` writes the prices of Groq's models, from @pydantic/genai-prices and what Groq's own pages
 * say. The prices of audio, by the hour and by the character, are from these pages alone.
 */
import { calcPrice, findProvider, type MatchLogic, type ModelPrice } from '@pydantic/genai-prices'
import { readFile, writeFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { format, resolveConfig } from 'prettier'
import type { Price } from '../src/ledger/money.ts'
import { picoOf } from '../src/metering/cost.ts'
import type { PriceList } from '../src/providers/groq-prices.ts'

/** The file that is written. */
export const PRICES_FILE = new URL('../src/providers/groq-prices.ts', import.meta.url)

const PACKAGE = new URL('../node_modules/@pydantic/genai-prices/package.json', import.meta.url)

/** The package says no dates. With another version, write the day of its release. */
const RELEASE = { version: '0.1.8', date: '2026-09-23' }

/** Prices that are not taken from the package, and why. */
export const WRONG_IN_PACKAGE: Record<string, string> = {
  'openai/gpt-oss-safeguard-20b':
    'has the prices of gpt-oss-120b: https://github.com/pydantic/genai-prices/issues/701',
}

/**
 * What pages said on a day, in USD per million tokens or characters, or an hour of audio: models that the package does
 * not know, and some that it does, so that a test can compare. Models without a published price are on no list:
 * allam-2-7b, and compound systems, which cost as much as the models that they call.
 */
export const KNOWN: PriceList[] = [
  {
    source: 'https://console.groq.com/docs/models',
    date: '2026-08-07',
    prices: {
      'llama-3.1-8b-instant': { input: 0.05, output: 0.08 },
      'llama-3.3-70b-versatile': { input: 0.59, output: 0.79 },
    },
  },
  {
    source: 'https://console.groq.com/docs/models',
    date: '2026-08-18',
    prices: {
      'meta-llama/llama-prompt-guard-2-22m': { input: 0.03, output: 0.03 },
      'meta-llama/llama-prompt-guard-2-86m': { input: 0.04, output: 0.04 },
      'openai/gpt-oss-120b': { input: 0.15, cached: 0.075, output: 0.6 },
      'openai/gpt-oss-20b': { input: 0.075, cached: 0.0375, output: 0.3 },
      // Sources disagree about a discount for cached input. Without one, no cost is too low.
      'openai/gpt-oss-safeguard-20b': { input: 0.075, output: 0.3 },
      'whisper-large-v3': { input: 0, output: 0, audioHour: 0.111 },
      'whisper-large-v3-turbo': { input: 0, output: 0, audioHour: 0.04 },
      'canopylabs/orpheus-v1-english': { input: 0, output: 0, characters: 22 },
      'canopylabs/orpheus-arabic-saudi': { input: 0, output: 0, characters: 40 },
    },
  },
  {
    source: 'https://github.com/anomalyco/models.dev/pull/3761',
    date: '2026-07-27',
    prices: { 'qwen/qwen3.6-27b': { input: 0.6, cached: 0.3, output: 3 } },
  },
  {
    source: 'https://groq.com/pricing',
    date: '2026-08-29',
    prices: { 'qwen/qwen3.8-27b': { input: 0.8, cached: 0.4, output: 4 } },
  },
]

/** The price as the ledger has it. Throws if it is not a whole number. */
function priceOf({ input, cached, output, audioHour, characters }: Price): Price {
  const whole = (usd: number): number => {
    const pico = picoOf(usd)
    if (pico === undefined) throw new Error(`$${usd} per million tokens has more than six decimals`)
    return pico
  }
  return {
    input: whole(input),
    ...(cached !== undefined && { cached: whole(cached) }),
    output: whole(output),
    // Nano-USD an hour.
    ...(audioHour !== undefined && { audioHour: whole(audioHour) * 1000 }),
    ...(characters !== undefined && { characters: whole(characters) }),
  }
}

/** Prices in USD per million tokens or characters, or an hour of audio, as the ledger has them. */
export const inPico = (prices: Record<string, Price>): Record<string, Price> =>
  Object.fromEntries(Object.entries(prices).map(([model, price]) => [model, priceOf(price)]))

const TOKEN_PRICES = ['input_mtok', 'cache_read_mtok', 'output_mtok']

/** The price of tokens in the package's form; undefined for audio. Throws for one that depends on more than tokens. */
function packagePrice(model: string, price: ModelPrice): Price | undefined {
  const { input_mtok: input, cache_read_mtok: cached, output_mtok: output } = price
  if (input === undefined && output === undefined) return undefined
  const isKnown = Object.keys(price).every((kind) => TOKEN_PRICES.includes(kind))
  if (
    !isKnown ||
    typeof input !== 'number' ||
    typeof output !== 'number' ||
    typeof cached === 'object'
  ) {
    throw new Error(`the price of ${model} is not one of input, cached input and output alone`)
  }
  return priceOf({ input, ...(cached !== undefined && { cached }), output })
}

/** The names that a rule matches. Throws if it matches by parts of names. */
function namesIn(match: MatchLogic): string[] {
  if ('equals' in match) return [match.equals]
  if ('or' in match) return match.or.flatMap(namesIn)
  throw new Error(`${JSON.stringify(match)} is no list of names`)
}

/** The package's prices in pico-USD a token, those in force at its release. */
export function packagePrices(): Record<string, Price> {
  const options = { providerId: 'groq', timestamp: new Date(RELEASE.date) }
  const names = (findProvider(options)?.models ?? []).flatMap(({ match }) => namesIn(match))
  const prices = names.flatMap((name) => {
    const found = calcPrice({ input_tokens: 1 }, name, options)
    const price = found && packagePrice(name, found.model_price)
    return price ? [[name, price] as const] : []
  })
  return Object.fromEntries(prices)
}

const literal = (value: number): string => value.toLocaleString('en-US').replaceAll(',', '_')

const rowOf = ([model, price]: [string, Price]): string => {
  const amounts = Object.entries(price).map(([kind, pico]) => `${kind}: ${literal(pico)}`)
  return `'${model}': { ${amounts.join(', ')} }`
}

const listOf = ({ source, date, prices }: PriceList): string => {
  const rows = Object.entries(prices).map(rowOf).sort()
  return `{ source: '${source}', date: '${date}', prices: { ${rows.join(', ')} } }`
}

/** The text of the file. Throws if the package has another version than expected. */
export async function pricesText(): Promise<string> {
  const { version } = JSON.parse(await readFile(PACKAGE, 'utf8')) as { version: string }
  if (version !== RELEASE.version) {
    throw new Error(`@pydantic/genai-prices is ${version}: write the day of its release`)
  }
  const inPackage = packagePrices()
  const isBelieved = (model: string) =>
    Object.hasOwn(inPackage, model) && !Object.hasOwn(WRONG_IN_PACKAGE, model)
  const some = (prices: Record<string, Price>, wanted: (model: string) => boolean) =>
    Object.fromEntries(Object.entries(prices).filter(([model]) => wanted(model)))
  const lists = [
    {
      source: `https://www.npmjs.com/package/@pydantic/genai-prices/v/${version}`,
      date: RELEASE.date,
      prices: some(inPackage, isBelieved),
    },
    ...KNOWN.map(({ prices, ...of }) => ({
      ...of,
      prices: some(inPico(prices), (model) => !isBelieved(model)),
    })),
  ]
  const text = `/** What Groq's models cost. \`npx tsx scripts/prices.ts\` writes this file: change the script. */
import type { Price } from '../ledger/money.ts'

/** The prices of models, as a source gave them on a day. */
export type PriceList = { source: string; date: string; prices: Record<string, Price> }

/** No model is on two lists. Some have been shut down, but contracts may still have them. */
export const GROQ_PRICES: PriceList[] = [
${lists
  .filter(({ prices }) => Object.keys(prices).length)
  .map(listOf)
  .join(',\n')}
]
`
  return format(text, { ...(await resolveConfig(PRICES_FILE)), parser: 'typescript' })
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await writeFile(PRICES_FILE, await pricesText())
}
