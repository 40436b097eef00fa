/** An admin in a real browser: with scripts, without scripts, and with the keyboard only. */
import type { ElementHandle, Locator, Page } from 'playwright-core'
import { beforeEach, describe, expect, test } from 'vitest'
import type { Event } from '../../src/ledger/events.ts'
import { MINUTE_MS, SECOND_MS } from '../../src/ledger/windows.ts'
import {
  button,
  follow,
  goTo,
  leads,
  link,
  press,
  refresh,
  saved,
  textOf,
  tryKey,
  useAdminBrowser,
} from '../support/admin-browser.ts'
import { adminGet, BEARER } from '../support/admin.ts'
import { parseCsv } from '../support/csv.ts'
import { nextSync } from '../support/browser.ts'
import { ADMIN_KEY, eventOf, KINDS, type Gateway } from '../support/gateways.ts'
import { seededId, seedUsers } from '../support/seed.ts'
import { useWorld } from '../support/world.ts'

const REASON = 'Too many <b>questions</b> & "no" answers'

/** The token of a new user in each test, because a gateway remembers refused users for two seconds. */
let token: string
let tests = 0
beforeEach(() => {
  token = `token-of-user-${(tests += 1)}`
})

const world = useWorld()
const { profile, visit, enter } = useAdminBrowser()

const notice = (page: Page) => textOf(page.locator('.notice'))
const figure = (page: Page, title: string) => textOf(page.locator(`#figure-${title} strong`))
/** The ids of a list of users. */
const userIds = (page: Page, list = '#users') => page.locator(`${list} th .id`).allTextContents()

type Answer = { status: number; user: string; message?: string | undefined }

/** Makes a call of a user. After an answer with 200, waits until it is counted. */
async function ask(gateway: Gateway, of = token): Promise<Answer & { charged: number }> {
  const response = await fetch(`${gateway.url}/api/groq`, {
    method: 'POST',
    headers: { 'x-user-token': of },
    body: '{"prompt":"Hello"}',
  })
  const { error } = (await response.json()) as { error?: { message: string } }
  if (response.status !== 200)
    return { status: response.status, user: '', charged: 0, message: error?.message }
  const { user, charged } = await eventOf(world.store, response.headers.get('x-weir-id'))
  return { status: 200, user, charged }
}

const exported = async (gateway: Gateway, query: string) =>
  (await fetch(`${gateway.url}/api/admin/export?${query}`, { headers: BEARER })).text()

/** The path and query of a page. */
const placeOf = (page: Page) => page.url().replace(/^http:..[^/]+/, '')

