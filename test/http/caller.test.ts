import { Hono, type Context } from 'hono'
import { createHash, createHmac } from 'node:crypto'
import { expect, test } from 'vitest'
import { readConfig, type Vars } from '../../src/config/config.ts'
import type { AppEnv } from '../../src/context.ts'
import { asApiError, errorResponse } from '../../src/errors.ts'
import { createIdentify, storedIp, type Caller } from '../../src/identity/caller.ts'
import { createLog } from '../../src/log.ts'

type Request = { headers?: Record<string, string>; body?: string }

const warnings: string[] = []
const log = createLog({
  level: 'warn',
  format: 'json',
  write: (line) => warnings.push(line),
})

/** What `createIdentify` needs. A header contains the address, and another one what an untrusted header claims. */
const platform = (vars: Vars, now = Date.now) => ({
  config: readConfig({ NEW_USERS_PER_MINUTE: '0', ...vars }, 'node'),
  clientIp: (c: Context) => c.req.header('x-address'),
  claimedIp: (c: Context) => c.req.header('x-claimed'),
  fetchKeys: () => Promise.reject(new Error('nobody signs here')),
  now,
  log,
})

/** Identifies the caller of a request. */
async function identify({ headers = {}, body }: Request, vars: Vars = {}) {
  const app = new Hono<AppEnv>()
  const who = createIdentify(platform(vars))
  app.get('/', async (c) => c.json(await who(c, body)))
  app.onError((error, c) => errorResponse(c, asApiError(error), undefined))
  const answer = await app.request('/', { headers })
  return { status: answer.status, json: (await answer.json()) as unknown }
}

const callerOf = async (request: Request, vars?: Vars) => {
  const { status, json } = await identify(request, vars)
  expect(status).toBe(200)
  return json as Caller
}

const refusalOf = async (request: Request, vars?: Vars) => {
  const { status, json } = await identify(request, vars)
  const { error } = json as { error: { code: string; message: string } }
  return { status, ...error }
}

const TOKEN = 'a-user-token'
const bearer = (token: string) => ({ headers: { authorization: `Bearer ${token}` } })
const shorten = (digest: Buffer) => digest.subarray(0, 16).toString('base64url')
const plain = (token: string) => shorten(createHash('sha256').update(token).digest())

test.each<[string, Request]>([
  ['Authorization', bearer(TOKEN)],
  ['Authorization, in lower case', { headers: { authorization: `bearer ${TOKEN}` } }],
  ['Authorization, with blanks', { headers: { authorization: `BEARER   ${TOKEN}  ` } }],
  ['x-user-token', { headers: { 'x-user-token': TOKEN } }],
  ['x-user-token, with blanks', { headers: { 'x-user-token': `  ${TOKEN} ` } }],
  ['the body', { body: TOKEN }],
  ['the body, with blanks', { body: ` ${TOKEN}\n` }],
  ['both headers', { headers: { authorization: `Bearer ${TOKEN}`, 'x-user-token': TOKEN } }],
  ['a header and the body', { ...bearer(TOKEN), body: TOKEN }],
  [
    'all three',
    { headers: { authorization: `Bearer ${TOKEN}`, 'x-user-token': TOKEN }, body: TOKEN },
  ],
  ['a header beside an empty one', { headers: { authorization: '', 'x-user-token': TOKEN } }],
  ['a header beside an empty body token', { ...bearer(TOKEN), body: '' }],
])('accepts the token from %s', async (_, request) => {
  expect(await callerOf(request)).toEqual({ id: plain(TOKEN), isUnverified: true })
})

test.each<[string, Request]>([
  [
    'the headers',
    { headers: { authorization: `Bearer ${TOKEN}`, 'x-user-token': 'another-token' } },
  ],
  ['a header and the body', { ...bearer(TOKEN), body: 'another-token' }],
  ['x-user-token and the body', { headers: { 'x-user-token': TOKEN }, body: TOKEN.toUpperCase() }],
  ['a good one and a bad one', { ...bearer(TOKEN), body: 'x' }],
])('refuses two tokens that differ: %s', async (_, request) => {
  expect(await refusalOf(request)).toMatchObject({ status: 400, code: 'invalid_request' })
})

test.each<[string, Request]>([
  ['nothing', {}],
  ['an empty header', { headers: { authorization: '' } }],
  ['blanks only', { headers: { 'x-user-token': '   ' } }],
  ['an empty body token', { body: '' }],
])('asks for a token if there is %s', async (_, request) => {
  expect(await refusalOf(request)).toMatchObject({ status: 401, code: 'missing_token' })
})

test.each([8, 9, 511, 512])('takes a token of %i characters', async (length) => {
  expect(await callerOf(bearer('x'.repeat(length)))).toEqual({
    id: plain('x'.repeat(length)),
    isUnverified: true,
  })
})

