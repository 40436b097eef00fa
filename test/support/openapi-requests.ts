/** Requests generated from an OpenAPI document: valid ones, and ones with something wrong. */
import fc from 'fast-check'
import { LIMITS } from '../../src/ledger/policy.ts'
import { DAY_MS, dateOf } from '../../src/ledger/windows.ts'
import { FORM_TYPE, formOf } from './form.ts'
import { ADMIN_KEY } from './gateways.ts'

/** What a gateway needs as METRICS_KEY to answer the requests. */
export const METRICS_KEY = 'key-of-the-prometheus-of-the-tests'

export type Schema = {
  $ref?: string
  type?: string | string[]
  anyOf?: Schema[]
  enum?: unknown[]
  const?: unknown
  format?: string
  pattern?: string
  minLength?: number
  maxLength?: number
  minimum?: number
  maximum?: number
  exclusiveMinimum?: number
  properties?: Record<string, Schema>
  required?: string[]
  additionalProperties?: boolean | Schema
  propertyNames?: Schema
  items?: Schema
}

type Content = Record<string, { schema?: Schema }>
type Parameter = { $ref?: string; name: string; in: string; required?: boolean; schema: Schema }
type Reply = { $ref?: string; headers: Record<string, unknown>; content?: Content }
export type Operation = {
  operationId: string
  security: Record<string, unknown>[]
  parameters?: Parameter[]
  requestBody?: { content: Content }
  responses: Record<string, Reply>
}
export type Document = {
  paths: Record<string, Record<string, Operation>>
  components: {
    headers: Record<string, { required?: boolean }>
    responses: Record<string, Reply>
    schemas: Record<string, Schema>
  }
}

export type Ask = {
  /** The path and operation of the request. */
  path: string
  id: string
  method: string
  url: string
  headers: Record<string, string>
  body?: Uint8Array
  /** What is wrong with it, if anything. */
  wrong: string[]
}

/** The values for the requests. */
export type Means = {
  tokens: string[]
  users: string[]
  /** The ids of issued keys. */
  keys: string[]
  /** The cookie of a session that stays open, and of one that may be ended. */
  cookie: string
  spare: string
  models: string[]
}

const HOUR_MS = 3_600_000
const FORM = 'application/x-www-form-urlencoded'
const UPLOAD = 'multipart/form-data'
/** Bodies that are lines, by their type. */
const LINES: Record<string, string[]> = {
  'text/csv': ['user,label,plan\r\nann,"Ann, the first",pro\r\nbob,,\r\n', 'user\nann\n'],
  'application/x-ndjson': [
    '{"v":2,"kind":"plan","name":"pro","limits":{}}\n{"v":2,"kind":"settings"}\n',
    `{"v":2,"kind":"user","userId":"${'u'.repeat(22)}","label":"Ann","limits":{},"blocks":[],"keys":[]}`,
  ],
}
const METHODS = 'GET POST PUT PATCH DELETE HEAD OPTIONS PROPFIND QUERY PURGE M-SEARCH'.split(' ')

/** Reads a `$ref`. */
export function resolve<T extends { $ref?: string }>(document: Document, value: T): T {
  if (value.$ref === undefined) return value
  const steps = value.$ref.slice(2).split('/')
  const found = steps.reduce<unknown>((at, step) => (at as Record<string, unknown>)[step], document)
  return { ...(found as T), ...value, $ref: undefined }
}

/** The characters of a header; 8-bit characters are sent unchanged. */
const headerValue = fc.oneof(
  fc
    .string({ unit: 'binary-ascii', maxLength: 40 })
    .map((text) => text.replace(/[^\x20-\x7e]/g, '')),
  fc.string({ unit: fc.integer({ min: 0xa0, max: 0xff }).map((n) => String.fromCharCode(n)) }),
  fc.constantFrom('', ' ', ',', ';', 'x'.repeat(4000), '%00', '"', '-1', '1e999'),
)

