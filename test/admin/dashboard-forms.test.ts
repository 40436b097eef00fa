/** The forms of the dashboard by which an admin changes users, keys, plans and settings, without scripts. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { readConfig } from '../../src/config/config.ts'
import { createIds } from '../../src/identity/ids.ts'
import { createIssuedKeys } from '../../src/identity/issued-key.ts'
import { DAY_MS, HOUR_MS } from '../../src/ledger/windows.ts'
import { knownModels } from '../../src/routes/form-fields.ts'
import { SAME_ORIGIN } from '../support/admin.ts'
import { ADMIN_KEY } from '../support/gateways.ts'
import { MODEL, SECRET, localApp, type LocalApp } from '../support/local-app.ts'

const ids = createIds(SECRET)
const issued = createIssuedKeys(SECRET)
const HOSTILE = `<script>alert(1)</script>"'&amp;`
const ESCAPED = /&lt;script&gt;alert\(1\)&lt;\/script&gt;&quot;&#39;&amp;amp;/

let app: LocalApp
let cookie: string
beforeAll(async () => {
  app = await localApp({ USER_TOKENS: 'any,issued' })
  const headers = { 'content-type': 'application/json', ...SAME_ORIGIN }
  const body = JSON.stringify({ key: ADMIN_KEY })
  const login = await app.send('/api/admin/login', { method: 'POST', headers, body })
  cookie = (login.headers.get('set-cookie') ?? '').split(';', 1)[0] ?? ''
})
afterAll(() => app.close())

const page = (path: string, headers = {}) => app.send(path, { headers: { cookie, ...headers } })
const post = async (path: string, form: Record<string, string> = {}, headers = {}) => {
  const body = new URLSearchParams(form)
  const answer = await app.send(path, {
    method: 'POST',
    headers: { ...SAME_ORIGIN, cookie, ...headers },
    body,
  })
  return { ...answer, location: answer.headers.get('location') }
}

/** What is told in an answer to a form that is refused. */
const problem = (html: string) =>
  /role="alert"><bdi>([^<]*)</.exec(html)?.[1]?.replaceAll('&quot;', '"')
/** The last actions of admins. */
const audited = async (count = 1) =>
  (await app.store.audit(count)).map(({ action, what }) => [action, what].filter(Boolean).join(' '))

let users = 0
/** A user who has called, and the path of their page. */
async function someone() {
  const token = `token-of-somebody-${(users += 1)}`
  await app.ask(token)
  const user = await ids.user(token)
  return { token, user, path: `/admin/users/${user}` }
}
const profileOf = async (user: string) => (await app.admin('GET', `users/${user}`)).json

