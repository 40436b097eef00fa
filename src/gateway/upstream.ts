/** One call to upstream, up to its status and headers. */
import type { Deps } from '../context.ts'
import { ApiError } from '../errors.ts'
import { base64url } from '../identity/ids.ts'
import type { Bytes, UpstreamAnswer } from '../ports.ts'
import { headersUp } from './headers.ts'

export type UpstreamCall = {
  /** The client's request: its allowed headers and its query go upstream. */
  client: Request
  method: 'GET' | 'POST'
  /** The part after `/openai/v1/`; it is sent as it is. */
  path: string
  body?: Bytes
  /** Absent for JSON. */
  contentType?: string | undefined
  /** The caller's id. */
  user?: string
  controller: AbortController
}

/**
 * Calls upstream. Throws `upstream_unreachable`, `upstream_not_configured`, or `upstream_timeout` if the controller was
 * aborted.
 */
export async function callUpstream(
  { config, fetch }: Pick<Deps, 'config' | 'fetch'>,
  { client, method, path, body, contentType, user, controller }: UpstreamCall,
): Promise<UpstreamAnswer> {
  if (config.groqKey === undefined) throw notConfigured()
  const timer = setTimeout(() => controller.abort(), config.upstreamTimeoutMs)
  try {
    const { search } = new URL(client.url)
    const headers = headersUp(client.headers, config.groqKey, contentType)
    const once = client.headers.get('idempotency-key')
    if (once && user) {
      // All users share our key upstream. Without the user's id, the same key from two users would
      // give both the same answer.
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
    // A Response cannot have such a status: https://fetch.spec.whatwg.org/#dom-response. workerd takes an informational
    // answer for the final one, and never returns the final one.
    if (answer.status < 200 || answer.status > 599) {
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

/** The error if no provider key is set. */
export const notConfigured = () =>
  new ApiError(
    'upstream_not_configured',
    'This gateway has no provider key yet: its operator must set GROQ_API_KEY.',
  )
