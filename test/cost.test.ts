import { describe, expect, test } from 'vitest'
import { nextDay } from '../src/usage/record.ts'
import { adminGet } from './admin.ts'
import { eventOf, KINDS, type Gateway } from './gateways.ts'
import { seedUsers } from './seed.ts'
import { useWorld } from './world.ts'

const world = useWorld()

const GLOBAL = { GLOBAL_LIMITS: '{"total":{"tokensPerDay":1000000000,"requestsPerDay":1000000}}' }

async function ask(gateway: Gateway, user: string): Promise<string | null> {
  const response = await fetch(`${gateway.url}/api/groq`, {
    method: 'POST',
    headers: { 'x-user-token': `token-of-${user}` },
    body: JSON.stringify({ model: 'openai/gpt-oss-20b', stream: true, messages: [] }),
  })
  await response.arrayBuffer()
  expect(response.status).toBe(200)
  return response.headers.get('x-weir-id')
}

/** Commands as Upstash bills them: each one, those inside of scripts too. */
async function billed(run: () => Promise<unknown>): Promise<number> {
  await world.redis.resetStats()
  await run()
  return Object.values(await world.redis.commandstats()).reduce((sum, calls) => sum + calls, 0)
}

/** Settlements are over when the database is asked no more; looking at events would be billed too. */
const settled = (count: number) =>
  expect
    .poll(
      () =>
        world.upstash.log
          .flatMap(({ commands }) => commands.flat())
          .filter((arg) => arg.startsWith('{"op":"settle"')).length,
      { timeout: 10_000, interval: 2 },
    )
    .toBe(count)
    .then(() =>
      Promise.all(
        world.upstash.log.map((call) =>
          expect.poll(() => call.answered, { interval: 2 }).toBeDefined(),
        ),
      ),
    )

describe.each(KINDS)('on %s', (kind) => {
  test.each([
    ['10 commands without', {}, 10],
    ['11 commands with', GLOBAL, 11],
  ])(
    'a request alone costs at most %s GLOBAL_LIMITS',
    async (_, vars, most) => {
      const gateway = await world.gateway(kind, vars)
      await eventOf(world.store, await ask(gateway, 'a-warm-up'))
      await world.redis.flush()
      world.upstash.reset()
      // The first of a day clears what has aged out of the indexes, as does every 64th after it.
      const first = await billed(async () => {
        await ask(gateway, 'the first')
        await settled(1)
      })
      expect(first).toBeLessThanOrEqual(most + 6)
      const second = await billed(async () => {
        await ask(gateway, 'somebody')
        await settled(2)
      })
      expect(second).toBeLessThanOrEqual(most)
      const many = await billed(async () => {
        for (let i = 0; i < 60; i += 1) {
          await ask(gateway, `user-${i % 20}`)
          await settled(i + 3)
        }
      })
      expect(many / 60).toBeLessThanOrEqual(most)
    },
    60_000,
  )

  test('there is one round trip before upstream is called, and one after the last byte', async () => {
    const gateway = await world.gateway(kind, GLOBAL)
    await eventOf(world.store, await ask(gateway, 'a-warm-up'))
    world.upstash.reset()
    const trips: number[] = []
    world.upstream.on('openai/gpt-oss-20b', () => {
      trips.push(world.upstash.log.length)
      return { gate: async () => void trips.push(world.upstash.log.length) }
    })
    await ask(gateway, 'somebody')
    await settled(1)
    expect(new Set(trips)).toEqual(new Set([1]))
    expect(world.upstash.log).toHaveLength(2)
  })
})

/** How many commands a sync of this user costs. */
const syncCost = (gateway: Gateway, user: string, tokens: number) =>
  billed(async () => {
    const day = { tokens, requests: 1, resetAt: nextDay(Date.now()) }
    const response = await fetch(`${gateway.url}/api/tracking/sync`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({
        userToken: `token-of-${user}`,
        modelUsage: Object.fromEntries(
          Array.from({ length: 64 }, (_, n) => [`model-${n}`, { minute: day, day }]),
        ),
      }),
    })
    await response.arrayBuffer()
    expect(response.status).toBe(200)
  })

test.each(KINDS)(
  'on %s a sync costs at most 7 commands, and 9 the first of a minute',
  async (kind) => {
    const gateway = await world.gateway(kind)
    await syncCost(gateway, 'a-warm-up', 1)
    for (const user of ['somebody', 'another']) await eventOf(world.store, await ask(gateway, user))
    const first = [await syncCost(gateway, 'somebody', 1), await syncCost(gateway, 'another', 1)]
    const next = [await syncCost(gateway, 'somebody', 2), await syncCost(gateway, 'somebody', 2)]
    console.log(`a sync on ${kind}: ${Math.max(...first)} commands, then ${Math.max(...next)}`)
    expect(Math.max(...first)).toBeLessThanOrEqual(9)
    // A minute may have ended meanwhile.
    expect(Math.min(...next)).toBeLessThanOrEqual(7)
  },
)

test.each(KINDS)(
  'on %s a usage call costs 4 commands, with 10 users and with 100,000',
  async (kind) => {
    const gateway = await world.gateway(kind)
    const costs: number[] = []
    for (const users of [10, 100_000]) {
      await world.redis.flush()
      await seedUsers(world.redis, users, Date.now())
      for (const query of ['', '?sort=tokens', '?limit=200']) {
        costs.push(await billed(() => adminGet(gateway, `/api/admin/usage${query}`)))
      }
    }
    expect(costs).toEqual(Array(6).fill(4))
  },
  60_000,
)

test('with 32 users in flight on Node a request costs at most 4 commands', async () => {
  const gateway = await world.gateway('node', GLOBAL)
  await eventOf(world.store, await ask(gateway, 'a-warm-up'))
  world.upstash.reset()
  const rounds = 20
  const commands = await billed(async () => {
    await Promise.all(
      Array.from({ length: 32 }, async (_, user) => {
        for (let i = 0; i < rounds; i += 1) await ask(gateway, `user-${user}`)
      }),
    )
    await settled(32 * rounds)
  })
  const each = commands / (32 * rounds)
  console.log(`32 users in flight: ${each.toFixed(2)} billed commands per request`)
  expect(each).toBeLessThanOrEqual(4)
}, 60_000)
