import type { BrowserContext, Frame, Page } from 'playwright-core'
import { readFile } from 'node:fs/promises'
import { gzipSync } from 'node:zlib'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import { useBrowser } from '../support/browser.ts'
import { ownJwt } from '../support/issuer.ts'
import { startSite, type Site, type Sync } from '../support/page.ts'
import { transcripts, type Transcript } from '../support/transcripts.ts'
import { startUpstream, type Upstream } from '../support/upstream.ts'

type Tracker = EventTarget & {
  record(model: string, usage: unknown): void
  usage(): Sync['modelUsage']
  fetch: typeof fetch
  close(): void
}
declare global {
  interface Window {
    weir: Tracker
    report(type: string, detail?: unknown): Promise<void>
  }
}

vi.setConfig({ testTimeout: 30_000 })

const SECOND = 1000
const MINUTE = 60 * SECOND
const DAY = 1440 * MINUTE
const NOON = Date.UTC(2026, 2, 4, 12)
const MIDNIGHT = Date.UTC(2026, 2, 5)
const TYPES = [
  ...['usage', 'quota', 'blocked', 'unblocked', 'low', 'spent', 'expired', 'sync', 'error'],
]
const MODEL = 'openai/gpt-oss-20b'

const chromium = useBrowser()
let upstream: Upstream
let site: Site

beforeAll(async () => {
  upstream = await startUpstream()
  site = await startSite(upstream.url)
})
beforeEach(() => {
  upstream.reset()
  site.reset()
})
afterEach(() => {
  expect(site.malformed).toEqual([])
})
afterAll(async () => {
  await site.close()
  await upstream.close()
})

/** A page that imports the tracker. */
const page = (
  options: Record<string, unknown> = {},
) => `<!doctype html><title>page</title><script type="module">
  import { createTracker } from '${site.url}/tracker.js'
  window.weir = createTracker(${JSON.stringify({ userToken: 'user-token-1', ...options })})
  for (const type of ${JSON.stringify(TYPES)}) {
    weir.addEventListener(type, ({ detail }) => report(type, detail instanceof Error ? detail.message : detail))
  }
  // When this resolves, the lock is either granted or queued.
  await navigator.locks.query().catch(() => {})
  report('ready')
</script>`

class Tab {
  readonly page: Page
  readonly events: { type: string; detail: unknown }[] = []
  #waiting: (() => void)[] = []

  private constructor(page: Page) {
    this.page = page
  }

  static async open(context: BrowserContext, html = page(), path = '/'): Promise<Tab> {
    const tab = new Tab(await context.newPage())
    await tab.page.exposeBinding('report', (_, type: string, detail: unknown) => {
      tab.events.push({ type, detail })
      for (const resolve of tab.#waiting.splice(0)) resolve()
    })
    site.pages.set(path, html)
    await tab.page.goto(site.url + path)
    await tab.seen('ready')
    return tab
  }

  details(type: string): unknown[] {
    return this.events.filter((event) => event.type === type).map(({ detail }) => detail)
  }

  /** Waits until there are `count` events of the type, and returns the detail of the last. */
  async seen(type: string, count = 1): Promise<unknown> {
    while (this.details(type).length < count) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve))
    }
    return this.details(type)[count - 1]
  }

  async record(tokens: number, model = MODEL): Promise<void> {
    await this.page.evaluate(
      ([model, total_tokens]) => window.weir.record(model, { total_tokens }),
      [model, tokens] as const,
    )
  }

  usage() {
    return this.page.evaluate(() => window.weir.usage())
  }

  /** Advances the clock, and expects no sync. */
  async passes(ms: number): Promise<void> {
    const before = site.syncs.length
    await this.page.clock.runFor(ms)
    await this.page.evaluate(() => fetch('/ping').catch(() => undefined))
    expect(site.syncs.slice(before)).toEqual([])
  }

  /** Advances the clock, and expects a sync exactly at the end. Waits for its answer. */
  async syncsAfter(ms: number): Promise<Sync | undefined> {
    const before = site.syncs.length
    const ends = () => this.details('sync').length + this.details('error').length
    const ended = ends()
    if (ms > 0) await this.passes(ms - 1)
    await this.page.clock.runFor(Math.min(ms, 1))
    await site.synced(before + 1)
    await expect.poll(ends).toBe(ended + 1)
    return site.syncs[before]
  }
}

const tokens = (sync: Sync | undefined, model = MODEL) => sync?.modelUsage[model]?.day.tokens

async function openTab(options?: Record<string, unknown>, at = NOON): Promise<Tab> {
  return Tab.open(await chromium.profile(at), page(options))
}

