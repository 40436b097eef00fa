/**
 * The OpenAPI document, made from the schemas that the routes validate with. To write the served file and the
 * page that shows it, run `npx tsx scripts/openapi.ts`.
 * https://spec.openapis.org/oas/v3.1.1.html
 */
import { writeFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import * as z from 'zod/mini'
import { license, version } from '../package.json'
import { CODES, type ErrorCode } from '../src/errors.ts'
import { SESSION_COOKIE } from '../src/identity/sessions.ts'
import { ADMIN_PATHS } from './openapi/admin-paths.ts'
import { PATHS } from './openapi/paths.ts'
import type { Operation, Tag } from './openapi/operation.ts'
import { providerError } from './openapi/proxy-schemas.ts'
import { text, words } from './openapi/words.ts'
import { referencePage, type Reference } from './reference.tsx'

export type Json = { [key: string]: unknown }

const ABOUT = `
A small gateway in front of an OpenAI-compatible API: it meters every user, enforces a cap per user, and passes
bytes through unchanged.

A **user token** is a string of 8 to 512 printable ASCII characters or, where \`USER_TOKENS\` has \`signed\`, a JSON Web Token of at most 8,192. Send it as \`Authorization: Bearer\` or in
\`x-user-token\`, or in the \`userToken\` field of a body that has one. Two different tokens in one request are an error.
The **admin** uses a session, or sends the admin key as \`Authorization: Bearer\`.

A path answers methods that are not described here with 405 \`method_not_allowed\` and \`allow\`; where a GET is described,
HEAD works as well, but not for what is streamed. Other paths answer 404 \`not_found\`, WebSocket handshakes 426 \`upgrade_required\`. Routes for users answer CORS preflights.
The pages for people, at \`/\`, \`/usage\` and \`/admin\`, are not described, since they are made to be looked at.
`.trim()

const TAGS: Record<Tag, string> = {
  Proxy: 'The API of the provider. Weir passes everything else through unchanged.',
  Usage: 'What a caller has used and has left.',
  Tracking: 'For the tracker of a web page.',
  Admin: 'For the admins of the gateway.',
  History: 'Totals by day.',
  Health: 'The state of the gateway.',
}

const HEADERS: Record<string, { told: string; always?: true }> = {
  'x-weir-id': {
    told: 'The id of the request and of its usage event.',
    always: true,
  },
  'x-weir-degraded': {
    told: '`1`: the database is away, and limits are held by this instance alone.',
  },
  'x-weir-max-completion-tokens': {
    told: 'The completion maximum that Weir wrote into the request.',
  },
  ratelimit: {
    told: 'What is left under the user’s limits: draft-ietf-httpapi-ratelimit-headers.',
  },
  'ratelimit-policy': { told: 'The limits of the user with this model.' },
  'server-timing': { told: 'Milliseconds at the gate, and to the first byte of the provider.' },
  'retry-after': {
    told: 'Seconds until a retry may succeed; not sent if that takes longer than a minute.',
  },
  'x-should-retry': { told: '`false`: another try soon would be refused as well.' },
  location: { told: 'The next page.' },
  'set-cookie': { told: 'The session.' },
  'content-disposition': { told: 'A name for the file.' },
}
const METERED_HEADERS = [
  'x-weir-degraded',
  'x-weir-max-completion-tokens',
  'ratelimit',
  'ratelimit-policy',
  'server-timing',
]

const SECURITY = {
  userToken: { type: 'http', scheme: 'bearer', description: 'A user token.' },
  userTokenHeader: {
    type: 'apiKey',
    in: 'header',
    name: 'x-user-token',
    description: 'A user token.',
  },
  adminKey: { type: 'http', scheme: 'bearer', description: 'The admin key.' },
  metricsKey: { type: 'http', scheme: 'bearer', description: '`METRICS_KEY`.' },
  adminSession: {
    type: 'apiKey',
    in: 'cookie',
    name: SESSION_COOKIE,
    description: `The cookie of a login; over https its name is \`__Host-${SESSION_COOKIE}\`.`,
  },
}
const CREDENTIALS: Record<Operation['who'], Json[]> = {
  user: [{ userToken: [] }, { userTokenHeader: [] }],
  'user, also in the body': [{ userToken: [] }, { userTokenHeader: [] }, {}],
  admin: [{ adminKey: [] }, { adminSession: [] }],
  metrics: [{ metricsKey: [] }],
  anyone: [],
}

const refTo = (kind: 'schemas' | 'responses' | 'headers' | 'parameters', name: string) => ({
  $ref: `#/components/${kind}/${name}`,
})

/** The style of JSON Schema: no information that is stated elsewhere, and no bounds that only mean "exact in JSON". */
const OPTIONS = {
  io: 'input',
  metadata: words,
  override({ jsonSchema }: { jsonSchema: Json }) {
    if (jsonSchema.maximum === Number.MAX_SAFE_INTEGER) delete jsonSchema.maximum
    if (jsonSchema.minimum === Number.MIN_SAFE_INTEGER) delete jsonSchema.minimum
    if (jsonSchema.default === Number.MAX_SAFE_INTEGER) delete jsonSchema.default
    if (jsonSchema.format !== undefined) delete jsonSchema.pattern
  },
} as const

/** The schemas that have names. */
function namedSchemas(): Json {
  const uri = (id: string) => refTo('schemas', id).$ref
  const { schemas } = z.toJSONSchema(words, { ...OPTIONS, uri })
  return Object.fromEntries(
    Object.entries(schemas as Record<string, Json>)
      .map(([name, { $schema, $id, id, ...schema }]) => [name, schema] as const)
      .sort(([a], [b]) => (a < b ? -1 : 1)),
  )
}

/** A reference to a named schema, or the schema itself. */
function schemaOf(schema: z.core.$ZodType): Json {
  const id = words.get(schema)?.id
  if (id !== undefined) return refTo('schemas', id)
  const { $schema, ...rest } = z.toJSONSchema(schema, OPTIONS)
  return rest
}

const contentOf = (content: Record<string, z.core.$ZodType>) =>
  Object.fromEntries(
    Object.entries(content).map(([type, schema]) => [type, { schema: schemaOf(schema) }]),
  )

const headersOf = (...names: string[]) =>
  Object.fromEntries(['x-weir-id', ...names].map((name) => [name, refTo('headers', name)]))

function parametersOf({ path, query, provider }: Operation): Json[] {
  const fields = (where: 'path' | 'query', object: z.ZodMiniObject | undefined): Json[] => {
    if (!object) return []
    const { properties = {}, required = [] } = z.toJSONSchema(object, OPTIONS)
    return Object.entries(properties as Record<string, Json>).map(
      ([name, { description, ...schema }]) => ({
        name,
        in: where,
        description,
        required: required.includes(name),
        schema,
      }),
    )
  }
  const session = provider === 'metered' ? [refTo('parameters', 'x-session-id')] : []
  return [...fields('path', path), ...fields('query', query), ...session]
}

type Responses = Record<string, Json>

/** The answer for some codes of one status. */
function errorResponse(
  status: number,
  codes: ErrorCode[],
  { provider, pages }: Pick<Operation, 'provider' | 'pages'>,
): Json {
  const own = {
    ...refTo('schemas', 'Error'),
    properties: { error: { properties: { code: { enum: codes } } } },
  }
  const list = codes.map((code) => `\`${code}\``).join(', ')
  const names = [
    ...(provider === 'metered' ? METERED_HEADERS : []),
    ...(status === 429 ? ['retry-after', 'x-should-retry'] : []),
  ]
  return {
    description: provider ? `${list}, or the provider’s error.` : `${list}.`,
    headers: headersOf(...names),
    content: {
      'application/json': {
        schema: provider ? { anyOf: [own, schemaOf(providerError)] } : own,
      },
      ...(pages && { 'text/html': { schema: schemaOf(text) } }),
    },
  }
}

/** The errors of an operation, by status. Equal errors of several operations share one component. */
function errorsOf({ errors, provider, pages }: Operation, shared: Responses): Responses {
  const codes: ErrorCode[] = [...new Set<ErrorCode>([...errors, 'internal_error'])].sort()
  const statuses = [...new Set(codes.map((code) => CODES[code][0]))]
  const own = statuses.map((status) => {
    const those = codes.filter((code) => CODES[code][0] === status)
    const name = [...those, provider, pages && 'page'].filter(Boolean).join('.')
    shared[name] = errorResponse(status, those, { provider, pages })
    return [String(status), refTo('responses', name)] as const
  })
  if (!provider) return Object.fromEntries(own)
  const name = `provider.${provider}`
  shared[name] = {
    description: 'An error of the provider.',
    headers: headersOf(...(provider === 'metered' ? METERED_HEADERS : []), 'retry-after'),
    content: { 'application/json': { schema: schemaOf(providerError) }, '*/*': {} },
  }
  const ranges = ['4XX', '5XX'].map((range) => [range, refTo('responses', name)] as const)
  return Object.fromEntries([...own, ...ranges])
}

function operationOf(operation: Operation, shared: Responses): Json {
  const { id, tag, summary, description, who, body, answers, provider } = operation
  const parameters = parametersOf(operation)
  const told = Object.entries(answers).map(([status, { told, content, headers = [] }]) => [
    status,
    {
      description: told,
      headers: headersOf(...headers, ...(provider === 'metered' ? METERED_HEADERS : [])),
      ...(content && { content: contentOf(content) }),
    },
  ])
  return {
    operationId: id,
    tags: [tag],
    summary,
    ...(description !== undefined && { description }),
    security: CREDENTIALS[who],
    ...(parameters.length && { parameters }),
    ...(body && { requestBody: { required: true, content: contentOf(body) } }),
    responses: { ...Object.fromEntries(told), ...errorsOf(operation, shared) },
  }
}

/** Builds the document. */
export function openapi(): Json {
  const responses: Responses = {}
  const paths = Object.fromEntries(
    Object.entries({ ...PATHS, ...ADMIN_PATHS }).map(([path, methods]) => [
      path,
      Object.fromEntries(
        Object.entries(methods).map(([method, operation]) => [
          method,
          operationOf(operation, responses),
        ]),
      ),
    ]),
  )
  const headers = Object.entries(HEADERS).map(([name, { told, always = false }]) => [
    name,
    { description: told, ...(always && { required: true }), schema: { type: 'string' } },
  ])
  return {
    openapi: '3.1.1',
    info: {
      title: 'Weir',
      version,
      description: ABOUT,
      license: { name: license, identifier: license },
    },
    servers: [{ url: '/', description: 'The host of this document.' }],
    tags: Object.entries(TAGS).map(([name, description]) => ({ name, description })),
    paths,
    components: {
      securitySchemes: SECURITY,
      parameters: {
        'x-session-id': {
          name: 'x-session-id',
          in: 'header',
          description: 'Weir counts sessions by day, under a hash.',
          schema: { type: 'string' },
        },
      },
      headers: Object.fromEntries(headers),
      responses: Object.fromEntries(Object.entries(responses).sort(([a], [b]) => (a < b ? -1 : 1))),
      schemas: namedSchemas(),
    },
  }
}

/** The text of the served file. */
export const openapiText = (): string => `${JSON.stringify(openapi(), null, 2)}\n`

/** The text of the page that shows it. */
export const referenceText = (): string => referencePage(openapi() as Reference)

/** The URL path. The file is at the same path below static/. */
export const OPENAPI_PATH = '/api/openapi.json'

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await writeFile(new URL(`../static${OPENAPI_PATH}`, import.meta.url), openapiText())
  await writeFile(new URL('../static/reference.html', import.meta.url), referenceText())
}
