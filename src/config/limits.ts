/** The variables that are JSON by names of models: limits and prices. */
import { mapValues } from '../ledger/records.ts'
import {
  LIMITS,
  isMoney,
  isTime,
  limitFrom,
  type Limits,
  type ModelLimits,
} from '../ledger/policy.ts'
import { ALL_MODELS } from '../ledger/documents.ts'
import type { Price } from '../ledger/money.ts'
import { picoOf } from '../metering/cost.ts'
import { MODEL_NAME, isScope } from '../metering/models.ts'
import type { Parse } from './parse.ts'
import { rows } from './rows.ts'

/** Limits stay far below the amounts whose sums JSON numbers keep exact. */
export const MAX_LIMIT = 10_000_000_000_000

/** The largest limit in seconds, which the ledger counts in ms. */
export const MAX_SECONDS = MAX_LIMIT / 1000

/** The largest limit in dollars. */
export const MAX_USD = 1_000_000

/** Limits in dollars have at most this many decimals, so that their sums stay exact. */
const USD_DECIMALS = 6

/** Whether a value can be the amount of a limit: a whole number, or dollars where the limit is money. */
export const isLimit = (value: unknown, name: string): value is number =>
  typeof value === 'number' &&
  value >= 0 &&
  (isMoney(name)
    ? value <= MAX_USD && Number(value.toFixed(USD_DECIMALS)) === value
    : Number.isInteger(value) && value <= (isTime(name) ? MAX_SECONDS : MAX_LIMIT))

/** In USD per million tokens: far above any model. */
const MAX_PRICE = 100_000

/** The default of MODEL_LIMITS. */
export const MODEL_LIMITS =
  '{"*":{"tokensPerDay":200000,"requestsPerDay":1000,"audioSecondsPerDay":14400,"charactersPerDay":20000}}'

/** The default of GLOBAL_LIMITS. */
export const GLOBAL_LIMITS =
  '{"total":{"tokensPerDay":2000000,"requestsPerDay":10000,"audioSecondsPerDay":144000,"charactersPerDay":200000}}'

/** Takes the limits of each user, with a row for every model that has no row of its own. */
export const modelLimits: Parse<ModelLimits> = (text) => {
  const parsed = rowsLike(MODEL_LIMITS)(text)
  if ('problem' in parsed || parsed.value.default) return parsed
  return { problem: 'needs a "*" row: the limits of every model that has no row of its own.' }
}

/** Takes the limits of all users together; `undefined` is none. */
export const globalLimits: Parse<ModelLimits | undefined> = (text) => {
  const parsed = rowsLike(GLOBAL_LIMITS)(text)
  if ('problem' in parsed) return parsed
  const { default: byDefault, total, models } = parsed.value
  if (byDefault) {
    return {
      problem: 'takes "total" and model names; a "*" row would count every made-up name.',
    }
  }
  return total || Object.keys(models).length ? parsed : { value: undefined }
}

/** The highest price of an hour of audio, in USD. */
const MAX_HOUR = 100

const PRICES_LIKE =
  '{"openai/gpt-oss-20b":{"input":0.075,"output":0.3}}, by exact names of models, with input, output and, if cheaper, cached ' +
  'in USD per million tokens; or {"whisper-large-v3":{"audioHour":0.111}} in USD an hour; or {"canopylabs/orpheus-v1-english":{"characters":22}} ' +
  `in USD per million characters; each from 0 to ${MAX_PRICE} (${MAX_HOUR} an hour) with at most 6 decimals`

/** USD as a whole number of parts; undefined if there are more than six decimals. */
const partsOf = (kind: string, usd: number): number | undefined => {
  const pico = picoOf(usd)
  return pico === undefined || kind !== 'audioHour' ? pico : pico * 1000
}

/** Prices as they are written: in USD per million tokens or characters, or an hour of audio, by exact name of a model. */
const written = rows<Record<string, number>>(
  {
    isName: (text) => MODEL_NAME.test(text),
    isAmount: (value, kind) =>
      typeof value === 'number' &&
      value >= 0 &&
      value <= (kind === 'audioHour' ? MAX_HOUR : MAX_PRICE) &&
      picoOf(value) !== undefined,
    required: [],
    optional: ['input', 'cached', 'output', 'audioHour', 'characters'],
  },
  PRICES_LIKE,
)

/** Takes prices in USD per million tokens or characters, or an hour of audio, and gives them as the ledger has them. */
export const modelPrices: Parse<Record<string, Price>> = (text) => {
  const parsed = written(text)
  if ('problem' in parsed) return parsed
  const models = Object.entries(parsed.value)
  const wrong = models.find(([, row]) => !isPrice(row))
  if (wrong) return { problem: `must be JSON like ${PRICES_LIKE} (at ${wrong[0]}).` }
  const priceOf = (row: Record<string, number>) => ({
    input: 0,
    output: 0,
    ...mapValues(row, (usd, kind) => partsOf(kind, usd)),
  })
  return {
    value: Object.fromEntries(models.map(([model, row]) => [model, priceOf(row) as Price])),
  }
}

/**
 * Whether a row has the two prices of tokens, or those of audio alone. Cached input that costs more than other input would cost
 * more than its reservation.
 */
function isPrice({
  input,
  cached,
  output,
  audioHour,
  characters,
}: Record<string, number>): boolean {
  const ofTokens = [input, output].filter((one) => one !== undefined).length
  if (ofTokens === 2) return (cached ?? 0) <= (input ?? 0)
  return ofTokens === 0 && cached === undefined && (audioHour ?? characters) !== undefined
}

function rowsLike(example: string): Parse<ModelLimits> {
  const parse = rows<Limits>(
    {
      isName: isScope,
      isAmount: isLimit,
      required: [],
      optional: LIMITS.map(({ name }) => name),
    },
    `${example}, by exact names of models, with some of requests, tokens, usd, audioSeconds or characters, then PerMinute, PerHour, PerDay, PerWeek or PerMonth; usd is dollars, at most a million with at most 6 decimals`,
  )
  return (text) => {
    const parsed = parse(text)
    if ('problem' in parsed) return parsed
    const { [ALL_MODELS]: byDefault, total, ...models } = ledgerRows(parsed.value)
    return { value: { default: byDefault, total, models } }
  }
}

/** Rows of limits as the ledger has them. */
const ledgerRows = (rows: Record<string, Limits>): Record<string, Limits> =>
  mapValues(rows, (row) =>
    mapValues(row as Record<string, number>, (said, name) => limitFrom(name, said)),
  )
