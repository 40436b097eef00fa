/** `npm run screenshots -- docs`: the pictures of README.md and docs/, in docs/images, light and dark. */
import { mkdir } from 'node:fs/promises'
import type { Browser } from 'playwright-core'
import type { States } from './screenshots-states.ts'

const FOLDER = 'docs/images'
const PICTURES = ['dashboard', 'user', 'setup']

/** Takes the first screen of each page that the docs show. */
export async function takeDocsImages(browser: Browser, { states, open }: States): Promise<void> {
  await mkdir(FOLDER, { recursive: true })
  for (const name of PICTURES) {
    const state = states.find((one) => one.name === name)
    if (!state) throw new Error(`There is no state ${name}.`)
    const page = await open(browser, state, { viewport: { width: 1280, height: 800 } })
    for (const colorScheme of ['light', 'dark'] as const) {
      await page.emulateMedia({ colorScheme })
      await page.screenshot({ path: `${FOLDER}/${name}-${colorScheme}.png` })
    }
    await page.context().close()
    console.log(`${FOLDER}/${name}`)
  }
}
