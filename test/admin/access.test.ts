/** Who may use the admin's routes: all of them, as the OpenAPI document lists them, with each kind of credential. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { ADMIN_PATHS } from '../../scripts/openapi/admin-paths.ts'
import { PATHS } from '../../scripts/openapi/paths.ts'
import { createIssuedKeys } from '../../src/identity/issued-key.ts'
import { MINUTE_MS } from '../../src/ledger/windows.ts'
import { ownJwt } from '../support/issuer.ts'
import { BEARER, CROSS_ORIGIN, SAME_ORIGIN } from '../support/admin.ts'
import { ADMIN_KEY } from '../support/gateways.ts'
import { MODEL, SECRET, localApp, type LocalApp } from '../support/local-app.ts'

const USER = 'A'.repeat(22)
const VIEWER_KEY = 'key-of-vera-who-may-only-look-at-things'

let app: LocalApp
beforeAll(async () => {
  app = await localApp({
    ADMIN_KEYS: `vera:viewer:${VIEWER_KEY}`,
    ALERT_WEBHOOK_URL: 'https://alerts.example/hook',
    ALERT_FORMAT: 'slack',
  })
})
afterAll(() => app.close())

type Route = { method: string; path: string }

/** All routes that the admin's credentials open. */
const ROUTES: Route[] = Object.entries({ ...PATHS, ...ADMIN_PATHS }).flatMap(([path, methods]) =>
  Object.entries(methods)
    .filter(([, { who }]) => who === 'admin')
    .map(([method]) => ({
      method: method.toUpperCase(),
      path: path
        .replace('{userId}', USER)
        .replace('{keyId}', `${USER}.12345678`)
        .replace('{name}', 'pro')
        .replace('export', 'export?kind=users'),
    })),
)
const CHANGES = ROUTES.filter(({ method }) => method !== 'GET')

const send = ({ method, path }: Route, headers: Record<string, string>) =>
  app.send(path, { method, headers, ...(method !== 'GET' && { body: '' }) })

test('the document lists the routes that there are', () => {
  expect(ROUTES.length).toBeGreaterThanOrEqual(27)
})

const key = async () => (await createIssuedKeys(SECRET).make(USER)).key

test.each<[string, string, () => Promise<Record<string, string>>]>([
  ['no credential', 'missing_token', async () => ({})],
  ['a user’s token', 'invalid_token', async () => ({ authorization: 'Bearer token-of-a-user' })],
  ['a user’s token in its header', 'missing_token', async () => ({ 'x-user-token': 'a-token-1' })],
  ['an issued key', 'invalid_token', async () => ({ authorization: `Bearer ${await key()}` })],
  ['a wrong admin key', 'invalid_token', async () => ({ authorization: `Bearer ${ADMIN_KEY}x` })],
  ['the admin key as a user’s', 'missing_token', async () => ({ 'x-user-token': ADMIN_KEY })],
  ['a made-up session', 'missing_token', async () => ({ cookie: 'weir_session=1.x.y' })],
])('%s opens none of the admin’s routes', async (_, code, credential) => {
  const headers = await credential()
  for (const [n, route] of ROUTES.entries()) {
    // An address may send five wrong keys a minute.
    if (n % 5 === 0) app.clock.now += MINUTE_MS
    const { status, json } = await send(route, headers)
    expect([route, status, json.error.code]).toEqual([route, 401, code])
  }
  expect(await app.store.user(USER)).toBeUndefined()
})

/** All routes of users, with a body that is right. */
const USER_ROUTES: (Route & { body?: object })[] = Object.entries(PATHS).flatMap(
  ([path, methods]) =>
    Object.entries(methods)
      .filter(([, { who }]) => who.startsWith('user'))
      .map(([method]) => ({
        method: method.toUpperCase(),
        path: path.replace('{id}', MODEL),
        ...(method === 'post' && { body: bodyFor(path) }),
      })),
)

function bodyFor(path: string): object {
  if (path.endsWith('/sync')) return { modelUsage: {} }
  if (path === '/api/groq') return { prompt: 'Hi' }
  return { model: MODEL, messages: [], input: 'Hi' }
}

/** A transcription with the boundary `b`. */
const UPLOAD = [
  '--b\r\ncontent-disposition: form-data; name="model"\r\n\r\nwhisper-large-v3',
  '--b\r\ncontent-disposition: form-data; name="file"; filename="a.mp3"\r\n\r\nnothing to hear',
  '--b--\r\n',
].join('\r\n')

