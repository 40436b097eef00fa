/** `/api/admin`: login and logout, usage, users, keys, tokens, alerts, plans, settings and export. */
import { Hono } from 'hono/tiny'
import type { AppEnv, Deps } from '../context.ts'
import type { Admin } from '../http/admin.ts'
import type { Bodies } from '../http/bodies.ts'
import { limitBody } from '../http/limit-body.ts'
import { allowMethods } from '../http/methods.ts'
import { sameOrigin } from '../http/same-origin.ts'
import { authHandler, loginHandler, logoutHandler } from './admin-login.ts'
import { tokenHandler } from './admin-tokens.ts'
import { usageHandler } from './admin-usage.ts'
import { blockHandler, eraseHandler } from './admin-users.ts'
import { alertsHandler, testAlertHandler } from './alerts.ts'
import { exportHandler } from './export.ts'
import {
  changeKeyHandler,
  createKeyHandler,
  deleteKeyHandler,
  keyHandler,
  listKeysHandler,
  rotateKeyHandler,
} from './keys.ts'
import { deletePlanHandler, planHandler, plansHandler, storePlanHandler } from './plans.ts'
import { POLICY_BYTES, policyHandler, restoreHandler } from './policy.ts'
import { settingsHandler, storeSettingsHandler } from './settings.ts'
import { IMPORT_BYTES, importHandler } from './users-import.ts'
import { changeUserHandler, resetHandler, userHandler, usersHandler } from './users.ts'

/** The admin routes. */
export function adminRoutes(deps: Deps, bodies: Bodies, admin: Admin): Hono<AppEnv> {
  const app = new Hono<AppEnv>()

  // Only these have large bodies, and only for the admin.
  const large = (bytes: number) => [sameOrigin, admin.adminOnly, limitBody(bodies, bytes)] as const
  app.post('/users/import', ...large(IMPORT_BYTES), importHandler(deps, admin))
  app.post('/policy', ...large(POLICY_BYTES), restoreHandler(deps, admin))

  app.use(sameOrigin, limitBody(bodies))
  app.get('/auth', authHandler(deps, admin))
  app.all('/auth', allowMethods('GET'))
  app.post('/login', loginHandler(deps, admin))
  app.all('/login', allowMethods('POST'))
  app.post('/logout', logoutHandler(deps, admin))
  app.all('/logout', allowMethods('POST'))

  app.use(admin.adminOnly)
  app.get('/export', admin.noViewers, exportHandler(deps, admin))
  app.all('/export', allowMethods('GET'))
  app.get('/usage', usageHandler(deps))
  app.post('/usage', blockHandler(deps, admin))
  app.all('/usage', allowMethods('GET', 'POST'))

  app.post('/tokens', tokenHandler(deps, admin))
  app.all('/tokens', allowMethods('POST'))
  app.get('/users', usersHandler(deps))
  app.all('/users', allowMethods('GET'))
  app.all('/users/import', allowMethods('POST'))
  app.get('/users/:userId', userHandler(deps))
  app.patch('/users/:userId', changeUserHandler(deps, admin))
  app.delete('/users/:userId', eraseHandler(deps, admin))
  app.all('/users/:userId', allowMethods('GET', 'PATCH', 'DELETE'))
  app.post('/users/:userId/reset', resetHandler(deps, admin))
  app.all('/users/:userId/reset', allowMethods('POST'))

  app.get('/alerts', alertsHandler(deps))
  app.all('/alerts', allowMethods('GET'))
  app.post('/alerts/test', testAlertHandler(deps, admin))
  app.all('/alerts/test', allowMethods('POST'))
  app.get('/keys', listKeysHandler(deps))
  app.post('/keys', createKeyHandler(deps, admin))
  app.all('/keys', allowMethods('GET', 'POST'))
  app.get('/keys/:keyId', keyHandler(deps))
  app.patch('/keys/:keyId', changeKeyHandler(deps, admin))
  app.delete('/keys/:keyId', deleteKeyHandler(deps, admin))
  app.all('/keys/:keyId', allowMethods('GET', 'PATCH', 'DELETE'))
  app.post('/keys/:keyId/rotate', rotateKeyHandler(deps, admin))
  app.all('/keys/:keyId/rotate', allowMethods('POST'))

  app.get('/plans', plansHandler(deps))
  app.all('/plans', allowMethods('GET'))
  app.get('/plans/:name', planHandler(deps))
  app.put('/plans/:name', storePlanHandler(deps, admin))
  app.delete('/plans/:name', deletePlanHandler(deps, admin))
  app.all('/plans/:name', allowMethods('GET', 'PUT', 'DELETE'))

  app.get('/settings', settingsHandler(deps))
  app.put('/settings', storeSettingsHandler(deps, admin))
  app.all('/settings', allowMethods('GET', 'PUT'))
  app.get('/policy', admin.noViewers, policyHandler(deps, admin))
  app.all('/policy', allowMethods('GET', 'POST'))
  return app
}
