/** Commands as Upstash bills them: each command, also inside scripts. */
import { describe, expect, test } from 'vitest'
import { ALL_MODELS } from '../../src/ledger/documents.ts'
import { MINUTE_MS, nextDay } from '../../src/ledger/windows.ts'
import { quotaKey } from '../../src/store/redis/keys.ts'
import { BEARER, logIn } from '../support/admin.ts'
import { eventOf, KINDS, type Gateway } from '../support/gateways.ts'
import { seededId, seedUsers } from '../support/seed.ts'
import { useWorld } from '../support/world.ts'

const world = useWorld()

const MODEL = 'openai/gpt-oss-20b'
const METRICS_KEY = 'key-of-the-prometheus-of-the-tests'
const GLOBAL = { GLOBAL_LIMITS: '{"total":{"tokensPerDay":1000000000,"requestsPerDay":1000000}}' }
const FEW_AND_MANY = [10, 20_000]

async function ask(
  gateway: Gateway,
  user: string,
  model = MODEL,
  more: Record<string, string> = {},
): Promise<string | null> {
  const response = await fetch(`${gateway.url}/api/groq`, {
    method: 'POST',
    headers: { 'x-user-token': `token-of-${user}`, ...more },
    body: JSON.stringify({ model, stream: true, messages: [] }),
  })
  await response.arrayBuffer()
  expect(response.status).toBe(200)
  return response.headers.get('x-weir-id')
}

type Bill = { total: number; told: string }

async function billed(run: () => Promise<unknown>): Promise<Bill> {
  await world.redis.resetStats()
  await run()
  const stats = Object.entries(await world.redis.commandstats()).sort()
  const told = stats.map(([name, calls]) => (calls === 1 ? name : `${calls} ${name}`)).join(' ')
  return { total: stats.reduce((sum, [, calls]) => sum + calls, 0), told }
}

/** The settlements that the database has got. On a slow machine, a request may send one that another one carries too. */
const settlements = () =>
  world.upstash.log
    .flatMap(({ commands }) => commands.flat())
    .filter((arg) => arg.startsWith('{"op":"settle"'))

/** Settlements have ended when the database gets no more commands. A read of events would be billed too. */
const settled = (count: number) =>
  expect
    .poll(() => new Set(settlements()).size, { timeout: 10_000, interval: 2 })
    .toBe(count)
    .then(() =>
      Promise.all(
        world.upstash.log.map((call) =>
          expect.poll(() => call.answered, { interval: 2 }).toBeDefined(),
        ),
      ),
    )

/** The cost of each of `count` requests. Each is sent after the previous one is settled. */
async function alone(
  gateway: Gateway,
  count: number,
  userOf: (n: number) => string,
  model?: string,
): Promise<Bill[]> {
  const bills: Bill[] = []
  for (let n = 0; n < count; n += 1) {
    world.upstash.reset()
    const bill = await billed(async () => {
      await ask(gateway, userOf(n), model)
      await settled(1)
    })
    bills.push(bill)
  }
  return bills
}

const meanOf = (bills: Bill[]) => bills.reduce((sum, { total }) => sum + total, 0) / bills.length

/** Prints the measurements, and returns the mean. */
function tell(what: string, bills: Bill[]): number {
  const counts = new Map<string, number>()
  for (const { total, told } of bills) {
    const one = `${total} (${told})`
    counts.set(one, (counts.get(one) ?? 0) + 1)
  }
  const all = [...counts].map(([one, count]) => `${count} × ${one}`).join(', ')
  console.log(`${what}: ${meanOf(bills).toFixed(2)} commands: ${all}`)
  return meanOf(bills)
}

