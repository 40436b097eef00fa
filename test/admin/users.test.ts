import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { createIds } from '../../src/identity/ids.ts'
import { DAY_MS, HOUR_MS, MINUTE_MS, NO_END, SECOND_MS } from '../../src/ledger/windows.ts'
import { BEARER } from '../support/admin.ts'
import { MODEL, SECRET, localApp, type LocalApp } from '../support/local-app.ts'

const ids = createIds(SECRET)
/** Refusals are remembered for two seconds. */
const FORGOTTEN_MS = 2 * SECOND_MS

let app: LocalApp
beforeAll(async () => {
  app = await localApp()
})
afterAll(() => app.close())

let count = 0
/** A user who has never called: their token, and their path. */
async function newUser() {
  const token = `token-of-user-${(count += 1)}`
  const id = await ids.user(token)
  return { token, id, path: `users/${id}` }
}

const patch = (path: string, body: unknown) => app.admin('PATCH', path, body)
const later = (ms: number) => void (app.clock.now += ms)

describe('a profile', () => {
  test('of a user who has never called is stored, and shown with what holds', async () => {
    const { id, path } = await newUser()
    expect((await app.admin('GET', path)).status).toBe(404)
    const until = app.clock.now + HOUR_MS
    const changed = await patch(path, {
      label: 'Ann Example',
      note: 'Pays by invoice.\nCall first.',
      limits: { '*': { requestsPerDay: 5, tokensPerDay: null }, total: { tokensPerDay: 900 } },
      boost: { limits: { '*': { requestsPerDay: 2 } }, until },
      models: ['openai/*'],
      notBefore: 'now',
    })
    expect(changed.status).toBe(200)
    expect(changed.headers.get('cache-control')).toBe('no-store')
    expect(changed.json).toEqual({
      userId: id,
      label: 'Ann Example',
      ownLabel: 'Ann Example',
      note: 'Pays by invoice.\nCall first.',
      plan: null,
      effectivePlan: 'default',
      limits: { '*': { requestsPerDay: 5, tokensPerDay: null }, total: { tokensPerDay: 900 } },
      effectiveLimits: { '*': { requestsPerDay: 7 }, total: { tokensPerDay: 900 } },
      boost: { limits: { '*': { requestsPerDay: 2 } }, until },
      models: ['openai/*'],
      notBefore: app.clock.now,
      blocks: [],
      keys: [],
      costs: { month: 0, week: 0, day: 0 },
      windows: [
        {
          ...{ model: '*', unit: 'tokens', window: 'day', limit: 900, used: 0, reserved: 0 },
          remaining: 900,
          resetAt: Math.ceil(app.clock.now / DAY_MS) * DAY_MS,
        },
      ],
      ipAddress: null,
      lastActive: null,
    })
    expect((await app.admin('GET', path)).json).toEqual(changed.json)
  })

  test('keeps what a change does not name, and null clears', async () => {
    const { path } = await newUser()
    await patch(path, { label: 'One', note: 'Two', plan: 'pro', models: [] })
    expect((await patch(path, { note: null })).json).toMatchObject({
      ...{ label: 'One', note: null, plan: 'pro', effectivePlan: 'default', models: [] },
    })
    const cleared = await patch(path, { label: null, plan: null, models: null, notBefore: null })
    expect(cleared.json).toMatchObject({ label: null, plan: null, models: null, notBefore: null })
    expect((await patch(path, {})).status).toBe(200)
  })

  test('is found by the name that the application has for the user', async () => {
    const { json } = await app.admin('GET', 'users?user=alice%40example.com')
    expect(json.userId).toBe(await ids.ofUser('alice@example.com'))
    expect(json).toMatchObject({ keys: [], lastActive: null, effectivePlan: 'default' })
  })

  test.each<[string, object, string]>([
    ['a field that there is not', { budget: 5 }, 'budget'],
    ['a limit that there is not', { limits: { '*': { tokensPerYear: 5 } } }, 'tokensPerYear'],
    ['a limit below 0', { limits: { '*': { tokensPerDay: -1 } } }, 'limits.*.tokensPerDay'],
    ['half a token', { limits: { '*': { tokensPerDay: 0.5 } } }, 'limits.*.tokensPerDay'],
    ['a limit as text', { limits: { total: { tokensPerDay: '5' } } }, 'limits.total.tokensPerDay'],
    ['a row that is no model', { limits: { 'a model': {} } }, 'limits.a model'],
    ['a row that is null', { limits: { '*': null } }, 'limits.*'],
    ['rows as a list', { limits: [] }, 'limits'],
    [
      'many rows',
      { limits: Object.fromEntries(Array.from('x'.repeat(65), (_, n) => [`m${n}`, {}])) },
      'limits',
    ],
    ['a boost without an end', { boost: { limits: {} } }, 'boost.until'],
    ['a boost that has ended', { boost: { limits: {}, until: 5 } }, 'boost.until'],
    [
      'a boost to no limit',
      { boost: { limits: { '*': { tokensPerDay: null } }, until: NO_END } },
      'boost.limits.*.tokensPerDay',
    ],
    ['a boost of more', { boost: { limits: {}, until: NO_END, cycles: 2 } }, 'boost.cycles'],
    ['models as a text', { models: 'openai/gpt-oss-20b' }, 'models'],
    ['a model with a space', { models: ['a model'] }, 'models.0'],
    ['a plan with a capital', { plan: 'Pro' }, 'plan'],
    ['a label of two lines', { label: 'a\nb' }, 'label'],
    ['a label of nothing', { label: '  ' }, 'label'],
    ['a long label', { label: 'x'.repeat(101) }, 'label'],
    ['half a character', { note: '\ud800' }, 'note'],
    ['a moment that there is not', { notBefore: 9e15 }, 'notBefore'],
    ['a moment as a word', { notBefore: 'yesterday' }, 'notBefore'],
  ])('is not changed by %s', async (_, body, param) => {
    const { path } = await newUser()
    const { status, json } = await patch(path, { note: 'x', ...body })
    expect([status, json.error.code]).toEqual([400, 'invalid_request'])
    expect(json.error.param).toContain(param)
    expect((await app.admin('GET', path)).status).toBe(404)
  })

  test('a limit that there is not is refused with those that there are', async () => {
    const { path } = await newUser()
    const { json } = await patch(path, { limits: { '*': { tokensPerYear: 5 } } })
    expect(json.error.message).toContain('`limits.*.tokensPerYear` is wrong')
    expect(json.error.message).toContain('requestsPerDay, tokensPerDay')
  })

  test.each(['users/short', `users/${'x'.repeat(23)}`])(
    'an id like %s is refused',
    async (path) => {
      for (const [method, body] of [['GET'], ['PATCH', {}], ['DELETE']] as const) {
        const { status, json } = await app.admin(method, path, body)
        expect([status, json.error.param]).toEqual([400, 'userId'])
      }
    },
  )

  test('every change is in the audit trail, with the address and without values', async () => {
    const { id, path } = await newUser()
    await patch(path, { label: 'A secret name', limits: { '*': { tokensPerDay: 1 } } })
    await app.admin('POST', `${path}/reset`, { window: 'day' })
    const user = id.slice(0, 6)
    const [reset, change] = await app.store.audit(2)
    expect(reset).toMatchObject({ action: 'reset', user, what: 'day', ip: '192.0.2.1' })
    expect(change).toMatchObject({ action: 'user', user, what: 'label limits' })
    expect(JSON.stringify(change)).not.toContain('secret')
  })

  test('is there after a restart', async () => {
    const { path } = await newUser()
    const { json } = await patch(path, { label: 'Kept', limits: { '*': { tokensPerDay: 1 } } })
    await app.restart()
    expect((await app.admin('GET', path)).json).toEqual(json)
  })
})

