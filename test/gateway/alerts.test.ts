/** Alerts of gateways that share a database, to a receiver over HTTP: on Node and in workerd. */
import { once } from 'node:events'
import { createServer, type IncomingHttpHeaders, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Webhook } from 'standardwebhooks'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { BEARER } from '../support/admin.ts'
import { eventOf, KINDS, type Gateway } from '../support/gateways.ts'
import { transcripts } from '../support/transcripts.ts'
import { useWorld } from '../support/world.ts'

const world = useWorld()
const SECRET = `whsec_${Buffer.alloc(32, 5).toString('base64')}`
const MODEL = 'openai/gpt-oss-20b'

/** What the receiver got, and how it answers: a status, or never. */
type Hook = { headers: IncomingHttpHeaders; body: string }
let hooks: Hook[] = []
let status: number | 'never' = 204
let receiver: Server
let url: string
beforeAll(async () => {
  receiver = createServer((request, response) => {
    let body = ''
    request.setEncoding('utf8')
    request.on('data', (text: string) => (body += text))
    request.on('end', () => {
      hooks.push({ headers: request.headers, body })
      if (status === 'never') return
      response.writeHead(status, { location: `${url}/elsewhere` }).end()
    })
  }).listen(0, '127.0.0.1')
  await once(receiver, 'listening')
  url = `http://127.0.0.1:${(receiver.address() as AddressInfo).port}`
})
beforeEach(() => {
  hooks = []
  status = 204
})
afterAll(() => {
  receiver.closeAllConnections()
  receiver.close()
})

/** Each is another gateway, since the variables differ. */
const fleet = (size: number, vars = {}) =>
  Promise.all(
    Array.from({ length: size }, (_, n) =>
      world.gateway(n % 2 ? 'workerd' : 'node', {
        ...{ ALERT_WEBHOOK_URL: `${url}/hook`, ALERT_WEBHOOK_SECRET: SECRET },
        MAX_BODY_BYTES: String(100_000 + n),
        ...vars,
      }),
    ),
  )

const ask = async (gateway: Gateway, token: string, model = MODEL) => {
  const response = await fetch(`${gateway.url}/api/groq`, {
    method: 'POST',
    headers: { 'x-user-token': token },
    body: JSON.stringify({ prompt: 'Hello', model, max_tokens: 50 }),
  })
  await response.text()
  return response
}
const received = (count: number) =>
  expect.poll(() => hooks.length, { timeout: 10_000, interval: 5 }).toBe(count)
type Told = { type: string; data: Record<string, unknown> }
const tellsOf = (hook: Hook) =>
  new Webhook(SECRET).verify(hook.body, hook.headers as Record<string, string>) as Told

test('isolates that pass 80 % together send one alert, with one id and one signature', async () => {
  const gateways = await fleet(4, { MODEL_LIMITS: '{"*":{"requestsPerDay":50}}' })
  const token = 'token-of-ann-together'
  const answers = await Promise.all(
    Array.from({ length: 44 }, (_, n) => ask(gateways[n % 4] as Gateway, token)),
  )
  for (const { status, headers } of answers) {
    expect(status).toBe(200)
    await eventOf(world.store, headers.get('x-weir-id'))
  }
  await expect
    .poll(async () => (await world.store.alerts()).map(({ state }) => state), { timeout: 10_000 })
    .toEqual(['delivered'])
  expect(hooks).toHaveLength(1)
  const [hook] = hooks as [Hook]
  expect(tellsOf(hook)).toMatchObject({
    type: 'limit.threshold',
    data: { of: 'user', unit: 'requests', window: 'day', percent: 80, limit: 50, used: 40 },
  })
  expect((await world.store.alerts())[0]?.id).toBe(hook.headers['webhook-id'])
})

