/** The tracker in a real page, with the real gateway on another origin. */
import type { Page, Response as PageResponse } from 'playwright-core'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { MINUTE_MS, SECOND_MS } from '../../src/ledger/windows.ts'
import { nextSync, useBrowser } from '../support/browser.ts'
import { ADMIN_KEY, eventOf, KINDS, type Gateway } from '../support/gateways.ts'
import { ownJwt } from '../support/issuer.ts'
import { transcripts } from '../support/transcripts.ts'
import { useWorld } from '../support/world.ts'

const MODEL = 'openai/gpt-oss-20b'
const TOKEN = 'token-of-a-page'
const LIMITS = { MODEL_LIMITS: '{"*":{"tokensPerDay":10000,"requestsPerDay":50}}' }

const SECRET = 'secret-of-an-application-of-the-tests'
const SIGNED = { ...LIMITS, USER_TOKENS: 'signed', USER_TOKEN_SECRETS: SECRET }
const signedToken = () =>
  ownJwt({ sub: 'user-7', exp: Math.floor(Date.now() / 1000) + 600 }, SECRET)

type Weir = EventTarget & { fetch: typeof fetch }
type Heard = { type: string; detail: unknown }
type PageWindow = typeof globalThis & { weir: Weir; heard: Heard[] }

const world = useWorld()
const chromium = useBrowser()
let site: Server
let origin: string

/** The URL of the page's gateway, and the page's token. */
let base: string
let userToken = TOKEN

beforeAll(async () => {
  site = createServer((request, response) => {
    if (/^\/(tracker|banner)\.js$/.test(request.url ?? '')) {
      const script = readFileSync(`static${request.url}`)
      response.writeHead(200, { 'content-type': 'text/javascript' }).end(script)
    } else if (request.url === '/') {
      response.writeHead(200, { 'content-type': 'text/html' }).end(`<!doctype html>
        <title>page</title>
        <script type="module">
          import { createTracker } from './tracker.js'
          window.heard = []
          window.weir = createTracker({ userToken: '${userToken}', base: '${base}', banner: true })
          for (const type of ['usage', 'quota', 'blocked', 'unblocked', 'sync', 'error']) {
            weir.addEventListener(type, ({ detail }) => heard.push({ type, detail: detail.message ?? detail }))
          }
          await navigator.locks.query()
          document.title = 'ready'
        </script>`)
    } else response.writeHead(204).end()
  }).listen(0, '127.0.0.1')
  await once(site, 'listening')
  origin = `http://localhost:${(site.address() as AddressInfo).port}`
})
afterAll(async () => {
  site.closeAllConnections()
  site.close()
  await once(site, 'close')
})

/** Opens a new page with a stopped clock. */
async function open(gateway: Gateway, token = TOKEN): Promise<Page> {
  base = gateway.url
  userToken = token
  const context = await chromium.profile(Date.now())
  const page = await context.newPage()
  await page.goto(origin)
  await expect.poll(() => page.title()).toBe('ready')
  return page
}

/** Advances the clock by up to `ms` until a sync. Returns its answer once the page has it. */
async function syncsAfter(page: Page, ms: number): Promise<PageResponse> {
  const ended = async () => (await heard(page, 'sync')).length + (await heard(page, 'error')).length
  const before = await ended()
  const response = await nextSync(page, ms)
  await expect.poll(ended).toBe(before + 1)
  return response
}

const heard = async (page: Page, type: string): Promise<unknown[]> =>
  (await page.evaluate(() => (window as unknown as PageWindow).heard))
    .filter((one) => one.type === type)
    .map(({ detail }) => detail)

/** Calls the model as a page does, and reads the whole answer. */
const ask = (page: Page) =>
  page.evaluate(
    async ([url, token, model]) => {
      const { weir } = window as unknown as PageWindow
      const response = await weir.fetch(`${url}/api/groq/openai/v1/chat/completions`, {
        method: 'POST',
        headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
        body: JSON.stringify({
          model,
          stream: true,
          max_tokens: 500,
          messages: [{ role: 'user', content: 'Hi' }],
        }),
      })
      const text = await response.text()
      return { status: response.status, id: response.headers.get('x-weir-id'), text }
    },
    [base, userToken, MODEL] as const,
  )

async function block(user: string, fields: object): Promise<void> {
  const response = await fetch(`${base}/api/admin/usage`, {
    method: 'POST',
    headers: { authorization: `Bearer ${ADMIN_KEY}` },
    body: JSON.stringify({ userId: user, model: '*', ...fields }),
  })
  expect(response.status).toBe(200)
}

const banner = (page: Page) => page.getByRole('alert')

