import { readFile } from 'node:fs/promises'
import { expect, test } from 'vitest'
import {
  SHARED_HEADERS,
  SHARED_PATHS,
  STATIC_HEADERS,
} from '../../src/platform/node/static-files.ts'
import { nextSync, useBrowser } from '../support/browser.ts'
import { useWorld } from '../support/world.ts'

const world = useWorld()
const chromium = useBrowser()

test('Node sends the files of static/ unchanged, with the headers of Vercel and Cloudflare', async () => {
  const { url } = await world.gateway('node')
  for (const [name, type, shared] of [
    ['tracker.js', 'text/javascript; charset=utf-8', SHARED_HEADERS],
    ['api/openapi.json', 'application/json', SHARED_HEADERS],
    ['favicon.svg', 'image/svg+xml; charset=utf-8', {}],
  ] as const) {
    const response = await fetch(`${url}/${name}`)
    expect(response.status).toBe(200)
    expect(await response.text()).toBe(await readFile(`static/${name}`, 'utf8'))
    const headers = Object.fromEntries(response.headers)
    expect(headers).toMatchObject({ 'content-type': type, ...STATIC_HEADERS, ...shared })
    expect('access-control-allow-origin' in headers).toBe(name !== 'favicon.svg')
    const head = await fetch(`${url}/${name}`, { method: 'HEAD' })
    expect([head.status, head.headers.get('cache-control')]).toEqual([200, 'public, max-age=3600'])
    expect((await fetch(`${url}/${name}`, { method: 'POST' })).status).toBe(404)
  }
})

test('Node sends nothing else', async () => {
  const { url } = await world.gateway('node')
  const paths = ['/_headers', '/package.json', '/..%2fpackage.json', '/%2e%2e%2fpackage.json']
  for (const path of [
    ...paths,
    '/static/tracker.js',
    '/api/tracker.js',
    '/demo',
    '/api',
    '/%5c..',
  ]) {
    const response = await fetch(url + path)
    expect([path, response.status]).toEqual([path, 404])
    expect(await response.json()).toMatchObject({ error: { code: 'not_found' } })
  }
})

test.each(['node', 'workerd'] as const)(
  'a browser that asks %s for a page that is not there gets a page',
  async (kind) => {
    const { url } = await world.gateway(kind)
    const response = await fetch(`${url}/nothing`, { headers: { accept: 'text/html,*/*;q=0.8' } })
    expect(response.status).toBe(404)
    expect(response.headers.get('content-type')).toMatch(/^text\/html/)
    expect(response.headers.get('x-weir-id')).toBeTruthy()
    expect(await response.text()).toContain('<h1>Not found</h1>')
    const changed = await fetch(`${url}/nothing`, {
      method: 'POST',
      headers: { accept: 'text/html' },
    })
    expect(await changed.json()).toMatchObject({ error: { code: 'not_found' } })
  },
)

test('llms.txt names only addresses that the gateway has', async () => {
  const { url } = await world.gateway('node')
  const text = await (await fetch(`${url}/llms.txt`)).text()
  const links = [...text.matchAll(/\]\((\/[^)]+)\)/g)].map(([, path]) => path)
  expect(links).toHaveLength(3)
  for (const path of links) expect([path, (await fetch(url + path)).status]).toEqual([path, 200])
})

test('Cloudflare is configured with the same headers', async () => {
  const rules: Record<string, Record<string, string>> = {}
  let rule: Record<string, string> = {}
  for (const line of (await readFile('static/_headers', 'utf8')).trim().split('\n')) {
    const [, name, value = ''] = /^ +([\w-]+): (.+)$/.exec(line) ?? []
    if (name) rule[name.toLowerCase()] = value
    else if (line) rule = rules[line] = {}
  }
  expect(rules).toEqual({
    '/*': STATIC_HEADERS,
    ...Object.fromEntries(SHARED_PATHS.map((path) => [path, SHARED_HEADERS])),
  })
  expect(await readFile('wrangler.toml', 'utf8')).toContain('[assets]\ndirectory = "static"')
})

test('a page of another origin only needs a script tag', async () => {
  const { url } = await world.gateway('node')
  const page = await (await chromium.profile(Date.now())).newPage()
  await page.goto(world.upstream.url)
  await page.setContent(`<!doctype html><title>app</title>
    <script type="module" src="${url}/tracker.js" data-user-token="token-of-a-page" data-banner></script>`)
  await page.waitForFunction(() => 'weir' in window)
  await page.evaluate(() => navigator.locks.query())
  const synced = await nextSync(page, 2000)
  expect(synced.url()).toBe(`${url}/api/tracking/sync`)
  expect(synced.status()).toBe(200)
})
