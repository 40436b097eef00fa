/** A real Chromium for the tests of a file: started before them, closed after them. */
import { chromium, type Browser, type BrowserContext } from 'playwright-core'
import { afterAll, afterEach, beforeAll } from 'vitest'

export type Chromium = {
  /** A fresh profile whose clock stands at `at` (epoch ms) until it is moved; closed after the test. */
  profile(at: number): Promise<BrowserContext>
}

const FLAGS = [
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
]

const MISSING =
  'No Chromium at /usr/bin/chromium, and these tests run in a real one: `apt-get install chromium`, or name one in CHROMIUM'

export function useBrowser(): Chromium {
  let browser: Browser | undefined
  const open: BrowserContext[] = []

  beforeAll(async () => {
    const executablePath = process.env.CHROMIUM ?? '/usr/bin/chromium'
    browser = await chromium.launch({ executablePath, args: FLAGS }).catch((cause: unknown) => {
      throw new Error(MISSING, { cause })
    })
  }, 60_000)
  afterEach(async () => {
    await Promise.all(open.splice(0).map((context) => context.close()))
  })
  afterAll(async () => {
    await browser?.close()
  })

  return {
    async profile(at) {
      if (!browser) throw new Error('the browser is not started yet')
      // A day that is not that of UTC, so that a local midnight would show.
      const context = await browser.newContext({ timezoneId: 'America/Los_Angeles' })
      open.push(context)
      // A clock can only be stopped ahead of where it was set.
      await context.clock.install({ time: at - 1000 })
      await context.clock.pauseAt(at)
      return context
    },
  }
}