describe('the page of a user', () => {
  test('sets and clears a label, a note and a plan, and records what changed', async () => {
    const { user, path } = await someone()
    await app.admin('PUT', 'plans/pro', { limits: {} })
    expect((await page(path)).text).toContain('<option value="pro">pro</option>')
    const form = { label: ' Ann Example ', note: 'First\r\nsecond', plan: 'pro' }
    const answer = await post(`${path}/profile`, form)
    expect([answer.status, answer.location]).toEqual([303, `${path}?done=saved`])
    expect(await profileOf(user)).toMatchObject({
      ...{ label: 'Ann Example', note: 'First\nsecond', plan: 'pro', effectivePlan: 'pro' },
    })
    expect(await audited()).toEqual(['user label note plan'])
    const { text } = await page(`${path}?done=saved`)
    expect(text).toContain('Saved.')
    expect(text).toContain('value="Ann Example"')
    expect(text).toContain('<option value="pro" selected="">pro</option>')

    await post(`${path}/profile`, { ...form, label: '' })
    expect(await profileOf(user)).toMatchObject({ label: null, note: 'First\nsecond' })
    expect(await audited()).toEqual(['user label'])
  })

  test('sets limits of the user: a number, unlimited, or as in the plan', async () => {
    const { user, path } = await someone()
    expect((await page(path)).text).toContain('placeholder="1,000,000" aria-label="Tokens a day"')
    const form = {
      'model-0': 'total',
      'tokensPerDay-0': '2,000',
      'model-1': '*',
      'model-2': MODEL,
      'tokensPerDay-2': 'Unlimited',
      'requestsPerDay-2': '7',
    }
    expect((await post(`${path}/limits`, form)).location).toBe(`${path}?done=saved`)
    const limits = {
      total: { tokensPerDay: 2000 },
      [MODEL]: { tokensPerDay: null, requestsPerDay: 7 },
    }
    expect((await profileOf(user)).limits).toEqual(limits)
    expect(await audited()).toEqual(['user limits'])
    const { text } = await page(path)
    expect(text).toMatch(/name="tokensPerDay-0" value="2,000"/)
    expect(text).toMatch(/name="tokensPerDay-2" value="unlimited"/)

    // A row without limits has a meaning of its own, so it stays until it is removed.
    const { 'tokensPerDay-2': _, 'requestsPerDay-2': __, ...empty } = form
    await post(`${path}/limits`, { ...empty, 'model-3': '' })
    expect((await profileOf(user)).limits).toEqual({ total: { tokensPerDay: 2000 }, [MODEL]: {} })
    await post(`${path}/limits`, { ...form, 'remove-2': 'yes' })
    expect((await profileOf(user)).limits).toEqual({ total: { tokensPerDay: 2000 } })
  })

  test('sets limits in dollars, with the words of people, and shows them as they were meant', async () => {
    const { user, path } = await someone()
    const form = {
      'model-0': 'total',
      'usdPerMonth-0': '$1,234.50',
      'usdPerDay-0': '.000001',
      'usdPerWeek-0': '0',
      'usdPerHour-0': '1000000',
      'model-1': '*',
      'usdPerMonth-1': 'unlimited',
    }
    expect((await post(`${path}/limits`, form)).location).toBe(`${path}?done=saved`)
    const dollars = { usdPerMonth: 1234.5, usdPerWeek: 0, usdPerDay: 0.000001, usdPerHour: 1e6 }
    expect((await profileOf(user)).limits).toEqual({ total: dollars, '*': { usdPerMonth: null } })
    const { text } = await page(path)
    for (const field of [
      'name="usdPerMonth-0" value="1,234.5"',
      'name="usdPerWeek-0" value="0"',
      'name="usdPerDay-0" value="0.000001"',
      'name="usdPerMonth-1" value="unlimited"',
    ]) {
      expect(text).toContain(field)
    }
    // What the page shows can be sent back as it is.
    await post(`${path}/limits`, {
      ...form,
      'usdPerDay-0': '0.000001',
      'usdPerHour-0': '1,000,000',
    })
    expect((await profileOf(user)).limits['total']).toEqual(dollars)
  })

  test.each<[Record<string, string>, string]>([
    ...['$', '1.0000001', '-1', '1e3', '1000000.01', '1,23', '5 dollars'].map(
      (typed): [Record<string, string>, string] => [
        { 'usdPerMonth-0': typed },
        'All models together, dollars a month: write dollars, such as 2.50, of at most 1,000,000 and with at most 6 decimals, or "unlimited", or nothing.',
      ],
    ),
    [{ 'tokensPerDay-0': 'a lot' }, 'All models together, tokens a day: write a whole number'],
    [{ 'tokensPerDay-0': '-1' }, 'All models together, tokens a day: write a whole number'],
    [{ 'requestsPerMinute-0': '1.5' }, 'All models together, requests a minute'],
    [{ 'tokensPerDay-1': '1,5' }, 'Every other model, tokens a day'],
    [{ 'model-2': '', 'tokensPerDay-2': '5' }, 'A row has limits and no model'],
    [{ 'model-2': 'a b', 'tokensPerDay-2': '5' }, 'a b cannot have a row'],
    [{ 'model-2': 'total', 'tokensPerDay-2': '5', 'tokensPerDay-0': '6' }, 'has two rows'],
    [
      { 'model-2': 'gpt-3.5-turbo', 'tokensPerDay-2': 'x' },
      'gpt-3.5-turbo, tokens a day: write a whole number of at most 10,000,000,000,000, or "unlimited", or nothing.',
    ],
  ])('limits %j are refused, and what was typed stays', async (wrong, told) => {
    const { user, path } = await someone()
    const before = await audited()
    const form = { 'model-0': 'total', 'model-1': '*', 'requestsPerDay-1': '77', ...wrong }
    const { status, text } = await post(`${path}/limits`, form)
    expect(status).toBe(400)
    expect(problem(text)).toContain(told)
    expect(text).toContain('<details class="form" open="">')
    for (const typed of ['77', ...Object.values(wrong).filter(Boolean)]) {
      expect(text).toContain(`value="${typed}"`)
    }
    expect((await profileOf(user)).limits).toEqual({})
    expect(await audited()).toEqual(before)
  })

  test.each([
    ['limits', { 'model-0': 'total', 'tokensPerDay-0': 'a lot' }, 'tokensPerDay-0'],
    ['limits', { 'model-0': 'total', 'model-1': 'a b', 'tokensPerDay-1': '5' }, 'model-1'],
    ['boost', { until: '2001-01-01T00:00', 'model-0': 'total' }, 'until'],
    ['models', { which: 'these', models: 'a\n<b>' }, 'models'],
    ['keys', { expires: 'soon', next: 'abcdefgh' }, 'expires'],
  ] as [string, Record<string, string>, string][])(
    'the form %s with %j has the field marked that is wrong, and the focus in it',
    async (form, wrong, field) => {
      const { text } = await post(`${(await someone()).path}/${form}`, wrong)
      const marked = text.match(/<[^>]*aria-invalid[^>]*>/g) ?? []
      expect(marked).toHaveLength(1)
      expect(marked[0]).toContain(`name="${field}"`)
      expect(marked[0]).toContain('autofocus')
    },
  )

  test.each([
    ['profile', { label: 'x'.repeat(101) }, 'The label must be one line of at most 100 characters'],
    ['profile', { plan: 'No plan' }, 'The plan must be the name of a plan'],
    ['boost', { until: '', 'model-0': 'total', 'tokensPerDay-0': '123' }, 'The end'],
    ['boost', { until: '2001-01-01T00:00', 'model-0': 'total' }, 'The end must be in the future.'],
    [
      'boost',
      { until: '2099-01-01T00:00', 'model-0': 'total', 'tokensPerDay-0': 'unlimited' },
      'All models together, tokens a day: write a whole number of at most 10,000,000,000,000, or nothing.',
    ],
    ['models', { which: 'all', models: 'openai/*' }, 'choose "only these"'],
    ['models', { which: 'these', models: 'a\n<b>' }, 'names of models, one a line'],
    ['reset', { window: 'century' }, 'The window must be one of: month, week, day, hour, minute'],
    ['keys', { name: 'x'.repeat(101), next: 'abcdefgh' }, 'The name must be one line'],
    ['keys', { expires: '2001-01-01T00:00', next: 'abcdefgh' }, 'The end must be in the future.'],
    ['keys', { expires: 'soon', next: 'abcdefgh' }, 'The end must be epoch ms or ISO time'],
  ] as [string, Record<string, string>, string][])(
    'the form %s with %j is refused with what would be right',
    async (form, wrong, told) => {
      const { path } = await someone()
      const before = await audited()
      const { status, text } = await post(`${path}/${form}`, wrong)
      expect([status, problem(text)]).toEqual([400, expect.stringContaining(told)])
      expect(await audited()).toEqual(before)
      const { label, name, until, models } = wrong
      for (const typed of [label, name, until])
        if (typed) expect(text).toContain(`value="${typed}"`)
      if (models) expect(text).toContain(`>${models.replace('<b>', '&lt;b&gt;')}</textarea>`)
    },
  )

  test('boosts until a moment, and ends the boost', async () => {
    const { user, path } = await someone()
    const until = new Date(app.clock.now + HOUR_MS).toISOString().slice(0, 16)
    await post(`${path}/boost`, { until, 'model-0': '*', 'tokensPerDay-0': '500' })
    expect((await profileOf(user)).boost).toEqual({
      limits: { '*': { tokensPerDay: 500 } },
      until: app.clock.now + HOUR_MS,
    })
    expect((await page(path)).text).toContain('Boost ends')
    await post(`${path}/unboost`)
    expect((await profileOf(user)).boost).toBeNull()
    expect(await audited(2)).toEqual(['user boost', 'user boost'])
  })

  test('a boost that is edited keeps its end, whose field has no seconds', async () => {
    const { user, path } = await someone()
    const until = app.clock.now + HOUR_MS + 30_123
    await app.admin('PATCH', `users/${user}`, {
      boost: { limits: { '*': { tokensPerDay: 5 } }, until },
    })
    const { text } = await page(path)
    const shown = /name="until"[^>]* value="([^"]+)"/.exec(text)?.[1] ?? ''
    expect(shown).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d$/)
    await post(`${path}/boost`, { until: shown, 'model-0': '*', 'tokensPerDay-0': '500' })
    expect((await profileOf(user)).boost?.until).toBe(until)
  })

  test('sets the models, all of them or none', async () => {
    const { user, path } = await someone()
    const send = (which: string, models: string) => post(`${path}/models`, { which, models })
    await send('these', 'openai/*\r\n llama-3 ')
    expect((await profileOf(user)).models).toEqual(['openai/*', 'llama-3'])
    expect((await page(path)).text).toContain('>openai/*\nllama-3</textarea>')
    await send('these', '')
    expect((await profileOf(user)).models).toEqual([])
    await send('all', '')
    expect((await profileOf(user)).models).toBeNull()
  })

  test('refuses all tokens issued before now, and takes them again', async () => {
    const { user, path } = await someone()
    expect((await post(`${path}/sign-out`)).location).toBe(`${path}?done=signed-out`)
    expect((await profileOf(user)).notBefore).toBe(app.clock.now)
    expect(await audited()).toEqual(['user notBefore'])
    await post(`${path}/sign-in`)
    expect((await profileOf(user)).notBefore).toBeNull()
  })

  test('resets one window or all', async () => {
    const { user, path } = await someone()
    const used = async () => (await profileOf(user)).windows.map(({ used }) => used)
    expect(Math.max(...(await used()))).toBeGreaterThan(0)
    expect((await post(`${path}/reset`, { window: 'minute' })).location).toBe(`${path}?done=reset`)
    expect(await audited()).toEqual(['reset minute'])
    expect(Math.max(...(await used()))).toBeGreaterThan(0)
    await post(`${path}/reset`, { window: '' })
    expect(Math.max(...(await used()))).toBe(0)
    expect(await audited()).toEqual(['reset'])
  })

  test('shows labels, notes, plans and names of keys as text', async () => {
    const { user, path } = await someone()
    await app.admin('PATCH', `users/${user}`, { label: HOSTILE, note: HOSTILE })
    await app.admin('POST', 'keys', { userId: user, name: HOSTILE })
    for (const { text } of [await page(path), await page('/admin/users')]) {
      expect(text).not.toContain('<script>alert')
      expect(text).toMatch(ESCAPED)
    }
    const typed = await post(`${path}/profile`, { label: HOSTILE.repeat(9), plan: HOSTILE })
    expect(typed.text).not.toContain('<script>alert')
  })

  test('shows the limits in force and where they come from, to viewers too', async () => {
    const { user, path } = await someone()
    await app.admin('PUT', 'plans/some', {
      limits: { '*': { tokensPerDay: 5000, requestsPerDay: 9 }, total: { usdPerMonth: 25 } },
    })
    await app.admin('PATCH', `users/${user}`, {
      plan: 'some',
      limits: { [MODEL]: { requestsPerDay: 70, tokensPerDay: null } },
      boost: {
        limits: { '*': { tokensPerDay: 250 }, [MODEL]: { requestsPerDay: 7 } },
        until: app.clock.now + HOUR_MS,
      },
    })
    const { text } = await page(path)
    const [, list = ''] = /<dl class="list">(.*?)<\/dl>/.exec(text) ?? []
    const rows = list.split('</div>').map((row) =>
      row
        .replaceAll(/<[^>]*>/g, ' ')
        .replaceAll(/\s+/g, ' ')
        .trim(),
    )
    expect(rows).toEqual([
      'All models together $25 a month',
      'Every other model 9 requests a day 5,250 tokens a day (250 from the boost)',
      `${MODEL} 77 requests a day (own, 7 from the boost) unlimited tokens a day (own)`,
      '',
    ])
    expect(text).toContain('What is not marked is from the plan.')
    expect((await page((await someone()).path)).text).toContain('from MODEL_LIMITS.')
  })

  test('a user who is blocked looks blocked, and has the menu of the list', async () => {
    const { user, path } = await someone()
    expect((await page(path)).text).toContain('Not blocked.')
    await post(`${path}/block`, { model: MODEL })
    const { text } = await page(path)
    expect(text).toMatch(/<a href="#blocks"><span class="tag bad"[^>]*>blocked: 1 model</)
    const quick = { do: 'unblock', back: path }
    expect((await post(`${path}/quick`, quick)).location).toBe(`${path}?done=unblocked`)
    // Nothing is left of a user who has never called, and so no page.
    const never = await ids.ofUser('never called')
    const block = { op: 'block', user: never, model: '*', block: { at: app.clock.now } } as const
    await app.store.execute({ ...block, now: app.clock.now })
    const gone = `/admin/users/${never}`
    const { location } = await post(`${gone}/quick`, { do: 'unblock', back: gone })
    expect([location, (await app.store.user(user))?.profile.blocks]).toEqual([
      '/admin?done=unblocked',
      {},
    ])
  })

  test('a user of whom nothing is left has no page, so the form leads to the overview', async () => {
    const user = await ids.ofUser('someone who never called')
    await app.admin('PATCH', `users/${user}`, { label: 'New' })
    const { location } = await post(`/admin/users/${user}/profile`, { label: '' })
    expect(location).toBe('/admin?done=saved')
  })

  test('forms need a session and a page of this gateway, and lead from their address to the page', async () => {
    const { user, path } = await someone()
    for (const form of ['profile', 'limits', 'keys', 'reset', 'sign-out', 'keys/abcdefgh/rotate']) {
      expect((await post(`${path}/${form}`, {}, { cookie: '' })).status).toBe(401)
      const other = { 'sec-fetch-site': 'cross-site' }
      expect((await post(`${path}/${form}`, {}, other)).status).toBe(403)
      const got = await page(`${path}/${form}`)
      expect([got.status, got.headers.get('location')]).toEqual([303, path])
    }
    for (const form of ['nothing', 'constructor', 'keys/abcdefgh/nothing']) {
      expect((await post(`${path}/${form}`)).status).toBe(404)
    }
    expect(await profileOf(user)).toMatchObject({ notBefore: null, keys: [] })
  })
})

