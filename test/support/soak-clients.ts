/**
 * The clients of the soak: users who send requests, leave early and make mistakes, browsers that sync, and admins who
 * watch and block.
 */
import { createHash } from 'node:crypto'
import { setMaxListeners } from 'node:events'
import { Agent } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { createIds } from '../../src/identity/ids.ts'
import { nextDay } from '../../src/ledger/windows.ts'
import { BEARER, SAME_ORIGIN } from './admin.ts'
import { call, type Call, type Heard } from './client.ts'
import { ADMIN_KEY } from './gateways.ts'
import type { Random } from './random.ts'
import { ANSWERS, receivedIn } from './soak-upstream.ts'

/** A request for tokens, and its answer. */
export type Asked = {
  marker: string
  kind: string
  /** The ids in the ledger. */
  user: string
  session: string
  model: string
  left: boolean
  /** The answer broke off, or the connection broke before the answer. */
  broke: boolean
  status?: number
  /** The gateway's id of the request. */
  id?: string
  degraded: boolean
  /** The code, if the gateway itself made the error. */
  code?: string
  /** The digest of the body, as far as it came. */
  digest: string
  /** Tokens, estimated from the text that came. */
  received: number
  /** The usage that the simple form reported. */
  told?: number
  /** The request is a mistake, and must be refused with this status. */
  refusal?: number
}

export type Clients = {
  asked: Asked[]
  /** Requests of each kind. */
  counts: Map<string, number>
  wrong: string[]
  /** Stops, after the running requests have their answers. */
  stop(): Promise<void>
}

export type ClientOptions = {
  url: string
  secret: string
  random: () => Random
  /** Users that send requests at the same time. */
  slots: number
  /** The longest that a request may take. */
  requestMs: number
  /**
   * The average time between two syncs, two visits of an admin and so on, in ms. A user waits at most an eighth of it.
   */
  paceMs: number
}

const USERS = 12
/** This user is blocked and unblocked again and again. */
const BLOCKED = 0
/** The text of an answer this large shows nothing more. */
const KEPT_BYTES = 1024 * 1024
/** Time beyond the deadline of a request, for a busy machine. */
const PATIENCE_MS = 30_000

const JSON_TYPE = { 'content-type': 'application/json' }
const CHAT = '/api/groq/openai/v1/chat/completions'
const tokenOf = (user: number) => `token-of-user-${user}`

type Form = { kind: string; path: string; body: Record<string, unknown> }

const FORMS: ((model: string, marker: string, text: string, max: number) => Form)[] = [
  ...[false, true].flatMap((stream) => {
    const kind = stream ? 'stream' : 'plain'
    return [
      (model: string, user: string, content: string, max_tokens: number): Form => ({
        ...{ kind, path: CHAT },
        body: { model, stream, max_tokens, user, messages: [{ role: 'user', content }] },
      }),
      // No maximum is sent.
      (model: string, user: string, content: string): Form => ({
        ...{ kind, path: CHAT },
        body: { model, stream, user, messages: [{ role: 'user', content }] },
      }),
      (model: string, user: string, input: string, max_output_tokens: number): Form => ({
        ...{ kind: `responses ${kind}`, path: '/api/groq/openai/v1/responses' },
        body: { model, stream, max_output_tokens, user, input },
      }),
    ]
  }),
  (model, user, input) => ({
    ...{ kind: 'embeddings', path: '/api/groq/openai/v1/embeddings' },
    body: { model, user, input: [input] },
  }),
  (model, marker, text, max_tokens) => ({
    ...{ kind: 'simple', path: '/api/groq' },
    body: { model, max_tokens, prompt: `${marker} ${text}` },
  }),
]

/** Requests with a mistake, which are refused. */
const BAD: ((marker: string) => Call & { path?: string; refusal: number })[] = [
  () => ({ refusal: 400, body: '{"model":' }),
  () => ({ refusal: 400, body: '[]' }),
  (user) => ({ refusal: 400, body: JSON.stringify({ model: 'm/well', user, messages: 'none' }) }),
  (user) => ({ refusal: 400, body: `{"model":"m/well","Model":"m/well","user":"${user}"}` }),
  (user) => ({
    ...{ refusal: 400, body: JSON.stringify({ model: 'm/well', user, messages: [], n: 0 }) },
  }),
  (user) => ({ refusal: 403, body: JSON.stringify({ model: 'other/well', user, messages: [] }) }),
  () => ({ refusal: 401, headers: { authorization: 'Bearer short' }, body: '{}' }),
  () => ({ refusal: 401, headers: { authorization: '' }, body: '{}' }),
  () => ({ refusal: 405, method: 'PUT' as const, body: '{}' }),
  () => ({ refusal: 404, path: '/api/groq/openai/v1/batches', body: '{}' }),
  () => ({ refusal: 413, body: JSON.stringify({ model: 'm/well', pad: 'x'.repeat(300_000) }) }),
  () => ({ refusal: 415, headers: { 'content-encoding': 'gzip' }, body: '{}' }),
]

