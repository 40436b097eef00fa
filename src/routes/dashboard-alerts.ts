/** `/admin/alerts`: the page of alerts, and its form. */
import type { AppContext, Deps } from '../context.ts'
import type { Admin } from '../http/admin.ts'
import { alertsPage } from '../views/alerts.tsx'
import { alertsOf, testAlert } from './alerts.ts'
import { answerPage, seeOther } from './answer-page.ts'
import { frameOf } from './dashboard-frame.tsx'
import { isRefresh } from './dashboard-refresh.ts'

/** Answers with the page. */
export const alertsPageHandler =
  (deps: Deps) =>
  async (c: AppContext): Promise<Response> =>
    isRefresh(c)
      ? c.body(null, 304)
      : answerPage(c, alertsPage({ ...frameOf(c, deps), ...(await alertsOf(deps)) }))

/** Sends a test, and leads back to the page, which says how it went. */
export const testAlertFormHandler =
  (deps: Deps, admin: Admin) =>
  async (c: AppContext): Promise<Response> => {
    const { state } = await testAlert(deps, admin.stamp(c))
    return seeOther(c, `/admin/alerts?done=test-${state}`)
  }