describe('keys', () => {
  /** What the page sends when a key is created. */
  const next = (html: string) => /name="next" value="(\w+)"/.exec(html)?.[1] ?? ''
  const secretIn = (html: string) => /<code class="secret">([^<]*)</.exec(html)?.[1] ?? ''
  const create = async (path: string, form: Record<string, string> = {}) => {
    const { text } = await page(path)
    const sent = { next: next(text), ...form }
    return { sent, ...(await post(`${path}/keys`, sent)) }
  }
  const idOf = async (user: string) => (await profileOf(user)).keys[0]?.id.slice(23) ?? ''

  test('a key is created, and shown once: not after a reload, in no address and in no log', async () => {
    const { user, path } = await someone()
    const end = new Date(app.clock.now + DAY_MS)
    const form = { name: 'Laptop', expires: end.toISOString().slice(0, 19) }
    const { sent, status, headers, text, location } = await create(path, form)
    expect([status, headers.get('cache-control'), location]).toEqual([200, 'no-store', null])
    const key = secretIn(text)
    expect(await issued.read(key)).toMatchObject({ userId: user })
    expect((await profileOf(user)).keys).toMatchObject([
      { name: 'Laptop', expiresAt: end.getTime(), start: key.slice(0, 9), last4: key.slice(-4) },
    ])
    expect((await audited())[0]).toMatch(/^create key \w{8}$/)
    // A browser that loads the page again sends the form again.
    const reloaded = await post(`${path}/keys`, sent)
    expect(problem(reloaded.text)).toContain('This key was created before')
    for (const html of [reloaded.text, (await page(path)).text]) {
      expect(html).toContain(`${key.slice(0, 9)}…${key.slice(-4)}`)
      expect(html).not.toContain(key.slice(9, -4))
    }
    expect((await profileOf(user)).keys).toHaveLength(1)
    expect(app.log.join()).not.toContain(key)
    const sentKey = await app.ask(key)
    expect(sentKey.status).toBe(200)
  })

  test('a key is renamed, disabled, enabled and deleted', async () => {
    const { user, path } = await someone()
    const { text } = await create(path)
    const key = secretIn(text)
    const id = await idOf(user)
    const send = (deed: string, form = {}) => post(`${path}/keys/${id}/${deed}`, form)
    const first = async () => (await profileOf(user)).keys[0]
    const saved = `${path}?done=saved`

    expect((await send('change', { name: 'Phone', expires: '' })).location).toBe(saved)
    expect(await first()).toMatchObject({ name: 'Phone', expiresAt: null })
    expect((await send('disable')).location).toBe(saved)
    expect(await first()).toMatchObject({ disabled: true })
    expect((await page(path)).text).toContain('>disabled<')
    expect((await app.ask(key)).status).toBe(403)
    expect((await send('enable')).location).toBe(saved)
    expect(await first()).toMatchObject({ disabled: false, name: 'Phone' })

    const wrong = await send('change', { name: 'x'.repeat(101) })
    expect(problem(wrong.text)).toContain('The name must be one line')
    expect(wrong.text).toContain(`value="${'x'.repeat(101)}"`)
    expect(problem((await send('delete')).text)).toContain('tick the box')
    expect(await first()).toBeDefined()
    expect((await send('delete', { sure: 'yes' })).location).toBe(`${path}?done=key-deleted`)
    expect(await first()).toBeUndefined()
    expect(await audited(4)).toEqual(
      ['delete', 'change', 'change', 'change'].map((deed) => `${deed} key ${id}`),
    )
    expect((await send('enable')).status).toBe(404)
  })

  test('a key that has expired can be renamed: an end that stays as it is counts as not sent', async () => {
    const { user, path } = await someone()
    const expires_at = app.clock.now + 60_123
    await app.admin('POST', 'keys', { userId: user, expires_at })
    const id = await idOf(user)
    app.clock.now += 120_000
    const { text } = await page(path)
    const expires = /name="expires"[^>]* value="([^"]+)"/.exec(text)?.[1] ?? ''
    const send = (form: Record<string, string>) => post(`${path}/keys/${id}/change`, form)
    expect((await send({ name: 'Old', expires })).location).toBe(`${path}?done=saved`)
    expect((await profileOf(user)).keys[0]).toMatchObject({ name: 'Old', expiresAt: expires_at })
    const wrong = await send({ name: 'Old', expires: '2001-01-01T00:00' })
    expect(problem(wrong.text)).toBe('The end must be in the future.')
    await send({ name: 'Old', expires: '' })
    expect((await profileOf(user)).keys[0]).toMatchObject({ expiresAt: null })
  })

  test('a key is rotated once for each press, and the secret before stays valid for the grace', async () => {
    const { user, path } = await someone()
    const old = secretIn((await create(path)).text)
    const id = await idOf(user)
    const form = { last4: old.slice(-4), grace: `${HOUR_MS / 1000}` }
    const { text, headers } = await post(`${path}/keys/${id}/rotate`, form)
    const secret = secretIn(text)
    expect(headers.get('cache-control')).toBe('no-store')
    expect(await issued.read(secret)).toMatchObject({ userId: user, id })
    expect((await profileOf(user)).keys[0]).toMatchObject({
      ...{ last4: secret.slice(-4), previousExpiresAt: app.clock.now + HOUR_MS },
    })
    expect(await audited()).toEqual([`rotate key ${id}`])
    const reloaded = await post(`${path}/keys/${id}/rotate`, form)
    expect(problem(reloaded.text)).toContain('This key was rotated before')
    expect((await app.ask(secret)).status).toBe(200)
    expect((await app.ask(old)).status).toBe(200)
    const long = { last4: secret.slice(-4), grace: '9999999999' }
    expect(problem((await post(`${path}/keys/${id}/rotate`, long)).text)).toContain(
      'The grace must be a whole number from 0 to 2592000',
    )
  })
})

