import { dereference, validate, type Schema as AnySchema } from '@cfworker/json-schema'
import { createConfig, lintFromString } from '@redocly/openapi-core'
import fc from 'fast-check'
import { readFile } from 'node:fs/promises'
import { Agent, request, type IncomingHttpHeaders } from 'node:http'
import { beforeAll, expect, test } from 'vitest'
import { OPENAPI_PATH, openapi, openapiText, referenceText } from '../../scripts/openapi.ts'
import { createApp } from '../../src/app.ts'
import { readConfig } from '../../src/config/config.ts'
import type { Deps } from '../../src/context.ts'
import { CODES } from '../../src/errors.ts'
import { createIds } from '../../src/identity/ids.ts'
import { ADMIN_KEY, type Gateway } from '../support/gateways.ts'
import {
  METRICS_KEY,
  requestsOf,
  resolve,
  type Ask,
  type Document,
  type Operation,
  type Schema,
} from '../support/openapi-requests.ts'
import { transcripts } from '../support/transcripts.ts'
import { useWorld } from '../support/world.ts'

const world = useWorld()

/** Error codes that a valid request may get. */
const LIMITS = new Set([
  'user_blocked',
  'model_not_allowed',
  'model_not_priced',
  'insufficient_quota',
  'global_quota',
  'rate_limit_exceeded',
])

/** More codes that a valid request may get: keys and plans may be gone, or the most are there. */
const MORE: Record<string, string[]> = {
  findUsers: ['invalid_request'],
  getUser: ['not_found'],
  export: ['invalid_request'],
  createKey: ['invalid_request'],
  getKey: ['not_found'],
  changeKey: ['not_found'],
  rotateKey: ['not_found'],
  deleteKey: ['not_found'],
  getPlan: ['not_found'],
  deletePlan: ['not_found'],
}

/** Error codes of checks that come before the check of the method. */
const BEFORE = [
  ...['missing_token', 'invalid_token', 'rate_limit_exceeded', 'body_too_large'],
  ...['not_configured', 'store_unavailable'],
]

const AMPLE = { tokensPerDay: 1_000_000_000_000, requestsPerDay: 1_000_000 }
const ONE = { tokensPerDay: 1, requestsPerDay: 1 }
const VARS = {
  TRUST_PROXY: 'on',
  USER_TOKENS: 'any,signed',
  USER_TOKEN_SECRETS: 'secret-of-an-application-of-the-tests',
  METRICS_KEY,
  // Nothing listens there.
  ALERT_WEBHOOK_URL: 'http://127.0.0.1:9/',
  ALERT_WEBHOOK_SECRET: `whsec_${Buffer.from('a secret of the tests that is long').toString('base64')}`,
  MAX_BODY_BYTES: '60000',
  ALLOWED_MODELS: '*/*',
  MODEL_LIMITS: JSON.stringify({
    '*': AMPLE,
    'one/a-day': ONE,
    'one/a-minute': { ...AMPLE, requestsPerMinute: 1 },
  }),
  GLOBAL_LIMITS: JSON.stringify({ 'one/for-all': ONE }),
}
const MODELS = ['openai/gpt-oss-20b', 'a/one', 'b/two', 'refused/429', 'refused/418']
const REFUSED = ['one/a-day', 'one/a-minute', 'one/for-all', 'not-allowed']
const TOKENS = Array.from({ length: 24 }, (_, n) => `token of user ${n}`)

test('the served file is the document of the present sources', async () => {
  const kept = await readFile(`static${OPENAPI_PATH}`, 'utf8')
  expect(kept === openapiText(), 'run `npx tsx scripts/openapi.ts`').toBe(true)
})

test('the page of the reference is up to date, has no script, and its links hold', async () => {
  const page = await readFile('static/reference.html', 'utf8')
  expect(page === referenceText(), 'run `npx tsx scripts/openapi.ts`').toBe(true)
  expect(page).not.toMatch(/<script|<style| style=| on\w+=/)
  const ids = [...page.matchAll(/ id="([^"]+)"/g)].map(([, id]) => id)
  expect(new Set(ids).size).toBe(ids.length)
  const links = [...page.matchAll(/ href="#([^"]+)"/g)].map(([, id]) => id)
  expect(links.filter((link) => !ids.includes(link))).toEqual([])
  for (const { operationId } of Object.values(openapi().paths as object).flatMap(
    (methods: Record<string, { operationId: string }>) => Object.values(methods),
  ))
    expect(ids).toContain(operationId)
})

