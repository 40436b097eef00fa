/** `/api/admin/auth`, `login` and `logout`: the admin session, for scripts and for the forms of the pages. */
import { seeOther } from './answer-page.ts'
import type { AppContext, Deps } from '../context.ts'
import type { Admin } from '../http/admin.ts'
import { formOf, isForm } from '../http/form.ts'
import { jsonBody } from '../http/json-body.ts'
import { LOGIN_REFUSAL, loginBody } from './admin-schemas.ts'
import { answerProblem } from './problem-page.ts'

/** Tells whether the caller has a session. */
export const authHandler =
  ({ config }: Deps, admin: Admin) =>
  async (c: AppContext): Promise<Response> => {
    c.header('cache-control', 'no-store')
    const session = config.admins.length === 0 ? undefined : await admin.session(c)
    return c.json(
      session
        ? {
            authenticated: true,
            expiresAt: session.until,
            name: session.admin.name,
            role: session.admin.role,
          }
        : { authenticated: false },
    )
  }

/** Opens a session. */
export const loginHandler =
  (deps: Deps, admin: Admin) =>
  async (c: AppContext): Promise<Response> => {
    c.header('cache-control', 'no-store')
    const login = async (key: string) => {
      const session = await admin.login(c, key)
      // For the notices of the dashboard: an instance on the edge has tried nothing before its first request.
      await deps.store?.probeOnce().catch(() => undefined)
      return session
    }
    if (isForm(c)) {
      return onPage(c, deps, async () => login((await formOf(c)).key ?? ''))
    }
    const { key } = await jsonBody(c, loginBody, LOGIN_REFUSAL)
    const { until } = await login(key)
    return c.json({ success: true, expiresAt: until })
  }

/** Ends the session. */
export const logoutHandler =
  (deps: Deps, admin: Admin) =>
  async (c: AppContext): Promise<Response> => {
    c.header('cache-control', 'no-store')
    if (isForm(c)) return onPage(c, deps, () => admin.logout(c))
    await admin.logout(c)
    return c.json({ success: true })
  }

/** A form is redirected to the dashboard, or gets a page with the error. */
async function onPage(c: AppContext, deps: Deps, run: () => Promise<unknown>): Promise<Response> {
  try {
    await run()
  } catch (thrown) {
    return answerProblem(c, deps, thrown)
  }
  return seeOther(c, '/admin')
}