describe('the schedule', () => {
  test('syncs first 2 seconds after the page has loaded', async () => {
    const tab = await openTab({ ipAddress: '203.0.113.7' })
    expect(await tab.syncsAfter(2 * SECOND)).toEqual({
      userToken: 'user-token-1',
      ipAddress: '203.0.113.7',
      modelUsage: {},
    })
    expect(await tab.seen('sync')).toEqual({ success: true, usage: {}, blocked: [] })
  })

  test('is not late with the first sync because of early records', async () => {
    const tab = await openTab()
    await tab.page.clock.runFor(1500)
    await tab.record(10)
    expect(tokens(await tab.syncsAfter(500))).toBe(10)
  })

  test('syncs every 5 minutes without new records', async () => {
    const tab = await openTab()
    await tab.syncsAfter(2 * SECOND)
    await tab.syncsAfter(5 * MINUTE)
    await tab.syncsAfter(5 * MINUTE)
  })

  test('syncs 5 seconds after the last of a burst of records', async () => {
    const tab = await openTab()
    await tab.syncsAfter(2 * SECOND)
    for (let record = 0; record < 5; record++) {
      await tab.passes(record && 4 * SECOND)
      await tab.record(100)
    }
    const sync = await tab.syncsAfter(5 * SECOND)
    expect(sync?.modelUsage[MODEL]).toEqual({
      minute: { tokens: 500, requests: 5, resetAt: NOON + MINUTE },
      day: { tokens: 500, requests: 5, resetAt: MIDNIGHT },
    })
    await tab.syncsAfter(5 * MINUTE)
  })

  test('waits for the end of a burst after a quiet time too', async () => {
    const tab = await openTab()
    await tab.syncsAfter(2 * SECOND)
    await tab.passes(MINUTE)
    await tab.record(1)
    await tab.passes(4 * SECOND)
    await tab.record(1)
    expect(tokens(await tab.syncsAfter(5 * SECOND))).toBe(2)
  })

  test('syncs every 30 seconds during constant records', async () => {
    const tab = await openTab()
    await tab.syncsAfter(2 * SECOND)
    for (const sum of [70, 150]) {
      for (let at = 2; at < 30; at += 4) {
        await tab.passes(at === 2 ? 2 * SECOND : 4 * SECOND)
        await tab.record(10)
      }
      const sync = await tab.syncsAfter(4 * SECOND)
      expect(tokens(sync)).toBe(sum)
      await tab.record(10)
    }
  })

  for (const [how, leave] of [
    ['navigated away', (tab: Tab) => tab.page.goto('about:blank')],
    ['closed', (tab: Tab) => tab.page.close()],
  ] as const) {
    test(`syncs once more when the page is ${how}`, async () => {
      const tab = await openTab()
      await tab.syncsAfter(2 * SECOND)
      await tab.record(321)
      await leave(tab)
      await site.synced(2)
      expect(tokens(site.syncs[1])).toBe(321)
    })
  }

  test('sends nothing when the page is left if everything is reported', async () => {
    const context = await chromium.profile(NOON)
    const tab = await Tab.open(context)
    await tab.record(5)
    await tab.syncsAfter(2 * SECOND)
    await tab.page.close()
    const next = await Tab.open(context)
    await next.passes(0)
  })

  test('continues in a page that comes back from the cache', async () => {
    const tab = await openTab()
    await tab.syncsAfter(2 * SECOND)
    const transition = (type: string) =>
      tab.page.evaluate(
        (type) => void dispatchEvent(new PageTransitionEvent(type, { persisted: true })),
        type,
      )
    await transition('pagehide')
    await tab.passes(5 * MINUTE)
    expect(await tab.page.evaluate(async () => (await navigator.locks.query()).held)).toEqual([])
    await transition('pageshow')
    await tab.page.evaluate(() => navigator.locks.query())
    await tab.syncsAfter(2 * SECOND)
  })

  test('stops when it is closed', async () => {
    const tab = await openTab()
    await tab.syncsAfter(2 * SECOND)
    await tab.page.evaluate(() => window.weir.close())
    await tab.record(5)
    await tab.passes(10 * MINUTE)
  })

  test('reports from a page of another origin, also when it is left', async () => {
    const context = await chromium.profile(NOON)
    site.pages.set('/', page())
    const tab = await Tab.open(context, page(), '/')
    await tab.page.goto(`${site.elsewhere}/`)
    await tab.seen('ready', 2)
    await tab.syncsAfter(2 * SECOND)
    await tab.record(77)
    let go = () => {}
    site.preflight = new Promise<void>((resolve) => (go = resolve))
    await tab.page.goto('about:blank')
    go()
    await site.synced(2)
    expect(tokens(site.syncs[1])).toBe(77)
  })
})

describe('several tabs', () => {
  test('make one sync, with the usage of all tabs', async () => {
    const context = await chromium.profile(NOON)
    const first = await Tab.open(context)
    const second = await Tab.open(context)
    await first.syncsAfter(2 * SECOND)
    await first.record(1)
    await second.record(20)
    await first.seen('usage', 2)
    expect(tokens(await first.syncsAfter(5 * SECOND))).toBe(21)
    await first.syncsAfter(5 * MINUTE)
    expect(second.details('sync')).toEqual([])
  })

  test('take over when the one that syncs is closed', async () => {
    const context = await chromium.profile(NOON)
    const first = await Tab.open(context)
    const second = await Tab.open(context)
    await first.syncsAfter(2 * SECOND)
    await second.record(20)
    await first.seen('usage')
    const pending = () => second.page.evaluate(async () => (await navigator.locks.query()).pending)
    expect(await pending()).toHaveLength(1)
    await first.page.close()
    await site.synced(2)
    await expect.poll(pending).toEqual([])
    await second.record(3)
    expect(tokens(await second.syncsAfter(2 * SECOND))).toBe(23)
    await second.syncsAfter(5 * MINUTE)
  })

  test('of two users sync apart and count apart', async () => {
    const context = await chromium.profile(NOON)
    const one = await Tab.open(context)
    const other = await Tab.open(context, page({ userToken: 'user-token-2' }), '/other')
    await one.record(1)
    await other.record(2)
    await one.page.clock.runFor(2 * SECOND)
    await site.synced(2)
    const reported = site.syncs.map((sync) => [sync.userToken, tokens(sync)]).sort()
    expect(reported).toEqual([
      ['user-token-1', 1],
      ['user-token-2', 2],
    ])
  })

  test('all get the answer that one gets', async () => {
    const context = await chromium.profile(NOON)
    const first = await Tab.open(context)
    const second = await Tab.open(context)
    site.blocked = [{ model: '*', reason: 'Spam.' }]
    site.usage = {
      [MODEL]: {
        ...{ tokensUsedDay: 5, tokensReservedDay: 3, tokensRemainingDay: 10 },
        ...{ requestsDay: 1, resetAt: MIDNIGHT },
      },
    }
    await first.syncsAfter(2 * SECOND)
    expect(await second.seen('blocked')).toEqual(site.blocked)
    expect(await second.seen('quota')).toEqual(site.usage)
    const third = await Tab.open(context)
    await third.page.clock.runFor(500)
    expect(await third.seen('blocked')).toEqual(site.blocked)
  })
})

