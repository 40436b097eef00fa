/** `GET /api/groq/openai/v1/models`: the provider's models. These calls are not metered. */
import type { AppContext, Deps } from '../context.ts'
import { ApiError } from '../errors.ts'
import type { Calls } from '../gateway/calls.ts'
import { frameOf, headersDown } from '../gateway/headers.ts'
import { createKeptAnswers } from '../gateway/kept-answers.ts'
import type { Relay } from '../gateway/relay.ts'
import { callUpstream } from '../gateway/upstream.ts'
import type { Identify } from '../identity/caller.ts'
import { MODEL_PATH } from '../providers/groq.ts'

/**
 * Builds the handler for the list of models and for one model. An answer is kept for a few seconds: it is the same for all
 * callers.
 */
export function modelsHandler(deps: Deps, identify: Identify, relay: Relay, calls: Calls) {
  const kept = createKeptAnswers(deps.now)

  return async function models(c: AppContext): Promise<Response> {
    const { id: user } = await identify(c)
    const { pathname, search } = new URL(c.req.url)
    const path = modelsPath(pathname)
    const known = kept.get(path + search)
    if (known) return new Response(known.body, { ...known, headers: new Headers(known.headers) })

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
    for (const [name, value] of Object.entries(deps.relay.headers)) headers.set(name, value)
    return new Response(relayed.body, { status, statusText, headers })
  }
}

const MODELS = '/api/groq/openai/v1/models'

/**
 * `models` or `models/{id}`; the id stays encoded as the client sent it. The router matches decoded paths, so the raw
 * path is checked again: no other path may be called with the provider's key.
 */
function modelsPath(pathname: string): string {
  if (pathname === MODELS) return 'models'
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
  return `models/${id}`
}
