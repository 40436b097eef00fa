/** Signed tokens as user tokens: which are taken, whom they name, and what a gateway asks of an issuer for that. */
import { createHmac } from 'node:crypto'
import fc from 'fast-check'
import { Hono } from 'hono'
import { afterEach, beforeAll, afterAll, expect, test, vi } from 'vitest'
import { readConfig, type Vars } from '../../src/config/config.ts'
import type { AppEnv } from '../../src/context.ts'
import { asApiError, errorResponse } from '../../src/errors.ts'
import { createIdentify, type Caller } from '../../src/identity/caller.ts'
import { createKeySet } from '../../src/identity/key-set.ts'
import { createLog } from '../../src/log.ts'
import { nodeFetch } from '../../src/platform/node/http.ts'
import { startupLines } from '../../src/platform/node/startup.ts'
import {
  issuedJwt,
  jwt,
  ownJwt,
  pairOf,
  startIssuer,
  type LocalIssuer,
  type Pair,
} from '../support/issuer.ts'

const SECRET = 'secret-of-the-application-1-0123456789'
const OTHER_SECRET = 'secret-of-the-application-2-0123456789'
const HASH_SECRET = 'secret-of-the-tests'

const pairs = {
  rsa: pairOf('rsa', 'RS256'),
  pss: pairOf('pss', 'PS256'),
  ec: pairOf('ec', 'ES256'),
  ed: pairOf('ed', 'EdDSA'),
  stranger: pairOf('rsa', 'RS256'),
}

let one: LocalIssuer
let two: LocalIssuer

beforeAll(async () => {
  const { rsa, pss, ec, ed } = pairs
  one = await startIssuer('weir', rsa, pss, ec, ed)
  two = await startIssuer('another-app', pairOf('of-two'))
})
afterEach(() => {
  vi.restoreAllMocks()
  for (const issuer of [one, two]) issuer.answer = undefined
})
afterAll(() => Promise.all([one.close(), two.close()]))

/** A moment that is not at the end of a minute. */
const NOW = 1_800_000_010_000
const at = (seconds: number) => NOW / 1000 + seconds

type Answer = { status: number; code?: string; message?: string; caller?: Caller }

/** A gateway that tells who asks. Its clock stands still. */
function gateway(vars: Vars = {}) {
  const issuers = [
    one.row,
    { ...two.row, userClaim: 'email', planClaim: 'tier', labelClaim: 'name' },
  ]
  const lines: string[] = []
  const clock = { now: NOW }
  const who = createIdentify({
    config: readConfig(
      {
        USER_TOKENS: 'signed',
        USER_HASH_SECRET: HASH_SECRET,
        USER_TOKEN_SECRETS: `${SECRET},${OTHER_SECRET}`,
        JWT_ISSUERS: JSON.stringify(issuers),
        ...vars,
      },
      'node',
    ),
    clientIp: () => '203.0.113.7',
    claimedIp: () => undefined,
    fetchKeys: nodeFetch,
    now: () => clock.now,
    log: createLog({ level: 'debug', format: 'json', write: (line) => lines.push(line) }),
  })
  const app = new Hono<AppEnv>()
  app.get('/', async (c) => c.json(await who(c)))
  app.onError((error, c) => errorResponse(c, asApiError(error), undefined))
  const context = { waitUntil: () => undefined, passThroughOnException() {}, props: {} }

  async function ask(token: string): Promise<Answer> {
    const headers = { authorization: `Bearer ${token}` }
    const answer = await app.request('/', { headers }, {}, context)
    const json = (await answer.json()) as { error?: { code: string; message: string } } & Caller
    const { status } = answer
    if (status === 200) return { status, caller: json }
    const { code = '', message = '' } = json.error ?? {}
    // Nothing of a token comes back, and nothing is in the log.
    for (const part of token.split('.').filter((text) => text.length > 8)) {
      expect(message).not.toContain(part)
      expect(lines.join('\n')).not.toContain(part)
    }
    return { status, code, message }
  }
  return { ask, lines, clock, codeOf: async (token: string) => (await ask(token)).code ?? 'taken' }
}

const claims = (more: object = {}) => ({ sub: 'user-7', iat: at(0), exp: at(600), ...more })
const own = (more: object = {}, header: object = {}) => ownJwt(claims(more), SECRET, header)
const issued = (more: object = {}, header: object = {}, pair: Pair = pairs.rsa) =>
  issuedJwt(claims({ iss: one.row.issuer, aud: 'weir', ...more }), pair, header)

const publicPem = () => pairs.rsa.publicKey.export({ type: 'spki', format: 'pem' })
const nothing = () => Buffer.alloc(0)

