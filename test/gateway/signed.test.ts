/** Signed tokens at a gateway as it runs: what they cost, what a whole run says of them, and the token of an admin. */
import { setTimeout } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createIds } from '../../src/identity/ids.ts'
import { nextDay } from '../../src/ledger/windows.ts'
import { logIn } from '../support/admin.ts'
import { ADMIN_KEY, KINDS, eventOf, type Gateway } from '../support/gateways.ts'
import {
  issuedJwt,
  ownJwt,
  pairOf,
  startIssuer,
  type LocalIssuer,
  type Pair,
} from '../support/issuer.ts'
import { useWorld } from '../support/world.ts'

const world = useWorld()

const SECRET = 'secret-of-an-application-of-the-tests'
const ids = createIds('secret-of-the-tests')
const es = pairOf('es')
const pairs = [pairOf('rs', 'RS256'), pairOf('ps', 'PS256'), es, pairOf('ed', 'EdDSA')]
/** A key that nobody shows. */
const stranger = pairOf('rs', 'RS256')

/** One that answers, and others for tests about what they answer. */
let issuer: LocalIssuer
let others: Record<'young' | 'silent' | 'slow' | 'moved', LocalIssuer>
beforeAll(async () => {
  const start = () => startIssuer('weir', ...pairs)
  issuer = await start()
  others = {
    young: await start(),
    silent: await start(),
    slow: await start(),
    moved: await start(),
  }
})
afterAll(() => Promise.all([issuer, ...Object.values(others)].map((one) => one.close())))

const in10min = () => Math.floor(Date.now() / 1000) + 600
const own = (more: object = {}) => ownJwt({ sub: 'user-7', exp: in10min(), ...more }, SECRET)
const issued = (pair: Pair, more: object = {}, by = issuer) =>
  issuedJwt({ sub: 'user-7', iss: by.row.issuer, aud: 'weir', exp: in10min(), ...more }, pair)

const vars = (more: object = {}) => ({
  USER_TOKENS: 'signed',
  USER_TOKEN_SECRETS: SECRET,
  JWT_ISSUERS: JSON.stringify([issuer, ...Object.values(others)].map(({ row }) => row)),
  ...more,
})

const chat = ({ url }: Gateway, token: string) =>
  fetch(`${url}/api/groq`, {
    method: 'POST',
    headers: { authorization: `Bearer ${token}` },
    body: JSON.stringify({ prompt: 'Hello' }),
  })

const codeOf = async (answer: Response) =>
  ((await answer.json()) as { error?: { code: string } }).error?.code ?? 'taken'

const post = (
  { url }: Gateway,
  path: string,
  body: unknown,
  headers: Record<string, string> = {},
) =>
  fetch(url + path, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify(body),
  })

const admin = { authorization: `Bearer ${ADMIN_KEY}` }

