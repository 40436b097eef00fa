/** What each feature of an application costs: `x-weir-tag`, from the request to the numbers. */
import { afterEach, expect, test } from 'vitest'
import { BEARER } from '../support/admin.ts'
import { parseCsv } from '../support/csv.ts'
import { localApp, MODEL, type LocalApp } from '../support/local-app.ts'

let app: LocalApp
afterEach(() => app.close())

const VARS = { MODEL_PRICES: JSON.stringify({ [MODEL]: { input: 1, output: 1 } }) }
const ask = (tag: string | undefined) =>
  app.send('/api/groq/openai/v1/chat/completions', {
    method: 'POST',
    headers: {
      authorization: 'Bearer token-of-ann',
      ...(tag !== undefined && { 'x-weir-tag': tag }),
    },
    body: JSON.stringify({ model: MODEL, max_tokens: 20, messages: [] }),
  })
type Usage = { tags: object[]; events: { tag?: string }[] }
const usage = async (query = '') =>
  JSON.parse((await app.admin('GET', `usage${query}`)).text) as Usage

test('requests are counted by tag, and the events of one are found', async () => {
  app = await localApp(VARS)
  for (const tag of ['search', 'search', 'chat/v2', undefined, '']) await ask(tag)
  const day = { requestsDay: 2, tokensUsedDay: 70, costUsd: 0.00007 }
  const total = { totalRequests: 2, totalTokensUsed: 70, totalCostUsd: 0.00007 }
  const { tags, events } = await usage()
  expect(tags).toEqual([
    { tag: 'search', ...day, ...total },
    expect.objectContaining({ tag: 'chat/v2', tokensUsedDay: 35 }),
  ])
  expect(events).toHaveLength(5)
  expect((await usage('?tag=search')).events.map(({ tag }) => tag)).toEqual(['search', 'search'])
  expect((await app.admin('GET', 'usage?tag=%3Cx%3E')).json.error.message).toContain('`tag`')
  const page = await app.send('/admin', { headers: await session() })
  expect(page.text).toContain('What each tag used and cost')
})

test('a refused request keeps its tag', async () => {
  app = await localApp({ ...VARS, MODEL_LIMITS: JSON.stringify({ '*': { requestsPerDay: 1 } }) })
  await ask('search')
  expect((await ask('chat')).status).toBe(429)
  const { latest } = await app.store.refusals([], 9)
  expect(latest.map(({ tag }) => tag)).toEqual(['chat'])
})

async function session() {
  const body = new URLSearchParams({ key: BEARER.authorization.slice('Bearer '.length) })
  const headers = { 'content-type': 'application/x-www-form-urlencoded' }
  const login = await app.send('/api/admin/login', { method: 'POST', body, headers })
  return { cookie: login.headers.get('set-cookie')?.split(';')[0] ?? '' }
}

test('an export sums the days up by tag, or has the events of one', async () => {
  app = await localApp(VARS)
  for (const tag of ['search', 'chat', 'search']) await ask(tag)
  const csv = async (query: string) => {
    return parseCsv((await app.admin('GET', `export?${query}`)).text)
  }
  expect(await csv('kind=days&group=tag')).toEqual([
    { tag: 'chat', requests: '1', charged: '35', costUsd: '0.000035' },
    { tag: 'search', requests: '2', charged: '70', costUsd: '0.00007' },
  ])
  expect((await csv('kind=events&tag=chat')).map(({ tag }) => tag)).toEqual(['chat'])
  expect(await csv('kind=events')).toHaveLength(3)
  for (const wrong of ['kind=users&group=tag', 'kind=days&tag=chat', 'kind=events&tag=-']) {
    const { status, json } = await app.admin('GET', `export?${wrong}`)
    expect([wrong, status, json.error.code]).toEqual([wrong, 400, 'invalid_request'])
  }
})

test.each(['a'.repeat(33), 'two words', '<script>', '-x', 'é', 'a,b', '__proto__'])(
  'the tag %j is refused, and nothing is counted',
  async (tag) => {
    app = await localApp(VARS)
    const { status, json } = await ask(tag)
    expect([status, json.error.code, json.error.param]).toEqual([
      ...[400, 'invalid_request', 'x-weir-tag'],
    ])
    expect(json.error.message).toMatch(/1 to 32 characters/)
    expect(await app.store.events(1)).toEqual([])
  },
)

test('pages of other origins may send it', async () => {
  app = await localApp()
  const { headers } = await app.send('/api/groq', {
    method: 'OPTIONS',
    headers: {
      origin: 'https://app.example',
      'access-control-request-method': 'POST',
      'access-control-request-headers': 'content-type,x-weir-tag',
    },
  })
  expect(headers.get('access-control-allow-headers')).toContain('x-weir-tag')
})
