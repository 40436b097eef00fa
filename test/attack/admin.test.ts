/** Attacks on the admin routes without the admin key, directly or through the admin's browser. */
import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { BrowserContext } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { adminGet, BEARER, logIn, SAME_ORIGIN } from '../support/admin.ts'
import { useBrowser } from '../support/browser.ts'
import { ADMIN_KEY, eventOf, KINDS, type Gateway } from '../support/gateways.ts'
import { PREFIX } from '../../src/store/redis/keys.ts'
import { raw, requestOf } from '../support/raw.ts'
import { useWorld } from '../support/world.ts'

const world = useWorld()
const chromium = useBrowser()

const USER = 'A'.repeat(22)
const WRONG = 'a-wrong-key-of-some-length'

const login = (gateway: Gateway, key: string, headers: Record<string, string> = {}) =>
  fetch(`${gateway.url}/api/admin/login`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify({ key }),
  })

/** The number of these logins that are refused without a check of the key. */
async function refusedOf(count: number, ask: (n: number) => Promise<Response>): Promise<number> {
  let refused = 0
  for (let n = 0; n < count; n += 1) {
    const { status } = await ask(n)
    expect([401, 429]).toContain(status)
    if (status === 429) refused += 1
  }
  return refused
}

describe('guessing the admin key', () => {
  test('addresses in front of the one that a trusted proxy adds give no new turns', async () => {
    const proxied = await world.gateway('node', {
      TRUST_PROXY: 'on',
      MAX_COMPLETION_TOKENS: '2502',
    })
    const refused = await refusedOf(20, (n) =>
      login(proxied, WRONG, { 'x-forwarded-for': `203.0.113.${n}, 198.51.100.9` }),
    )
    // The limiter's minute may end in between.
    expect(refused).toBeGreaterThanOrEqual(10)
    expect((await login(proxied, ADMIN_KEY, { 'x-forwarded-for': '198.51.100.9' })).status).toBe(
      429,
    )
  })

  test('two headers of addresses are read as one list', async () => {
    const proxied = await world.gateway('node', {
      TRUST_PROXY: 'on',
      MAX_COMPLETION_TOKENS: '2503',
    })
    const body = JSON.stringify({ key: WRONG })
    let refused = 0
    for (let n = 0; n < 20; n += 1) {
      const headers = [
        'Host: h',
        'Connection: close',
        'Content-Type: application/json',
        `Content-Length: ${body.length}`,
        `X-Forwarded-For: 203.0.113.${n}`,
        'X-Forwarded-For: 198.51.100.10',
      ]
      const { statuses } = await raw(
        proxied.url,
        requestOf('POST /api/admin/login HTTP/1.1', headers, body),
      )
      if (statuses[0] === 429) refused += 1
    }
    expect(refused).toBeGreaterThanOrEqual(10)
  })

  test.each([
    'x-real-ip',
    'cf-connecting-ip',
    'true-client-ip',
    'client-ip',
    'forwarded',
    'x-client-ip',
    'x-cluster-client-ip',
  ])('a made-up %s gives no new turns on Node', async (header) => {
    const direct = await world.gateway('node', {
      TRUST_PROXY: 'on',
      MAX_COMPLETION_TOKENS: String(3000 + header.length),
      IP_STORAGE: header.includes('c') ? 'off' : 'full',
    })
    const refused = await refusedOf(14, (n) =>
      login(direct, WRONG, { [header]: `203.0.113.${n}`, 'x-forwarded-for': '198.51.100.11' }),
    )
    expect(refused).toBeGreaterThanOrEqual(4)
  })

  test('from many addresses each has its five, what is remembered of them is bounded, and the key is not told', async () => {
    const proxied = await world.gateway('node', {
      TRUST_PROXY: 'on',
      MAX_COMPLETION_TOKENS: '2504',
    })
    const statuses = new Map<number, number>()
    await Promise.all(
      Array.from({ length: 300 }, async (_, n) => {
        const from = { 'x-forwarded-for': `10.${n % 20}.7.7` }
        const { status } = await login(proxied, WRONG, from)
        statuses.set(status, (statuses.get(status) ?? 0) + 1)
      }),
    )
    expect([...statuses.keys()].sort()).toEqual([401, 429])
    // Five for each of twenty addresses, or ten if a minute ends in between.
    expect(statuses.get(401)).toBeGreaterThanOrEqual(100)
    expect(statuses.get(401)).toBeLessThanOrEqual(200)
    const keys = (await world.redis.command(['KEYS', 'weir:*'])) as string[]
    const audit = `${PREFIX}audit`
    const turns = keys.filter((key) => key !== audit)
    // All of these failures are a line of the audit trail, and push out nothing.
    expect(await world.redis.command(['LLEN', audit])).toBe(1)
    for (const key of turns)
      expect(Number(await world.redis.command(['TTL', key]))).toBeGreaterThan(0)
    expect((await login(proxied, ADMIN_KEY, { 'x-forwarded-for': '10.99.7.7' })).status).toBe(200)
  })

  test('wrong keys at once are counted one by one', async () => {
    const direct = await world.gateway('node', { MAX_COMPLETION_TOKENS: '2505' })
    const answers = await Promise.all(Array.from({ length: 60 }, () => login(direct, WRONG)))
    const looked = answers.filter(({ status }) => status === 401)
    expect(looked.length).toBeLessThanOrEqual(10)
  })
})

