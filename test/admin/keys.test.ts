import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createIds } from '../../src/identity/ids.ts'
import { createIssuedKeys } from '../../src/identity/issued-key.ts'
import { DAY_MS, HOUR_MS, MINUTE_MS } from '../../src/ledger/windows.ts'
import { MODEL, SECRET, localApp, type LocalApp } from '../support/local-app.ts'

const ids = createIds(SECRET)
const issued = createIssuedKeys(SECRET)

let app: LocalApp
beforeAll(async () => {
  app = await localApp()
})
afterAll(() => app.close())

let count = 0
const newUser = () => `user ${(count += 1)}`
const create = async (body: object = {}) => {
  const owner = 'userId' in body ? {} : { user: newUser() }
  return (await app.admin('POST', 'keys', { ...owner, ...body })).json
}
const patch = (id: string, body: object) => app.admin('PATCH', `keys/${id}`, body)
const rotate = async (id: string, body?: object) =>
  (await app.admin('POST', `keys/${id}/rotate`, body)).json

let requests = 0
/** What the ledger answers to a request with a key: `ok`, or why it refuses. */
async function tried(key: string, model = MODEL): Promise<string> {
  const read = await issued.read(key)
  if (!read) return 'no key'
  const { userId, id, hash } = read
  const { now } = app.clock
  const request = { id: `request-${(requests += 1)}`, reserved: 10, completion: 0 }
  const answer = await app.store.execute({
    ...{ op: 'admit', ...request, user: userId, model, now, key: { id, hash } },
    ...{ lasts: 1000, limits: {} },
  })
  if (answer.ok) return 'ok'
  return answer.reason === 'key' ? answer.why : answer.reason
}

describe('creating', () => {
  test('answers with the key, shows it never again, and nothing of it is in the log', async () => {
    const expires = app.clock.now + DAY_MS
    const sent = { user: 'alice', name: 'Laptop', models: ['openai/*'], expires_at: expires }
    const { status, headers, json } = await app.admin('POST', 'keys', sent)
    expect([status, headers.get('cache-control')]).toEqual([201, 'no-store'])
    const { key, ...shown } = json
    const userId = await ids.ofUser('alice')
    const read = await issued.read(key)
    expect(shown).toEqual({
      id: `${userId}.${read?.id}`,
      userId,
      name: 'Laptop',
      start: key.slice(0, 9),
      last4: key.slice(-4),
      createdAt: app.clock.now,
      expiresAt: expires,
      disabled: false,
      models: ['openai/*'],
      previousExpiresAt: null,
    })
    const known = { ...shown, lastUsedAt: null, monthCostUsd: 0 }
    const answers = await Promise.all([
      app.admin('GET', `keys/${shown.id}`),
      app.admin('GET', `keys?userId=${userId}`),
      app.admin('GET', 'keys'),
      app.admin('GET', `users/${userId}`),
    ])
    expect(answers[0].json).toEqual(known)
    expect(answers[1].json).toEqual({ keys: [known], nextCursor: null })
    expect(answers[3].json.keys).toEqual([known])
    for (const { text } of answers) expect(text).not.toContain(key.slice(9, -4))
    expect(app.log.join()).not.toContain(key)
    expect(JSON.stringify(await app.store.user(userId))).not.toContain(key)
  })

  test('sets the plan and the label of the user', async () => {
    await create({ user: 'bob', plan: 'pro', label: 'Bob Example' })
    const { json } = await app.admin('GET', 'users?user=bob')
    expect(json).toMatchObject({ plan: 'pro', label: 'Bob Example' })
    app.clock.now += 1
    const second = await create({ user: 'bob' })
    expect((await app.admin('GET', `users/${second.userId}`)).json).toMatchObject({
      ...{ plan: 'pro', label: 'Bob Example', keys: [{}, { id: second.id }] },
    })
  })

  test.each<[string, object, string]>([
    ['neither a user nor an id', {}, 'user'],
    ['a user and an id', { user: 'a', userId: 'A'.repeat(22) }, 'user'],
    ['an empty user', { user: '' }, 'user'],
    ['a long user', { user: 'x'.repeat(256) }, 'user'],
    ['an id that is none', { userId: 'alice' }, 'userId'],
    ['a field that there is not', { user: 'a', budget: 5 }, 'budget'],
    ['a long name', { user: 'a', name: 'x'.repeat(101) }, 'name'],
    ['an end in the past', { user: 'a', expires_at: 1 }, 'expires_at'],
    ['an end that is no time', { user: 'a', expires_at: 'soon' }, 'expires_at'],
    ['a plan with a capital', { user: 'a', plan: 'Pro' }, 'plan'],
    ['models that are a text', { user: 'a', models: '*' }, 'models'],
  ])('with %s is refused', async (_, body, param) => {
    const { status, json } = await app.admin('POST', 'keys', body)
    expect([status, json.error.param]).toEqual([400, param])
    expect((await app.admin('GET', 'users?user=a')).json.keys).toEqual([])
  })

  test('a twenty-first key of a user is refused', async () => {
    const user = newUser()
    for (let n = 0; n < 20; n += 1) expect((await create({ user })).id).toBeDefined()
    const { status, json } = await app.admin('POST', 'keys', { user })
    expect([status, json.error.message]).toEqual([400, expect.stringContaining('20 keys')])
  })

  test('without USER_HASH_SECRET no key is made, and the reason is told', async () => {
    const plain = await localApp({ USER_HASH_SECRET: '' })
    try {
      const { status, json } = await plain.admin('POST', 'keys', { user: 'alice' })
      expect([status, json.error.code]).toEqual([503, 'not_configured'])
      expect(json.error.message).toContain('USER_HASH_SECRET')
      expect((await plain.admin('GET', 'users?user=alice')).status).toBe(200)
      expect((await plain.admin('GET', 'keys')).json).toEqual({ keys: [], nextCursor: null })
    } finally {
      await plain.close()
    }
  })
})