const weird = fc.oneof(
  fc.string({ unit: 'grapheme', maxLength: 20 }).map(encodeURIComponent),
  fc.string({ unit: 'grapheme', minLength: 300, maxLength: 400 }).map(encodeURIComponent),
  fc.constantFrom(
    '',
    '.',
    '..',
    '%2e%2e',
    '%',
    '%zz',
    '%ff',
    '%00',
    'a/b',
    'a%2fb',
    '//',
    '*',
    ';',
  ),
  fc.constantFrom(
    '__proto__',
    'constructor',
    '-1',
    '0',
    '1e9',
    '9'.repeat(400),
    'NaN',
    'null',
    '[]',
  ),
)

/** A lone surrogate is not text in UTF-8. */
const text = (constraints: { minLength?: number; maxLength?: number } = {}) =>
  fc.string({ unit: 'grapheme', maxLength: 60, ...constraints })

const junk: fc.Arbitrary<unknown> = fc.oneof(
  fc.jsonValue({ maxDepth: 3 }),
  fc.string({ unit: 'binary' }),
  fc.constantFrom(0, -1, 1.5, 1e308, 2 ** 53, -(2 ** 63), 1e-320, '', '1', null, true, [], {}),
  fc.constantFrom<unknown>('x'.repeat(5000), Array(6000).fill(0), { '': { '': {} } }),
  fc.constantFrom(1, 50, 3000).map((depth) => {
    let value: unknown = []
    for (let n = 0; n < depth; n += 1) value = [value]
    return value
  }),
)

