/** `GET /api/groq/openai/v1/models`: the provider's models that are offered here. These calls are not metered. */
import * as z from 'zod/mini'
import type { Config } from '../config/config.ts'
import type { AppContext, Deps } from '../context.ts'
import { ApiError } from '../errors.ts'
import { notOffered } from '../gateway/body.ts'
import { headersDown } from '../gateway/headers.ts'
import type { Relay } from '../gateway/relay.ts'
import { callUpstream } from '../gateway/upstream.ts'
import type { Identify } from '../identity/caller.ts'
import { isOffered } from '../metering/models.ts'
import { MODEL_PATH } from '../providers/groq.ts'
import { textOf } from './simple-form.ts'

/** Builds the handler for the list of models and for one model. */
export const modelsHandler =
  (deps: Deps, identify: Identify, relay: Relay) => async (c: AppContext) => {
    await identify(c)
    const { allowedModels } = deps.config
    const path = modelsPath(new URL(c.req.url).pathname, deps.config)
    const upstream = new AbortController()
    const deadline = setTimeout(() => upstream.abort(), deps.config.requestMs)
    const end = () => clearTimeout(deadline)
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
    const headers = headersDown(answer.headers, answer.body ? deps.relay : undefined)
    // Caches do not know the header that carried the token, and would give the answer to callers without one.
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
    const relayedAnswer = new Response(relayed.body, { status, statusText, headers })
    if (path !== 'models' || !answer.ok || allowedModels.includes('*')) return relayedAnswer
    // The server sets the length of what is not streamed.
    headers.delete('transfer-encoding')
    return new Response(await offeredIn(relayedAnswer, allowedModels), { headers })
  }

const modelList = z.object({ data: z.array(z.object({ id: z.string() })) })

/** The provider's list with the models that are offered. Throws `upstream_unreachable` if it cannot be read. */
async function offeredIn(answer: Response, globs: string[]): Promise<string> {
  try {
    const list = JSON.parse(await textOf(answer)) as z.infer<typeof modelList>
    modelList.parse(list)
    return JSON.stringify({ ...list, data: list.data.filter(({ id }) => isOffered(id, globs)) })
  } catch {
    throw new ApiError('upstream_unreachable', "The model provider's answer cannot be read.")
  }
}

const MODELS = '/api/groq/openai/v1/models'

/**
 * `models` or `models/{id}`; the id stays encoded as the client sent it. The router matches decoded paths, so the raw
 * path is checked again: no other path may be called with the provider's key. Throws `model_not_allowed`.
 */
function modelsPath(url: string, { basePath, allowedModels }: Readonly<Config>): string {
  const pathname = url.startsWith(`${basePath}/`) ? url.slice(basePath.length) : url
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
  if (!isOffered(name, allowedModels)) throw notOffered(name)
  return `models/${id}`
}