describe('a bad connection', () => {
  test('loses nothing and adds nothing twice over 10 minutes offline', async () => {
    const context = await chromium.profile(NOON)
    const tab = await Tab.open(context)
    await tab.record(1)
    await tab.syncsAfter(2 * SECOND)
    await context.setOffline(true)
    for (let minute = 0; minute < 10; minute++) {
      await tab.record(10)
      await tab.passes(MINUTE)
    }
    await context.setOffline(false)
    expect(tokens(await tab.syncsAfter(0))).toBe(101)
    expect(tab.details('error')).toEqual([])
    expect(tokens(await tab.syncsAfter(5 * MINUTE))).toBe(101)
  })

  test('is retried after 5 seconds, then with growing waits up to 5 minutes', async () => {
    const tab = await openTab()
    await tab.page.evaluate(() => void (Math.random = () => 0))
    site.reply = { status: 503 }
    await tab.record(10)
    await tab.syncsAfter(2 * SECOND)
    for (const seconds of [5, 10, 20, 40, 80, 160, 300, 300]) {
      expect(tokens(await tab.syncsAfter((seconds + 2) * SECOND))).toBe(10)
    }
    expect(tab.details('error')).toHaveLength(9)
    site.reply = undefined
    expect(tokens(await tab.syncsAfter(302 * SECOND))).toBe(10)
    await tab.syncsAfter(5 * MINUTE)
  })

  test('waits for the time in a 429, with any events in between', async () => {
    const tab = await openTab()
    site.reply = { status: 429, headers: { 'retry-after': '60' } }
    await tab.syncsAfter(2 * SECOND)
    expect(await tab.seen('error')).toBe('Sync: 429')
    site.reply = undefined
    for (let record = 0; record < 5; record++) {
      await tab.record(10)
      await tab.passes(10 * SECOND)
    }
    await tab.page.evaluate(() => void dispatchEvent(new Event('online')))
    expect(tokens(await tab.syncsAfter(12 * SECOND))).toBe(50)
  })

  test('with an answer that cannot be read is a failure like others', async () => {
    const tab = await openTab()
    await tab.page.evaluate(() => void (Math.random = () => 0))
    for (const body of ['<html>', 'null', '{"success":true}']) {
      site.reply = { status: 200, body }
      const failed = tab.details('error').length
      await tab.page.clock.runFor(5 * MINUTE)
      await tab.seen('error', failed + 1)
    }
    expect(tab.details('sync')).toEqual([])
  })
})