describe('the menu of a row', () => {
  const quick = (path: string, deed: string, back = '/admin/users?sort=cost') =>
    post(`${path}/quick`, { do: deed, back })
  const blocksOf = async (user: string) => (await app.store.user(user))?.profile.blocks

  test('blocks for an hour, for a day or until unblocked, unblocks, and leads back to the list', async () => {
    const { user, path } = await someone()
    for (const [deed, lasts] of [
      ['block-60', 3_600_000],
      ['block-1440', DAY_MS],
      ['block', undefined],
    ] as const) {
      const { status, location } = await quick(path, deed)
      const list = `/admin/users?sort=cost&done=blocked&who=${user}`
      expect([status, location]).toEqual([303, list])
      const until = lasts && app.clock.now + lasts
      expect(await blocksOf(user)).toEqual({ '*': { at: app.clock.now, ...(until && { until }) } })
    }
    for (const shown of [`/admin/users?done=blocked&who=${user}`, `${path}?done=blocked`]) {
      const [, notice = ''] =
        /<div class="notice top" role="status">(.*?)<\/div>/.exec((await page(shown)).text) ?? []
      expect(notice.replaceAll(/<[^>]*>/g, '')).toBe(
        `all models are blocked for ${user} until unblocked. Calls are refused within two seconds. Running requests go on.Unblock`,
      )
      expect(notice).toContain(`<a href="${path}">`)
    }
    await quick(path, 'unblock')
    expect(await blocksOf(user)).toEqual({})
  })

  test('doubles the limits of a day and longer until midnight, once', async () => {
    const { user, path } = await someone()
    const limits = { '*': { tokensPerDay: 500, tokensPerMinute: 9 }, total: { usdPerMonth: 2 } }
    await app.admin('PATCH', `users/${user}`, { limits })
    expect((await quick(path, 'raise')).location).toContain('done=raised')
    const { effectiveLimits, boost } = await profileOf(user)
    expect(boost?.until).toBe(Date.UTC(2026, 10, 26))
    expect(effectiveLimits).toMatchObject({
      '*': { tokensPerDay: 1000, tokensPerMinute: 9, requestsPerDay: 2000 },
      total: { usdPerMonth: 4 },
    })
    const again = await quick(path, 'raise', '/admin/users')
    expect(again.location).toBe(`/admin/users?done=boosted&who=${user}`)
    expect((await page(again.location ?? '')).text).toContain('has a boost already')
  })

  test('leads nowhere else, and does nothing that is not in it', async () => {
    const { user, path } = await someone()
    for (const back of ['https://evil.example', '//evil.example', '/admin/usersx', '/admin', '']) {
      const { location } = await quick(path, 'unblock', back)
      expect(location).toBe(`/admin/users?done=unblocked&who=${user}`)
    }
    const lines = await quick(path, 'unblock', '/admin/users?q=\r\nx-a: b')
    expect(lines.location).toBe(`/admin/users?q=%0D%0Ax-a%3A+b&done=unblocked&who=${user}`)
    expect((await quick(path, 'erase')).status).toBe(404)
    expect((await quick(path, 'constructor')).status).toBe(404)
  })
})

