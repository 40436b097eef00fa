/** Admin sessions: a cookie that cannot be made without the admin's key, and an entry in the store that logout removes. */
import { deleteCookie, getSignedCookie, setSignedCookie } from 'hono/cookie'
import type { CookiePrefixOptions } from 'hono/utils/cookie'
import type { AdminKey } from '../config/admins.ts'
import type { AppContext, Deps } from '../context.ts'
import { DAY_MS, SECOND_MS } from '../ledger/windows.ts'
import { base64url } from './ids.ts'

export type Session = {
  /** The session's name in the store: a hash, from which the cookie cannot be made. */
  hash: string
  /** Epoch ms. */
  until: number
  admin: AdminKey
}

type Created = Session & { id: string }

export const SESSION_COOKIE = 'weir_session'
const LASTS_MS = DAY_MS

export type Sessions = {
  /** Makes a new session of an admin. It is not stored yet. */
  create(admin: AdminKey): Promise<Created>
  /** Sets the cookie of a session that the store has. */
  give(c: AppContext, created: Created): Promise<void>
  /** The session in the request's cookie. It may have been logged out. */
  read(c: AppContext): Promise<Session | undefined>
  /** Removes the cookie. */
  forget(c: AppContext): void
}

/**
 * Builds the sessions of the admins. The cookie holds the end and 256 random bits, signed with HMAC-SHA256 under a
 * key made from the admin's key. A forged cookie, an expired one, or one from before a change of the key is refused
 * without a call to the store.
 */
export function createSessions({ config, now }: Pick<Deps, 'config' | 'now'>): Sessions {
  const secretOf = ({ key }: AdminKey) => `weir admin session ${key}`

  /** The prefix binds the cookie to this host over TLS, or to TLS where it has a path (RFC 6265bis, section 4.1.3). */
  const secure: CookiePrefixOptions = config.basePath ? 'secure' : 'host'
  const prefix = (c: AppContext): CookiePrefixOptions | undefined => {
    const proxied = config.trustProxy && c.req.header('x-forwarded-proto')
    // Behind a proxy that is not configured, the page's own origin shows the scheme.
    const urls = [c.req.url, `${proxied}:`, c.req.header('origin')]
    return urls.some((url) => url?.startsWith('https:')) ? secure : undefined
  }
  const options = (c: AppContext) =>
    ({
      prefix: prefix(c),
      httpOnly: true,
      sameSite: 'Strict',
      path: config.basePath || '/',
    }) as const

  const sessionOf = async (id: string, until: number, admin: AdminKey): Promise<Session> => {
    const digest = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(id))
    return { hash: base64url(digest), until, admin }
  }

  /** What the cookie says under the key of an admin, if it was signed with it. */
  const valueOf = async (c: AppContext, admin: AdminKey) =>
    (await getSignedCookie(c, secretOf(admin), SESSION_COOKIE, secure)) ||
    (await getSignedCookie(c, secretOf(admin), SESSION_COOKIE))

  return {
    async create(admin) {
      const id = base64url(crypto.getRandomValues(new Uint8Array(32)).buffer)
      return { ...(await sessionOf(id, now() + LASTS_MS, admin)), id }
    },
    async give(c, { id, until, admin }) {
      const age = { maxAge: LASTS_MS / SECOND_MS }
      await setSignedCookie(c, SESSION_COOKIE, `${until}.${id}`, secretOf(admin), {
        ...options(c),
        ...age,
      })
    },
    async read(c) {
      for (const admin of config.admins) {
        const [, until, id] = /^(\d+)\.(.+)$/.exec((await valueOf(c, admin)) || '') ?? []
        if (id !== undefined && Number(until) > now()) return sessionOf(id, Number(until), admin)
      }
      return undefined
    },
    forget(c) {
      // Logout must work over HTTP and over HTTPS.
      for (const prefix of [undefined, secure])
        deleteCookie(c, SESSION_COOKIE, { ...options(c), prefix })
    },
  }
}
