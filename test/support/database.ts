/** The database for the tests of a file. */
import { afterAll, beforeAll, beforeEach } from 'vitest'
import { startRedis, type Redis } from './redis.ts'
import { startUpstash, type Upstash } from './upstash.ts'

/** Redis and its REST server for the tests of a file: started before them and empty before each of them. */
export function useDatabase(): { redis: Redis; upstash: Upstash } {
  const redis = {} as Redis
  const upstash = {} as Upstash

  beforeAll(async () => {
    Object.assign(redis, await startRedis())
    Object.assign(upstash, await startUpstash(redis))
  })
  beforeEach(async () => {
    upstash.reset()
    await redis.flush()
  })
  // A server that did not start has nothing to stop, and its own error is the one to show.
  afterAll(async () => {
    await upstash.close?.()
    await redis.stop?.()
  })
  return { redis, upstash }
}