describe('the next request is held by', () => {
  test('a limit of the user’s own: a number, none, and that of the plan', async () => {
    const { token, path } = await newUser()
    await patch(path, { limits: { '*': { requestsPerDay: 1 } } })
    expect((await app.ask(token)).status).toBe(200)
    const refused = await app.ask(token)
    expect([refused.status, refused.json.error.code]).toEqual([429, 'insufficient_quota'])

    await patch(path, { limits: { '*': { requestsPerDay: null } } })
    later(FORGOTTEN_MS)
    const { json } = await app.admin('GET', path)
    expect(json.effectiveLimits).toEqual({ '*': { tokensPerDay: 1_000_000 } })
    expect((await app.ask(token)).status).toBe(200)

    await patch(path, { limits: {} })
    const { limits, effectiveLimits, windows } = (await app.admin('GET', path)).json
    expect(limits).toEqual({})
    expect(effectiveLimits).toEqual({ '*': { tokensPerDay: 1_000_000, requestsPerDay: 1000 } })
    expect(windows).toMatchObject([
      { model: MODEL, unit: 'requests', limit: 1000, used: 2, remaining: 998 },
      { model: MODEL, unit: 'tokens', limit: 1_000_000, used: 70, remaining: 999_930 },
    ])
  })

  test('the whole set of limits that was sent last', async () => {
    const { token, path } = await newUser()
    await patch(path, { limits: { '*': { requestsPerDay: 0 }, total: { requestsPerDay: 0 } } })
    await patch(path, { limits: { 'another/model': { requestsPerDay: 0 } } })
    expect((await app.ask(token)).status).toBe(200)
    expect((await app.ask(token, { model: 'another/model' })).status).toBe(429)
  })

  test('a limit that was lowered below what was used, and what was used stays counted', async () => {
    const { token, path } = await newUser()
    for (let n = 0; n < 3; n += 1) expect((await app.ask(token)).status).toBe(200)
    const { json } = await patch(path, { limits: { '*': { requestsPerDay: 2 } } })
    expect(json.windows).toContainEqual(
      expect.objectContaining({ unit: 'requests', limit: 2, used: 3, remaining: 0 }),
    )
    expect((await app.ask(token)).status).toBe(429)
    await patch(path, { limits: { '*': { requestsPerDay: 4 } } })
    later(FORGOTTEN_MS)
    expect((await app.ask(token)).status).toBe(200)
    expect((await app.ask(token)).status).toBe(429)
  })

  test.each(['requestsPerMinute', 'requestsPerDay'])('each edit of %s', async (name) => {
    const { token, path } = await newUser()
    const statusWith = async (limit: number | null | undefined) => {
      await patch(path, { limits: { '*': { [name]: limit } } })
      later(FORGOTTEN_MS)
      return (await app.ask(token)).status
    }
    app.clock.now = Math.ceil(app.clock.now / MINUTE_MS) * MINUTE_MS
    // What was used stays counted: two are not three, but three are more than two.
    expect([await statusWith(2), await statusWith(2), await statusWith(2)]).toEqual([200, 200, 429])
    expect([await statusWith(3), await statusWith(2)]).toEqual([200, 429])
    expect([await statusWith(null), await statusWith(undefined)]).toEqual([200, 200])
    expect(await statusWith(1)).toBe(429)
    await app.admin('POST', `${path}/reset`, { window: name.endsWith('Day') ? 'day' : 'minute' })
    expect([await statusWith(1), await statusWith(1)]).toEqual([200, 429])
  })

  test('a boost, until it ends', async () => {
    const { token, path } = await newUser()
    const until = app.clock.now + MINUTE_MS
    await patch(path, { limits: { '*': { requestsPerDay: 1 } } })
    await patch(path, {
      boost: {
        limits: { '*': { requestsPerDay: 1, requestsPerMinute: 9 } },
        until: new Date(until).toISOString(),
      },
    })
    expect((await app.admin('GET', path)).json.boost?.until).toBe(until)
    expect((await app.ask(token)).status).toBe(200)
    app.clock.now = until - 1
    expect((await app.ask(token)).status).toBe(200)
    app.clock.now = until
    expect((await app.ask(token)).status).toBe(429)
    const { boost, effectiveLimits } = (await app.admin('GET', path)).json
    expect(boost).toBeNull()
    expect(effectiveLimits['*']).toEqual({ requestsPerDay: 1, tokensPerDay: 1_000_000 })
  })

  test('the models of the user; an empty list is none, and null is all', async () => {
    const { token, path } = await newUser()
    const codeFor = async (models: string[] | null) => {
      await patch(path, { models })
      const { status, json } = await app.ask(token)
      return [status, json.error?.code]
    }
    expect(await codeFor(['openai/*'])).toEqual([200, undefined])
    expect(await codeFor(['llama*', '*-120b'])).toEqual([403, 'model_not_allowed'])
    expect(await codeFor([])).toEqual([403, 'model_not_allowed'])
    expect(await codeFor(null)).toEqual([200, undefined])
  })

  test('a block, which is among what is told of the user', async () => {
    const { token, id, path } = await newUser()
    const until = app.clock.now + HOUR_MS
    await app.admin('POST', 'usage', {
      userId: id,
      model: MODEL,
      blocked: true,
      reason: 'No',
      until,
    })
    expect((await app.ask(token)).json.error.code).toBe('user_blocked')
    const { blocks } = (await app.admin('GET', path)).json
    expect(blocks).toEqual([{ model: MODEL, at: app.clock.now, reason: 'No', until }])
  })

  test('a reset: of a window, or of all', async () => {
    const { token, path } = await newUser()
    await patch(path, { limits: { '*': { requestsPerDay: 1, requestsPerMinute: 1 } } })
    expect((await app.ask(token)).status).toBe(200)
    expect((await app.admin('POST', `${path}/reset`, { window: 'minute' })).json).toEqual({
      success: true,
    })
    expect((await app.ask(token)).json.error.message).toContain('a day')
    later(FORGOTTEN_MS)
    // A reset needs no body.
    expect((await app.admin('POST', `${path}/reset`)).status).toBe(200)
    expect((await app.ask(token)).status).toBe(200)
    const { windows } = (await app.admin('GET', path)).json
    expect(windows).toContainEqual(expect.objectContaining({ window: 'minute', used: 1 }))
    expect(windows).toContainEqual(
      expect.objectContaining({ window: 'day', unit: 'requests', used: 1 }),
    )
    const wrong = await app.admin('POST', `${path}/reset`, { window: 'year' })
    expect([wrong.status, wrong.json.error.param]).toEqual([400, 'window'])
    expect(wrong.json.error.message).toContain('month, week, day, hour, minute')
  })
})