describe.each(KINDS)('on %s', (kind) => {
  // Without scripts, a page is only what the server rendered, which is the same on both platforms.
  const ways: [string, boolean][] = [['with scripts', true]]
  if (kind === 'node') ways.push(['without scripts', false])
  // What the server renders and stores for these is the same on both platforms, and test/admin has it on both.
  const sameOnBoth = test.runIf(kind === 'node')

  describe.each(ways)('%s', (_, scripts) => {
    test('a wrong key opens nothing, the right one does, and logging out ends the session', async () => {
      const gateway = await world.gateway(kind)
      const { page } = await visit(gateway, scripts)
      await tryKey(page, 'not-the-admin-key')
      expect(await textOf(page.getByRole('alert'))).toBe('That is not an admin key.')
      await tryKey(page, ADMIN_KEY)
      expect(placeOf(page)).toBe('/admin')
      expect(await page.title()).toBe('Overview · Weir')
      const api = () => page.request.get(`${gateway.url}/api/admin/usage`).then((r) => r.status())
      expect(await api()).toBe(200)
      const cookies = await page.context().cookies()

      await press(page, 'Log out')
      const closed = async () => {
        await page.getByLabel('Admin key').waitFor()
        expect(await page.locator('#figures').count()).toBe(0)
      }
      await closed()
      await page.reload()
      await closed()
      await page.goBack()
      await closed()
      expect(await api()).toBe(401)
      // The earlier cookie does not work either.
      await page.context().addCookies(cookies)
      expect(await api()).toBe(401)
      await page.goto(`${gateway.url}/admin`)
      await closed()
    })

    test('a call is in the numbers with the next refresh', async () => {
      const gateway = await world.gateway(kind)
      const admin = await enter(gateway, scripts)
      const { page, urls } = admin
      expect(await figure(page, 'tokens')).toBe('0')
      expect(await userIds(page, '#top')).toEqual([])
      const first = await ask(gateway)
      const before = urls.length
      await refresh(admin)
      const tokens = async () => Number((await figure(page, 'tokens')).replace(',', ''))
      await expect.poll(tokens).toBe(first.charged)
      expect(await userIds(page, '#top')).toEqual([first.user])
      expect(await page.locator('#events tbody tr').count()).toBe(1)
      if (scripts) expect(urls.length).toBe(before + 1)

      const second = await ask(gateway, 'token-of-another')
      await refresh(admin)
      await expect.poll(tokens).toBe(first.charged + second.charged)
      expect((await userIds(page, '#top')).toSorted()).toEqual([first.user, second.user].sort())
      expect(await textOf(page.locator('#figure-requests'))).toContain('2 active users')
      expect(await textOf(page.locator('#pages'))).toContain('Users2')
      // What was used has one number on the page, also after a refresh.
      expect(await textOf(page.locator('#models td').nth(0))).toBe(await figure(page, 'tokens'))
    })

    sameOnBoth(
      'a blocked user is refused with the reason from the next call until the block is lifted',
      async () => {
        const gateway = await world.gateway(kind)
        const { user } = await ask(gateway)
        const { page } = await enter(gateway, scripts)
        await leads(page, () =>
          page
            .locator('#pages')
            .getByRole('link', { name: /^Users/ })
            .click(),
        )
        await leads(page, () => page.locator('#users').getByRole('link', { name: user }).click())
        await page.getByLabel('Reason, shown to the user').fill(REASON)
        await press(page, 'Block')
        expect(await notice(page)).toContain(`all models are blocked for ${user}`)
        expect(await ask(gateway)).toMatchObject({
          status: 403,
          message: `You are blocked from all models: ${REASON}`,
        })
        expect(await textOf(page.locator('#blocks .block bdi').nth(1))).toBe(REASON)
        await leads(page, () =>
          page
            .locator('#pages')
            .getByRole('link', { name: /^Users/ })
            .click(),
        )
        expect(await textOf(page.locator('#users .tag'))).toBe('blocked')
        await follow(page, 'Overview')
        expect(await textOf(page.locator('#look .blocked'))).toContain(REASON)
        await leads(page, () =>
          page.locator('#look .blocked').getByRole('link', { name: user }).click(),
        )

        await press(page, 'Unblock all models')
        expect(await notice(page)).toMatch(/^Unblocked\./)
        expect(await page.locator('#blocks .block').count()).toBe(0)
        await expect.poll(async () => (await ask(gateway)).status, { timeout: 20_000 }).toBe(200)
      },
    )

    // The script decides it, on both platforms by the same mark.
    test.runIf(kind === 'node' && scripts)(
      'a search and a page that is not there do not say that they are live',
      async () => {
        const gateway = await world.gateway(kind)
        const { user } = await ask(gateway)
        const admin = await enter(gateway, scripts)
        const { page } = admin
        const isLive = () => page.locator('#live').isVisible()
        await goTo(admin, `/admin/users?q=${user.slice(0, 6)}`)
        expect(await isLive()).toBe(false)
        await page.goto(`${gateway.url}/admin/users/nobody`)
        expect(await isLive()).toBe(false)
        await goTo(admin, '/admin/users')
        expect(await isLive()).toBe(true)
      },
    )

    // Only the server ends it, on both platforms by the same rule.
    test.runIf(kind === 'node' && scripts)('a block ends at its time', async () => {
      const gateway = await world.gateway(kind)
      const { user } = await ask(gateway)
      const admin = await enter(gateway, scripts)
      const { page } = admin
      await goTo(admin, `/admin/users/${user}`)
      // Later than a busy machine takes to save it and to refuse a call.
      const until = new Date(Math.ceil(Date.now() / SECOND_MS + 6) * SECOND_MS).toISOString()
      const field = page.getByLabel('or until')
      // The field takes minutes, and the test has none to wait.
      await field.evaluate((input: HTMLInputElement) => (input.step = 'any'))
      // A browser omits seconds if they are 00.
      await field.fill(until.replace(/(:00)?\.000Z$/, ''))
      await press(page, 'Block')
      expect(await notice(page)).toContain(`all models are blocked for ${user}`)
      const { status, message } = await ask(gateway)
      expect([status, message]).toEqual([
        403,
        `You are blocked from all models until ${until.replace('.000', '')}.`,
      ])
      await expect.poll(async () => (await ask(gateway)).status, { timeout: 20_000 }).toBe(200)
      expect(Date.now()).toBeGreaterThanOrEqual(Date.parse(until))
      await page.reload()
      expect(await page.locator('#blocks .block').count()).toBe(0)
      await leads(page, () =>
        page
          .locator('#pages')
          .getByRole('link', { name: /^Users/ })
          .click(),
      )
      expect(await page.locator('#users .tag').count()).toBe(0)
    })

    sameOnBoth('150 users are all found page by page, in the requested order', async () => {
      const gateway = await world.gateway(kind)
      await seedUsers(world.redis, 150, Date.now())
      const admin = await enter(gateway, scripts)
      const { page } = admin
      await goTo(admin, '/admin/users')
      const seen = await userIds(page)
      const order = (sort: string) =>
        adminGet<{ users: { userId: string }[] }>(
          gateway,
          `/api/admin/usage?sort=${sort}&limit=50`,
        ).then(({ users }) => users.map(({ userId }) => userId))
      expect(seen.toSorted()).toEqual((await order('lastActive')).toSorted())
      while (await link(page, 'Next page').count()) {
        await follow(page, 'Next page')
        seen.push(...(await userIds(page)))
        expect(seen.length).toBeLessThanOrEqual(150)
      }
      expect(new Set(seen).size).toBe(150)
      await follow(page, 'First page')
      expect(await userIds(page)).toEqual(seen.slice(0, 50))

      await follow(page, 'Tokens')
      expect(await page.locator('[aria-sort]').textContent()).toContain('Tokens')
      expect(await userIds(page)).toEqual(await order('tokens'))
      await follow(page, 'Next page')
      expect(await userIds(page)).not.toContain((await order('tokens'))[0])
      expect(placeOf(page)).toMatch(/users\?sort=tokens&cursor=/)
    })

    sameOnBoth(
      'a user is found by a pasted id or token, and no URL contains the token',
      async () => {
        const gateway = await world.gateway(kind)
        const { user } = await ask(gateway)
        const { page, urls } = await enter(gateway, scripts)
        for (const pasted of [token, ` ${user} `]) {
          await page.getByLabel('Find a user or a request').fill(pasted)
          await press(page, 'Find')
          expect(placeOf(page)).toBe(`/admin/users/${user}`)
          await leads(page, () =>
            page
              .locator('#pages')
              .getByRole('link', { name: /^Users/ })
              .click(),
          )
        }
        await page.getByLabel('Find a user or a request').fill('token-of-nobody')
        await press(page, 'Find')
        expect(await textOf(page.getByRole('alert'))).toMatch(
          /^Nothing was found for “token-of-nobody”: no user/,
        )
        expect(urls.join(' ')).not.toContain('token-of')
      },
    )

    sameOnBoth('saved files have the data of the API', async () => {
      const gateway = await world.gateway(kind)
      await ask(gateway)
      await ask(gateway, 'token-of-another')
      const told = await adminGet<{ users: { userId: string }[]; events: Event[] }>(
        gateway,
        '/api/admin/usage',
      )
      const { page } = await enter(gateway, scripts)
      for (const exportKind of ['users', 'days', 'events']) {
        for (const format of ['csv', 'ndjson']) {
          const file = await saved(page, `Export ${exportKind} as ${format}`)
          expect(file.name).toMatch(new RegExp(`^weir-${exportKind}-[\\d-]{10}\\.${format}$`))
          const text = await exported(gateway, `kind=${exportKind}&format=${format}`)
          // `fetch` takes the mark off that tells Excel the encoding.
          expect(file.text).toBe(format === 'csv' ? `\ufeff${text}` : text)
          const objects = (): unknown =>
            file.text
              .trim()
              .split('\n')
              .map((line) => JSON.parse(line))
          if (format === 'csv') expect(parseCsv(file.text).length).toBeGreaterThan(0)
          else if (exportKind === 'users') expect(objects()).toEqual(told.users.toReversed())
          else if (exportKind === 'events') expect(objects()).toEqual(told.events)
        }
      }
    })

    sameOnBoth(
      'a new key stays on the page while it refreshes, and is gone after a reload that makes no other',
      async () => {
        const gateway = await world.gateway(kind, { USER_TOKENS: 'any,issued' })
        const { user } = await ask(gateway)
        const admin = await enter(gateway, scripts)
        const { page, urls } = admin
        await goTo(admin, `/admin/users/${user}`)
        await page.getByText('New key').click()
        await page.locator('form[action$="/keys"]').getByLabel('Name').fill('Laptop')
        await press(page, 'Create key')
        const key = await textOf(page.locator('.secret'))
        expect(key).toMatch(/^weir_/)
        if (scripts) {
          await refresh(admin)
          expect(await textOf(page.locator('.secret'))).toBe(key)
        }
        await leads(page, () => page.reload())
        expect(await textOf(page.getByRole('alert'))).toContain('This key was created before')
        expect(await page.content()).not.toContain(key)
        expect(urls.join()).not.toContain(key)
        expect(Object.keys((await world.store.user(user))?.profile.keys ?? {})).toHaveLength(1)
      },
    )

    sameOnBoth('erasing asks for confirmation, and keeps only the totals', async () => {
      const gateway = await world.gateway(kind)
      const { user, charged } = await ask(gateway)
      const admin = await enter(gateway, scripts)
      const { page } = admin
      await goTo(admin, `/admin/users/${user}`)
      await button(page, 'Erase user').click()
      expect(await world.store.user(user)).toBeDefined()
      await page.getByLabel('I understand').check()
      await press(page, 'Erase user')
      // With scripts, the result leaves the address, so that a reload does not tell it again.
      expect(placeOf(page)).toBe(scripts ? '/admin' : '/admin?done=erased')
      expect(await notice(page)).toMatch(/^Erased\./)
      expect(await userIds(page, '#top')).toEqual([])
      expect(await figure(page, 'tokens')).toBe(charged.toLocaleString('en-US'))
      expect(await page.content()).not.toContain(user)
      expect((await page.goto(`${gateway.url}/admin/users/${user}`))?.status()).toBe(404)
      expect(await world.store.user(user)).toBeUndefined()
    })
  })

  sameOnBoth('on a phone the name of the page is in view, below a search too', async () => {
    const gateway = await world.gateway(kind)
    const admin = await enter(gateway)
    const { page } = admin
    await page.setViewportSize({ width: 390, height: 844 })
    const current = page.locator('#pages [aria-current]')
    await goTo(admin, '/admin/settings')
    expect(await textOf(current)).toBe('Settings')
    const { x, width } = (await current.boundingBox()) ?? { x: 0, width: 0 }
    expect(x).toBeGreaterThan(0)
    expect(x + width).toBeLessThan(390)
    await page.getByLabel('Find a user or a request').fill('nobody')
    await press(page, 'Find')
    expect(await textOf(current)).toMatch(/^Users/)
    const top = async (part: Locator) => (await part.boundingBox())?.y ?? 0
    expect(await top(page.getByRole('alert'))).toBeGreaterThan(await top(current))
  })

  sameOnBoth('everything works with the keyboard, and the focus is always visible', async () => {
    const gateway = await world.gateway(kind)
    await seedUsers(world.redis, 12, Date.now() - MINUTE_MS)
    const { user } = await ask(gateway)
    const { page } = await visit(gateway)
    const keys = page.keyboard

    // The login page sets the focus to the key.
    await expect.poll(async () => (await focused(page)).html).toContain('id="key"')
    await keys.type(ADMIN_KEY)
    await tabTo(page, button(page, 'Log in'))
    await leads(page, () => keys.press('Enter'))

    await keys.press('Tab')
    expect(await focused(page)).toMatchObject({ text: 'Skip to content', seen: true })
    await keys.press('Enter')
    await tabTo(page, page.locator('summary').first())
    await keys.press('Space')
    expect(await page.locator('details[open]').count()).toBe(1)
    await keys.press('/')
    expect((await focused(page)).html).toContain('name="q"')
    await keys.type(token)
    await tabTo(page, button(page, 'Find'))
    await leads(page, () => keys.press('Enter'))
    expect(placeOf(page)).toBe(`/admin/users/${user}`)

    await tabTo(page, page.locator('#blocks select[name=model]'))
    await tabTo(page, page.getByLabel('Reason, shown to the user'))
    await keys.type(REASON)
    await tabTo(page, button(page, 'Block'))
    await leads(page, () => keys.press('Space'))
    expect((await ask(gateway)).status).toBe(403)
    await tabTo(page, button(page, 'Unblock all models'))
    await leads(page, () => keys.press('Enter'))
    expect((await world.store.user(user))?.profile.blocks).toEqual({})

    await tabTo(page, page.locator('h1').getByRole('link', { name: 'Users' }))
    await leads(page, () => keys.press('Enter'))
    await tabTo(page, page.getByRole('button', { name: `Actions for ${seededId(2)}` }))
    await keys.press('Enter')
    await keys.press('Escape')
    await tabTo(page, page.locator('thead').getByRole('link', { name: 'Tokens' }))
    await leads(page, () => keys.press('Enter'))
    await tabTo(page, page.locator('#users').getByRole('link', { name: seededId(9) }))
    await leads(page, () => keys.press('Enter'))
    expect(placeOf(page)).toBe(`/admin/users/${seededId(9)}`)
    await tabTo(page, page.getByLabel('I understand'))
    await keys.press('Space')
    await tabTo(page, button(page, 'Erase user'))
    await leads(page, () => keys.press('Enter'))
    expect(placeOf(page)).toBe('/admin')

    await tabTo(page, link(page, 'Export events as ndjson'))
    await tabTo(page, button(page, 'Log out'))
    await leads(page, () => keys.press('Enter'))
    await page.getByLabel('Admin key').waitFor()
  })

  sameOnBoth(
    'a block by the admin is a banner on the page of the user until it is lifted',
    async () => {
      const gateway = await world.gateway(kind)
      const { user } = await ask(gateway)
      const app = await (await profile(Date.now())).newPage()
      await app.goto(world.upstream.url)
      await app.setContent(`<!doctype html><title>app</title>
      <script type="module" src="${gateway.url}/tracker.js" data-user-token="${token}" data-banner></script>`)
      await app.waitForFunction(() => 'weir' in window)
      await app.evaluate(() => navigator.locks.query())
      const banner = app.getByRole('alert')
      await nextSync(app, 2 * SECOND_MS)
      expect(await banner.count()).toBe(0)

      const admin = await enter(gateway)
      const { page } = admin
      await goTo(admin, `/admin/users/${user}`)
      await page.getByLabel('Reason, shown to the user').fill(REASON)
      await press(page, 'Block')
      await nextSync(app, 5 * MINUTE_MS)
      await expect
        .poll(() => banner.allTextContents())
        .toEqual([`You can't use the assistant until you are unblocked. Reason: ${REASON}`])
      await press(page, 'Unblock all models')
      // A page of a blocked user asks again when it gets the focus.
      await app.evaluate(() => dispatchEvent(new Event('focus')))
      await nextSync(app, 3 * SECOND_MS)
      await expect.poll(() => banner.count()).toBe(0)
    },
  )
})

/** The focused element, whether it is the target, and whether its focus is visible. */
const focused = (page: Page, target?: ElementHandle | null) =>
  page.evaluate((target) => {
    const element = document.activeElement ?? document.body
    const { outlineStyle, outlineWidth } = getComputedStyle(element)
    const { width, height, top, bottom, left, right } = element.getBoundingClientRect()
    const inView = top < innerHeight && bottom > 0 && left < innerWidth && right > 0
    const seen =
      outlineStyle !== 'none' && parseFloat(outlineWidth) >= 2 && width > 1 && height > 1 && inView
    return {
      text: element.textContent,
      html: element.outerHTML.slice(0, 100),
      page: element === document.body,
      isTarget: element === target,
      seen,
    }
  }, target)

/** Presses Tab until the target has the focus. */
async function tabTo(page: Page, target: Locator): Promise<void> {
  const wanted = await target.elementHandle()
  for (let presses = 0; presses < 400; presses += 1) {
    await page.keyboard.press('Tab')
    const at = await focused(page, wanted)
    // After the last element, the focus is briefly on the browser's own controls.
    if (!at.page) expect([at.html, at.seen]).toEqual([at.html, true])
    if (at.isTarget) return
  }
  throw new Error('no number of tabs leads there')
}