describe('storage', () => {
  const stored = (tab: Tab) =>
    tab.page.evaluate(() => Object.entries(localStorage).find(([key]) => /^weir:\d+$/.test(key)))

  test('keeps the windows over a reload and never the token', async () => {
    const tab = await openTab()
    await tab.record(10)
    await tab.page.reload()
    await tab.seen('ready', 2)
    await tab.record(5)
    expect(tokens(await tab.syncsAfter(2 * SECOND))).toBe(15)
    const all = await tab.page.evaluate(() => JSON.stringify(localStorage))
    expect(all).not.toContain('user-token-1')
  })

  test('is that of the user whom a signed token names, also when another token replaces it', async () => {
    const context = await chromium.profile(NOON)
    const exp = NOON / 1000
    const open = async (payload: object) => {
      const tab = await Tab.open(context, page({ userToken: ownJwt(payload, 'a secret') }))
      await tab.record(10)
      const { [MODEL]: use } = await tab.usage()
      await tab.page.evaluate(() => window.weir.close())
      return use?.day.tokens
    }
    // Characters of all lengths in base64url.
    expect(await open({ sub: 'Zoë >?', exp, label: '>>>???' })).toBe(10)
    expect(await open({ sub: 'Zoë >?', exp: exp + 600, label: '>>>???' })).toBe(20)
    expect(await open({ sub: 'Ada', exp })).toBe(10)
    expect(await open({ iss: 'https://auth.test', sub: 'Ada', exp })).toBe(10)
    expect(await open({ exp })).toBe(10)
    const all = await context.pages()[0]?.evaluate(() => JSON.stringify(localStorage))
    expect(all).not.toMatch(/Zo|Ada|auth/)
  })

  test('that is forbidden is replaced by memory', async () => {
    const context = await chromium.profile(NOON)
    site.pages.set('/inner', page())
    const outer = '<!doctype html><iframe sandbox="allow-scripts" src="/inner"></iframe>'
    const tab = await Tab.open(context, outer, '/outer')
    const frame = tab.page.frames()[1] as Frame
    const forbidden = await frame.evaluate(() => {
      try {
        return typeof localStorage
      } catch (error) {
        return (error as Error).name
      }
    })
    expect(forbidden).toBe('SecurityError')
    for (const total_tokens of [10, 5]) {
      await frame.evaluate(([model, total_tokens]) => window.weir.record(model, { total_tokens }), [
        MODEL,
        total_tokens,
      ] as const)
    }
    expect(tokens(await tab.syncsAfter(2 * SECOND))).toBe(15)
    await tab.syncsAfter(5 * MINUTE)
  })

  test('that is full loses nothing, and is written when there is space again', async () => {
    const tab = await openTab()
    await tab.record(9)
    const before = await stored(tab)
    await tab.page.evaluate(() => {
      for (let size = 2 ** 22, piece = 0; size >= 1; piece++) {
        try {
          localStorage.setItem(`filling ${piece}`, 'x'.repeat(size))
        } catch {
          size = size / 2
        }
      }
    })
    await tab.record(1_000_000)
    await tab.record(1_000_000)
    expect(await stored(tab)).toEqual(before)
    expect(tokens(await tab.syncsAfter(2 * SECOND))).toBe(2_000_009)
    await tab.page.evaluate(() => {
      for (const key of Object.keys(localStorage)) {
        if (key.startsWith('filling')) localStorage.removeItem(key)
      }
    })
    await tab.record(1)
    expect(JSON.parse((await stored(tab))?.[1] ?? '')[MODEL].day.tokens).toBe(2_000_010)
    expect(tokens(await tab.syncsAfter(5 * SECOND))).toBe(2_000_010)
  })

  test('with invalid data counts as empty', async () => {
    const tab = await openTab()
    await tab.record(1)
    const [key = ''] = (await stored(tab)) ?? []
    const windows = (minute: unknown, day: unknown = minute) =>
      JSON.stringify({ m: { minute, day } })
    const good = { tokens: 5, requests: 5, resetAt: MIDNIGHT }
    const garbage = [
      'not json',
      'null',
      '7',
      '"text"',
      '[1,[2],null]',
      '{"m":null,"n":7,"o":{"day":null}}',
      windows({ tokens: 5 }),
      windows({ ...good, tokens: -5 }),
      windows({ ...good, tokens: 1e308 }),
      windows({ ...good, tokens: '5' }),
      windows({ ...good, requests: 1.5 }),
      windows({ ...good, resetAt: MIDNIGHT + 400 * DAY }),
      JSON.stringify({ 'not a model': { minute: good, day: good } }),
      `{"__proto__":${JSON.stringify({ minute: good, day: good })}}`,
    ]
    for (const [index, value] of garbage.entries()) {
      await tab.page.evaluate(([key, value]) => void (localStorage[key] = value), [
        key,
        value,
      ] as const)
      await tab.page.reload()
      await tab.seen('ready', index + 2)
      await tab.record(3)
      const day = { tokens: 3, requests: 1, resetAt: MIDNIGHT }
      const usage = { [MODEL]: { minute: { ...day, resetAt: NOON + MINUTE }, day } }
      expect(await tab.usage(), value).toEqual(usage)
    }
    expect(tokens(await tab.syncsAfter(2 * SECOND))).toBe(3)
  })

  test('ignores invalid numbers and names', async () => {
    const tab = await openTab()
    for (const wrong of [-1, 1.5, 1e308, NaN, Infinity]) await tab.record(wrong)
    for (const name of ['', '__proto__', 'a b', 'x'.repeat(129)]) await tab.record(1, name)
    await tab.page.evaluate((model) => {
      for (const usage of [undefined, null, 7, {}, { total_tokens: '7' }]) {
        window.weir.record(model, usage)
      }
    }, MODEL)
    expect(await tab.usage()).toEqual({})
    await tab.record(0)
    await tab.record(2, 'constructor')
    const usage = await tab.usage()
    expect(usage[MODEL]?.day).toMatchObject({ tokens: 0, requests: 1 })
    expect(usage.constructor).toMatchObject({ day: { tokens: 2 } })
  })
})

describe('the windows', () => {
  test('end at the minute and at midnight UTC', async () => {
    const tab = await openTab({}, MIDNIGHT - 90 * SECOND)
    await tab.record(100)
    await tab.syncsAfter(2 * SECOND)
    await tab.passes(28 * SECOND)
    await tab.record(10)
    expect((await tab.usage())[MODEL]).toEqual({
      minute: { tokens: 10, requests: 1, resetAt: MIDNIGHT },
      day: { tokens: 110, requests: 2, resetAt: MIDNIGHT },
    })
    expect(tokens(await tab.syncsAfter(5 * SECOND))).toBe(110)
    await tab.passes(55 * SECOND)
    expect(await tab.usage()).toEqual({})
    await tab.record(1)
    expect((await tab.syncsAfter(5 * SECOND))?.modelUsage).toEqual({
      [MODEL]: {
        minute: { tokens: 1, requests: 1, resetAt: MIDNIGHT + MINUTE },
        day: { tokens: 1, requests: 1, resetAt: MIDNIGHT + DAY },
      },
    })
  })
})

