/** The programs of examples/, as their README says to run them, on a gateway with the double of Groq. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { expect, test } from 'vitest'
import { useBrowser } from '../support/browser.ts'
import { useWorld } from '../support/world.ts'

const world = useWorld()
const chromium = useBrowser()

const SECRET = 'a-secret-of-thirty-two-bytes-or-more'

function start(line: string, env: Record<string, string>) {
  const { PATH, HOME } = process.env
  const [command = '', ...args] = line.split(' ')
  const child = spawn(command, args, { env: { PATH, HOME, ...env } })
  const shown = { output: '' }
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (data: Buffer) => (shown.output += data.toString()))
  }
  return { child, shown, ended: once(child, 'close') as Promise<[number]> }
}

/** The commands of the README, in the order of its table. */
const text = await readFile('examples/README.md', 'utf8')
const commands = [...text.matchAll(/`((?:node|npx|python3) [^`]+)`/g)].map(([, one = '']) => one)

test.each(commands.filter((line) => !line.startsWith('npx')))('%s', async (line) => {
  const signed = line.includes('signed')
  const { url } = await world.gateway(
    'node',
    signed ? { USER_TOKENS: 'signed', USER_TOKEN_SECRETS: SECRET } : {},
  )
  const env = { WEIR_URL: url, ...(signed && { USER_TOKEN_SECRETS: SECRET }) }
  const { ended, shown } = start(line, env)
  expect([(await ended)[0], shown.output]).toEqual([0, expect.stringMatching(/\S+/)])
  if (!signed) expect(shown.output).toMatch(/\d+ of \d+ tokens a day/)
})

test('the chat streams an answer and shows what is left', async () => {
  const line = commands.find((one) => one.startsWith('npx tsx')) ?? ''
  const { url } = await world.gateway('node')
  const { child, shown, ended } = start(line.replace('npx tsx', 'node --import tsx'), {
    WEIR_URL: url,
    PORT: '0',
  })
  try {
    await expect.poll(() => shown.output, { timeout: 10_000 }).toMatch(/http:\S+\n/)
    const page = await (await chromium.profile(Date.now())).newPage()
    await page.goto(/http:\S+/.exec(shown.output)?.[0] ?? '')
    await page.evaluate(() => navigator.locks.query())
    await page.getByLabel('Message').fill('What is a weir?')
    await page.getByRole('button').click()
    await expect.poll(() => page.getByRole('log').locator('p').count()).toBe(2)
    const left = async () => {
      // The page reports 5 s after the end of the answer, whenever that is.
      await page.clock.runFor(1000)
      return page.locator('#left').textContent()
    }
    await expect.poll(left).toMatch(/^[\d,]+ tokens$/)
  } finally {
    child.kill()
    await ended
  }
})