test('all keys are listed, page by page, each once', async () => {
  const made = new Set<string>()
  for (let n = 0; n < 250; n += 1) made.add((await create()).id)
  const listed: string[] = []
  let cursor: string | null = ''
  while (cursor !== null) {
    const { json } = await app.admin('GET', `keys${cursor && `?cursor=${cursor}`}`)
    listed.push(...json.keys.map(({ id }) => id))
    cursor = json.nextCursor
  }
  expect(new Set(listed).size).toBe(listed.length)
  expect([...made].filter((id) => !listed.includes(id))).toEqual([])
  for (const query of ['?cursor=short', '?userId=alice', '?user=alice']) {
    expect((await app.admin('GET', `keys${query}`)).status).toBe(400)
  }
})

describe('a key', () => {
  test('is renamed, disabled and enabled, and what a change does not name stays', async () => {
    const { key, id } = await create({ name: 'Old' })
    expect((await patch(id, { name: 'New' })).json).toMatchObject({ id, name: 'New' })
    expect(await tried(key)).toBe('ok')
    expect((await patch(id, { disabled: true })).json).toMatchObject({
      name: 'New',
      disabled: true,
    })
    expect(await tried(key)).toBe('disabled')
    expect((await patch(id, { disabled: false, name: null })).json).toMatchObject({
      ...{ name: null, disabled: false },
    })
    expect(await tried(key)).toBe('ok')
  })

  test('expires at its moment; disabled is told before expired; null is no end', async () => {
    const { key, id } = await create()
    const end = app.clock.now + MINUTE_MS
    const { json } = await patch(id, { expires_at: new Date(end).toISOString() })
    expect(json.expiresAt).toBe(end)
    app.clock.now = end - 1
    expect(await tried(key)).toBe('ok')
    app.clock.now = end
    expect(await tried(key)).toBe('expired')
    await patch(id, { disabled: true })
    expect(await tried(key)).toBe('disabled')
    await patch(id, { disabled: false, expires_at: null })
    expect(await tried(key)).toBe('ok')
  })

  test('calls its own models only, and those of its user', async () => {
    const { key, id, userId } = await create({ models: ['openai/*'] })
    expect(await tried(key)).toBe('ok')
    expect(await tried(key, 'llama-3.1-8b-instant')).toBe('model')
    await patch(id, { models: [] })
    expect(await tried(key)).toBe('model')
    await patch(id, { models: null })
    expect(await tried(key, 'llama-3.1-8b-instant')).toBe('ok')
    await app.admin('PATCH', `users/${userId}`, { models: ['openai/*'] })
    expect(await tried(key, 'llama-3.1-8b-instant')).toBe('model')
  })

  test('that is deleted is unknown, to calls and to the API, and its user stays', async () => {
    const { key, id, userId } = await create({ label: 'Stays' })
    expect((await app.admin('DELETE', `keys/${id}`)).json).toEqual({ success: true })
    expect(await tried(key)).toBe('unknown')
    for (const [method, path, body] of [
      ['GET', ''],
      ['PATCH', '', {}],
      ['DELETE', ''],
      ['POST', '/rotate', {}],
    ] as const) {
      const { status, json } = await app.admin(method, `keys/${id}${path}`, body)
      expect([method, status, json.error.code]).toEqual([method, 404, 'not_found'])
    }
    expect((await app.admin('GET', `users/${userId}`)).json.label).toBe('Stays')
  })

  test('tells when it was used last', async () => {
    const { key, id, userId } = await create()
    const other = await create({ userId })
    await tried(key)
    const { keys } = (await app.admin('GET', `keys?userId=${userId}`)).json
    const used = Object.fromEntries(keys.map(({ id, lastUsedAt }) => [id, lastUsedAt]))
    expect(used[id]).toBeGreaterThan(app.clock.now - DAY_MS)
    expect(used[other.id]).toBeNull()
  })

  test.each<[object, string]>([
    [{ budget: 5 }, 'budget'],
    [{ disabled: 'yes' }, 'disabled'],
    [{ disabled: null }, 'disabled'],
    [{ expires_at: 0 }, 'expires_at'],
    [{ models: [5] }, 'models.0'],
    [{ user: 'alice' }, 'user'],
  ])('is not changed by %j', async (body, param) => {
    const { id } = await create()
    const { status, json } = await patch(id, body)
    expect([status, json.error.param]).toEqual([400, param])
  })

  test.each(['short', 'a.b', `${'A'.repeat(22)}.12345678`])(
    'with the id %s is not found',
    async (id) => {
      const { status, json } = await app.admin('GET', `keys/${id}`)
      expect([status, json.error.code]).toEqual([404, 'not_found'])
    },
  )

  test('is valid after a restart, and so is what an admin decided of it', async () => {
    const [{ key, id }, off] = [await create(), await create()]
    await patch(off.id, { disabled: true })
    const rotated = await rotate(id, { grace_seconds: 3600 })
    await app.restart()
    expect([await tried(key), await tried(rotated.key)]).toEqual(['ok', 'ok'])
    expect(await tried(off.key)).toBe('disabled')
  })
})

