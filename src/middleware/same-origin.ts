/** Refuses what a page of another origin would have a browser change here. */
import type { MiddlewareHandler } from 'hono'
import { ApiError } from '../errors.ts'

const SAFE = new Set(['GET', 'HEAD', 'OPTIONS'])

/**
 * Answers `cross_origin` to a state-changing request that a browser says comes from elsewhere. All browsers send Origin
 * with these, and to trustworthy addresses Sec-Fetch-Site; what sends neither is no browser, and has no cookies of its own.
 * https://developer.mozilla.org/en-US/docs/Web/HTTP/Reference/Headers/Sec-Fetch-Site
 */
export const sameOrigin: MiddlewareHandler = async function sameOrigin(c, next) {
  const site = c.req.header('sec-fetch-site')
  const origin = c.req.header('origin')
  // A proxy may have another name for us. A page elsewhere cannot send this header without asking first.
  const hosts = [hostOf(c.req.url), c.req.header('x-forwarded-host')]
  const same =
    site === undefined
      ? origin === undefined || hosts.includes(hostOf(origin) ?? 'null')
      : site === 'same-origin' || site === 'none'
  if (!same && !SAFE.has(c.req.method)) {
    throw new ApiError('cross_origin', 'Admin actions are taken on the pages of this gateway only.')
  }
  await next()
}

const hostOf = (url: string): string | undefined =>
  URL.canParse(url) ? new URL(url).host : undefined
