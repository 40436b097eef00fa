/** What Groq's models cost. `npx tsx scripts/prices.ts` writes this file: change the script. */
import type { Price } from '../ledger/money.ts'

/** The prices of models, as a source gave them on a day. */
export type PriceList = { source: string; date: string; prices: Record<string, Price> }

/** No model is on two lists. Some have been shut down, but contracts may still have them. */
export const GROQ_PRICES: PriceList[] = [
  {
    source: 'https://www.npmjs.com/package/@pydantic/genai-prices/v/0.1.8',
    date: '2026-09-23',
    prices: {
      'deepseek-r1-distill-llama-70b': { input: 750_000, output: 990_000 },
      'gemma-7b-it': { input: 70_000, output: 70_000 },
      'gemma2-9b': { input: 200_000, output: 200_000 },
      'gemma2-9b-it': { input: 200_000, output: 200_000 },
      'llama-3.1-405b-reasoning': { input: 590_000, output: 790_000 },
      'llama-3.1-70b-versatile': { input: 590_000, output: 790_000 },
      'llama-3.1-8b-instant': { input: 50_000, output: 80_000 },
      'llama-3.2-11b-text-preview': { input: 180_000, output: 180_000 },
      'llama-3.2-11b-vision-preview': { input: 180_000, output: 180_000 },
      'llama-3.2-1b-preview': { input: 40_000, output: 40_000 },
      'llama-3.2-3b-preview': { input: 60_000, output: 60_000 },
      'llama-3.2-90b-text-preview': { input: 900_000, output: 900_000 },
      'llama-3.2-90b-vision-preview': { input: 900_000, output: 900_000 },
      'llama-3.3-70b-specdec': { input: 590_000, output: 990_000 },
      'llama-3.3-70b-versatile': { input: 590_000, output: 790_000 },
      'llama-guard-3-8b': { input: 200_000, output: 200_000 },
      'llama2-70b-4096': { input: 700_000, output: 800_000 },
      'llama3-70b-8192': { input: 590_000, output: 790_000 },
      'llama3-8b-8192': { input: 50_000, output: 80_000 },
      'llama3-groq-70b-8192-tool-use-preview': { input: 890_000, output: 890_000 },
      'llama3-groq-8b-8192-tool-use-preview': { input: 190_000, output: 190_000 },
      'meta-llama/llama-4-maverick-17b-128e-instruct': { input: 200_000, output: 600_000 },
      'meta-llama/llama-4-scout-17b-16e-instruct': { input: 110_000, output: 340_000 },
      'meta-llama/llama-guard-4-12b': { input: 200_000, output: 200_000 },
      'mistral-saba-24b': { input: 790_000, output: 790_000 },
      'mixtral-8x7b-32768': { input: 240_000, output: 240_000 },
      'moonshotai/kimi-k2-instruct': { input: 1_000_000, cached: 500_000, output: 3_000_000 },
      'moonshotai/kimi-k2-instruct-0905': { input: 1_000_000, cached: 500_000, output: 3_000_000 },
      'openai/gpt-oss-120b': { input: 150_000, cached: 75_000, output: 600_000 },
      'openai/gpt-oss-20b': { input: 75_000, cached: 37_500, output: 300_000 },
      'qwen/qwen3-32b': { input: 290_000, output: 590_000 },
    },
  },
  {
    source: 'https://console.groq.com/docs/models',
    date: '2026-08-18',
    prices: {
      'canopylabs/orpheus-arabic-saudi': { input: 0, output: 0, characters: 40_000_000 },
      'canopylabs/orpheus-v1-english': { input: 0, output: 0, characters: 22_000_000 },
      'meta-llama/llama-prompt-guard-2-22m': { input: 30_000, output: 30_000 },
      'meta-llama/llama-prompt-guard-2-86m': { input: 40_000, output: 40_000 },
      'openai/gpt-oss-safeguard-20b': { input: 75_000, output: 300_000 },
      'whisper-large-v3': { input: 0, output: 0, audioHour: 111_000_000 },
      'whisper-large-v3-turbo': { input: 0, output: 0, audioHour: 40_000_000 },
    },
  },
  {
    source: 'https://github.com/anomalyco/models.dev/pull/3761',
    date: '2026-07-27',
    prices: { 'qwen/qwen3.6-27b': { input: 600_000, cached: 300_000, output: 3_000_000 } },
  },
  {
    source: 'https://groq.com/pricing',
    date: '2026-08-29',
    prices: { 'qwen/qwen3.8-27b': { input: 800_000, cached: 400_000, output: 4_000_000 } },
  },
]
