/** `/api/groq`: the simple form, and the transparent proxy under `/openai/v1/`. */
import { Hono } from 'hono/tiny'
import type { AppContext, AppEnv, Deps } from '../context.ts'
import { ApiError } from '../errors.ts'
import { inForm } from '../gateway/audio-answer.ts'
import { readSpeech, readUpload } from '../gateway/audio-body.ts'
import { readProxyRequest } from '../gateway/body.ts'
import { parseForUpstream, rawText, type ParsedBody } from '../gateway/body-json.ts'
import { createCalls } from '../gateway/calls.ts'
import { exchange, type Parts } from '../gateway/exchange.ts'
import type { Incoming } from '../gateway/incoming.ts'
import { createGate } from '../gateway/gate.ts'
import { createRefusalCounter } from '../gateway/refusal-counts.ts'
import { createRelay } from '../gateway/relay.ts'
import { MOST_ADDED, boundaryOf } from '../gateway/multipart.ts'
import { inTurns } from '../gateway/steps.ts'
import { tagOf } from '../gateway/tag.ts'
import { notConfigured } from '../gateway/upstream.ts'
import { IN_PIECES, createBodies, type Bodies } from '../http/bodies.ts'
import { methodNotAllowed } from '../http/methods.ts'
import { uncompressed } from '../http/uncompressed.ts'
import { createUploads } from '../http/uploads.ts'
import type { Caller, Identify } from '../identity/caller.ts'
import type { MeteredRoute } from '../metering/reservation.ts'
import type { Bytes } from '../ports.ts'
import { METERED, UNMETERED, UPLOADS } from '../providers/groq.ts'
import { storeOf } from '../store/required.ts'
import { modelsHandler } from './models.ts'
import { readSimpleForm, simpleAnswer, answerText, toChat } from './simple-form.ts'

/** The request, in the gateway's terms. */
const incomingOf = (c: AppContext, isForUs: boolean): Incoming => ({
  id: c.var.id,
  request: c.req.raw,
  isForUs,
  tag: tagOf(c.req.header('x-weir-tag')),
  waitUntil: (work) => c.executionCtx.waitUntil(work),
})

/** A metered call. `body` is `bytes`, parsed. */
type Served = {
  caller: Caller
  route: MeteredRoute
  bytes: Bytes
  body: ParsedBody
  /** See `Incoming`. */
  isForUs?: boolean
}

/** How many uploads an instance takes in at once. An isolate has little memory. */
const UPLOADS_AT_ONCE = { node: 8, vercel: 2, workerd: 2 }

/** All routes below `/openai/v1/` that take a POST. */
const POSTED = [...METERED, ...UPLOADS, 'audio/speech']

