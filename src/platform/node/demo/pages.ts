/** The demo page at /demo: where the demo model may answer, and in development. A deployment does not have it. */
import { serveStatic } from '@hono/node-server/serve-static'
import type { Env, Hono } from 'hono'
import { fileURLToPath } from 'node:url'

/** No inline code, and nothing from other origins. */
const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
  "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

const PATHS = ['/demo', '/demo/*']

/** Adds the demo page to an app. Its files are those of the folder page/. */
export function addDemoPage<E extends Env>(app: Hono<E>): void {
  const send = serveStatic({
    root: fileURLToPath(new URL('page/', import.meta.url)),
    rewriteRequestPath: (path) => path.replace(/^.*?\/demo(?=\/|$)/, ''),
  })
  for (const path of PATHS) {
    app.on('GET', path, async (c, next) => {
      const answer = await send(c, next)
      const headers = answer instanceof Response ? answer.headers : undefined
      headers?.set('content-security-policy', POLICY)
      headers?.set('x-content-type-options', 'nosniff')
      headers?.set('cache-control', 'no-store')
      return answer
    })
  }
}
