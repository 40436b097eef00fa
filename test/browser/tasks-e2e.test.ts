/**
 * What an admin does every day, in a real browser, with scripts and without: each within three clicks from the overview. A
 * choice in a list counts as a click, typing does not.
 */
import type { Locator, Page } from 'playwright-core'
import { beforeEach, describe, expect, test } from 'vitest'
import { leads, textOf, useAdminBrowser } from '../support/admin-browser.ts'
import { BEARER } from '../support/admin.ts'
import { eventOf, type Gateway } from '../support/gateways.ts'
import { useWorld } from '../support/world.ts'

const MOST_CLICKS = 3

const world = useWorld()
const { enter } = useAdminBrowser()

let tests = 0

/** A gateway with a busy user and a quiet one, and the id of a call of the busy one. */
async function busyGateway() {
  const gateway = await world.gateway('node')
  const ask = async (token: string, status = 200) => {
    const response = await fetch(`${gateway.url}/api/groq`, {
      method: 'POST',
      headers: { 'x-user-token': token },
      body: '{"prompt":"Hello"}',
    })
    await response.arrayBuffer()
    expect(response.status).toBe(status)
    const id = response.headers.get('x-weir-id') ?? ''
    return status === 200 ? eventOf(world.store, id) : { id, user: '' }
  }
  // New users for each test, because a gateway remembers refused ones for two seconds.
  const [quietToken, busyToken] = [`token-of-quiet-${(tests += 1)}`, `token-of-busy-${tests}`]
  const quiet = await ask(quietToken)
  const busy = await ask(busyToken)
  await ask(busyToken)
  return { gateway, ask, quiet, busy, quietToken, busyToken }
}

/** An admin on the overview, whose clicks are counted. */
async function admin(gateway: Gateway, scripts: boolean) {
  const { page } = await enter(gateway, scripts)
  let clicks = 0
  const click = async (target: Locator) => {
    clicks += 1
    await target.click()
  }
  return {
    page,
    click,
    async go(target: Locator) {
      await leads(page, () => click(target))
    },
    async choose(target: Locator, value: string) {
      clicks += 1
      await target.selectOption(value)
    },
    /** Begins another task. */
    async again() {
      clicks = 0
      await page.goto(`${gateway.url}/admin`)
    },
    done: () => expect(clicks).toBeLessThanOrEqual(MOST_CLICKS),
  }
}

const nav = (page: Page, name: string) =>
  page.locator('.pages-of').getByRole('link', { name: new RegExp(`^${name}`) })
const row = (page: Page, user: string) => page.locator(`#users tr[data-key="${user}"]`)
const firstUser = (page: Page) => page.locator('#users tbody tr').first().getAttribute('data-key')
const find = async (page: Page, text: string) =>
  page.getByLabel('Find a user or a request').fill(text)
const findButton = (page: Page) => page.getByRole('button', { name: 'Find', exact: true })

describe.each([
  ['with scripts', true],
  ['without scripts', false],
])('%s', (_, scripts) => {
  let at: Awaited<ReturnType<typeof busyGateway>>
  beforeEach(async () => {
    at = await busyGateway()
  })

  test('who spent most today, this week and this month', async () => {
    const { page, go, done, again } = await admin(at.gateway, scripts)
    for (const window of [undefined, 'This week', 'This month']) {
      await again()
      await go(nav(page, 'Users'))
      await go(page.locator('thead').getByRole('link', { name: 'Cost' }))
      if (window) await go(page.getByRole('link', { name: window }))
      expect(await firstUser(page)).toBe(at.busy.user)
      expect(await textOf(row(page, at.busy.user))).toMatch(/\$0\.\d+/)
      done()
    }
  })

  test('raise the limits of a user', async () => {
    const { page, click, go, done } = await admin(at.gateway, scripts)
    await go(nav(page, 'Users'))
    await click(row(page, at.quiet.user).locator('.more'))
    await go(page.getByRole('button', { name: 'Double limits until midnight UTC' }))
    expect(await textOf(page.locator('.notice'))).toMatch(/^Raised/)
    done()
  })

  test('give a user the plan for trials', async () => {
    await fetch(`${at.gateway.url}/api/admin/plans/trial`, {
      method: 'PUT',
      headers: BEARER,
      body: '{"limits":{"*":{"requestsPerDay":1}}}',
    })
    const { page, go, choose, done } = await admin(at.gateway, scripts)
    await find(page, at.quiet.user)
    await go(findButton(page))
    await choose(page.locator('#profile select[name=plan]'), 'trial')
    await go(page.getByRole('button', { name: 'Set plan' }))
    await at.ask(at.quietToken, 429)
    done()
  })

  test('stop a user now', async () => {
    const { page, click, go, done } = await admin(at.gateway, scripts)
    await go(nav(page, 'Users'))
    await click(row(page, at.busy.user).locator('.more'))
    await go(page.getByRole('button', { name: 'Block until unblocked' }))
    await at.ask(at.busyToken, 403)
    expect(await textOf(row(page, at.busy.user))).toContain('blocked')
    done()
  })

  test('why a call failed and what it cost, by its x-weir-id', async () => {
    const { page, go, done } = await admin(at.gateway, scripts)
    await find(page, at.busy.id)
    await go(findButton(page))
    const request = await textOf(page.locator('#request'))
    expect(request).toContain('Tokens reserved → charged')
    expect(request).toMatch(/→ \$0\.\d+/)
    done()
  })

  test('what a feature costs that has a key of its own', async () => {
    const { page, click, go, done } = await admin(at.gateway, scripts)
    await go(nav(page, 'Users'))
    await click(page.getByText('Add a user'))
    await page.getByLabel('Name in your application').fill('summaries')
    await page.getByLabel('Label').fill('Summaries')
    await go(page.getByRole('button', { name: 'Add user' }))
    expect(await textOf(page.locator('h1'))).toContain('Summaries')
    expect(await textOf(page.locator('#use'))).toContain('Month so far')
    done()
  })

  test('export an invoice', async () => {
    const { page, click, done } = await admin(at.gateway, scripts)
    const button = page.getByRole('button', { name: 'Download invoice' })
    const [download] = await Promise.all([page.waitForEvent('download'), click(button)])
    expect(download.suggestedFilename()).toMatch(/\.csv$/)
    done()
  })

  test('change the limits of everyone without a new deployment', async () => {
    const { page, go, done } = await admin(at.gateway, scripts)
    await go(nav(page, 'Settings'))
    await page.locator('#limits').getByLabel('Requests a day').first().fill('3,000')
    await go(page.locator('#limits').getByRole('button', { name: 'Save' }))
    expect(await textOf(page.locator('#limits'))).toContain('saved here')
    expect((await world.store.policy()).settings?.globalLimits).toEqual({
      total: { requestsPerDay: 3000 },
    })
    done()
  })

  test('who may look, and which keys are set: what the environment decides is told', async () => {
    const { page, go, done } = await admin(at.gateway, scripts)
    await go(nav(page, 'Settings'))
    const environment = await textOf(page.locator('#environment'))
    expect(environment).toMatch(/GROQ_API_KEY *set/)
    expect(environment).toMatch(/ADMIN_KEYS *admin \(admin\)/)
    done()
  })
})