describe.each(KINDS)('on %s', (kind) => {
  const gatewayOf = (vars = {}) =>
    world.gateway(kind, {
      ...{ ALERT_WEBHOOK_URL: `${url}/hook`, ALERT_WEBHOOK_SECRET: SECRET, ...vars },
    })

  test('a receiver that never answers holds up no request', async () => {
    const gateway = await gatewayOf({ MODEL_LIMITS: '{"*":{"requestsPerDay":5}}' })
    status = 'never'
    for (let n = 0; n < 5; n += 1) {
      const { headers } = await ask(gateway, `token-of-a-slow-one-${kind}`)
      await eventOf(world.store, headers.get('x-weir-id'))
    }
    // The settlement of the last is counted, and its alert is on its way.
    await received(2)
    const { headers } = await ask(gateway, `token-of-another-${kind}`)
    await eventOf(world.store, headers.get('x-weir-id'))
    expect(await world.store.alerts()).toMatchObject([
      { percent: 100, state: 'pending', attempts: 0 },
      { percent: 80, state: 'pending', attempts: 0 },
    ])
  })

  test('a redirect is not followed, and the next request tries again', async () => {
    const gateway = await gatewayOf()
    status = 302
    const sent = await fetch(`${gateway.url}/api/admin/alerts/test`, {
      method: 'POST',
      headers: BEARER,
    })
    const told = (await sent.json()) as Record<string, unknown>
    expect(told).toMatchObject({ state: 'pending', lastStatus: 302, attempts: 1 })
    expect(hooks).toHaveLength(1)
    const [first] = hooks as [Hook]
    status = 204
    // As if five seconds had passed.
    await world.store.execute({
      ...{ op: 'tried', now: Date.now(), to: 'x' },
      results: { [String(told.id)]: { state: 'pending', status: 302, due: Date.now() } },
    })
    await ask(gateway, `token-of-anybody-${kind}`)
    await received(2)
    expect(hooks[1]?.headers['webhook-id']).toBe(first.headers['webhook-id'])
    expect(tellsOf(hooks[1] as Hook).type).toBe('test')
  })

  test('two tests at once are both answered as they were sent', async () => {
    const gateway = await gatewayOf()
    const send = async (): Promise<unknown> => {
      const url = `${gateway.url}/api/admin/alerts/test`
      return (await fetch(url, { method: 'POST', headers: BEARER })).json()
    }
    const sent = { state: 'delivered', lastStatus: 204, attempts: 1 }
    expect(await Promise.all([send(), send()])).toMatchObject([sent, sent])
  })

  test("the provider's own spending limit is told, once", async () => {
    const gateway = await gatewayOf()
    const model = 'spent/model'
    const body = JSON.stringify({
      error: { message: 'Spend limit reached', code: 'blocked_api_access' },
    })
    world.upstream.on(model, { transcript: transcripts['rate-limited'], status: 400, body })
    for (let n = 0; n < 2; n += 1) {
      const answer = await ask(gateway, `token-of-the-spent-${kind}`, model)
      expect(answer.status).toBe(400)
      await eventOf(world.store, answer.headers.get('x-weir-id'))
    }
    await received(1)
    expect(tellsOf(hooks[0] as Hook)).toMatchObject({
      type: 'upstream.spend_blocked',
      data: { model },
    })
  })
})

test('on Node what a process that has ended left is sent at the start of another, without a request', async () => {
  const id = '01a20217-31d9-759b-be27-34edc8f244b6'
  const alert = { id, type: 'upstream.errors', calls: 30, failures: 20 } as const
  await world.store.execute({ op: 'raise', now: Date.now(), alert })
  await fleet(1, { MAX_AUDIO_BYTES: '100001' })
  await received(1)
  expect(hooks[0]?.headers['webhook-id']).toBe(id)
  await expect.poll(async () => (await world.store.alerts())[0]?.state).toBe('delivered')
})

test('an outage is told by the instance, and its end too', async () => {
  const gateway = await world.gateway('node', {
    ...{ ALERT_WEBHOOK_URL: `${url}/hook`, ALERT_WEBHOOK_SECRET: SECRET },
    STORE_TIMEOUT_MS: '100',
  })
  await ask(gateway, 'token-of-before')
  world.upstash.fault(() => ({ hang: true }))
  for (let n = 0; n < 4; n += 1) await ask(gateway, `token-of-an-outage-${n}`)
  await received(1)
  expect(tellsOf(hooks[0] as Hook)).toMatchObject({
    type: 'store.degraded',
    data: { onStoreDown: 'open' },
  })
  world.upstash.reset()
  await received(2)
  expect(tellsOf(hooks[1] as Hook).type).toBe('store.recovered')
  const alerts = await world.store.alerts()
  expect(alerts.map(({ type, state, attempts }) => [type, state, attempts])).toContainEqual([
    ...['store.degraded', 'delivered', 1],
  ])
})
