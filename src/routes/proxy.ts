/** `/api/groq`: the simple form, and the transparent proxy under `/openai/v1/`. */
import { Hono } from 'hono/tiny'
import * as z from 'zod/mini'
import type { AppContext, AppEnv, Deps } from '../context.ts'
import { ApiError } from '../errors.ts'
import { createIdentify } from '../middleware/caller.ts'
import { createGate } from '../middleware/gate.ts'
import { limitBody } from '../middleware/limit-body.ts'
import { methodNotAllowed } from '../middleware/methods.ts'
import { storeOf } from '../middleware/store.ts'
import { parseBody, readProxyRequest, type Json } from '../proxy/body.ts'
import { exchange, type Parts } from '../proxy/exchange.ts'
import { headersDown } from '../proxy/headers.ts'
import { createRelay } from '../proxy/relay.ts'
import { callUpstream, notConfigured } from '../proxy/upstream.ts'
import type { MeteredRoute } from '../usage/reservation.ts'

const METERED: MeteredRoute[] = ['chat/completions', 'responses', 'embeddings']
const UNMETERED = ['audio', 'batches', 'files', 'fine_tuning', 'images', 'reranking']

/** The part of a models path that names one model, decoded. */
export const MODEL_PATH = /^[A-Za-z0-9._:/-]{1,256}$/

// Lengths are told by patterns: the checks for them would be half a kilobyte of the bundle.
export const simpleForm = z.strictObject({
  prompt: z.string().check(z.regex(/[\s\S]/)),
  model: z.optional(z.string()),
  temperature: z.optional(z.number()),
  max_tokens: z.optional(z.int().check(z.minimum(1))),
  top_p: z.optional(z.number()),
  frequency_penalty: z.optional(z.number()),
  presence_penalty: z.optional(z.number()),
  userToken: z.optional(z.string()),
})

/** The routes of the proxy; metered ones need a database and a provider key. */
export function proxyRoutes(deps: Deps): Hono<AppEnv> {
  const { config } = deps
  const app = new Hono<AppEnv>()
  const identify = createIdentify(deps)
  const relay = createRelay(deps.relay)
  let parts: Parts | undefined
  const limited = limitBody(config.maxBodyBytes)

  // A HEAD would be served as a GET whose body nobody reads.
  app.use(async function noHead(c, next) {
    if (c.req.method === 'HEAD') throw methodNotAllowed('HEAD', ['GET', 'POST'])
    await next()
  })

  /** The parts, where everything that a metered call needs is configured. */
  function ready(): Parts {
    const store = storeOf(deps)
    if (config.groqKey === undefined) throw notConfigured()
    return (parts ??= { deps, store, gate: createGate(deps, store), relay })
  }

  async function readBytes(c: AppContext): Promise<Uint8Array<ArrayBuffer>> {
    const encoding = c.req.header('content-encoding')
    if (encoding !== undefined && encoding.trim().toLowerCase() !== 'identity') {
      throw new ApiError(
        'unsupported_encoding',
        'Send the body as it is, without a Content-Encoding.',
      )
    }
    return new Uint8Array(await c.req.arrayBuffer())
  }

  app.post('/', limited, async (c) => {
    const bytes = await readBytes(c)
    const body = parseBody(bytes)
    if ('messages' in body) {
      if ('userToken' in body) {
        throw new ApiError(
          'invalid_request',
          'With `messages` the body goes to the provider as it is: send the user token in the `x-user-token` header.',
          { param: 'userToken' },
        )
      }
      const caller = await identify(c)
      return exchange(c, ready(), caller, readProxyRequest('chat/completions', bytes, config))
    }
    const { userToken, ...form } = readSimpleForm(body)
    const caller = await identify(c, userToken)
    const chat = new TextEncoder().encode(JSON.stringify(toChat(form, config.defaultModel)))
    const answer = await exchange(
      c,
      ready(),
      caller,
      readProxyRequest('chat/completions', chat, config),
    )
    return answer.ok ? simpleAnswer(answer) : answer
  })

  for (const route of METERED) {
    app.post(`/openai/v1/${route}`, limited, async (c) => {
      const caller = await identify(c)
      const bytes = await readBytes(c)
      return exchange(c, ready(), caller, readProxyRequest(route, bytes, config))
    })
  }

  const models = async (c: AppContext) => {
    await identify(c)
    const path = modelsPath(new URL(c.req.url).pathname)
    const upstream = new AbortController()
    const deadline = setTimeout(() => upstream.abort(), config.requestMs)
    const end = () => clearTimeout(deadline)
    const call = callUpstream(c, deps, { method: 'GET', path, controller: upstream })
    const answer = await call.catch((error: unknown) => {
      end()
      throw error
    })
    const { status, statusText } = answer
    const headers = headersDown(answer.headers, answer.body ? deps.relay : undefined)
    // A token may come in a header that no cache knows of, and what it opened is not for those without one.
    headers.set('cache-control', 'private, no-store')
    if (!answer.body) {
      end()
      return new Response(null, { status, statusText, headers })
    }
    const relayed = relay({
      body: answer.body,
      meter: undefined,
      upstream,
      onClientAbort: 'cancel',
    })
    c.executionCtx.waitUntil(relayed.done.finally(end))
    return new Response(relayed.body, { status, statusText, headers })
  }
  app.get('/openai/v1/models', models)
  app.get('/openai/v1/models/*', models)

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
          `${path} calls carry no token usage, so they cannot be metered and are not passed on here.`,
        )
      })
    }
  }
  return app
}

