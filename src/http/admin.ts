/** Admits admins: with a browser session, or with `Authorization: Bearer ADMIN_KEY` for scripts. */
import type { MiddlewareHandler } from 'hono'
import type { AdminKey } from '../config/admins.ts'
import type { AppContext, AppEnv, Deps } from '../context.ts'
import { ApiError } from '../errors.ts'
import { createKeyCheck } from '../identity/admin-key.ts'
import { storedIp } from '../identity/caller.ts'
import { createSessions, type Session, type Sessions } from '../identity/sessions.ts'
import type { Audit } from '../ledger/events.ts'
import { storeAnswer, storeOf } from '../store/required.ts'

export type Admin = {
  /**
   * Answers `not_configured`, `missing_token`, `invalid_token` or `rate_limit_exceeded` to everyone else, and `forbidden` to
   * a viewer who would change something.
   */
  adminOnly: MiddlewareHandler<AppEnv>
  /** Answers `forbidden` to viewers. After `adminOnly`. */
  noViewers: MiddlewareHandler<AppEnv>
  /** The open session of the request's cookie. Throws `not_configured`, `store_unavailable`. */
  session(c: AppContext): Promise<Session | undefined>
  /** Opens a session. Throws `not_configured`, `invalid_token`, `rate_limit_exceeded`, `store_unavailable`. */
  login(c: AppContext, key: string): Promise<Session>
  /** Removes the cookie, and ends the session of the request, if it has one. Throws `not_configured`, `store_unavailable`. */
  logout(c: AppContext): Promise<void>
  /** The time and the address for the record of an action. */
  stamp(c: AppContext): Stamp
}

export type Stamp = { now: number; ip?: string; by?: string }

/** Whether the caller may only read, and sees no addresses. */
export const isViewer = (c: AppContext): boolean => c.var.admin.role === 'viewer'

/** A report of a user as the caller may see it: viewers see no address. */
export const withoutAddress = <T extends { ipAddress: string | null }>(
  c: AppContext,
  user: T,
): T => (isViewer(c) ? { ...user, ipAddress: null } : user)

/** The audit trail as the caller may see it. */
export const auditFor = (c: AppContext, audit: Audit[]): Audit[] =>
  isViewer(c) ? audit.map(({ ip: _, ...entry }) => entry) : audit

/** Throws `forbidden` for a viewer. */
function refuseViewer(c: AppContext): void {
  if (!isViewer(c)) return
  throw new ApiError('forbidden', 'Your key is that of a viewer, who may only read; ask an admin.')
}

/** Builds the check of the configured admins. */
export function createAdmin(deps: Deps): Admin {
  const { config, now, clientIp } = deps
  const sessions = config.admins.length > 0 ? createSessions(deps) : undefined
  const checkKey = createKeyCheck(deps)

  function configured(): { sessions: Sessions } {
    if (sessions) return { sessions }
    throw new ApiError('not_configured', 'The admin routes need ADMIN_KEY to be set.')
  }

  async function session(c: AppContext): Promise<Session | undefined> {
    const told = await configured().sessions.read(c)
    if (!told) return undefined
    return (await storeAnswer(storeOf(deps).session(told.hash, now()))) ? told : undefined
  }

  function stamp(c: AppContext) {
    const ip = storedIp(clientIp(c), config.ipStorage)
    const admin = c.get('admin') as AdminKey | undefined
    return {
      now: now(),
      ...(ip !== undefined && { ip }),
      ...(admin && { by: admin.name }),
    }
  }

  /** Checks a key. A wrong one is in the log and in the audit trail. */
  async function check(c: AppContext, key: string): Promise<AdminKey> {
    try {
      return await checkKey(c, key)
    } catch (error) {
      if (error instanceof ApiError && error.code === 'invalid_token') tellFailure(c)
      throw error
    }
  }

  function tellFailure(c: AppContext): void {
    const { store, log } = deps
    const failure = stamp(c)
    log.warn('login.failed', failure.ip === undefined ? {} : { ip: failure.ip })
    // The answer does not wait for the audit trail. While the database is away, the failure is only in the log.
    const noted = store?.execute({ op: 'note', action: 'failed login', ...failure })
    if (noted) c.executionCtx.waitUntil(noted.catch(() => undefined))
  }

  return {
    async adminOnly(c, next) {
      configured()
      c.header('cache-control', 'no-store')
      const [, key] = /^bearer +(.*)$/i.exec(c.req.header('authorization') ?? '') ?? []
      const admin = key === undefined ? (await session(c))?.admin : await check(c, key)
      if (!admin) {
        throw new ApiError(
          'missing_token',
          'Log in at /admin, or send the admin key as `Authorization: Bearer ADMIN_KEY`.',
        )
      }
      c.set('admin', admin)
      if (!/^(GET|HEAD)$/.test(c.req.method)) refuseViewer(c)
      await next()
    },
    async noViewers(c, next) {
      refuseViewer(c)
      await next()
    },
    session,
    async login(c, key) {
      const { sessions } = configured()
      const store = storeOf(deps)
      const admin = await check(c, key)
      c.set('admin', admin)
      const created = await sessions.create(admin)
      const { hash, until } = created
      await storeAnswer(store.execute({ op: 'login', session: hash, until, ...stamp(c) }))
      await sessions.give(c, created)
      return { hash, until, admin }
    },
    async logout(c) {
      const { sessions } = configured()
      const told = await sessions.read(c)
      // The browser forgets its session even while the database is away.
      sessions.forget(c)
      if (told) {
        c.set('admin', told.admin)
        const logout = { op: 'logout', session: told.hash, ...stamp(c) } as const
        await storeAnswer(storeOf(deps).execute(logout))
      }
    },
    stamp,
  }
}
