/** One client, or a crowd of made-up users, that tries to shut everybody else out. */
import { beforeEach, describe, expect, test } from 'vitest'
import { minuteOf } from '../../src/ledger/windows.ts'
import { adminGet } from '../support/admin.ts'
import { ADMIN_KEY, eventOf, KINDS, type Gateway, type Kind } from '../support/gateways.ts'
import { useWorld } from '../support/world.ts'

const world = useWorld()

const MODEL = 'openai/gpt-oss-20b'
const LIMITED = { NEW_USERS_PER_MINUTE: '3' }

/** The header in which the platform, or a trusted proxy, tells the client's address. */
const ADDRESS = { node: 'x-forwarded-for', workerd: 'cf-connecting-ip' }
const behindProxy = (kind: Kind) => (kind === 'node' ? { TRUST_PROXY: 'on' } : {})
const from = (kind: Kind, address: string) => ({ [ADDRESS[kind]]: address })

/** A call of a user. */
const call = (gateway: Gateway, user: string, headers = {}, model = MODEL, more = {}) =>
  fetch(`${gateway.url}/api/groq/openai/v1/chat/completions`, {
    method: 'POST',
    headers: {
      authorization: `Bearer token-of-${user}`,
      'content-type': 'application/json',
      ...headers,
    },
    body: JSON.stringify({ model, messages: [{ role: 'user', content: 'hi' }], ...more }),
  })

const sync = (gateway: Gateway, user: string, headers = {}) =>
  fetch(`${gateway.url}/api/tracking/sync`, {
    method: 'POST',
    headers: { 'x-user-token': `token-of-${user}`, 'content-type': 'application/json', ...headers },
    body: JSON.stringify({ modelUsage: {} }),
  })

/** What became of a request: 200, or the code of its error. A call has settled by then. */
async function endOf(asked: Promise<Response>): Promise<200 | string> {
  const answer = await asked
  const body = (await answer.json()) as { error?: { code: string }; choices?: unknown }
  if (body.choices) await eventOf(world.store, answer.headers.get('x-weir-id'))
  return answer.ok ? 200 : (body.error?.code ?? `${answer.status}`)
}

/** Runs again what a minute ended in. */
async function inOneMinute(run: () => Promise<void>): Promise<void> {
  for (;;) {
    const minute = minuteOf(Date.now())
    try {
      return await run()
    } catch (error) {
      if (minuteOf(Date.now()) === minute) throw error
    }
  }
}

const warningsOf = ({ log }: Gateway, name: string) =>
  log.filter((line) => line.includes(`"msg":"${name}"`))

