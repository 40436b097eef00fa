/** `/api/admin`: login and logout, usage, blocks, erasure and export. */
import { Hono } from 'hono/tiny'
import type { AppEnv, Deps } from '../context.ts'
import type { Admin } from '../http/admin.ts'
import type { Bodies } from '../http/bodies.ts'
import { limitBody } from '../http/limit-body.ts'
import { allowMethods } from '../http/methods.ts'
import { sameOrigin } from '../http/same-origin.ts'
import { authHandler, loginHandler, logoutHandler } from './admin-login.ts'
import { usageHandler } from './admin-usage.ts'
import { blockHandler, eraseHandler } from './admin-users.ts'
import { exportHandler } from './export.ts'

/** The admin routes. */
export function adminRoutes(deps: Deps, bodies: Bodies, admin: Admin): Hono<AppEnv> {
  const app = new Hono<AppEnv>()
  app.use(sameOrigin, limitBody(bodies))

  app.get('/auth', authHandler(deps, admin))
  app.all('/auth', allowMethods('GET'))
  app.post('/login', loginHandler(deps, admin))
  app.all('/login', allowMethods('POST'))
  app.post('/logout', logoutHandler(deps, admin))
  app.all('/logout', allowMethods('POST'))

  app.use(admin.adminOnly)
  app.get('/export', exportHandler(deps, admin))
  app.all('/export', allowMethods('GET'))
  app.get('/usage', usageHandler(deps))
  app.post('/usage', blockHandler(deps, admin))
  app.all('/usage', allowMethods('GET', 'POST'))
  app.delete('/users/:userId', eraseHandler(deps, admin))
  app.all('/users/:userId', allowMethods('DELETE'))
  return app
}
