/** An admin in a real browser. */
import { readFile } from 'node:fs/promises'
import type { Locator, Page } from 'playwright-core'
import { afterEach, expect } from 'vitest'
import { logIn } from './admin.ts'
import { nextAnswer, useBrowser, type Chromium } from './browser.ts'
import type { Gateway } from './gateways.ts'

/** Longer than any step takes, and shorter than the time limit of a test. */
const PATIENCE_MS = 15_000

export type AdminPage = {
  page: Page
  gateway: Gateway
  /** Whether pages may run scripts. */
  scripts: boolean
  /** The requests of the browser. */
  urls: string[]
}

export type AdminBrowser = Chromium & {
  /** Opens the admin's pages in a new profile with a stopped clock: a refresh happens when the test moves the clock. */
  visit(gateway: Gateway, scripts?: boolean): Promise<AdminPage>
  /** Opens them with a session that was begun elsewhere, which takes half the time of a login on the page. */
  enter(gateway: Gateway, scripts?: boolean): Promise<AdminPage>
}

/** A browser for the tests of a file. A test fails if the browser reports a problem. */
export function useAdminBrowser(): AdminBrowser {
  const chromium = useBrowser()
  /** Failed scripts, dialogs, and what the content security policy blocked. */
  const complaints: string[] = []
  afterEach(() => {
    expect(complaints.splice(0)).toEqual([])
  })

  async function open(gateway: Gateway, scripts = true, cookie?: string): Promise<AdminPage> {
    const context = await chromium.profile(Date.now(), { javaScriptEnabled: scripts })
    context.setDefaultTimeout(PATIENCE_MS)
    if (cookie !== undefined) {
      const end = cookie.indexOf('=')
      const [name, value] = [cookie.slice(0, end), cookie.slice(end + 1)]
      await context.addCookies([{ name, value, url: gateway.url }])
    }
    const page = await context.newPage()
    const urls: string[] = []
    page.on('request', (request) => urls.push(request.url()))
    page.on('pageerror', (error) => complaints.push(String(error)))
    page.on('dialog', (dialog) => {
      complaints.push(`dialog: ${dialog.message()}`)
      void dialog.dismiss()
    })
    page.on('console', (message) => {
      // The browser reports an answer of 401, 404 or 503 as an error too.
      if (message.type() === 'error' && !message.text().includes('responded with a status')) {
        complaints.push(message.text())
      }
    })
    await page.goto(`${gateway.url}/admin`)
    return { page, gateway, scripts, urls }
  }

  return {
    ...chromium,
    visit: (gateway, scripts) => open(gateway, scripts),
    async enter(gateway, scripts) {
      const { cookie } = await logIn(gateway)
      const admin = await open(gateway, scripts, cookie)
      await button(admin.page, 'Log out').waitFor()
      return admin
    },
  }
}

export const button = (page: Page, name: string) => page.getByRole('button', { name, exact: true })
export const link = (page: Page, name: string) => page.getByRole('link', { name, exact: true })

/** Runs an action that leads to another page, and waits for the page. */
export async function leads(page: Page, act: () => Promise<unknown>): Promise<void> {
  await Promise.all([page.waitForEvent('domcontentloaded'), act()])
}

export const press = (page: Page, name: string) => leads(page, () => button(page, name).click())
export const follow = (page: Page, name: string) => leads(page, () => link(page, name).click())

export async function tryKey(page: Page, key: string): Promise<void> {
  await page.getByLabel('Admin key').fill(key)
  await press(page, 'Log in')
}

/** Opens a page that exists. */
export async function goTo({ page, gateway }: AdminPage, path: string): Promise<void> {
  const response = await page.goto(gateway.url + path)
  const status = response?.status()
  if (status !== 200) throw new Error(`${path} is ${status}: ${await response?.text()}`)
}

/** The next refresh of a page. Without scripts, the admin reloads it. */
export async function refresh({ page, gateway, scripts }: AdminPage): Promise<void> {
  if (!scripts) return void (await page.reload())
  await nextAnswer(
    page,
    5000,
    (request) =>
      request.url().startsWith(`${gateway.url}/admin`) && request.resourceType() === 'fetch',
  )
}

/** The file that a link saves. */
export async function saved(page: Page, name: string): Promise<{ name: string; text: string }> {
  const [download] = await Promise.all([page.waitForEvent('download'), link(page, name).click()])
  return { name: download.suggestedFilename(), text: await readFile(await download.path(), 'utf8') }
}

export const textOf = async (locator: Locator): Promise<string> =>
  ((await locator.textContent()) ?? '').trim()
