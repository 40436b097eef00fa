import { createHash } from 'node:crypto'
import { beforeEach, describe, expect, test } from 'vitest'
import { readConfig } from '../../src/config/config.ts'
import type { AppContext, Deps } from '../../src/context.ts'
import type { ApiError } from '../../src/errors.ts'
import { createKeyCheck } from '../../src/identity/admin-key.ts'
import { DAY_MS } from '../../src/ledger/windows.ts'
import { sessionKey } from '../../src/store/redis/keys.ts'
import { adminGet, BEARER, logIn } from '../support/admin.ts'
import { ADMIN_KEY, KINDS, type Gateway } from '../support/gateways.ts'
import { useWorld } from '../support/world.ts'

const world = useWorld()

const WRONG = 'a-wrong-key-of-some-length'

const post = (gateway: Gateway, path: string, body?: unknown, headers = {}) =>
  fetch(`${gateway.url}/api/admin/${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: body === undefined ? null : JSON.stringify(body),
  })

const login = (gateway: Gateway, key: unknown, headers = {}) =>
  post(gateway, 'login', { key }, headers)

const authOf = async (gateway: Gateway, headers = {}) =>
  (await fetch(`${gateway.url}/api/admin/auth`, { headers })).json() as Promise<{
    authenticated: boolean
    expiresAt?: number
  }>

/** The session id in a cookie header. */
const idOf = (cookie: string) => decodeURIComponent(cookie.split('=')[1] ?? '').split('.')[1] ?? ''

describe.each(KINDS)('on %s', (kind) => {
  let gateway: Gateway
  beforeEach(async () => {
    gateway = await world.gateway(kind)
  })

  test('logging in opens a session for a day, in a cookie that no script can read', async () => {
    const before = Date.now()
    const response = await login(gateway, ADMIN_KEY)
    const { success, expiresAt } = (await response.json()) as Record<string, unknown>
    expect([response.status, success]).toEqual([200, true])
    expect(expiresAt).toBeGreaterThanOrEqual(before + DAY_MS)
    expect(expiresAt).toBeLessThanOrEqual(Date.now() + DAY_MS)
    const [pair, ...attributes] = (response.headers.get('set-cookie') ?? '').split('; ')
    expect(pair).toMatch(/^weir_session=/)
    expect(attributes.sort()).toEqual(['HttpOnly', 'Max-Age=86400', 'Path=/', 'SameSite=Strict'])
    expect(await authOf(gateway, { cookie: pair })).toEqual({
      authenticated: true,
      expiresAt,
      name: 'admin',
      role: 'admin',
    })
    expect(await authOf(gateway)).toEqual({ authenticated: false })
  })

  test('only the hash of a session is kept', async () => {
    const { cookie } = await logIn(gateway)
    const hash = createHash('sha256').update(idOf(cookie)).digest('base64url')
    const keys = (await world.redis.command(['KEYS', '*session*'])) as string[]
    expect(keys).toEqual([sessionKey(hash)])
    const everything = JSON.stringify(world.upstash.log.map(({ commands }) => commands))
    expect(everything).not.toContain(idOf(cookie))
    expect(Number(await world.redis.command(['PTTL', keys[0] ?? '']))).toBeGreaterThan(
      DAY_MS - 60_000,
    )
  })

  test('logging in again makes another session, and one that is sent along is not taken over', async () => {
    const first = await logIn(gateway)
    const response = await login(gateway, ADMIN_KEY, first)
    const second = { cookie: (response.headers.get('set-cookie') ?? '').split(';', 1)[0] ?? '' }
    expect(idOf(second.cookie)).not.toBe(idOf(first.cookie))
    await post(gateway, 'logout', undefined, second)
    expect((await authOf(gateway, second)).authenticated).toBe(false)
    expect((await authOf(gateway, first)).authenticated).toBe(true)
  })

  test('logging out ends the session at once, everywhere', async () => {
    const elsewhere = await world.gateway(kind, { LOG_LEVEL: 'error' })
    const session = await logIn(gateway)
    expect((await authOf(elsewhere, session)).authenticated).toBe(true)
    const response = await post(gateway, 'logout', undefined, session)
    expect(await response.json()).toEqual({ success: true })
    expect(response.headers.get('set-cookie')).toMatch(
      /^weir_session=; Max-Age=0;.*, __Host-weir_session=; Max-Age=0;/,
    )
    for (const one of [gateway, elsewhere]) {
      expect(await authOf(one, session)).toEqual({ authenticated: false })
    }
  })

  test('with the database away a logout fails, but the browser forgets the session', async () => {
    const cut = await world.gateway(kind, { STORE_TIMEOUT_MS: '202' })
    const session = await logIn(cut)
    world.upstash.fault(() => ({ reset: true }))
    const form = { 'content-type': 'application/x-www-form-urlencoded' }
    for (const headers of [session, { ...session, ...form }]) {
      const response = await post(cut, 'logout', undefined, headers)
      expect(response.status).toBe(503)
      expect(response.headers.get('set-cookie')).toMatch(
        /^weir_session=; Max-Age=0;.*, __Host-weir_session=; Max-Age=0;/,
      )
    }
  })

  test('a logout without a session succeeds', async () => {
    expect((await post(gateway, 'logout')).status).toBe(200)
  })

  test('a form logs in and out and is sent to the dashboard', async () => {
    const form = (path: string, fields: Record<string, string>, headers = {}) =>
      fetch(`${gateway.url}/api/admin/${path}`, {
        method: 'POST',
        headers,
        body: new URLSearchParams(fields),
        redirect: 'manual',
      })
    const response = await form('login', { key: ADMIN_KEY })
    expect([response.status, response.headers.get('location')]).toEqual([303, '/admin'])
    const session = { cookie: (response.headers.get('set-cookie') ?? '').split(';', 1)[0] ?? '' }
    expect((await authOf(gateway, session)).authenticated).toBe(true)
    const out = await form('logout', {}, session)
    expect([out.status, out.headers.get('location')]).toEqual([303, '/admin'])
    expect((await authOf(gateway, session)).authenticated).toBe(false)
  })

  test.each([
    ['no key', {}, 'invalid_request'],
    ['a number', { key: 5 }, 'invalid_request'],
    ['a list', [], 'invalid_json'],
    ['an empty key', { key: '' }, 'invalid_token'],
  ])('a login with %s is refused and says why', async (_, body, code) => {
    const response = await post(gateway, 'login', body)
    expect(response.status).toBe(code === 'invalid_token' ? 401 : 400)
    expect(await response.json()).toMatchObject({ error: { code } })
    expect(response.headers.get('set-cookie')).toBeNull()
  })

  test('a wrong key opens nothing and is repeated nowhere', async () => {
    const response = await login(gateway, WRONG)
    const text = await response.text()
    expect(response.status).toBe(401)
    expect(response.headers.get('set-cookie')).toBeNull()
    expect(text + gateway.log.join() + JSON.stringify(world.upstash.log)).not.toContain(WRONG)
    expect(await world.redis.command(['KEYS', '*session*'])).toEqual([])
  })

  test('five wrong keys a minute, at login and as bearer together, then none is looked at', async () => {
    // A separate gateway, because a gateway remembers wrong keys.
    const limited = await world.gateway(kind, { MAX_COMPLETION_TOKENS: '2501' })
    const bearer = (key: string) =>
      fetch(`${limited.url}/api/admin/usage`, { headers: { authorization: `Bearer ${key}` } })
    const tries = [
      await login(limited, WRONG),
      await bearer(WRONG),
      await login(limited, WRONG),
      await bearer(WRONG),
      await login(limited, WRONG),
    ]
    // The limiter's minute may end in between.
    expect(tries.map(({ status }) => status)).toEqual(Array(5).fill(401))
    let refused = await login(limited, WRONG)
    for (let more = 0; refused.status === 401 && more < 6; more += 1) {
      refused = await login(limited, WRONG)
    }
    expect(refused.status).toBe(429)
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0)
    expect(Number(refused.headers.get('retry-after'))).toBeLessThanOrEqual(60)
    expect(await refused.json()).toMatchObject({ error: { code: 'rate_limit_exceeded' } })
    const calls = world.upstash.log.length
    expect((await login(limited, ADMIN_KEY)).status).toBe(429)
    expect((await bearer(ADMIN_KEY)).status).toBe(429)
    expect(world.upstash.log).toHaveLength(calls)
  })

  test('wrong keys count together, whichever instance they are sent to', async () => {
    const [first, second] = await Promise.all(
      ['2506', '2507'].map((MAX_COMPLETION_TOKENS) =>
        world.gateway(kind, { MAX_COMPLETION_TOKENS }),
      ),
    )
    if (!first || !second) throw new Error('two are started')
    // The limiter's minute may end in between.
    for (let n = 0; n < 10; n += 1) await login(first, WRONG)
    expect((await login(second, WRONG)).status).toBe(429)
    expect((await login(second, ADMIN_KEY)).status).toBe(429)
  })

  test('the right key uses no turn of the limiter', async () => {
    for (let n = 0; n < 8; n += 1) expect((await login(gateway, ADMIN_KEY)).status).toBe(200)
    expect(await world.redis.command(['KEYS', '*turns*'])).toEqual([])
  })

  test('actions of admins are recorded with their address', async () => {
    const session = await logIn(gateway)
    await post(gateway, 'logout', undefined, session)
    await fetch(`${gateway.url}/api/admin/export?kind=days`, { headers: BEARER })
    const { audit } = await adminGet<{ audit: { action: string; ip?: string }[] }>(
      gateway,
      '/api/admin/usage',
    )
    expect(audit.map(({ action }) => action)).toEqual(['export', 'logout', 'login'])
    if (kind === 'node') expect(audit.map(({ ip }) => ip)).toEqual(Array(3).fill('127.0.0.1'))
  })

  test('of a crowd of wrong keys at once five are looked at, and the right one behind them is not', async () => {
    const limited = await world.gateway(kind, { MAX_COMPLETION_TOKENS: '2502' })
    const guesses = Array.from({ length: 40 }, (_, n) => login(limited, `${WRONG}-${n}`))
    const refused = async (guess: ReturnType<typeof login>) => {
      if ((await guess).status !== 429) throw new Error('not refused')
    }
    // Requests that are sent at once may arrive in another order.
    await Promise.any(guesses.map(refused))
    const { status: right } = await login(limited, ADMIN_KEY)
    const statuses = (await Promise.all(guesses)).map(({ status }) => status)
    // A minute may end in between.
    const looked = statuses.filter((status) => status === 401).length
    expect(looked).toBeLessThanOrEqual(10)
    if (looked <= 5) expect(right).toBe(429)
    expect(statuses.filter((status) => status === 429).length).toBeGreaterThan(20)
  })

  test('with the database away no more keys are looked at, and none gets a cookie', async () => {
    const cut = await world.gateway(kind, { STORE_TIMEOUT_MS: '201' })
    world.upstash.fault(() => ({ reset: true }))
    const right = await login(cut, ADMIN_KEY)
    expect([right.status, right.headers.get('set-cookie')]).toEqual([503, null])
    const statuses: number[] = []
    for (let n = 0; n < 12; n += 1) {
      const headers = { authorization: `Bearer ${WRONG}-${n}` }
      statuses.push((await fetch(`${cut.url}/api/admin/export`, { headers })).status)
    }
    expect(statuses.slice(0, 5)).toEqual(Array(5).fill(503))
    expect(statuses.at(-1)).toBe(429)
    expect((await fetch(`${cut.url}/api/admin/export`, { headers: BEARER })).status).toBe(429)
  })

  test('with the database away nobody is logged in, and no key is told to be right', async () => {
    const cut = await world.gateway(kind, { STORE_TIMEOUT_MS: '200' })
    const session = await logIn(cut)
    world.upstash.fault(() => ({ reset: true }))
    for (const answer of [
      await login(cut, ADMIN_KEY),
      await login(cut, WRONG),
      await fetch(`${cut.url}/api/admin/usage`, { headers: session }),
      await fetch(`${cut.url}/api/admin/usage`, { headers: BEARER }),
      await fetch(`${cut.url}/api/admin/usage`, { headers: { authorization: `Bearer ${WRONG}` } }),
      await fetch(`${cut.url}/api/admin/auth`, { headers: session }),
    ]) {
      expect(answer.status).toBe(503)
      expect(await answer.json()).toMatchObject({ error: { code: 'store_unavailable' } })
    }
  })
})

test('behind a proxy that ends TLS the cookie is bound to the host', async () => {
  const proxied = await world.gateway('node', { TRUST_PROXY: 'on' })
  const https = { 'x-forwarded-proto': 'https' }
  const response = await login(proxied, ADMIN_KEY, https)
  const cookie = response.headers.get('set-cookie') ?? ''
  expect(cookie).toMatch(/^__Host-weir_session=.*; Path=\/; HttpOnly; Secure; SameSite=Strict$/)
  const session = { cookie: cookie.split(';', 1)[0] ?? '' }
  expect((await authOf(proxied, { ...session, ...https })).authenticated).toBe(true)
  expect((await authOf(proxied, session)).authenticated).toBe(true)
  // Without a trusted proxy, the header is not reliable.
  const direct = await world.gateway('node')
  const plain = await login(direct, ADMIN_KEY, https)
  expect(plain.headers.get('set-cookie')).toMatch(/^weir_session=/)
  // The headers that a browser sends for a page of this origin.
  const page = { origin: 'https://weir.example', 'sec-fetch-site': 'same-origin' }
  const told = await login(direct, ADMIN_KEY, page)
  expect(told.headers.get('set-cookie')).toMatch(/^__Host-weir_session=.*; Secure;/)
})

test('wrong keys count by address: others may go on, but not others of the same IPv6 network', async () => {
  const proxied = await world.gateway('node', { TRUST_PROXY: 'on', CAP: 'strict' })
  const from = (ip: string, key = WRONG) => login(proxied, key, { 'x-forwarded-for': ip })
  for (let n = 0; n < 11; n += 1) await from(`2001:db8:1:2::${n}`)
  expect((await from('2001:db8:1:2:ffff::1', ADMIN_KEY)).status).toBe(429)
  expect((await from('2001:db8:1:3::1', ADMIN_KEY)).status).toBe(200)
  expect((await from('192.0.2.1', ADMIN_KEY)).status).toBe(200)
  const keys = (await world.redis.command(['KEYS', '*'])) as string[]
  expect(keys.join()).not.toContain('2001:db8')
})

test('of a thousand addresses wrong keys are remembered here, and of more by the database only', async () => {
  let address = ''
  const store = { takeTurn: async () => ({ taken: true, resetAt: 0 }) } as unknown as Deps['store']
  const config = readConfig({ ADMIN_KEY }, 'node')
  const check = createKeyCheck({
    config,
    store,
    now: () => 0,
    clientIp: () => address,
    claimedIp: () => undefined,
  } as unknown as Deps)
  const codeOf = (from: string) => {
    address = from
    return check({} as AppContext, WRONG).catch((error: ApiError) => error.code)
  }
  const codes: unknown[] = []
  for (let n = 0; n < 6; n += 1) codes.push(await codeOf('192.0.2.1'))
  expect(codes).toEqual([...Array<string>(5).fill('invalid_token'), 'rate_limit_exceeded'])
  for (let n = 0; n < 999; n += 1) await codeOf(`198.18.${n >> 8}.${n & 255}`)
  expect(await codeOf('192.0.2.1')).toBe('rate_limit_exceeded')
  await codeOf('198.51.100.1')
  expect(await codeOf('192.0.2.1')).toBe('invalid_token')
})

test('an address that a client makes up gives no new turns where no proxy is trusted', async () => {
  const direct = await world.gateway('node', { CAP: 'strict' })
  const answers: number[] = []
  for (let n = 0; n < 11; n += 1) {
    answers.push((await login(direct, WRONG, { 'x-forwarded-for': `192.0.2.${n}` })).status)
  }
  expect(answers.at(-1)).toBe(429)
})
