/** Refuses changes that a page of another origin makes through a browser. */
import type { Context, MiddlewareHandler } from 'hono'
import { ApiError } from '../errors.ts'

const SAFE = new Set(['GET', 'HEAD', 'OPTIONS'])

/**
 * Answers `cross_origin` to a state-changing request that comes from another origin, as the browser reports it. All
 * browsers send Origin with such requests, and Sec-Fetch-Site to trustworthy URLs. A client that sends neither is not
 * a browser, so no page can use its cookies.
 * https://developer.mozilla.org/en-US/docs/Web/HTTP/Reference/Headers/Sec-Fetch-Site
 */
export const sameOrigin: MiddlewareHandler = async function sameOrigin(c, next) {
  const site = c.req.header('sec-fetch-site')
  const origin = c.req.header('origin')
  const same =
    site === undefined
      ? origin === undefined || isOwnOrigin(c, origin)
      : site === 'same-origin' || site === 'none'
  if (!same && !SAFE.has(c.req.method)) {
    throw new ApiError(
      'cross_origin',
      'Admin actions are possible only from pages of this gateway.',
    )
  }
  await next()
}

/**
 * Whether an Origin header names this gateway. Behind a proxy, the public host may differ from the host of the request.
 * A page of another origin cannot send `x-forwarded-host` without a preflight.
 */
export const isOwnOrigin = (c: Context, origin: string): boolean =>
  [hostOf(c.req.url), c.req.header('x-forwarded-host')].includes(hostOf(origin) ?? 'null')

const hostOf = (url: string): string | undefined =>
  URL.canParse(url) ? new URL(url).host : undefined