test('a linter finds nothing to say', async () => {
  const config = await createConfig({
    extends: ['recommended-strict'],
    // Two routes have no input and need no credentials.
    rules: { 'operation-4xx-response': 'off' },
  })
  const problems = await lintFromString({ source: openapiText(), config })
  expect(problems.map(({ message, location }) => [message, location[0]?.pointer])).toEqual([])
})

test('it has every route except the pages, and no other', () => {
  const deps = { environment: {}, relay: { drain: { atOnce: 1 } } } as Deps
  const config = readConfig({ METRICS_KEY }, 'node')
  const { routes } = createApp({ ...deps, config })
  const served = routes
    .filter(({ method, path }) => method !== 'ALL' && /^.(api.|metrics)/.test(path))
    .map(({ method, path }) => `${method} ${path}`)
  const described = Object.entries((openapi() as unknown as Document).paths).flatMap(
    ([path, methods]) =>
      Object.keys(methods).map(
        (method) =>
          `${method.toUpperCase()} ${path.replace('models/{id}', 'models/*').replace(/\{(\w+)\}/, ':$1')}`,
      ),
  )
  expect(described.toSorted()).toEqual([...new Set(served)].toSorted())
})

type Answer = { status: number; headers: IncomingHttpHeaders; body: string }

const agent = new Agent({ keepAlive: true, maxSockets: 16 })

const send = ({ url }: Gateway, ask: Pick<Ask, 'method' | 'url' | 'headers' | 'body'>) =>
  new Promise<Answer>((resolve, reject) => {
    const { hostname, port } = new URL(url)
    const length = ask.body ? { 'content-length': ask.body.length } : {}
    const headers = { ...ask.headers, ...length }
    const sent = request(
      { agent, hostname, port, method: ask.method, path: ask.url, headers },
      (response) => {
        const parts: Buffer[] = []
        response.on('data', (part: Buffer) => parts.push(part))
        response.on('error', reject)
        response.on('end', () => {
          const body = Buffer.concat(parts).toString()
          resolve({ status: response.statusCode ?? 0, headers: response.headers, body })
        })
      },
    )
    sent.on('error', reject)
    sent.end(ask.body)
  })

/** The document as it is served, and a copy that allows no undescribed fields in answers. */
let document: Document
let exact: Document
let lookup: ReturnType<typeof dereference>

beforeAll(async () => {
  const gateway = await world.gateway('node', VARS)
  const { body } = await send(gateway, { method: 'GET', url: OPENAPI_PATH, headers: {} })
  document = JSON.parse(body) as Document
  exact = structuredClone(document)
  for (const schema of Object.values(exact.components.schemas)) close(schema)
  lookup = dereference(exact)
})

/** Forbids undescribed fields, unless the schema allows them. */
function close(schema: Schema): void {
  if (schema.properties) schema.additionalProperties ??= false
  const { properties = {}, items, anyOf = [], additionalProperties: more } = schema
  for (const one of [...Object.values(properties), ...anyOf]) close(one)
  if (items) close(items)
  if (typeof more === 'object') close(more)
}

const codeOf = (body: string): string | undefined => {
  try {
    return (JSON.parse(body) as { error?: { code?: string } }).error?.code
  } catch {
    return undefined
  }
}

const isOurs = (code: string | undefined): code is keyof typeof CODES =>
  code !== undefined && code in CODES

