/** A gateway below a path of its site: the proxy in front takes the path off, or leaves it in. */
import { describe, expect, test } from 'vitest'
import { SAME_ORIGIN } from '../support/admin.ts'
import { ADMIN_KEY, eventOf, KINDS } from '../support/gateways.ts'
import { useWorld } from '../support/world.ts'

const world = useWorld()

const TOKEN = { authorization: 'Bearer token-of-a-user' }
const BODY = JSON.stringify({ model: 'a/one', messages: [] })

/** The addresses in a page, as a browser at `url` resolves them. */
const addressesIn = (page: string, url: string) =>
  [...page.matchAll(/ (?:href|src|action)="([^"#?][^"]*)"/g)].map(
    ([, to = '']) => new URL(to, url).pathname,
  )

const login = (url: string, more = {}) =>
  fetch(url, {
    method: 'POST',
    redirect: 'manual',
    headers: { 'content-type': 'application/x-www-form-urlencoded', ...SAME_ORIGIN, ...more },
    body: new URLSearchParams({ key: ADMIN_KEY }),
  })

describe.each(KINDS)('on %s', (kind) => {
  const below = () => world.gateway(kind, { BASE_PATH: '/team/weir/' })

  test.each(['/team/weir', ''])(
    'pages, forms, redirects and the cookie keep to the path: %j',
    async (at) => {
      const { url } = await below()
      // What a browser sees, wherever the proxy takes the path off.
      const seen = (path: string) => `https://site.example/team/weir${path}`
      const call = await fetch(`${url}${at}/api/groq/openai/v1/chat/completions`, {
        method: 'POST',
        headers: TOKEN,
        body: BODY,
      })
      expect(call.status).toBe(200)
      await call.text()
      const { user } = await eventOf(world.store, call.headers.get('x-weir-id'))

      const entered = await login(`${url}${at}/api/admin/login`, { origin: 'https://site.example' })
      expect(entered.status).toBe(303)
      const to = new URL(entered.headers.get('location') ?? '', seen('/api/admin/login'))
      expect(to.pathname).toBe('/team/weir/admin')
      const cookie = entered.headers.get('set-cookie') ?? ''
      expect(cookie).toMatch(/^__Secure-weir_session=.*; Path=\/team\/weir; HttpOnly; Secure;/)
      const session = { cookie: cookie.split(';', 1)[0] ?? '' }

      for (const path of [
        '/admin',
        '/admin/users',
        '/admin/requests',
        `/admin/users/${user}`,
        '/',
      ]) {
        const answer = await fetch(`${url}${at}${path}`, { headers: session })
        const page = await answer.text()
        expect([path, answer.status]).toEqual([path, 200])
        const addresses = addressesIn(page, seen(path))
        expect(addresses.length).toBeGreaterThan(3)
        expect(addresses.filter((to) => !to.startsWith('/team/weir/'))).toEqual([])
        const style = addresses.find((to) => to.endsWith('.css')) ?? ''
        const own = at ? style : style.slice('/team/weir'.length)
        expect((await fetch(`${url}${own}`)).status).toBe(200)
      }
      const erase = await fetch(`${url}${at}/admin/users/${user}/erase`, {
        method: 'POST',
        redirect: 'manual',
        headers: {
          ...session,
          ...SAME_ORIGIN,
          'content-type': 'application/x-www-form-urlencoded',
        },
        body: 'sure=yes',
      })
      const erased = new URL(
        erase.headers.get('location') ?? '',
        seen(`/admin/users/${user}/erase`),
      )
      expect(erased.pathname).toBe('/team/weir/admin')
    },
  )

  test('routes are below the path too, and the page without a slash leads to the one with it', async () => {
    const { url } = await below()
    const models = (path: string) =>
      fetch(`${url}${path}/api/groq/openai/v1/models/a%2Fone`, { headers: TOKEN })
    expect((await models('/team/weir')).status).toBe(200)
    expect((await models('/team/weirs')).status).toBe(404)
    expect((await models('/team/weir/team/weir')).status).toBe(404)
    const home = await fetch(`${url}/team/weir`, { redirect: 'manual' })
    expect([home.status, home.headers.get('location')]).toEqual([302, '/team/weir/'])
    const page = await (await fetch(`${url}/team/weir/`)).text()
    expect(page).toContain('/team/weir/api/groq/openai/v1')
    const lost = await fetch(`${url}/team/weir/api/groq/x`, { method: 'POST', headers: TOKEN })
    expect(await lost.text()).toContain('/team/weir/api/groq/openai/v1')
  })

  test('the files of static/ are below the path', async () => {
    const { url } = await below()
    for (const path of ['/team/weir/tracker.js', '/tracker.js', '/team/weir/favicon.svg']) {
      const file = await fetch(`${url}${path}`)
      expect([path, file.status]).toEqual([path, 200])
      await file.text()
    }
    const none = await fetch(`${url}/team/weir/other.js`)
    expect([none.status, await none.json()]).toMatchObject([404, { error: { code: 'not_found' } }])
  })

  test('a page keeps to the path that only the proxy knows', async () => {
    const { url } = await world.gateway(kind)
    const prefix = { 'x-forwarded-prefix': '/weir' }
    for (const path of ['/admin', '/admin/users/AAAAAAAAAAAAAAAAAAAAAA', '/']) {
      const page = await (await fetch(`${url}${path}`, { headers: prefix })).text()
      const outside = addressesIn(page, `https://site.example/weir${path}`).filter(
        (to) => !to.startsWith('/weir/'),
      )
      expect([path, outside]).toEqual([path, []])
      // Nobody's header is in the page.
      const evil = { 'x-forwarded-prefix': '//evil.example"><script>' }
      expect(await (await fetch(`${url}${path}`, { headers: evil })).text()).not.toContain('evil')
    }
    const entered = await login(`${url}/api/admin/login`, prefix)
    const to = new URL(
      entered.headers.get('location') ?? '',
      'https://site.example/weir/api/admin/login',
    )
    expect(to.pathname).toBe('/weir/admin')
  })
})
