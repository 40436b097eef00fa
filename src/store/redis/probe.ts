/** Whether the database lets a script write, and whether it keeps what is written. */
import type { Scripts } from './call.ts'
import { PREFIX } from './keys.ts'

/**
 * Runs the kinds of writes that the ledger script runs, on a key of its own, and returns the policy by which the
 * database removes keys when its memory is full. Not every database tells that.
 */
const WRITES = `
local key = KEYS[1]
redis.call('MSET', key, 'here')
if redis.call('GET', key) ~= 'here' then
  return redis.error_reply('ERR the database does not return what was written')
end
redis.call('SET', key, 'here', 'EX', '60')
redis.call('DEL', key)
redis.call('LPUSH', key, 'here')
redis.call('LTRIM', key, 0, 0)
redis.call('EXPIRE', key, 60)
redis.call('DEL', key)
redis.call('ZADD', key, 1, 'here')
redis.call('ZREM', key, 'here')
local memory = redis.pcall('INFO', 'memory')
return type(memory) == 'string' and string.match(memory, 'maxmemory_policy:([%w-]+)') or ''
`

/** Resolves with the policy if the database may remove keys by itself. */
export async function tryWrites(redis: Scripts): Promise<string | undefined> {
  const policy = await redis.eval<[], string>(WRITES, [`${PREFIX}probe:${crypto.randomUUID()}`], [])
  return policy === '' || policy === 'noeviction' ? undefined : policy
}