/** A token of exactly this many characters. */
function ofLength(length: number): string {
  for (let filler = length / 2; ; filler += 1) {
    const token = own({ filler: 'x'.repeat(filler) })
    // base64url has no text of every length.
    if (token.length >= length) return token
  }
}

const TABLE: [name: string, token: () => string, code: string][] = [
  ['an own token', () => own(), 'taken'],
  ['an own token without typ', () => own({}, { typ: undefined }), 'taken'],
  [
    'an own token with any iss and aud',
    () => own({ iss: 'https://app.test', aud: ['x'] }),
    'taken',
  ],
  ['an own token with a kid', () => own({}, { kid: 'v2' }), 'taken'],
  ['the second secret', () => ownJwt(claims(), OTHER_SECRET), 'taken'],
  ['a third secret', () => ownJwt(claims(), `${SECRET}!`), 'invalid_token'],
  ['HS384', () => own({}, { alg: 'HS384' }), 'invalid_token'],
  ['HS256 under another name', () => own({}, { alg: 'hs256' }), 'invalid_token'],
  ['RS256', () => issued(), 'taken'],
  ['PS256', () => issued({}, {}, pairs.pss), 'taken'],
  ['ES256', () => issued({}, {}, pairs.ec), 'taken'],
  ['EdDSA', () => issued({}, {}, pairs.ed), 'taken'],
  ['typ at+jwt', () => issued({}, { typ: 'at+jwt' }), 'taken'],
  ['typ application/at+jwt', () => issued({}, { typ: 'application/AT+JWT' }), 'taken'],
  ['typ logout+jwt', () => issued({}, { typ: 'logout+jwt' }), 'invalid_token'],
  ['typ null', () => issued({}, { typ: null }), 'invalid_token'],
  ['alg none', () => jwt({ alg: 'none' }, claims(), nothing), 'invalid_token'],
  [
    'alg none of an issuer',
    () => jwt({ alg: 'None', kid: 'rsa' }, claims({ iss: one.row.issuer, aud: 'weir' }), nothing),
    'invalid_token',
  ],
  ['no alg', () => own({}, { alg: undefined }), 'invalid_token'],
  ['an own token without its signature', () => own().replace(/[^.]+$/, ''), 'invalid_token'],
  [
    'HS256 with the public RSA key',
    () => ownJwt(claims({ iss: one.row.issuer, aud: 'weir' }), publicPem(), { kid: 'rsa' }),
    'invalid_token',
  ],
  [
    'HS256 with the public RSA key in binary',
    () =>
      ownJwt(
        claims({ iss: one.row.issuer, aud: 'weir' }),
        pairs.rsa.publicKey.export({ type: 'spki', format: 'der' }),
        { kid: 'rsa' },
      ),
    'invalid_token',
  ],
  ['RS256 in the name of a PS256 key', () => issued({}, { kid: 'pss' }), 'invalid_token'],
  ['RS256 that says ES256', () => issued({}, { alg: 'ES256' }), 'invalid_token'],
  ['RS256 with the wrong key', () => issued({}, {}, pairs.stranger), 'invalid_token'],
  ['an unknown kid', () => issued({}, { kid: 'unknown' }), 'invalid_token'],
  ['a kid that is no text', () => issued({}, { kid: ['rsa'] }), 'invalid_token'],
  ['no kid', () => issued({}, { kid: undefined }), 'taken'],
  ['a payload that was changed', () => changed(issued()), 'invalid_token'],
  ['no aud', () => issued({ aud: undefined }), 'invalid_token'],
  ['an empty aud', () => issued({ aud: '' }), 'invalid_token'],
  ['another aud', () => issued({ aud: 'weird' }), 'invalid_token'],
  ['the aud of another issuer', () => issued({ aud: 'another-app' }), 'invalid_token'],
  ['aud in a list', () => issued({ aud: ['another-app', 'weir'] }), 'taken'],
  ['a list without it', () => issued({ aud: ['another-app'] }), 'invalid_token'],
  ['a list in a list', () => issued({ aud: [['weir']] }), 'invalid_token'],
  ['no iss', () => issued({ iss: undefined }), 'invalid_token'],
  ['another iss', () => issued({ iss: 'https://auth.test/' }), 'invalid_token'],
  ['iss without its slash', () => issued({ iss: one.row.issuer.slice(0, -1) }), 'invalid_token'],
  ['iss in a list', () => issued({ iss: [one.row.issuer] }), 'invalid_token'],
  ['the iss of another issuer', () => issued({ iss: two.row.issuer }), 'invalid_token'],
  [
    'iss and aud of another issuer',
    () => issued({ iss: two.row.issuer, aud: 'another-app', email: 'a@b.test' }),
    'invalid_token',
  ],
  ['expired by 59 s', () => own({ exp: at(-59) }), 'taken'],
  ['expired by 61 s', () => own({ exp: at(-61) }), 'expired_token'],
  ['an issued one expired by 59 s', () => issued({ exp: at(-59) }), 'taken'],
  ['an issued one expired by 61 s', () => issued({ exp: at(-61) }), 'expired_token'],
  ['no exp', () => own({ exp: undefined }), 'invalid_token'],
  ['no exp in an issued one', () => issued({ exp: undefined }), 'invalid_token'],
  ['exp as text', () => own({ exp: `${at(60)}` }), 'invalid_token'],
  ['exp null', () => own({ exp: null }), 'invalid_token'],
  ['nbf 59 s ahead', () => own({ nbf: at(59) }), 'taken'],
  ['nbf 61 s ahead', () => own({ nbf: at(61) }), 'invalid_token'],
  ['nbf as text', () => own({ nbf: 'now' }), 'invalid_token'],
  ['iat 1 s ahead', () => own({ iat: at(1) }), 'taken'],
  ['iat 59 s ahead', () => issued({ iat: at(59) }), 'taken'],
  ['iat 61 s ahead', () => issued({ iat: at(61) }), 'invalid_token'],
  ['no iat', () => own({ iat: undefined }), 'taken'],
  ['iat as text', () => own({ iat: 'now' }), 'invalid_token'],
  ['a critical extension', () => own({}, { crit: ['exp'], exp: 1 }), 'invalid_token'],
  ['an empty crit in an issued one', () => issued({}, { crit: [] }), 'invalid_token'],
  ['no sub', () => own({ sub: undefined }), 'invalid_token'],
  ['no sub in an issued one', () => issued({ sub: undefined }), 'invalid_token'],
  ['an empty sub', () => own({ sub: '' }), 'invalid_token'],
  ['a sub of 255 characters', () => own({ sub: 'x'.repeat(255) }), 'taken'],
  ['a sub of 256 characters', () => own({ sub: 'x'.repeat(256) }), 'invalid_token'],
  ['a sub of one character', () => issued({ sub: '\n' }), 'taken'],
  ['a sub with half a surrogate pair', () => own({ sub: 'a\ud800' }), 'invalid_token'],
  ['a numeric sub', () => own({ sub: 7 }), 'invalid_token'],
  ['a numeric sub in an issued one', () => issued({ sub: 7 }), 'invalid_token'],
  ['a payload that is null', () => ownJwt(null, SECRET), 'invalid_token'],
  ['a payload that is a list', () => ownJwt([claims()], SECRET), 'invalid_token'],
  ['a payload that is no JSON', () => own().replace(/\.[^.]+\./, '.e30x.'), 'invalid_token'],
  ['no payload', () => own().replace(/\.[^.]+\./, '..'), 'invalid_token'],
  ['8 KB', () => ofLength(8190), 'taken'],
  ['9 KB', () => ofLength(9216), 'invalid_token'],
  ['text that is no JWT', () => 'any-token-of-a-user', 'invalid_token'],
  ['a JWE of five segments', () => 'eyJhbGciOiJkaXIifQ..aXY.dGV4dA.dGFn', 'invalid_token'],
]

