/** Several admins: names, roles, and what ends with a key. */
import { afterEach, expect, test } from 'vitest'
import { SAME_ORIGIN } from '../support/admin.ts'
import { ADMIN_KEY } from '../support/gateways.ts'
import { localApp, type LocalApp } from '../support/local-app.ts'

const ANN_KEY = 'key-of-ann-who-may-change-what-she-likes'
const VERA_KEY = 'key-of-vera-who-may-only-look-at-things'
const KEYS = `ann:admin:${ANN_KEY},vera:viewer:${VERA_KEY}`

let app: LocalApp
afterEach(() => app.close())

const bearer = (key: string) => ({ authorization: `Bearer ${key}` })

async function logIn(key: string): Promise<{ cookie: string }> {
  const body = JSON.stringify({ key })
  const { headers } = await app.send('/api/admin/login', { method: 'POST', body })
  return { cookie: headers.get('set-cookie')?.split(';')[0] ?? '' }
}

const block = (headers: Record<string, string>) =>
  app.send('/api/admin/usage', {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...SAME_ORIGIN, ...headers },
    body: JSON.stringify({ userId: 'A'.repeat(22), model: '*', blocked: true }),
  })

test('the audit trail says who did what, by a key and in a session', async () => {
  app = await localApp({ ADMIN_KEYS: KEYS })
  expect((await block(bearer(ADMIN_KEY))).status).toBe(200)
  expect((await block(await logIn(ANN_KEY))).status).toBe(200)
  const audit = await app.store.audit(9)
  expect(audit.map(({ action, by }) => [action, by])).toEqual([
    ['block', 'ann'],
    ['login', 'ann'],
    ['block', 'admin'],
  ])
})

test('a session says whose it is, and what they may do', async () => {
  app = await localApp({ ADMIN_KEYS: KEYS })
  const { json } = await app.send('/api/admin/auth', { headers: await logIn(VERA_KEY) })
  expect(json).toMatchObject({ authenticated: true, name: 'vera', role: 'viewer' })
})

test('a session ends when its key is taken out or changed, and other sessions stay', async () => {
  app = await localApp({ ADMIN_KEYS: KEYS })
  const [ann, vera] = [await logIn(ANN_KEY), await logIn(VERA_KEY)]
  await app.restart({ ADMIN_KEYS: `ann:admin:another-${ANN_KEY},vera:viewer:${VERA_KEY}` })
  const auth = async (headers: Record<string, string>) =>
    JSON.parse((await app.send('/api/admin/auth', { headers })).text).authenticated as boolean
  expect([await auth(ann), await auth(vera)]).toEqual([false, true])
})

test('without ADMIN_KEY the keys of ADMIN_KEYS open the admin routes', async () => {
  app = await localApp({ ADMIN_KEY: '', ADMIN_KEYS: KEYS })
  expect((await app.send('/api/admin/usage', { headers: bearer(ANN_KEY) })).status).toBe(200)
  expect((await app.send('/api/admin/usage', { headers: bearer(ADMIN_KEY) })).status).toBe(401)
})

test.each([
  ['a role that is none', 'ann:owner:key-of-ann-1234567'],
  ['a short key', 'ann:admin:short'],
  ['a name twice', 'ann:admin:key-of-ann-1234567,ann:viewer:key-of-ann-7654321'],
  ['a key twice', 'ann:admin:key-of-ann-1234567,vera:viewer:key-of-ann-1234567'],
  ['the name of ADMIN_KEY beside it', 'admin:admin:key-of-ann-1234567'],
  ['the key of ADMIN_KEY', `ann:admin:${ADMIN_KEY}`],
  ['no list', 'ann'],
])('ADMIN_KEYS with %s is refused, and the message quotes nothing of it', async (_, text) => {
  app = await localApp()
  const refused = await localApp({ ADMIN_KEYS: text }).catch((error: unknown) => String(error))
  expect(refused).toMatch(/ADMIN_KEYS must/)
  expect(refused).not.toContain('key-of-ann')
})

