/** A real Chromium for the tests of a file: started before them and closed after them. */
import {
  chromium,
  type Browser,
  type BrowserContext,
  type BrowserContextOptions,
  type Page,
  type Request,
  type Response,
} from 'playwright-core'
import { afterAll, afterEach, beforeAll } from 'vitest'
import { chromiumPath } from './chromium-path.ts'

const STEP_MS = 2000
const LATE_MS = 10_000

/**
 * Advances the clock of a page until it sends a request of this kind, and returns the answer. It advances by at most
 * `ms`, and by what the page's own steps may be late. It stops at the request, because a request that ends itself after
 * a time does so by this clock too.
 */
export async function nextAnswer(
  page: Page,
  ms: number,
  isOne: (request: Request) => boolean,
): Promise<Response> {
  let sent: Request | undefined
  const see = (request: Request) => {
    if (isOne(request)) sent ??= request
  }
  page.on('request', see)
  try {
    for (let passed = 0; !sent; passed += STEP_MS) {
      if (passed > ms + LATE_MS) throw new Error(`no such request within ${passed} ms`)
      await page.clock.runFor(STEP_MS)
      // The browser reports what the page has begun by now before it answers this.
      await page.evaluate(() => 0)
    }
  } finally {
    page.off('request', see)
  }
  const answer = await sent.response()
  if (!answer) throw new Error(`the request failed: ${sent.failure()?.errorText}`)
  // A page need not read an error to its end.
  if (answer.ok()) await answer.finished()
  return answer
}

/** Advances the clock of a page until its tracker syncs, at most by `ms`, and returns the answer. */
export const nextSync = (page: Page, ms: number): Promise<Response> =>
  nextAnswer(
    page,
    ms,
    (request) => request.url().endsWith('/api/tracking/sync') && request.method() === 'POST',
  )

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
