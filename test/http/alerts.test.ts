/** Alerts from the request that causes them to the receiver, and how a delivery that fails is tried again. */
import { Webhook } from 'standardwebhooks'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { alertText, dataOf } from '../../src/alerts/payload.ts'
import { ALERT_TYPES, type Alert } from '../../src/ledger/documents.ts'
import { DAY_MS, HOUR_MS, MINUTE_MS } from '../../src/ledger/windows.ts'
import { localApp, MODEL, type Hook, type LocalApp } from '../support/local-app.ts'

let app: LocalApp
afterEach(async () => {
  vi.useRealTimers()
  await app.close()
})

const SECRETS = ['b', 'a', 'c'].map(
  (char) => `whsec_${Buffer.from(char.repeat(32)).toString('base64')}`,
)
const [FIRST = '', SECOND = '', OTHER = ''] = SECRETS
const URL_SECRET = 'T0000-secret-part-of-an-address'
const VARS = {
  ALERT_WEBHOOK_URL: `https://alerts.example/${URL_SECRET}`,
  ALERT_WEBHOOK_SECRET: FIRST,
  MODEL_LIMITS: '{"*":{"tokensPerDay":1000}}',
}

type Body = { type: string; timestamp: string; data: Record<string, unknown> }
const bodyOf = ({ body }: Hook) => JSON.parse(body) as Body
const idOf = ({ headers }: Hook) => headers['webhook-id']

/** Verifies as a receiver does that has this secret. The package looks at the real clock. */
function verify(secret: string, { headers, body }: Hook): unknown {
  vi.useFakeTimers({ now: Number(headers['webhook-timestamp']) * 1000, toFake: ['Date'] })
  try {
    return new Webhook(secret).verify(body, headers)
  } finally {
    vi.useRealTimers()
  }
}

/** Requests of a user until the limit is nearly used: 23 of 35 tokens are 805 of 1,000. */
async function spend(token = 'token-of-ann', times = 23): Promise<void> {
  for (let n = 0; n < times; n += 1) await app.ask(token)
}

/** What is due is delivered with the next request. */
const later = async (ms: number) => {
  app.clock.now += ms
  await app.ask('token-of-somebody')
}

const listed = async () => {
  const { text } = await app.admin('GET', 'alerts')
  return (JSON.parse(text) as { alerts: Record<string, unknown>[] }).alerts
}
const sendTest = async () =>
  JSON.parse((await app.admin('POST', 'alerts/test')).text) as Record<string, unknown>

test('a limit that is nearly used is told once, signed, with what an admin needs to know', async () => {
  app = await localApp(VARS)
  await spend()
  expect(app.receiver.hooks).toHaveLength(1)
  const [hook] = app.receiver.hooks as [Hook]
  expect(hook.url).toBe(VARS.ALERT_WEBHOOK_URL)
  expect(hook.headers['content-type']).toBe('application/json')
  expect(idOf(hook)).toMatch(/^[\w-]+$/)
  const [event] = await app.store.events(1)
  expect(verify(FIRST, hook)).toEqual({
    type: 'limit.threshold',
    timestamp: '2026-11-25T12:00:00.000Z',
    data: {
      of: 'user',
      userId: event?.user,
      model: MODEL,
      unit: 'tokens',
      window: 'day',
      percent: 80,
      limit: 1000,
      used: 805,
      resetAt: '2026-11-26T00:00:00.000Z',
    },
  })
  expect(() => verify(OTHER, hook)).toThrow('No matching signature')
  expect(hook.body).not.toContain('token-of-ann')
  expect(await listed()).toMatchObject([
    { id: idOf(hook), state: 'delivered', attempts: 1, lastStatus: 204, nextAttemptAt: null },
  ])
  for (const line of app.log) expect(line).not.toContain(URL_SECRET)
})

test('while one secret replaces the other, receivers with either of them believe it', async () => {
  for (const secrets of [`${SECOND},${FIRST}`, `${SECOND} ${FIRST}`]) {
    app = await localApp({ ...VARS, ALERT_WEBHOOK_SECRET: secrets })
    await sendTest()
    const [hook] = app.receiver.hooks as [Hook]
    for (const secret of [FIRST, SECOND])
      expect(verify(secret, hook)).toMatchObject({ type: 'test' })
    expect(() => verify(OTHER, hook)).toThrow()
    await app.close()
  }
  app = await localApp()
})