describe.each(KINDS)('on %s', (kind) => {
  // The number of users is a matter of the database, whatever the platform.
  const counts = kind === 'node' ? FEW_AND_MANY : [10]

  test.each(counts)(
    'with %i users a request alone costs 9 commands, and first requests a few more',
    async (users) => {
      const gateway = await world.gateway(kind, GLOBAL)
      await eventOf(world.store, await ask(gateway, 'a-warm-up'))
      await world.redis.flush()
      await seedUsers(world.redis, users, Date.now())
      const measure = async (what: string, ...args: [number, (n: number) => string, string?]) => {
        const bills = await alone(gateway, ...args)
        tell(`${kind}, ${users} users, ${what}`, bills)
        return bills.map(({ total }) => total).sort((a, b) => a - b)
      }
      const somebody = () => 'somebody'
      // It folds the previous day. Its admission and its end remove expired members from the indexes, and trim what is kept of
      // refusals: 4 commands each.
      const [first] = await measure('the first of a day', 1, somebody)
      expect(first).toBeLessThanOrEqual(40)
      // The index is updated each time a user's usage of the day doubles.
      const same = await measure('the same user', 20, somebody)
      expect(same.slice(0, -1)).toEqual(Array(19).fill(9))
      expect(same.at(-1)).toBeLessThanOrEqual(10)
      const [ofModel] = await measure('the first of a model in a day', 1, somebody, 'b/two')
      expect(ofModel).toBeLessThanOrEqual(12)
      expect(await measure('a model that is known', 1, somebody, 'b/two')).toEqual([9])
      expect(await measure('the first of a user', 1, () => 'another')).toEqual([10])
      const wide = await measure('each another user', 6, (n) => `user-${n}`)
      expect(wide).toEqual(Array(6).fill(10))
      const again = await measure('each of those once more', 6, (n) => `user-${n}`)
      expect(again).toEqual(Array(6).fill(9))
      // Then the script asks the database for the time.
      await putClockBack(2 * MINUTE_MS)
      expect(await measure('after two minutes without any', 1, somebody)).toEqual([10])
    },
    120_000,
  )

  test('alerts cost no command where nothing is told', async () => {
    const gateway = await world.gateway(kind, {
      ...GLOBAL,
      ...{ ALERT_WEBHOOK_URL: 'http://127.0.0.1:9/', ALERT_FORMAT: 'slack' },
    })
    await eventOf(world.store, await ask(gateway, 'a-warm-up'))
    const bills = await alone(gateway, 12, () => 'somebody')
    tell(`${kind}, with alerts, the same user`, bills)
    const totals = bills.slice(1).map(({ total }) => total)
    expect(totals.sort((a, b) => a - b).slice(0, -1)).toEqual(Array(10).fill(9))
  })

  test('a tag costs no command', async () => {
    const gateway = await world.gateway(kind, GLOBAL)
    const tagged = { 'x-weir-tag': 'search' }
    await eventOf(world.store, await ask(gateway, 'somebody', MODEL, tagged))
    world.upstash.reset()
    const bill = await billed(async () => {
      await ask(gateway, 'somebody', MODEL, tagged)
      await settled(1)
    })
    // The index is updated each time a user's usage of the day doubles.
    expect(bill.total).toBeLessThanOrEqual(10)
    expect(bill.told).toMatch(/^2 evalsha lpush 2 mget 2 mset 2 set( zadd)?$/)
  })

  test('there is one round trip before upstream is called, and one after the last byte', async () => {
    const gateway = await world.gateway(kind, GLOBAL)
    await eventOf(world.store, await ask(gateway, 'a-warm-up'))
    world.upstash.reset()
    const trips: number[] = []
    world.upstream.on(MODEL, () => {
      trips.push(world.upstash.log.length)
      return { gate: async () => void trips.push(world.upstash.log.length) }
    })
    await ask(gateway, 'somebody')
    await settled(1)
    expect(new Set(trips)).toEqual(new Set([1]))
    expect(world.upstash.log).toHaveLength(2)
  })

  test('a sync costs at most 7 commands, and the first of a minute one more', async () => {
    const gateway = await world.gateway(kind)
    await sync(gateway, 'a-warm-up', 1)
    for (const user of ['somebody', 'another']) await eventOf(world.store, await ask(gateway, user))
    const measure = async (what: string, user: string, tokens: number) => {
      const bill = await billed(() => sync(gateway, user, tokens))
      tell(`${kind}, a sync ${what}`, [bill])
      return bill.total
    }
    expect(await measure('that is the first of a minute', 'somebody', 1)).toBeLessThanOrEqual(8)
    const next = [
      await measure('with news', 'somebody', 2),
      await measure('without', 'somebody', 2),
    ]
    // A minute may have ended in between.
    expect(Math.min(...next)).toBeLessThanOrEqual(7)
    expect(Math.max(...next)).toBeLessThanOrEqual(8)
    expect(await measure('of nobody', 'nobody', 1)).toBeLessThanOrEqual(5)
  })

  test(`an admin costs the same with ${counts.join(' and with ')} users`, async () => {
    const gateway = await world.gateway(kind, { METRICS_KEY })
    const most = {
      '/metrics': 4,
      '/api/admin/usage': 7,
      '/api/admin/usage?sort=tokens': 7,
      '/api/admin/usage?limit=200': 7,
      '/admin': 12,
      [`/admin/users/${seededId(3)}`]: 12,
      'a refresh of /admin': 4,
      [`a refresh of /admin/users/${seededId(3)}`]: 4,
    }
    const bills: Record<string, Bill>[] = []
    for (const users of counts) {
      await world.redis.flush()
      await seedUsers(world.redis, users, Date.now())
      await eventOf(world.store, await ask(gateway, 'somebody'))
      const session = await logIn(gateway)
      const refresh = { ...session, 'x-weir-live': '1' }
      const bill = async (what: string) => {
        const path = what.slice(what.indexOf('/'))
        const scripts: Record<string, object> = {
          api: BEARER,
          metrics: { authorization: `Bearer ${METRICS_KEY}` },
        }
        const headers = (scripts[path.split('/')[1] ?? ''] ??
          (what === path ? session : refresh)) as Record<string, string>
        return billed(async () => {
          const response = await fetch(gateway.url + path, { headers })
          expect(response.status).toBe(200)
          await response.arrayBuffer()
        })
      }
      // The first read returns the models of the day.
      const first = await bill('/admin')
      tell(`${kind}, the first /admin`, [first])
      expect(first.total).toBeLessThanOrEqual(12)
      const found: Record<string, Bill> = {}
      for (const what of Object.keys(most)) found[what] = await bill(what)
      bills.push(found)
    }
    for (const [what, few] of Object.entries(bills[0] ?? {})) {
      tell(`${kind}, ${what}`, [few])
      expect(few.total).toBeLessThanOrEqual(most[what] ?? 0)
    }
    expect(bills.at(-1)).toEqual(bills[0])
  }, 60_000)
})

