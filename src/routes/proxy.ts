/** `/api/groq`: the simple form, and the transparent proxy under `/openai/v1/`. */
import { Hono } from 'hono/tiny'
import type { AppContext, AppEnv, Deps } from '../context.ts'
import { ApiError } from '../errors.ts'
import { parseBody, readProxyRequest } from '../gateway/body.ts'
import { exchange, type Incoming, type Parts } from '../gateway/exchange.ts'
import { createGate } from '../gateway/gate.ts'
import { createRelay } from '../gateway/relay.ts'
import { notConfigured } from '../gateway/upstream.ts'
import { limitBody } from '../http/limit-body.ts'
import { methodNotAllowed } from '../http/methods.ts'
import { uncompressed } from '../http/uncompressed.ts'
import { createIdentify, type Caller } from '../identity/caller.ts'
import type { MeteredRoute } from '../metering/reservation.ts'
import type { Bytes } from '../ports.ts'
import { METERED, UNMETERED } from '../providers/groq.ts'
import { storeOf } from '../store/required.ts'
import { modelsHandler } from './models.ts'
import { readSimpleForm, simpleAnswer, toChat } from './simple-form.ts'

/** The request, in the gateway's terms. */
const incoming = (c: AppContext): Incoming => ({
  id: c.var.id,
  request: c.req.raw,
  waitUntil: (work) => c.executionCtx.waitUntil(work),
})

/** The proxy routes. Metered ones need a database and a provider key. */
export function proxyRoutes(deps: Deps): Hono<AppEnv> {
  const { config } = deps
  const app = new Hono<AppEnv>()
  const identify = createIdentify(deps)
  const relay = createRelay(deps.relay)
  let parts: Parts | undefined
  const limited = limitBody(config.maxBodyBytes)

  // Hono would serve a HEAD as a GET and discard the body.
  app.use(async function noHead(c, next) {
    if (c.req.method === 'HEAD') throw methodNotAllowed('HEAD', ['GET', 'POST'])
    await next()
  })

  /** The parts of a metered call. Throws `not_configured` or `upstream_not_configured`. */
  function ready(): Parts {
    const store = storeOf(deps)
    if (config.groqKey === undefined) throw notConfigured()
    return (parts ??= { deps, store, gate: createGate(deps, store), relay })
  }

  const serve = (c: AppContext, caller: Caller, route: MeteredRoute, bytes: Bytes) =>
    exchange(incoming(c), ready(), caller, readProxyRequest(route, bytes, config))

  app.post('/', limited, async (c) => {
    const bytes = await readBytes(c)
    const body = parseBody(bytes)
    if ('messages' in body) {
      if ('userToken' in body) throw tokenBesideMessages()
      const caller = await identify(c)
      return serve(c, caller, 'chat/completions', bytes)
    }
    const { userToken, ...form } = readSimpleForm(body)
    const caller = await identify(c, userToken)
    const chat = new TextEncoder().encode(JSON.stringify(toChat(form, config.defaultModel)))
    const answer = await serve(c, caller, 'chat/completions', chat)
    return answer.ok ? simpleAnswer(answer) : answer
  })

  for (const route of METERED) {
    app.post(`/openai/v1/${route}`, limited, async (c) => {
      const caller = await identify(c)
      return serve(c, caller, route, await readBytes(c))
    })
  }

  const models = modelsHandler(deps, identify, relay)
  app.get('/openai/v1/models', models)
  app.get('/openai/v1/models/*', models)

  refuseOthers(app, `${config.basePath}/api/groq`)
  return app
}

/** What is offered, for those who ask for something else. `at` is where. */
const offered = (at: string): string =>
  `Under ${at}/openai/v1/ there are POST chat/completions, POST responses, POST embeddings, GET models and ` +
  `GET models/{id}. The base URL of groq-sdk ends with ${at}, that of other clients with ${at}/openai/v1.`

/** Refuses other methods, and calls that Weir does not offer. */
function refuseOthers(app: Hono<AppEnv>, at: string): void {
  for (const path of ['/', '/openai/v1/models', ...METERED.map((route) => `/openai/v1/${route}`)]) {
    app.all(path, (c) => {
      throw methodNotAllowed(c.req.method, [path.endsWith('models') ? 'GET' : 'POST'])
    })
  }
  app.all('/openai/v1/models/*', (c) => {
    throw methodNotAllowed(c.req.method, ['GET'])
  })
  for (const path of UNMETERED) {
    for (const pattern of [`/openai/v1/${path}`, `/openai/v1/${path}/*`]) {
      app.all(pattern, () => {
        throw new ApiError(
          'not_found',
          `${path} answers have no token usage, so they cannot be metered and are not offered here.`,
        )
      })
    }
  }
  app.all('*', () => {
    throw new ApiError('not_found', `This path is not offered. ${offered(at)}`)
  })
}

/** The unchanged bytes of the body. Throws `unsupported_encoding`. */
async function readBytes(c: AppContext): Promise<Bytes> {
  await uncompressed(c)
  return new Uint8Array(await c.req.arrayBuffer())
}

const tokenBesideMessages = () =>
  new ApiError(
    'invalid_request',
    'A body with `messages` is sent to the provider unchanged: send the user token in the `x-user-token` header.',
    { param: 'userToken' },
  )
