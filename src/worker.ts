/** The entry for the proxy on workerd: Cloudflare Workers, and Miniflare in development. */
import type { ExecutionContext } from 'hono'
import { createProxyApp, isOfPages } from './app.ts'
import type { Vars } from './config/config.ts'
import { workerdApp, type Services } from './platform/cloudflare.ts'
import type { Pages } from './worker-pages.ts'

/** Variables and services. `PAGES` is the worker of the pages. */
type Env = Vars & Services & { PAGES: Pages }

let started: { app: ReturnType<typeof workerdApp>; vars: Vars } | undefined

export default {
  fetch(request: Request, env: Env, context: ExecutionContext) {
    started ??= start(env)
    const { app, vars } = started
    if (isOfPages(new URL(request.url).pathname)) return env.PAGES.answer(request, vars)
    return app.fetch(request, {}, context)
  },
}

function start({ STORE, UPSTREAM, PAGES: _, ...rest }: Env) {
  const vars = asText(rest)
  return { app: workerdApp({ createApp: createProxyApp }, vars, { STORE, UPSTREAM }), vars }
}

/** The [vars] of a wrangler.toml may be numbers and tables as well. */
const asText = (vars: Record<string, unknown>): Vars =>
  Object.fromEntries(
    Object.entries(vars).map(([name, value]) => [
      name,
      typeof value === 'string' ? value : JSON.stringify(value),
    ]),
  )
