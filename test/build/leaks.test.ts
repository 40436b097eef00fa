/** All tests are searched for secrets (`test/support/searched.ts`). Here, leaks are planted, and found. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { createIssuedKeys } from '../../src/identity/issued-key.ts'
import { createLog } from '../../src/log.ts'
import { BEARER, logIn } from '../support/admin.ts'
import { useDatabase } from '../support/database.ts'
import { ADMIN_KEY, startGateway, type Gateway } from '../support/gateways.ts'
import { ownJwt } from '../support/issuer.ts'
import { takeLeaks } from '../support/leaks.ts'
import { SECRET, localApp } from '../support/local-app.ts'
import { mayBeIn } from '../support/secrets.ts'

const { redis } = useDatabase()
const log = createLog({ level: 'debug', format: 'json', write: () => undefined })

let gateway: Gateway
beforeAll(async () => {
  gateway = await startGateway('node', { ALLOWED_MODELS: 'openai/*' })
})
afterAll(() => gateway.close())
beforeEach(() => void takeLeaks())

/** Asks the gateway for a model that it does not offer, and reads its error. */
async function ask(headers: Record<string, string>, body: object = {}): Promise<string> {
  const asked = JSON.stringify({ prompt: 'x', model: 'none', ...body })
  return (await fetch(`${gateway.url}/api/groq`, { method: 'POST', headers, body: asked })).text()
}

const TOKEN = 'token-of-somebody'
const OF_TOKEN = { 'x-user-token': TOKEN }
const bearer = (token: string) => ({ authorization: `Bearer ${token}` })

test.each<[string, RegExp, () => Promise<unknown>]>([
  [
    'a log line',
    /^a key or token is in a log line, after: .*"planted","text":"$/,
    async () => {
      log.warn('planted', { text: TOKEN })
      await ask(OF_TOKEN)
    },
  ],
  [
    'an error',
    /^a key or token is in an error, after: .*The model $/,
    () => ask(OF_TOKEN, { model: TOKEN }),
  ],
  [
    'a database',
    /^a key or token is in a document, after: /,
    async () => {
      await redis.command(['HSET', 'weir:{2}:usage:x', 'some', '1', 'other', `token: ${TOKEN}`])
      await redis.flush()
      await ask(OF_TOKEN)
    },
  ],
  [
    'a file',
    /^a key or token is in a document, after: {"token":"$/,
    async () => {
      const folder = await mkdtemp(join(tmpdir(), 'weir-leaks-'))
      await writeFile(join(folder, 'usage.json'), JSON.stringify({ token: TOKEN }))
      await rm(folder, { recursive: true })
      await ask(OF_TOKEN)
    },
  ],
  [
    'what a process prints',
    /^GROQ_API_KEY is in the output of a process, after: the key: $/,
    async () => {
      const program = 'console.error("started\\nthe key: " + process.env.GROQ_API_KEY)'
      const env = { GROQ_API_KEY: 'gsk_of_a_process' }
      const child = spawn(process.execPath, ['-e', program], { env })
      child.stderr.resume()
      await once(child, 'close')
    },
  ],
])('a secret in %s is found', async (_, leak, plant) => {
  await plant()
  const leaks = takeLeaks()
  // Of an error, this process knows how it was sent and how it arrived.
  expect(new Set(leaks.map((one) => leak.test(one)))).toEqual(new Set([true]))
  expect(leaks.join()).not.toMatch(/somebody|of_a_process/)
})

const { key: KEY } = await createIssuedKeys(SECRET).make('A'.repeat(22))
const [, CLAIMS = '', SIGNATURE = ''] = ownJwt({ sub: 'somebody' }, SECRET).split('.')
const JWT = `eyJ9.${CLAIMS}.${SIGNATURE}`

/** Each sends a secret, and returns a text that has it or a part of it. */
test.each<[string, string, () => Promise<string>]>([
  ['a token in a header', 'a key or token', async () => (await ask(BEARER), ADMIN_KEY)],
  ['one in a body', 'a key or token', async () => (await ask({}, { userToken: TOKEN }), TOKEN)],
  ['a session', 'a key or token', async () => (await logIn(gateway)).cookie.slice(-60)],
  ['half of a key', 'an issued key', async () => (await ask(bearer(KEY)), KEY.slice(-30, -7))],
  ['claims', 'the claims of a signed token', async () => (await ask(bearer(JWT)), CLAIMS)],
  [
    'a signature',
    'the signature of a signed token',
    async () => (await ask(bearer(JWT)), SIGNATURE),
  ],
  ['a prompt', 'a prompt', async () => (await ask({}, { prompt: 'Who are you?' }), 'Who are you?')],
  ['a key that was made', 'an issued key', async () => (await created()).key],
])('%s is a secret', async (_, kind, send) => {
  log.warn('planted', { text: `«${await send()}»` })
  const leaks = takeLeaks()
  expect(leaks).toEqual([expect.stringMatching(`^${kind} is in a log line, after: .*«`)])
})

/** An issued key, from an app without a server. */
async function created(): Promise<{ key: string; start: string; last4: string }> {
  const app = await localApp()
  const { json } = await app.admin('POST', 'keys', { user: 'somebody' })
  await app.close()
  return json
}

test('what is stored of a key is no secret, nor what a test allows', async () => {
  const { start, last4 } = await created()
  mayBeIn(['a log line'], TOKEN)
  log.warn('planted', { start, last4, text: TOKEN })
  await ask(OF_TOKEN)
  expect(takeLeaks()).toEqual([])
})
