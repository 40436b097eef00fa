/** `GET /metrics`: names, labels and numbers of the day. */
import { afterEach, expect, test } from 'vitest'
import { DAY_MS } from '../../src/ledger/windows.ts'
import { localApp, MODEL, type LocalApp } from '../support/local-app.ts'

let app: LocalApp
afterEach(() => app.close())

const METRICS_KEY = 'key-of-the-prometheus-of-the-tests'
const VARS = {
  METRICS_KEY,
  MODEL_PRICES: JSON.stringify({ [MODEL]: { input: 1, output: 1 } }),
  MODEL_LIMITS: '{"*":{"requestsPerDay":2}}',
  GLOBAL_LIMITS: '{"total":{"tokensPerDay":1000,"usdPerMonth":0.001}}',
}
const scrape = (key = METRICS_KEY) =>
  app.send('/metrics', { headers: { authorization: `Bearer ${key}` } })

test('has these names, labels and numbers', async () => {
  app = await localApp(VARS)
  for (let n = 0; n < 3; n += 1) await app.ask('token-of-ann')
  const { text, headers } = await scrape()
  expect(headers.get('content-type')).toBe('text/plain; version=0.0.4; charset=utf-8')
  expect(headers.get('cache-control')).toBe('no-store')
  expect(text.split('\n').filter((line) => !line.startsWith('# HELP'))).toEqual([
    '# TYPE weir_requests_total counter',
    `weir_requests_total{model="${MODEL}",outcome="exact"} 2`,
    `weir_requests_total{model="${MODEL}",outcome="estimated"} 0`,
    `weir_requests_total{model="${MODEL}",outcome="failed"} 0`,
    '# TYPE weir_tokens_total counter',
    `weir_tokens_total{model="${MODEL}",type="prompt"} 40`,
    `weir_tokens_total{model="${MODEL}",type="cached"} 0`,
    `weir_tokens_total{model="${MODEL}",type="completion"} 30`,
    `weir_tokens_total{model="${MODEL}",type="charged"} 70`,
    '# TYPE weir_cost_usd_total counter',
    `weir_cost_usd_total{model="${MODEL}"} 0.00007`,
    '# TYPE weir_refusals_total counter',
    'weir_refusals_total{code="insufficient_quota"} 1',
    '# TYPE weir_limit_ratio gauge',
    'weir_limit_ratio{window="month"} 0.07',
    'weir_limit_ratio{window="day"} 0.07',
    '# TYPE weir_users_active gauge',
    'weir_users_active 1',
    '',
  ])
})

test('counts begin again with the day', async () => {
  app = await localApp(VARS)
  await app.ask('token-of-ann')
  app.clock.now += DAY_MS
  const { text } = await scrape()
  expect(text).toContain('weir_users_active 0')
  expect(text).not.toContain(MODEL)
})

test('opens with its key only, and is not there without one', async () => {
  app = await localApp(VARS)
  expect((await app.send('/metrics')).json.error.code).toBe('missing_token')
  expect((await scrape(`${METRICS_KEY}x`)).json.error.code).toBe('invalid_token')
  await app.restart({ ...VARS, METRICS_KEY: '' })
  expect((await scrape()).status).toBe(404)
})
