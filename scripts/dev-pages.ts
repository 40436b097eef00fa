/** The pages of `npm run dev` that the workers do not have: the demo at /demo, and the files of static/. */
import { Hono } from 'hono'
import { Response, type Request } from 'miniflare'
import { addDemoPage } from '../src/platform/node/demo/pages.ts'
import { STATIC_PATHS, staticFiles } from '../src/platform/node/static-files.ts'

/** The routes in workerd that these pages answer; the gateway answers all others. */
export const PAGE_ROUTES = ['/demo', '/demo/*', ...STATIC_PATHS].map((path) => `*${path}`)

const pages = new Hono()
addDemoPage(pages)
pages.on('GET', STATIC_PATHS, staticFiles())

/** Answers a page or a file that a browser requests beside the gateway. */
export async function servePage({ url, method, headers }: Request): Promise<Response> {
  const asked = { method, headers: Object.fromEntries(headers) }
  const { body, status, headers: told } = await pages.request(url, asked)
  // Files change while one works on them.
  told.set('cache-control', 'no-store')
  return new Response(body, { status, headers: Object.fromEntries(told) })
}
