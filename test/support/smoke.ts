/** Checks that any running gateway must pass on any platform. They know only its address. */
import { createGroq } from '@ai-sdk/groq'
import { generateText, streamText } from 'ai'
import Groq from 'groq-sdk'
import { randomUUID } from 'node:crypto'
import OpenAI from 'openai'
import { expect, test } from 'vitest'
import { assetsOf, expectAssets } from './assets.ts'

export type Target = {
  /** Without a slash at the end. */
  url: string
  /** Without the key, the admin's checks are left out. */
  adminKey: string | undefined
  /** A model for chats; the checks use a few hundred tokens of it. */
  model: string
}

type Check = (target: Target) => Promise<void>
type Usage = { prompt_tokens: number; completion_tokens: number; total_tokens: number }

const SHORT = 64
const messages = [{ role: 'user' as const, content: 'Say hello.' }]

/** A new user. */
const newToken = () => `smoke-${randomUUID()}`

const chat = (
  { url, model }: Target,
  token: string,
  more: Record<string, unknown> = {},
  signal: AbortSignal | null = null,
) =>
  fetch(`${url}/api/groq/openai/v1/chat/completions`, {
    method: 'POST',
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    body: JSON.stringify({ model, messages, max_tokens: SHORT, ...more }),
    signal,
  })

const sync = ({ url, model }: Target, token: string) =>
  fetch(`${url}/api/tracking/sync`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      userToken: token,
      modelUsage: { [model]: { day: { tokens: 0, requests: 0, resetAt: Date.now() } } },
    }),
  })

type Known = { tokensUsedDay: number; requestsDay: number }

/** The gateway's counts for a user. */
async function counted(target: Target, token: string): Promise<Known | undefined> {
  const response = await sync(target, token)
  expect(response.status).toBe(200)
  const { usage } = (await response.json()) as { usage: Record<string, Known> }
  return usage[target.model]
}

/** The interval is long, because a user may sync only a few times a minute. */
const SETTLES = { timeout: 10_000, interval: 600 }

function expectUsage(usage: Usage | undefined): asserts usage is Usage {
  expect(usage?.total_tokens).toBeGreaterThan(0)
  expect(usage?.total_tokens).toBe((usage?.prompt_tokens ?? 0) + (usage?.completion_tokens ?? 0))
}

async function expectError(response: Response, status: number, code: string): Promise<void> {
  expect([response.url, response.status]).toEqual([response.url, status])
  const { error } = (await response.json()) as { error: Record<string, unknown> }
  expect(error).toMatchObject({
    code,
    message: expect.any(String) as string,
    type: expect.any(String) as string,
  })
  expect(response.headers.get('x-weir-id')).toMatch(/^[0-9a-f-]{36}$/)
}

