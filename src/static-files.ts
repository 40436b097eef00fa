/** The files of static/ where no platform serves them: on Node, and in development. */
import { serveStatic } from '@hono/node-server/serve-static'
import type { MiddlewareHandler } from 'hono'
import { existsSync, readdirSync } from 'node:fs'
import { join, relative, sep } from 'node:path'
import { fileURLToPath } from 'node:url'

/** What each file is sent with. Vercel is told in scripts/build.ts, Cloudflare in static/_headers. */
export const STATIC_HEADERS = {
  'cache-control': 'public, max-age=3600',
  'x-content-type-options': 'nosniff',
}
/** And those that are for pages of any origin. */
export const SHARED_HEADERS = { 'access-control-allow-origin': '*' }
export const SHARED_PATHS = ['/tracker.js', '/api/openapi.json']

/** Where they are. */
export const STATIC = fileURLToPath(new URL('../static/', import.meta.url))

/** The paths of the files, of which there are none beside a server in one file. That of headers is for Cloudflare to read. */
export const STATIC_PATHS = (
  existsSync(STATIC) ? readdirSync(STATIC, { recursive: true, withFileTypes: true }) : []
)
  .filter((entry) => entry.isFile() && entry.name !== '_headers')
  .map(({ parentPath, name }) => `/${relative(STATIC, join(parentPath, name))}`)
  .map((path) => path.replaceAll(sep, '/'))

/** Builds a handler that sends the file of a route of `STATIC_PATHS`. */
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
