/** Everything around a gateway, real or fake: Redis, its REST server, upstream, and the gateways. */
import { setTimeout } from 'node:timers/promises'
import { afterAll, beforeAll, beforeEach } from 'vitest'
import type { Vars } from '../../src/config/config.ts'
import type { Store } from '../../src/store/store.ts'
import { startGateway, type Gateway, type Kind } from './gateways.ts'
import { startRedis, type Redis } from './redis.ts'
import { redisStore } from './stores.ts'
import { startUpstash, type Upstash } from './upstash.ts'
import { startUpstream, type Upstream } from './upstream.ts'

export type World = {
  redis: Redis
  upstash: Upstash
  upstream: Upstream
  /** Reads the database that the gateways use. */
  store: Store
  /** A gateway with these variables. The same variables give the same gateway. */
  gateway(kind: Kind, vars?: Vars): Promise<Gateway>
}

/**
 * Waits until the requests of the test before have settled, for a moment at most: some never do. After the database was
 * emptied, they would be entered.
 */
async function settled(store: Store): Promise<void> {
  const isRunning = async () => {
    const { users } = await store.listUsers({ sort: 'lastActive', limit: 50, now: Date.now() })
    return users.some(({ usage }) => Object.keys(usage.leases).length > 0)
  }
  for (const end = Date.now() + 200; Date.now() < end && (await isRunning());) await setTimeout(5)
}

/** A world for the tests of a file: started before them, empty before each of them. */
export function useWorld(): World {
  const world = {} as World
  const gateways = new Map<string, Promise<Gateway>>()

  beforeAll(async () => {
    world.redis = await startRedis()
    world.upstash = await startUpstash(world.redis)
    world.upstream = await startUpstream()
    world.store = redisStore(world.upstash)
    world.gateway = (kind, vars = {}) => {
      // A variable that a test sets to undefined differs from one that it does not name.
      const key = `${kind} ${JSON.stringify(vars, (_, value: unknown) => value ?? null)}`
      const started =
        gateways.get(key) ??
        startGateway(kind, {
          GROQ_BASE_URL: world.upstream.url,
          KV_REST_API_URL: world.upstash.url,
          KV_REST_API_TOKEN: world.upstash.token,
          ...vars,
        })
      gateways.set(key, started)
      return started
    }
  })
  beforeEach(async () => {
    world.upstream.reset()
    world.upstash.reset()
    await settled(world.store)
    // The REST server's log keeps no trace of this wait.
    world.upstash.reset()
    await world.redis.flush()
  })
  afterAll(async () => {
    await Promise.all([...gateways.values()].map(async (gateway) => (await gateway).close()))
    await world.upstream.close()
    await world.upstash.close()
    await world.redis.stop()
  })
  return world
}