describe('a search', () => {
  const found = async (q: string): Promise<string[]> => {
    const { json } = await app.admin('GET', `users?q=${encodeURIComponent(q)}`)
    return json.users.map(({ userId }) => userId)
  }

  test('finds by the beginning of any word of a label, in any case', async () => {
    const { id, path } = await newUser()
    await patch(path, { label: 'Zoë Quartermaine' })
    for (const q of ['zo', 'ZOË', 'quarter', 'Quartermaine', 'zoë quart', 'quart zo']) {
      expect(await found(q), q).toEqual([id])
    }
    for (const q of ['artermaine', 'zoë smith']) expect(await found(q), q).toEqual([])
    await patch(path, { label: 'Somebody' })
    expect(await found('quarter')).toEqual([])
  })

  test('finds by an id, by its beginning, by a whole token and by the application’s name', async () => {
    const { id, token, path } = await newUser()
    const named = await ids.ofUser('a name of the app')
    for (const one of [path, `users/${named}`]) await patch(one, { note: 'known' })
    expect(await found(id)).toEqual([id])
    expect(await found(id.slice(0, 6))).toEqual([id])
    expect(await found(token)).toEqual([id])
    expect(await found('a name of the app')).toEqual([named])
  })

  test('finds a user of whom nothing is known but their calls by the beginning of the id', async () => {
    const token = 'token of a user without a profile'
    await app.ask(token)
    const id = await ids.user(token)
    expect(await found(id.slice(0, 6))).toEqual([id])
  })

  test('finds the owner of a key and of the id of a key', async () => {
    const { json } = await app.admin('POST', 'keys', { user: 'owner of a key' })
    const owner = await ids.ofUser('owner of a key')
    expect(await found(json.key)).toEqual([owner])
    expect(await found(json.id)).toEqual([owner])
    expect(app.log.join()).not.toContain(json.key)
  })

  test('needs what to search for', async () => {
    for (const query of ['', '?q=', '?user=', '?user=a&q=b', '?name=a', `?q=${'x'.repeat(513)}`]) {
      const { status, json } = await app.admin('GET', `users${query}`)
      expect([query, status, json.error.code]).toEqual([query, 400, 'invalid_request'])
    }
  })
})