/** The token with another user in it. */
function changed(token: string): string {
  const [header, payload = '', signature] = token.split('.')
  const told = JSON.parse(Buffer.from(payload, 'base64url').toString()) as object
  const other = Buffer.from(JSON.stringify({ ...told, sub: 'user-8' })).toString('base64url')
  return [header, other, signature].join('.')
}

test.each(TABLE)('%s: %#', async (_, token, code) => {
  const { codeOf } = gateway()
  expect(await codeOf(token())).toBe(code)
})

test('what is refused is refused with any beside signed, too: no kind stands in for another', async () => {
  const { codeOf } = gateway({ USER_TOKENS: 'any,signed' })
  for (const [name, token, code] of TABLE.filter(([, , code]) => code !== 'taken')) {
    const text = token()
    const isShaped = text.split('.').length === 3
    expect([name, await codeOf(text)]).toEqual([name, isShaped ? code : 'taken'])
  }
})

test('without signed, a JWT is a token like any, of at most 512 characters', async () => {
  const { ask } = gateway({ USER_TOKENS: 'any' })
  const token = own()
  const half = createHmac('sha256', HASH_SECRET).update(token).digest().subarray(0, 16)
  const { caller } = await ask(token)
  expect(caller).toMatchObject({ id: half.toString('base64url'), isUnverified: true })
  expect(caller).not.toHaveProperty('claims')
  expect(await ask(own({ filler: 'x'.repeat(400) }))).toMatchObject({ code: 'invalid_token' })
})