const CHECKS: Record<string, Check> = {
  async 'a chat is answered and counted'(target) {
    const token = newToken()
    const response = await chat(target, token)
    expect(response.status).toBe(200)
    expect(response.headers.get('content-type')).toContain('application/json')
    expect(response.headers.get('x-weir-id')).toMatch(/^[0-9a-f-]{36}$/)
    const { choices, usage } = (await response.json()) as { choices: unknown[]; usage?: Usage }
    expect(choices).toHaveLength(1)
    expectUsage(usage)
    const expected = { tokensUsedDay: usage.total_tokens, requestsDay: 1 }
    await expect.poll(() => counted(target, token), SETTLES).toMatchObject(expected)
  },

  async 'the simple form is answered'({ url, model }) {
    const response = await fetch(`${url}/api/groq`, {
      method: 'POST',
      body: JSON.stringify({
        prompt: 'Say hello.',
        model,
        max_tokens: SHORT,
        userToken: newToken(),
      }),
    })
    expect(response.status).toBe(200)
    const answer = (await response.json()) as { content: unknown; model: unknown; usage?: Usage }
    expect(answer.content).toBeTypeOf('string')
    expect(answer.model).toBeTypeOf('string')
    expectUsage(answer.usage)
  },

  async 'a stream comes whole, to its last byte, and is counted'(target) {
    const token = newToken()
    const response = await chat(target, token, { stream: true })
    expect(response.status).toBe(200)
    expect(response.headers.get('content-type')).toMatch(/^text\/event-stream/)
    const text = await response.text()
    expect(text).toMatch(/\ndata: \[DONE\]\n\n$/)
    const lines = text.split('\n').filter((line) => line.startsWith('data: {'))
    const chunks = lines.map((line) => JSON.parse(line.slice(6)) as Chunk)
    const usages = chunks.map(({ usage, x_groq }) => usage ?? x_groq?.usage)
    const usage = usages.findLast((one) => one !== undefined && one !== null) ?? undefined
    expectUsage(usage)
    const expected = { tokensUsedDay: usage.total_tokens, requestsDay: 1 }
    await expect.poll(() => counted(target, token), SETTLES).toMatchObject(expected)
  },

  async 'a client that leaves in the middle of a stream can call again'(target) {
    const token = newToken()
    const leaving = new AbortController()
    const response = await chat(target, token, { stream: true }, leaving.signal)
    const reader = response.body?.getReader()
    expect((await reader?.read())?.value?.length).toBeGreaterThan(0)
    leaving.abort()
    const again = await chat(target, token)
    expect(again.status).toBe(200)
    expectUsage(((await again.json()) as { usage?: Usage }).usage)
    await expect
      .poll(() => counted(target, token), SETTLES)
      .toMatchObject({ requestsDay: 2, tokensUsedDay: expect.any(Number) as number })
  },

  async 'a page may call from any origin that is allowed'({ url }) {
    const response = await fetch(`${url}/api/groq`, {
      method: 'OPTIONS',
      headers: {
        origin: new URL(url).origin,
        'access-control-request-method': 'POST',
        'access-control-request-headers': 'x-user-token',
      },
    })
    expect(response.status).toBe(204)
    expect(response.headers.get('access-control-allow-headers')).toContain('x-user-token')
  },

  async 'a sync tells a user what the server knows'(target) {
    const response = await sync(target, newToken())
    expect(response.status).toBe(200)
    expect(await response.json()).toMatchObject({ success: true, blocked: [] })
  },

  async 'the files for browsers are sent, and nothing else of a build'({ url }) {
    for (const [name, type] of [
      ['tracker.js', /javascript/],
      ['favicon.svg', /^image\/svg\+xml/],
    ] as const) {
      const response = await fetch(`${url}/${name}`)
      expect([name, response.status]).toEqual([name, 200])
      expect((await response.text()).length).toBeGreaterThan(100)
      const { headers } = response
      expect(headers.get('content-type')).toMatch(type)
      expect(headers.get('x-content-type-options')).toBe('nosniff')
      // A development server allows no caching.
      expect(headers.get('cache-control')).toMatch(/^(public, max-age=3600|no-store)$/)
      expect(headers.get('access-control-allow-origin')).toBe(name === 'tracker.js' ? '*' : null)
    }
    for (const path of ['_headers', 'index.mjs', 'index.js.map', '.env', 'package.json']) {
      const response = await fetch(`${url}/${path}`)
      expect([path, response.status]).toEqual([path, 404])
    }
  },

  async 'the files of a page are sent to be kept, each under the digest of what it is'({ url }) {
    const paths = assetsOf(await (await fetch(`${url}/`)).text())
    expect(paths).toHaveLength(1)
    await expectAssets((path) => fetch(url + path), paths)
  },

  async 'the health route says that the database answers'({ url }) {
    const response = await fetch(`${url}/api/test`)
    expect(response.status).toBe(200)
    expect(await response.json()).toMatchObject({ database: { connected: true }, degraded: false })
  },

  async 'what is wrong is said in the form of the API'({ url }) {
    const post = (path: string, body: string, headers: Record<string, string> = {}) =>
      fetch(url + path, { method: 'POST', body, headers })
    const known = { 'x-user-token': newToken() }
    await expectError(await post('/api/groq', '{"prompt":"Hello"}'), 401, 'missing_token')
    await expectError(await post('/api/groq', '{', known), 400, 'invalid_json')
    await expectError(await post('/api/groq', '{"prompt":7}', known), 400, 'invalid_request')
    await expectError(await fetch(`${url}/api/nothing`), 404, 'not_found')
    const get = await fetch(`${url}/api/groq`)
    await expectError(get, 405, 'method_not_allowed')
    expect(get.headers.get('allow')).toBe('POST')
    const batches = await post('/api/groq/openai/v1/batches', '{}', known)
    await expectError(batches, 404, 'not_found')
  },

  async 'groq-sdk works as it is'({ url, model }) {
    const client = new Groq({ apiKey: newToken(), baseURL: `${url}/api/groq` })
    const ask = { model, messages, max_tokens: SHORT }
    expectUsage((await client.chat.completions.create(ask)).usage)
    let chunks = 0
    const stream = await client.chat.completions.create({ ...ask, stream: true })
    for await (const { object } of stream) chunks += Number(object === 'chat.completion.chunk')
    expect(chunks).toBeGreaterThan(1)
    expect((await client.models.list()).data.length).toBeGreaterThan(0)
    expect((await client.models.retrieve(model)).id).toBeTypeOf('string')
  },

  async 'openai works as it is'({ url, model }) {
    const baseURL = `${url}/api/groq/openai/v1`
    const client = new OpenAI({ apiKey: newToken(), baseURL })
    const ask = { model, messages, max_tokens: SHORT }
    expectUsage((await client.chat.completions.create(ask)).usage)
    let usage: Usage | undefined
    const stream = await client.chat.completions.create({
      ...ask,
      stream: true,
      stream_options: { include_usage: true },
    })
    for await (const chunk of stream) usage = chunk.usage ?? usage
    expectUsage(usage)
  },

  async 'the AI SDK works as it is'({ url, model }) {
    const groq = createGroq({ apiKey: newToken(), baseURL: `${url}/api/groq/openai/v1` })
    const ask = { model: groq(model), messages, maxOutputTokens: SHORT }
    expect((await generateText(ask)).usage.totalTokens).toBeGreaterThan(0)
    const stream = streamText({ ...ask, onError: () => undefined })
    await stream.consumeStream()
    expect((await stream.usage).totalTokens).toBeGreaterThan(0)
  },
}

