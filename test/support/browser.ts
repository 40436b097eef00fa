/** A real Chromium for the tests of a file: started before them and closed after them. */
import {
  chromium,
  type Browser,
  type BrowserContext,
  type BrowserContextOptions,
} from 'playwright-core'
import { afterAll, afterEach, beforeAll } from 'vitest'
import { chromiumPath } from './chromium-path.ts'

export type Chromium = {
  /** A new profile whose clock is stopped at `at` (epoch ms) until the test moves it. It is closed after the test. */
  profile(at: number, options?: BrowserContextOptions): Promise<BrowserContext>
  /** The browser itself, for profiles that another helper opens. */
  browser(): Browser
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
  'No Chromium in /usr/bin, and these tests run in a real one: `apt-get install chromium-headless-shell`, or name one in CHROMIUM'

export function useBrowser(): Chromium {
  let browser: Browser | undefined
  const open: BrowserContext[] = []

  beforeAll(async () => {
    const executablePath = chromiumPath()
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

  function started(): Browser {
    if (browser) return browser
    throw new Error('the browser is not started yet')
  }

  return {
    browser: started,
    async profile(at, options) {
      // The time zone's day differs from the UTC day, so that a local midnight would show.
      const context = await started().newContext({
        timezoneId: 'America/Los_Angeles',
        ...options,
      })
      open.push(context)
      // A clock can only be stopped later than it was set.
      await context.clock.install({ time: at - 1000 })
      await context.clock.pauseAt(at)
      return context
    },
  }
}
