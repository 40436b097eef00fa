import { describe, expect, test } from 'vitest'
import { v7 as uuidv7 } from 'uuid'
import { labelWords } from '../../src/ledger/labels.ts'
import { logIn } from '../support/admin.ts'
import { admitOf } from '../support/commands.ts'
import { eventOf, KINDS, type Gateway } from '../support/gateways.ts'
import { seededId, seedUsers } from '../support/seed.ts'
import { useWorld } from '../support/world.ts'

const world = useWorld()

const LIVE = { 'x-weir-live': '1' }
const SAME_ORIGIN = { 'sec-fetch-site': 'same-origin' }

const get = async (gateway: Gateway, path: string, headers: Record<string, string>) => {
  const response = await fetch(gateway.url + path, { headers, redirect: 'manual' })
  return { response, status: response.status, html: await response.text() }
}

const post = async (
  gateway: Gateway,
  path: string,
  headers: Record<string, string>,
  form: object,
) => {
  const body = new URLSearchParams(form as Record<string, string>)
  const options = { method: 'POST', headers: { ...SAME_ORIGIN, ...headers }, body }
  const response = await fetch(gateway.url + path, { ...options, redirect: 'manual' })
  await response.arrayBuffer()
  return { status: response.status, location: response.headers.get('location') }
}

const ask = async (gateway: Gateway, token: string) => {
  const response = await fetch(`${gateway.url}/api/groq`, {
    method: 'POST',
    headers: { 'x-user-token': token },
    body: '{"prompt":"Hello"}',
  })
  await response.arrayBuffer()
  return response
}

/** Commands as Upstash bills them. */
async function billed(run: () => Promise<unknown>): Promise<number> {
  await world.redis.resetStats()
  await run()
  return Object.values(await world.redis.commandstats()).reduce((sum, calls) => sum + calls, 0)
}