describe.each(KINDS)('on %s', (kind) => {
  test('a token of each algorithm is a request of its user', async () => {
    const gateway = await world.gateway(kind, vars())
    const subject = await ids.ofSubject(issuer.row.issuer, 'user-7')
    const rows: [string, string][] = [
      [own(), await ids.ofUser('user-7')],
      ...pairs.map((pair): [string, string] => [issued(pair), subject]),
    ]
    for (const [token, user] of rows) {
      const answer = await chat(gateway, token)
      expect(await codeOf(answer)).toBe('taken')
      expect(await eventOf(world.store, answer.headers.get('x-weir-id'))).toMatchObject({ user })
    }
  })

  test('verification costs no command, and a token that is refused costs none at all', async () => {
    /** The commands that the database runs for a request until it is settled. */
    const billed = async (gateway: Gateway, token: string) => {
      await world.redis.resetStats()
      world.upstash.reset()
      const answer = await chat(gateway, token)
      await answer.arrayBuffer()
      if (answer.ok) {
        const isOver = () => world.upstash.log.length === 2 && world.upstash.log[1]?.answered
        await expect.poll(isOver, { interval: 2 }).toBeTruthy()
      }
      return world.redis.commandstats()
    }
    const any = await world.gateway(kind)
    const signed = await world.gateway(kind, vars())
    // Each is a user whom the database does not know.
    const costs = await billed(any, 'token-of-user-7')
    expect(costs).not.toEqual({})
    await world.redis.flush()
    expect(await billed(signed, own({ n: 1 }))).toEqual(costs)
    await world.redis.flush()
    expect(await billed(signed, issued(es, { n: 1 }))).toEqual(costs)
    const refused = [
      ...[`${own()}x`, own({ exp: 1 }), 'a-token-like-any'],
      ...[issued(stranger), issued({ ...es, kid: 'made-up' })],
    ]
    for (const token of refused) expect(await billed(signed, token)).toEqual({})
  })

  test('a page reports its usage with a signed token', async () => {
    const gateway = await world.gateway(kind, vars())
    const token = own({ sub: 'user-of-a-page', label: 'x'.repeat(1000) })
    await (await chat(gateway, token)).arrayBuffer()
    const day = { tokens: 5, requests: 1, resetAt: nextDay(Date.now()) }
    const report = { userToken: token, modelUsage: { 'openai/gpt-oss-20b': { day } } }
    const answer = await post(gateway, '/api/tracking/sync', report)
    expect([answer.status, await answer.json()]).toEqual([
      200,
      expect.objectContaining({ success: true }),
    ])
    const wrong = { ...report, userToken: `${token}x` }
    expect(await codeOf(await post(gateway, '/api/tracking/sync', wrong))).toBe('invalid_token')
  })

  test('made-up keys ask the issuer once, also all at once and when they are the first', async () => {
    const gateway = await world.gateway(kind, vars())
    const { young } = others
    young.asked = 0
    const token = (kid: string) => issued({ ...es, kid }, {}, young)
    const codes = await Promise.all(
      Array.from({ length: 200 }, async (_, n) =>
        codeOf(await chat(gateway, token(`made-up-${n}`))),
      ),
    )
    expect(new Set(codes)).toEqual(new Set(['invalid_token']))
    expect(await codeOf(await chat(gateway, token('es')))).toBe('taken')
    expect(young.asked).toBe(1)
  })

  test('an issuer that answers nothing costs 2 s and a 503, for all who wait', async () => {
    const gateway = await world.gateway(kind, vars())
    const { silent } = others
    silent.asked = 0
    silent.answer = () => undefined
    const token = (n: number) => issued(es, { n }, silent)
    const begun = performance.now()
    const answers = await Promise.all(Array.from({ length: 20 }, (_, n) => chat(gateway, token(n))))
    expect(performance.now() - begun).toBeGreaterThan(1900)
    const codes = await Promise.all(answers.map(codeOf))
    expect(new Set(codes)).toEqual(new Set(['issuer_unavailable']))
    expect(silent.asked).toBe(1)
    // It is asked again after a second.
    silent.answer = undefined
    const again = async () => codeOf(await chat(gateway, token(0)))
    await expect.poll(again, { interval: 100, timeout: 10_000 }).toBe('taken')
    expect(silent.asked).toBe(2)
  })

  test('an issuer that sends on to another address is away', async () => {
    const gateway = await world.gateway(kind, vars())
    const { moved } = others
    moved.answer = (request, response) => {
      if (request.url === '/jwks.json') response.writeHead(302, { location: '/elsewhere' }).end()
      else response.end(JSON.stringify({ keys: pairs.map(({ jwk }) => jwk) }))
    }
    moved.asked = 0
    expect(await codeOf(await chat(gateway, issued(es, {}, moved)))).toBe('issuer_unavailable')
    expect(moved.asked).toBe(1)
  })

  test('a client that leaves does not take the keys with it', async () => {
    const gateway = await world.gateway(kind, vars())
    const { slow } = others
    slow.asked = 0
    const token = issued(es, {}, slow)
    let go: () => void = () => undefined
    const isAsked = new Promise<void>((resolve) => {
      slow.answer = (_, response) => {
        go = () => response.end(JSON.stringify({ keys: pairs.map(({ jwk }) => jwk) }))
        resolve()
      }
    })
    const leaving = new AbortController()
    const left = fetch(`${gateway.url}/api/groq/openai/v1/models`, {
      headers: { authorization: `Bearer ${token}` },
      signal: leaving.signal,
    }).catch(() => undefined)
    await isAsked
    const waiting = chat(gateway, token)
    leaving.abort()
    await left
    // Until the gateway knows that the client has left.
    await setTimeout(50)
    go()
    expect(await codeOf(await waiting)).toBe('taken')
    expect(slow.asked).toBe(1)
  })

  test('an admin has a token made that is one of the application', async () => {
    const gateway = await world.gateway(kind, vars())
    const asked = Date.now()
    const told = { user: 'user-of-a-script', plan: 'pro', label: 'A script', expires_in: 60 }
    const answer = await post(gateway, '/api/admin/tokens', told, admin)
    expect([answer.status, answer.headers.get('cache-control')]).toEqual([201, 'no-store'])
    const made = (await answer.json()) as { token: string; userId: string; expiresAt: number }
    expect(Object.keys(made).sort()).toEqual(['expiresAt', 'token', 'userId'])
    expect(made.userId).toBe(await ids.ofUser('user-of-a-script'))
    expect(made.expiresAt - asked).toBeGreaterThan(58_000)
    expect(made.expiresAt - asked).toBeLessThan(65_000)
    const payload: unknown = JSON.parse(
      Buffer.from(made.token.split('.')[1] ?? '', 'base64url').toString(),
    )
    const { user: sub, plan, label } = told
    const exp = made.expiresAt / 1000
    expect(payload).toEqual({ sub, plan, label, exp, iat: exp - 60 })
    const call = await chat(gateway, made.token)
    expect(await codeOf(call)).toBe('taken')
    expect(await eventOf(world.store, call.headers.get('x-weir-id'))).toMatchObject({
      user: made.userId,
    })
    expect(await world.store.audit(1)).toMatchObject([
      { action: 'make token', user: made.userId.slice(0, 6) },
    ])
  })

  test.each<[string, unknown, string]>([
    ['nobody', { expires_in: 60 }, 'user'],
    ['an empty name', { user: '', expires_in: 60 }, 'user'],
    ['a long name', { user: 'x'.repeat(256), expires_in: 60 }, 'user'],
    ['half a character', { user: '\ud800', expires_in: 60 }, 'user'],
    ['no end', { user: 'a' }, 'expires_in'],
    ['59 s', { user: 'a', expires_in: 59 }, 'expires_in'],
    ['more than a day', { user: 'a', expires_in: 86_401 }, 'expires_in'],
    ['a part of a second', { user: 'a', expires_in: 60.5 }, 'expires_in'],
    ['an end as text', { user: 'a', expires_in: '60' }, 'expires_in'],
    ['a wrong plan', { user: 'a', plan: 'Pro', expires_in: 60 }, 'plan'],
    ['a long label', { user: 'a', label: 'x'.repeat(101), expires_in: 60 }, 'label'],
    ['an unknown field', { user: 'a', expires_in: 60, sub: 'b' }, 'sub'],
  ])('a token of %s is not made', async (_, body, param) => {
    const gateway = await world.gateway(kind, vars())
    const answer = await post(gateway, '/api/admin/tokens', body, admin)
    expect([answer.status, await answer.json()]).toMatchObject([
      400,
      { error: { code: 'invalid_request', param } },
    ])
  })

  test('only an admin has tokens made, and only where they are taken', async () => {
    const gateway = await world.gateway(kind, vars())
    const told = { user: 'a', expires_in: 60 }
    const ask = async (on: Gateway, headers: Record<string, string>) =>
      codeOf(await post(on, '/api/admin/tokens', told, headers))
    expect(await ask(gateway, {})).toBe('missing_token')
    expect(await ask(gateway, { authorization: `Bearer ${own()}` })).toBe('invalid_token')
    expect(await ask(await world.gateway(kind), admin)).toBe('not_configured')
    const any = await world.gateway(kind, { USER_TOKEN_SECRETS: SECRET })
    expect(await ask(any, admin)).toBe('not_configured')
  })

  test('the health route and the dashboard say which tokens are taken, and what is risky', async () => {
    const both = await world.gateway(kind, vars({ USER_TOKENS: 'any,signed' }))
    const health = (await (await fetch(`${both.url}/api/test`)).json()) as { userTokens: object }
    const told = { kinds: ['any', 'signed'], warnings: [expect.stringContaining('any beside')] }
    expect(health.userTokens).toMatchObject(told)
    // Node prints it as text, see src/node.ts.
    if (kind === 'workerd') expect(both.log.join('\n')).toContain('"start.user_tokens"')
    const pageOf = async (on: Gateway) =>
      (await fetch(`${on.url}/admin`, { headers: await logIn(on) })).text()
    expect(await pageOf(both)).toMatch(/anyone can make up a token.*|any beside/s)
    const signed = await world.gateway(kind, vars())
    expect(await pageOf(signed)).toContain('JSON Web Tokens')
    expect(await pageOf(signed)).not.toMatch(/anyone can make up a token|any beside/)
  })

  test('no token, secret or claim is in any line of the log', async () => {
    for (const more of [{}, { USER_TOKENS: 'any,signed' }]) {
      const gateway = await world.gateway(kind, vars(more))
      const claims = {
        sub: 'a-very-secret-subject',
        label: 'a-very-secret-label',
        // A plan that is not stored is named in the log.
        plan: 'gone',
      }
      const tokens = [
        own(claims),
        issued(es, claims),
        own({ ...claims, exp: 1 }),
        issued(stranger, claims),
        issued(es, { ...claims, aud: 'a-very-secret-audience' }),
        issued(es, { ...claims, iss: 'a-very-secret-issuer' }),
        ownJwt(claims, 'a-very-secret-secret-of-somebody-else'),
      ]
      for (const token of tokens) {
        const text = await (await chat(gateway, token)).text()
        expect(text).not.toMatch(/very-secret/)
        for (const part of token.split('.')) expect(text).not.toContain(part)
      }
      const told = { user: 'a-very-secret-user', expires_in: 60 }
      const made = await post(gateway, '/api/admin/tokens', told, admin)
      const { token } = (await made.json()) as { token: string }
      await (await chat(gateway, token)).text()
      const logged = () => gateway.log.join('\n').split('📊').length
      await expect.poll(logged).toBeGreaterThan(1)
      const parts = [...tokens, token].flatMap((one) => one.split('.').slice(1))
      for (const part of [SECRET, 'very-secret', ...parts])
        expect(gateway.log.join('\n')).not.toContain(part)
    }
  })
})