describe('a user who has never called', () => {
  const add = async (form: Record<string, string>) => {
    const { text } = await page('/admin/users')
    const [, next = ''] = /name="next" value="(\w+)"/.exec(text) ?? []
    return post('/admin/users', { ...form, next })
  }

  test('gets a label and a plan under your own name for them', async () => {
    await app.admin('PUT', 'plans/trial', { limits: {} })
    const { location } = await add({ user: 'new@example.com', label: 'New one', plan: 'trial' })
    const id = await ids.ofUser('new@example.com')
    expect(location).toBe(`/admin/users/${id}?done=added`)
    expect(await profileOf(id)).toMatchObject({ label: 'New one', effectivePlan: 'trial' })
    expect((await page(location ?? '')).text).toContain('<dd>never</dd>')
  })

  test('gets a key, once for each form, which calls', async () => {
    const { text } = await page('/admin/users')
    const [, next = ''] = /name="next" value="(\w+)"/.exec(text) ?? []
    const form = { user: 'key@example.com', key: 'yes', next }
    const made = await post('/admin/users', form)
    const [, key = ''] = /class="secret">(weir_\w+)</.exec(made.text) ?? []
    expect((await app.ask(key)).status).toBe(200)
    const again = await post('/admin/users', form)
    expect([again.status, problem(again.text)]).toEqual([
      400,
      expect.stringContaining('This key was created before'),
    ])
    expect((await profileOf(await ids.ofUser('key@example.com'))).keys).toHaveLength(1)
  })

  test.each([
    [{ user: '' }, 'Write the name'],
    [{ user: 'x' }, 'write a label, choose a plan or make a key'],
    [{ user: 'x'.repeat(300), label: 'y' }, 'The name in your application'],
    [{ user: 'x', label: 'y'.repeat(500) }, 'The label'],
    [{ user: 'x', plan: 'no such plan' }, 'The plan'],
  ])('a form with %j says what is wrong and keeps what was typed', async (form, words) => {
    const { status, text } = await add(form)
    expect([status, problem(text)]).toEqual([400, expect.stringContaining(words)])
    expect(text).toContain(`name="user" value="${form.user}"`)
  })
})

test('a key may have models of its own', async () => {
  const { user, path } = await someone()
  const { text } = await page(path)
  const [, next = ''] = /name="next" value="(\w+)"/.exec(text) ?? []
  await post(`${path}/keys`, { next, which: 'these', models: 'openai/gpt-*\nllama-a' })
  const [key] = (await profileOf(user)).keys
  expect(key?.models?.toSorted()).toEqual(['llama-a', 'openai/gpt-*'])
  const id = key?.id.slice(user.length + 1)
  const wrong = await post(`${path}/keys/${id}/change`, { which: 'these', models: 'no model!' })
  expect(problem(wrong.text)).toContain('Write at most 64 names of models')
  await post(`${path}/keys/${id}/change`, { which: 'all', models: '' })
  expect((await profileOf(user)).keys[0]?.models).toBeNull()
})

