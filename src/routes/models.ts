/** `GET /api/groq/openai/v1/models`: the provider's models that are offered here. These calls are not metered. */
import type * as z from 'zod/mini'
import type { Config } from '../config/config.ts'
import type { AppContext, Deps } from '../context.ts'
import { ApiError } from '../errors.ts'
import { notOffered } from '../gateway/body.ts'
import type { Calls } from '../gateway/calls.ts'
import { frameOf, headersDown } from '../gateway/headers.ts'
import { createKeptAnswers } from '../gateway/kept-answers.ts'
import { createOffers, isOffered, type Offer } from '../gateway/offer.ts'
import type { Relay } from '../gateway/relay.ts'
import { callUpstream } from '../gateway/upstream.ts'
import { pathWithin } from '../http/below-path.ts'
import type { Identify } from '../identity/caller.ts'
import { MODEL_PATH } from '../providers/groq.ts'
import { answerText } from './simple-form.ts'

/**
 * Builds the handler for the list of models and for one model. An answer is kept for a few seconds: it is the same for all
 * callers.
 */
export function modelsHandler(deps: Deps, identify: Identify, relay: Relay, calls: Calls) {
  const kept = createKeptAnswers(deps.now)
  const offerOf = createOffers(deps)
  const shown = (path: string, offer: Offer, answer: Response) =>
    path === 'models' && answer.ok && !offer.lists.every((list) => list.includes('*'))
      ? onlyOffered(answer, offer)
      : answer

  return async function models(c: AppContext): Promise<Response> {
    const caller = await identify(c)
    const { id: user } = caller
    const { pathname, search } = new URL(c.req.url)
    const { path, model } = modelsPath(pathname, deps.config)
    const offer = await offerOf(caller)
    if (model !== undefined && !isOffered(model, offer)) throw notOffered(model)
    const known = kept.get(path + search)
    if (known) {
      return shown(
        path,
        offer,
        new Response(known.body, { ...known, headers: new Headers(known.headers) }),
      )
    }

    const leave = calls(user)
    const upstream = new AbortController()
    const deadline = setTimeout(() => upstream.abort(), deps.config.requestMs)
    const end = () => {
      clearTimeout(deadline)
      leave()
    }
    const call = callUpstream(deps, {
      client: c.req.raw,
      method: 'GET',
      path,
      controller: upstream,
    })
    const answer = await call.catch((error: unknown) => {
      end()
      throw error
    })
    const { status, statusText } = answer
    const headers = headersDown(answer.headers)
    // Caches do not know the header that carried the token, and would give the answer to callers without one.
    headers.set('cache-control', 'private, no-store')
    if (!answer.body) {
      end()
      return new Response(null, { status, statusText, headers })
    }
    const gathered = kept.gather(path + search, {
      status,
      statusText,
      headers: new Headers(headers),
    })
    const relayed = relay({
      client: c.req.raw,
      body: answer.body,
      frame: frameOf(answer.headers, deps.relay),
      meter: gathered.meter,
      upstream,
      onClientAbort: 'cancel',
    })
    const done = relayed.done.then(({ ended }) => {
      if (ended && status === 200) gathered.keep()
    })
    c.executionCtx.waitUntil(done.finally(end))
    const body = await relayed.body
    if (body instanceof ReadableStream) {
      for (const [name, value] of Object.entries(deps.relay.headers)) headers.set(name, value)
    }
    return shown(path, offer, new Response(body, { status, statusText, headers }))
  }
}

/** The provider's list with the models that are offered. Throws `upstream_unreachable` if it cannot be read. */
async function onlyOffered(answer: Response, offer: Offer): Promise<Response> {
  try {
    const { providerModels } = await import('./models-schemas.ts')
    const list = JSON.parse(await answerText(answer)) as z.infer<typeof providerModels>
    providerModels.parse(list)
    const data = list.data.filter(({ id }) => isOffered(id, offer))
    const headers = new Headers(answer.headers)
    // The server sets the length of what is not streamed.
    for (const name of ['transfer-encoding', 'content-length']) headers.delete(name)
    return new Response(JSON.stringify({ ...list, data }), { headers })
  } catch {
    throw new ApiError('upstream_unreachable', "The model provider's answer cannot be read.")
  }
}

const MODELS = '/api/groq/openai/v1/models'

/**
 * `models` or `models/{id}`; the id stays encoded as the client sent it. The router matches decoded paths, so the raw
 * path is checked again: no other path may be called with the provider's key.
 */
function modelsPath(url: string, { basePath }: Readonly<Config>): { path: string; model?: string } {
  const pathname = pathWithin(basePath)(url)
  if (pathname === MODELS) return { path: 'models' }
  if (!pathname.startsWith(`${MODELS}/`)) {
    throw new ApiError('not_found', 'Write the path up to the name of the model without escapes.')
  }
  const id = pathname.slice(MODELS.length + 1)
  let name: string
  try {
    name = decodeURIComponent(id)
  } catch {
    name = ''
  }
  if (!MODEL_PATH.test(name) || name.includes('..')) {
    throw new ApiError(
      'invalid_request',
      'The name of a model has only the characters A-Z a-z 0-9 . _ : / - and no `..`.',
    )
  }
  return { path: `models/${id}`, model: name }
}
