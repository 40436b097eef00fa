/** The page at /usage in a real browser: what an end user sees of their own use, also in the frame of an application. */
import type { AxeResults } from 'axe-core'
import { readFile } from 'node:fs/promises'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createRequire } from 'node:module'
import type { Page } from 'playwright-core'
import { afterEach, expect, test } from 'vitest'
import { BEARER } from '../support/admin.ts'
import { useBrowser } from '../support/browser.ts'
import { eventOf, type Gateway } from '../support/gateways.ts'
import { useWorld } from '../support/world.ts'

const world = useWorld()
const chromium = useBrowser()
/** Noon, so that no window but the minute ends while a test runs. The page's clock is stopped. */
const now = () => Date.now()

let app: Server | undefined
afterEach(() => new Promise((done) => (app ? app.close(done) : done(undefined))))

const VARS = {
  MODEL_LIMITS: JSON.stringify({
    '*': { tokensPerDay: 1000, requestsPerMinute: 5 },
    total: { usdPerMonth: 2.5 },
  }),
  MODEL_PRICES: '{"openai/gpt-oss-20b":{"input":1,"output":1}}',
  DEFAULT_MODEL: 'openai/gpt-oss-20b',
}

/** Makes a call of a user, and waits until it is counted. Gives the user's id. */
async function ask(gateway: Gateway, token: string): Promise<string> {
  const response = await fetch(`${gateway.url}/api/groq`, {
    method: 'POST',
    headers: { 'x-user-token': token },
    body: '{"prompt":"Hello","max_tokens":20}',
  })
  await response.text()
  return (await eventOf(world.store, response.headers.get('x-weir-id'))).user
}

async function open(path: string, options = {}): Promise<{ page: Page; complaints: string[] }> {
  const page = await (await chromium.profile(now(), options)).newPage()
  const complaints: string[] = []
  page.on('console', (message) => complaints.push(message.text()))
  page.on('pageerror', (error) => complaints.push(error.message))
  await page.goto(path)
  return { page, complaints }
}

const shown = (page: Page) => page.locator('#limits .card').first().waitFor()
const linesOf = (page: Page) =>
  page.locator('#limits li').evaluateAll((all) => all.map((one) => one.textContent))

/** Everything that the browser could keep or show of a text. */
const keptIn = (page: Page, text: string) =>
  page.evaluate(
    async (text) =>
      [
        ['address', location.href],
        ['stored', JSON.stringify([localStorage, sessionStorage])],
        ['cookies', document.cookie],
        ['databases', JSON.stringify(await indexedDB.databases())],
        ['caches', JSON.stringify(await caches.keys())],
        ['page', document.documentElement.outerHTML],
        ['field', (document.getElementById('key') as HTMLInputElement).value],
        ['history', JSON.stringify(history.state)],
      ].flatMap(([where, kept]) => (kept?.includes(text) ? [where] : [])),
    text,
  )

test('a key in the form shows each limit, with what is used, left and when it resets here', async () => {
  const gateway = await world.gateway('node', VARS)
  const token = 'token-of-ann-1'
  await ask(gateway, token)
  const { page, complaints } = await open(`${gateway.url}/usage`)
  const addresses: string[] = []
  page.on('request', (request) => addresses.push(request.url()))
  expect(await page.getByRole('button').allTextContents()).toEqual(['Show my usage'])
  await page.getByLabel('Your key or token').fill(token)
  await page.keyboard.press('Enter')
  await shown(page)
  const [dollars = '', tokens = '', requests = ''] = await linesOf(page)
  expect(dollars).toMatch(
    /^Dollars a month\$2\.49\d+ left\$0\.0000\d+ of \$2\.50 used\. Resets in .*\((.* GMT-8|.* P[SD]T)\)\.$/,
  )
  expect(tokens).toMatch(/^Tokens a day\d+ left\d+ of 1,000 used\. Resets in .*P[SD]T\)\.$/)
  expect(requests).toMatch(/^Requests a minute/)
  expect(await page.locator('#who').textContent()).toBe('Plan: default')
  expect(await page.locator('#limits h2').allTextContents()).toEqual([
    'All models together',
    'openai/gpt-oss-20b',
  ])
  expect(await keptIn(page, token)).toEqual([])
  for (const address of addresses) expect(address).not.toContain(token)
  expect(complaints).toEqual([])
  await page.getByRole('button', { name: 'Another key' }).click()
  expect(await page.locator('#limits').textContent()).toBe('')
  expect(await page.getByLabel('Your key or token').isVisible()).toBe(true)
  await page.reload()
  expect(await page.getByLabel('Your key or token').inputValue()).toBe('')
})

