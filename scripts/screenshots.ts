/**
 * `npm run screenshots`: pictures of every page in every state, in screenshots/, from a phone to a wide desktop, light and
 * dark. `-- home user` takes only the pages whose names begin with these. It fails if something on a page does not fit.
 * `-- docs` takes the pictures of docs/ instead.
 */
import { mkdir } from 'node:fs/promises'
import { chromium, type Page } from 'playwright-core'
import { chromiumPath } from '../test/support/chromium-path.ts'
import { takeDocsImages } from './docs-images.ts'
import { misfitsOf } from './screenshots-fit.ts'
import { openStates, type State } from './screenshots-states.ts'

const FOLDER = 'screenshots'
const WIDTHS = [390, 768, 820, 1024, 1440, 1920]
const SCHEMES = ['light', 'dark'] as const

const only = process.argv.slice(2)
await mkdir(FOLDER, { recursive: true })
const shown = await openStates()
const { states, open, close } = shown
const browser = await chromium.launch({
  executablePath: chromiumPath(),
  args: ['--no-sandbox', '--disable-gpu', '--hide-scrollbars', '--force-color-profile=srgb'],
})
try {
  if (only[0] === 'docs') await takeDocsImages(browser, shown)
  else {
    const chosen = states.filter(
      (state) => !only.length || only.some((name) => state.name.startsWith(name)),
    )
    if (!chosen.length)
      throw new Error(`There is no page whose name begins with ${only.join(' or ')}.`)
    for (const state of chosen) {
      for (const width of WIDTHS) await take(state, width)
      console.log(`${FOLDER}/${state.name}`)
    }
  }
} finally {
  await browser.close()
  await close()
}

async function take(state: State, width: number) {
  const phone = width < 500
  const viewport = { width, height: phone ? 844 : 900 }
  const page = await open(browser, state, { viewport, deviceScaleFactor: phone ? 2 : 1 })
  await page.setViewportSize(viewport)
  await toTop(page)
  for (const colorScheme of SCHEMES) {
    await page.emulateMedia({ colorScheme })
    const path = `${FOLDER}/${state.name}-${width}-${colorScheme}.png`
    await page.screenshot({ path, fullPage: true })
  }
  for (const misfit of await misfitsOf(page)) {
    console.error(`${state.name} at ${width}: ${misfit}`)
    process.exitCode = 1
  }
  await state.after?.(page)
  await page.context().close()
}

/** Scrolls to the top, because the header sticks to the top of what is seen. A field with the focus would scroll back. */
function toTop(page: Page): Promise<void> {
  return page.evaluate(() => {
    if (document.activeElement instanceof HTMLElement) document.activeElement.blur()
    scrollTo(0, 0)
  })
}