test('a viewer sees the pages without forms, exports and addresses', async () => {
  app = await localApp({ ADMIN_KEYS: KEYS })
  await app.ask('token-of-ann')
  const [user] = (await app.store.listUsers({ sort: 'lastActive', limit: 1, now: app.clock.now }))
    .users
  const id = user!.usage.id
  const [admin, viewer] = [await logIn(ANN_KEY), await logIn(VERA_KEY)]
  const formsOf = (text: string) =>
    [...text.matchAll(/<form[^>]* action="([^"]*)"/g)].map(([, action]) => action)
  const pages = ['/admin', '/admin/users', `/admin/users/${id}`, '/admin/plans', '/admin/settings']
  for (const path of pages) {
    const page = async (headers: Record<string, string>) => (await app.send(path, { headers })).text
    const [whole, shown] = [await page(admin), await page(viewer)]
    expect(formsOf(whole).length, path).toBeGreaterThan(formsOf(shown).length)
    const left = formsOf(shown).filter(
      (action) => !/logout|find|^\/admin(\/(users|requests|audit))?$/.test(action ?? ''),
    )
    expect(left, path).toEqual([])
    expect(shown, path).not.toMatch(/192\.0\.2\.1|\/api\/admin\/export/)
    expect(shown, path).toContain('vera')
  }
  for (const path of ['usage', `users/${id}`]) {
    const { text } = await app.send(`/api/admin/${path}`, { headers: bearer(VERA_KEY) })
    expect(text, path).not.toContain('192.0.2.1')
    expect((await app.send(`/api/admin/${path}`, { headers: bearer(ANN_KEY) })).text).toContain(
      '192.0.2.1',
    )
  }
})

test('keys and the refusal of tokens are offered only where the gateway takes them', async () => {
  const shown = async (vars: Record<string, string>) => {
    app = await localApp({ ADMIN_KEYS: KEYS, ...vars })
    await app.ask('token-of-ann')
    const { users } = await app.store.listUsers({
      sort: 'lastActive',
      limit: 1,
      now: app.clock.now,
    })
    const headers = await logIn(ANN_KEY)
    const [list, user] = await Promise.all(
      ['', `/${users[0]?.usage.id}`].map((path) => app.send(`/admin/users${path}`, { headers })),
    )
    return ['Make a key', 'New key', 'Refuse earlier tokens', 'does not accept issued keys'].map(
      (words) => `${list?.text}${user?.text}`.includes(words),
    )
  }
  expect(await shown({})).toEqual([false, false, false, true])
  await app.close()
  const USER_TOKEN_SECRETS = 'a-secret-of-at-least-32-characters-for-tokens'
  expect(await shown({ USER_TOKENS: 'any,issued,signed', USER_TOKEN_SECRETS })).toEqual([
    ...[true, true, true, false],
  ])
})

test('a viewer sees keys and nothing that opens a form', async () => {
  app = await localApp({ ADMIN_KEYS: KEYS, USER_TOKENS: 'any,issued' })
  const { json } = await app.admin('POST', 'keys', { user: 'ann', name: 'Laptop' })
  const { text } = await app.send(`/admin/users/${json.userId}`, { headers: await logIn(VERA_KEY) })
  const [, keys = ''] = /<section id="keys"(.*?)<\/section>/.exec(text) ?? []
  expect(keys).toContain('Laptop')
  expect(text.match(/<details class="form/g)).toBeNull()
})

test.each(['plans/save', 'settings/save', `users/${'A'.repeat(22)}/block`])(
  'a form of a viewer (%s) changes nothing',
  async (form) => {
    app = await localApp({ ADMIN_KEYS: KEYS })
    const headers = {
      ...(await logIn(VERA_KEY)),
      ...SAME_ORIGIN,
      'content-type': 'application/x-www-form-urlencoded',
    }
    const { status } = await app.send(`/admin/${form}`, { method: 'POST', headers, body: 'a=b' })
    expect(status).toBe(403)
  },
)
