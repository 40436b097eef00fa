/** Counts in the database how often a key is used in each minute. */
import { Ratelimit } from '@upstash/ratelimit'
import type { Redis } from '@upstash/redis'
import { guard, scriptOf } from './call.ts'
import { gather } from './gather.ts'
import { PREFIX } from './keys.ts'
import type { Store } from '../store.ts'

/** The most refused keys that are remembered. */
const REFUSED = 1000

/** The most turns that are asked for at once; others wait here, and do not make the database seem slow. */
const AT_ONCE = 64

type Commands = Pick<Redis, 'evalsha' | 'eval' | 'get' | 'set'>

/**
 * The limiter passes an empty key in place of an option that is off. A cluster refuses that key, because it belongs to
 * another node, and a database with permissions by key refuses it too. So the script sets the key itself.
 */
function withoutEmptyKeys(redis: Commands): Commands {
  const scripts = new Map<string, ReturnType<typeof scriptOf>>()
  return {
    ...{ get: redis.get, set: redis.set },
    // Then the limiter sends the text of its script.
    evalsha: () => Promise.reject(new Error('NOSCRIPT')),
    async eval<A extends unknown[], T>(text: string, keys: string[], args: A) {
      const script = scripts.get(text) ?? scriptOf(`KEYS[2] = KEYS[2] or ''\n${text}`)
      scripts.set(text, script)
      const given = keys.filter((key) => key !== '')
      return script<T>(redis, given, args.map(String))
    },
  }
}

/** The `takeTurn` of a store. `batch`: whether a request may wait for others. */
export function turnTaker(redis: Commands, { batch }: { batch: boolean }): Store['takeTurn'] {
  const limiters = new Map<number, Ratelimit>()
  /**
   * Keys without a turn left, so that a repeated request needs no database call. The limiter itself never removes a
   * key.
   */
  const refused = new Map<string, number>()

  const create = (perMinute: number) =>
    new Ratelimit({
      redis: withoutEmptyKeys(redis),
      limiter: Ratelimit.fixedWindow(perMinute, '1 m'),
      prefix: `${PREFIX}turns`,
      // No time-out here: the client has its own, and a time-out of the limiter would grant the turn.
      timeout: 0,
      ephemeralCache: refused,
    })

  const take: Store['takeTurn'] = async (key, perMinute) => {
    if (refused.size > REFUSED) refused.clear()
    const limiter = limiters.get(perMinute) ?? create(perMinute)
    limiters.set(perMinute, limiter)
    const { success, reset } = await guard(() => limiter.limit(key))
    return { taken: success, resetAt: reset }
  }
  if (!batch) return take
  const inTurn = gather<Parameters<typeof take>, Awaited<ReturnType<typeof take>>>({
    ...{ schedule: (go) => go(), size: 1, atOnce: AT_ONCE },
    run: ([call]) => Promise.all(call ? [take(...call)] : []),
  })
  return (...call) => inTurn(call)
}
