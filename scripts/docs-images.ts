/** `npm run screenshots -- docs`: the pictures of README.md and docs/, in docs/images, light and dark. */
import { mkdir } from 'node:fs/promises'
import type { Browser } from 'playwright-core'
import type { States } from './screenshots-states.ts'

const FOLDER = 'docs/images'
const SIZE = { width: 1280, height: 960 }
/** The names of the pictures, and the states that they show. */
export const PICTURES = { dashboard: 'overview', user: 'user', setup: 'setup' }

/** Takes the first screen of each page that the docs show. */
export async function takeDocsImages(browser: Browser, { states, open }: States): Promise<void> {
  await mkdir(FOLDER, { recursive: true })
  for (const [name, shown] of Object.entries(PICTURES)) {
    const state = states.find((one) => one.name === shown)
    if (!state) throw new Error(`There is no state ${shown}.`)
    const page = await open(browser, state, { viewport: SIZE })
    for (const colorScheme of ['light', 'dark'] as const) {
      await page.emulateMedia({ colorScheme })
      await page.screenshot({ path: `${FOLDER}/${name}-${colorScheme}.png` })
    }
    await page.context().close()
    console.log(`${FOLDER}/${name}`)
  }
}