test('a key in the fragment is taken out of the address, and the page follows a block', async () => {
  const gateway = await world.gateway('node', VARS)
  const token = 'a token/of+bob&1'
  const userId = await ask(gateway, token)
  const { page, complaints } = await open(`${gateway.url}/usage#key=${encodeURIComponent(token)}`)
  await shown(page)
  expect(page.url()).toBe(`${gateway.url}/usage`)
  expect(await keptIn(page, token)).toEqual([])
  expect((await linesOf(page)).join()).toContain('1,000 used')
  await fetch(`${gateway.url}/api/admin/usage`, {
    method: 'POST',
    headers: BEARER,
    body: JSON.stringify({ userId, model: '*', blocked: true, reason: '<b>spam</b>' }),
  })
  await page.getByRole('button', { name: 'Refresh' }).click()
  await page.getByText('You are blocked from all models. The reason: <b>spam</b>').waitFor()
  expect(complaints).toEqual([])
})

test('what the gateway refuses is said, and nothing of it stays', async () => {
  const gateway = await world.gateway('node', { ...VARS, USER_TOKENS: 'issued' })
  const { page } = await open(`${gateway.url}/usage#key=not-a-key-of-this`)
  const alert = page.getByRole('alert')
  await alert.waitFor()
  expect(await alert.textContent()).toMatch(/key/)
  expect(await page.getByLabel('Your key or token').isVisible()).toBe(true)
  await page.getByLabel('Your key or token').fill('ключ-ключ')
  await page.getByRole('button', { name: 'Show my usage' }).click()
  await page.getByText('letters, digits and signs only').waitFor()
  await page.route('**/api/usage', (route) => route.abort())
  await page.getByLabel('Your key or token').fill('another-key-1')
  await page.getByRole('button', { name: 'Show my usage' }).click()
  await page.getByText('cannot be reached').waitFor()
})

test('a listed application shows it in a frame, and no other site does', async () => {
  const server = createServer((request, response) => {
    response.setHeader('content-type', 'text/html')
    const src = new URL(request.url ?? '', 'http://x').searchParams.get('src') ?? ''
    response.end(`<!doctype html><iframe src="${src}"></iframe>`)
  })
  app = server
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  const { port } = server.address() as AddressInfo
  const listed = `http://127.0.0.1:${port}`
  const token = 'token-of-carl-1'
  const open_ = await world.gateway('node', VARS)
  const gateway = await world.gateway('node', {
    ...VARS,
    ALLOWED_ORIGINS: `${listed},https://*.app.example`,
  })
  await ask(gateway, token)
  const framed = async (origin: string, { url }: Gateway) => {
    const { page, complaints } = await open(
      `${origin}/?src=${encodeURIComponent(`${url}/usage#key=${token}`)}`,
    )
    return { page, complaints, frame: page.frameLocator('iframe') }
  }
  const { frame, complaints } = await framed(listed, gateway)
  await frame.getByText('Tokens a day').waitFor()
  expect(complaints.filter((text) => !text.includes('favicon'))).toEqual([])
  for (const [origin, to] of [
    [`http://localhost:${port}`, gateway],
    [listed, open_],
  ] as const) {
    const refused = await framed(origin, to)
    await expect
      .poll(() => refused.complaints.join())
      .toMatch(/frame-ancestors|X-Frame-Options|refused to connect/i)
    expect(await refused.frame.getByText('Tokens a day').count()).toBe(0)
  }
})