const MODELS = '/api/groq/openai/v1/models'

/**
 * `models` or `models/{id}`, where the id stays encoded as the client sent it. The router matches decoded paths,
 * so the raw one is held against the prefix once more: nothing else may be reached with the provider's key.
 */
function modelsPath(pathname: string): string {
  if (pathname === MODELS) return 'models'
  if (!pathname.startsWith(`${MODELS}/`)) {
    throw new ApiError('not_found', 'Write the path of a models call without escapes.')
  }
  const id = pathname.slice(MODELS.length + 1)
  let name: string
  try {
    name = decodeURIComponent(id)
  } catch {
    name = ''
  }
  if (!MODEL_PATH.test(name) || name.includes('..')) {
    throw new ApiError('invalid_request', 'That is no name of a model: A-Z a-z 0-9 . _ : / - only.')
  }
  return `models/${id}`
}

function readSimpleForm(body: Json) {
  const form = simpleForm.safeParse(body)
  if (form.success) return form.data
  const issue = form.error.issues[0]
  const unknown = issue?.code === 'unrecognized_keys' ? issue.keys[0] : undefined
  const param = String(unknown ?? issue?.path[0] ?? 'prompt').slice(0, 64)
  const message =
    unknown === undefined
      ? `\`${param}\` is missing or of the wrong type.`
      : `\`${param}\` is not a field of the simple form; send \`messages\` for the full API.`
  throw new ApiError('invalid_request', message, { param })
}

type SimpleForm = Omit<z.infer<typeof simpleForm>, 'userToken'>

/** The simple form as a chat request. */
const toChat = ({ prompt, model, ...rest }: SimpleForm, defaultModel: string) => ({
  model: model ?? defaultModel,
  messages: [{ role: 'user', content: prompt }],
  ...rest,
})

const chatAnswer = z.object({
  model: z.string(),
  choices: z.array(z.object({ message: z.object({ content: z.nullish(z.string()) }) })),
  usage: z.optional(
    z.object({
      prompt_tokens: z.number(),
      completion_tokens: z.number(),
      total_tokens: z.number(),
    }),
  ),
})

/** An answer of the simple form is held in memory whole, so it has to end somewhere; as far as it is metered. */
const MAX_ANSWER_BYTES = 8 * 1024 * 1024

async function textOf(answer: Response): Promise<string> {
  const decoder = new TextDecoder()
  const reader = answer.body?.getReader()
  let text = ''
  for (;;) {
    const { done, value } = (await reader?.read()) ?? { done: true, value: undefined }
    if (done) return text + decoder.decode()
    text += decoder.decode(value, { stream: true })
    if (text.length <= MAX_ANSWER_BYTES) continue
    await reader?.cancel()
    throw new ApiError('upstream_unreachable', "The model provider's answer is too large.")
  }
}

/** A chat answer as `{content, usage, model}`. */
async function simpleAnswer(answer: Response): Promise<Response> {
  let value: unknown
  try {
    value = JSON.parse(await textOf(answer))
  } catch (error) {
    if (error instanceof ApiError) throw error
    // What JSON.parse says quotes the answer, so it is no cause to be logged.
    throw new ApiError('upstream_unreachable', "The model provider's answer cannot be read.")
  }
  const chat = chatAnswer.safeParse(value)
  if (!chat.success) {
    throw new ApiError('upstream_unreachable', "The model provider's answer cannot be read.")
  }
  const { choices, usage, model } = chat.data
  const headers = new Headers(answer.headers)
  headers.delete('transfer-encoding')
  headers.set('content-type', 'application/json')
  const content = choices[0]?.message.content ?? ''
  return new Response(JSON.stringify({ content, usage, model }), { status: answer.status, headers })
}
