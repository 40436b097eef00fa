/**
 * `npm run screenshots`: pictures of every page in every state, in screenshots/, from a phone to a wide desktop, light and
 * dark. `-- home user` takes only the pages whose names begin with these. It fails if a page is wider than its window.
 * `-- docs` takes the pictures of docs/ instead.
 */
import { mkdir } from 'node:fs/promises'
import { chromium } from 'playwright-core'
import { chromiumPath } from '../test/support/chromium-path.ts'
import { takeDocsImages } from './docs-images.ts'
import { openStates, type State } from './screenshots-states.ts'

const FOLDER = 'screenshots'
const WIDTHS = [390, 768, 820, 1024, 1440, 1920]
const SCHEMES = ['light', 'dark'] as const

const only = process.argv.slice(2)
await mkdir(FOLDER, { recursive: true })
const shown = await openStates({ friendly: only[0] === 'docs' })
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
  const page = await open(browser, state, {
    viewport: { width, height: phone ? 844 : 900 },
    deviceScaleFactor: phone ? 2 : 1,
  })
  for (const colorScheme of SCHEMES) {
    await page.emulateMedia({ colorScheme })
    const path = `${FOLDER}/${state.name}-${width}-${colorScheme}.png`
    await page.screenshot({ path, fullPage: true })
  }
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)
  if (wide > 0) {
    console.error(`${state.name} at ${width}: ${wide} px too wide`)
    process.exitCode = 1
  }
  await page.context().close()
}
