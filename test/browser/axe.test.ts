/** Every page in every state, checked with axe-core: on phone and desktop screens, light and dark. */
import type { AxeResults, RunOptions } from 'axe-core'
import { readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import type { Page } from 'playwright-core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { PICTURES } from '../../scripts/docs-images.ts'
import { openStates, type State, type States } from '../../scripts/screenshots-states.ts'
import { useBrowser } from '../support/browser.ts'

const WIDTHS = [390, 1440]
/** Checked for what fits only. */
const BETWEEN = [720, 768, 820, 900, 1024, 1920]
const PHONE = 500
/** Pixels that a name needs to be read. */
const NAME_WIDTH = 80
const SCHEMES = ['light', 'dark'] as const

const NAMES = [
  'home',
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
  'explained',
  'audit',
  'alerts',
  'overview-queued',
  'nobody',
  'user',
  'user-blocked',
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

const chromium = useBrowser()
let axe: string
let all: States

beforeAll(async () => {
  axe = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')
  all = await openStates()
}, 60_000)
afterAll(() => all.close())

type Axe = { axe: { run(options: RunOptions): Promise<AxeResults> } }

/** Pixels that a page is wider than its window. */
const tooWide = (page: Page) =>
  page.evaluate(() => document.documentElement.scrollWidth - innerWidth)

/** Tables that are wider than the card around them. */
const outOfCard = (page: Page) =>
  page.evaluate(() =>
    [...document.querySelectorAll('.card table')]
      .filter((table) => {
        const card = table.closest('.card')?.getBoundingClientRect()
        return card && table.getBoundingClientRect().right > card.right
      })
      .map((table) => table.querySelector('caption')?.textContent),
  )

/** Columns of names that nobody can read. */
const tooNarrow = (page: Page) =>
  page.evaluate(
    (least) =>
      [...document.querySelectorAll('thead .g')]
        .map((cell) => cell.getBoundingClientRect().width)
        .filter((width) => width > 0 && width < least),
    NAME_WIDTH,
  )

/** The violations and their places. */
const violations = async (page: Page, scheme: 'light' | 'dark') => {
  // Targets of less than 24 px are not among the rules that axe checks unasked.
  const rules = { 'target-size': { enabled: true } }
  const options: RunOptions = { resultTypes: ['violations'], rules }
  // Only colours differ between the schemes.
  if (scheme === 'dark') options.runOnly = ['color-contrast', 'link-in-text-block']
  const { violations } = await page.evaluate(
    (options) => (globalThis as unknown as Axe).axe.run(options),
    options,
  )
  return violations.map(({ id, nodes }) => [id, ...nodes.map(({ html }) => html).slice(0, 5)])
}

/**
 * Removes rows of tables, because they are alike: the first twelve and those with a tag remain. One page keeps all
 * rows.
 */
const thinOut = (page: Page) =>
  page.evaluate(() => {
    for (const row of document.querySelectorAll('tr:nth-child(n+13):not(:has(.tag))')) row.remove()
  })

test('every state with a screenshot is checked, and the pictures of the docs show some of them', () => {
  expect(all.states.map(({ name }) => name)).toEqual(NAMES)
  expect(NAMES).toEqual(expect.arrayContaining(Object.values(PICTURES)))
})

test('a wrong key is told again at each width, and nobody is locked out by that', async () => {
  const state = all.states.find(({ name }) => name === 'login-wrong') as State
  for (let times = 0; times < 7; times += 1) {
    const page = await all.open(chromium.browser(), state, {})
    expect(await page.getByRole('alert').textContent()).not.toContain('Too many')
    await page.context().close()
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

test.each(NAMES)('axe finds nothing wrong with %s, and it fits its window', async (name) => {
  const state = all.states.find((one) => one.name === name) as State
  const page = await all.open(chromium.browser(), state, { bypassCSP: true })
  // With all rows, because one of them may be wider than the others.
  for (const width of [...BETWEEN, ...WIDTHS]) {
    await page.setViewportSize({ width, height: 900 })
    const fits = {
      over: Math.max(0, await tooWide(page)),
      narrow: width < PHONE ? [] : await tooNarrow(page),
      out: await outOfCard(page),
    }
    expect({ width, ...fits }).toEqual({ width, over: 0, narrow: [], out: [] })
  }
  if (name !== 'users') await thinOut(page)
  await page.evaluate(axe)
  for (const width of WIDTHS) {
    await page.setViewportSize({ width, height: 900 })
    for (const colorScheme of SCHEMES) {
      await page.emulateMedia({ colorScheme })
      const wrong = await violations(page, colorScheme)
      expect({ width, colorScheme, wrong }).toEqual({ width, colorScheme, wrong: [] })
    }
  }
  await page.context().close()
})