test.each<[string, string, RegExp]>([
  ['signed', 'a-token-like-any', /User tokens of this gateway are JSON Web Tokens/],
  ['any', 'x'.repeat(513), /8 to 512 printable/],
])('with USER_TOKENS=%s a refusal says what is taken', async (USER_TOKENS, token, message) => {
  const { ask } = gateway({ USER_TOKENS })
  expect(await ask(token)).toMatchObject({ status: 401, message: expect.stringMatching(message) })
})

const hmac = (text: string) =>
  createHmac('sha256', HASH_SECRET).update(text).digest().subarray(0, 16).toString('base64url')

test('whatever a well-signed token says, the answer is its user or 401', async () => {
  const { ask } = gateway()
  /** Mostly as it should be, since one thing that is wrong is enough. */
  const mostly = <T>(right: T, ...others: fc.Arbitrary<unknown>[]) =>
    fc.oneof({ weight: 8, arbitrary: fc.constant(right) }, ...others, fc.jsonValue())
  const text = fc.string({ unit: 'binary', maxLength: 300 })
  const payloads = fc.oneof(
    { weight: 1, arbitrary: fc.jsonValue() },
    {
      weight: 9,
      arbitrary: fc.record({
        sub: mostly('user-7', text),
        exp: mostly(at(60), fc.double()),
        iat: mostly(undefined, fc.double()),
        nbf: mostly(undefined, fc.double()),
        plan: fc.oneof(text, fc.jsonValue()),
        label: fc.oneof(text, fc.jsonValue()),
        iss: mostly(one.row.issuer),
        aud: mostly('weir'),
      }),
    },
  )
  const headers = fc.record({
    typ: mostly('JWT'),
    kid: mostly('ec', fc.constant(undefined)),
    crit: mostly(undefined),
  })
  let taken = 0
  const answers = fc.asyncProperty(
    payloads,
    headers,
    fc.boolean(),
    async (payload, header, isOwn) => {
      const token = isOwn ? ownJwt(payload, SECRET, header) : issuedJwt(payload, pairs.ec, header)
      const { status, code, caller } = await ask(token)
      if (status !== 200) {
        expect([status, code]).toEqual([401, expect.stringMatching(/^(invalid|expired)_token$/)])
        return
      }
      taken += 1
      const { issuedAt, plan = 'a', label = 'a' } = caller?.claims ?? {}
      expect(issuedAt).toBeGreaterThanOrEqual(0)
      expect(plan).toMatch(/^[a-z0-9][a-z0-9-]{0,31}$/)
      expect(label).toMatch(/^\P{Cs}{1,100}$/su)
    },
  )
  await fc.assert(answers, { numRuns: 500 })
  expect(taken).toBeGreaterThan(10)
})

test('a token with a change is refused, or it is the same user', async () => {
  const { ask } = gateway()
  const tokens = [own(), issued(), issued({}, {}, pairs.ec), issued({}, {}, pairs.ed)]
  const ids = await Promise.all(tokens.map(async (token) => (await ask(token)).caller?.id))
  const changes = fc.asyncProperty(
    fc.nat(3),
    fc.nat(2000),
    fc.stringMatching(/^[\w.=-]{0,3}$/),
    fc.nat(3),
    async (which, where, text, cut) => {
      const token = tokens[which] ?? ''
      const from = where % token.length
      const { status, code, caller } = await ask(
        token.slice(0, from) + text + token.slice(from + cut),
      )
      // base64url has bits at its end that mean nothing.
      if (status === 200) expect(caller?.id).toBe(ids[which])
      else expect([status, code]).toEqual([401, 'invalid_token'])
    },
  )
  await fc.assert(changes, { numRuns: 500 })
})

test('the start-up says which kinds are taken, what any means, and warns of it beside others', () => {
  const linesOf = (vars: Vars) => startupLines(readConfig(vars, 'node'), 'a place').join('\n')
  const signed = { USER_HASH_SECRET: HASH_SECRET, USER_TOKEN_SECRETS: SECRET }
  expect(linesOf({})).toMatch(/User tokens: any text.*anyone can make up a token/s)
  expect(linesOf({})).not.toMatch(/JSON Web Tokens|Warning/)
  expect(linesOf({ GLOBAL_LIMITS: '{}' })).toContain('nothing limits the bill')
  const only = linesOf({ ...signed, USER_TOKENS: 'signed', GLOBAL_LIMITS: '{}' })
  expect(only).toContain('User tokens: JSON Web Tokens')
  expect(only).not.toMatch(/make up a token|Warning|nothing limits the bill/)
  const both = linesOf({ ...signed, USER_TOKENS: 'any,signed' })
  expect(both).toMatch(/make up a token.*Warning: USER_TOKENS has the kind any beside others/s)
  expect(linesOf(signed)).toContain('Warning: USER_TOKEN_SECRETS or JWT_ISSUERS is set, but')
})