describe('the search and the pages of requests', () => {
  const find = (q: string) => post('/admin/find', { q })

  /** What a page of a request says, by the titles. */
  const factsOf = (text: string) =>
    Object.fromEntries(
      [...text.matchAll(/<dt>(.*?)<\/dt><dd>(.*?)<\/dd>/g)].map(([, title = '', fact = '']) =>
        [title, fact].map((html) => html.replaceAll(/<button.*?<\/button>|<[^>]*>/g, '').trim()),
      ),
    ) as Record<string, string>

  test('an x-weir-id leads to the request, which shows all that is kept of it', async () => {
    const { token, user } = await someone()
    const answer = await app.ask(token)
    const id = answer.headers.get('x-weir-id') ?? ''
    const { location } = await find(` ${id.toUpperCase()} `)
    expect(location).toBe(`/admin/requests/${id}`)
    const { text } = await page(location ?? '')
    expect(text).toMatch(/<h2[^>]*><span class="o exact">Answered with 200</)
    expect(factsOf(text)).toMatchObject({
      ...{ User: user, Model: MODEL, Outcome: 'exact', 'Status to the client': '200' },
      ...{ Route: 'chat/completions', 'Tokens in': '20', 'Tokens out': '15' },
      'Tokens reserved → charged': expect.stringMatching(/^[\d,]+ → 35$/) as string,
      'Cost reserved → charged': expect.stringMatching(/^\$0\.\d+ → \$0\.000006$/) as string,
    })
  })

  test('a refused request is found too, with whose limit refused it and until when', async () => {
    const { token, user } = await someone()
    await app.admin('PATCH', `users/${user}`, { limits: { '*': { requestsPerDay: 1 } } })
    const refused = await app.ask(token)
    expect(refused.status).toBe(429)
    const { location } = await find(refused.headers.get('x-weir-id') ?? '')
    const { text } = await page(location ?? '')
    const facts = factsOf(text)
    expect(facts).not.toHaveProperty('Admitted')
    expect(facts).toMatchObject({
      ...{ 'Refused at': expect.any(String) as string, 'Status to the client': '429' },
      ...{ Code: 'insufficient_quota', Limit: `1 requests a day, ${MODEL}` },
      ...{ 'Used of it': '1 requests', 'Asked for': '1 requests' },
      ...{ 'Whose limit': 'of the user alone Change it' },
      Resets: expect.stringContaining('00:00:00') as string,
    })
    expect(text).toContain(`href="/admin/users/${user}?open=limits"`)
    expect(text).toContain(`href="/admin/requests?outcome=refused&amp;user=${user}"`)
  })

  test('an id of no request is looked for among tokens, and is in no address', async () => {
    const typed = '01a99999-aaaa-7bbb-8ccc-ddddeeeeffb6'
    await app.ask(typed)
    expect((await find(typed)).location).toBe(`/admin/users/${await ids.user(typed)}`)
    const unknown = await find(typed.replace('b6', 'b7'))
    expect([unknown.location, unknown.status]).toEqual([null, 200])
    expect(unknown.text).toContain('no request this x-weir-id')
    expect((await page(`/admin/requests/${typed}`)).status).toBe(404)
    expect((await page('/admin/requests/nothing')).text).toContain('This is no x-weir-id')
  })

  test('a page below another is part of it, and what is not found is said within the frame', async () => {
    const { token, path } = await someone()
    const id = (await app.ask(token)).headers.get('x-weir-id')
    const current = async (at: string) =>
      /href="([^"]*)" aria-current="true"/.exec((await page(at)).text)?.[1]
    expect(await current(path)).toBe('/admin/users')
    expect(await current(`/admin/requests/${id}`)).toBe('/admin/requests')
    const unknown = await page('/admin/users/nobody')
    expect(unknown.text).toContain('name="q"')
    expect(unknown.text).toContain('<a href="/admin/users">Back to Users</a>')
    // A page that is not there would be loaded again with every refresh.
    expect(unknown.text).toContain('data-still')
    expect((await page('/admin/users/nobody', { cookie: '' })).text).not.toContain('name="q"')
  })

  test('requests are filtered by model, outcome, status, user and tag', async () => {
    const { token, user } = await someone()
    for (let n = 0; n < 2; n += 1) await app.ask(token)
    await app.ask(token, {}, { 'x-weir-tag': 'search' })
    const rows = async (query: string) => {
      const { text } = await page(`/admin/requests?${query}`)
      return (text.split('id="events"')[1] ?? '').match(/<tr data-key/g)?.length ?? 0
    }
    expect(await rows(`user=${user}`)).toBe(4)
    expect(await rows(`user=${user}&model=${encodeURIComponent(MODEL)}`)).toBe(4)
    expect(await rows(`user=${user}&outcome=exact&status=200`)).toBe(4)
    expect(await rows(`user=${user}&outcome=failed`)).toBe(0)
    expect(await rows(`user=${user}&status=500`)).toBe(0)
    expect(await rows(`user=${user}&status=x`)).toBe(0)
    expect(await rows('tag=search')).toBe(1)
    expect(await rows('tag=searc')).toBe(0)
    expect(await rows('outcome=refused&before=x~y')).toBeGreaterThan(0)
    await app.admin('PATCH', `users/${user}`, { limits: { '*': { requestsPerDay: 1 } } })
    await app.ask(token, {}, { 'x-weir-tag': 'search' })
    expect(await rows(`outcome=refused&user=${user}&status=429`)).toBe(1)
    expect(await rows(`outcome=refused&user=${user}&status=403`)).toBe(0)
    expect(await rows(`outcome=refused&user=${user}&tag=search`)).toBe(1)
    expect(await rows(`outcome=refused&user=${user}&tag=searc`)).toBe(0)
  })

  test('a filter says how many of the requests match, and that none does', async () => {
    const { token, user } = await someone()
    for (let n = 0; n < 2; n += 1) await app.ask(token, {}, { 'x-weir-tag': 'counted' })
    const said = async (query: string) => {
      const { text } = await page(`/admin/requests?${query}`)
      return text.replaceAll(/<[^>]*>/g, '')
    }
    expect(await said('tag=counted')).toMatch(/2 of the last [\d,]+ requests match \(back to /)
    expect(await said(`user=${user}&tag=x`)).toMatch(/None of the last [\d,]+ requests matches/)
    const refused = await said(`outcome=refused&user=${user}`)
    expect(refused).toMatch(/None of the last [\d,]+ refusals matches/)
    expect(refused).not.toContain('Nobody was refused')
  })

  test('pages of requests repeat none and leave none out, while new ones arrive', async () => {
    const { token, user } = await someone()
    for (let n = 0; n < 130; n += 1) await app.ask(token)
    const seen: string[] = []
    let path = `/admin/requests?user=${user}`
    for (let pages = 0; path && pages < 5; pages += 1) {
      const { text } = await page(path)
      seen.push(...[...text.matchAll(/<tr data-key="([\w-]{36})"/g)].map(([, id = '']) => id))
      await app.ask('token-of-another-user')
      path = /href="([^"]*)" rel="next"/.exec(text)?.[1]?.replaceAll('&amp;', '&') ?? ''
    }
    expect(seen).toHaveLength(131)
    expect(new Set(seen).size).toBe(131)
  })
})

