/** The entry for workerd: Cloudflare Workers, and Miniflare in development. */
import type { ExecutionContext } from 'hono'
import type { Vars } from './config/config.ts'
import { createApp } from './app.ts'
import { createEdgeApp } from './platform/edge.ts'
import { bindingStore, type Fetcher } from './store/binding.ts'

/** Variables. In development also two services: the store, and the demo model, which replaces upstream. */
type Env = Vars & { STORE?: Fetcher; UPSTREAM?: { fetch: typeof fetch } }

let app: ReturnType<typeof createEdgeApp> | undefined

export default {
  fetch(request: Request, env: Env, context: ExecutionContext) {
    const { STORE, UPSTREAM, ...rest } = env
    app ??= createEdgeApp({
      createApp,
      platform: 'workerd',
      vars: asText(rest),
      store: STORE && bindingStore(STORE),
      fetch: UPSTREAM
        ? (input, init) => UPSTREAM.fetch(input, init)
        : (input, init) => fetch(input, init),
      // Cloudflare overwrites it: https://developers.cloudflare.com/fundamentals/reference/http-headers/#cf-connecting-ip
      clientIp: (c) => c.req.header('cf-connecting-ip'),
    })
    return app.fetch(request, {}, context)
  },
}

/** The [vars] of a wrangler.toml may be numbers and tables as well. */
const asText = (vars: Record<string, unknown>): Vars =>
  Object.fromEntries(
    Object.entries(vars).map(([name, value]) => [
      name,
      typeof value === 'string' ? value : JSON.stringify(value),
    ]),
  )