/** The proxy routes. Metered ones need a database and a provider key. */
export function proxyRoutes(deps: Deps, bodies: Bodies, identify: Identify): Hono<AppEnv> {
  const { config } = deps
  const app = new Hono<AppEnv>()
  const relay = createRelay(deps.relay)
  const calls = createCalls()
  const uploads = createUploads(UPLOADS_AT_ONCE[deps.environment.platform], deps.now)
  const audioBodies = createBodies(deps.bodies ?? IN_PIECES, uploads, MOST_ADDED)
  const refusals = createRefusalCounter(deps.now)
  let parts: Parts | undefined

  // Hono would serve a HEAD as a GET and discard the body.
  app.use(async function noHead(c, next) {
    if (c.req.method === 'HEAD') throw methodNotAllowed('HEAD', ['GET', 'POST'])
    await next()
  })

  app.use(async function countRefusals(c, next) {
    await next()
    const { error } = c
    const isRefusal = error instanceof ApiError && error.status < 500 && error.status !== 404
    if (isRefusal && c.req.method === 'POST') refusals.count(error)
  })

  /** The parts of a metered call. Throws `not_configured` or `upstream_not_configured`. */
  function ready(): Parts {
    const store = storeOf(deps)
    if (config.groqKey === undefined) throw notConfigured()
    return (parts ??= { deps, store, gate: createGate(deps, store, refusals), relay, calls })
  }

  async function serve(
    c: AppContext,
    { caller, route, bytes, body, isForUs = false }: Served,
  ): Promise<Response> {
    const request = await inTurns(readProxyRequest(route, bytes, config, body))
    return exchange(incomingOf(c, isForUs), ready(), caller, request)
  }

  /** Reads a body for `answer`. When the answer begins, upstream has the body. */
  async function withBytes<T>(
    c: AppContext,
    answer: (bytes: Bytes, room: number) => Promise<T>,
    { read, most } = { read: bodies, most: config.maxBodyBytes },
  ): Promise<T> {
    uncompressed(c)
    const { bytes, room, release } = await read(c, most)
    try {
      return await answer(bytes, room)
    } finally {
      release()
    }
  }

  /** The same with the body parsed. */
  const withBody = <T>(
    c: AppContext,
    answer: (bytes: Bytes, body: ParsedBody) => Promise<T>,
  ): Promise<T> =>
    withBytes(c, async (bytes) => answer(bytes, await inTurns(parseForUpstream(bytes, config))))

  app.post('/', async (c) => {
    const route = 'chat/completions'
    const { answer, isForm } = await withBody(c, async (bytes, parsed) => {
      if ('messages' in parsed.value) {
        if ('userToken' in parsed.value) throw tokenBesideMessages()
        const caller = await identify(c)
        const answer = await serve(c, { caller, route, bytes, body: parsed })
        return { answer, isForm: false }
      }
      const { userToken, ...form } = await readSimpleForm(parsed.value)
      const caller = await identify(c, userToken)
      const prompt = await inTurns(rawText(parsed, bytes, 'prompt'))
      const chat = toChat(form, config.defaultModel, prompt)
      const answer = await serve(c, { caller, route, ...chat, isForUs: true })
      return { answer, isForm: true }
    })
    return isForm && answer.ok ? simpleAnswer(answer) : answer
  })

  for (const route of METERED) {
    app.post(`/openai/v1/${route}`, async (c) => {
      const caller = await identify(c)
      return withBody(c, (bytes, body) => serve(c, { caller, route, bytes, body }))
    })
  }

  for (const route of UPLOADS) {
    app.post(`/openai/v1/${route}`, async (c) => {
      const caller = await identify(c)
      const type = c.req.header('content-type')
      // Checked before the body, so that a body of the wrong kind is not read.
      boundaryOf(type)
      const { answer, form } = await withBytes(
        c,
        async (bytes, room) => {
          const { request, form } = await inTurns(readUpload(route, type, { bytes, room }, config))
          const incoming = incomingOf(c, form !== undefined)
          return { answer: await exchange(incoming, ready(), caller, request), form }
        },
        { read: audioBodies, most: config.maxAudioBytes },
      )
      return form !== undefined && answer.ok ? inForm(answer, await wholeOf(answer), form) : answer
    })
  }

  app.post('/openai/v1/audio/speech', async (c) => {
    const caller = await identify(c)
    return withBody(c, async (bytes, body) => {
      const request = await inTurns(readSpeech(bytes, body, config))
      return exchange(incomingOf(c, false), ready(), caller, request)
    })
  })

  const models = modelsHandler(deps, identify, relay, calls)
  app.get('/openai/v1/models', models)
  app.get('/openai/v1/models/*', models)

  refuseOthers(app, `${config.basePath}/api/groq`)
  return app
}

/** The text of an answer. Throws `upstream_unreachable` if it is too large or breaks off. */
async function wholeOf(answer: Response): Promise<string> {
  try {
    return await answerText(answer)
  } catch (cause) {
    if (cause instanceof ApiError) throw cause
    throw new ApiError('upstream_unreachable', "The model provider's answer broke off.", { cause })
  }
}

/** Says which calls Weir offers below `at`, for the errors of other calls. */
const offered = (at: string): string =>
  `Under ${at}/openai/v1/ there are POST chat/completions, POST responses, POST embeddings, POST audio/transcriptions, ` +
  `POST audio/translations, POST audio/speech, GET models and ` +
  `GET models/{id}. The base URL of groq-sdk ends with ${at}, that of other clients with ${at}/openai/v1.`

/**
 * Refuses other methods, and calls that Weir does not offer. One route, because each costs a pattern that is compiled at
 * the start and tried with each call.
 */
function refuseOthers(app: Hono<AppEnv>, at: string): void {
  app.all('*', (c) => {
    const [, below = ''] = /^\/api\/groq\/?(.*?)\/?$/.exec(c.req.path) ?? []
    const [, path] = /^openai\/v1\/(.+)$/.exec(below) ?? []
    const isWithin = (group: string) => path === group || path?.startsWith(`${group}/`) === true
    if (isWithin('models')) throw methodNotAllowed(c.req.method, ['GET'])
    if (below === '' || POSTED.some((route) => route === path)) {
      throw methodNotAllowed(c.req.method, ['POST'])
    }
    const unmetered = UNMETERED.find(isWithin)
    throw new ApiError(
      'not_found',
      unmetered === undefined
        ? `This path is not offered. ${offered(at)}`
        : `${unmetered} answers have no token usage, so they cannot be metered and are not offered here.`,
    )
  })
}

const tokenBesideMessages = () =>
  new ApiError(
    'invalid_request',
    'A body with `messages` is sent to the provider unchanged: send the user token in the `x-user-token` header.',
    { param: 'userToken' },
  )