describe('by way of the browser of an admin who is logged in', () => {
  let elsewhere: Server
  let page = ''
  beforeAll(async () => {
    elsewhere = createServer((_, res) => {
      res.writeHead(200, { 'content-type': 'text/html' }).end(page)
    }).listen(0, '127.0.0.1')
    await once(elsewhere, 'listening')
  })
  afterAll(() => elsewhere?.close())

  /** A browser with an open session. */
  async function admin(gateway: Gateway): Promise<BrowserContext> {
    const context = await chromium.profile(Date.now())
    const { cookie } = await logIn(gateway)
    const [name = '', value = ''] = cookie.split('=')
    const url = gateway.url
    await context.addCookies([{ name, value, url, httpOnly: true, sameSite: 'Strict' }])
    return context
  }

  const block = JSON.stringify({ userId: USER, model: '*', blocked: true })

  // Another port of the same host is the same site, so the browser sends the cookie. Another host is another site.
  describe.each([
    ['the same site', '127.0.0.1'],
    ['another site', 'localhost'],
  ])('on %s', (_, host) => {
    test.each([
      [
        'a form',
        `<form method=post enctype=text/plain action="URL/api/admin/usage"><input name='${block.slice(0, -1)},"reason":"' value='"}'></form>
         <script>document.forms[0].submit()</script>`,
      ],
      [
        'a form that logs out',
        `<form method=post action="URL/api/admin/logout"></form><script>document.forms[0].submit()</script>`,
      ],
      [
        'a form that logs in as somebody else',
        `<form method=post action="URL/api/admin/login"><input name=key value="${ADMIN_KEY}"></form>
         <script>document.forms[0].submit()</script>`,
      ],
      [
        'fetch without cors',
        `<script>fetch('URL/api/admin/usage', {method:'POST', mode:'no-cors', credentials:'include', body:'${block}'})
           .finally(() => location.assign('URL/api/test'))</script>`,
      ],
      [
        'fetch with cors',
        `<script>fetch('URL/api/admin/users/${USER}', {method:'DELETE', credentials:'include'})
           .finally(() => location.assign('URL/api/test'))</script>`,
      ],
      [
        'fetch with a JSON type',
        `<script>fetch('URL/api/admin/usage', {method:'POST', credentials:'include', headers: {'content-type':'application/json'}, body:'${block}'})
           .finally(() => location.assign('URL/api/test'))</script>`,
      ],
      [
        'a beacon',
        `<script>navigator.sendBeacon('URL/api/admin/usage', '${block}'); setTimeout(() => location.assign('URL/api/test'), 50)</script>`,
      ],
      [
        'a navigation',
        `<script>location.assign('URL/api/admin/usage?userId=${USER}&blocked=true')</script>`,
      ],
      [
        'a link to what may only be deleted',
        `<script>location.assign('URL/api/admin/users/${USER}')</script>`,
      ],
    ])('%s changes nothing', async (name, html) => {
      const gateway = await world.gateway('node')
      const context = await admin(gateway)
      const { port } = elsewhere.address() as AddressInfo
      page = `<!doctype html><body>${html.replaceAll('URL', gateway.url)}`
      const tab = await context.newPage()
      const arrived = tab.waitForResponse((response) =>
        response.url().startsWith(`${gateway.url}/api/`),
      )
      await tab.goto(`http://${host}:${port}/`)
      await tab.clock.runFor(100)
      await arrived
      if (!name.startsWith('a form') && !/navigation|link/.test(name)) {
        await tab.clock.runFor(100)
        await tab.waitForURL(`${gateway.url}/api/test`)
      }
      expect(await world.store.user(USER)).toBeUndefined()
      const audit = await world.store.audit(10)
      expect(audit.map(({ action }) => action)).toEqual(['login'])
      const [cookie] = await context.cookies(gateway.url)
      const session = { cookie: `${cookie?.name}=${cookie?.value}` }
      const auth = await fetch(`${gateway.url}/api/admin/auth`, { headers: session })
      expect(await auth.json()).toMatchObject({ authenticated: true })
    })

    test('a page elsewhere shows none of ours in a frame', async () => {
      const gateway = await world.gateway('node')
      const context = await admin(gateway)
      const { port } = elsewhere.address() as AddressInfo
      page = `<!doctype html><iframe src="${gateway.url}/admin"></iframe>`
      const tab = await context.newPage()
      await tab.goto(`http://${host}:${port}/`)
      const [frame] = tab.mainFrame().childFrames()
      await expect.poll(() => frame?.url(), { timeout: 10_000 }).not.toBe('')
      expect(frame?.url()).toBe('chrome-error://chromewebdata/')
    })

    test('a script elsewhere reads no answer of the admin API', async () => {
      const gateway = await world.gateway('node')
      const context = await admin(gateway)
      const { port } = elsewhere.address() as AddressInfo
      page = '<!doctype html>'
      const tab = await context.newPage()
      await tab.goto(`http://${host}:${port}/`)
      for (const path of [
        '/api/admin/usage',
        '/api/admin/export?kind=users',
        '/api/tokens',
        '/api/admin/auth',
      ]) {
        const read = tab.evaluate(
          async (url) => (await fetch(url, { credentials: 'include' })).text(),
          gateway.url + path,
        )
        await expect(read).rejects.toThrow(/Failed to fetch/)
      }
    })
  })
})

