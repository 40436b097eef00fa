/** The variables that are JSON by names of models: limits and prices. */
import { mapValues } from '../ledger/documents.ts'
import { LIMITS, isMoney, limitFrom, type Limits, type ModelLimits } from '../ledger/policy.ts'
import { ALL_MODELS } from '../ledger/shapes.ts'
import type { Price } from '../ledger/money.ts'
import { picoOf } from '../metering/cost.ts'
import { MODEL_NAME, isScope } from '../metering/models.ts'
import type { Parse } from './parse.ts'
import { rows } from './rows.ts'

/** Limits stay far below the amounts whose sums JSON numbers keep exact. */
export const MAX_LIMIT = 10_000_000_000_000

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
    : Number.isInteger(value) && value <= MAX_LIMIT)

/** In USD per million tokens: far above any model. */
const MAX_PRICE = 100_000

/** The default of MODEL_LIMITS. */
export const MODEL_LIMITS = '{"*":{"tokensPerDay":200000,"requestsPerDay":1000}}'

/** The default of GLOBAL_LIMITS. */
export const GLOBAL_LIMITS = '{"total":{"tokensPerDay":2000000,"requestsPerDay":10000}}'

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

/** Prices as they are written: in USD per million tokens, by exact name of a model. */
const written = rows<Record<string, number>>(
  {
    isName: (text) => MODEL_NAME.test(text),
    isAmount: (value) =>
      typeof value === 'number' && value >= 0 && value <= MAX_PRICE && picoOf(value) !== undefined,
    required: ['input', 'output'],
    optional: ['cached'],
  },
  '{"openai/gpt-oss-20b":{"input":0.075,"output":0.3}}, by exact names of models, with input, output and, if wanted, cached ' +
    `in USD per million tokens, each from 0 to ${MAX_PRICE} with at most 6 decimals`,
)

/** Takes prices in USD per million tokens, and gives them in pico-USD a token. */
export const modelPrices: Parse<Record<string, Price>> = (text) => {
  const parsed = written(text)
  if ('problem' in parsed) return parsed
  const priceOf = (row: Record<string, number>) =>
    Object.fromEntries(Object.entries(row).map(([kind, usd]) => [kind, picoOf(usd)]))
  const prices = Object.entries(parsed.value).map(([model, row]) => [model, priceOf(row)])
  return { value: Object.fromEntries(prices) as Record<string, Price> }
}

function rowsLike(example: string): Parse<ModelLimits> {
  const parse = rows<Limits>(
    {
      isName: isScope,
      isAmount: isLimit,
      required: [],
      optional: LIMITS.map(({ name }) => name),
    },
    `${example}, by exact names of models, with some of requests, tokens or usd, then PerMinute, PerHour, PerDay, PerWeek or PerMonth; usd is dollars, at most a million`,
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