const IN_FLIGHT = 32
const ROUNDS = 20

/** What requests cost with many in flight. */
async function inFlight(gateway: Gateway, userOf: (slot: number, round: number) => string) {
  await eventOf(world.store, await ask(gateway, 'a-warm-up'))
  world.upstash.reset()
  const requests = IN_FLIGHT * ROUNDS
  const { total } = await billed(async () => {
    await Promise.all(
      Array.from({ length: IN_FLIGHT }, async (_, slot) => {
        for (let n = 0; n < ROUNDS; n += 1) await ask(gateway, userOf(slot, n))
      }),
    )
    await settled(requests)
  })
  const figures = { commands: total / requests, calls: world.upstash.log.length / requests }
  console.log(`${gateway.kind}, in flight: ${JSON.stringify(figures)}`)
  return figures
}

test.each([
  // Requests share whole calls here, and on the edge only those of settlements.
  ['node', { commands: 4, calls: 0.6 }],
  ['workerd', { commands: 6, calls: 1.1 }],
] as const)(
  'with 32 users in flight on %s a request costs at most %o on average',
  async (kind, most) => {
    const { commands, calls } = await inFlight(
      await world.gateway(kind, GLOBAL),
      (slot) => `user-${slot}`,
    )
    expect(commands).toBeLessThanOrEqual(most.commands)
    expect(calls).toBeLessThanOrEqual(most.calls)
  },
  60_000,
)

test('with 32 in flight on workerd, each of another user, a request costs at most 10 commands', async () => {
  const gateway = await world.gateway('workerd', GLOBAL)
  const { commands, calls } = await inFlight(gateway, (slot, round) => `user-${slot}-${round}`)
  expect(commands).toBeLessThanOrEqual(10)
  expect(calls).toBeLessThanOrEqual(1.1)
}, 60_000)

/** Sets the ledger's clock back by `ms`. */
async function putClockBack(ms: number): Promise<void> {
  const key = quotaKey(ALL_MODELS)
  const quota = JSON.parse(String(await world.redis.command(['GET', key]))) as { at: number }
  await world.redis.command(['SET', key, JSON.stringify({ ...quota, at: quota.at - ms })])
}

async function sync(gateway: Gateway, user: string, tokens: number): Promise<void> {
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
}