describe('the lists', () => {
  test('users are sorted by what they used today or this month, and filtered', async () => {
    const [few, many] = [await someone(), await someone()]
    for (let n = 0; n < 9; n += 1) await app.ask(many.token)
    await app.admin('PATCH', `users/${few.user}`, { limits: { '*': { requestsPerDay: 1 } } })
    await app.store.execute({
      ...({ op: 'block', user: many.user, model: '*', now: app.clock.now } as const),
      block: { at: app.clock.now },
    })
    const listed = async (query: string) => {
      const { text } = await page(`/admin/users?${query}`)
      return [...text.matchAll(/<tr data-key="([\w-]{22})"/g)].map(([, id]) => id)
    }
    for (const sort of ['cost', 'requests']) {
      for (const window of ['day', 'week', 'month']) {
        const ids = await listed(`sort=${sort}&window=${window}`)
        const places = [ids.indexOf(many.user), ids.indexOf(few.user)]
        expect([sort, window, places.includes(-1)]).toEqual([sort, window, false])
        expect(places).toEqual(places.toSorted((a, b) => a - b))
      }
    }
    const byLimit = await listed('sort=limit')
    expect(byLimit.indexOf(few.user)).toBeLessThan(byLimit.indexOf(many.user))
    expect(await listed('shown=blocked')).toEqual([many.user])
    const near = await listed('shown=near')
    expect([near.includes(few.user), near.includes(many.user)]).toEqual([true, false])
    expect(await listed('shown=failing')).toEqual([])
    await app.admin('PUT', 'plans/rare', { limits: {} })
    await app.admin('PATCH', `users/${few.user}`, { plan: 'rare' })
    expect(await listed('plan=rare')).toEqual([few.user])
    expect(await listed(`q=${few.user.slice(0, 6)}`)).toEqual([few.user])
    expect((await listed('sort=constructor&window=x&shown=x&cursor=x')).length).toBeGreaterThan(1)
  })

  test('a search is filtered too, and choosing a plan keeps the search, the filter and the window', async () => {
    const [found, blocked] = [await someone(), await someone()]
    for (const { user } of [found, blocked]) {
      await app.admin('PATCH', `users/${user}`, { label: `Searched ${user}` })
    }
    await app.admin('PUT', 'plans/searched', { limits: {} })
    await app.admin('PATCH', `users/${found.user}`, { plan: 'searched' })
    await post(`${blocked.path}/block`, { model: MODEL })
    const listed = async (query: string) => {
      const { text } = await page(`/admin/users?q=searched&${query}`)
      return [...text.matchAll(/<tr data-key="([\w-]{22})"/g)].map(([, id]) => id).toSorted()
    }
    expect(await listed('')).toEqual([found.user, blocked.user].toSorted())
    expect(await listed('shown=blocked')).toEqual([blocked.user])
    expect(await listed('plan=searched')).toEqual([found.user])
    const { text } = await page('/admin/users?q=searched&shown=blocked&window=week')
    const [form = ''] = /<form action="\/admin\/users".*?<\/form>/.exec(text) ?? []
    expect(
      [...form.matchAll(/<input type="hidden" name="(\w+)" value="(\w+)"/g)].map(String),
    ).toEqual([
      expect.stringContaining('window,week'),
      expect.stringContaining('shown,blocked'),
      expect.stringContaining('q,searched'),
    ])
    expect(text).toContain('Limit used now')
    // A search is not refreshed, so it does not say that it is live.
    expect(text).toContain('data-still')
    expect((await page('/admin/users?shown=blocked')).text).not.toContain('data-still')
  })

  test('the list of blocked users says from what, until when and why, and is refreshed', async () => {
    const { user, path } = await someone()
    const list = '/admin/users?shown=blocked'
    const live = { 'x-weir-live': '1' }
    await post(`${path}/block`, { model: MODEL, minutes: '60', reason: 'Too many at once' })
    const before = await page(list, live)
    expect(before.status).toBe(200)
    const [row = ''] = new RegExp(`<tr data-key="${user}">.*?</tr>`).exec(before.text) ?? []
    expect(row).toContain('blocked: 1 model')
    expect(row.replaceAll(/<[^>]*>/g, '')).toContain(`${MODEL}, ends in 1h: Too many at once`)
    const etag = before.headers.get('etag') ?? ''
    expect((await page(list, { ...live, 'if-none-match': etag })).status).toBe(304)
    await post(`${path}/unblock`, { model: MODEL })
    const after = await page(list, { ...live, 'if-none-match': etag })
    expect([after.status, after.text.includes(user)]).toEqual([200, false])
  })

  test('a list by tokens says that it leaves out users without tokens today', async () => {
    const { user } = await someone()
    await app.admin('PATCH', `users/${user}`, { label: 'Counted' })
    for (const sort of ['tokens', 'requests', 'limit']) {
      expect((await page(`/admin/users?sort=${sort}`)).text).toContain(
        'Only users who used or reserved tokens today.',
      )
    }
    expect((await page('/admin/users')).text).not.toContain('with tokens today')
  })

  const rowOf = (html: string, user: string) =>
    new RegExp(`<tr data-key="${user}">.*?</tr>`).exec(html)?.[0]

  test('lists users with their labels over the ids, and with plans that are not the default', async () => {
    const { user, path } = await someone()
    const other = await someone()
    await app.admin('PUT', 'plans/gold', { limits: {} })
    await post(`${path}/profile`, { label: 'Ann Example', plan: 'gold' })
    const { text } = await page('/admin/users')
    expect(rowOf(text, user)).toMatch(/Ann Example<.*class="id soft".*>gold</)
    expect(rowOf(text, other.user)).not.toMatch(/<b>|title="Plan"/)
    await app.admin('PUT', 'settings', { defaultPlan: 'gold' })
    expect(rowOf((await page('/admin/users')).text, user)).not.toContain('title="Plan"')
    await app.admin('PUT', 'settings', { defaultPlan: null })
  })

  test('says in words what admins did', async () => {
    const { user, path } = await someone()
    await app.admin('PUT', 'plans/silver', { limits: {} })
    await app.admin('PUT', 'settings', { globalLimits: null, defaultPlan: null })
    await post(`${path}/profile`, { label: 'Ann', note: 'x' })
    await post(`${path}/sign-out`)
    await post(`${path}/reset`, { window: 'minute' })
    const { text } = await page('/admin/audit')
    const words = [...text.matchAll(/<span class="told">(.*?)<\/span>/g)].map(([, html = '']) =>
      html.replaceAll(/<[^>]*>/g, ''),
    )
    const id = `${user.slice(0, 6)}…`
    expect(words.slice(0, 5)).toEqual([
      `reset ${id}: minute`,
      `changed user ${id}: tokens refused before`,
      `changed user ${id}: label, note`,
      'changed settings: default plan, limits of everyone',
      'saved plan silver',
    ])
    expect(text).toContain(`href="/admin/users?q=${user.slice(0, 6)}"`)
  })
})

