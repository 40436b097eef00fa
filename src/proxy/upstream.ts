/** One call to upstream, up to its status and headers. */
import type { AppContext, Deps } from '../context.ts'
import { ApiError } from '../errors.ts'
import { base64url } from '../usage/user-id.ts'
import { headersUp } from './headers.ts'
import type { Bytes } from './pipe.ts'

/** What is needed of `fetch`; a platform may have something that costs less. Nothing is followed, and encodings are undone. */
export type Fetch = (
  url: string,
  init: {
    method: 'GET' | 'POST'
    headers: Record<string, string>
    body: Bytes | null
    signal: AbortSignal
    redirect: 'manual'
  },
) => Promise<Answer>

/** What is needed of its `Response`. */
export type Answer = Pick<Response, 'status' | 'statusText' | 'ok'> & {
  headers: AnswerHeaders
  body: { getReader(): BodyReader; cancel(): Promise<void> } | null
}

/** Names are in lower case, and what is there twice is one value. */
export type AnswerHeaders = Iterable<[string, string]> & {
  get(name: string): string | null | undefined
}

export type BodyReader = Pick<ReadableStreamDefaultReader<Bytes>, 'read' | 'cancel'>

export type UpstreamCall = {
  method: 'GET' | 'POST'
  /** After `/openai/v1/`, as it is to be sent. */
  path: string
  body?: Bytes
  /** The id of whose call it is. */
  user?: string
  controller: AbortController
}

/**
 * Calls upstream. Throws `upstream_unreachable`, `upstream_not_configured`, or with the controller aborted `upstream_timeout`.
 */
export async function callUpstream(
  c: AppContext,
  { config, fetch }: Pick<Deps, 'config' | 'fetch'>,
  { method, path, body, user, controller }: UpstreamCall,
): Promise<Answer> {
  if (config.groqKey === undefined) throw notConfigured()
  const timer = setTimeout(() => controller.abort(), config.upstreamTimeoutMs)
  try {
    const { search } = new URL(c.req.url)
    const headers = headersUp(c.req.raw.headers, config.groqKey)
    const once = c.req.header('idempotency-key')
    if (once && user) {
      // All users share our key upstream, so the same word of another would get this one's answer.
      const own = new TextEncoder().encode(`${user} ${once}`)
      headers['idempotency-key'] = base64url(await crypto.subtle.digest('SHA-256', own))
    }
    const answer = await fetch(`${config.groqUrl}/openai/v1/${path}${search}`, {
      method,
      headers,
      body: body ?? null,
      signal: controller.signal,
      redirect: 'manual',
    })
    // No Response can have such a status: https://fetch.spec.whatwg.org/#dom-response
    if (answer.status > 599) {
      await answer.body?.cancel()
      throw new ApiError('upstream_unreachable', "The model provider's answer cannot be read.")
    }
    return answer
  } catch (cause) {
    if (cause instanceof ApiError) throw cause
    throw controller.signal.aborted
      ? new ApiError('upstream_timeout', 'The model provider did not answer in time.', { cause })
      : new ApiError('upstream_unreachable', 'The model provider cannot be reached.', { cause })
  } finally {
    clearTimeout(timer)
  }
}

/** What is said where no provider key is set. */
export const notConfigured = () =>
  new ApiError(
    'upstream_not_configured',
    'This gateway has no provider key yet: its operator has to set GROQ_API_KEY.',
  )