/** Starts the clients. */
export function startClients(options: ClientOptions): Clients {
  const { url, secret, random: newRandom, slots, requestMs, paceMs } = options
  const agent = new Agent({ keepAlive: true })
  const ids = createIds(secret)
  const asked: Asked[] = []
  const counts = new Map<string, number>()
  const wrong: string[] = []
  const stopping = new AbortController()
  // Each client adds a listener.
  setMaxListeners(0, stopping.signal)
  const stopped = () => stopping.signal.aborted
  let markers = 0
  const newMarker = () => `request-${(markers += 1)}`

  const count = (kind: string) => counts.set(kind, (counts.get(kind) ?? 0) + 1)
  const pause = (ms: number) =>
    sleep(ms, undefined, { signal: stopping.signal }).catch(() => undefined)

  /** A client that waits too long for the end of an answer leaves, and reports it. */
  async function hear(path: string, what: Call): Promise<Heard> {
    const { leave = requestMs + PATIENCE_MS } = what
    const heard = await call(`${url}${path}`, { agent, ...what, leave })
    if (heard.left && what.leave === undefined) wrong.push(`no end of ${path}`)
    return heard
  }

  async function ask(
    { marker, kind, model, user }: Pick<Asked, 'marker' | 'kind' | 'model'> & { user: number },
    path: string,
    what: Call,
  ): Promise<Asked> {
    const hash = createHash('sha1')
    const pieces: Buffer[] = []
    let bytes = 0
    count(kind)
    const { left, status, headers, broke } = await hear(path, {
      ...what,
      headers: {
        ...{ ...JSON_TYPE, authorization: `Bearer ${tokenOf(user)}`, 'x-session-id': marker },
        ...what.headers,
      },
      take(piece) {
        hash.update(piece)
        bytes += piece.length
        if (bytes < KEPT_BYTES) pieces.push(piece)
      },
    })
    const body = Buffer.concat(pieces)
    const text = body.toString('latin1')
    const one: Asked = {
      ...{ marker, kind, model, left, broke: broke !== undefined },
      ...{ user: await ids.user(tokenOf(user)), session: await ids.session(marker) },
      ...{ degraded: headers['x-weir-degraded'] === '1', digest: hash.digest('hex') },
      received: receivedIn(body, String(headers['content-type'])),
      ...(status !== undefined && { status, id: String(headers['x-weir-id']) }),
    }
    if (!left && status !== undefined && status >= 400) {
      const [, code] = /"code":"(\w+)",(?:"param":"[^"]*",)?"id":/.exec(text) ?? []
      if (code !== undefined) one.code = code
    }
    if (kind === 'simple' && status === 200) {
      const [, prompt, completion] =
        /"prompt_tokens":(\d+),"completion_tokens":(\d+)/.exec(text) ?? []
      one.told = Number(prompt) + Number(completion)
    }
    asked.push(one)
    return one
  }

  const names = Object.keys(ANSWERS)
  /** Every answer is used once by a client that stays, so that none is left out; then as often as its share says. */
  const first = [...names]
  const total = Object.values(ANSWERS).reduce((sum, { share }) => sum + share, 0)
  function draw(random: Random): string {
    let at = random.next() * total
    return names.find((name) => (at -= ANSWERS[name]?.share ?? 0) < 0) ?? 'well'
  }

  async function question(random: Random): Promise<void> {
    const isFirst = first.length > 0
    const name = first.shift() ?? draw(random)
    const model = `m/${name}`
    const marker = newMarker()
    const text = 'word '.repeat(random.int(1, random.pick([20, 400])))
    const form = random.pick(FORMS)(model, marker, text, random.int(1, 900))
    const leaves = !isFirst && random.chance(0.1)
    const leave = random.chance(0.4) ? 'first bytes' : random.int(0, 400)
    const { kind, path } = form
    const user = isFirst ? BLOCKED + 1 : random.int(0, USERS - 1)
    await ask({ marker, kind, model, user }, path, {
      body: JSON.stringify(form.body),
      ...(leaves && { leave }),
      ...(name === 'floods' && { deaf: true, leave: random.int(500, 1.2 * requestMs) }),
    })
  }

  async function mistake(random: Random): Promise<void> {
    const marker = newMarker()
    const about = { marker, model: '', user: random.int(0, USERS - 1) }
    if (random.chance(0.2)) {
      // Sends half a request and leaves.
      const headers = { 'content-length': '1000' }
      const what: Call = { headers, body: '{"model":', leave: 50 }
      return void (await ask({ ...about, kind: 'half' }, CHAT, what))
    }
    const { path = CHAT, refusal, ...what } = random.pick(BAD)(marker)
    const one = await ask({ ...about, kind: 'bad' }, path, what)
    one.refusal = refusal
  }

  async function user(): Promise<void> {
    const random = newRandom()
    while (!stopped()) {
      await (random.chance(0.08) ? mistake(random) : question(random))
      await pause(random.int(0, paceMs / 8))
    }
  }

  /** Repeats an action whose answer must have one of these statuses, or 503 without the database. */
  async function errand(
    kind: string,
    statuses: number[],
    run: (random: Random) => Promise<Heard | undefined>,
  ): Promise<void> {
    const random = newRandom()
    while (!stopped()) {
      const heard = await run(random)
      if (heard) {
        count(kind)
        const { status, broke } = heard
        if (status === undefined || broke || ![...statuses, 503].includes(status)) {
          wrong.push(`${kind} got ${status} ${broke?.message ?? ''}`)
        }
      }
      await pause(paceMs * (0.5 + random.next()))
    }
  }

  const get = (path: string, headers: Record<string, string> = BEARER) =>
    hear(path, { method: 'GET', headers })
  const post = (path: string, body: object, headers: Record<string, string>) =>
    hear(path, { headers: { ...JSON_TYPE, ...headers }, body: JSON.stringify(body) })

  let tokens = 0
  const sync = async (random: Random) => {
    const day = { tokens: (tokens += 10), requests: 1, resetAt: nextDay(Date.now()) }
    const modelUsage = { [`m/${random.pick(names)}`]: { day } }
    return post('/api/tracking/sync', { modelUsage }, { 'x-user-token': tokenOf(random.int(1, 9)) })
  }

  /** A browser with the open dashboard, which reloads what has changed, as src/views/assets/admin.js does. */
  let cookie: string | undefined
  let etag = ''
  const watch = async (random: Random) => {
    if (cookie === undefined) {
      const { headers, ...heard } = await post('/api/admin/login', { key: ADMIN_KEY }, SAME_ORIGIN)
      cookie = headers['set-cookie']?.[0]?.split(';', 1)[0]
      return { ...heard, headers }
    }
    const live = { 'x-weir-live': '1', 'if-none-match': etag }
    const heard = await get('/admin', { cookie, ...SAME_ORIGIN, ...(random.chance(0.8) && live) })
    etag = heard.headers.etag ?? etag
    return heard
  }

  const READS = [
    '/api/admin/usage?limit=50',
    '/api/admin/usage?sort=tokens',
    '/api/tokens?action=all',
    '/api/admin/export?kind=users&format=csv',
    '/api/test',
  ]
  let blocked = false
  const block = async () => {
    blocked = !blocked
    const userId = await ids.user(tokenOf(BLOCKED))
    return post('/api/admin/usage', { userId, model: '*', blocked }, { ...BEARER, ...SAME_ORIGIN })
  }

  const working = [
    ...Array.from({ length: slots }, user),
    errand('sync', [200, 429], sync),
    errand('dashboard', [200, 304], watch),
    errand('usage', [200], (random) => get(random.pick(READS))),
    errand('block', [200], block),
    errand('models', [200], () =>
      get('/api/groq/openai/v1/models', { authorization: `Bearer ${tokenOf(1)}` }),
    ),
  ]
  const all = Promise.all(working)
  // It is awaited at the end, which may be much later.
  all.catch((error: unknown) => wrong.push(`a client failed: ${String(error)}`))
  return {
    ...{ asked, counts, wrong },
    async stop() {
      stopping.abort()
      await all
      agent.destroy()
    },
  }
}