test('a receiver that fails gets the same alert again, later and later, under the same id', async () => {
  app = await localApp(VARS)
  app.receiver.answer = () => new Response('broken', { status: 500 })
  await spend()
  const waits = [5000, 5 * MINUTE_MS, 30 * MINUTE_MS, 2 * HOUR_MS, 5 * HOUR_MS, 10 * HOUR_MS]
  const all = [...waits, 14 * HOUR_MS, 20 * HOUR_MS, 24 * HOUR_MS]
  for (const [n, wait] of all.entries()) {
    expect(app.receiver.hooks).toHaveLength(n + 1)
    await later(wait - 1)
    expect(app.receiver.hooks).toHaveLength(n + 1)
    await later(wait * 0.1 + 2)
  }
  expect(new Set(app.receiver.hooks.map(idOf)).size).toBe(1)
  expect(new Set(app.receiver.hooks.map(({ body }) => body)).size).toBe(1)
  const times = app.receiver.hooks.map(({ headers }) => headers['webhook-timestamp'])
  expect(new Set(times).size).toBe(10)
  expect(await listed()).toMatchObject([{ state: 'failed', attempts: 10, lastStatus: 500 }])
  await later(2 * DAY_MS)
  expect(app.receiver.hooks).toHaveLength(10)
})

test.each<[string, number, () => Response | Promise<Response>]>([
  [
    'redirects',
    302,
    () => new Response(null, { status: 302, headers: { location: 'https://x.example' } }),
  ],
  ['answers 404', 404, () => new Response(null, { status: 404 })],
  ['is not there', 0, () => Promise.reject(new Error(`connect ECONNREFUSED ${URL_SECRET}`))],
])('one that %s has not taken it, and is asked again', async (_, status, answer) => {
  app = await localApp(VARS)
  app.receiver.answer = answer
  const told = await sendTest()
  expect(told).toMatchObject({ type: 'test', state: 'pending', attempts: 1, lastStatus: status })
  expect(app.receiver.hooks.map(({ url }) => url)).toEqual([VARS.ALERT_WEBHOOK_URL])
  app.receiver.answer = () => new Response(null, { status: 200 })
  await later(6000)
  expect(await listed()).toMatchObject([{ id: told.id, state: 'delivered', attempts: 2 }])
  for (const line of app.log) expect(line).not.toContain(URL_SECRET)
})

test('one that is gone gets nothing more but tests, until one arrives', async () => {
  app = await localApp(VARS)
  app.receiver.answer = () => new Response(null, { status: 410 })
  expect(await sendTest()).toMatchObject({ state: 'failed', lastStatus: 410 })
  app.clock.now += 1000
  await spend()
  expect(app.receiver.hooks).toHaveLength(1)
  expect(await listed()).toMatchObject([{ type: 'limit.threshold', state: 'failed' }, {}])
  app.receiver.answer = () => new Response(null, { status: 204 })
  expect(await sendTest()).toMatchObject({ state: 'delivered' })
  await spend('token-of-bob')
  expect(app.receiver.hooks.map(bodyOf).map(({ type }) => type)).toEqual([
    ...['test', 'test', 'limit.threshold'],
  ])
})

test('one that asks for time gets it', async () => {
  app = await localApp(VARS)
  const headers = { 'retry-after': '3600' }
  app.receiver.answer = () => new Response(null, { status: 429, headers })
  await sendTest()
  await later(30 * MINUTE_MS)
  expect(app.receiver.hooks).toHaveLength(1)
  await later(30 * MINUTE_MS)
  expect(app.receiver.hooks).toHaveLength(2)
})

test('one that never answers is given up after 15 s, and holds up no request', async () => {
  app = await localApp(VARS)
  await spend('token-of-ann', 22)
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
  let answer: Promise<{ status: number }> | undefined
  const signal = await new Promise<AbortSignal>((asked) => {
    app.receiver.answer = (_, signal) =>
      new Promise((_resolve, reject) => {
        asked(signal)
        signal.addEventListener('abort', () => reject(new Error('aborted')))
      })
    // It waits for what the request left in the background.
    answer = app.ask('token-of-ann')
  })
  // The request is counted, and others are answered meanwhile.
  const request = { headers: { authorization: 'Bearer token-of-ann' } }
  expect((await app.store.events(1))[0]?.charged).toBe(35)
  await vi.advanceTimersByTimeAsync(14_999)
  expect(signal.aborted).toBe(false)
  await vi.advanceTimersByTimeAsync(1)
  expect(signal.aborted).toBe(true)
  expect((await answer)?.status).toBe(200)
  vi.useRealTimers()
  expect((await app.send('/api/usage', request)).status).toBe(200)
  expect(await listed()).toMatchObject([{ state: 'pending', attempts: 1, lastStatus: 0 }])
})

test('an alert that was not delivered before a restart is delivered after it, under its id', async () => {
  app = await localApp(VARS)
  app.receiver.answer = () => Promise.reject(new Error('cut'))
  await spend()
  const [first] = app.receiver.hooks
  await app.restart()
  app.receiver.answer = () => new Response(null, { status: 204 })
  await later(6000)
  expect(app.receiver.hooks.map(idOf)).toEqual([first && idOf(first), first && idOf(first)])
  expect(await listed()).toMatchObject([{ state: 'delivered', attempts: 2 }])
  await app.restart()
  await later(HOUR_MS)
  expect(app.receiver.hooks).toHaveLength(2)
})

