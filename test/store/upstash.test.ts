import { Redis as Client } from '@upstash/redis/cloudflare'
import { createHash } from 'node:crypto'
import { beforeEach, expect, test } from 'vitest'
import { useDatabase } from '../support/database.ts'

import type { FaultAction } from '../support/upstash.ts'

const { redis, upstash } = useDatabase()

beforeEach(async () => {
  await redis.command(['SCRIPT', 'FLUSH'])
  await redis.resetStats()
})

type Options = Partial<ConstructorParameters<typeof Client>[0]>

const connect = (options: Options = {}): Client =>
  new Client({
    url: upstash.url,
    token: upstash.token,
    enableAutoPipelining: false,
    automaticDeserialization: false,
    retry: { retries: 0 },
    ...options,
  })

const post = async (path: string, body: string, headers: Record<string, string> = {}) => {
  const response = await fetch(upstash.url + path, {
    method: 'POST',
    headers: { authorization: `Bearer ${upstash.token}`, ...headers },
    body,
  })
  return { status: response.status, body: (await response.json()) as unknown }
}

const sha1 = (source: string): string => createHash('sha1').update(source).digest('hex')

/** Gives the next request this fault, and resolves when the request has arrived. */
const next = (action: FaultAction): Promise<void> =>
  new Promise((resolve) => {
    upstash.fault(() => {
      upstash.fault(undefined)
      resolve()
      return action
    })
  })

const encodings = ['base64', false] as const

test.each(encodings)('a string survives a round trip, encoding %s', async (responseEncoding) => {
  const client = connect({ responseEncoding })
  for (const value of ['', 'OK', 'a b', '"q"', 'zażółć 🦢 \u0000 \u2028', 'x'.repeat(100_000)]) {
    expect(await client.set('key', value)).toBe('OK')
    expect(await client.get('key')).toBe(value)
    expect(await redis.command(['GET', 'key'])).toBe(value)
  }
})

test.each(encodings)(
  'nulls, numbers and nested arrays keep, encoding %s',
  async (responseEncoding) => {
    const client = connect({ responseEncoding })
    const script = "return {1, 'é', false, {'deep', {2, 'ü', {}}}}"
    expect(await client.eval(script, [], [])).toEqual([1, 'é', null, ['deep', [2, 'ü', []]]])
    expect(await client.get('absent')).toBeNull()
    expect(await client.hset('hash', { a: 1, b: 'two' })).toBe(2)
    const parsing = connect({ responseEncoding, automaticDeserialization: true })
    expect(await parsing.hgetall('hash')).toEqual({ a: 1, b: 'two' })
    expect(await parsing.hmget('hash', 'a', 'absent')).toEqual({ a: 1, absent: null })
    expect(await parsing.hgetall('absent')).toBeNull()
    expect(await client.incrby('count', 41)).toBe(41)
  },
)

test('base64 keeps bytes that are not text, and leaves OK alone', async () => {
  const asked = { 'upstash-encoding': 'base64' }
  const script = JSON.stringify(['EVAL', 'return {"\\255\\0", {"OK", 1}}', '0'])
  expect(await post('/', script, asked)).toEqual({
    status: 200,
    body: { result: ['/wA=', ['OK', 1]] },
  })
  expect((await post('/', '["PING"]', asked)).body).toEqual({ result: 'UE9ORw==' })
  expect((await post('/', '["PING"]')).body).toEqual({ result: 'PONG' })
})

test('a pipeline answers every command, in order, errors between them', async () => {
  const client = connect()
  const pipeline = client.pipeline()
  pipeline.set('a', '1')
  pipeline.lpush('a', 'x')
  pipeline.incr('a')
  const [set, push, incr] = await pipeline.exec({ keepErrors: true })
  expect(set).toMatchObject({ result: 'OK' })
  expect(push?.error).toContain('WRONGTYPE Operation against a key')
  expect(incr).toMatchObject({ result: 2 })
  expect(upstash.log).toMatchObject([
    {
      path: '/pipeline',
      commands: [
        ['set', 'a', '1'],
        ['lpush', 'a', 'x'],
        ['incr', 'a'],
      ],
    },
  ])
})

test('commands of one tick share a request when the client pipelines by itself', async () => {
  const client = connect({ enableAutoPipelining: true })
  expect(await Promise.all([client.incr('a'), client.incr('a'), client.incr('a')])).toEqual([
    1, 2, 3,
  ])
  expect(upstash.log.map((call) => [call.path, call.commands.length])).toEqual([['/pipeline', 3]])
})

test('a transaction applies as one and keeps the errors of its commands apart', async () => {
  const client = connect()
  expect(await client.multi().set('a', 'é').incr('n').get('a').exec()).toEqual(['OK', 1, 'é'])
  expect(upstash.log).toMatchObject([{ path: '/multi-exec' }])
  expect(await post('/multi-exec', '[["INCR","a"],["INCR","n"]]')).toEqual({
    status: 200,
    body: [{ error: 'ERR value is not an integer or out of range' }, { result: 2 }],
  })
})

