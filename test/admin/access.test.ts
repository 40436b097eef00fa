/** Who may use the admin's routes: all of them, as the OpenAPI document lists them, with each kind of credential. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { ADMIN_PATHS } from '../../scripts/openapi-admin-paths.ts'
import { PATHS } from '../../scripts/openapi-paths.ts'
import { createIssuedKeys } from '../../src/identity/issued-key.ts'
import { MINUTE_MS } from '../../src/ledger/windows.ts'
import { BEARER, CROSS_ORIGIN, SAME_ORIGIN } from '../support/admin.ts'
import { ADMIN_KEY } from '../support/gateways.ts'
import { SECRET, localApp, type LocalApp } from '../support/local-app.ts'

const USER = 'A'.repeat(22)

let app: LocalApp
beforeAll(async () => {
  app = await localApp()
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
  expect(ROUTES.length).toBeGreaterThanOrEqual(25)
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

async function session(): Promise<Record<string, string>> {
  const body = JSON.stringify({ key: ADMIN_KEY })
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
