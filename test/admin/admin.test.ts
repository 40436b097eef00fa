import { createHash } from 'node:crypto'
import { generateSignedCookie } from 'hono/cookie'
import { beforeEach, describe, expect, test } from 'vitest'
import { DAY_MS } from '../../src/ledger/windows.ts'
import { BEARER, CROSS_ORIGIN, SAME_ORIGIN, logIn } from '../support/admin.ts'
import { ADMIN_KEY, KINDS, type Gateway } from '../support/gateways.ts'
import { useWorld } from '../support/world.ts'

const world = useWorld()

const USER = 'A'.repeat(22)
const OTHER_KEY = 'another-admin-key-of-the-tests'

type Route = {
  method: string
  path: string
  /** Sent as JSON, or as the fields of a form. */
  body?: Record<string, unknown>
  /** The status for the admin. */
  status: number
}

const json = (body: Record<string, unknown>) => ({
  headers: { 'content-type': 'application/json' },
  body: JSON.stringify(body),
})

/** All routes that are only for the admin. */
const ROUTES: Route[] = [
  { method: 'GET', path: '/api/admin/usage', status: 200 },
  {
    method: 'POST',
    path: '/api/admin/usage',
    body: { userId: USER, model: '*', blocked: true },
    status: 200,
  },
  { method: 'GET', path: '/api/admin/export?kind=users', status: 200 },
  { method: 'GET', path: '/api/admin/export?kind=events&format=ndjson', status: 200 },
  { method: 'DELETE', path: `/api/admin/users/${USER}`, status: 200 },
  { method: 'GET', path: '/api/tokens', status: 200 },
  { method: 'GET', path: '/api/tokens?action=history&days=3', status: 200 },
  { method: 'DELETE', path: '/api/tokens', status: 200 },
  { method: 'GET', path: '/api/admin/anything-else', status: 404 },
]

/** The pages and their forms. They need a browser session. */
const PAGES: Route[] = [
  { method: 'GET', path: '/admin', status: 200 },
  { method: 'GET', path: `/admin/users/${USER}`, status: 200 },
  { method: 'GET', path: '/admin/anything-else', status: 404 },
  { method: 'POST', path: '/admin/find', status: 303 },
  { method: 'POST', path: `/admin/users/${USER}/block`, status: 303 },
  // The box is not ticked.
  { method: 'POST', path: `/admin/users/${USER}/erase`, status: 400 },
  { method: 'POST', path: `/admin/users/${USER}/unblock`, status: 303 },
]

const visit = (gateway: Gateway, { method, path }: Route, headers: Record<string, string>) =>
  fetch(`${gateway.url}${path}`, {
    method,
    headers,
    redirect: 'manual',
    body: method === 'POST' ? new URLSearchParams({ q: USER, model: '*', sure: 'on' }) : null,
  })

const ask = (gateway: Gateway, { method, path, body }: Route, headers: Record<string, string>) => {
  const { headers: type, body: text } = body ? json(body) : { headers: {}, body: null }
  return fetch(`${gateway.url}${path}`, { method, headers: { ...type, ...headers }, body: text })
}

const MADE_UP = 'x'.repeat(43)

/** A cookie that is made with this key. */
async function madeUp(key: string, until: number): Promise<string> {
  const value = `${until}.${MADE_UP}`
  const cookie = await generateSignedCookie('weir_session', value, `weir admin session ${key}`)
  return cookie.split(';', 1)[0] ?? ''
}

let addresses = 0
/** Returns a new address, because each address may send only five wrong keys a minute. */
function anotherAddress(): Record<string, string> {
  const ip = `192.0.2.${(addresses += 1)}`
  return { 'x-forwarded-for': ip, 'cf-connecting-ip': ip }
}

type Credentials = (gateway: Gateway) => Promise<Record<string, string>>

const REFUSED: [string, string, Credentials][] = [
  ['no credentials', 'missing_token', async () => ({})],
  ['an empty bearer', 'missing_token', async () => ({ authorization: 'Bearer ' })],
  [
    'a wrong bearer',
    'invalid_token',
    async () => ({ authorization: 'Bearer wrong-key-of-16-ch', ...anotherAddress() }),
  ],
  ['another scheme', 'missing_token', async () => ({ authorization: `Basic ${ADMIN_KEY}` })],
  ['the key as a user token', 'missing_token', async () => ({ 'x-user-token': ADMIN_KEY })],
  ['a cookie of words', 'missing_token', async () => ({ cookie: 'weir_session=let-me-in' })],
  [
    'a forged cookie',
    'missing_token',
    async () => ({ cookie: await madeUp('guessed-admin-key', Date.now() + DAY_MS) }),
  ],
  [
    'a cookie whose end was moved',
    'missing_token',
    async (gateway) => {
      const { cookie } = await logIn(gateway)
      return { cookie: cookie.replace(/=(\d+)/, (_, until: string) => `=${Number(until) + 1}`) }
    },
  ],
  [
    'a signed cookie of no session',
    'missing_token',
    async () => ({ cookie: await madeUp(ADMIN_KEY, Date.now() + DAY_MS) }),
  ],
  [
    'an expired cookie',
    'missing_token',
    async () => {
      // The database still has the session.
      const [now, hash] = [Date.now(), createHash('sha256').update(MADE_UP).digest('base64url')]
      await world.store.execute({ op: 'login', session: hash, until: now + DAY_MS, now })
      return { cookie: await madeUp(ADMIN_KEY, now - 1) }
    },
  ],
  [
    'the cookie of a session that was logged out',
    'missing_token',
    async (gateway) => {
      const credentials = await logIn(gateway)
      const headers = { ...credentials, ...SAME_ORIGIN }
      await fetch(`${gateway.url}/api/admin/logout`, { method: 'POST', headers })
      return credentials
    },
  ],
  [
    'the cookie of a session from before a change of the key',
    'missing_token',
    async (gateway) =>
      logIn(await world.gateway(gateway.kind, { ADMIN_KEY: OTHER_KEY }), OTHER_KEY),
  ],
]