test.each([
  [
    '{"total":{"tokensPerDay":1000}}',
    'add audioSecondsPerDay and charactersPerDay, or a limit in dollars',
  ],
  ['{"total":{"audioSecondsPerMonth":1000}}', 'add charactersPerDay, or'],
  ['{"total":{"usdPerMonth":5}}', undefined],
  ['{"total":{"audioSecondsPerHour":9,"charactersPerDay":9}}', undefined],
  [undefined, undefined],
])('the start-up says what audio a total of %s leaves without a limit', (GLOBAL_LIMITS, told) => {
  const lines = startupLines(readConfig({ GLOBAL_LIMITS }, 'node'), 'a place').join('\n')
  if (told === undefined) expect(lines).not.toContain('leaves audio without a limit')
  else expect(lines).toContain(`leaves audio without a limit: ${told}`)
})

test('the user of an own token is the name in sub, with each secret and with any other claims', async () => {
  const { ask } = gateway()
  const tokens = [own(), own({ iat: at(-5), plan: 'pro' }), ownJwt(claims(), OTHER_SECRET)]
  for (const token of tokens) expect((await ask(token)).caller?.id).toBe(hmac('\x01user-7'))
})

test('the same sub is another user with each issuer, with the application, and as a token', async () => {
  const { ask } = gateway({
    USER_TOKENS: 'any,signed',
    JWT_ISSUERS: JSON.stringify([one.row, two.row]),
  })
  const [pair = pairs.ec] = two.pairs
  const sub = 'user-of-several'
  const tokens = [
    sub,
    own({ sub }),
    issued({ sub }),
    issuedJwt(claims({ sub, iss: two.row.issuer, aud: two.row.audience }), pair),
  ]
  const ids = await Promise.all(tokens.map(async (token) => (await ask(token)).caller?.id))
  expect(new Set(ids).size).toBe(4)
  const { issuer } = one.row
  expect(ids[2]).toBe(hmac(`\x02${issuer.length} ${issuer}${sub}`))
})

test('claims give a plan, a label and a time; what is none of these is left out', async () => {
  const { ask } = gateway()
  const claimsOf = async (token: string) => (await ask(token)).caller?.claims
  const issuedAt = NOW - 5500
  expect(await claimsOf(own({ plan: 'pro-2', label: ' Ada ', iat: at(-5.5) }))).toEqual({
    plan: 'pro-2',
    label: 'Ada',
    issuedAt,
  })
  expect(await claimsOf(own({ iat: undefined }))).toEqual({ issuedAt: 0 })
  const none = { issuedAt: NOW }
  for (const plan of ['', 'Pro', '-a', 'a'.repeat(33), 'a_b', 7, null, ['a'], {}]) {
    expect(await claimsOf(own({ plan }))).toEqual(none)
  }
  for (const label of ['', ' ', 7, null, ['a'], {}])
    expect(await claimsOf(own({ label }))).toEqual(none)
  expect(await claimsOf(own({ plan: 'a'.repeat(32), label: 'ä'.repeat(101) }))).toEqual({
    ...none,
    plan: 'a'.repeat(32),
    label: 'ä'.repeat(100),
  })
  // No half of a pair is left, whether it was there or is one by the cut.
  expect(await claimsOf(own({ label: `${'x'.repeat(99)}😀` }))).toMatchObject({
    label: 'x'.repeat(99),
  })
  expect(await claimsOf(own({ label: 'x\ud800y' }))).toMatchObject({ label: 'xy' })
})

test('an issuer’s claims are those that its row names, and only these', async () => {
  const { ask } = gateway()
  const more = { plan: 'pro', label: 'Ada', tier: 'team', name: 'Bea', email: 'bea@app.test' }
  expect((await ask(issued(more))).caller?.claims).toEqual({ issuedAt: NOW })
  const [pair = pairs.ec] = two.pairs
  const { issuer, audience } = two.row
  const token = (told: object) => issuedJwt(claims({ iss: issuer, aud: audience, ...told }), pair)
  const { caller } = await ask(token(more))
  expect(caller?.claims).toEqual({ plan: 'team', label: 'Bea', issuedAt: NOW })
  expect(caller?.id).toBe(hmac(`\x02${issuer.length} ${issuer}bea@app.test`))
  expect(await ask(token({}))).toMatchObject({
    code: 'invalid_token',
    message: expect.stringContaining('`email`'),
  })
})

