/** Every page in every state, checked with axe-core: on phone and desktop screens, light and dark. */
import type { AxeResults, RunOptions } from 'axe-core'
import { readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import type { Page } from 'playwright-core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { PICTURES } from '../../scripts/docs-images.ts'
import { misfitsOf } from '../../scripts/screenshots-fit.ts'
import { openStates, type State, type States } from '../../scripts/screenshots-states.ts'
import { useBrowser } from '../support/browser.ts'

/** At each of these, a page has to fit its window. */
const WIDTHS = [390, 720, 768, 820, 900, 1024, 1440, 1920]

// Targets of less than 24 px are not among the rules that axe checks unasked.
const TARGETS = { 'target-size': { enabled: true } }
const COLOURS = ['color-contrast', 'link-in-text-block']
/** What depends on the width: the sizes of targets, and what scrolls. */
const NARROW = ['target-size', 'scrollable-region-focusable']
/**
 * What is checked where. Only colours differ between the schemes, no colour depends on the width, and a wide window shows
 * all that a narrow one does.
 */
const CHECKS: { width: number; colorScheme: 'light' | 'dark'; options: RunOptions }[] = [
  { width: 390, colorScheme: 'light', options: { runOnly: NARROW } },
  { width: 1440, colorScheme: 'light', options: { rules: TARGETS } },
  { width: 1440, colorScheme: 'dark', options: { runOnly: COLOURS } },
]

const NAMES = [
  'home',
  'setup-provider',
  'login',
  'login-wrong',
  'login-limited',
  'setup',
  'away',
  'empty',
  'overview',
  'overview-24h',
  'overview-90d',
  'overview-days',
  'overview-trouble',
  'overview-hostile',
  'overview-tables',
  'users',
  'users-cost',
  'users-blocked',
  'users-page-2',
  'users-menu',
  'users-new',
  'requests',
  'requests-failed',
  'requests-none',
  'requests-refused',
  'request',
  'request-refused',
  'request-everyone',
  'explained',
  'audit',
  'alerts',
  'alerts-none',
  'overview-queued',
  'nobody',
  'user',
  'user-blocked',
  'user-audio',
  'user-uncalled',
  'user-hostile',
  'user-forms',
  'user-refused',
  'user-key',
  'plans',
  'plans-forms',
  'settings',
  'viewer',
  'viewer-user',
  'user-unknown',
]

/** These show what others show, with other rows or with less, so they are checked only for their fit. */
const ALIKE = new Set([
  'overview-24h',
  'overview-hostile',
  'overview-queued',
  'users-cost',
  'users-blocked',
  'users-page-2',
  'requests-failed',
  'request-everyone',
  'viewer',
  'viewer-user',
])

const chromium = useBrowser()
let axe: string
let all: States

beforeAll(async () => {
  axe = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')
  all = await openStates()
}, 60_000)
afterAll(() => all.close())

type Axe = { axe: { run(options: RunOptions): Promise<AxeResults> } }

/** The violations and their places. */
const violations = async (page: Page, options: RunOptions) => {
  const { violations } = await page.evaluate(
    (options) => (globalThis as unknown as Axe).axe.run(options),
    { ...options, resultTypes: ['violations' as const] },
  )
  return violations.map(({ id, nodes }) => [id, ...nodes.map(({ html }) => html).slice(0, 5)])
}

/**
 * Removes rows of tables, because they are alike: the first six and those with a tag remain. One page keeps all rows.
 */
const thinOut = (page: Page) =>
  page.evaluate(() => {
    for (const row of document.querySelectorAll('tr:nth-child(n+7):not(:has(.tag))')) row.remove()
  })

test('every state with a screenshot is checked, and the pictures of the docs show some of them', () => {
  expect(all.states.map(({ name }) => name)).toEqual(NAMES)
  expect(NAMES).toEqual(expect.arrayContaining(Object.values(PICTURES)))
})

test('a wrong key is told again at each width, and nobody is locked out by that', async () => {
  const state = all.states.find(({ name }) => name === 'login-wrong') as State
  const page = await pageFor(state)
  for (let times = 0; times < 7; times += 1) {
    await all.show(page, state)
    expect(await page.getByRole('alert').textContent()).not.toContain('Too many')
  }
})

test.each([
  [1440, 2],
  [1600, 3],
])('at %i px the overview has %i columns', async (width, columns) => {
  const state = all.states.find(({ name }) => name === 'overview') as State
  const page = await all.open(chromium.browser(), state, { viewport: { width, height: 900 } })
  const lefts = await page
    .locator('.grid > .card')
    .evaluateAll((cards) => cards.map((card) => Math.round(card.getBoundingClientRect().left)))
  expect(new Set(lefts).size).toBe(columns)
  await page.context().close()
})

test.each([390, 720, 1024, 1280, 1440])(
  'at %i px the head is as high for a long name and without the database',
  async (width) => {
    const state = all.states.find(({ name }) => name === 'viewer') as State
    const page = await all.open(chromium.browser(), state, { viewport: { width, height: 900 } })
    const heights = await page.evaluate(() => {
      const high = () => document.querySelector('header')?.getBoundingClientRect().height
      const who = document.querySelector('.out bdi') as HTMLElement
      const live = document.getElementById('live') as HTMLElement
      const first = [who.textContent, high()]
      who.textContent = 'a-name-of-thirty-two-characters (viewer)'
      const long = high()
      live.dataset['state'] = 'away'
      const [status] = live.getElementsByTagName('span') as unknown as [HTMLElement]
      status.textContent = 'Database down'
      return { first, others: [long, high()] }
    })
    const [who, height] = heights.first
    expect([who, heights.others]).toEqual(['vera (viewer)', [height, height]])
    await page.context().close()
  },
)

test.each([1440, 1600, 1920])('at %i px no table of the overview lacks a column', async (width) => {
  const state = all.states.find(({ name }) => name === 'overview') as State
  const page = await all.open(chromium.browser(), state, { viewport: { width, height: 900 } })
  const lacking = await page
    .locator('#models th[scope=col], #top th[scope=col]')
    .evaluateAll((heads) => heads.filter((head) => !head.checkVisibility()).map(String))
  expect(lacking).toEqual([])
  await page.context().close()
})

test('a name below a chart stands in the middle of its bar', async () => {
  const state = all.states.find(({ name }) => name === 'overview') as State
  const page = await all.open(chromium.browser(), state, {})
  const middles = await page.locator('#use .chart').evaluate((chart) => {
    const middleOf = (element: Element | undefined) => {
      const { left = 0, width = 0 } = element?.getBoundingClientRect() ?? {}
      return Math.round(left + width / 2)
    }
    const bars = [...chart.querySelectorAll('.band')]
    return [...chart.querySelectorAll('.x text')].map((name) => [
      middleOf(name),
      middleOf(bars[Number.parseInt(name.textContent ?? '')]),
    ])
  })
  expect(middles).toHaveLength(6)
  for (const [name = 0, bar = 0] of middles) expect(Math.abs(name - bar)).toBeLessThanOrEqual(1)
  await page.context().close()
})

test.each([390, 1440])(
  'at %i px the numbers of a bar stand beside it, in the chart',
  async (width) => {
    const state = all.states.find(({ name }) => name === 'overview-days') as State
    const page = await all.open(chromium.browser(), state, { viewport: { width, height: 900 } })
    const figure = page.locator('#use .chart')
    const [tip, bar, around] = await Promise.all(
      [figure.locator('figcaption'), figure.locator('.bar').nth(4), figure].map((one) =>
        one.boundingBox(),
      ),
    )
    expect(tip && bar && around).toBeTruthy()
    expect(tip!.x + tip!.width <= bar!.x + 1 || tip!.x >= bar!.x + bar!.width - 1).toBe(true)
    expect(tip!.y).toBeGreaterThanOrEqual(around!.y)
    await page.context().close()
  },
)

test('moments are in the time zone of the admin, which the heading over them names', async () => {
  const state = all.states.find(({ name }) => name === 'overview') as State
  const page = await all.open(chromium.browser(), state, { timezoneId: 'Asia/Kolkata' })
  const [heading, moment] = [page.locator('#events thead th'), page.locator('#events tbody time')]
  expect(await heading.first().textContent()).toBe('When (UTC+5:30)')
  expect(await moment.first().textContent()).toBe('Mar 18, 20:12:03')
  await page.context().close()
})

/** A page for each gateway, with and without a session. The browser starts a process for each new one. */
const pages = new Map<string, Promise<Page>>()

function pageFor(state: State): Promise<Page> {
  const kind = `${new URL(state.url).origin} ${state.in ?? false}`
  const open = async () => {
    const context = await all.profile(chromium.browser(), state, { bypassCSP: true })
    return context.newPage()
  }
  const page = pages.get(kind) ?? open()
  pages.set(kind, page)
  return page
}

/** Opens a state, and checks its fit with all rows, because one of them may be wider than the others. */
async function fits(name: string): Promise<Page> {
  const state = all.states.find((one) => one.name === name) as State
  const page = await pageFor(state)
  await all.show(page, state)
  for (const width of WIDTHS) {
    await page.setViewportSize({ width, height: 900 })
    expect({ width, misfits: await misfitsOf(page) }).toEqual({ width, misfits: [] })
  }
  return page
}

test.each([...ALIKE])('%s fits its window', async (name) => void (await fits(name)))

test.each(NAMES.filter((name) => !ALIKE.has(name)))(
  'axe finds nothing wrong with %s, and it fits its window',
  async (name) => {
    const page = await fits(name)
    if (name !== 'users') await thinOut(page)
    await page.evaluate(axe)
    for (const { width, colorScheme, options } of CHECKS) {
      await page.setViewportSize({ width, height: 900 })
      await page.emulateMedia({ colorScheme })
      // What sticks to the top covers a part of what was scrolled under it, which axe takes for small.
      await page.evaluate(() => scrollTo(0, 0))
      const wrong = await violations(page, options)
      expect({ width, colorScheme, wrong }).toEqual({ width, colorScheme, wrong: [] })
    }
  },
)