describe('fetch', () => {
  /** Makes a call in the page. The page reports each piece when it arrives. */
  const call = (tab: Tab, { route }: Transcript, how: 'body' | 'text' = 'body') =>
    tab.page.evaluate(
      async ([path, how]) => {
        const response = await window.weir.fetch(path, {
          method: 'POST',
          headers: { authorization: 'Bearer user-token-1', 'content-type': 'application/json' },
          body: JSON.stringify({ model: 'asked-for', stream: true }),
        })
        const { status, url, headers } = response
        const type = headers.get('content-type')
        const bytes: number[] = []
        if (how === 'text') bytes.push(...new TextEncoder().encode(await response.text()))
        const reader = how === 'body' ? response.body?.getReader() : undefined
        for (let piece = 1; reader; piece++) {
          const { done, value } = await reader.read()
          if (done) break
          bytes.push(...value)
          await window.report('piece', piece)
        }
        return { status, url, type, bytes }
      },
      [`${site.url}/api/groq/openai/v1/${route}`, how] as const,
    )

  for (const transcript of Object.values(transcripts)) {
    if (transcript.route.startsWith('models')) continue
    test(`counts ${transcript.name} as it is, unchanged`, async () => {
      upstream.on('asked-for', { transcript })
      const tab = await openTab()
      const got = await call(tab, transcript)
      expect(got.status).toBe(transcript.status)
      expect(got.url).toBe(`${site.url}/api/groq/openai/v1/${transcript.route}`)
      expect(got.type).toBe(transcript.headers['content-type'])
      expect(Buffer.from(got.bytes)).toEqual(Buffer.from(transcript.body))
      const [, model = ''] = /"model":"([^"]+)"/.exec(Buffer.from(transcript.body).toString()) ?? []
      if (transcript.usage) await tab.seen('usage')
      await tab.passes(0)
      const counted = Object.entries(await tab.usage()).map(([model, { day }]) => [
        model,
        day.tokens,
        day.requests,
      ])
      expect(counted).toEqual(transcript.usage ? [[model, transcript.usage.total, 1]] : [])
    })
  }

  test('counts answers in small pieces, and indented ones', async () => {
    const tab = await openTab()
    const { stream, multibyte, plain } = transcripts
    const body = JSON.stringify(JSON.parse(Buffer.from(plain.body).toString()), null, 2)
    upstream.on('asked-for', { transcript: multibyte, chunk: 7 })
    const got = await call(tab, multibyte, 'text')
    expect(Buffer.from(got.bytes)).toEqual(Buffer.from(multibyte.body))
    upstream.on('asked-for', { transcript: stream, chunk: 1000 })
    await call(tab, stream)
    upstream.on('asked-for', { transcript: plain, body })
    await call(tab, plain)
    await tab.seen('usage', 3)
    const sums = Object.values(await tab.usage()).map(({ day }) => day.tokens)
    expect(sums.sort((a, b) => a - b)).toEqual([35, 138, 397])
  })

  test('streams to the page without delay', async () => {
    const tab = await openTab()
    const { stream } = transcripts
    upstream.on('asked-for', {
      transcript: stream,
      gate: (piece) => (piece ? tab.seen('piece', piece) : Promise.resolve()),
    })
    const got = await call(tab, stream)
    expect(Buffer.from(got.bytes)).toEqual(Buffer.from(stream.body))
    await tab.seen('usage')
  })

  const STREAM = '/api/groq/openai/v1/chat/completions'
  /** Runs a script in the page: an async function of the tracker's `fetch` or the page's own, and of an address. */
  const run = (tab: Tab, script: string, own = false) =>
    tab.page.evaluate<unknown>(
      `(${script})(${own ? 'fetch' : 'weir.fetch'}, '${site.url}${STREAM}', {
        method: 'POST',
        headers: { authorization: 'Bearer user-token-1' },
        body: '{"model":"asked-for","stream":true}',
      })`,
    )

  for (const [what, script] of [
    ['its reader', 'const reader = body.getReader(); await reader.read(); await reader.cancel()'],
    ['the body', 'await body.cancel()'],
    ['a loop', 'for await (const piece of body) break'],
    [
      'a pipe',
      'const text = body.pipeThrough(new TextDecoderStream()).getReader(); await text.read(); await text.cancel()',
    ],
    [
      'a reader of its own buffers',
      "const reader = body.getReader({ mode: 'byob' }); await reader.read(new Uint8Array(9)); await reader.cancel()",
    ],
    [
      'two copies',
      'const copy = response.clone(); await Promise.all([copy.body.cancel(), response.body.cancel()])',
    ],
    ['a stream of a stream', 'await new Response(body, response).body.cancel()'],
  ] as const) {
    test(`lets upstream go when the page cancels ${what}`, async () => {
      const tab = await openTab()
      const arrived = upstream.next()
      upstream.on('asked-for', { transcript: transcripts.stream, stall: 300 })
      await run(
        tab,
        `async (fetch, ...call) => { const response = await fetch(...call); const { body } = response; ${script} }`,
      )
      await (
        await arrived
      ).gone
      expect(await tab.usage()).toEqual({})
    })
  }

  test('counts what the page has read when it cancels, and an answer once', async () => {
    const tab = await openTab()
    upstream.on('asked-for', { transcript: transcripts.stream })
    await run(
      tab,
      `async (fetch, ...call) => {
        const reader = (await fetch(...call)).body.getReader()
        const decoder = new TextDecoder()
        for (let text = ''; !text.includes('[DONE]'); ) text += decoder.decode((await reader.read()).value)
        await reader.cancel()
        const response = await fetch(...call)
        const copy = response.clone()
        void copy.clone().body.cancel()
        await Promise.all([response.text(), copy.text()])
      }`,
    )
    await tab.seen('usage', 2)
    await tab.passes(0)
    const [counted] = Object.values(await tab.usage())
    expect(counted?.day).toMatchObject({ tokens: 2 * 397, requests: 2 })
  })

  test('gives the page an answer that is like the one of its own fetch', async () => {
    const tab = await openTab()
    upstream.on('asked-for', { transcript: transcripts.stream })
    const script = `async (fetch, ...call) => {
      const found = []
      const tell = async (run) => {
        const response = await fetch(...call)
        const told = await run(response).catch((error) => error.name)
        found.push([String(run), told, response.bodyUsed, response.body.locked])
      }
      const length = (value) => value.length ?? value.size ?? value.byteLength
      const { url, type, status, redirected, ok, headers } = await fetch(...call)
      found.push([url, type, status, redirected, ok, headers.get('content-type')])
      await tell(async (r) => r instanceof Response && r.body instanceof ReadableStream)
      await tell(async (r) => r.body === r.body && Object.keys(r).length)
      await tell(async (r) => [r.bodyUsed, r.body.locked])
      await tell(async (r) => length(await r.text()))
      await tell(async (r) => (r.body, length(await r.text())))
      await tell(async (r) => length(await r.blob()))
      await tell(async (r) => length(await r.arrayBuffer()))
      await tell(async (r) => length(await r.bytes()))
      await tell(async (r) => r.json())
      await tell(async (r) => r.formData())
      await tell(async (r) => (await r.text(), r.text()))
      await tell(async (r) => (await r.text(), r.clone()))
      await tell(async (r) => (await r.body.getReader().read(), r.text()))
      await tell(async (r) => (await r.body.getReader().read(), r.clone()))
      await tell(async (r) => (await r.body.cancel(), r.text()))
      await tell(async (r) => (r.body.getReader(), r.body.getReader()))
      await tell(async (r) => length(await new Response(r.body).text()))
      await tell(async (r) => length(await new Response(r.clone().clone().body).text()))
      await tell(async (r) => (await r.body.getReader({ mode: 'byob' }).read(new Uint8Array(5))).value.length)
      await tell(async (r) => { const [a, b] = r.body.tee(); return length(await new Response(a).text()) - length(await new Response(b).text()) })
      await tell(async (r) => { let n = 0; for await (const piece of r.body) n += piece.length; return n })
      await tell(async (r) => { const reader = r.body.getReader({ mode: 'byob' }); let n = 0; for (;;) { const { done, value } = await reader.read(new Uint8Array(7)); if (done) return [n, value.length]; n += value.length } })
      return found
    }`
    expect(await run(tab, script)).toEqual(await run(tab, script, true))
  })

  test('fails as it would without a tracker', async () => {
    const tab = await openTab()
    const arrived = upstream.next()
    upstream.on('asked-for', { transcript: transcripts.stream, stall: 100 })
    const errors = await tab.page.evaluate(async (url) => {
      const name = (error: unknown) => (error as Error).name
      const abort = new AbortController()
      const response = await window.weir.fetch(`${url}/api/groq/openai/v1/chat/completions`, {
        method: 'POST',
        headers: { authorization: 'Bearer user-token-1' },
        body: JSON.stringify({ model: 'asked-for', stream: true }),
        signal: abort.signal,
      })
      const reading = response.text().catch(name)
      abort.abort()
      return [await reading, await window.weir.fetch('http://127.0.0.1:1/').catch(name)]
    }, site.url)
    expect(errors).toEqual(['AbortError', 'TypeError'])
    await (
      await arrived
    ).gone
    expect(await tab.usage()).toEqual({})
  })

  for (const [what, broken] of [
    ['reading', 'Response.prototype.text = fail'],
    ['copying', 'Response.prototype.clone = fail'],
    ['parsing', 'JSON.parse = fail'],
    ['storage', "Object.defineProperty(window, 'localStorage', { get: fail })"],
    ['a listener', "weir.addEventListener('usage', fail)"],
  ] as const) {
    test(`reaches the page complete with ${what} broken`, async () => {
      const tab = await openTab()
      upstream.on('asked-for', { transcript: transcripts.stream })
      await tab.page.evaluate(`{ const fail = () => { throw new Error('broken') }; ${broken} }`)
      const got = await call(tab, transcripts.stream)
      expect(Buffer.from(got.bytes)).toEqual(Buffer.from(transcripts.stream.body))
    })
  }

  test('does not change calls to other hosts', async () => {
    const tab = await openTab()
    site.pages.set('/answer', '{"model":"m","usage":{"total_tokens":1}}')
    const text = await tab.page.evaluate(async () => (await window.weir.fetch('/answer')).text())
    expect(text).toContain('total_tokens')
    await tab.passes(0)
    expect(await tab.usage()).toEqual({})
  })
})

