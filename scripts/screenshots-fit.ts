/** What does not fit on a page, for `npm run screenshots` and for the test of all pages. */
import type { Page } from 'playwright-core'

/** Narrower windows are phones, on which names wrap. */
const PHONE = 500
/** Pixels that a name needs to be read. */
const NAME_WIDTH = 80
/** Pixels before the button of a field of a date that may be missing. */
const DATE_GAP = 20

/** What does not fit, in words. */
export async function misfitsOf(page: Page): Promise<string[]> {
  const found = await Promise.all([
    wideIn(page),
    narrowIn(page),
    tablesIn(page),
    fieldsIn(page),
    headingsIn(page),
  ])
  return found.flat()
}

/** The page, if it is wider than its window. */
async function wideIn(page: Page): Promise<string[]> {
  const over = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)
  return over > 0 ? [`the page is ${over} px too wide`] : []
}

/** Columns of names that nobody can read. */
async function narrowIn(page: Page): Promise<string[]> {
  const { width = 0 } = page.viewportSize() ?? {}
  if (width < PHONE) return []
  const widths = await page
    .locator('thead .g:visible')
    .evaluateAll((cells) => cells.map((cell) => cell.getBoundingClientRect().width))
  return widths.filter((one) => one < NAME_WIDTH).map((one) => `names have only ${one} px`)
}

/** Tables that are wider than their cards, or scroll in what is wider. */
const tablesIn = (page: Page): Promise<string[]> =>
  page.locator('.card table').evaluateAll((tables) =>
    tables
      .filter((table) => {
        const card = table.closest('.card')?.getBoundingClientRect()
        const shown = table.closest('.scroll') ?? table
        return card && shown.getBoundingClientRect().right > card.right
      })
      .map((table) => `the table "${table.querySelector('caption')?.textContent}" leaves its card`),
  )

/** Fields that cut their texts. A field of a date does not tell that, but it has a width of its own. */
const fieldsIn = (page: Page): Promise<string[]> =>
  page.locator('input:not([type=checkbox]):visible, textarea:visible').evaluateAll(
    (fields, gap) =>
      (fields as HTMLInputElement[])
        .filter((field) => {
          if (!field.type.startsWith('date')) return field.scrollWidth > field.clientWidth
          const { offsetWidth } = field
          field.style.width = 'max-content'
          const isCut = field.offsetWidth - gap > offsetWidth
          field.style.width = ''
          return isCut
        })
        .map(({ ariaLabel, name, value }) => `the field "${ariaLabel ?? name}" cuts "${value}"`),
    DATE_GAP,
  )

/** Headings of a grid that run into the next ones. */
const headingsIn = (page: Page): Promise<string[]> =>
  page.locator(':is(span, h2, h3) + :is(span, h2, h3):visible').evaluateAll((headings) =>
    headings
      .filter((heading) => {
        const { parentElement: grid, previousElementSibling: before } = heading
        if (!grid || !before || getComputedStyle(grid).display !== 'grid') return false
        // The text of a heading may be wider than its box.
        const range = document.createRange()
        range.selectNodeContents(before)
        const [first, second] = [range.getBoundingClientRect(), heading.getBoundingClientRect()]
        return first.right > second.left && first.top < second.bottom && second.top < first.bottom
      })
      .map((heading) => {
        const before = heading.previousElementSibling?.textContent
        return `the heading "${before}" runs into "${heading.textContent}"`
      }),
  )