test('only callers that are not verified count as new users of a network', async () => {
  const { ask } = gateway({ USER_TOKENS: 'any,signed' })
  const any = (await ask('a-token-like-any')).caller
  expect(any).toMatchObject({ isUnverified: true, network: expect.stringMatching(/^[\w-]{11}$/) })
  const signed = (await ask(own())).caller
  expect(Object.keys(signed ?? {}).sort()).toEqual(['claims', 'id', 'ip'])
})

test('one secret replaces the other without a moment in which tokens are refused', async () => {
  const times = [SECRET, `${OTHER_SECRET},${SECRET}`, OTHER_SECRET].map((secrets) =>
    gateway({ USER_TOKEN_SECRETS: secrets }),
  )
  const [before, after] = [own(), ownJwt(claims(), OTHER_SECRET)]
  const codes = (token: string) => Promise.all(times.map(({ codeOf }) => codeOf(token)))
  expect(await codes(before)).toEqual(['taken', 'taken', 'invalid_token'])
  expect(await codes(after)).toEqual(['invalid_token', 'taken', 'taken'])
})

test('a secret with the words of a key file in it is a secret', async () => {
  const secret = `-----BEGIN PUBLIC KEY----- ${SECRET}`
  const { codeOf } = gateway({ USER_TOKEN_SECRETS: secret })
  expect(await codeOf(ownJwt(claims(), secret))).toBe('taken')
})

test('a token that was verified is not verified again for a minute, or until it ends', async () => {
  const { ask, clock } = gateway()
  const verify = vi.spyOn(crypto.subtle, 'verify')
  const digest = vi.spyOn(crypto.subtle, 'digest')
  const [token, short] = [issued(), issued({ exp: at(30) })]
  const times = async (seconds: number, ...tokens: string[]) => {
    clock.now = NOW + seconds * 1000
    verify.mockClear()
    for (const one of tokens) expect((await ask(one)).status).toBe(200)
    return verify.mock.calls.length
  }
  expect(await times(0, token, short)).toBe(2)
  expect(await times(29, token, short, token)).toBe(0)
  expect(digest).not.toHaveBeenCalled()
  expect(await times(30, token, short)).toBe(1)
  // Within the leeway it is still taken.
  expect(await times(59, token, short)).toBe(1)
  expect(await times(60, token)).toBe(1)
  clock.now = NOW + 90_000
  expect((await ask(short)).code).toBe('expired_token')
  // What differs in one character is another token.
  expect((await ask(changed(token))).code).toBe('invalid_token')
})

test('of tokens that were verified two million characters are remembered, the last ones', async () => {
  const { ask } = gateway()
  // 300 of these are more.
  const tokens = Array.from({ length: 300 }, (_, n) => own({ n, filler: 'x'.repeat(5000) }))
  for (const token of tokens) await ask(token)
  const verify = vi.spyOn(crypto.subtle, 'verify')
  const [first = '', second = ''] = tokens
  const last = 300 - Math.floor(2_000_000 / first.length)
  await ask(tokens[last] ?? '')
  await ask(tokens[299] ?? '')
  expect(verify).not.toHaveBeenCalled()
  await ask(tokens[last - 1] ?? '')
  expect(verify).toHaveBeenCalledTimes(1)
  // What is asked for again is remembered again.
  await ask(tokens[last - 1] ?? '')
  await ask(second)
  expect(verify).toHaveBeenCalledTimes(2)
})

/** Gives a gateway and an issuer of its own, whose keys may change. */
async function withIssuer(
  run: (
    issuer: LocalIssuer,
    on: ReturnType<typeof gateway>,
    token: (more?: object, header?: object, pair?: Pair) => string,
  ) => Promise<void>,
  ...kept: Pair[]
) {
  const issuer = await startIssuer('weir', ...(kept.length ? kept : [pairOf('first')]))
  const on = gateway({ JWT_ISSUERS: JSON.stringify([issuer.row]) })
  const token = (more: object = {}, header: object = {}, pair = issuer.pairs[0] ?? pairs.ec) =>
    issuedJwt(
      claims({ exp: at(100_000), iss: issuer.row.issuer, aud: 'weir', ...more }),
      pair,
      header,
    )
  try {
    await run(issuer, on, token)
  } finally {
    await issuer.close()
  }
}

test('keys are fetched once for many tokens at once, and again after ten minutes', () =>
  withIssuer(async (issuer, { codeOf, clock }, token) => {
    const codes = await Promise.all(Array.from({ length: 50 }, (_, n) => codeOf(token({ n }))))
    expect(new Set(codes)).toEqual(new Set(['taken']))
    expect(issuer.asked).toBe(1)
    clock.now += 599_000
    expect(await codeOf(token({ n: 'late' }))).toBe('taken')
    expect(issuer.asked).toBe(1)
    clock.now += 1000
    expect(await codeOf(token({ n: 'later' }))).toBe('taken')
    expect(issuer.asked).toBe(2)
  }))