/** Builds the requests of a document. */
export function requestsOf(document: Document, means: Means): fc.Arbitrary<Ask> {
  const token = fc.constantFrom(...means.tokens)
  const model = fc.constantFrom(...means.models)

  const day = fc.integer({ min: 0, max: 30 }).map((ago) => dateOf(Date.now() - ago * DAY_MS))

  /** Values that no schema can describe. */
  const known: Record<string, fc.Arbitrary<unknown>> = {
    until: fc
      .integer({ min: HOUR_MS, max: 1000 * HOUR_MS })
      .map((ms) => Date.now() + ms)
      .chain((at) => fc.constantFrom<unknown>(at, new Date(at).toISOString())),
    key: fc.constant(ADMIN_KEY),
    expires_at: fc.integer({ min: HOUR_MS, max: 1000 * HOUR_MS }).map((ms) => Date.now() + ms),
    notBefore: fc.constantFrom<unknown>('now', null, 0, '2026-01-01T00:00:00Z'),
    days: fc.integer({ min: 1, max: 90 }),
    keyId: fc.constantFrom(...means.keys),
    name: fc.constantFrom('pro', 'free'),
    defaultPlan: fc.constantFrom('default', null),
    from: day,
    to: day,
    // Dollars have at most six decimals.
    ...Object.fromEntries(
      LIMITS.filter(({ unit }) => unit === 'usd').map(({ name }) => [
        name,
        fc.integer({ min: 0, max: 1e12 }).map((micro) => micro / 1e6),
      ]),
    ),
    userId: fc.oneof(fc.constantFrom(...means.users), fc.stringMatching(/^[\w-]{22}$/)),
  }
  /** Credentials are added separately, and a cursor comes from an earlier page. */
  const LEFT_OUT = new Set(['userToken', 'cursor'])

  const values = (given: Schema, name = ''): fc.Arbitrary<unknown> => {
    const schema = resolve(document, given)
    const own = known[name]
    if (own) return own
    if (name === 'model') return fc.oneof({ arbitrary: model, weight: 9 }, strings(schema))
    if (schema.anyOf) return fc.oneof(...schema.anyOf.map((one) => values(one)))
    if ('const' in schema) return fc.constant(schema.const)
    if (schema.enum) return fc.constantFrom(...schema.enum)
    if (Array.isArray(schema.type)) {
      return fc.oneof(...schema.type.map((type) => values({ ...schema, type })))
    }
    switch (schema.type) {
      case 'null':
        return fc.constant(null)
      case 'boolean':
        return fc.boolean()
      case 'number': {
        const { minimum, maximum } = schema
        if (minimum === undefined || maximum === undefined) {
          return fc.double({ noNaN: true, noDefaultInfinity: true })
        }
        // Dollars, which have at most 6 decimals.
        return fc.integer({ min: minimum * 1e6, max: maximum * 1e6 }).map((micro) => micro / 1e6)
      }
      case 'integer': {
        const { exclusiveMinimum = -(2 ** 40), maximum = 2 ** 40 } = schema
        return fc.integer({ min: schema.minimum ?? exclusiveMinimum + 1, max: maximum })
      }
      case 'string':
        return strings(schema)
      case 'array':
        return fc.array(values(schema.items ?? {}), { maxLength: 4 })
      case 'object':
        return objects(schema)
      default:
        return fc.jsonValue({ maxDepth: 2 })
    }
  }

  function strings({ pattern, minLength = 0, maxLength = 60 }: Schema): fc.Arbitrary<string> {
    const length = { minLength, maxLength: Math.min(60, maxLength) }
    if (pattern === undefined || pattern.includes(String.raw`\P`)) return text(length)
    if (pattern.includes(String.raw`\p`)) return fc.constantFrom('Ann', 'Zoë Example')
    return fc.stringMatching(new RegExp(pattern))
  }

  function objects({ properties = {}, required = [], ...schema }: Schema): fc.Arbitrary<object> {
    const { additionalProperties: more, propertyNames } = schema
    const fields = Object.entries(properties).filter(([name]) => !LEFT_OUT.has(name))
    const object = fc.record(
      Object.fromEntries(fields.map(([name, field]) => [name, values(field, name)])),
      { requiredKeys: required.filter((name) => !LEFT_OUT.has(name)) },
    )
    if (more === undefined || typeof more === 'boolean') return object
    if (propertyNames) return fc.dictionary(strings(propertyNames), values(more), { maxKeys: 5 })
    // The body goes to the provider, whatever else it contains.
    const extra = fc.dictionary(fc.constantFrom('temperature', 'seed', 'user'), fc.jsonValue(), {
      maxKeys: 2,
    })
    return fc.tuple(extra, object).map(([others, one]) => ({ ...others, ...one }))
  }

  const credentials = (security: Operation['security']): fc.Arbitrary<Record<string, string>> => {
    const kinds = security.flatMap((one) => Object.keys(one))
    if (kinds.includes('userToken')) {
      const ways = [
        token.map((text) => ({ authorization: `Bearer ${text}` })),
        token.map((text) => ({ 'x-user-token': text })),
        ...(kinds.length < security.length ? [token.map((text) => ({ body: text }))] : []),
      ]
      return fc.oneof(...(ways as fc.Arbitrary<Record<string, string>>[]))
    }
    if (kinds.includes('metricsKey')) return fc.constant({ authorization: `Bearer ${METRICS_KEY}` })
    if (kinds.length === 0)
      return fc.constantFrom<Record<string, string>>({}, { cookie: means.spare })
    return fc.constantFrom<Record<string, string>>(
      { authorization: `Bearer ${ADMIN_KEY}` },
      { cookie: means.cookie },
    )
  }

  const wrongCredentials = fc.oneof(
    fc.constantFrom<Record<string, string>>(
      {},
      { authorization: `Bearer ${ADMIN_KEY}` },
      { 'x-user-token': ADMIN_KEY },
      { authorization: 'Basic dXNlcjpwYXNz' },
      { authorization: 'Bearer' },
      { authorization: 'Bearer short' },
      { cookie: 'weir_session=1.x.y; weir_session=' },
      { cookie: means.spare.slice(0, -9) },
      { cookie: means.spare },
      { authorization: 'Bearer one-of-two-tokens', 'x-user-token': 'two-of-two-tokens' },
    ),
    headerValue.map((value) => ({ authorization: `Bearer ${value}` })),
    headerValue.map((value) => ({ 'x-user-token': value })),
    headerValue.map((value) => ({ cookie: `weir_session=${value}` })),
  )

  const oddHeaders = fc.dictionary(
    fc.constantFrom(
      ...['content-type', 'content-encoding', 'origin', 'sec-fetch-site', 'accept', 'user-agent'],
      ...['x-session-id', 'x-forwarded-for', 'x-forwarded-proto', 'if-none-match', 'range'],
      ...['idempotency-key', 'x-groq-region', 'x-stainless-os', 'openai-organization', 'x-weir-id'],
      ...['access-control-request-method', 'access-control-request-headers', 'cookie', 'te', 'via'],
    ),
    fc.oneof(
      headerValue,
      fc.constantFrom('gzip', 'identity', 'null', 'https', 'cross-site', 'same-origin', '*/*'),
      fc.constantFrom('https://elsewhere.example', '::1', '192.0.2.1, 198.51.100.2', 'text/plain'),
      fc.constantFrom(FORM, 'multipart/form-data; boundary=x', 'application/json;charset=utf-16'),
    ),
    { minKeys: 1, maxKeys: 3 },
  )

  /** A body with a field missing, added or of another type, or a body that is not an object. */
  const mutate = (value: unknown): fc.Arbitrary<Uint8Array> => {
    const fields = typeof value === 'object' && value !== null ? value : {}
    const names = Object.keys(fields)
    const name = fc.constantFrom(...(names.length ? names : ['x']))
    const without = name.map((gone) =>
      Object.fromEntries(Object.entries(fields).filter(([name]) => name !== gone)),
    )
    const added = fc.oneof(
      name,
      name.map((known) => known.toUpperCase()),
      fc.constantFrom('__proto__', 'constructor', 'toString', 'stream', 'n', 'userToken', ''),
      text(),
    )
    const json = fc.oneof(
      without,
      fc.tuple(added, junk).map(([name, value]) => ({ ...fields, [name]: value })),
      junk,
    )
    const whole = JSON.stringify(value)
    const broken = fc.oneof(
      fc.nat(whole.length).map((end) => whole.slice(0, end)),
      fc.constantFrom('', ' ', '{', 'null', '[]', '"', '\ufeff' + whole, `${whole}${whole}`),
      fc.constantFrom('{"a":1,"a":2}', '{"\\u0061":1,"a":2}', '{"prompt":1e999}', '{"\\ud800":1}'),
      fc.constant(`{"prompt":"${'x'.repeat(70_000)}"}`),
      fc.constant(new URLSearchParams({ key: 'no-admin-key', 'a[b]': '%' }).toString()),
    )
    return fc.oneof(
      { arbitrary: json.map((value) => utf8(JSON.stringify(value))), weight: 4 },
      { arbitrary: broken.map(utf8), weight: 2 },
      { arbitrary: fc.uint8Array({ maxLength: 50 }), weight: 1 },
      { arbitrary: fc.constant(new Uint8Array(Buffer.from(whole, 'utf16le'))), weight: 1 },
    )
  }

  const plain = (path: string, method: string, operation: Operation): fc.Arbitrary<Ask> => {
    const parameters = (operation.parameters ?? []).map((one) => resolve(document, one))
    const drawn = (where: string) =>
      fc.record(
        Object.fromEntries(
          parameters
            .filter((one) => one.in === where && !LEFT_OUT.has(one.name))
            .map(({ name, schema }) => [name, values(schema, name)]),
        ),
        {
          requiredKeys: parameters
            .filter((one) => one.in === where && one.required)
            .map(({ name }) => name),
        },
      ) as fc.Arbitrary<Record<string, unknown>>
    const content = Object.entries(operation.requestBody?.content ?? {})
    const body = content.length
      ? fc.oneof(
          ...content.map(([type, { schema = {} }]) =>
            (LINES[type] ? fc.constantFrom(...LINES[type]) : values(schema)).map((value) => ({
              type,
              value: value as Record<string, unknown> | string,
            })),
          ),
        )
      : fc.constant(undefined)
    return fc
      .record({
        body,
        path: drawn('path').filter(({ id }) => !/\.\.|^\.$/.test(String(id))),
        query: drawn('query'),
        session: fc.option(fc.constantFrom('session-1', 'session-2'), { nil: undefined }),
        credentials: credentials(operation.security),
      })
      .map(({ body, path: inPath, query, session, credentials: { body: inBody, ...headers } }) => {
        if (session !== undefined) headers['x-session-id'] = session
        let value = body?.value
        if (inBody !== undefined && value && typeof value !== 'string') {
          if ('messages' in value) headers['x-user-token'] = inBody
          else value = { ...value, userToken: inBody }
        }
        const search = new URLSearchParams(query as Record<string, string>).toString()
        const url = path.replace(/\{(\w+)\}/g, (_, name: string) =>
          encodeURIComponent(String(inPath[name])),
        )
        const ask: Ask = {
          path,
          id: operation.operationId,
          method: method.toUpperCase(),
          url: search ? `${url}?${search}` : url,
          headers,
          wrong: [],
        }
        if (!body || !value) return ask
        const form = body.type === FORM && typeof value !== 'string'
        ask.headers = { ...headers, 'content-type': body.type }
        if (body.type === UPLOAD && typeof value !== 'string') {
          ask.headers['content-type'] = FORM_TYPE
          ask.body = uploadOf(value)
          return ask
        }
        ask.body = utf8(
          form
            ? new URLSearchParams(value as Record<string, string>).toString()
            : typeof value === 'string'
              ? value
              : JSON.stringify(value),
        )
        return ask
      })
  }

  /** The kinds of mistakes. */
  const WAYS: Record<string, (ask: Ask) => fc.Arbitrary<Ask>> = {
    credentials: (ask) =>
      wrongCredentials.map((wrong) => {
        const { authorization, cookie, 'x-user-token': token, ...headers } = ask.headers
        return { ...ask, headers: { ...headers, ...wrong } }
      }),
    body: (ask) => {
      let value: unknown = {}
      try {
        value = JSON.parse(Buffer.from(ask.body ?? []).toString())
      } catch {
        // A form.
      }
      return mutate(value).map((body) => ({ ...ask, body }))
    },
    method: (ask) =>
      fc
        .constantFrom(...METHODS)
        .filter((method) => method !== ask.method)
        .map((method) => ({ ...ask, method })),
    path: (ask) =>
      fc.oneof(
        weird.map((part) => ({ ...ask, url: `${ask.url.split('?')[0]}/${part}` })),
        weird.map((part) => ({
          ...ask,
          url: ask.path.replace(/\{\w+\}|\w+$/, part),
        })),
      ),
    query: (ask) => {
      const [path = '', search] = ask.url.split('?')
      const names = [...new URLSearchParams(search).keys(), 'q', 'cursor']
      return fc
        .tuple(fc.constantFrom(...names), weird, fc.boolean())
        .map(([name, value, alone]) => {
          const rest = search === undefined || alone ? '' : `&${search}`
          return { ...ask, url: `${path}?${name}=${value}${rest}` }
        })
    },
    headers: (ask) => oddHeaders.map((odd) => ({ ...ask, headers: { ...ask.headers, ...odd } })),
  }
  /** Each request has its own address, so that wrong keys do not lock out other requests. */
  const address = fc
    .integer({ min: 1, max: 2 ** 24 })
    .map((n) => `10.${(n >> 16) & 255}.${(n >> 8) & 255}.${n & 255}`)

  const all = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({
      arbitrary: plain(path, method, operation),
      // Many of the admin's routes are alike.
      weight: /^\/api\/admin\/(users|keys|plans|policy|settings)/.test(path) ? 1 : 3,
    })),
  )
  const right = fc.oneof(...all)
  const wrong = fc
    .tuple(
      right,
      address,
      fc.uniqueArray(fc.constantFrom(...Object.keys(WAYS)), { minLength: 1, maxLength: 2 }),
    )
    .chain(([ask, ip, ways]) =>
      ways.reduce<fc.Arbitrary<Ask>>(
        (made, way) => made.chain((ask) => WAYS[way]?.(ask) ?? made),
        fc.constant({
          ...ask,
          headers: { ...ask.headers, 'x-forwarded-for': ip },
          wrong: ways,
        }),
      ),
    )
  return fc.oneof({ arbitrary: right, weight: 2 }, { arbitrary: wrong, weight: 3 })
}

/** A body with a file. */
const uploadOf = (fields: Record<string, unknown>) =>
  formOf(
    Object.entries(fields).map(([name, value]) =>
      name === 'file'
        ? { name, value: `RIFF${String(value)}`, filename: 'a.wav' }
        : { name, value: typeof value === 'string' ? value : JSON.stringify(value) },
    ),
  )

const utf8 = (text: string) => new TextEncoder().encode(text)
