/** `/admin/alerts`: the page of alerts, and its form. */
import type { AppContext, Deps } from '../context.ts'
import type { Admin } from '../http/admin.ts'
import { alertsPage } from '../views/alerts.tsx'
import { alertsOf, testAlert } from './alerts.ts'
import { answerPage, seeOther } from './answer-page.ts'
import { frameOf, framed } from './dashboard-frame.tsx'
import { isRefresh, refreshed } from './dashboard-refresh.ts'

/** Answers with the page, whole or as a refresh. */
export const alertsPageHandler =
  (deps: Deps) =>
  async (c: AppContext): Promise<Response> => {
    const [{ days }, told] = await Promise.all([framed(deps), alertsOf(deps)])
    const frame = frameOf(c, deps, days)
    const page = () => alertsPage({ ...frame, ...told })
    if (isRefresh(c)) return refreshed(c, frame, [told, frame.counts], page)
    return answerPage(c, page())
  }

/** Sends a test, and leads back to the page, which says how it went. */
export const testAlertFormHandler =
  (deps: Deps, admin: Admin) =>
  async (c: AppContext): Promise<Response> => {
    const { state } = await testAlert(deps, admin.stamp(c))
    return seeOther(c, `/admin/alerts?done=test-${state}`)
  }
