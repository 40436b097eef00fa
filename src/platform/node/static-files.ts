/** Serves the files of static/ where no platform does: on Node, and in development. */
import { serveStatic } from '@hono/node-server/serve-static'
import type { MiddlewareHandler } from 'hono'
import { existsSync, readdirSync } from 'node:fs'
import { join, relative, sep } from 'node:path'
import { fileURLToPath } from 'node:url'

/** The headers of each file. For Vercel they are in scripts/build.ts, for Cloudflare in static/_headers. */
export const STATIC_HEADERS = {
  'cache-control': 'public, max-age=3600',
  'x-content-type-options': 'nosniff',
}
/** Further headers for files that pages of any origin may use. */
export const SHARED_HEADERS = { 'access-control-allow-origin': '*' }
export const SHARED_PATHS = ['/tracker.js', '/banner.js', '/api/openapi.json']

/** The folder static/. */
const STATIC = fileURLToPath(new URL('../../../static/', import.meta.url))

/** The paths of the files; empty if the server is a single file without a folder. `_headers` is only for Cloudflare. */
export const STATIC_PATHS = (
  existsSync(STATIC) ? readdirSync(STATIC, { recursive: true, withFileTypes: true }) : []
)
  .filter((entry) => entry.isFile() && entry.name !== '_headers')
  .map(({ parentPath, name }) => `/${relative(STATIC, join(parentPath, name))}`)
  .map((path) => path.replaceAll(sep, '/'))

/** Builds a handler for the routes in `STATIC_PATHS`. */
export function staticFiles(): MiddlewareHandler {
  const send = serveStatic({ root: STATIC })

  return async function staticFiles(c, next) {
    const response = await send(c, next)
    if (!(response instanceof Response)) return
    const shared = SHARED_PATHS.includes(c.req.path) ? SHARED_HEADERS : {}
    for (const [name, value] of Object.entries({ ...STATIC_HEADERS, ...shared })) {
      response.headers.set(name, value)
    }
    return response
  }
}