test('a thousand garbage tokens make at most one fetch in 30 s', () =>
  withIssuer(async (issuer, { codeOf, clock }, token) => {
    const garbage = (n: number) => token({ n }, { kid: `unknown-${n}` })
    for (let n = 0; n < 1000; n += 1) {
      clock.now = NOW + n * 59
      expect(await codeOf(garbage(n))).toBe('invalid_token')
    }
    // At 0 s and at 30 s.
    expect(issuer.asked).toBe(2)
    clock.now = NOW + 61_000
    await Promise.all(Array.from({ length: 100 }, (_, n) => codeOf(garbage(n))))
    expect(issuer.asked).toBe(3)
  }))

test('a key that is new since the last fetch is found after 30 s at most, with its kid and without', () =>
  withIssuer(async (issuer, { codeOf, clock }, token) => {
    expect(await codeOf(token())).toBe('taken')
    for (const header of [{}, { kid: undefined }]) {
      const next = pairOf(`next-${issuer.asked}`)
      issuer.pairs = [next]
      const asked = issuer.asked
      expect(await codeOf(token({}, header, next))).toBe('invalid_token')
      expect(issuer.asked).toBe(asked)
      clock.now += 30_000
      expect(await codeOf(token({}, header, next))).toBe('taken')
      expect(issuer.asked).toBe(asked + 1)
    }
  }))

test('while an issuer replaces its key, tokens of both keys are taken', () =>
  withIssuer(
    async (issuer, { codeOf, clock }, token) => {
      const [before, after] = issuer.pairs
      for (const pair of [before, after]) expect(await codeOf(token({}, {}, pair))).toBe('taken')
      // With two that fit, nobody can tell which one is meant.
      expect(await codeOf(token({}, { kid: undefined }))).toBe('invalid_token')
      issuer.pairs = issuer.pairs.slice(1)
      clock.now += 600_000
      expect(await codeOf(token({ n: 1 }, {}, after))).toBe('taken')
      expect(await codeOf(token({ n: 1 }, {}, before))).toBe('invalid_token')
    },
    pairOf('before'),
    pairOf('after'),
  ))

test('a key without kid and alg in its set works for tokens without kid', () =>
  withIssuer(
    async (_, { codeOf }, token) => {
      expect(await codeOf(token({}, { kid: undefined }))).toBe('taken')
      expect(await codeOf(token({ n: 1 }, { kid: 'named' }))).toBe('invalid_token')
    },
    pairOf('nameless', 'PS256', {}),
  ))

test('keys for encryption, secrets and keys of other kinds are passed over', () =>
  withIssuer(async (issuer, { codeOf }, token) => {
    const { jwk } = pairOf('enc')
    const others = [
      { ...jwk, kid: 'first', use: 'enc' },
      { ...jwk, kid: 'first', key_ops: ['deriveKey'] },
      { ...jwk, kid: 'first', alg: 'ES384' },
      { kty: 'oct', kid: 'first', alg: 'HS256', k: Buffer.from(SECRET).toString('base64url') },
      { kty: 'RSA', kid: 'first', n: 'no number', e: 'AQAB' },
      null,
      'a text',
    ]
    issuer.answer = (_, response) =>
      response.end(JSON.stringify({ keys: [...others, issuer.pairs[0]?.jwk] }))
    expect(await codeOf(token())).toBe('taken')
    const secret = Buffer.from('another secret of 32 bytes, or more')
    expect(await codeOf(ownJwt(claims({ iss: issuer.row.issuer, aud: 'weir' }), secret))).toBe(
      'invalid_token',
    )
  }, pairOf('first')))

type Answering = NonNullable<LocalIssuer['answer']>

const AWAY: [string, Answering][] = [
  ['answers 500', (_, response) => response.writeHead(500).end('{"keys":[]}')],
  ['hangs up', (request) => request.socket.destroy()],
  ['redirects', (_, response) => response.writeHead(302, { location: '/elsewhere' }).end()],
  ['answers no JSON', (_, response) => response.end('<html>')],
  ['answers null', (_, response) => response.end('null')],
  ['answers no list of keys', (_, response) => response.end('{"keys":{}}')],
  ['answers no keys', (_, response) => response.end('{"keys":[]}')],
  ['answers keys that are none', (_, response) => response.end('{"keys":[{"kty":"RSA"},7]}')],
  [
    'answers too much',
    (_, response) =>
      response.end(JSON.stringify({ keys: [pairs.ec.jwk], more: 'x'.repeat(256 * 1024) })),
  ],
]