describe('a block', () => {
  const UNTIL = NOON + 10 * MINUTE
  const banner = (tab: Tab) => tab.page.getByRole('alert')
  const ask = (tab: Tab) =>
    tab.page.evaluate(async (url) => {
      const response = await window.weir.fetch(`${url}/api/groq/openai/v1/chat/completions`, {
        method: 'POST',
        headers: { authorization: 'Bearer user-token-1' },
        body: JSON.stringify({ model: 'asked-for' }),
      })
      return [response.status, (await response.text()).includes('user_blocked')]
    }, site.url)

  test('is shown after the next sync, and removed by the first sync after it is lifted', async () => {
    const tab = await openTab({ banner: true })
    await tab.syncsAfter(2 * SECOND)
    expect(await banner(tab).count()).toBe(0)
    site.blocked = [
      { model: '*', reason: 'Too many <b>questions</b>.', until: UNTIL },
      { model: MODEL, until: null },
    ]
    await tab.record(1)
    await tab.syncsAfter(5 * SECOND)
    expect(await tab.seen('blocked')).toEqual(site.blocked)
    const when = await tab.page.evaluate(
      (until) => new Date(until).toLocaleTimeString([], { timeStyle: 'short' }),
      UNTIL,
    )
    await expect
      .poll(() => banner(tab).textContent())
      .toBe(
        `You can't use the assistant until ${when}. Reason: Too many <b>questions</b>. ` +
          `You can't use ${MODEL} until you are unblocked.`,
      )
    site.blocked = []
    await tab.record(1)
    await tab.syncsAfter(5 * SECOND)
    expect(await tab.seen('unblocked')).toEqual([])
    await expect.poll(() => banner(tab).count()).toBe(0)
    expect(tab.details('blocked')).toHaveLength(1)
  })

  test('is shown at once after a refused call, and is asked about', async () => {
    const tab = await openTab({ banner: true })
    await tab.syncsAfter(2 * SECOND)
    await tab.passes(10 * SECOND)
    site.refusal = 'You are blocked from all models until 2026-03-04T12:10:00Z: Spam.'
    site.blocked = [{ model: '*', reason: 'Spam.', until: UNTIL }]
    expect(await ask(tab)).toEqual([403, true])
    await tab.seen('blocked')
    await expect.poll(() => banner(tab).textContent()).toBe(site.refusal)
    await tab.syncsAfter(0)
    expect(await tab.seen('blocked', 2)).toEqual(site.blocked)
    for (let refused = 0; refused < 20; refused++) await ask(tab)
    await tab.syncsAfter(5 * SECOND)
    await expect.poll(() => banner(tab).textContent()).toContain('Spam.')
  })

  test('from a refused call is not removed by an older answer', async () => {
    const tab = await openTab({ banner: true })
    let go = () => {}
    site.hold = new Promise<void>((resolve) => (go = resolve))
    await tab.page.clock.runFor(2 * SECOND)
    await site.synced(1)
    site.refusal = 'You are blocked from all models: Spam.'
    site.blocked = [{ model: '*', reason: 'Spam.' }]
    await ask(tab)
    await tab.seen('blocked')
    go()
    await tab.seen('sync')
    await expect.poll(() => banner(tab).count()).toBe(1)
    expect(tab.details('unblocked')).toEqual([])
    await tab.syncsAfter(2 * SECOND)
    expect(await tab.seen('blocked', 2)).toEqual(site.blocked)
  })

  test('is checked with a sync at its end', async () => {
    const tab = await openTab({ banner: true })
    site.blocked = [{ model: '*', reason: 'Spam.', until: NOON + MINUTE }]
    await tab.syncsAfter(2 * SECOND)
    await expect.poll(() => banner(tab).count()).toBe(1)
    await tab.syncsAfter(30 * SECOND)
    await tab.syncsAfter(28 * SECOND)
    await expect.poll(() => banner(tab).count()).toBe(0)
    await tab.syncsAfter(5 * MINUTE)
  })

  test('of a refused call in one tab is shown in the others and checked with a sync', async () => {
    const context = await chromium.profile(NOON)
    const first = await Tab.open(context, page({ banner: true }))
    const second = await Tab.open(context, page({ banner: true }))
    await first.syncsAfter(2 * SECOND)
    await first.passes(10 * SECOND)
    site.refusal = 'You are blocked from all models: Spam.'
    await ask(second)
    await first.seen('blocked')
    await expect.poll(() => banner(first).textContent()).toBe(site.refusal)
    await first.syncsAfter(0)
    await second.seen('unblocked')
    await expect.poll(() => banner(second).count()).toBe(0)
  })

  test('shows no banner if it is turned off', async () => {
    const tab = await openTab()
    site.blocked = [{ model: '*', reason: 'Spam.' }]
    await tab.syncsAfter(2 * SECOND)
    await tab.seen('blocked')
    expect(await banner(tab).count()).toBe(0)
  })
})

