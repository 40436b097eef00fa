/** Every page of the gateway in every state. */
import type { Browser, BrowserContext, BrowserContextOptions, Page } from 'playwright-core'
import { SEARCH } from '../src/views/page.tsx'
import { ADMINS, openGateways } from './screenshots-gateways.ts'
import { NOW } from './screenshots-people.ts'

export type State = {
  name: string
  url: string
  /** Who is logged in, if the page needs that. */
  in?: keyof typeof ADMINS
  /** The steps on the page that lead to the state. */
  before?: (page: Page) => Promise<unknown>
  /** The steps after a picture that undo those before. */
  after?: (page: Page) => Promise<unknown>
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

const submit = (page: Page, name: string) => page.getByRole('button', { name, exact: true }).click()
const logIn = async (page: Page, key: string) => {
  await page.getByLabel('Admin key').fill(key)
  await submit(page, 'Log in')
}
const openAll = async (page: Page) => {
  for (const summary of await page.locator('summary').all()) await summary.click()
}
const guess = (page: Page) => logIn(page, 'not the admin key')
const openFirst = (page: Page) => page.locator('#events tbody a').first().click()

/** Makes the window as high as the page, so that no step has to scroll. */
async function heighten(page: Page) {
  const [width, height] = await page.evaluate(() => [
    innerWidth,
    document.documentElement.scrollHeight,
  ])
  if (width && height) await page.setViewportSize({ width, height })
}

/** Starts the gateways that show the states. */
export async function openStates(): Promise<States> {
  const { urls, users, close } = await openGateways()
  const { main } = urls
  const states: State[] = [
    { name: 'home', url: main },
    { name: 'setup-provider', url: urls.noProvider },
    { name: 'login', url: `${main}/admin` },
    { name: 'login-wrong', url: `${urls.guessed}/admin`, before: guess },
    {
      name: 'login-limited',
      url: `${urls.limited}/admin`,
      before: async (page) => {
        for (let tries = 0; tries < 6; tries += 1) await guess(page)
        await page.getByText('Too many').waitFor()
      },
    },
    { name: 'setup', url: `${urls.unset}/admin` },
    { name: 'away', url: `${urls.away}/admin`, in: 'ada' },
    { name: 'empty', url: `${urls.empty}/admin`, in: 'ada' },
    { name: 'overview', url: `${main}/admin`, in: 'ada' },
    { name: 'overview-24h', url: `${main}/admin?range=24h&chart=cost`, in: 'ada' },
    { name: 'overview-90d', url: `${main}/admin?range=90d&chart=outcomes`, in: 'ada' },
    {
      name: 'overview-days',
      url: `${main}/admin?from=2026-03-01&to=2026-03-09`,
      in: 'ada',
      before: (page) => page.locator('#use .bar').nth(4).hover(),
    },
    { name: 'overview-trouble', url: `${urls.trouble}/admin`, in: 'ada' },
    { name: 'overview-hostile', url: `${urls.hostile}/admin`, in: 'ada' },
    {
      name: 'overview-tables',
      url: `${main}/admin?range=7d`,
      in: 'ada',
      before: openAll,
    },
    { name: 'users', url: `${main}/admin/users`, in: 'ada' },
    { name: 'users-cost', url: `${main}/admin/users?sort=cost&window=month`, in: 'ada' },
    { name: 'users-blocked', url: `${main}/admin/users?shown=blocked`, in: 'ada' },
    {
      name: 'users-page-2',
      url: `${main}/admin/users?sort=tokens`,
      in: 'ada',
      before: (page) => page.getByRole('link', { name: 'Next page' }).click(),
    },
    {
      name: 'users-menu',
      url: `${main}/admin/users?shown=blocked`,
      in: 'ada',
      before: (page) => page.locator('.more').first().click(),
    },
    {
      name: 'users-new',
      url: `${main}/admin/users`,
      in: 'ada',
      before: async (page) => {
        await page.getByText('Add a user').first().click()
        await page.getByLabel('Name in your application').fill('marta@example.com')
        await submit(page, 'Add user')
        await page.locator('#new').getByRole('alert').waitFor()
      },
    },
    { name: 'requests', url: `${main}/admin/requests`, in: 'ada' },
    { name: 'requests-failed', url: `${main}/admin/requests?outcome=failed&status=429`, in: 'ada' },
    { name: 'requests-none', url: `${main}/admin/requests?model=nothing`, in: 'ada' },
    { name: 'requests-refused', url: `${main}/admin/requests?outcome=refused`, in: 'ada' },
    {
      name: 'request',
      url: `${main}/admin/requests`,
      in: 'ada',
      before: openFirst,
    },
    {
      name: 'request-refused',
      url: `${main}/admin/requests?outcome=refused`,
      in: 'ada',
      before: openFirst,
    },
    {
      name: 'request-everyone',
      url: `${urls.trouble}/admin/requests?outcome=refused`,
      in: 'ada',
      before: (page) =>
        page
          .getByRole('row')
          .filter({ hasText: 'global_quota' })
          .first()
          .getByRole('link')
          .first()
          .click(),
    },
    {
      name: 'explained',
      url: `${main}/admin`,
      in: 'ada',
      before: (page) => page.locator('#figures .help').first().click(),
    },
    { name: 'audit', url: `${main}/admin/audit`, in: 'ada' },
    { name: 'alerts', url: `${urls.trouble}/admin/alerts`, in: 'ada' },
    { name: 'alerts-none', url: `${main}/admin/alerts`, in: 'ada' },
    { name: 'overview-queued', url: `${urls.queued}/admin`, in: 'ada' },
    {
      name: 'nobody',
      url: `${main}/admin/users`,
      in: 'ada',
      before: async (page) => {
        await page.getByLabel(SEARCH).fill('nobody-with-this-token')
        await submit(page, 'Find')
      },
    },
    { name: 'user', url: `${main}/admin/users/${users.busy}`, in: 'ada' },
    { name: 'user-blocked', url: `${main}/admin/users/${users.blocked}?done=blocked`, in: 'ada' },
    { name: 'user-audio', url: `${main}/admin/users/${users.audio}`, in: 'ada' },
    { name: 'user-uncalled', url: `${main}/admin/users/${users.unused}`, in: 'ada' },
    { name: 'user-hostile', url: `${urls.hostile}/admin/users/${users.hostile}`, in: 'ada' },
    {
      name: 'user-forms',
      url: `${main}/admin/users/${users.named}`,
      in: 'ada',
      before: openAll,
    },
    {
      name: 'user-refused',
      url: `${main}/admin/users/${users.named}`,
      in: 'ada',
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
      url: `${main}/admin/users/${users.named}`,
      in: 'ada',
      before: async (page) => {
        await page.getByText('New key').click()
        await submit(page, 'Create key')
        await page.locator('.secret').waitFor()
      },
      after: async (page) => {
        const made = page.locator('.key').filter({ hasText: 'never used' }).last()
        await made.getByText('Change').click()
        await made.getByRole('checkbox', { name: /^Delete/ }).check()
        await made.getByRole('button', { name: 'Delete' }).click()
        await page.locator('.secret').waitFor({ state: 'detached' })
      },
    },
    { name: 'plans', url: `${main}/admin/plans`, in: 'ada' },
    { name: 'plans-forms', url: `${main}/admin/plans`, in: 'ada', before: openAll },
    { name: 'settings', url: `${main}/admin/settings`, in: 'ada' },
    { name: 'viewer', url: `${urls.any}/admin`, in: 'vera' },
    { name: 'viewer-user', url: `${urls.any}/admin/users/${users.named}`, in: 'vera' },
    { name: 'user-unknown', url: `${main}/admin/users/nobody`, in: 'ada' },
  ]

  /** The cookies of each gateway after a login. */
  const sessions = new Map<string, Promise<Awaited<ReturnType<BrowserContext['storageState']>>>>()

  async function session(
    browser: Browser,
    origin: string,
    [, key]: (typeof ADMINS)[keyof typeof ADMINS],
  ) {
    const context = await browser.newContext()
    const page = await context.newPage()
    await page.goto(`${origin}/admin`)
    await logIn(page, key)
    await page.getByRole('button', { name: 'Log out' }).waitFor()
    const state = await context.storageState()
    await context.close()
    return state
  }

  const shown: States = {
    states,
    async profile(browser, { url, in: name }, options) {
      // If the database is unreachable nobody can log in, but the cookie of another gateway is
      // valid too.
      const origin = url.startsWith(urls.away) ? main : new URL(url).origin
      if (name && !sessions.has(origin)) {
        sessions.set(origin, session(browser, origin, ADMINS[name]))
      }
      const storageState = name && (await sessions.get(origin))
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
    close,
  }
  return shown
}
