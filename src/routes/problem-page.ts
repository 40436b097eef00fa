/** Errors as pages. */
import type { AppContext, Deps } from '../context.ts'
import { asApiError } from '../errors.ts'
import { awayPage, loginPage, problemPage } from '../views/login.tsx'
import { answerPage, type View } from './answer-page.ts'
import { frameOf } from './dashboard-frame.tsx'

/** Answers an error of a page or a form. After a wrong admin key it shows the login page again. */
export function answerProblem(c: AppContext, deps: Deps, thrown: unknown): Promise<Response> {
  const { config, store, log } = deps
  const { status, code, message, headers, cause } = asApiError(thrown)
  if (status === 500) log.error('request.failed', { id: c.var.id, code, status, error: cause })
  const isLoggedIn = c.get('admin') !== undefined
  const title = status === 404 ? 'Not found' : 'That did not work'
  let page: View = problemPage(title, message, isLoggedIn ? frameOf(c, deps) : undefined)
  if (code === 'store_unavailable') {
    const { queued, reason } = store?.health() ?? { queued: 0 }
    const open = config.onStoreDown === 'open'
    // A form cannot be sent again by a link.
    const path = c.req.method === 'GET' ? c.req.path + new URL(c.req.url).search : '/admin'
    page = awayPage({ open, queued, path, ...(reason !== undefined && { reason }) })
  } else if (code === 'invalid_token' || code === 'rate_limit_exceeded') {
    page = loginPage({ error: message })
  }
  return answerPage(c, page, status, headers)
}
