/**
 * The app: the order of middleware, and the URL map. On the edge, the proxy and the pages are two bundles, so that an
 * isolate that starts for a call to the model loads no pages.
 */
import { Hono } from 'hono/tiny'
import { getPath } from 'hono/utils/url'
import { v7 as uuidv7 } from 'uuid'
import type { AppEnv, Deps } from './context.ts'
import { ApiError, asApiError, brokenOff, errorResponse } from './errors.ts'
import { pathWithin } from './http/below-path.ts'
import { createAdmin } from './http/admin.ts'
import { createBodies, type Bodies } from './http/bodies.ts'
import { crossOrigin } from './http/cross-origin.ts'
import { noWebSocket } from './http/websocket.ts'
import { createIdentify, type Identify } from './identity/caller.ts'
import { adminRoutes } from './routes/admin.ts'
import { assetRoutes } from './routes/assets.ts'
import { dashboardRoutes } from './routes/dashboard.ts'
import { healthRoutes } from './routes/health.ts'
import { homeRoutes } from './routes/home.tsx'
import { metricsRoutes } from './routes/metrics.ts'
import { ownUsagePageRoutes } from './routes/own-usage-page.ts'
import { ownUsageRoutes } from './routes/own-usage.ts'
import { syncRoutes } from './routes/sync.ts'
import { tokensRoutes } from './routes/tokens.ts'
import { proxyRoutes } from './routes/proxy.ts'

type Part = (app: Hono<AppEnv>, deps: Deps, bodies: Bodies, identify: Identify) => void

/** What callers of the model use. */
const proxy: Part = (app, deps, bodies, identify) => {
  app.use('/api/groq/*', crossOrigin(deps.config.allowedOrigins))
  app.use(noWebSocket)
  app.route('/api/groq', proxyRoutes(deps, bodies, identify))
  app.route('/api', healthRoutes(deps))
}

/** What browsers and admins use: all routes of `PAGES_PATHS`. */
const pages: Part = (app, deps, bodies, identify) => {
  const admin = createAdmin(deps)
  app.use('/api/tracking/*', crossOrigin(deps.config.allowedOrigins))
  app.route('/api/tracking', syncRoutes(deps, bodies, identify))
  for (const path of ['/api/usage', '/api/v1/*'])
    app.use(path, crossOrigin(deps.config.allowedOrigins))
  app.route('/api', ownUsageRoutes(deps, identify))
  app.route('/api/admin', adminRoutes(deps, bodies, admin))
  app.route('/api/tokens', tokensRoutes(deps, admin))
  app.route('/admin', dashboardRoutes(deps, bodies, admin))
  app.route('/', metricsRoutes(deps))
  app.route('/', homeRoutes(deps))
  app.route('/', ownUsagePageRoutes(deps.config))
  app.route('/', assetRoutes())
}

/** The home page, and the paths that lead to the pages with everything below them. */
export const PAGES_PATHS = [
  '/admin',
  '/api/admin',
  '/api/tokens',
  '/api/tracking',
  '/api/usage',
  '/api/v1',
  '/assets',
  '/metrics',
  '/usage',
]

/** Whether the pages answer a path, given without `BASE_PATH`. All other paths go to the proxy. */
export const isOfPages = (path: string): boolean =>
  path === '/' || PAGES_PATHS.some((own) => path === own || path.startsWith(`${own}/`))

/** Builds the whole app. It uses nothing of the platform except `deps`. */
export const createApp = (deps: Deps): Hono<AppEnv> => appOf(deps, proxy, pages)

/** Builds the app of the proxy's bundle. */
export const createProxyApp = (deps: Deps): Hono<AppEnv> => appOf(deps, proxy)

/** Builds the app of the pages' bundle. */
export const createPagesApp = (deps: Deps): Hono<AppEnv> => appOf(deps, pages)

const NO_SUCH_PAGE = `<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark"><title>Not found · Weir</title><h1>Not found</h1><p>This gateway has no such page.</html>`

function appOf(deps: Deps, ...parts: Part[]): Hono<AppEnv> {
  const { log, now } = deps
  const { basePath, helpUrl } = deps.config
  const within = pathWithin(basePath)
  const app = new Hono<AppEnv>({ getPath: (request) => within(getPath(request)) })

  app.use(async function requestId(c, next) {
    c.set('id', uuidv7({ msecs: now() }))
    await next()
    c.res.headers.set('x-weir-id', c.var.id)
  })
  app.use(async function tendStore(c, next) {
    await next()
    for (const work of [deps.store?.tend(), deps.alerts?.tend()]) {
      if (work) c.executionCtx.waitUntil(work)
    }
  })

  if (basePath) {
    app.use(async function belowPath(c, next) {
      c.set('below', true)
      await next()
    })
    app.get(basePath, (c) => c.redirect(`${basePath}/`))
  }

  const bodies = createBodies(deps.bodies)
  const identify = createIdentify(deps)
  for (const add of parts) add(app, deps, bodies, identify)

  app.notFound((c) => {
    // A browser shows this address to a person.
    if (c.req.method === 'GET' && c.req.header('accept')?.includes('text/html')) {
      c.header('content-security-policy', "default-src 'none'")
      c.header('cache-control', 'no-store')
      return c.html(NO_SUCH_PAGE, 404)
    }
    return errorResponse(
      c,
      new ApiError(
        'not_found',
        `No such route. Calls go to POST ${basePath}/api/groq or to ${basePath}/api/groq/openai/v1/…`,
      ),
      helpUrl,
    )
  })
  app.onError((thrown, c) => {
    const found = asApiError(thrown)
    const error = c.req.raw.signal.aborted ? brokenOff() : found
    const fields = { id: c.var.id, code: error.code, status: error.status }
    const failure = { ...fields, error: found.cause }
    // The log already says once that the store, or an issuer, is unavailable.
    const told =
      (error.code === 'store_unavailable' && deps.store?.health().degraded) ||
      error.code === 'issuer_unavailable'
    if (error.status >= 500 && !told) log.error('request.failed', failure)
    // A client that leaves causes failures that are not errors.
    else log.debug('request.refused', found.status >= 500 ? failure : fields)
    return errorResponse(c, error, helpUrl)
  })
  return app
}