describe('plans', () => {
  const planOf = async (name: string) => (await app.admin('GET', `plans/${name}`)).json
  const form = {
    name: 'team',
    'model-0': 'total',
    'tokensPerDay-0': '5,000',
    'model-1': '*',
    'model-2': MODEL,
    'requestsPerDay-2': 'unlimited',
    maxCompletionTokens: '4096',
    concurrentRequests: '',
    which: 'these',
    models: 'openai/*',
  }

  test('are created, edited and deleted, and each is recorded', async () => {
    const { status, location } = await post('/admin/plans/new', form)
    expect([status, location]).toEqual([303, '/admin/plans?done=saved'])
    expect(await planOf('team')).toEqual({
      name: 'team',
      limits: { total: { tokensPerDay: 5000 }, [MODEL]: {} },
      models: ['openai/*'],
      maxCompletionTokens: 4096,
      concurrentRequests: null,
      stored: true,
    })
    const { text } = await page('/admin/plans?done=saved')
    expect(text).toContain('value="5,000"')
    expect(text).toContain('>openai/*</textarea>')

    const less = { ...form, maxCompletionTokens: '', concurrentRequests: '3', which: 'all' }
    await post('/admin/plans/save', { ...less, models: '', 'remove-2': 'yes' })
    expect(await planOf('team')).toMatchObject({
      ...{ limits: { total: { tokensPerDay: 5000 } }, models: null },
      ...{ maxCompletionTokens: null, concurrentRequests: 3 },
    })
    const kept = await post('/admin/plans/delete', { name: 'team' })
    expect(problem(kept.text)).toContain('tick the box')
    const gone = await post('/admin/plans/delete', { name: 'team', sure: 'yes' })
    expect(gone.location).toBe('/admin/plans?done=plan-deleted')
    expect((await app.admin('GET', 'plans/team')).status).toBe(404)
    expect(await audited(3)).toEqual(['delete plan team', 'plan team', 'plan team'])
  })

  test('suggest the models that the environment names, and not all that have a price', () => {
    const row = { tokensPerDay: 1, requestsPerDay: 1 }
    const named = {
      ALLOWED_MODELS: 'b/two, b/*, a/one',
      DEFAULT_MODEL: 'b/two',
      MODEL_LIMITS: JSON.stringify({ '*': row, total: row, c: row }),
    }
    expect(knownModels(readConfig(named, 'edge'))).toEqual(['a/one', 'b/two', 'c'])
  })

  test('the default plan shows the limits of the environment until it is saved', async () => {
    expect((await page('/admin/plans')).text).toContain('from MODEL_LIMITS')
    await post('/admin/plans/save', { name: 'default', 'model-0': '*', 'tokensPerDay-0': '9' })
    expect(await planOf('default')).toMatchObject({ limits: { '*': { tokensPerDay: 9 } } })
    expect((await page('/admin/plans')).text).not.toContain('from MODEL_LIMITS')
    await post('/admin/plans/delete', { name: 'default', sure: 'yes' })
    expect((await page('/admin/plans')).text).toContain('from MODEL_LIMITS')
  })

  test.each([
    [{ name: 'Big Plan' }, 'The name of a plan has 1 to 32 characters'],
    [{ name: 'default' }, 'There is a plan default'],
    [{ 'tokensPerDay-0': 'many' }, 'All models together, tokens a day: write a whole number'],
    [{ maxCompletionTokens: '0' }, 'The most completion tokens must be a whole number from 1 to'],
    [{ concurrentRequests: '5000' }, 'The most requests at once must be a whole number from 1 to'],
    [{ concurrentRequests: 'two' }, 'or nothing.'],
    [{ models: 'x<y' }, 'names of models, one a line'],
  ])('a new plan with %j is refused, and what was typed stays', async (wrong, told) => {
    const before = await audited()
    const { status, text } = await post('/admin/plans/new', { ...form, name: 'other', ...wrong })
    expect([status, problem(text)]).toEqual([400, expect.stringContaining(told)])
    const [typed = ''] = Object.values(wrong)
    expect(text).toContain(typed.includes('<') ? 'x&lt;y</textarea>' : `value="${typed}"`)
    expect(text).toContain('value="unlimited"')
    expect(await audited()).toEqual(before)
  })

  test('a plan that is edited with something wrong shows its own form again', async () => {
    await app.admin('PUT', 'plans/mini', { limits: {} })
    const wrong = { name: 'mini', 'model-0': 'total', 'tokensPerDay-0': 'x1' }
    const { text } = await post('/admin/plans/save', wrong)
    expect(text.match(/<details class="form" open="">/g)).toHaveLength(1)
    expect(text).toMatch(/open="".*role="alert".*value="mini".*value="x1"/)
  })
})

describe('settings', () => {
  const settings = async () =>
    (await app.admin('GET', 'settings')).json as unknown as Record<string, unknown>

  test('everyone gets limits, and those of the environment again', async () => {
    const form = { 'model-0': 'total', 'tokensPerDay-0': '70,000', 'model-1': MODEL }
    const limits = { ...form, 'requestsPerDay-1': '7' }
    const { location } = await post('/admin/settings/limits', limits)
    expect(location).toBe('/admin/settings?done=saved')
    expect(await settings()).toMatchObject({
      globalLimits: { total: { tokensPerDay: 70_000 }, [MODEL]: { requestsPerDay: 7 } },
    })
    expect(await audited()).toEqual(['settings globalLimits'])
    expect((await page('/admin/settings')).text).toContain('value="70,000"')
    await post('/admin/settings/unset-limits')
    expect(await settings()).toMatchObject({ globalLimits: null })
  })

  test.each([
    [{ 'tokensPerDay-0': '7k' }, 'All models together, tokens a day: write a whole number'],
    [{ 'model-1': '*', 'tokensPerDay-1': '7' }, 'cannot have a row'],
  ])('limits of everyone %j are refused, and what was typed stays', async (wrong, told) => {
    const before = await audited()
    const form = { 'model-0': 'total', 'requestsPerDay-0': '71', ...wrong }
    const { status, text } = await post('/admin/settings/limits', form)
    expect([status, problem(text)]).toEqual([400, expect.stringContaining(told)])
    for (const typed of ['71', ...Object.values(wrong)]) expect(text).toContain(`value="${typed}"`)
    expect(await audited()).toEqual(before)
  })

  test('another plan becomes the default', async () => {
    await app.admin('PUT', 'plans/basic', { limits: {} })
    await post('/admin/settings/plan', { defaultPlan: 'basic' })
    expect(await settings()).toMatchObject({ defaultPlan: 'basic' })
    expect(await audited()).toEqual(['settings defaultPlan'])
    const { text } = await page('/admin/settings')
    expect(text).toContain('<option value="basic" selected="">')
    const wrong = await post('/admin/settings/plan', { defaultPlan: 'nobody' })
    expect([wrong.status, problem(wrong.text)]).toEqual([
      ...[400, expect.stringContaining('There is no plan')],
    ])
    await post('/admin/settings/plan', { defaultPlan: 'default' })
    expect(await settings()).toMatchObject({ defaultPlan: null })
  })

  test('the page says which tokens are taken and what the environment sets, and no secret', async () => {
    const { text } = await page('/admin/settings')
    expect(text).toContain('keys that an admin has issued')
    expect(text).toContain('USER_TOKENS has the kind any beside others')
    const words = text
      .replaceAll('<wbr/>', '')
      .replaceAll(/<[^>]*>/g, ' ')
      .replaceAll(/\s+/g, ' ')
    for (const fact of [
      'ON_STORE_DOWN open: calls are served while the database is away',
      'MAX_COMPLETION_TOKENS 2,500 tokens',
      'HISTORY_RETENTION_DAYS 90 days',
      'ALLOWED_MODELS all models',
    ]) {
      expect(words).toContain(fact)
    }
    for (const secret of [ADMIN_KEY, SECRET, 'gsk_']) expect(text).not.toContain(secret)
  })

  test('both pages are in the navigation, need a session and a page of this gateway', async () => {
    for (const path of ['/admin/plans', '/admin/settings']) {
      expect((await page('/admin')).text).toContain(`href="${path}"`)
      const { text } = await page(path)
      expect(text).toContain(`href="${path}" aria-current="page"`)
      // It is not refreshed, so it does not say that it is live.
      expect(text).toContain('data-still')
      expect((await page(path, { cookie: '' })).status).toBe(401)
      expect((await page(path, { 'x-weir-live': '1' })).status).toBe(304)
      const got = await page(`${path}/limits`)
      expect([got.status, got.headers.get('location')]).toEqual([303, path])
      for (const form of ['new', 'save', 'delete', 'limits', 'plan', 'unset-limits']) {
        expect((await post(`${path}/${form}`, {}, { cookie: '' })).status).toBe(401)
        const other = { 'sec-fetch-site': 'cross-site' }
        expect((await post(`${path}/${form}`, {}, other)).status).toBe(403)
      }
      expect((await post(`${path}/constructor`)).status).toBe(404)
    }
  })
})
