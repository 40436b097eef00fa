/** The pages of `npm run dev`: the demo at /demo, and the files of static/. Production has no demo. */
import { serveStatic } from '@hono/node-server/serve-static'
import { Hono } from 'hono'
import { fileURLToPath } from 'node:url'
import { STATIC_PATHS, staticFiles } from '../src/static-files.ts'

/** Nothing inline and nothing from elsewhere. */
const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
  "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

/** The routes of workerd that are for these pages; all others are the gateway's. */
export const PAGE_ROUTES = ['/demo', '/demo/*', ...STATIC_PATHS].map((path) => `*${path}`)

/** Answers a request of such a route. */
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