test('a transaction with a command that redis refuses to queue is dropped whole', async () => {
  expect(await post('/multi-exec', '[["SET","a","1"],["NOPE"]]')).toEqual({
    status: 400,
    body: { error: 'EXECABORT Transaction discarded because of previous errors.' },
  })
  expect(await redis.command(['DBSIZE'])).toBe(0)
})

test('a failed command is a 400 that carries the text of redis', async () => {
  await redis.command(['SET', 'a', 'text'])
  expect(await post('/', '["INCR","a"]')).toEqual({
    status: 400,
    body: { error: 'ERR value is not an integer or out of range' },
  })
  await expect(connect().incr('a')).rejects.toThrow('ERR value is not an integer')
})

test('evalsha answers noscript until the script is known', async () => {
  const client = connect()
  const source = 'return {KEYS[1], ARGV[1], ARGV[2]}'
  await expect(client.evalsha(sha1(source), ['k'], ['v', 1])).rejects.toThrow(
    'NOSCRIPT No matching script. Please use EVAL.',
  )
  expect(await client.eval(source, ['k'], ['v', 1])).toEqual(['k', 'v', '1'])
  expect(await client.evalsha(sha1(source), ['k'], ['v', 1])).toEqual(['k', 'v', '1'])
  expect(await client.scriptLoad(source)).toBe(sha1(source))
})

test('the script helper of the client falls back to eval once', async () => {
  const script = connect().createScript<number>("return redis.call('INCR', KEYS[1])")
  for (const n of [1, 2, 3]) expect(await script.exec(['a'], [])).toBe(n)
  const names = upstash.log.flatMap((call) => call.commands.map(([name]) => name))
  expect(names).toEqual(['evalsha', 'eval', 'evalsha', 'evalsha'])
})

test('a script with the flag of upstash runs, and by its own digest', async () => {
  const client = connect()
  const source = "#!lua flags=allow-key-locking\nreturn redis.call('INCR', KEYS[1])"
  const script = client.createScript<number>(source)
  for (const n of [1, 2]) expect(await script.exec(['a'], [])).toBe(n)
  expect(upstash.log).toHaveLength(3)
  expect(await client.scriptLoad(source)).toBe(sha1(source))
  expect(await client.scriptExists(sha1(source), sha1('other'))).toEqual([1, 0])
  expect(upstash.log[1]?.commands[0]?.[1]).toBe(source)
  await redis.command(['SCRIPT', 'FLUSH'])
  await expect(client.evalsha(sha1(source), ['a'], [])).rejects.toThrow('NOSCRIPT')
})

test('a wrong token is refused and runs nothing', async () => {
  const client = connect({ token: 'wrong' })
  await expect(client.set('a', '1')).rejects.toThrow('WRONGPASS invalid or missing auth token')
  const bare = await fetch(upstash.url, { method: 'POST', body: '["SET","a","1"]' })
  expect(bare.status).toBe(401)
  expect(await bare.json()).toEqual({ error: 'WRONGPASS invalid or missing auth token' })
  expect(await redis.command(['DBSIZE'])).toBe(0)
  expect(upstash.log).toHaveLength(2)
})

test('other methods are a 405', async () => {
  const headers = { authorization: `Bearer ${upstash.token}` }
  expect((await fetch(`${upstash.url}/get/a`, { headers })).status).toBe(405)
})

test.each([
  ['/', 'not json'],
  ['/', '[]'],
  ['/', '{}'],
  ['/pipeline', '[]'],
  ['/pipeline', '["PING"]'],
  ['/nowhere', '["PING"]'],
  ['/', '["WATCH","a"]'],
  ['/', '["BLPOP","a","0"]'],
  ['/', '["XREAD","BLOCK","0","STREAMS","s","$"]'],
  ['/multi-exec', '[["SET","a","1"],["SUBSCRIBE","c"]]'],
])('a post to %s of %s is a 400', async (path, body) => {
  expect(await post(path, body)).toMatchObject({
    status: 400,
    body: { error: expect.stringMatching(/^ERR /) },
  })
  expect(await redis.command(['DBSIZE'])).toBe(0)
})

test('the log tells when a request came and when it was answered', async () => {
  const start = performance.now()
  await connect().set('a', 1)
  const [call] = upstash.log
  expect(call).toMatchObject({ path: '/', commands: [['set', 'a', '1']] })
  expect(call?.at).toBeGreaterThanOrEqual(start)
  expect(call?.answered).toBeGreaterThanOrEqual(call?.at ?? Infinity)
  expect(call?.answered).toBeLessThanOrEqual(performance.now())
  upstash.reset()
  expect(upstash.log).toEqual([])
})

