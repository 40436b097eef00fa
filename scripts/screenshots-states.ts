/** Every page of the gateway in every state, with ninety invented days and a clock that stands still. */
import { serve } from '@hono/node-server'
import { mkdtemp, rm } from 'node:fs/promises'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Browser, BrowserContext, BrowserContextOptions, Page } from 'playwright-core'
import { createApp } from '../src/app.ts'
import { readConfig, type Vars } from '../src/config/config.ts'
import { createLog } from '../src/log.ts'
import { transformPipe } from '../src/gateway/pipe.ts'
import { staticFiles } from '../src/platform/node/static-files.ts'
import { withFallback, type FallbackStore } from '../src/store/fallback/store.ts'
import { openLocal } from '../src/store/local/store.ts'
import { memoryQueue } from '../src/store/fallback/queue.ts'
import { StoreError } from '../src/store/store.ts'
import { SEARCH } from '../src/views/page.tsx'
import { NOW, SECRET, seed } from './screenshots-data.ts'

export type State = {
  name: string
  url: string
  /** The page needs a login. */
  in?: true
  /** The steps on the page that lead to the state. */
  before?: (page: Page) => Promise<unknown>
}

export type States = {
  states: State[]
  /** A new browser profile for a state, with a session if the state needs one. The caller closes it. */
  profile(browser: Browser, state: State, options: BrowserContextOptions): Promise<BrowserContext>
  /** Opens a state in a page of such a profile. */
  show(page: Page, state: State): Promise<void>
  /** Opens a state in a profile of its own. */
  open(browser: Browser, state: State, options: BrowserContextOptions): Promise<Page>
  close(): Promise<void>
}

const CONTEXT = { waitUntil() {}, passThroughOnException() {}, props: {} }

const ADMIN_KEY = 'admin-key-of-the-screenshots'
const VIEWER_KEY = 'viewer-key-of-the-screenshots'

const LIMITS = {
  MODEL_LIMITS: JSON.stringify({
    '*': { tokensPerDay: 60_000, requestsPerDay: 400 },
    'openai/gpt-oss-120b': { tokensPerDay: 40_000, requestsPerDay: 200, tokensPerMinute: 8000 },
  }),
  GLOBAL_LIMITS: JSON.stringify({
    total: { tokensPerDay: 1_000_000, requestsPerDay: 10_000 },
    'openai/gpt-oss-120b': { tokensPerDay: 200_000, requestsPerDay: 2000 },
  }),
}

const submit = (page: Page, name: string) => page.getByRole('button', { name, exact: true }).click()
const logIn = async (page: Page, key: string) => {
  await page.getByLabel('Admin key').fill(key)
  await submit(page, 'Log in')
}
const openAll = async (page: Page) => {
  for (const summary of await page.locator('summary').all()) await summary.click()
}
const guess = (page: Page) => logIn(page, 'not the admin key')

/** Makes the window as high as the page, so that no step has to scroll. */
async function heighten(page: Page) {
  const [width, height] = await page.evaluate(() => [
    innerWidth,
    document.documentElement.scrollHeight,
  ])
  if (width && height) await page.setViewportSize({ width, height })
}