const ADMITTED: [string, Credentials][] = [
  ['the key as bearer', async () => BEARER],
  ['the key as bearer, from a script', async () => ({ authorization: `bearer ${ADMIN_KEY}` })],
  ['a session', async (gateway) => ({ ...(await logIn(gateway)), ...SAME_ORIGIN })],
  [
    'a session of a browser that sends an Origin only',
    async (gateway) => ({ ...(await logIn(gateway)), origin: gateway.url }),
  ],
]

describe.each(KINDS)('on %s', (kind) => {
  let gateway: Gateway
  beforeEach(async () => {
    gateway = await world.gateway(kind, { TRUST_PROXY: 'on' })
  })

  test.each(REFUSED)('%s opens no admin route', async (_, code, credentials) => {
    for (const route of ROUTES) {
      await world.redis.flush()
      const response = await ask(gateway, route, { ...(await credentials(gateway)) })
      expect([route.path, response.status]).toEqual([route.path, 401])
      expect(await response.json()).toMatchObject({ error: { code } })
    }
  })

  test.each(ADMITTED)('%s opens every admin route', async (_, credentials) => {
    for (const route of ROUTES) {
      const response = await ask(gateway, route, await credentials(gateway))
      expect([route.path, response.status]).toEqual([route.path, route.status])
      expect(response.headers.get('cache-control')).toBe('no-store')
      expect(response.headers.get('access-control-allow-origin')).toBeNull()
      await response.arrayBuffer()
    }
  })

  test.each([...REFUSED, ['the key as bearer', '', async () => BEARER] as const])(
    'with %s every page is the login page, and no form does anything',
    async (_, __, credentials) => {
      for (const page of PAGES) {
        await world.redis.flush()
        const response = await visit(gateway, page, { ...(await credentials(gateway)) })
        expect([page.path, response.status]).toEqual([page.path, 401])
        expect(await response.text()).toContain('<title>Log in')
        expect(response.headers.get('cache-control')).toBe('no-store')
      }
      expect(await world.store.user(USER)).toBeUndefined()
    },
  )

  test('with a session every page opens, and every form does what it says', async () => {
    const now = Date.now()
    await world.store.execute({ op: 'block', now, user: USER, model: '*', block: { at: now } })
    for (const page of PAGES) {
      const session = { ...(await logIn(gateway)), ...SAME_ORIGIN }
      const response = await visit(gateway, page, session)
      expect([page.path, response.status]).toEqual([page.path, page.status])
      await response.arrayBuffer()
    }
  })

  test.each(CROSS_ORIGIN)('a page elsewhere (%o) posts no form of ours', async (elsewhere) => {
    const session = await logIn(gateway)
    for (const page of PAGES.filter(({ method }) => method === 'POST')) {
      const response = await visit(gateway, page, { ...session, ...elsewhere })
      expect([page.path, response.status]).toEqual([page.path, 403])
    }
    expect(await world.store.user(USER)).toBeUndefined()
  })

  test.each(CROSS_ORIGIN)('a page elsewhere (%o) changes nothing', async (elsewhere) => {
    const session = await logIn(gateway)
    const changes: Route[] = [
      ...ROUTES.filter(({ method }) => method !== 'GET'),
      { method: 'POST', path: '/api/admin/login', body: { key: ADMIN_KEY }, status: 200 },
      { method: 'POST', path: '/api/admin/logout', status: 200 },
    ]
    for (const route of changes) {
      const response = await ask(gateway, route, { ...session, ...elsewhere })
      expect([route.path, response.status]).toEqual([route.path, 403])
      expect(await response.json()).toMatchObject({ error: { code: 'cross_origin' } })
      expect(response.headers.get('set-cookie')).toBeNull()
    }
    expect((await ask(gateway, ROUTES[0]!, session)).status).toBe(200)
    expect(await world.store.user(USER)).toBeUndefined()
  })

  test('without ADMIN_KEY every admin route says so, and nobody is logged in', async () => {
    const open = await world.gateway(kind, { ADMIN_KEY: '' })
    for (const route of ROUTES) {
      const response = await ask(open, route, BEARER)
      expect([route.path, response.status]).toEqual([route.path, 503])
      expect(await response.json()).toMatchObject({ error: { code: 'not_configured' } })
    }
    const auth = await fetch(`${open.url}/api/admin/auth`)
    expect(await auth.json()).toEqual({ authenticated: false })
  })
})
