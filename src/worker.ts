/** The entry for the proxy on workerd: Cloudflare Workers, and Miniflare in development. */
import type { ExecutionContext } from 'hono'
import { createProxyApp, isOfPages } from './app.ts'
import type { Vars } from './config/config.ts'
import { path } from './config/parse.ts'
import { pathWithin } from './http/below-path.ts'
import { workerdApp, type Services } from './platform/cloudflare.ts'
import type { Fetcher } from './store/binding.ts'
import type { Pages } from './worker-pages.ts'

/** Variables and services. `PAGES` is the worker of the pages, `FILES` has those of static/. */
type Env = Vars & Services & { PAGES: Pages; FILES?: Fetcher }

let started: ReturnType<typeof start> | undefined

export default {
  async fetch(request: Request, env: Env, context: ExecutionContext): Promise<Response> {
    started ??= start(env)
    const { app, vars, within } = started
    const { pathname } = new URL(request.url)
    const path = within(pathname)
    if (isOfPages(path)) return env.PAGES.answer(request, vars)
    const answer = await app.fetch(request, {}, context)
    if (path === pathname || answer.status !== 404 || request.method !== 'GET') return answer
    // Cloudflare looks for files first, but does not know the path that the gateway is below.
    const file = await env.FILES?.fetch(new URL(path, request.url).href)
    return file?.ok ? file : answer
  },
}

function start({ STORE, UPSTREAM, PAGES: _, FILES: __, ...rest }: Env) {
  const vars = asText(rest)
  const app = workerdApp({ createApp: createProxyApp }, vars, { STORE, UPSTREAM })
  // The app says what is wrong with a wrong path.
  const base = path(vars.BASE_PATH?.trim() || '/')
  return { app, vars, within: pathWithin('value' in base ? base.value : '') }
}

/** The [vars] of a wrangler.toml may be numbers and tables as well. */
const asText = (vars: Record<string, unknown>): Vars =>
  Object.fromEntries(
    Object.entries(vars).map(([name, value]) => [
      name,
      typeof value === 'string' ? value : JSON.stringify(value),
    ]),
  )
