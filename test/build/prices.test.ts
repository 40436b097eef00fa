import { readFile } from 'node:fs/promises'
import { expect, test } from 'vitest'
import {
  KNOWN,
  PRICES_FILE,
  WRONG_IN_PACKAGE,
  inPico,
  packagePrices,
  pricesText,
} from '../../scripts/prices.ts'
import { readConfig } from '../../src/config/config.ts'
import { GROQ_PRICES } from '../../src/providers/groq-prices.ts'

test('the prices are the output of scripts/prices.ts', async () => {
  const kept = await readFile(PRICES_FILE, 'utf8')
  expect(kept === (await pricesText()), 'run `npx tsx scripts/prices.ts`').toBe(true)
})

test('the package and the pages of Groq agree, but for the models in which the package is wrong', () => {
  const inPackage = packagePrices()
  const differing = KNOWN.flatMap(({ prices }) => Object.entries(inPico(prices)))
    .filter(([model]) => Object.hasOwn(inPackage, model))
    .filter(([model, price]) => JSON.stringify(price) !== JSON.stringify(inPackage[model]))
    .map(([model]) => model)
  expect(differing).toEqual(Object.keys(WRONG_IN_PACKAGE))
})

test('each price is a whole number with a source and a day, and no model has two', () => {
  for (const { source, date, prices } of GROQ_PRICES) {
    expect(new URL(source).protocol).toBe('https:')
    expect(new Date(date).toISOString()).toBe(`${date}T00:00:00.000Z`)
    for (const [model, { input, cached = 0, output }] of Object.entries(prices)) {
      const rightly = [input, cached, output].every(
        (pico) => Number.isSafeInteger(pico) && pico >= 0,
      )
      expect(rightly && cached <= input, model).toBe(true)
    }
  }
  const models = GROQ_PRICES.flatMap(({ prices }) => Object.keys(prices))
  expect(new Set(models).size).toBe(models.length)
})

test.each([
  ['openai/gpt-oss-20b', { input: 75_000, cached: 37_500, output: 300_000 }],
  ['openai/gpt-oss-120b', { input: 150_000, cached: 75_000, output: 600_000 }],
  ['openai/gpt-oss-safeguard-20b', { input: 75_000, output: 300_000 }],
  ['qwen/qwen3.6-27b', { input: 600_000, cached: 300_000, output: 3_000_000 }],
  ['qwen/qwen3.8-27b', { input: 800_000, cached: 400_000, output: 4_000_000 }],
  ['meta-llama/llama-prompt-guard-2-22m', { input: 30_000, output: 30_000 }],
  ['moonshotai/kimi-k2-instruct-0905', { input: 1_000_000, cached: 500_000, output: 3_000_000 }],
  ['whisper-large-v3', { input: 0, output: 0, audioHour: 111_000_000 }],
  ['whisper-large-v3-turbo', { input: 0, output: 0, audioHour: 40_000_000 }],
  ['canopylabs/orpheus-v1-english', { input: 0, output: 0, characters: 22_000_000 }],
  ['canopylabs/orpheus-arabic-saudi', { input: 0, output: 0, characters: 40_000_000 }],
  ['allam-2-7b', undefined],
])('without MODEL_PRICES, the price of %s is %j', (model, price) => {
  expect(readConfig({}, 'edge').prices[model]).toEqual(price)
})