describe.each(KINDS)('on %s', (kind) => {
  test('shows only the login page to a visitor who is not logged in', async () => {
    const gateway = await world.gateway(kind)
    const id = await ask(gateway, 'token-of-a-user').then((r) => r.headers.get('x-weir-id'))
    const { user } = await eventOf(world.store, id)
    for (const path of ['/admin', `/admin/users/${user}`, '/admin/nothing']) {
      const { status, html } = await get(gateway, path, {})
      expect(status).toBe(401)
      expect(html).toContain('Admin key')
      expect(html).not.toContain(user)
    }
    expect((await post(gateway, `/admin/users/${user}/erase`, {}, { sure: 'yes' })).status).toBe(
      401,
    )
    expect(await world.store.user(user)).toBeDefined()
  })

  // The number of users is a matter of the database, whatever the platform.
  const counts = kind === 'node' ? [10, 100_000] : [10]

  test(`costs at most 12 commands a page and 4 a refresh, with ${counts.join(' and with ')} users`, async () => {
    const gateway = await world.gateway(kind)
    for (const users of counts) {
      await world.redis.flush()
      await seedUsers(world.redis, users, Date.now())
      const session = await logIn(gateway)
      const user = `/admin/users/${seededId(3)}`
      const request = uuidv7()
      for (const path of [
        ...['/admin', '/admin?range=90d&chart=cost', '/admin?range=24h', '/admin?from=2026-01-01'],
        ...['/admin/users', '/admin/users?sort=cost&window=month', '/admin/users?shown=blocked'],
        ...['/admin/users?q=a', '/admin/users?sort=tokens&shown=near'],
        ...['/admin/requests', '/admin/requests?outcome=failed', '/admin/requests?outcome=refused'],
        ...[
          `/admin/requests/${request}`,
          '/admin/plans',
          '/admin/alerts',
          '/admin/audit',
          '/admin/settings',
          user,
        ],
      ]) {
        const page = await billed(() => get(gateway, path, session))
        const refresh = await billed(() => get(gateway, path, { ...session, ...LIVE }))
        const told = { path, page: Math.max(12, page), refresh: Math.max(4, refresh) }
        expect(told).toEqual({ path, page: 12, refresh: 4 })
      }
    }
  })

  test('a refresh is 304 until a number changes, and then has the live parts only', async () => {
    const gateway = await world.gateway(kind)
    const session = { ...(await logIn(gateway)), ...LIVE }
    const first = await get(gateway, '/admin', session)
    const etag = first.response.headers.get('etag') ?? ''
    const again = { ...session, 'if-none-match': etag }
    expect((await get(gateway, '/admin', again)).status).toBe(304)
    const id = (await ask(gateway, 'token-of-a-user')).headers.get('x-weir-id')
    const { user } = await eventOf(world.store, id)
    const next = await get(gateway, '/admin', again)
    expect(next.status).toBe(200)
    expect(next.html).toContain(user)
    expect(next.html).not.toContain('id="export"')
  })

  test('pages through users with links', async () => {
    const gateway = await world.gateway(kind)
    await seedUsers(world.redis, 120, Date.now())
    const session = await logIn(gateway)
    const seen = new Set<string>()
    let path = '/admin/users'
    for (let pages = 0; path && pages < 5; pages += 1) {
      const { html } = await get(gateway, path, session)
      const table = html.slice(html.indexOf('id="users"'))
      for (const [, id] of table.matchAll(/\/admin\/users\/([\w-]{22})"/g)) seen.add(id ?? '')
      expect(html).toContain(`${pages * 50 + 1}–${Math.min(120, pages * 50 + 50)}<`)
      path = /href="([^"]*)" rel="next"/.exec(html)?.[1]?.replaceAll('&amp;', '&') ?? ''
    }
    expect(seen.size).toBe(120)
  })

  test('finds a user by id and by token, and reports if there is none', async () => {
    const gateway = await world.gateway(kind)
    const id = (await ask(gateway, 'token-of-a-user')).headers.get('x-weir-id')
    const { user } = await eventOf(world.store, id)
    const session = await logIn(gateway)
    for (const q of [user, 'token-of-a-user', '  token-of-a-user ']) {
      const found = await post(gateway, '/admin/find', session, { q })
      expect(found).toEqual({ status: 303, location: `/admin/users/${user}` })
    }
    for (const q of ['', 'token-of-nobody', 'x'.repeat(22)]) {
      const answer = await fetch(`${gateway.url}/admin/find`, {
        method: 'POST',
        headers: { ...SAME_ORIGIN, ...session },
        body: new URLSearchParams({ q }),
      })
      const html = await answer.text()
      expect(html).toMatch(/role="alert">Nothing was found for .*no user has this label, id/)
      // What was typed stays, beside the message.
      expect(html).toContain(`name="q" value="${q}"`)
    }
    expect((await get(gateway, '/admin?done=constructor', session)).html).not.toContain('notice')
  })

  test('finds users by a word of their label, and shows several', async () => {
    const gateway = await world.gateway(kind)
    const session = await logIn(gateway)
    const idOf = (n: number) => `${n}`.repeat(22)
    for (const [n, label] of [
      [1, 'Ada Lovelace'],
      [2, 'Ada Byron <i>'],
    ] as const) {
      const set = { label, words: labelWords(label) }
      await world.store.execute({ op: 'profile', now: Date.now(), user: idOf(n), set })
    }
    expect(await post(gateway, '/admin/find', session, { q: 'byr ada' })).toEqual({
      status: 303,
      location: `/admin/users/${idOf(2)}`,
    })
    const found = await post(gateway, '/admin/find', session, { q: 'ADA' })
    expect(found).toEqual({ status: 303, location: '/admin/users?q=ADA' })
    const { html } = await get(gateway, found.location ?? '', session)
    for (const n of [1, 2]) expect(html).toContain(`href="/admin/users/${idOf(n)}"`)
    expect(html).toContain('Ada Byron &lt;i&gt;')
  })

  test('blocks with a reason and an end, unblocks and erases, and shows the result', async () => {
    const gateway = await world.gateway(kind)
    const id = (await ask(gateway, 'token-of-a-user')).headers.get('x-weir-id')
    const { user } = await eventOf(world.store, id)
    const session = await logIn(gateway)
    const path = `/admin/users/${user}`
    const send = (deed: string, form: object) => post(gateway, `${path}/${deed}`, session, form)

    const block = { model: '*', reason: ' <b>Too much</b> ', minutes: '15', until: '' }
    expect(await send('block', block)).toEqual({ status: 303, location: `${path}?done=blocked` })
    const blocksOf = async () => (await world.store.user(user))?.profile.blocks
    const blocks = await blocksOf()
    expect(blocks?.['*']).toMatchObject({ reason: '<b>Too much</b>' })
    expect((blocks?.['*']?.until ?? 0) - (blocks?.['*']?.at ?? 0)).toBe(15 * 60_000)
    const { html } = await get(gateway, path, session)
    expect(html).toContain('&lt;b&gt;Too much&lt;/b&gt;')
    expect((await ask(gateway, 'token-of-a-user')).status).toBe(403)

    const exact = { ...block, until: '2099-01-02T03:04:05' }
    await send('block', exact)
    expect((await blocksOf())?.['*']?.until).toBe(Date.UTC(2099, 0, 2, 3, 4, 5))

    await send('unblock', { model: '*' })
    expect(await blocksOf()).toEqual({})

    for (const wrong of [
      { ...block, until: '2001-01-01T00:00' },
      { ...block, until: 'soon' },
      { ...block, minutes: '7' },
      { ...block, minutes: '-1' },
      { ...block, model: 'a b' },
      { ...block, model: '' },
      { ...block, reason: 'x'.repeat(501) },
    ]) {
      const answer = await fetch(`${gateway.url}${path}/block`, {
        method: 'POST',
        headers: { ...SAME_ORIGIN, ...session },
        body: new URLSearchParams(wrong),
      })
      const html = await answer.text()
      expect([answer.status, /role="alert"><bdi>Nothing was blocked/.test(html)]).toEqual([
        400,
        true,
      ])
      expect(html.includes('&lt;b&gt;Too much&lt;/b&gt;"') || wrong.reason.length > 500).toBe(true)
    }
    expect(await blocksOf()).toEqual({})

    expect(await send('erase', {})).toEqual({ status: 400, location: null })
    expect(await world.store.user(user)).toBeDefined()
    expect((await send('erase', { sure: 'yes' })).location).toBe('/admin?done=erased')
    expect(await world.store.user(user)).toBeUndefined()
    expect((await get(gateway, path, session)).status).toBe(404)
  })

  test('shows and unblocks a user who was blocked before the first call', async () => {
    const gateway = await world.gateway(kind)
    const session = await logIn(gateway)
    const now = Date.now()
    const [user, path] = [seededId(1), `/admin/users/${seededId(1)}`]
    for (const model of ['*', 'a/one']) {
      await world.store.execute({ op: 'block', user, model, now, block: { at: now } })
    }
    const { status, html } = await get(gateway, path, session)
    expect(status).toBe(200)
    expect(html).toContain('<dd>never</dd>')
    expect(html).toContain('Unblock all models')
    expect((await get(gateway, '/admin', session)).html).toContain(`/admin/users/${user}`)
    const unblock = (model: string) => post(gateway, `${path}/unblock`, session, { model })
    const audited = async () => (await world.store.audit(9)).length
    const before = await audited()
    for (const model of ['', 'no model', '../x', 'a'.repeat(200), '<b>']) {
      expect(await unblock(model)).toEqual({ status: 400, location: null })
    }
    expect(await audited()).toBe(before)
    expect((await unblock('*')).location).toBe(`${path}?done=unblocked`)
    expect((await unblock('a/one')).location).toBe('/admin?done=unblocked')
    expect(await world.store.user(user)).toBeUndefined()
  })

  test('lists a user from the first admission on, and the users of a page by their own numbers', async () => {
    const gateway = await world.gateway(kind)
    const session = await logIn(gateway)
    const now = Date.now()
    const admit = (n: number, user: string, reserved: number, at: number) =>
      world.store.execute(admitOf({ id: `request-${n}`, user, reserved, now: at }))
    const [first, second] = [seededId(1), seededId(2)]
    await admit(1, first, 100, now - 300)
    await admit(2, second, 150, now - 200)
    // Too early for an update of the index, and less than twice the tokens.
    await admit(3, first, 90, now - 100)
    const order = async (sort: string) => {
      const { html } = await get(gateway, `/admin/users?sort=${sort}`, session)
      const table = html.slice(html.indexOf('id="users"'))
      return [...table.matchAll(/<a class="id" href="\/admin\/users\/([\w-]{22})"/g)].map(
        ([, id]) => id,
      )
    }
    expect(await order('lastActive')).toEqual([first, second])
    expect(await order('tokens')).toEqual([first, second])
  })

  test('refuses forms of a page of another origin', async () => {
    const gateway = await world.gateway(kind)
    const session = await logIn(gateway)
    const other = { ...session, 'sec-fetch-site': 'cross-site' }
    expect((await post(gateway, '/admin/find', other, { q: 'token-of-a-user' })).status).toBe(403)
  })

  test('an id that could end a header or lead elsewhere is an unknown user', async () => {
    const gateway = await world.gateway(kind)
    const session = await logIn(gateway)
    for (const id of ['%0D%0AX-A%3A%20b', '%00', '%2F%2Fevil.example', 'a%3Fb%23c']) {
      for (const deed of ['block', 'erase']) {
        const answer = await post(gateway, `/admin/users/${id}/${deed}`, session, {})
        expect(answer).toEqual({ status: 404, location: null })
      }
    }
  })

  test('no page may be framed, not even one that says what went wrong', async () => {
    const gateway = await world.gateway(kind)
    const session = await logIn(gateway)
    for (const [path, headers] of [
      ['/', {}],
      ['/admin', {}],
      ['/admin', session],
      ['/admin?limit=x', session],
      ['/admin/nothing', session],
    ] as const) {
      const { response } = await get(gateway, path, headers)
      expect(response.headers.get('content-security-policy')).toContain("frame-ancestors 'none'")
      expect(response.headers.get('x-frame-options')).toBe('DENY')
    }
  })

  test('sends pages that run nothing of elsewhere and are kept nowhere', async () => {
    const gateway = await world.gateway(kind)
    for (const path of ['/', '/admin']) {
      const { response } = await get(gateway, path, {})
      expect(response.headers.get('content-security-policy')).toMatch(/^default-src 'none';/)
      expect(response.headers.get('content-security-policy')).not.toContain('unsafe')
      expect(response.headers.get('x-content-type-options')).toBe('nosniff')
      expect(response.headers.get('cache-control')).toBe('no-store')
    }
  })

  test('without an admin key it shows what to set', async () => {
    const gateway = await world.gateway(kind, { ADMIN_KEY: '' })
    const { status, html } = await get(gateway, '/admin', {})
    expect(status).toBe(503)
    expect(html).toContain('ADMIN_KEY')
  })

  test('without its database it shows no data and explains what happens to calls', async () => {
    const gateway = await world.gateway(kind, { STORE_TIMEOUT_MS: '100', ON_STORE_DOWN: 'closed' })
    const session = await logIn(gateway)
    world.upstash.fault(() => ({ hang: true }))
    const { status, html } = await get(gateway, '/admin/users?sort=cost&window=day', session)
    expect(status).toBe(503)
    expect(html).toContain('Calls are refused with 503')
    expect(html).toContain('href="/admin/users?sort=cost&amp;window=day">Try again')
  })

  test('the page at / has a call that works', async () => {
    const gateway = await world.gateway(kind)
    const { html } = await get(gateway, '/', {})
    expect(html).toContain(`curl ${gateway.url}/api/groq `)
  })
})
