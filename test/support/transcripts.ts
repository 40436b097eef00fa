import { readFileSync } from 'node:fs'

type Route = 'chat/completions' | 'responses' | 'embeddings' | 'models' | 'models/{id}'

type Usage = {
  prompt: number
  completion: number
  total: number
  cached?: number
  reasoning?: number
}

export type Transcript = {
  name: string
  route: Route
  status: number
  headers: Record<string, string>
  body: Uint8Array<ArrayBuffer>
  stream: boolean
  /** The usage that a meter must record, written by hand; undefined if the answer reports none. */
  usage?: Usage
  /** Data events with a delta, also the empty one of the finish chunk. */
  deltas: number
}

const network = {
  vary: 'Origin',
  'x-groq-region': 'fra',
  'set-cookie':
    '__cf_bm=Zml4dHVyZQ-1786000000-1.0.1.1-fixture; path=/; HttpOnly; Secure; SameSite=None',
  'alt-svc': 'h3=":443"; ma=86400',
  'strict-transport-security': 'max-age=15552000',
}

const limits = {
  'x-ratelimit-limit-requests': '14400',
  'x-ratelimit-limit-tokens': '18000',
  'x-ratelimit-remaining-requests': '14370',
  'x-ratelimit-remaining-tokens': '17997',
  'x-ratelimit-reset-requests': '2m59.56s',
  'x-ratelimit-reset-tokens': '7.66s',
}

const json = {
  'content-type': 'application/json',
  'cache-control': 'private, max-age=0, no-store, no-cache, must-revalidate',
}

const events = { 'content-type': 'text/event-stream', 'cache-control': 'no-cache' }

type Facts = {
  route?: Route
  request: string
  status?: number
  headers?: Record<string, string>
  usage?: Usage
  deltas?: number
}

function read(file: string, facts: Facts, name = file.replace(/\.\w+$/, '')): Transcript {
  const { route = 'chat/completions', status = 200, usage, deltas = 0 } = facts
  const stream = file.endsWith('.sse')
  return {
    name,
    route,
    status,
    headers: {
      ...(stream ? events : json),
      ...(route.startsWith('models') ? {} : limits),
      'x-request-id': `req_01k00000000000000000000${facts.request}`,
      ...network,
      ...facts.headers,
    },
    body: new Uint8Array(readFileSync(new URL(`./transcripts/${file}`, import.meta.url))),
    stream,
    ...(usage && { usage }),
    deltas,
  }
}

export const transcripts = {
  plain: read('plain.json', {
    request: 'f01',
    usage: { prompt: 16, completion: 19, total: 35 },
  }),
  'plain-details': read('plain-details.json', {
    request: 'f01',
    usage: { prompt: 16, completion: 19, total: 35, cached: 8, reasoning: 12 },
  }),
  stream: read('stream.sse', {
    request: 'f02',
    usage: { prompt: 339, completion: 58, total: 397, reasoning: 38 },
    deltas: 7,
  }),
  'stream-include-usage': read('stream-include-usage.sse', {
    request: 'f03',
    usage: { prompt: 75, completion: 1, total: 76 },
    deltas: 2,
  }),
  'tool-call': read('tool-call.sse', {
    request: 'f04',
    usage: { prompt: 304, completion: 49, total: 353, reasoning: 23 },
    deltas: 4,
  }),
  'rate-limited': read('rate-limited.json', {
    request: 'f05',
    status: 429,
    headers: {
      'retry-after': '6',
      'x-ratelimit-limit-tokens': '15000',
      'x-ratelimit-remaining-tokens': '0',
      'x-ratelimit-reset-tokens': '5.289s',
    },
  }),
  'mid-stream-error': read('mid-stream-error.sse', { request: 'f06', deltas: 3 }),
  multibyte: read('multibyte.sse', {
    request: 'cc1',
    usage: { prompt: 91, completion: 47, total: 138, cached: 64, reasoning: 11 },
    deltas: 17,
  }),
  crlf: read('crlf.sse', {
    request: 'f02',
    usage: { prompt: 339, completion: 58, total: 397, reasoning: 38 },
    deltas: 7,
  }),
  'old-stream': read('old-stream.sse', {
    request: 'cc2',
    usage: { prompt: 18, completion: 9, total: 27 },
    deltas: 7,
  }),
  compound: read('compound.json', {
    request: 'cc3',
    usage: { prompt: 1000, completion: 104, total: 1104, cached: 256, reasoning: 32 },
  }),
  responses: read('responses.json', {
    route: 'responses',
    request: 'cc4',
    usage: { prompt: 82, completion: 27, total: 109, cached: 32, reasoning: 14 },
  }),
  'responses-stream': read(
    'responses.sse',
    {
      route: 'responses',
      request: 'cc5',
      usage: { prompt: 79, completion: 31, total: 110, cached: 64, reasoning: 16 },
      deltas: 6,
    },
    'responses-stream',
  ),
  'responses-incomplete': read('responses-incomplete.sse', {
    route: 'responses',
    request: 'cc6',
    usage: { prompt: 77, completion: 8, total: 85, cached: 0, reasoning: 3 },
    deltas: 3,
  }),
  embeddings: read('embeddings.json', {
    route: 'embeddings',
    request: 'cc7',
    usage: { prompt: 6, completion: 0, total: 6 },
  }),
  /** Guard models report no total. */
  guard: read('guard.json', {
    request: 'cca',
    usage: { prompt: 13, completion: 0, total: 13 },
  }),
  models: read('models.json', { route: 'models', request: 'cc8' }),
  model: read('model.json', { route: 'models/{id}', request: 'cc9' }),
} satisfies Record<string, Transcript>