test.each<[string, Request]>([
  ['1 character', bearer('x')],
  ['7 characters', bearer('x'.repeat(7))],
  ['513 characters', bearer('x'.repeat(513))],
  ['7 characters in blanks', { body: `   ${'x'.repeat(7)}   ` }],
  ['an umlaut', { headers: { 'x-user-token': 't\xf6ken-of-a-user' } }],
  ['an emoji', { body: 'token-of-\u{1f9ee}' }],
  ['a line end inside', { body: 'token-of\na-user' }],
  ['NUL', { body: 'token-of\0a-user' }],
  ['DEL', { body: 'token-of\x7fa-user' }],
  ['a tab inside', { headers: { 'x-user-token': 'token-of\ta-user' } }],
])('refuses a token of %s', async (_, request) => {
  expect(await refusalOf(request)).toMatchObject({ status: 401, code: 'invalid_token' })
})

test.each(['Basic dTpw', 'basic dXNlcjpwYXNzd29yZA=='])(
  'the header %s of a proxy in front is no user token, and does not hide one',
  async (authorization) => {
    expect(await callerOf({ headers: { authorization, 'x-user-token': TOKEN } })).toEqual({
      id: plain(TOKEN),
      isUnverified: true,
    })
    expect(await callerOf({ headers: { authorization }, body: TOKEN })).toEqual({
      id: plain(TOKEN),
      isUnverified: true,
    })
    expect(await refusalOf({ headers: { authorization } })).toMatchObject({ code: 'missing_token' })
  },
)

test.each(['Basic', 'Bearer', 'Token a-user-token', 'a-user-token', 'Bearera-user-token'])(
  'refuses the Authorization header %s, even beside a good token',
  async (authorization) => {
    const both: Record<string, string> = { authorization, 'x-user-token': TOKEN }
    for (const headers of [{ authorization }, both]) {
      expect(await refusalOf({ headers })).toMatchObject({ status: 401, code: 'invalid_token' })
    }
  },
)

test.each<[string, Vars]>([
  ['without a secret', {}],
  ['with a secret', { USER_HASH_SECRET: 'a secret' }],
])('takes the admin key for a token like any other %s, and warns', async (_, vars) => {
  const ADMIN_KEY = 'an-admin-key-of-32-characters-xx'
  const ids = []
  for (const request of [bearer(ADMIN_KEY), { body: ` ${ADMIN_KEY}` }]) {
    warnings.length = 0
    ids.push((await callerOf(request, { ...vars, ADMIN_KEY })).id)
    expect(warnings).toEqual([expect.stringContaining('"admin_key.as_token"')])
    expect(warnings[0]).not.toContain(ADMIN_KEY)
  }
  // The same user each time, whose id is no hash of the key.
  expect(new Set(ids).size).toBe(1)
  expect(ids[0]).toMatch(/^[\w-]{22}$/)
  expect(ids[0]).not.toBe((await callerOf(bearer(ADMIN_KEY), vars)).id)
  warnings.length = 0
  expect(await callerOf(bearer(`${ADMIN_KEY}.`), { ...vars, ADMIN_KEY })).toHaveProperty('id')
  expect(warnings).toEqual([])
})

test('warns of the admin key as a token once a minute', async () => {
  const ADMIN_KEY = 'an-admin-key-of-32-characters-xx'
  let now = 0
  const app = new Hono<AppEnv>()
  const who = createIdentify(platform({ ADMIN_KEY }, () => now))
  app.get('/', async (c) => c.json(await who(c)))
  warnings.length = 0
  for (now of [60_000, 61_000, 119_999, 120_000]) await app.request('/', bearer(ADMIN_KEY))
  expect(warnings).toHaveLength(2)
})

const LIMITED = { NEW_USERS_PER_MINUTE: '60' }
const networkOf = async (address: string, more = {}, vars: Vars = LIMITED) =>
  (await callerOf({ headers: { 'x-user-token': TOKEN, 'x-address': address, ...more } }, vars))
    .network

test.each([
  ['an IPv4 address', '203.0.113.7', '::ffff:203.0.113.7', '203.0.113.8'],
  ['the first 64 bits', '2001:db8:1:2::9', '2001:DB8:1:2:ffff::1', '2001:db8:1:3::9'],
])('the network of a caller is %s', async (_, one, same, other) => {
  expect(await networkOf(one)).toMatch(/^[\w-]{11}$/)
  expect(await networkOf(one)).toBe(await networkOf(same))
  expect(await networkOf(one)).not.toBe(await networkOf(other))
  const stored = await networkOf(one, {}, { ...LIMITED, IP_STORAGE: 'off' })
  expect(stored).toBe(await networkOf(one))
})

test.each([
  ['new users are not limited', '203.0.113.7', {}, { NEW_USERS_PER_MINUTE: '0' }],
  ['the address is not known', 'unknown', {}, LIMITED],
  [
    'a header that is not trusted names another address',
    '203.0.113.7',
    { 'x-claimed': '' },
    LIMITED,
  ],
])('a caller has no network if %s', async (_, address, more, vars) => {
  expect(await networkOf(address, more, vars)).toBeUndefined()
})