describe('an import', () => {
  const send = (body: string, type = 'text/csv') =>
    app.send('/api/admin/users/import', {
      method: 'POST',
      headers: { ...BEARER, 'content-type': type },
      body,
    })
  const labelOf = async (user: string) =>
    (await app.admin('GET', `users?user=${encodeURIComponent(user)}`)).json.label

  test('names users; an empty cell changes nothing', async () => {
    const file =
      '\ufeffuser,label,plan\r\nu-1,"Ann, ""the"" first",pro\r\nu-2,,free\r\n"u\n3",Cé,\r\n'
    const { status, json } = await send(file)
    expect([status, json]).toEqual([
      200,
      {
        success: true,
        users: await Promise.all(
          ['u-1', 'u-2', 'u\n3'].map(async (user) => ({ user, userId: await ids.ofUser(user) })),
        ),
      },
    ])
    expect(await labelOf('u-1')).toBe('Ann, "the" first')
    expect(await labelOf('u\n3')).toBe('Cé')
    await send('plan,user\nfree,u-1\n')
    const { label, plan } = (await app.admin('GET', 'users?user=u-1')).json
    expect([label, plan]).toEqual(['Ann, "the" first', 'free'])
  })

  test.each<[string, string, string, number]>([
    ['cells', `user\n${','.repeat(900_000)}`, 'Row 2 has more than 100 cells', 200],
    ['rows', `user\n${'a\n'.repeat(450_000)}`, 'At most 1000 users', 3000],
  ])('is read no further than to what is too much: %s', async (_, file, told, most) => {
    const cells = vi.spyOn(RegExp.prototype, 'exec')
    const { status, json } = await send(file)
    const count = cells.mock.calls.length
    cells.mockRestore()
    expect([status, json.error.code]).toEqual([400, 'invalid_request'])
    expect(json.error.message).toContain(told)
    expect(count).toBeLessThan(most)
  })

  test.each<[string, string, string]>([
    ['no header', 'u-9,Ann,pro\n', 'user,label,plan'],
    ['another column', 'user,label,budget\nu-9,Ann,5\n', 'user,label,plan'],
    ['a column twice', 'user,label,label\nu-9,a,b\n', 'user,label,plan'],
    ['no users column', 'label\nAnn\n', 'user,label,plan'],
    ['nothing', '', 'user,label,plan'],
    ['semicolons', 'user;label\nu-9;Ann\n', 'user,label,plan'],
    ['a cell too many', 'user,label\nu-9,Ann\nu-8,Bo,pro\n', 'Row 3'],
    ['an empty line', 'user,label\nu-9,Ann\n\nu-8,Bo\n', 'Row 3'],
    ['a row without a user', 'user,label\nu-9,Ann\n,Bo\n', 'Row 3: `user`'],
    ['a wrong plan', 'user,plan\nu-9,pro\nu-8,Pro Plan\n', 'Row 3: `plan`'],
    [
      'the same user twice',
      'user,label\nu-9,Ann\nu-8,Bo\nu-9,Cy\n',
      'Row 4: this user is in row 2',
    ],
    ['an open quote', 'user,label\nu-9,Ann\nu-8,"Bo\n', 'Row 3 is no CSV'],
    ['a quote in a cell', 'user,label\nu-9,A"nn\n', 'Row 2 is no CSV'],
    [
      'too many users',
      `user\n${Array.from({ length: 1001 }, (_, n) => `u${n}`).join('\n')}`,
      '1000',
    ],
  ])('of a file with %s writes nothing', async (_, file, message) => {
    const { status, json } = await send(file)
    expect([status, json.error.code]).toEqual([400, 'invalid_request'])
    expect(json.error.message).toContain(message)
    expect(await labelOf('u-9')).toBeNull()
  })

  test('of a thousand users is one call', async () => {
    const file = Array.from({ length: 1000 }, (_, n) => `many-${n},Label ${n},free`).join('\r\n')
    expect((await send(`user,label,plan\r\n${file}`)).json.users).toHaveLength(1000)
    expect(await labelOf('many-999')).toBe('Label 999')
  })

  test('of bytes that are no UTF-8, or too many, is refused', async () => {
    const bytes = new Uint8Array([0x75, 0x73, 0xff])
    const post = { method: 'POST', headers: BEARER }
    expect((await app.send('/api/admin/users/import', { ...post, body: bytes })).status).toBe(400)
    expect((await send('x'.repeat(1024 * 1024 + 1))).status).toBe(413)
  })
})

test('erasing removes the profile and the keys, and the user is new', async () => {
  const { token, id, path } = await newUser()
  await patch(path, { label: 'Gone soon', limits: { '*': { requestsPerDay: 0 } } })
  const { json: key } = await app.admin('POST', 'keys', { userId: id })
  expect((await app.admin('DELETE', path)).json).toEqual({ success: true, found: true })
  expect((await app.admin('GET', path)).status).toBe(404)
  expect((await app.admin('GET', `keys/${key.id}`)).status).toBe(404)
  expect((await app.ask(token)).status).toBe(200)
})
