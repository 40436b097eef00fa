/** `/admin`: the pages of the dashboard, and their forms. */
import { Hono } from 'hono/tiny'
import type { AppEnv, Deps } from '../context.ts'
import { ApiError } from '../errors.ts'
import type { Admin } from '../http/admin.ts'
import type { Bodies } from '../http/bodies.ts'
import { limitBody } from '../http/limit-body.ts'
import { sameOrigin } from '../http/same-origin.ts'
import { loginPage } from '../views/login.tsx'
import { setupPage } from '../views/setup.tsx'
import { answerPage, seeOther } from './answer-page.ts'
import { alertsPageHandler, testAlertFormHandler } from './dashboard-alerts.ts'
import { auditHandler } from './dashboard-audit.ts'
import { findHandler } from './dashboard-find.ts'
import { overviewHandler } from './dashboard-overview.ts'
import { quickHandler } from './dashboard-quick.ts'
import { requestHandler, requestsHandler } from './dashboard-requests.ts'
import { newUserHandler, usersPageHandler } from './dashboard-users.ts'
import { plansFormHandler, plansPageHandler } from './dashboard-plans.ts'
import { settingsFormHandler, settingsPageHandler } from './dashboard-settings.ts'
import { toUserHandler, userFormHandler } from './dashboard-user-forms.ts'
import { userHandler } from './dashboard-user.ts'
import { answerProblem } from './problem-page.ts'
import { createSetupLook } from './setup.ts'

/** The pages and forms. They need a session. */
export function dashboardRoutes(deps: Deps, bodies: Bodies, admin: Admin): Hono<AppEnv> {
  const app = new Hono<AppEnv>()
  app.onError((thrown, c) => answerProblem(c, deps, thrown))

  const look = createSetupLook(deps)

  app.use(sameOrigin, async function loggedIn(c, next) {
    // Nobody can log in.
    if (deps.config.admins.length === 0 || !deps.store)
      return answerPage(c, setupPage(await look(c)), 503)
    const session = await admin.session(c)
    if (!session) return answerPage(c, loginPage(), 401)
    c.set('admin', session.admin)
    await next()
  })

  app.get('/', overviewHandler(deps))
  app.get('/users', usersPageHandler(deps))
  app.get('/find', (c) => seeOther(c, '/admin/users'))
  app.get('/requests', requestsHandler(deps))
  app.get('/requests/:requestId', requestHandler(deps))
  app.get('/audit', auditHandler(deps))
  app.get('/setup', async (c) => answerPage(c, setupPage(await look(c))))
  app.get('/users/:userId', userHandler(deps))
  // The page that answers a form refreshes itself from here.
  app.get('/users/:userId/*', toUserHandler)
  app.get('/alerts', alertsPageHandler(deps))
  app.get('/alerts/*', (c) => seeOther(c, '/admin/alerts'))
  app.get('/plans', plansPageHandler(deps))
  app.get('/plans/*', (c) => seeOther(c, '/admin/plans'))
  app.get('/settings', settingsPageHandler(deps))
  app.get('/settings/*', (c) => seeOther(c, '/admin/settings'))

  app.use(limitBody(bodies))
  app.post('/find', findHandler(deps))
  app.use(admin.noViewers)
  app.post('/alerts/test', testAlertFormHandler(deps, admin))
  app.post('/users', newUserHandler(deps, admin))
  app.post('/users/:userId/quick', quickHandler(deps, admin))
  app.post('/plans/:form', plansFormHandler(deps, admin))
  app.post('/settings/:form', settingsFormHandler(deps, admin))
  app.post('/users/:userId/:form', userFormHandler(deps, admin))
  app.post('/users/:userId/keys/:key/:form', userFormHandler(deps, admin))

  app.all('*', () => {
    throw new ApiError('not_found', 'There is no such page.')
  })
  return app
}