test.each(AWAY)(
  'an issuer that %s is away: 503, never 401, one fetch and one line',
  async (_, answer) =>
    withIssuer(async (issuer, { ask, codeOf, lines, clock }, token) => {
      issuer.answer = answer
      const codes = await Promise.all(Array.from({ length: 20 }, (_, n) => codeOf(token({ n }))))
      expect(new Set(codes)).toEqual(new Set(['issuer_unavailable']))
      expect(issuer.asked).toBe(1)
      expect(await ask(token())).toMatchObject({ status: 503 })
      clock.now += 1000
      expect(await codeOf(token())).toBe('issuer_unavailable')
      expect(issuer.asked).toBe(2)
      expect(lines).toEqual([expect.stringContaining('"msg":"issuer.away"')])
      // Another issuer, and our own tokens, go on.
      expect(await codeOf(own())).toBe('taken')
      issuer.answer = undefined
      clock.now += 2000
      expect(await codeOf(token())).toBe('taken')
    }),
)

test('an issuer that is away for long is asked ever less often, down to once in 30 s', () =>
  withIssuer(async (issuer, { codeOf, clock }, token) => {
    issuer.answer = (_, response) => response.writeHead(503).end()
    for (let second = 0; second < 300; second += 1) {
      clock.now = NOW + second * 1000
      expect(await codeOf(token({ second }))).toBe('issuer_unavailable')
    }
    // At 0, 1, 3, 7, 15, 31 and then 61, 91, … s.
    expect(issuer.asked).toBe(14)
  }))

test('keys that are old serve while the issuer is away, and nobody waits for it', () =>
  withIssuer(async (issuer, { codeOf, clock }, token) => {
    expect(await codeOf(token())).toBe('taken')
    issuer.answer = (_, response) => response.writeHead(503).end()
    clock.now += 600_000
    expect(await codeOf(token({ n: 1 }))).toBe('taken')
    // It answers nothing at all from now on.
    issuer.answer = () => undefined
    clock.now += 60_000
    const begun = performance.now()
    expect(await codeOf(token({ n: 2 }))).toBe('taken')
    expect(performance.now() - begun).toBeLessThan(1500)
    // Whether a key that is not known is a new one, nobody can tell now.
    issuer.answer = (_, response) => response.writeHead(503).end()
  }))

test('a token with a key that is not known is 503, not 401, while the issuer is away', () =>
  withIssuer(async (issuer, { codeOf, clock }, token) => {
    expect(await codeOf(token())).toBe('taken')
    issuer.answer = (_, response) => response.writeHead(503).end()
    clock.now += 30_000
    for (const header of [{ kid: 'new' }, { kid: undefined }]) {
      expect(await codeOf(token({}, header, pairOf('new')))).toBe('issuer_unavailable')
    }
    expect(issuer.asked).toBe(2)
    // One that the known keys contradict is wrong, whatever the issuer would say.
    expect(await codeOf(token({}, {}, pairOf('first')))).toBe('invalid_token')
  }))

test('an issuer that is slow is away when its time is over, for all who wait', () =>
  withIssuer(async (issuer) => {
    issuer.answer = (_, response) => response.write('{"keys":[')
    const set = createKeySet({
      url: issuer.row.jwksUrl,
      fetchKeys: nodeFetch,
      now: Date.now,
      log: createLog({ level: 'silent', format: 'json', write: () => undefined }),
      limitMs: 100,
    })
    const begun = performance.now()
    const asked = Array.from({ length: 10 }, () => set.keys(() => undefined))
    const code = 'issuer_unavailable'
    for (const one of await Promise.allSettled(asked)) {
      expect(one).toMatchObject({ status: 'rejected', reason: { code } })
    }
    expect(performance.now() - begun).toBeLessThan(5000)
    expect(issuer.asked).toBe(1)
  }))

test('a fetch whose request was cut off holds up the others for a time only', () =>
  withIssuer(async (issuer) => {
    let isFirst = true
    const set = createKeySet({
      url: issuer.row.jwksUrl,
      // As on workerd, where the promise of a request that was cut off never settles.
      fetchKeys: (...call) => {
        if (!isFirst) return nodeFetch(...call)
        isFirst = false
        return new Promise(() => undefined)
      },
      now: () => clock,
      log: createLog({ level: 'silent', format: 'json', write: () => undefined }),
      // Long enough for the second fetch on a busy machine. Time passes by the clock only.
      limitMs: 2000,
    })
    let clock = NOW
    void set.keys(() => undefined)
    clock += 3001
    await expect(set.keys(() => undefined)).resolves.toHaveLength(1)
  }))