test('limits of audio are shown where audio was used, with fractions of a second', async () => {
  const gateway = await world.gateway('node', VARS)
  const line = { window: 'day', reserved: 0, resetAt: now() + 1e7 }
  const seconds = { ...line, unit: 'audioSeconds', limit: 100 }
  const told = {
    ...{ userId: 'x', label: null, plan: 'default', blocked: [] },
    limits: [
      { ...line, model: 'chat', unit: 'requests', limit: 5, used: 0, remaining: 5 },
      { ...seconds, model: 'chat', used: 0, remaining: 100 },
      { ...line, model: 'whisper', unit: 'requests', limit: 5, used: 1, remaining: 4 },
      { ...seconds, model: 'whisper', used: 23.4, remaining: 76.6 },
      { ...line, model: 'voice', unit: 'characters', limit: 50, used: 0, remaining: 50 },
    ],
  }
  const { page } = await open(`${gateway.url}/usage`)
  await page.route('**/api/usage', (route) => route.fulfill({ json: told }))
  await page.getByLabel('Your key or token').fill('token-of-ed-1')
  await page.keyboard.press('Enter')
  await shown(page)
  expect((await linesOf(page)).map((text) => text?.replace(/ Resets.*/, ''))).toEqual([
    'Requests a day5 left0 of 5 used.',
    'Requests a day4 left1 of 5 used.',
    'Seconds of audio a day76.6 left23.4 of 100 used.',
    'Characters a day50 left0 of 50 used.',
  ])
})

test('axe finds nothing wrong with it on a phone and on a desktop, light and dark', async () => {
  const gateway = await world.gateway('node', VARS)
  const line = { model: 'openai/gpt-oss-20b', window: 'day', reserved: 0, resetAt: now() + 1e7 }
  const told = {
    ...{ userId: 'x', label: 'Dora ' + 'of a long name '.repeat(6), plan: 'pro' },
    blocked: [{ model: '*', reason: 'spam', until: now() + 1e8 }],
    limits: [
      { ...line, model: '*', unit: 'usd', limit: 2, used: 1.5, reserved: 0.3, remaining: 0.2 },
      { ...line, unit: 'tokens', limit: 100, used: 30, reserved: 20, remaining: 50 },
      { ...line, unit: 'requests', limit: 5, used: 5, remaining: 0 },
    ],
  }
  const axe = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')
  const { page } = await open(`${gateway.url}/usage`, { bypassCSP: true })
  await page.route('**/api/usage', (route) => route.fulfill({ json: told }))
  await page.clock.resume()
  await page.evaluate(axe)
  const check = async (what: string) => {
    for (const width of [390, 1440]) {
      await page.setViewportSize({ width, height: 900 })
      for (const colorScheme of ['light', 'dark'] as const) {
        await page.emulateMedia({ colorScheme })
        const { violations } = await page.evaluate(() =>
          (globalThis as unknown as { axe: { run(): Promise<AxeResults> } }).axe.run(),
        )
        const wrong = violations.map(({ id, nodes }) => [id, ...nodes.map(({ html }) => html)])
        expect({ what, width, colorScheme, wrong }).toEqual({ what, width, colorScheme, wrong: [] })
        if (process.env.SHOTS) {
          await page.screenshot({
            path: `${process.env.SHOTS}/${what}-${width}-${colorScheme}.png`,
          })
        }
      }
      const tooWide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)
      expect([width, Math.max(0, tooWide)]).toEqual([width, 0])
    }
  }
  await check('form')
  await page.getByLabel('Your key or token').fill('token-of-dora-1')
  await page.keyboard.press('Enter')
  await shown(page)
  expect(await page.getByText('20 reserved for what runs now').count()).toBe(1)
  await check('shown')
})