describe('a quota', () => {
  const quota = (used: number, reserved: number, remaining: number) => ({
    [MODEL]: {
      ...{ tokensUsedDay: used, tokensReservedDay: reserved, tokensRemainingDay: remaining },
      ...{ requestsDay: 1, resetAt: MIDNIGHT },
    },
  })

  test('that is spent is told and shown, and asked about every 30 seconds and when the page is looked at', async () => {
    const tab = await openTab({ banner: true })
    site.usage = quota(100, 0, 0)
    await tab.syncsAfter(2 * SECOND)
    expect(await tab.seen('spent')).toEqual([
      { model: MODEL, used: 100, left: 0, resetAt: MIDNIGHT },
    ])
    const alert = tab.page.getByRole('alert')
    await expect
      .poll(() => alert.textContent())
      .toContain(`Today's tokens of ${MODEL} are used up.`)
    await tab.syncsAfter(30 * SECOND)
    expect(tab.details('spent')).toHaveLength(1)
    await tab.passes(10 * SECOND)
    await tab.page.evaluate(() => window.dispatchEvent(new Event('focus')))
    site.usage = quota(100, 0, 900)
    await tab.syncsAfter(0)
    await expect.poll(() => alert.count()).toBe(0)
    await tab.page.evaluate(() => window.dispatchEvent(new Event('focus')))
    await tab.passes(30 * SECOND)
  })

  test('is low from 80 % used; what is reserved is neither used nor spent', async () => {
    const tab = await openTab({ banner: true })
    site.usage = quota(10, 90, 0)
    await tab.syncsAfter(2 * SECOND)
    await tab.seen('quota')
    site.usage = quota(80, 0, 20)
    await tab.record(1)
    await tab.syncsAfter(5 * SECOND)
    expect(await tab.seen('low')).toEqual([{ model: MODEL, used: 80, left: 20, resetAt: MIDNIGHT }])
    expect(tab.details('low')).toHaveLength(1)
    expect(tab.details('spent')).toEqual([])
    expect(await tab.page.getByRole('alert').count()).toBe(0)
  })
})

