import { beforeEach, describe, expect, test } from 'vitest'
import { VERSION } from '../../src/ledger/shapes.ts'
import type { Audit, Event } from '../../src/ledger/events.ts'
import { MINUTE_MS } from '../../src/ledger/windows.ts'
import { PREFIX, profileKey } from '../../src/store/redis/keys.ts'
import { createIds } from '../../src/identity/ids.ts'
import { adminGet, BEARER } from '../support/admin.ts'
import { eventOf, KINDS, type Gateway } from '../support/gateways.ts'
import { seededId, seedUsers } from '../support/seed.ts'
import { useWorld } from '../support/world.ts'

const world = useWorld()

const MODEL = 'openai/gpt-oss-20b'

type User = {
  userId: string
  lastActive: number
  models: {
    model: string
    tokensUsedDay: number
    blocked: boolean
    blockReason: string | null
    blockedUntil: number | null
  }[]
}
type Usage = {
  users: User[]
  events: Event[]
  stats: object[]
  days: object[]
  quotas: object
  audit: Audit[]
  nextCursor: string | null
}

const ids = createIds('secret-of-the-tests')

const ask = async (gateway: Gateway, token: string, model = MODEL) => {
  const response = await fetch(`${gateway.url}/api/groq`, {
    method: 'POST',
    headers: { 'x-user-token': token },
    body: JSON.stringify({ model, messages: [] }),
  })
  const body = (await response.json()) as { error?: { code: string; message: string } }
  return { id: response.headers.get('x-weir-id'), status: response.status, error: body.error }
}

const change = (gateway: Gateway, method: string, path: string, body?: unknown) =>
  fetch(`${gateway.url}/api/admin/${path}`, {
    method,
    headers: { ...BEARER, 'content-type': 'application/json' },
    body: body === undefined ? null : JSON.stringify(body),
  })

const block = async (gateway: Gateway, body: unknown) => {
  const response = await change(gateway, 'POST', 'usage', body)
  return { status: response.status, body: (await response.json()) as unknown }
}

const usageOf = (gateway: Gateway, query = '') =>
  adminGet<Usage>(gateway, `/api/admin/usage${query}`)

async function allPages(gateway: Gateway, query: string): Promise<User[]> {
  const found: User[] = []
  for (let cursor: string | null = ''; cursor !== null;) {
    const page: Usage = await usageOf(gateway, `?${query}${cursor && `&cursor=${cursor}`}`)
    found.push(...page.users)
    cursor = page.nextCursor
  }
  return found
}

