import { describe, expect, test } from 'vitest'
import { version } from '../../package.json'
import { KINDS, type Gateway } from '../support/gateways.ts'
import { useWorld } from '../support/world.ts'

const world = useWorld()

const health = async (gateway: Gateway) => {
  const response = await fetch(`${gateway.url}/api/test`)
  return { status: response.status, body: (await response.json()) as Record<string, unknown> }
}

describe.each(KINDS)('on %s', (kind) => {
  test('a database that accepts a write, a read and a delete is connected; the answer is reused for a while', async () => {
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
        version,
        timestamp: expect.any(Number) as number,
      },
    })
    const second = await health(gateway)
    expect(second.body.checkedAt).toBe(first.body.checkedAt)
    expect(await world.redis.commandstats()).toEqual({ set: 1, get: 1, del: 1 })
  })

  test('many calls at once cause one write', async () => {
    const gateway = await world.gateway(kind, { STORE_TIMEOUT_MS: '9003' })
    await world.redis.resetStats()
    const answers = await Promise.all(Array.from({ length: 50 }, () => health(gateway)))
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]))
    expect(await world.redis.commandstats()).toEqual({ set: 1, get: 1, del: 1 })
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
})