/** Starts the gateways that show the states. `friendly`: without the texts of attackers, and with more names. */
export async function openStates(how: { friendly?: boolean } = {}): Promise<States> {
  const folder = await mkdtemp(join(tmpdir(), 'weir-'))
  const log = createLog({ level: 'silent', format: 'text', write: () => undefined })
  const closing: (() => unknown)[] = [() => rm(folder, { recursive: true })]

  async function gateway(
    store: FallbackStore,
    vars: Vars = {},
    clientIp = () => '198.51.100.7',
  ): Promise<string> {
    const config = readConfig({ ADMIN_KEY, USER_HASH_SECRET: SECRET, ...LIMITS, ...vars }, 'node')
    const app = createApp({
      config,
      store,
      fetch,
      fetchKeys: fetch,
      now: () => NOW,
      log,
      clientIp,
      claimedIp: () => undefined,
      relay: {
        pipe: transformPipe,
        headers: {},
        isDecoded: () => true,
        drain: { ms: 0, bytes: 0, atOnce: 0 },
      },
      environment: { platform: 'node', storage: 'database' },
    })
    app.get('/:file', staticFiles())
    const server = serve({
      fetch: (request, env) => app.fetch(request, env, CONTEXT),
      port: 0,
      hostname: '127.0.0.1',
    })
    closing.unshift(() => server.close())
    if (!server.listening) await new Promise((resolve) => server.once('listening', resolve))
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  }

  async function open(name: string) {
    const retention = { userDays: 7, historyDays: 90, eventsKept: 10_000 }
    const file = join(folder, `${name}.json`)
    const local = await openLocal({
      file,
      retention,
      now: () => NOW,
      // The ninety days are written within seconds.
      tolerance: Infinity,
      warn: () => undefined,
    })
    closing.unshift(() => local.close())
    const queue = memoryQueue(log)
    const store = withFallback({
      store: local,
      mode: 'open',
      queue,
      retention,
      now: () => NOW,
      log,
    })
    return { local, store }
  }

  const [full, empty] = [await open('full'), await open('empty')]
  const seeded = await seed(full.local, how)
  const away: FallbackStore = {
    ...full.store,
    session: () => Promise.reject(new StoreError('away')),
    takeTurn: () => Promise.reject(new StoreError('away')),
    health: () => ({ degraded: true, queued: 37 }),
  }
  const queued = { ...full.store, health: () => ({ degraded: false, queued: 37 }) }

  const [main, fresh] = [await gateway(full.store), await gateway(empty.store)]
  const down = await gateway(away)
  const read = await gateway(full.store, { ADMIN_KEYS: `vera:viewer:${VIEWER_KEY}` })
  // Each guess comes from an address of its own, so that none of them is one too many.
  let guesses = 0
  const guessed = await gateway(full.store, {}, () => `198.51.100.${(guesses += 1)}`)

  const states: State[] = [
    { name: 'home', url: main },
    { name: 'login', url: `${main}/admin` },
    { name: 'login-wrong', url: `${guessed}/admin`, before: guess },
    {
      name: 'login-limited',
      // A separate gateway, since it remembers wrong keys.
      url: `${await gateway(full.store)}/admin`,
      before: async (page) => {
        for (let tries = 0; tries < 6; tries += 1) await guess(page)
        await page.getByText('Too many').waitFor()
      },
    },
    { name: 'setup', url: `${await gateway(full.store, { ADMIN_KEY: '' })}/admin` },
    { name: 'away', url: `${down}/admin`, in: true },
    { name: 'empty', url: `${fresh}/admin`, in: true },
    { name: 'overview', url: `${main}/admin`, in: true },
    { name: 'overview-24h', url: `${main}/admin?range=24h&chart=cost`, in: true },
    { name: 'overview-90d', url: `${main}/admin?range=90d&chart=outcomes`, in: true },
    {
      name: 'overview-days',
      url: `${main}/admin?from=2026-03-01&to=2026-03-09`,
      in: true,
      before: (page) => page.locator('#use .bar').nth(4).hover(),
    },
    {
      name: 'overview-tables',
      url: `${main}/admin?range=7d`,
      in: true,
      before: openAll,
    },
    { name: 'users', url: `${main}/admin/users`, in: true },
    { name: 'users-cost', url: `${main}/admin/users?sort=cost&window=month`, in: true },
    { name: 'users-blocked', url: `${main}/admin/users?shown=blocked`, in: true },
    {
      name: 'users-page-2',
      url: `${main}/admin/users?sort=tokens`,
      in: true,
      before: (page) => page.getByRole('link', { name: 'Next page' }).click(),
    },
    {
      name: 'users-menu',
      url: `${main}/admin/users?shown=blocked`,
      in: true,
      before: (page) => page.locator('.more').first().click(),
    },
    {
      name: 'users-new',
      url: `${main}/admin/users`,
      in: true,
      before: async (page) => {
        await page.getByText('Add a user').first().click()
        await page.getByLabel('Name in your application').fill('marta@example.com')
        await submit(page, 'Add user')
        await page.locator('#new').getByRole('alert').waitFor()
      },
    },
    { name: 'requests', url: `${main}/admin/requests`, in: true },
    { name: 'requests-failed', url: `${main}/admin/requests?outcome=failed&status=429`, in: true },
    { name: 'requests-none', url: `${main}/admin/requests?model=nothing`, in: true },
    { name: 'requests-refused', url: `${main}/admin/requests?outcome=refused`, in: true },
    {
      name: 'request',
      url: `${main}/admin/requests`,
      in: true,
      before: (page) => page.locator('#events tbody a').first().click(),
    },
    {
      name: 'request-refused',
      url: `${main}/admin/requests?outcome=refused`,
      in: true,
      before: (page) => page.locator('#events tbody a').first().click(),
    },
    {
      name: 'explained',
      url: `${main}/admin`,
      in: true,
      before: (page) => page.locator('#figures .help').first().click(),
    },
    { name: 'audit', url: `${main}/admin/audit`, in: true },
    { name: 'alerts', url: `${main}/admin/alerts`, in: true },
    { name: 'overview-queued', url: `${await gateway(queued)}/admin`, in: true },
    {
      name: 'nobody',
      url: `${main}/admin/users`,
      in: true,
      before: async (page) => {
        await page.getByLabel(SEARCH).fill('nobody-with-this-token')
        await submit(page, 'Find')
      },
    },
    { name: 'user', url: `${main}/admin/users/${seeded.busy}`, in: true },
    { name: 'user-blocked', url: `${main}/admin/users/${seeded.blocked}?done=blocked`, in: true },
    { name: 'user-hostile', url: `${main}/admin/users/${seeded.hostile}`, in: true },
    {
      name: 'user-forms',
      url: `${main}/admin/users/${seeded.named}`,
      in: true,
      before: openAll,
    },
    {
      name: 'user-refused',
      url: `${main}/admin/users/${seeded.named}`,
      in: true,
      before: async (page) => {
        await page.getByText('Limits of their own').click()
        const form = page.locator('form[action$="/limits"]')
        await form.getByLabel('Tokens a day').first().fill('a lot')
        await form.getByRole('button', { name: 'Save' }).click()
        await page.getByRole('alert').waitFor()
      },
    },
    {
      name: 'user-key',
      url: `${main}/admin/users/${seeded.named}`,
      in: true,
      before: async (page) => {
        await page.getByText('New key').click()
        await submit(page, 'Create key')
        await page.locator('.secret').waitFor()
      },
    },
    { name: 'plans', url: `${main}/admin/plans`, in: true },
    { name: 'plans-forms', url: `${main}/admin/plans`, in: true, before: openAll },
    { name: 'settings', url: `${main}/admin/settings`, in: true },
    { name: 'viewer', url: `${read}/admin`, in: true },
    { name: 'viewer-user', url: `${read}/admin/users/${seeded.named}`, in: true },
    { name: 'user-unknown', url: `${main}/admin/users/nobody`, in: true },
  ]

  /** The cookies of each gateway after a login. */
  const sessions = new Map<string, Promise<Awaited<ReturnType<BrowserContext['storageState']>>>>()

  async function session(browser: Browser, origin: string) {
    const context = await browser.newContext()
    const page = await context.newPage()
    await page.goto(`${origin}/admin`)
    await logIn(page, origin === read ? VIEWER_KEY : ADMIN_KEY)
    await page.getByRole('button', { name: 'Log out' }).waitFor()
    const state = await context.storageState()
    await context.close()
    return state
  }

  const shown: States = {
    states,
    async profile(browser, { url, in: inside }, options) {
      // If the database is unreachable nobody can log in, but the cookie of another gateway is
      // valid too.
      const origin = url.startsWith(down) ? main : new URL(url).origin
      if (inside && !sessions.has(origin)) sessions.set(origin, session(browser, origin))
      const storageState = inside && (await sessions.get(origin))
      return browser.newContext({ ...options, ...(storageState && { storageState }) })
    },
    async show(page, { url, before }) {
      await page.clock.setFixedTime(NOW)
      await page.goto(url)
      if (before) {
        await heighten(page)
        await before(page)
      }
      await page.waitForLoadState()
    },
    async open(browser, state, options) {
      const context = await shown.profile(browser, state, options)
      const page = await context.newPage()
      await shown.show(page, state)
      return page
    },
    async close() {
      for (const close of closing) await close()
    },
  }
  return shown
}