test('shows no part of a token in a refusal', async () => {
  const wrong = { headers: { authorization: 'Bearer short', 'x-user-token': 'another' } }
  for (const request of [bearer('short'), bearer(`long-${'x'.repeat(600)}`), wrong]) {
    const { message } = await refusalOf(request)
    expect(message).not.toMatch(/short|another|long-/)
  }
})

test.each([
  TOKEN,
  'x'.repeat(512),
  ' ~!"#$%&\'()*+,-./'.trim(),
  'eyJhbGciOi.eyJzdWIi.c2lnbmF0dXJl',
])(
  'makes an id of 22 characters from %s, as an HMAC or without a secret as a plain hash',
  async (token) => {
    const secret = 'a secret, n\xf6t only of ASCII'
    const hmac = shorten(createHmac('sha256', secret).update(token).digest())
    const { id } = await callerOf(bearer(token), { USER_HASH_SECRET: secret })
    expect(id).toBe(hmac)
    expect(id).toMatch(/^[A-Za-z0-9_-]{22}$/)
    expect((await callerOf(bearer(token))).id).toBe(plain(token))
  },
)

test('gives the same id again and different ones to different tokens', async () => {
  const app = new Hono<AppEnv>()
  const who = createIdentify(platform({ USER_HASH_SECRET: 'a secret' }))
  app.get('/', async (c) => c.json(await who(c)))
  const ids = await Promise.all(
    Array.from({ length: 200 }, async (_, i) => {
      const answer = await app.request('/', bearer(`token-of-${i % 100}`))
      return ((await answer.json()) as Caller).id
    }),
  )
  expect(new Set(ids).size).toBe(100)
  expect(ids.slice(100)).toEqual(ids.slice(0, 100))
})

test.each<[Vars['IP_STORAGE'], string | undefined]>([
  ['full', '192.0.2.7'],
  ['truncated', '192.0.2.0'],
  ['off', undefined],
])('keeps an address as IP_STORAGE=%s says', async (IP_STORAGE, ip) => {
  const headers = { ...bearer(TOKEN).headers, 'x-address': '192.0.2.7' }
  expect(await callerOf({ headers }, { IP_STORAGE })).toEqual({
    id: plain(TOKEN),
    isUnverified: true,
    ip,
  })
})

test.each([
  ['192.0.2.7', '192.0.2.7', '192.0.2.0'],
  [' 192.0.2.7 ', '192.0.2.7', '192.0.2.0'],
  ['255.255.255.255', '255.255.255.255', '255.255.255.0'],
  ['::ffff:192.0.2.7', '192.0.2.7', '192.0.2.0'],
  ['::FFFF:192.0.2.7', '192.0.2.7', '192.0.2.0'],
  ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2:3:4:5:6', '2001:db8:1::'],
  ['2001:DB8:1:2::6', '2001:db8:1:2::6', '2001:db8:1::'],
  ['2001:db8::6', '2001:db8::6', '2001:db8:0::'],
  ['2001::6', '2001::6', '2001:0:0::'],
  ['2001:db8:1::', '2001:db8:1::', '2001:db8:1::'],
  ['::1', '::1', '0:0:0::'],
  ['::', '::', '0:0:0::'],
  ['::2:3:4:5:6:7:8', '::2:3:4:5:6:7:8', '0:2:3::'],
  ['fe80::1', 'fe80::1', 'fe80:0:0::'],
  ['64:ff9b::192.0.2.7', '64:ff9b::192.0.2.7', '64:ff9b:0::'],
  ['::192.0.2.7', '::192.0.2.7', '0:0:0::'],
])('keeps the address %s as %s, truncated as %s', (address, full, truncated) => {
  expect(storedIp(address, 'full')).toBe(full)
  expect(storedIp(address, 'truncated')).toBe(truncated)
  expect(storedIp(address, 'off')).toBeUndefined()
})

test.each([
  undefined,
  '',
  ' ',
  'unknown',
  'localhost',
  '_hidden',
  '<script>',
  '192.0.2',
  '192.0.2.7.7',
  '192.0.2.7:8080',
  '1.2.3.4::',
  '1.2.3.4:5:6:7::',
  '....',
  '1..2.3',
  '256.0.2.7',
  '1922.0.2.7',
  'cafe',
  'dead.beef',
  ':::',
  ':',
  '1:2:3',
  '1:2:3:4:5:6:7:8:9',
  '1::2::3',
  '12345::1',
  '[::1]',
  '[::1]:8080',
  'fe80::1%eth0',
  '192.0.2.7, 192.0.2.8',
  `${'1:'.repeat(40)}1`,
])('keeps nothing of %j, which is not an address', (address) => {
  expect(storedIp(address, 'full')).toBeUndefined()
  expect(storedIp(address, 'truncated')).toBeUndefined()
})
