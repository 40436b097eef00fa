/** `GET /metrics`: names, labels and numbers of the day. */
import { afterEach, expect, test } from 'vitest'
import { DAY_MS } from '../../src/ledger/windows.ts'
import { FORM_TYPE, formOf } from '../support/form.ts'
import { localApp, MODEL, type LocalApp } from '../support/local-app.ts'
import { samples, wavOf } from '../support/wav.ts'

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
    '# TYPE weir_audio_seconds_total counter',
    '# TYPE weir_characters_total counter',
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

test('audio counts in seconds and characters', async () => {
  app = await localApp({ METRICS_KEY })
  const [whisper, orpheus] = ['whisper-large-v3', 'canopylabs/orpheus-v1-english']
  const authorization = 'Bearer token-of-ann'
  await app.send('/api/groq/openai/v1/audio/transcriptions', {
    ...{ method: 'POST', headers: { authorization, 'content-type': FORM_TYPE } },
    body: formOf([
      { name: 'file', filename: 'a.wav', value: wavOf(samples(32_000 * 90)) },
      { name: 'model', value: whisper },
    ]),
  })
  await app.send('/api/groq/openai/v1/audio/speech', {
    ...{ method: 'POST', headers: { authorization } },
    body: JSON.stringify({ model: orpheus, input: 'Hello' }),
  })
  const lines = (await scrape()).text.split('\n')
  expect(lines).toEqual(
    expect.arrayContaining([
      `weir_requests_total{model="${whisper}",outcome="estimated"} 1`,
      `weir_audio_seconds_total{model="${whisper}"} 90`,
      `weir_characters_total{model="${orpheus}"} 5`,
      `weir_cost_usd_total{model="${whisper}"} 0.002775`,
      `weir_cost_usd_total{model="${orpheus}"} 0.00011`,
    ]),
  )
  expect(lines).not.toContain(`weir_audio_seconds_total{model="${orpheus}"} 0`)
})

test('a request that failed counts although its model had no answer today', async () => {
  app = await localApp({ METRICS_KEY })
  app.provider.answer = () => new Response(null, { status: 503 })
  await app.ask('token-of-ann', { model: 'model-of-a-typo' })
  delete app.provider.answer
  await app.ask('token-of-ann')
  expect((await scrape()).text.split('\n').filter((line) => /requests_total\{/.test(line))).toEqual(
    [
      `weir_requests_total{model="${MODEL}",outcome="exact"} 1`,
      `weir_requests_total{model="${MODEL}",outcome="estimated"} 0`,
      `weir_requests_total{model="${MODEL}",outcome="failed"} 0`,
      'weir_requests_total{model="other",outcome="failed"} 1',
    ],
  )
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