type Chunk = { usage?: Usage | null; x_groq?: { usage?: Usage } }

const ADMIN_CHECKS: Record<string, Check> = {
  async 'the admin key shows usage, and nothing else does'(target) {
    const { url, adminKey, model } = target
    const ask = (headers: Record<string, string> = {}) =>
      fetch(`${url}/api/admin/usage`, { headers })
    await expectError(await ask(), 401, 'missing_token')
    await expectError(await ask({ authorization: `Bearer ${newToken()}` }), 401, 'invalid_token')
    expect((await chat(target, newToken())).status).toBe(200)
    const models = async () => {
      const response = await ask({ authorization: `Bearer ${adminKey}` })
      expect(response.status).toBe(200)
      const { users } = (await response.json()) as { users: { models: { model: string }[] }[] }
      return users.flatMap((user) => user.models.map((one) => one.model))
    }
    await expect.poll(models, SETTLES).toContain(model)
  },
}

/** Checks of the login and the dashboard. */
const SESSION_CHECKS: Record<string, Check> = {
  async 'an admin logs in, sees the dashboard and logs out'({ url, adminKey }) {
    const { origin, protocol } = new URL(url)
    const cookieName = protocol === 'https:' ? '__Host-weir_session' : 'weir_session'
    const post = (path: string, body: unknown, headers: Record<string, string> = {}) =>
      fetch(`${url}/api/admin/${path}`, {
        method: 'POST',
        headers: { origin, 'content-type': 'application/json', ...headers },
        body: JSON.stringify(body),
      })
    const auth = async (headers: HeadersInit) =>
      (await (await fetch(`${url}/api/admin/auth`, { headers })).json()) as unknown

    expect((await post('login', { key: newToken() })).status).toBe(401)
    expect(await auth({})).toMatchObject({ authenticated: false })
    const locked = await (await fetch(`${url}/admin`)).text()

    const login = await post('login', { key: adminKey })
    expect(login.status).toBe(200)
    expect(await login.json()).toMatchObject({ success: true })
    const set = login.headers.getSetCookie().find((one) => one.startsWith(`${cookieName}=`)) ?? ''
    expect(set).toMatch(/; ?HttpOnly/i)
    expect(set).toMatch(/; ?SameSite=Strict/i)
    const [cookie = ''] = set.split(';')
    expect(await auth({ cookie })).toMatchObject({ authenticated: true })

    const page = await fetch(`${url}/admin`, { headers: { cookie } })
    expect(page.status).toBe(200)
    expect(page.headers.get('content-type')).toMatch(/^text\/html/)
    expect(page.headers.get('content-security-policy')).not.toContain('unsafe-inline')
    const html = await page.text()
    expect(html).not.toBe(locked)
    for (const [, file = ''] of html.matchAll(/(?:src|href)="\/?(admin\.(?:js|css))"/g)) {
      expect([file, (await fetch(`${url}/${file}`)).status]).toEqual([file, 200])
    }

    expect((await post('logout', {}, { cookie })).ok).toBe(true)
    expect(await auth({ cookie })).toMatchObject({ authenticated: false })
  },
}

/** One test per check; `target` is called when the gateway runs. */
export function smoke(target: () => Target | Promise<Target>): void {
  const admin = { ...ADMIN_CHECKS, ...SESSION_CHECKS }
  for (const [name, check] of Object.entries(CHECKS)) {
    test(name, async () => check(await target()))
  }
  for (const [name, check] of Object.entries(admin)) {
    test(name, async ({ skip }) => {
      const found = await target()
      if (found.adminKey === undefined) skip('ADMIN_KEY is not set')
      await check(found)
    })
  }
}
