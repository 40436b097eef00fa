/** Which pages may call the routes of users: CORS, and the refusal of other pages. */
import type { MiddlewareHandler } from 'hono'
import { cors } from 'hono/cors'
import { ApiError } from '../errors.ts'
import { isOwnOrigin } from './same-origin.ts'

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
 * Builds the middleware. In `origins`, `*` stands for all origins, and a label `*` for any one label. A request that a
 * page of another origin makes is refused before it is served: browsers send simple requests without a preflight,
 * and such a page does not need to read the answer to use up the visitor's limits. Programs send no Origin.
 *
 * Hono answers preflights. Other answers get the headers after they exist: if headers are set before, Hono builds the
 * answer twice.
 */
export function crossOrigin(origins: string[]): MiddlewareHandler {
  const all = origins.includes('*')
  const listed = origins.map(patternOf)
  const isListed = (origin: string) => listed.some((pattern) => pattern.test(origin))
  const preflight = cors({
    origin: all ? '*' : (origin) => (isListed(origin) ? origin : null),
    maxAge: 600,
  })

  return async function crossOrigin(c, next) {
    if (c.req.method === 'OPTIONS') return preflight(c, next)
    const origin = c.req.header('origin')
    const allowed = all ? '*' : origin !== undefined && isListed(origin) ? origin : undefined
    if (origin !== undefined && allowed === undefined && !isOwnOrigin(c, origin)) {
      throw new ApiError(
        'cross_origin',
        'Pages of this origin may not call this gateway. Its operator lists the origins that may, in ALLOWED_ORIGINS.',
        { headers: { vary: 'Origin' } },
      )
    }
    await next()
    const { headers } = c.res
    if (!all && !/(^|,) *(origin|\*) *(,|$)/i.test(headers.get('vary') ?? '')) {
      headers.append('vary', 'Origin')
    }
    if (allowed !== undefined) headers.set('access-control-allow-origin', allowed)
    headers.set('access-control-expose-headers', EXPOSED)
  }
}

/** Origins as a list writes them: only `*` has a meaning, and it ends at a dot, so that it is one label. */
const patternOf = (origin: string): RegExp =>
  new RegExp(`^${origin.replace(/[^\w*]/g, '\\$&').replaceAll('*', '[\\w-]+')}$`)