/** The difference between an answer and its description; undefined if there is none. */
function faultOf({ path, method, wrong }: Ask, answer: Answer): string | undefined {
  const { status, headers, body } = answer
  const code = codeOf(body)
  const methods = Object.keys(exact.paths[path] ?? {}).map((name) => name.toUpperCase())
  const elsewhere = wrong.includes('path')
  const proxy = path.startsWith('/api/groq')
  const users = proxy || /^.api.(tracking|usage|v1)/.test(path)
  for (const [name, { required }] of Object.entries(exact.components.headers)) {
    if (required && headers[name] === undefined) return `has no ${name}`
  }
  if (isOurs(code) && CODES[code][0] !== status) return `${code} has another status`
  // The request may have reached another route.
  if (elsewhere && (status < 300 || isOurs(code) || method === 'HEAD')) return undefined
  if (method === 'OPTIONS' && users) return status === 204 ? undefined : 'is no preflight'
  // Streamed routes have no HEAD.
  const head = method === 'HEAD' && methods.includes('GET') && status !== 405
  if (!methods.includes(method) && !head) {
    const met = ['method_not_allowed', 'cross_origin', ...BEFORE].includes(code ?? '')
    if (method !== 'HEAD' && !met) return 'is no refusal of a method'
    if (code === 'method_not_allowed' && headers.allow !== methods.join(', ')) {
      return `allows ${headers.allow}`
    }
    return undefined
  }
  const described = exact.paths[path]?.[head ? 'get' : method.toLowerCase()]
  const responses: Operation['responses'] = described?.responses ?? {}
  const chosen = String(status) in responses ? String(status) : `${Math.floor(status / 100)}XX`
  const reference = responses[chosen]
  if (!reference) return 'has no such status'
  const reply = resolve(exact, reference)
  for (const name of Object.keys(exact.components.headers)) {
    if (headers[name] !== undefined && !(name in reply.headers)) return `says nothing of ${name}`
  }
  if (head) return undefined
  if (!reply.content) return body === '' ? undefined : 'has no body'
  const [type = ''] = (headers['content-type'] ?? '').split(';')
  if (!(type in reply.content)) return '*/*' in reply.content ? undefined : `has no type ${type}`
  if (type !== 'application/json') return undefined
  const { schema = {} } = reply.content[type] ?? {}
  const own = isOurs(code) && schema.anyOf?.[0] ? schema.anyOf[0] : schema
  const { valid, errors } = validate(JSON.parse(body), own as AnySchema, '2020-12', lookup)
  return valid ? undefined : JSON.stringify(errors)
}

async function sessionOf(gateway: Gateway): Promise<string> {
  const { headers } = await send(gateway, {
    method: 'POST',
    url: '/api/admin/login',
    headers: { 'content-type': 'application/json' },
    body: Buffer.from(JSON.stringify({ key: ADMIN_KEY })),
  })
  return headers['set-cookie']?.[0]?.split(';')[0] ?? ''
}

/** Makes keys, if it can. Returns their ids. */
async function keysOf(gateway: Gateway): Promise<string[]> {
  const headers = { authorization: `Bearer ${ADMIN_KEY}` }
  const ids: string[] = []
  for (let n = 0; n < 100; n += 1) {
    const body = Buffer.from(JSON.stringify({ user: `owner ${n % 10}` }))
    const answer = await send(gateway, { method: 'POST', url: '/api/admin/keys', headers, body })
    ids.push((JSON.parse(answer.body) as { id?: string }).id ?? `${'A'.repeat(22)}.12345678`)
  }
  return ids
}

type Run = {
  gateway: Gateway
  models: string[]
  numRuns: number
  /** Whether the requests so far are enough, so that the others need not be sent. */
  enough?: (sent: number) => boolean
}

/** Generates requests from the document for a gateway, from a seed. */
async function draw({ gateway, models, numRuns }: Run, seed: number): Promise<Ask[]> {
  const ids = createIds('secret-of-the-tests')
  const means = {
    tokens: TOKENS,
    users: await Promise.all(TOKENS.slice(0, 8).map((token) => ids.user(token))),
    keys: await keysOf(gateway),
    cookie: await sessionOf(gateway),
    spare: await sessionOf(gateway),
    models,
  }
  return fc.sample(requestsOf(document, means), { numRuns, seed })
}

