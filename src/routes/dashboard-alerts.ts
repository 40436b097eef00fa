/** `/admin/alerts`: the page of alerts, and its form. */
import type { AppContext, Deps } from '../context.ts'
import type { Admin } from '../http/admin.ts'
import { alertsPage } from '../views/alerts.tsx'
import { alertsOf, testAlert } from './alerts.ts'
import { answerPage, seeOther } from './answer-page.ts'
import { framed, frameOf } from './dashboard-frame.tsx'
import { isRefresh } from './dashboard-refresh.ts'

/** Answers with the page. */
export const alertsPageHandler =
  (deps: Deps) =>
  async (c: AppContext): Promise<Response> => {
    if (isRefresh(c)) return c.body(null, 304)
    const [{ days }, alerts] = await Promise.all([framed(deps), alertsOf(deps)])
    return answerPage(c, alertsPage({ ...frameOf(c, deps, days), ...alerts }))
  }

/** Sends a test, and leads back to the page, which says how it went. */
export const testAlertFormHandler =
  (deps: Deps, admin: Admin) =>
  async (c: AppContext): Promise<Response> => {
    const { state } = await testAlert(deps, admin.stamp(c))
    return seeOther(c, `/admin/alerts?done=test-${state}`)
  }