test('each route of users takes each kind of credential that is configured, and no other', async () => {
  const TOKENS = 'secret-of-an-application-of-the-tests'
  const gateway = await localApp({ USER_TOKENS: 'issued,signed', USER_TOKEN_SECRETS: TOKENS })
  try {
    const seconds = gateway.clock.now / 1000
    const issue = async (change?: object) => {
      const { json } = await gateway.admin('POST', 'keys', { user: 'ann' })
      if (change) await gateway.admin('PATCH', `keys/${json.id}`, change)
      return json
    }
    const deleted = await issue()
    await gateway.admin('DELETE', `keys/${deleted.id}`)
    const ending = await issue({ expires_at: gateway.clock.now + 1000 })
    gateway.clock.now += 2000
    const token = (exp: number, more = {}) => ownJwt({ sub: 'bob', exp, ...more }, TOKENS)
    const revoked = token(seconds + 600, { sub: 'carl', iat: seconds - 60 })
    const { json: carl } = await gateway.admin('GET', 'users?user=carl')
    await gateway.admin('PATCH', `users/${carl.userId}`, { notBefore: 'now' })
    const codes: [string, string | undefined, string][] = [
      ['none', undefined, 'missing_token'],
      ['any text', 'token-of-a-user', 'invalid_token'],
      ['an issued key', (await issue()).key, 'taken'],
      ['a mistyped key', `${(await issue()).key}x`, 'invalid_key'],
      ['a deleted key', deleted.key, 'invalid_key'],
      ['a disabled key', (await issue({ disabled: true })).key, 'disabled_key'],
      ['an expired key', ending.key, 'expired_key'],
      ['a signed token', token(seconds + 600), 'taken'],
      ['a forged token', `${token(seconds + 600)}x`, 'invalid_token'],
      ['an expired token', token(seconds - 600), 'expired_token'],
      ['a revoked token', revoked, 'expired_token'],
      ['the admin key', ADMIN_KEY, 'invalid_token'],
    ]
    expect(USER_ROUTES.length).toBeGreaterThanOrEqual(7)
    for (const [name, credential, expected] of codes) {
      for (const { method, path, body } of USER_ROUTES) {
        const isUpload = /audio\/tran/.test(path)
        const headers = {
          'content-type': isUpload ? 'multipart/form-data; boundary=b' : 'application/json',
          ...(credential !== undefined && { authorization: `Bearer ${credential}` }),
        }
        const text = isUpload ? UPLOAD : body && JSON.stringify(body)
        const sent = { method, headers, ...(text && { body: text }) }
        const { json } = await gateway.send(path, sent)
        expect([name, path, json.error?.code ?? 'taken']).toEqual([name, path, expected])
      }
    }
    for (const line of gateway.log) {
      for (const [, credential] of codes) {
        if (credential) expect(line).not.toContain(credential)
      }
    }
  } finally {
    await gateway.close()
  }
})

async function session(key = ADMIN_KEY): Promise<Record<string, string>> {
  const body = JSON.stringify({ key })
  const { headers } = await app.send('/api/admin/login', { method: 'POST', body })
  return { cookie: headers.get('set-cookie')?.split(';')[0] ?? '' }
}

test.each<[string, () => Promise<Record<string, string>>]>([
  ['the admin key', async () => BEARER],
  ['a session', async () => ({ ...(await session()), ...SAME_ORIGIN })],
])('%s opens all of them, and no answer may be stored', async (_, credential) => {
  const headers = await credential()
  for (const route of ROUTES) {
    const answer = await send(route, headers)
    expect([route, [401, 403, 405, 500, 503].includes(answer.status)]).toEqual([route, false])
    expect([route, answer.headers.get('cache-control')]).toEqual([route, 'no-store'])
    expect(answer.headers.get('access-control-allow-origin')).toBeNull()
  }
})

/** What only admins may read: it has addresses, or the hashes of keys. */
const ADMINS_READ = ['/api/admin/export?kind=users', '/api/admin/policy']

test.each<[string, () => Promise<Record<string, string>>]>([
  ['the key', async () => ({ authorization: `Bearer ${VIEWER_KEY}` })],
  ['a session', async () => ({ ...(await session(VIEWER_KEY)), ...SAME_ORIGIN })],
])('with %s a viewer reads, exports nothing and changes nothing', async (_, credential) => {
  const headers = await credential()
  for (const route of ROUTES) {
    const { status, json } = await send(route, headers)
    const isOpen = route.method === 'GET' && !ADMINS_READ.includes(route.path)
    expect([route, status === 403]).toEqual([route, !isOpen])
    if (!isOpen) expect(json.error.code).toBe('forbidden')
  }
})

test.each(CROSS_ORIGIN)('a page elsewhere (%o) changes nothing with a session', async (where) => {
  const cookie = await session()
  for (const route of CHANGES) {
    const { status, json } = await send(route, { ...cookie, ...where })
    expect([route, status, json.error.code]).toEqual([route, 403, 'cross_origin'])
  }
})

test('without ADMIN_KEY each of them says so', async () => {
  const open = await localApp({ ADMIN_KEY: '' })
  try {
    for (const { method, path } of ROUTES) {
      const { status, json } = await open.send(path, { method, headers: BEARER })
      expect([path, status, json.error.code]).toEqual([path, 503, 'not_configured'])
    }
  } finally {
    await open.close()
  }
})