describe.each(KINDS)('on %s', (kind) => {
  test('the admin key and the session are in nothing that comes out: answers, errors, export, audit, log, database', async () => {
    const gateway = await world.gateway(kind)
    const { cookie } = await logIn(gateway)
    const session = { cookie, ...SAME_ORIGIN }
    const id = decodeURIComponent(cookie.split('=')[1] ?? '')
    const out: string[] = []
    const say = async (path: string, init: RequestInit = {}) => {
      const response = await fetch(`${gateway.url}${path}`, init)
      const headers = [...response.headers].filter(([name]) => name !== 'set-cookie')
      out.push(JSON.stringify(headers), await response.text())
      return response
    }
    const json = (body: unknown) => ({
      method: 'POST',
      headers: { ...BEARER, 'content-type': 'application/json' },
      body: JSON.stringify(body),
    })
    const key = ADMIN_KEY
    const used = await say('/api/groq', {
      ...json({ prompt: 'hi' }),
      headers: { 'x-user-token': 'token-of-a-user', 'x-session-id': key, 'user-agent': key },
    })
    await eventOf(world.store, used.headers.get('x-weir-id'))
    await say('/api/groq', json({ prompt: 'hi', userToken: key }))
    await say('/api/groq', json({ prompt: key, n: 1 }))
    await say(`/api/groq/openai/v1/models/${key}%20`, { headers: BEARER })
    await say('/api/tracking/sync', json({ userToken: key, modelUsage: {} }))
    await say('/api/admin/login', json({ key }))
    await say('/api/admin/login', json({ key: `${key}x` }))
    await say('/api/admin/login', json({ key: { key } }))
    await say('/api/admin/usage', json({ userId: USER, model: '*', blocked: true }))
    await say('/api/admin/usage', json({ userId: key, model: key, blocked: key }))
    for (const headers of [BEARER, session, { authorization: `Basic ${key}` }]) {
      await say('/api/admin/usage', { headers })
      await say('/api/admin/auth', { headers })
      await say('/api/tokens', { headers })
      for (const kind of ['users', 'days', 'events']) {
        for (const format of ['csv', 'ndjson']) {
          await say(`/api/admin/export?kind=${kind}&format=${format}`, { headers })
        }
      }
    }
    await say('/api/test')
    await say('/')
    await adminGet(gateway, '/api/admin/usage')
    const log = gateway.log.join('\n')
    const sent = JSON.stringify(world.upstash.log)
    for (const text of [...out, log, sent]) {
      expect(text).not.toContain(key)
      expect(text).not.toContain(id)
      expect(text).not.toContain(id.split('.')[1])
      expect(text).not.toContain('gsk_server_key')
      expect(text).not.toContain(world.upstash.token)
    }
    // The only copy that leaves the gateway goes to the admin who logged in.
    expect(out.length).toBeGreaterThan(50)
  })

  test('HEAD of an export is not possible, and holds nothing open', async () => {
    const gateway = await world.gateway(kind)
    const path = '/api/admin/export?kind=users'
    const response = await fetch(gateway.url + path, { method: 'HEAD', headers: BEARER })
    expect([response.status, response.headers.get('allow')]).toEqual([405, 'GET'])
    expect(await world.store.audit(10)).toEqual([])
  })

  test('no answer of the admin, with or without success, is kept by a cache', async () => {
    const gateway = await world.gateway(kind, { STORE_TIMEOUT_MS: '200' })
    const paths = [
      '/api/admin/usage',
      '/api/admin/usage?limit=0',
      '/api/admin/export?kind=users',
      '/api/admin/export',
      '/api/admin/auth',
      '/api/admin/nothing',
      `/api/admin/users/${USER}`,
      '/api/tokens',
      '/api/tokens?action=x',
      '/api/test',
    ]
    for (const headers of [BEARER, await logIn(gateway), {}]) {
      for (const path of paths) {
        const response = await fetch(`${gateway.url}${path}`, { headers })
        expect([path, response.headers.get('cache-control')]).toEqual([path, 'no-store'])
        await response.arrayBuffer()
      }
    }
    world.upstash.fault(() => ({ reset: true }))
    for (const path of paths.slice(0, 3)) {
      const response = await fetch(`${gateway.url}${path}`, { headers: BEARER })
      expect([path, response.headers.get('cache-control')]).toEqual([path, 'no-store'])
      await response.arrayBuffer()
    }
  })
})

test('a cookie of any bytes opens nothing and breaks nothing', async () => {
  const gateway = await world.gateway('node')
  const { cookie } = await logIn(gateway)
  const value = cookie.slice('weir_session='.length)
  const cookies = [
    'weir_session=',
    'weir_session',
    '=',
    ';;;',
    `weir_session=${value}x`,
    `weir_session=${value.slice(0, -2)}`,
    `weir_session=%`,
    `weir_session=%E0%A4%A`,
    `weir_session=${value.replace(/%2B|%2F|%3D/g, '')}`,
    `weir_session="${value}"x`,
    `WEIR_SESSION=${value}`,
    `weir_session =${value} x`,
    `__proto__=x; weir_session=`,
    `weir_session=${'.'.repeat(8000)}`,
    `weir_session=\u00ff\u00fe`,
    `weir_session=x; weir_session=y`,
  ]
  for (const one of cookies) {
    const headers = ['Host: h', 'Connection: close', `Cookie: ${one}`]
    const { statuses } = await raw(gateway.url, requestOf('GET /api/tokens HTTP/1.1', headers))
    expect([one, statuses]).toEqual([one, [401]])
  }
})