describe.each(KINDS)('on %s', (kind) => {
  test.each([400, 404, 503])(
    'requests that upstream answers with %i take nothing from everyone',
    async (status) => {
      const everyone = { requestsPerDay: 2, requestsPerMinute: 2, tokensPerDay: 6000 }
      const gateway = await world.gateway(kind, {
        GLOBAL_LIMITS: JSON.stringify({ total: everyone }),
      })
      world.upstream.on('no/such', { status, body: '{"error":{"message":"no"}}' })
      for (let n = 0; n < 5; n += 1) {
        const answer = await call(gateway, `attacker-${n}`, {}, 'no/such', { max_tokens: 2000 })
        expect(answer.status).toBe(status)
        await answer.text()
        await eventOf(world.store, answer.headers.get('x-weir-id'))
      }
      expect(await endOf(call(gateway, 'victim'))).toBe(200)
    },
  )

  test('so many new users of a network are served in a minute; known ones and other networks always', async () => {
    const gateway = await world.gateway(kind, { ...LIMITED, ...behindProxy(kind) })
    await inOneMinute(async () => {
      await world.redis.flush()
      const crowd = Array.from({ length: 6 }, (_, n) => `made-up-${n}`)
      const ends = []
      for (const user of crowd) {
        ends.push(await endOf(call(gateway, user, from(kind, '203.0.113.7'))))
      }
      expect(ends).toEqual([200, 200, 200, ...Array<string>(3).fill('too_many_users')])
      expect(await endOf(call(gateway, 'made-up-0', from(kind, '203.0.113.7')))).toBe(200)
      expect(await endOf(call(gateway, 'honest', from(kind, '198.51.100.1')))).toBe(200)
      const refused = await call(gateway, 'made-up-9', from(kind, '203.0.113.7'))
      expect(refused.status).toBe(429)
      expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0)
      expect(await refused.text()).toContain('New users of one network are limited to 3 a minute')
    })
    await inOneMinute(async () => {
      await world.redis.flush()
      const address = (n: number) => from(kind, `2001:db8:7:7::${n}`)
      const ends = []
      for (let n = 0; n < 5; n += 1) ends.push(await endOf(call(gateway, `v6-${n}`, address(n))))
      expect(ends.slice(3)).toEqual(['too_many_users', 'too_many_users'])
      expect(await endOf(call(gateway, 'v6-x', from(kind, '2001:db8:7:8::1')))).toBe(200)
    })
    const keys = (await world.redis.command(['KEYS', '*'])) as string[]
    expect(keys.join(' ')).not.toContain('2001')
    expect(world.upstream.seen.every(({ body }) => !String(body).includes('203.0.113'))).toBe(true)
  })

  test('a sync of a user who does not exist costs two commands, and then none', async () => {
    const gateway = await world.gateway(kind, { ...LIMITED, ...behindProxy(kind), PORT: '0' })
    const here = from(kind, '203.0.113.30')
    await inOneMinute(async () => {
      await world.redis.flush()
      await sync(gateway, 'warm-up', from(kind, '192.0.2.30'))
      await world.redis.resetStats()
      for (let n = 0; n < 3; n += 1) expect(await endOf(sync(gateway, `x-${n}`, here))).toBe(200)
      expect(await world.redis.commandstats()).toEqual({ evalsha: 3, mget: 3 })
      for (let n = 3; n < 20; n += 1) {
        expect(await endOf(sync(gateway, `x-${n}`, here))).toBe('too_many_users')
      }
      expect(await world.redis.commandstats()).toEqual({ evalsha: 3, mget: 3 })
      expect(await world.redis.command(['KEYS', '*'])).toEqual([])
    })
  })

  test('a user who exists takes no turn of the network', async () => {
    const gateway = await world.gateway(kind, {
      ...LIMITED,
      ...behindProxy(kind),
      LOG_LEVEL: 'info',
    })
    const here = from(kind, '203.0.113.40')
    await inOneMinute(async () => {
      await endOf(call(gateway, 'known', here))
      for (let n = 0; n < 10; n += 1) expect(await endOf(sync(gateway, 'known', here))).toBe(200)
      expect(await endOf(sync(gateway, 'unknown', here))).toBe(200)
    })
  })

  test('the admin key as a token is told what any token is told, and the log warns', async () => {
    const gateway = await world.gateway(kind, { DEFAULT_MODEL: MODEL })
    const as = async (token: string, path: string, method: string, body: string | null) => {
      const answer = await fetch(`${gateway.url}${path}`, {
        method,
        headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
        body,
      })
      // A sync tells what has been settled.
      if (answer.ok && path.startsWith('/api/groq') && method === 'POST') {
        await eventOf(world.store, answer.headers.get('x-weir-id'))
      }
      return [answer.status, (await answer.text()).replace(/"(id|x_groq|created)":[^,}]*/g, '')]
    }
    const ask = JSON.stringify({ model: MODEL, messages: [{ role: 'user', content: 'hi' }] })
    const requests: [string, string, string | null][] = [
      ['/api/groq/openai/v1/chat/completions', 'POST', ''],
      ['/api/groq/openai/v1/chat/completions', 'POST', ask],
      ['/api/groq', 'POST', '{"prompt":"hi"}'],
      ['/api/groq/openai/v1/models', 'GET', null],
      ['/api/tracking/sync', 'POST', '{"modelUsage":{}}'],
    ]
    for (const request of requests) {
      const told = await as(ADMIN_KEY, ...request)
      expect(told).toEqual(await as('a-wrong-guess-of-it', ...request))
    }
    expect(warningsOf(gateway, 'admin_key.as_token').length).toBeGreaterThan(0)
    expect(gateway.log.join('\n')).not.toContain(ADMIN_KEY)
  })

  test('wrong admin keys are in the log and in the audit trail, a crowd of them as one line', async () => {
    const gateway = await world.gateway(kind, { ...behindProxy(kind), EVENTS_KEPT: '9' })
    await inOneMinute(async () => {
      await world.redis.flush()
      const before = warningsOf(gateway, 'login.failed').length
      const headers = from(kind, '203.0.113.50')
      const post = { method: 'POST', headers: { 'content-type': 'application/json', ...headers } }
      const login = (key: string) =>
        fetch(`${gateway.url}/api/admin/login`, { ...post, body: JSON.stringify({ key }) })
      expect((await login(ADMIN_KEY)).status).toBe(200)
      for (let n = 0; n < 2; n += 1) expect((await login(`a-wrong-key-${n}-xxxx`)).status).toBe(401)
      const bearer = { ...headers, authorization: 'Bearer a-wrong-key-as-bearer' }
      const usage = `${gateway.url}/api/admin/usage`
      expect((await fetch(usage, { headers: bearer })).status).toBe(401)
      type Entry = { action: string; times?: number; ip?: string }
      const trail = async () =>
        (await adminGet<{ audit: Entry[] }>(gateway, '/api/admin/usage')).audit
      await expect.poll(async () => (await trail())[0]?.times).toBe(3)
      expect(await trail()).toMatchObject([
        { action: 'failed login', times: 3, ip: '203.0.113.50' },
        { action: 'login' },
      ])
      expect(warningsOf(gateway, 'login.failed').length - before).toBe(3)
      expect(gateway.log.join('\n')).not.toContain('a-wrong-key')
    })
  })

  test('usage of a request whose lease the database lost is counted, once', async () => {
    const limits = { '*': { tokensPerDay: 5000, requestsPerDay: 9 } }
    const gateway = await world.gateway(kind, { MODEL_LIMITS: JSON.stringify(limits) })
    let go = () => {}
    const emptied = new Promise<void>((resolve) => (go = resolve))
    world.upstream.on(MODEL, { hold: emptied })
    const arrived = world.upstream.next()
    const answering = call(gateway, 'alice')
    await arrived
    await world.redis.flush()
    go()
    const answer = await answering
    await answer.text()
    const id = answer.headers.get('x-weir-id')
    const { charged } = await eventOf(world.store, id)
    expect(charged).toBeGreaterThan(0)
    const { users, days } = await adminGet<{ users: unknown[]; days: unknown[] }>(
      gateway,
      '/api/admin/usage',
    )
    expect(users).toHaveLength(1)
    expect(days).toMatchObject([{ requests: 1, charged }])
    expect(gateway.log.filter((line) => line.includes('📊') && line.includes(id!))).toHaveLength(1)
  })
})

