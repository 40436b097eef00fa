/** CORS for the routes that pages of other origins may call. */
import type { MiddlewareHandler } from 'hono'
import { cors } from 'hono/cors'

/** The response headers that such a page may read. */
const EXPOSED = [
  'retry-after',
  'x-should-retry',
  'x-request-id',
  ...['limit', 'remaining', 'reset'].flatMap((name) =>
    ['requests', 'tokens'].map((unit) => `x-ratelimit-${name}-${unit}`),
  ),
  'ratelimit',
  'ratelimit-policy',
  'server-timing',
  'x-weir-id',
  'x-weir-degraded',
  'x-weir-max-completion-tokens',
].join(',')

/**
 * Builds the middleware. `origins` is a list; `*` in it allows all origins. Hono answers preflights. Other answers
 * get the headers after they exist: if headers are set before, Hono builds the answer twice.
 */
export function crossOrigin(origins: string[]): MiddlewareHandler {
  const all = origins.includes('*')
  const preflight = cors({ origin: all ? '*' : origins, maxAge: 600 })

  return async function crossOrigin(c, next) {
    if (c.req.method === 'OPTIONS') return preflight(c, next)
    await next()
    const { headers } = c.res
    const origin = c.req.header('origin')
    if (!all) headers.append('vary', 'Origin')
    if (all) headers.set('access-control-allow-origin', '*')
    else if (origin && origins.includes(origin)) headers.set('access-control-allow-origin', origin)
    headers.set('access-control-expose-headers', EXPOSED)
  }
}
