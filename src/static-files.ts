/** The files of static/ where no platform serves them: on Node, and in development. */
import { serveStatic } from '@hono/node-server/serve-static'
import type { MiddlewareHandler } from 'hono'
import { fileURLToPath } from 'node:url'

/** What each file is sent with; the tracker is for pages of any origin. Vercel is told in scripts/build.ts, Cloudflare in static/_headers. */
export const STATIC_HEADERS = {
  'cache-control': 'public, max-age=3600',
  'x-content-type-options': 'nosniff',
}
export const TRACKER_HEADERS = { 'access-control-allow-origin': '*' }

/** Where they are. */
export const STATIC = fileURLToPath(new URL('../static/', import.meta.url))

/** Builds a handler that sends a file of static/, if there is one, for a route of one segment. */
export function staticFiles(): MiddlewareHandler {
  const send = serveStatic({
    root: STATIC,
    // That one is for Cloudflare to read.
    rewriteRequestPath: (path) => (path === '/_headers' ? '' : path),
  })

  return async function staticFiles(c, next) {
    const response = await send(c, next)
    if (!(response instanceof Response)) return
    const shared = c.req.path === '/tracker.js' ? TRACKER_HEADERS : {}
    for (const [name, value] of Object.entries({ ...STATIC_HEADERS, ...shared })) {
      response.headers.set(name, value)
    }
    return response
  }
}