describe('behind a proxy that is not configured', () => {
  const LONG = 'kZ3v9QmX7tR2pLw8sYb4NcE6hGj1uFaD'
  const SHORT = 'an-admin-key-of-26-letters'
  const wrong = (n: number) => `a-wrong-key-number-${n}`
  /** Logs in through the proxy, which tells the client's address. */
  const login = async (
    gateway: Gateway,
    key: string,
    address: string,
    header = 'x-forwarded-for',
  ) => {
    const answer = await fetch(`${gateway.url}/api/admin/login`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', [header]: address },
      body: JSON.stringify({ key }),
    })
    return answer.status
  }
  let number = 0
  /** A gateway of its own: what an isolate counts in a minute stays. */
  const fresh = (vars = {}) => world.gateway('node', { ...vars, EVENTS_KEPT: `${(number += 1)}` })

  beforeEach(() => world.redis.flush())

  test.each([
    ['x-forwarded-for', '203.0.113.9', '198.51.100.7'],
    ['forwarded', 'for=203.0.113.9;proto=https', 'for="198.51.100.7:80";proto=https'],
    ['x-real-ip', '203.0.113.9', '2001:db8::7'],
    ['cf-connecting-ip', '203.0.113.9', '198.51.100.7'],
  ])(
    'guesses of one address do not lock out the admin of another: %s',
    async (header, his, hers) => {
      await inOneMinute(async () => {
        const gateway = await fresh({ ADMIN_KEY: SHORT })
        const statuses = []
        for (let n = 0; n < 7; n += 1) statuses.push(await login(gateway, wrong(n), his, header))
        expect(statuses).toEqual([401, 401, 401, 401, 401, 429, 429])
        expect(await login(gateway, SHORT, hers, header)).toBe(200)
        // The guesser does not learn whether his next key is right.
        expect(await login(gateway, SHORT, his, header)).toBe(429)
        expect(warningsOf(gateway, 'proxy.not_trusted')).toHaveLength(1)
        expect(warningsOf(gateway, 'proxy.not_trusted')[0]).toContain(header)
      })
    },
  )

  test('addresses that a guesser makes up get at most 60 keys a minute looked at', async () => {
    await inOneMinute(async () => {
      const gateway = await fresh({ ADMIN_KEY: SHORT })
      for (let n = 0; n < 60; n += 1) await login(gateway, wrong(n), `10.0.0.${n}`)
      expect(await login(gateway, SHORT, '10.0.1.1')).toBe(429)
    })
  })

  test('where the environment says that there is no proxy, such headers change nothing', async () => {
    await inOneMinute(async () => {
      const gateway = await fresh({ ADMIN_KEY: SHORT, TRUST_PROXY: 'off', ...LIMITED })
      for (let n = 0; n < 5; n += 1) await login(gateway, wrong(n), '203.0.113.9')
      expect(await login(gateway, SHORT, '198.51.100.7')).toBe(429)
      const ends = []
      for (let n = 0; n < 5; n += 1) {
        ends.push(await endOf(call(gateway, `new-${n}`, { 'x-forwarded-for': `192.0.2.${n}` })))
      }
      expect(ends).toContain('too_many_users')
      expect(warningsOf(gateway, 'proxy.not_trusted')).toHaveLength(1)
    })
  })

  test('a long key is always let in, and a wrong one still meets the wall', async () => {
    const gateway = await fresh({ ADMIN_KEY: LONG })
    const direct = (key: string) =>
      fetch(`${gateway.url}/api/admin/usage`, { headers: { authorization: `Bearer ${key}` } })
    for (let n = 0; n < 12; n += 1) await direct(wrong(n))
    expect((await direct(wrong(12))).status).toBe(429)
    expect((await direct(LONG)).status).toBe(200)
    expect(await login(gateway, LONG, '203.0.113.9')).toBe(200)
  })

  test('new users are not limited, since they share one address, and the log says so', async () => {
    const gateway = await fresh(LIMITED)
    for (let n = 0; n < 6; n += 1) {
      expect(await endOf(call(gateway, `user-${n}`, { 'x-forwarded-for': `192.0.2.${n}` }))).toBe(
        200,
      )
      expect(await endOf(sync(gateway, `page-${n}`, { 'x-real-ip': `192.0.2.${n}` }))).toBe(200)
    }
    expect(warningsOf(gateway, 'proxy.not_trusted')).toHaveLength(1)
    expect(warningsOf(gateway, 'proxy.not_trusted')[0]).toContain('TRUST_PROXY')
  })

  test('no header is a claim where the proxy is trusted', async () => {
    const gateway = await fresh({ TRUST_PROXY: 'on' })
    await sync(gateway, 'page', { 'x-forwarded-for': '192.0.2.1', 'x-real-ip': '192.0.2.2' })
    expect(warningsOf(gateway, 'proxy.not_trusted')).toEqual([])
  })
})