describe('the banner', () => {
  const blocked = async (options: Record<string, unknown>) => {
    const tab = await openTab(options)
    site.blocked = [{ model: '*', reason: 'Spam.' }]
    await tab.page.evaluate(() => {
      document.body.innerHTML =
        '<header style="position:fixed;top:0;left:0;right:0;height:4em;z-index:99">app</header>' +
        '<div id="here"></div><main style="height:3000px"></main>'
    })
    await tab.syncsAfter(2 * SECOND)
    await tab.page.getByRole('alert').waitFor()
    return tab
  }

  test('is above a fixed header, stays when the page scrolls, and takes its colours from the page', async () => {
    const tab = await blocked({ banner: true })
    await tab.page.evaluate(() => {
      document.documentElement.style.setProperty('--weir-banner-background', 'rgb(1, 2, 3)')
      scrollTo(0, 1000)
    })
    const top = await tab.page.evaluate(() => {
      const element = document.elementFromPoint(20, 20)?.closest('.weir-banner')
      return element && getComputedStyle(element).backgroundColor
    })
    expect(top).toBe('rgb(1, 2, 3)')
  })

  test('can be in an element of the page', async () => {
    const tab = await blocked({ banner: '#here', help: 'https://help.test/' })
    expect(await tab.page.locator('#here > .weir-banner').count()).toBe(1)
    expect(await tab.page.getByRole('link', { name: 'Help' }).getAttribute('href')).toBe(
      'https://help.test/',
    )
  })

  test('can be closed, and comes back when there is something else to say', async () => {
    const tab = await blocked({ banner: true })
    await tab.page.getByRole('button', { name: 'Close' }).click()
    expect(await tab.page.getByRole('alert').count()).toBe(0)
    await tab.syncsAfter(30 * SECOND)
    await tab.seen('sync', 2)
    expect(await tab.page.getByRole('alert').count()).toBe(0)
    site.blocked = [{ model: '*', reason: 'Still spam.' }]
    await tab.syncsAfter(30 * SECOND)
    await expect.poll(() => tab.page.getByRole('alert').textContent()).toContain('Still spam.')
  })
})

describe('a token that a function gives', () => {
  const html = () => `<!doctype html><script type="module">
    import { createTracker } from '${site.url}/tracker.js'
    let asked = 0
    window.weir = createTracker({ userToken: async () => 'user-token-' + ++asked, banner: true })
    for (const type of ${JSON.stringify(TYPES)}) weir.addEventListener(type, () => report(type))
    await navigator.locks.query()
    report('ready')
  </script>`

  test('is asked for again after a 401, once', async () => {
    const tab = await Tab.open(await chromium.profile(NOON), html())
    site.reply = {
      status: 401,
      body: '{"error":{"code":"expired_token","message":"It has expired."}}',
    }
    await tab.page.clock.runFor(2 * SECOND)
    await tab.seen('expired')
    await tab.seen('error')
    expect(site.syncs.map(({ userToken }) => userToken)).toEqual(['user-token-1', 'user-token-2'])
    site.reply = undefined
    await tab.page.clock.runFor(10 * SECOND)
    await tab.seen('sync')
    expect(site.syncs.map(({ userToken }) => userToken).slice(2)).toEqual(['user-token-2'])
  })
})

describe('the script tag', () => {
  test('does it all by itself', async () => {
    const context = await chromium.profile(NOON)
    const html = `<!doctype html>
      <script type="module" src="/tracker.js" data-user-token="user-token-1" data-ip-address="203.0.113.7" data-banner></script>
      <script type="module">weir.addEventListener('sync', () => report('sync')); weir.addEventListener('usage', () => report('usage')); await navigator.locks.query(); report('ready')</script>`
    site.blocked = [{ model: MODEL, reason: 'Spam.' }]
    upstream.on('asked-for', { transcript: transcripts.plain })
    const tab = await Tab.open(context, html, '/tag')
    await tab.page.evaluate(async () => {
      const response = await fetch('/api/groq/openai/v1/chat/completions', {
        method: 'POST',
        headers: { authorization: 'Bearer user-token-1' },
        body: JSON.stringify({ model: 'asked-for' }),
      })
      await response.json()
    })
    await tab.seen('usage')
    const sync = await tab.syncsAfter(2 * SECOND)
    expect(tokens(sync, 'qwen/qwen3.8-27b')).toBe(35)
    expect(sync?.ipAddress).toBe('203.0.113.7')
    await expect.poll(() => tab.page.getByRole('alert').textContent()).toContain('Spam.')
  })
})

test.each(['tracker', 'banner'])('%s.js is at most 4 KB, gzipped as it is', async (name) => {
  const file = await readFile(new URL(`../../static/${name}.js`, import.meta.url))
  expect(gzipSync(file, { level: 9 }).length).toBeLessThanOrEqual(4 * 1024)
})
