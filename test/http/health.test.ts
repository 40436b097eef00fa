import { describe, expect, test } from 'vitest'
import { version } from '../../package.json'
import { readConfig } from '../../src/config/config.ts'
import type { Deps } from '../../src/context.ts'
import { createLog } from '../../src/log.ts'
import { healthRoutes } from '../../src/routes/health.ts'
import { memoryQueue } from '../../src/store/fallback/queue.ts'
import { withFallback } from '../../src/store/fallback/store.ts'
import { logIn } from '../support/admin.ts'
import { RETENTION } from '../support/stores.ts'
import { KINDS, type Gateway } from '../support/gateways.ts'
import { useWorld } from '../support/world.ts'

const world = useWorld()

const LOG = createLog({ level: 'silent', format: 'json', write: () => undefined })
const ENVIRONMENT = { platform: 'node', storage: 'database' } as const

const health = async (gateway: Gateway) => {
  const response = await fetch(`${gateway.url}/api/test`)
  return { status: response.status, body: (await response.json()) as Record<string, unknown> }
}

describe.each(KINDS)('on %s', (kind) => {
  test('a database that runs the script is connected; the answer is reused for a while', async () => {
    // A different time-out gives the test its own gateway, which remembers no earlier result.
    const gateway = await world.gateway(kind, { STORE_TIMEOUT_MS: '5001' })
    await world.redis.resetStats()
    const first = await health(gateway)
    expect(first).toEqual({
      status: 200,
      body: {
        database: { connected: true, latencyMs: expect.any(Number) as number },
        checkedAt: expect.any(Number) as number,
        storageType: 'database',
        degraded: false,
        queued: 0,
        environment: { platform: kind, isVercel: false },
        userTokens: {
          kinds: ['any'],
          notes: [expect.any(String), expect.stringContaining('anyone can make up a token')],
          warnings: [],
        },
        version,
        timestamp: expect.any(Number) as number,
      },
    })
    const second = await health(gateway)
    expect(second.body.checkedAt).toBe(first.body.checkedAt)
    expect(await world.redis.commandstats()).toMatchObject({ evalsha: 1, set: 1, mset: 1 })
  })

  test('many calls at once cause one check', async () => {
    const gateway = await world.gateway(kind, { STORE_TIMEOUT_MS: '9003' })
    await world.redis.resetStats()
    const answers = await Promise.all(Array.from({ length: 50 }, () => health(gateway)))
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]))
    expect(await world.redis.commandstats()).toMatchObject({ evalsha: 1, set: 1, mset: 1 })
  })

  test('a database that hangs is reported as not connected within the deadline', async () => {
    const gateway = await world.gateway(kind, { STORE_TIMEOUT_MS: '202' })
    world.upstash.fault(() => ({ hang: true }))
    // An orchestrator must not restart a gateway that serves requests without its database.
    expect(await health(gateway)).toMatchObject({
      status: 200,
      body: { database: { connected: false, latencyMs: null } },
    })
  })

  test('a database that refuses the script is not connected, and the answer says why', async () => {
    const gateway = await world.gateway(kind, { STORE_TIMEOUT_MS: '5004' })
    await world.redis.command(['ACL', 'SETUSER', 'default', '-eval', '-evalsha'])
    const { body } = await health(gateway)
    await world.redis.command(['ACL', 'SETUSER', 'default', '+@all'])
    expect(body).toMatchObject({
      database: { connected: false, reason: expect.stringMatching(/^NOPERM .*'evalsha' command/) },
      degraded: true,
    })
    await expect
      .poll(async () => (await health(gateway)).body, { timeout: 10_000 })
      .toMatchObject({ database: { connected: true }, degraded: false })
  })

  test('a database that removes keys by itself is named', async () => {
    const gateway = await world.gateway(kind, { STORE_TIMEOUT_MS: '5005' })
    await world.redis.command(['CONFIG', 'SET', 'maxmemory-policy', 'allkeys-lru'])
    // Logging in is enough for the dashboard.
    const headers = await logIn(gateway)
    const page = await fetch(`${gateway.url}/admin`, { headers })
    const { body } = await health(gateway)
    await world.redis.command(['CONFIG', 'SET', 'maxmemory-policy', 'noeviction'])
    expect(body).toMatchObject({ database: { connected: true }, evicts: 'allkeys-lru' })
    expect(await page.text()).toContain('maxmemory-policy allkeys-lru')
  })

  describe('/api/health', () => {
    const asked = async (gateway: Gateway) => {
      const response = await fetch(`${gateway.url}/api/health`)
      const { error } = (await response.json()) as { error?: { code: string } }
      return error ? [response.status, error.code] : [response.status]
    }

    test('is 200 while calls are served, at the cost of a check that is reused', async () => {
      const gateway = await world.gateway(kind, { STORE_TIMEOUT_MS: '5006' })
      expect(await asked(gateway)).toEqual([200])
      await world.redis.resetStats()
      expect(await asked(gateway)).toEqual([200])
      expect(await health(gateway)).toMatchObject({ status: 200 })
      expect(await world.redis.commandstats()).toEqual({})
    })

    test.each([
      ['open', [200]],
      ['closed', [503, 'store_unavailable']],
    ])('without a database that answers, ON_STORE_DOWN=%s gives %j', async (mode, expected) => {
      const vars = { STORE_TIMEOUT_MS: '203', ON_STORE_DOWN: mode }
      const gateway = await world.gateway(kind, vars)
      world.upstash.fault(() => ({ reset: true }))
      expect(await asked(gateway)).toEqual(expected)
      world.upstash.reset()
      await expect.poll(() => asked(gateway), { timeout: 5000 }).toEqual([200])
    })

    test('is 503 without a key of the provider', async () => {
      const gateway = await world.gateway(kind, { GROQ_API_KEY: '' })
      expect(await asked(gateway)).toEqual([503, 'upstream_not_configured'])
      // Probes of other products ask for this.
      expect((await fetch(`${gateway.url}/api/ready`)).status).toBe(503)
    })

    test('supports HEAD, and no other method than GET', async () => {
      const url = `${(await world.gateway(kind, { GROQ_API_KEY: '' })).url}/api/health`
      expect((await fetch(url, { method: 'HEAD' })).status).toBe(503)
      expect((await fetch(url, { method: 'POST' })).status).toBe(405)
    })
  })

  test('no answer holds an address or a secret', async () => {
    const gateway = await world.gateway(kind, { STORE_TIMEOUT_MS: '5003' })
    const { body } = await health(gateway)
    expect(JSON.stringify(body)).not.toMatch(/127\.0\.0\.1|gsk_|admin-key|secret|http/)
    expect(JSON.stringify(body)).not.toContain(world.upstash.token)
  })
})

test('without a database the worker reports that nothing is connected', async () => {
  const gateway = await world.gateway('workerd', { KV_REST_API_URL: '', KV_REST_API_TOKEN: '' })
  expect((await health(gateway)).body).toMatchObject({
    database: { connected: false, latencyMs: null },
    storageType: 'none',
  })
  const ready = await fetch(`${gateway.url}/api/health`)
  expect(ready.status).toBe(503)
  expect(await ready.json()).toMatchObject({ error: { code: 'not_configured' } })
})

test('a process that is about to end is not ready', async () => {
  const store = withFallback({
    store: world.store,
    mode: 'open',
    queue: memoryQueue(LOG),
    retention: RETENTION,
    now: Date.now,
    log: LOG,
  })
  const config = readConfig({ GROQ_API_KEY: 'gsk_key' }, 'node')
  const deps = { config, store, log: LOG, now: Date.now, environment: ENVIRONMENT }
  const app = healthRoutes(deps as unknown as Deps)
  expect((await app.request('/health')).status).toBe(200)
  store.pause()
  expect((await app.request('/health')).status).toBe(503)
})