test('a block is told; lifting it is not', async () => {
  app = await localApp(VARS)
  await app.ask('token-of-ann')
  const userId = (await app.store.events(1))[0]?.user
  await app.admin('PATCH', `users/${userId}`, { label: 'Ann <3' })
  const until = '2026-11-30T00:00:00.000Z'
  const block = { userId, model: '*', reason: 'rude words', until }
  await app.admin('POST', 'usage', { ...block, blocked: true })
  await app.admin('POST', 'usage', { userId, model: '*', blocked: false })
  expect(app.receiver.hooks.map(bodyOf)).toEqual([
    {
      type: 'user.blocked',
      timestamp: '2026-11-25T12:00:00.000Z',
      data: { userId, label: 'Ann <3', model: '*', until, by: 'admin' },
    },
  ])
})

test('Slack gets a sentence, and no signature', async () => {
  const { ALERT_WEBHOOK_SECRET: _, ...vars } = VARS
  app = await localApp({ ...vars, ALERT_FORMAT: 'slack' })
  await app.ask('token-of-ann')
  const userId = (await app.store.events(1))[0]?.user
  await app.admin('PATCH', `users/${userId}`, { label: '<!channel> & Ann' })
  await app.admin('POST', 'usage', { userId, model: MODEL, blocked: true })
  const [hook] = app.receiver.hooks as [Hook]
  expect(Object.keys(hook.headers).sort()).toEqual(['content-type', 'user-agent'])
  expect(JSON.parse(hook.body)).toEqual({
    text: `Weir: &lt;!channel&gt; &amp; Ann (user ${userId}) was blocked from ${MODEL} by admin.`,
  })
})

test('without a receiver nothing is told, and a test says why', async () => {
  app = await localApp({ MODEL_LIMITS: VARS.MODEL_LIMITS })
  await spend()
  expect(JSON.parse((await app.admin('GET', 'alerts')).text)).toEqual({ format: null, alerts: [] })
  const { status, json } = await app.admin('POST', 'alerts/test')
  expect([status, json.error.code]).toEqual([503, 'not_configured'])
  expect(json.error.message).toContain('ALERT_WEBHOOK_URL')
})

describe('the payload', () => {
  const alert = (type: Alert['type'], facts: Partial<Alert> = {}): Alert => ({
    ...{ id: 'i', type, at: 0, state: 'pending', attempts: 0 },
    ...facts,
  })
  const user = { of: 'user', user: 'U', label: 'Ann', model: '*' }

  test('says everything in one sentence', async () => {
    app = await localApp()
    const limit = { unit: 'usd', window: 'month', percent: 80, limit: 5e9, used: 4e9 }
    const told = [
      alert('limit.threshold', { ...user, ...limit }),
      alert('limit.threshold', { ...limit, of: 'everyone', model: 'a', unit: 'tokens' }),
      alert('limit.threshold', {
        ...{ ...user, ...limit, model: 'a', unit: 'audioSeconds', limit: 100_000, used: 93_600 },
      }),
      alert('user.blocked', { ...user, until: 0, by: 'ann' }),
      alert('key.expiring', { ...user, key: 'K', until: 0 }),
      alert('upstream.errors', { calls: 20, failures: 3 }),
      alert('upstream.spend_blocked', { model: 'a' }),
      alert('store.degraded', { mode: 'open' }),
      alert('store.recovered', { downMs: 61_400 }),
      alert('test'),
    ]
    expect(told.map(alertText)).toEqual([
      'Ann (user U) used 80% of a limit: $4 of $5 a month, all models.',
      'All users together used 80% of a limit: 4,000,000,000 of 5,000,000,000 tokens a month, a.',
      'Ann (user U) used 80% of a limit: 93.6 of 100 audio seconds a month, a.',
      'Ann (user U) was blocked from all models until 1970-01-01 00:00:00 UTC by ann.',
      'Ann (user U) has the key K, which is valid until 1970-01-01 00:00:00 UTC.',
      'The provider failed 3 of 20 calls within five minutes.',
      'The provider refuses calls, because the spending limit of the organisation there is reached.',
      'An instance cannot reach the database (ON_STORE_DOWN=open).',
      'An instance reaches the database again, after 61 s.',
      'This is a test.',
    ])
    expect(new Set(told.map(({ type }) => type)).size).toBe(ALERT_TYPES.length)
    expect(told.slice(0, 1).map(dataOf)).toMatchObject([{ limit: 5, used: 4, userId: 'U' }])
  })
})