test('a fault sees the call and lets it pass when it asks for nothing', async () => {
  const seen: string[][] = []
  upstash.fault((call) => void seen.push(...call.commands))
  expect(await connect().incr('a')).toBe(1)
  expect(seen).toEqual([['incr', 'a']])
})

test.each([false, true])('a fault status replaces the answer, applied %s', async (apply) => {
  void next({ status: 500, body: '{"error":"ERR boom"}', apply })
  const client = connect()
  await expect(client.incr('a')).rejects.toThrow('ERR boom')
  expect(await client.incr('a')).toBe(apply ? 2 : 1)
})

test('a fault body that is not json reaches the client', async () => {
  void next({ status: 502, body: '<html>' })
  await expect(connect().incr('a')).rejects.toThrow('<html>')
  void next({ body: '{"result":7}' })
  expect(await connect().incr('a')).toBe(7)
})

test.each([false, true])('a destroyed socket loses the answer, applied %s', async (apply) => {
  void next({ reset: true, apply })
  const client = connect()
  await expect(client.incr('a')).rejects.toThrow('fetch failed')
  expect(upstash.log[0]).not.toHaveProperty('answered')
  expect(await client.incr('a')).toBe(apply ? 2 : 1)
})

test('a client that retries after a lost answer counts twice', async () => {
  void next({ reset: true, apply: true })
  expect(await connect({ retry: { retries: 1, backoff: () => 0 } }).incr('a')).toBe(2)
})

test.each([false, true])('a hang gives no answer, applied %s', async (apply) => {
  const controller = new AbortController()
  const arrived = next({ hang: true, apply })
  const call = connect({ signal: () => controller.signal }).incr('a')
  await arrived
  controller.abort()
  await expect(call).rejects.toThrow('aborted')
  expect(await connect().incr('a')).toBe(apply ? 2 : 1)
  expect(upstash.log[0]).not.toHaveProperty('answered')
})

test('a delay holds the request back', async () => {
  const client = connect()
  const arrived = next({ delay: 100 })
  const slow = client.incr('a')
  await arrived
  expect(await client.incr('a')).toBe(1)
  expect(await slow).toBe(2)
  const [call] = upstash.log
  expect((call?.answered ?? 0) - (call?.at ?? 0)).toBeGreaterThanOrEqual(99)
})

test('a delay of something applied holds only the answer back', async () => {
  const client = connect()
  const arrived = next({ delay: 100, apply: true })
  const slow = client.incr('a')
  await arrived
  expect(await client.incr('a')).toBe(2)
  expect(upstash.log[0]).not.toHaveProperty('answered')
  expect(await slow).toBe(1)
})

test.each([{ delay: 60_000 }, { hang: true }])('a reset drops what %o holds', async (action) => {
  const arrived = next(action)
  const dropped = expect(connect().incr('a')).rejects.toThrow('fetch failed')
  await arrived
  upstash.reset()
  await dropped
  expect(await connect().incr('a')).toBe(1)
})

test('a fault can wait for something of its own', async () => {
  const client = connect()
  let open = (): void => {}
  const gate = new Promise<undefined>((resolve) => (open = () => resolve(undefined)))
  upstash.fault((call) => (call.commands[0]?.[0] === 'get' ? gate : undefined))
  const read = client.get('a')
  await client.set('a', 'late')
  open()
  expect(await read).toBe('late')
})

test('commandstats counts the commands inside scripts and leaves chatter out', async () => {
  const client = connect()
  const source =
    "redis.call('INCR', KEYS[1]) redis.call('INCR', KEYS[1]) return redis.call('GET', KEYS[1])"
  const sha = await client.scriptLoad(source)
  expect(await client.evalsha(sha, ['a'], [])).toBe('2')
  expect(await client.multi().get('a').ping().exec()).toEqual(['2', 'PONG'])
  await redis.command(['OBJECT', 'ENCODING', 'a'])
  expect(await redis.commandstats()).toEqual({ evalsha: 1, incr: 2, get: 2, 'object|encoding': 1 })
  await redis.resetStats()
  expect(await redis.commandstats()).toEqual({})
})

test('a restart keeps the port and forgets keys and scripts', async () => {
  const client = connect()
  const { port } = redis
  const sha = await client.scriptLoad('return 1')
  await client.set('a', '1')
  await redis.restart()
  expect(redis.port).toBe(port)
  expect(await client.get('a')).toBeNull()
  await expect(client.evalsha(sha, [], [])).rejects.toThrow('NOSCRIPT')
})

test('a stopped redis is an error at once, and a restart heals it', async () => {
  const client = connect()
  await client.set('a', '1')
  await redis.stop('SIGKILL')
  await expect(client.get('a')).rejects.toThrow('ERR ')
  await expect(redis.command(['PING'])).rejects.toThrow('ECONNREFUSED')
  await redis.restart()
  expect(await client.set('a', '2')).toBe('OK')
  expect(await redis.command(['GET', 'a'])).toBe('2')
})