describe.each(KINDS)('on %s', (kind) => {
  let gateway: Gateway
  beforeEach(async () => {
    gateway = await world.gateway(kind)
  })

  test('a thousand users are listed page by page, each once, the last active first', async () => {
    const now = Date.now()
    await seedUsers(world.redis, 1000, now)
    const users = await allPages(gateway, 'limit=77')
    expect(new Set(users.map(({ userId }) => userId)).size).toBe(1000)
    expect(users).toHaveLength(1000)
    const minutes = users.map(({ lastActive }) => Math.floor(lastActive / MINUTE_MS))
    expect(minutes).toEqual(minutes.toSorted((a, b) => b - a))
  })

  test('sorted by tokens the user with the most is first, and pages continue', async () => {
    await seedUsers(world.redis, 150, Date.now())
    const users = await allPages(gateway, 'sort=tokens&limit=60')
    expect(users).toHaveLength(150)
    const tokens = users.map(({ models }) => models[0]?.tokensUsedDay ?? 0)
    expect(tokens).toEqual(tokens.toSorted((a, b) => b - a))
  })

  test('a user is found by id', async () => {
    await seedUsers(world.redis, 20, Date.now())
    const found = await usageOf(gateway, `?q=${seededId(7)}`)
    expect(found.users.map(({ userId }) => userId)).toEqual([seededId(7)])
    expect(found.nextCursor).toBeNull()
    expect((await usageOf(gateway, `?q=${'z'.repeat(22)}`)).users).toEqual([])
  })

  test.each([
    'sort=name',
    'limit=0',
    'limit=201',
    'limit=ten',
    'cursor=',
    'cursor=1e99',
    'cursor=-5',
    'cursor=12~short',
    'cursor=20',
    `sort=tokens&cursor=12.5~${'a'.repeat(22)}`,
    'sort=tokens&cursor=99999999999999999999',
    'q=alice',
    'q=%00',
  ])('the query %s is refused with the valid form', async (query) => {
    const response = await fetch(`${gateway.url}/api/admin/usage?${query}`, { headers: BEARER })
    expect(response.status).toBe(400)
    const { error } = (await response.json()) as { error: { code: string; message: string } }
    expect(error.code).toBe('invalid_request')
    expect(error.message).toContain('`cursor` a nextCursor of the same sort')
  })

  test('the admin sees what was counted, by user and by model', async () => {
    await eventOf(world.store, (await ask(gateway, 'token-of-somebody')).id)
    const { users, stats, days, quotas } = await usageOf(gateway)
    expect(users).toMatchObject([
      { models: [{ model: MODEL, tokensUsedDay: 35, requestsDay: 1, exact: 1, blocked: false }] },
    ])
    expect(days).toMatchObject([{ requests: 1, exact: 1, charged: 35 }])
    const used = { tokens: 35, requests: 1, usd: 0.0000069 }
    expect(quotas).toEqual({ '*': used, [MODEL]: used })
    const today = { model: MODEL, tokensUsedDay: 35, requestsDay: 1, activeUsers: 1 }
    expect(stats).toMatchObject([{ ...today, totalTokensUsed: 35, totalRequests: 1 }])
  })

  test('a blocked user is refused with the reason, and served again once unblocked', async () => {
    const token = 'token-of-somebody'
    const userId = await ids.user(token)
    expect((await ask(gateway, token)).status).toBe(200)
    await block(gateway, { userId, model: MODEL, blocked: true, reason: 'Too <b>many</b>' })
    const refused = await ask(gateway, token)
    expect([refused.status, refused.error?.code]).toEqual([403, 'user_blocked'])
    expect(refused.error?.message).toBe(`You are blocked from the model ${MODEL}: Too <b>many</b>`)
    expect((await ask(gateway, token, 'llama-3.1-8b-instant')).status).toBe(200)
    await block(gateway, { userId, model: MODEL, blocked: false })
    // A refusal is remembered for two seconds.
    await expect
      .poll(async () => (await ask(gateway, token)).status, { timeout: 5000, interval: 100 })
      .toBe(200)
    const { audit } = await usageOf(gateway)
    expect(audit.map(({ action, user, model, reason }) => [action, user, model, reason])).toEqual([
      ['unblock', userId.slice(0, 6), MODEL, undefined],
      ['block', userId.slice(0, 6), MODEL, 'Too <b>many</b>'],
    ])
  })

  test.each(['2031-02-03T10:00Z', '2031-02-03T10:00:00.5+01:00'])(
    'a block may end at %s',
    async (until) => {
      const answer = await block(gateway, { userId: seededId(1), model: '*', blocked: true, until })
      expect(answer.status).toBe(200)
      const [user] = await world.store.blockedUsers(1)
      expect(user?.blocks['*']?.until).toBe(Date.parse(until))
    },
  )

  test('a damaged entry of the audit trail hides no other', async () => {
    await block(gateway, { userId: seededId(1), model: '*', blocked: true })
    await world.redis.command(['LPUSH', `${PREFIX}audit`, 'not json', 'null', '5'])
    await block(gateway, { userId: seededId(1), model: '*', blocked: false })
    const { audit } = await usageOf(gateway)
    expect(audit.map(({ action }) => action)).toEqual(['unblock', 'block'])
  })

  test('documents of a newer version are not changed, and the answer says why', async () => {
    const [user, now] = [seededId(1), Date.now()]
    await block(gateway, { userId: user, model: '*', blocked: true })
    const newer = JSON.stringify({ v: VERSION + 1, id: user, blocks: { '*': { at: now } } })
    await world.redis.command(['SET', profileKey(user), newer])
    const { status, body } = await block(gateway, { userId: user, model: '*', blocked: false })
    expect(status).toBe(503)
    expect(body).toMatchObject({
      error: {
        code: 'store_unavailable',
        message:
          'A newer version of Weir has written the data that this call would change; update this instance.',
      },
    })
    expect(await world.redis.command(['GET', profileKey(user)])).toBe(newer)
    const { users } = await usageOf(gateway, `?q=${user}`)
    expect(users).toMatchObject([{ models: [{ model: '*', blocked: true }] }])
  })

  test('a block of all models ends at its time', async () => {
    const token = 'token-of-somebody'
    const userId = await ids.user(token)
    const until = Date.now() + 1500
    await block(gateway, { userId, model: '*', blocked: true, until })
    const refused = await ask(gateway, token)
    expect([refused.status, refused.error?.code]).toEqual([403, 'user_blocked'])
    await expect
      .poll(async () => (await ask(gateway, token)).status, { timeout: 8000, interval: 100 })
      .toBe(200)
    expect(Date.now()).toBeGreaterThanOrEqual(until)
  })

  test.each([
    ['an id that is none', { userId: 'alice', model: '*', blocked: true }, 'userId'],
    ['no model', { userId: seededId(1), blocked: true }, 'model'],
    ['a strange model', { userId: seededId(1), model: 'a b', blocked: true }, 'model'],
    [
      'a past end',
      { userId: seededId(1), model: '*', blocked: true, until: Date.now() - 1 },
      'until',
    ],
    [
      'a day that there is not',
      { userId: seededId(1), model: '*', blocked: true, until: '2031-02-30T10:00:00Z' },
      'until',
    ],
    [
      'an hour that there is not',
      { userId: seededId(1), model: '*', blocked: true, until: '2031-02-03T24:00:00Z' },
      'until',
    ],
    [
      'a long reason',
      { userId: seededId(1), model: '*', blocked: true, reason: 'x'.repeat(501) },
      'reason',
    ],
    [
      'half a character',
      { userId: seededId(1), model: '*', blocked: true, reason: '\ud800' },
      'reason',
    ],
    [
      'an end that is no time',
      { userId: seededId(1), model: '*', blocked: true, until: 'tomorrow' },
      'until',
    ],
    [
      'an end beyond time',
      { userId: seededId(1), model: '*', blocked: true, until: 9e15 },
      'until',
    ],
    ['a word for blocked', { userId: seededId(1), model: '*', blocked: 'yes' }, 'blocked'],
  ])('blocking with %s is refused and changes nothing', async (_, body, param) => {
    const answer = await block(gateway, body)
    expect(answer.status).toBe(400)
    expect(answer.body).toMatchObject({ error: { param } })
    expect(await world.redis.command(['KEYS', '*'])).toEqual([])
  })

  test('erasing removes a user, their blocks and events, and keeps the totals', async () => {
    const tokens = ['token-of-somebody', 'token-of-another']
    for (const token of tokens) await eventOf(world.store, (await ask(gateway, token)).id)
    const [userId, other] = await Promise.all(tokens.map((token) => ids.user(token)))
    await block(gateway, { userId, model: '*', blocked: true })
    const before = await world.store.days([new Date().toISOString().slice(0, 10)])
    const response = await change(gateway, 'DELETE', `users/${userId}`)
    expect(await response.json()).toEqual({ success: true, found: true })
    const { users, events, audit } = await usageOf(gateway)
    expect(users.map(({ userId }) => userId)).toEqual([other])
    expect(events.map(({ user }) => user)).toEqual([other])
    expect(audit[0]).toMatchObject({ action: 'erase', user: userId?.slice(0, 6) })
    expect(await world.store.days([new Date().toISOString().slice(0, 10)])).toEqual(before)
    expect(await world.store.user(userId ?? '')).toBeUndefined()
    expect(await world.store.blockedUsers(10)).toEqual([])
    const again = await change(gateway, 'DELETE', `users/${userId}`)
    expect(await again.json()).toEqual({ success: true, found: false })
  })

  test.each(['alice', 'a'.repeat(23), '..%2f..%2fapi', '%00'])(
    'erasing the id %s is refused',
    async (id) => {
      const response = await change(gateway, 'DELETE', `users/${id}`)
      expect([400, 404]).toContain(response.status)
    },
  )
})