describe('rotating', () => {
  test('gives another secret with the same id, and the old one works for the grace', async () => {
    const first = await create({ name: 'Laptop', models: ['openai/*'] })
    const end = app.clock.now + HOUR_MS
    const second = await rotate(first.id, { grace_seconds: 3600 })
    expect(second).toMatchObject({
      ...{ id: first.id, name: 'Laptop', models: ['openai/*'], createdAt: first.createdAt },
      ...{ last4: second.key.slice(-4), previousExpiresAt: end },
    })
    expect(second.key).not.toBe(first.key)
    app.clock.now = end - 1
    expect([await tried(first.key), await tried(second.key)]).toEqual(['ok', 'ok'])
    app.clock.now = end
    expect([await tried(first.key), await tried(second.key)]).toEqual(['unknown', 'ok'])
    expect((await app.admin('GET', `keys/${first.id}`)).json.previousExpiresAt).toBeNull()
  })

  test('without a grace ends the old secret at once', async () => {
    const first = await create()
    const { key, previousExpiresAt } = await rotate(first.id)
    expect(previousExpiresAt).toBeNull()
    expect([await tried(first.key), await tried(key)]).toEqual(['unknown', 'ok'])
  })

  test('twice ends the first grace, and a lost answer loses no key', async () => {
    const first = await create()
    const lost = await rotate(first.id, { grace_seconds: 3600 })
    const again = await rotate(first.id, { grace_seconds: 60 })
    expect(again.id).toBe(first.id)
    expect([await tried(first.key), await tried(lost.key)]).toEqual(['unknown', 'ok'])
    expect(await tried(again.key)).toBe('ok')
    expect((await app.admin('GET', `keys?userId=${first.userId}`)).json.keys).toHaveLength(1)
  })

  test('changes no counter, and does not enable a disabled key', async () => {
    const first = await create()
    for (let n = 0; n < 3; n += 1) await tried(first.key)
    const path = `users/${first.userId}`
    const before = (await app.admin('GET', path)).json.windows
    expect(before).toContainEqual(
      expect.objectContaining({ unit: 'requests', used: 0, reserved: 3 }),
    )
    const second = await rotate(first.id)
    expect((await app.admin('GET', path)).json.windows).toEqual(before)
    await patch(first.id, { disabled: true })
    const third = await rotate(first.id, { grace_seconds: 60 })
    expect([await tried(second.key), await tried(third.key)]).toEqual(['disabled', 'disabled'])
  })

  test.each([-1, 0.5, 30 * 86_400 + 1, '60', null])(
    'with a grace of %j is refused',
    async (grace) => {
      const { key, id } = await create()
      const { status, json } = await app.admin('POST', `keys/${id}/rotate`, {
        grace_seconds: grace,
      })
      expect([status, json.error.param]).toEqual([400, 'grace_seconds'])
      expect(json.error.message).toContain('2592000')
      expect(await tried(key)).toBe('ok')
    },
  )
})

test('every change of a key is in the audit trail, with its id and without its secret', async () => {
  const { key, id, userId } = await create()
  await patch(id, { name: 'New' })
  const rotated = await rotate(id)
  await app.admin('DELETE', `keys/${id}`)
  const audit = await app.store.audit(4)
  const user = userId.slice(0, 6)
  const what = id.split('.')[1]
  expect(audit.map(({ action }) => action)).toEqual([
    ...['delete key', 'rotate key', 'change key', 'create key'],
  ])
  for (const entry of audit) expect(entry).toMatchObject({ user, what, ip: '192.0.2.1' })
  for (const secret of [key, rotated.key]) {
    expect(JSON.stringify(audit) + app.log.join()).not.toContain(secret)
  }
})
