/** The page of `npm run dev` at /demo, in a real browser on the real development server. */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Page } from 'playwright-core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { nextSync, useBrowser } from '../support/browser.ts'
import { ADMIN_KEY } from '../support/gateways.ts'

const chromium = useBrowser()
let folder: string
let child: ChildProcess
let url: string

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'weir-demo-'))
  const { PATH, HOME } = process.env
  child = spawn(process.execPath, ['--import', 'tsx', 'scripts/dev.ts'], {
    env: { PATH, HOME, PORT: '0', USAGE_FILE: join(folder, 'usage.json'), ADMIN_KEY },
  })
  let output = ''
  url = await new Promise((resolve, reject) => {
    const read = (data: Buffer) => {
      output += data.toString()
      const [, page] = /Demo page: (\S+)\/demo\n/.exec(output) ?? []
      if (page) resolve(page)
    }
    child.stdout?.on('data', read)
    child.stderr?.on('data', read)
    child.once('exit', () => reject(new Error(`the development server ended: ${output}`)))
  })
})
afterAll(async () => {
  const ended = once(child, 'exit')
  child.kill('SIGTERM')
  await ended
  await rm(folder, { recursive: true, force: true })
})

/** Opens the demo in a new browser profile, and collects the problems that the browser reports. */
async function open(): Promise<{ page: Page; complaints: string[] }> {
  const page = await (await chromium.profile(Date.now())).newPage()
  const complaints: string[] = []
  page.on('console', (message) => complaints.push(message.text()))
  page.on('pageerror', (error) => complaints.push(error.message))
  await page.goto(`${url}/demo`)
  await page.evaluate(() => navigator.locks.query())
  return { page, complaints }
}

async function send(page: Page, text: string): Promise<void> {
  await page.getByLabel('Your message').fill(text)
  await page.keyboard.press('Enter')
  await page.locator('#log[aria-busy="false"]').waitFor()
}

async function admin(body?: object): Promise<{ users: { userId: string }[] }> {
  const response = await fetch(`${url}/api/admin/usage`, {
    headers: { authorization: `Bearer ${ADMIN_KEY}` },
    ...(body && { method: 'POST', body: JSON.stringify(body) }),
  })
  expect(response.status).toBe(200)
  return (await response.json()) as { users: { userId: string }[] }
}

test('a message is answered, the numbers change, and a block is shown until it is lifted', async () => {
  const { page, complaints } = await open()
  const log = page.getByRole('log')
  const value = (id: string) => page.locator(`#${id}`)
  await nextSync(page, 2000)
  // The limit is known before the first call.
  await expect.poll(() => value('left').textContent()).toBe('200,000')
  await send(page, 'What is a weir?')
  expect(await log.textContent()).toContain('You said: “What is a weir?”')
  await expect.poll(() => value('own').textContent()).toMatch(/^\d+ tokens in 1 request$/)
  await nextSync(page, 5000)
  await expect.poll(() => value('left').textContent()).toMatch(/^199,\d{3}$/)
  expect(await value('used').textContent()).toBe(await value('own').textContent())
  const meter = page.getByRole('meter')
  expect(Number(await meter.getAttribute('aria-valuenow'))).toBeLessThan(200_000)
  expect(await meter.getAttribute('aria-valuemax')).toBe('200000')
  await send(page, 'And again?')
  await nextSync(page, 5000)
  await expect.poll(() => value('used').textContent()).toMatch(/ in 2 requests$/)
  expect(complaints).toEqual([])

  const [user] = (await admin()).users
  const block = { userId: user?.userId, model: '*', blocked: true, reason: 'Enough for today.' }
  await admin(block)
  await send(page, 'Am I blocked?')
  const refusal = 'You are blocked from all models: Enough for today.'
  expect(await log.locator('.error').textContent()).toBe(refusal)
  await expect.poll(() => page.getByRole('alert').textContent()).toContain('Enough for today.')
  // The text is in the field again, and nothing more can be sent.
  expect(await page.getByLabel('Your message').inputValue()).toBe('Am I blocked?')
  await expect.poll(() => page.getByLabel('Your message').isDisabled()).toBe(true)
  await nextSync(page, 5000)
  await admin({ ...block, blocked: false })
  await nextSync(page, 30_000)
  await expect.poll(() => page.getByRole('alert').count()).toBe(0)
  expect(await page.getByLabel('Your message').isDisabled()).toBe(false)
  expect(await page.getByRole('link', { name: 'This user' }).getAttribute('href')).toContain(
    user?.userId,
  )
})

test('what a running request reserves is shown apart from what was used', async () => {
  const { page, complaints } = await open()
  const value = (id: string) => page.locator(`#${id}`)
  const usage = {
    'openai/gpt-oss-20b': {
      ...{ tokensUsedDay: 45, tokensReservedDay: 2652, tokensRemainingDay: 197_303 },
      ...{ requestsDay: 2, resetAt: Date.now() + 3_600_000 },
    },
  }
  const answers = [
    usage,
    { 'openai/gpt-oss-20b': { ...usage['openai/gpt-oss-20b'], tokensReservedDay: 0 } },
  ]
  await page.route('**/api/tracking/sync', (route) =>
    route.fulfill({ json: { success: true, usage: answers.shift() ?? {}, blocked: [] } }),
  )
  await nextSync(page, 2000)
  await expect.poll(() => value('used').textContent()).toBe('45 tokens in 2 requests')
  expect(await value('held').textContent()).toMatch(/Reserved while it runs\s+2,652 tokens/)
  expect(await value('left').textContent()).toBe('197,303')
  const meter = page.getByRole('meter')
  expect([
    await meter.getAttribute('aria-valuenow'),
    await meter.getAttribute('aria-valuemax'),
  ]).toEqual(['197303', '200000'])
  await nextSync(page, 300_000)
  await expect.poll(() => value('held').isVisible()).toBe(false)
  expect(complaints).toEqual([])
})

test('it fits a phone and can be used with the keyboard alone', async () => {
  const { page } = await open()
  await page.setViewportSize({ width: 320, height: 640 })
  const wide = await page.evaluate(() => document.documentElement.scrollWidth)
  expect(wide).toBeLessThanOrEqual(320)
  const reached: unknown[] = [await page.evaluate(() => document.activeElement?.id)]
  for (let n = 0; n < 3; n += 1) {
    await page.keyboard.press('Tab')
    reached.push(
      await page.evaluate(() => {
        const { id, textContent } = document.activeElement ?? {}
        return id === 'model' ? id : textContent?.trim()
      }),
    )
  }
  expect(reached).toEqual(['text', 'Send', 'model', 'New user'])
  const token = () => page.evaluate(() => localStorage['demoToken'] as string)
  const before = await token()
  await Promise.all([page.waitForEvent('load'), page.keyboard.press('Enter')])
  await expect.poll(token).toMatch(/^demo-user-/)
  expect(await token()).not.toBe(before)
})

test('it runs no inline code and no code of other origins, and it is not published', async () => {
  const response = await fetch(`${url}/demo`)
  const policy = response.headers.get('content-security-policy')
  expect(policy).toContain("default-src 'none'")
  expect(policy).not.toContain('unsafe')
  for (const path of [
    'demo/demo.js',
    'demo/demo.css',
    'tracker.js',
    'favicon.svg',
    'api/openapi.json',
  ]) {
    expect((await fetch(`${url}/${path}`)).status).toBe(200)
  }
  for (const path of ['demo/nothing', 'demo/%2e%2e/dev.ts', '_headers', 'demos']) {
    expect((await fetch(`${url}/${path}`)).status).toBe(404)
  }
})
