/** The pages of `npm run dev`: the demo at /demo, and the files of static/. Production has no demo. */
import { serveStatic } from '@hono/node-server/serve-static'
import { Hono } from 'hono'
import { fileURLToPath } from 'node:url'
import { STATIC_PATHS, staticFiles } from '../src/platform/node/static-files.ts'

/** No inline code, and nothing from other origins. */
const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
  "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

/** The routes in workerd that these pages answer; the gateway answers all others. */
export const PAGE_ROUTES = ['/demo', '/demo/*', ...STATIC_PATHS].map((path) => `*${path}`)

export const pages = new Hono()

pages.use(async (c, next) => {
  await next()
  c.header('content-security-policy', POLICY)
  c.header('x-content-type-options', 'nosniff')
  c.header('cache-control', 'no-store')
})
pages.get(
  '/demo/*',
  serveStatic({
    root: fileURLToPath(new URL('demo/', import.meta.url)),
    rewriteRequestPath: (path) => path.replace(/^\/demo/, ''),
  }),
)
pages.on('GET', STATIC_PATHS, staticFiles())
