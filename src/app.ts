/** The whole app: the order of middleware, and the URL map. */
import { Hono } from 'hono/tiny'
import { v7 as uuidv7 } from 'uuid'
import type { AppEnv, Deps } from './context.ts'
import { ApiError, asApiError, brokenOff, errorResponse } from './errors.ts'
import { pathWithin } from './http/below-path.ts'
import { createAdmin } from './http/admin.ts'
import { crossOrigin } from './http/cross-origin.ts'
import { noWebSocket } from './http/websocket.ts'
import { adminRoutes } from './routes/admin.ts'
import { assetRoutes } from './routes/assets.ts'
import { dashboardRoutes } from './routes/dashboard.ts'
import { healthRoutes } from './routes/health.ts'
import { homeRoutes } from './routes/home.tsx'
import { syncRoutes } from './routes/sync.ts'
import { tokensRoutes } from './routes/tokens.ts'
import { proxyRoutes } from './routes/proxy.ts'

/** Builds the app. It uses nothing of the platform except `deps`. */
export function createApp(deps: Deps): Hono<AppEnv> {
  const { config, log, now } = deps
  const { basePath } = config
  const app = new Hono<AppEnv>(basePath ? { getPath: pathWithin(basePath) } : {})
  const admin = createAdmin(deps)

  app.use(async function requestId(c, next) {
    c.set('id', uuidv7({ msecs: now() }))
    await next()
    c.res.headers.set('x-weir-id', c.var.id)
  })
  app.use(async function tendStore(c, next) {
    await next()
    const work = deps.store?.tend()
    if (work) c.executionCtx.waitUntil(work)
  })

  if (basePath) {
    app.use(async function belowPath(c, next) {
      c.set('below', true)
      await next()
    })
    app.get(basePath, (c) => c.redirect(`${basePath}/`))
  }

  app.use('/api/groq', crossOrigin(config.allowedOrigins))
  app.use('/api/groq/*', crossOrigin(config.allowedOrigins))
  app.use('/api/tracking/*', crossOrigin(config.allowedOrigins))
  app.use(noWebSocket)

  app.route('/api/groq', proxyRoutes(deps))
  app.route('/api/tracking', syncRoutes(deps))
  app.route('/api/admin', adminRoutes(deps, admin))
  app.route('/api/tokens', tokensRoutes(deps, admin))
  app.route('/api/test', healthRoutes(deps))
  app.route('/admin', dashboardRoutes(deps, admin))
  app.route('/', homeRoutes(basePath))
  app.route('/', assetRoutes())

  app.notFound((c) =>
    errorResponse(
      c,
      new ApiError(
        'not_found',
        `No such route. Calls go to POST ${basePath}/api/groq or to ${basePath}/api/groq/openai/v1/…`,
      ),
    ),
  )
  app.onError((thrown, c) => {
    const found = asApiError(thrown)
    const error = c.req.raw.signal.aborted ? brokenOff() : found
    const fields = { id: c.var.id, code: error.code, status: error.status }
    const failure = { ...fields, error: found.cause }
    // The log already says once that the store is unavailable.
    const told = error.code === 'store_unavailable' && deps.store?.health().degraded
    if (error.status >= 500 && !told) log.error('request.failed', failure)
    // A client that leaves causes failures that are not errors.
    else log.debug('request.refused', found.status >= 500 ? failure : fields)
    return errorResponse(c, error)
  })
  return app
}