/** Sends requests, some at once, and checks the answers. A failure shows how to reproduce it. */
async function check(run: Run, heard: (ask: Ask, answer: Answer) => string | undefined) {
  const seed = Math.floor(Math.random() * 2 ** 31)
  const asks = await draw(run, seed)
  const faults: string[] = []
  const isEnough = () => run.enough?.(run.numRuns - asks.length) ?? false
  const line = async () => {
    for (let ask = asks.pop(); ask && !isEnough(); ask = asks.pop()) {
      const answer = await send(run.gateway, ask)
      const fault = faultOf(ask, answer) ?? heard(ask, answer)
      if (fault === undefined) continue
      const { method, url, headers, body = new Uint8Array(), wrong } = ask
      const sent = `${method} ${url} ${JSON.stringify(headers)} ${Buffer.from(body).toString().slice(0, 500)}`
      const got = `${answer.status} ${answer.body}`
      faults.push(
        `${fault}: ${sent.slice(0, 1000)} (wrong: ${wrong.join()}) → ${got.slice(0, 500)}`,
      )
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, line))
  expect(faults.slice(0, 5), `of seed ${seed}`).toEqual([])
}

const AT_ONCE = 16

/** These occur only in strict mode, with issued keys and signed tokens, for viewers and handshakes, or with a low limit of new users. */
const ELSEWHERE = [
  'cost_unbounded',
  ...['invalid_key', 'expired_key', 'expired_token', 'disabled_key'],
  'forbidden',
  'upgrade_required',
  'too_many_users',
]

test('thousands of generated requests get answers as described, none of them 5xx', async () => {
  for (const model of MODELS.filter((model) => model.startsWith('refused/'))) {
    const status = Number(model.split('/')[1])
    const body = JSON.stringify({ error: { message: 'No.', code: 'of_the_provider' } })
    world.upstream.on(model, { transcript: transcripts['rate-limited'], status, body })
  }
  const gateway = await world.gateway('node', VARS)
  const right = new Set<string>()
  const codes = new Set<string>()
  const models = [...MODELS, ...MODELS, ...REFUSED]
  const operations = Object.values(document.paths).flatMap((methods) => Object.values(methods))
  const always = Object.entries(CODES).filter(([, [status]]) => status < 500)
  const missing = () => always.map(([code]) => code).filter((code) => !codes.has(code))
  // A generated plan may have a limit in dollars, and a generated upload a file of an unknown kind.
  codes.add('model_not_priced').add('unsupported_audio')
  // The rare answers need up to 5,000 requests.
  const enough = (sent: number) =>
    sent > 2500 && right.size === operations.length && missing().length === ELSEWHERE.length
  await check({ gateway, models, numRuns: 5000, enough }, ({ id, wrong }, { status, body }) => {
    const code = codeOf(body)
    if (isOurs(code)) codes.add(code)
    if (status < 400) right.add(id)
    if (status >= 500) return 'is an error of the gateway'
    const met = code !== undefined && (LIMITS.has(code) || MORE[id]?.includes(code))
    return wrong.length === 0 && isOurs(code) && !met ? 'is refused' : undefined
  })
  expect([...right].sort()).toEqual(operations.map(({ operationId }) => operationId).sort())
  expect(missing()).toEqual(ELSEWHERE)
}, 120_000)

test('what it lacks, a gateway says as described', async () => {
  const away = { KV_REST_API_URL: 'http://127.0.0.1:1', ON_STORE_DOWN: 'closed' }
  const lacking = {
    not_configured: { ADMIN_KEY: '' },
    upstream_not_configured: { GROQ_API_KEY: '' },
    upstream_unreachable: { GROQ_BASE_URL: 'http://127.0.0.1:1' },
    store_unavailable: away,
    cost_unbounded: { CAP: 'strict' },
    too_many_users: { NEW_USERS_PER_MINUTE: '1' },
  }
  for (const [expected, vars] of Object.entries(lacking)) {
    // No user is known yet, as too_many_users needs.
    await world.redis.flush()
    const gateway = await world.gateway('node', { ...VARS, ...vars })
    const codes = new Set<string | undefined>()
    const models = ['groq/compound']
    await check({ gateway, models, numRuns: 200 }, (_, { body }) => void codes.add(codeOf(body)))
    expect([...codes]).toContain(expected)
    expect([...codes]).not.toContain('internal_error')
  }
}, 120_000)