describe.each(KINDS)('on %s', (kind) => {
  test.each([
    ['any token', LIMITS, () => TOKEN],
    ['a signed token', SIGNED, signedToken],
  ])(
    'a page reports the usage of its calls, and gets the counts of the server, with %s',
    async (_, vars, tokenOf) => {
      const page = await open(await world.gateway(kind, vars), tokenOf())
      expect((await syncsAfter(page, 2 * SECOND_MS)).status()).toBe(200)
      expect(await heard(page, 'quota')).toEqual([{}])
      const { status, id, text } = await ask(page)
      expect([status, text]).toEqual([200, new TextDecoder().decode(transcripts.stream?.body)])
      const { user, charged, total } = await eventOf(world.store, id)
      await expect.poll(() => heard(page, 'usage')).toHaveLength(1)
      await syncsAfter(page, 5 * SECOND_MS)
      const [, quota] = (await heard(page, 'quota')) as Record<string, object>[]
      expect(quota?.[MODEL]).toMatchObject({
        tokensUsedDay: charged,
        tokensReservedDay: 0,
        tokensRemainingDay: 10_000 - charged,
        requestsDay: 1,
      })
      const { usage } = (await world.store.user(user))!
      expect(Object.values(usage.reported)).toEqual([{ tokens: total, requests: 1 }])
      expect(await heard(page, 'error')).toEqual([])
    },
  )

  test('a block is shown after the next sync, and removed by the first sync after it is lifted', async () => {
    const page = await open(await world.gateway(kind, LIMITS))
    const { user } = await eventOf(world.store, (await ask(page)).id)
    await syncsAfter(page, 2 * SECOND_MS)
    expect(await banner(page).count()).toBe(0)
    const until = Date.now() + 3_600_000
    await block(user, { blocked: true, reason: 'Too many <b>questions</b>.', until })
    await syncsAfter(page, 5 * MINUTE_MS)
    await expect
      .poll(() => banner(page).textContent())
      .toMatch(/^You can't use the assistant until .+\. Reason: Too many <b>questions<\/b>\.$/)
    await block(user, { blocked: false })
    // Without waiting for the next five minutes.
    await syncsAfter(page, 30 * SECOND_MS)
    await expect.poll(() => banner(page).count()).toBe(0)
    expect(await heard(page, 'unblocked')).toHaveLength(1)
  })

  test('a refused call shows the block at once, before any sync', async () => {
    const page = await open(await world.gateway(kind, LIMITS))
    const { user } = await eventOf(world.store, (await ask(page)).id)
    await syncsAfter(page, 2 * SECOND_MS)
    await page.clock.runFor(10 * SECOND_MS)
    const until = Date.now() + 3_600_000
    await block(user, { blocked: true, reason: 'Spam.', until })
    const { status } = await ask(page)
    expect(status).toBe(403)
    await expect.poll(() => banner(page).count()).toBe(1)
    const iso = new Date(until).toISOString().replace(/\.\d+Z$/, 'Z')
    expect(await banner(page).textContent()).toBe(
      `You are blocked from all models until ${iso}: Spam.`,
    )
    await expect.poll(() => heard(page, 'blocked')).toHaveLength(1)
    await nextSync(page, 2 * SECOND_MS)
    await expect.poll(() => heard(page, 'blocked')).toHaveLength(2)
    const [, told] = await heard(page, 'blocked')
    expect(told).toEqual([{ model: '*', reason: 'Spam.', until }])
    await expect
      .poll(() => banner(page).textContent())
      .toMatch(/^You can't use the assistant until .* Reason: Spam\.$/)
  })

  test('a page without a turn left waits for the given time', async () => {
    // A gateway of its own, since the one before remembers the block for a moment.
    const page = await open(await world.gateway(kind, { ...LIMITS, GLOBAL_LIMITS: '{}' }))
    // The syncs of a user who has never called are not counted.
    await eventOf(world.store, (await ask(page)).id)
    const spend = () =>
      Promise.all(
        Array.from({ length: 41 }, () =>
          fetch(`${base}/api/tracking/sync`, {
            method: 'POST',
            headers: { 'content-type': 'application/json' },
            body: JSON.stringify({ userToken: TOKEN, modelUsage: {} }),
          }),
        ),
      )
    const spent = await spend()
    expect(spent.some(({ status }) => status === 429)).toBe(true)
    let refused = await syncsAfter(page, 2 * SECOND_MS)
    if (refused.status() === 200) {
      // A new minute began in between.
      await spend()
      refused = await syncsAfter(page, 5 * MINUTE_MS)
    }
    expect(refused.status()).toBe(429)
    const wait = Number((await refused.allHeaders())['retry-after'])
    expect(await heard(page, 'error')).toEqual(['Sync: 429'])
    let syncs = 0
    page.on('request', (request) => void (syncs += Number(request.url().endsWith('/sync'))))
    await page.clock.runFor(wait * SECOND_MS)
    await page.evaluate(() => fetch('/ping'))
    expect(syncs).toBe(0)
    await syncsAfter(page, 12 * SECOND_MS)
  })
})
