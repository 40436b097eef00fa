/** The admin's session: a cookie that cannot be made without ADMIN_KEY, and an entry in the store that logging out removes. */
import { deleteCookie, getSignedCookie, setSignedCookie } from 'hono/cookie'
import type { CookiePrefixOptions } from 'hono/utils/cookie'
import type { AppContext, Deps } from '../context.ts'
import { DAY_MS, SECOND_MS } from '../ledger/windows.ts'
import { base64url } from '../usage/user-id.ts'

export type Session = {
  /** How the store knows it: a hash, of which the cookie cannot be made. */
  hash: string
  /** Epoch ms. */
  until: number
}

export type Created = Session & { id: string }

export const SESSION_COOKIE = 'weir_session'
const LASTS_MS = DAY_MS

export type Sessions = {
  /** A session that nobody has yet. */
  create(): Promise<Created>
  /** Puts its cookie into the answer, once the store has it. */
  give(c: AppContext, created: Created): Promise<void>
  /** The session that the request's cookie tells of, whether or not it is still open. */
  read(c: AppContext): Promise<Session | undefined>
  /** Removes the cookie. */
  forget(c: AppContext): void
}

/**
 * Builds the sessions of an admin key. The cookie holds the end and 256 random bits, signed with HMAC-SHA256 under a
 * key made of the admin key: a forged cookie, one that has ended or one from before a change of the key is seen
 * without asking the store.
 */
export function createSessions(
  { config, now }: Pick<Deps, 'config' | 'now'>,
  adminKey: string,
): Sessions {
  const secret = `weir admin session ${adminKey}`

  /** The prefix binds the cookie to this very host over TLS (RFC 6265bis, section 4.1.3.2). */
  const prefix = (c: AppContext): CookiePrefixOptions | undefined => {
    const proxied = config.trustProxy && c.req.header('x-forwarded-proto')
    // Behind a proxy that is not told of, the page's own origin tells.
    const urls = [c.req.url, `${proxied}:`, c.req.header('origin')]
    return urls.some((url) => url?.startsWith('https:')) ? 'host' : undefined
  }
  const options = (c: AppContext) =>
    ({ prefix: prefix(c), httpOnly: true, sameSite: 'Strict', path: '/' }) as const

  const sessionOf = async (id: string, until: number): Promise<Session> => {
    const digest = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(id))
    return { hash: base64url(digest), until }
  }

  return {
    async create() {
      const id = base64url(crypto.getRandomValues(new Uint8Array(32)))
      return { ...(await sessionOf(id, now() + LASTS_MS)), id }
    },
    async give(c, { id, until }) {
      const age = { maxAge: LASTS_MS / SECOND_MS }
      await setSignedCookie(c, SESSION_COOKIE, `${until}.${id}`, secret, { ...options(c), ...age })
    },
    async read(c) {
      const value =
        (await getSignedCookie(c, secret, SESSION_COOKIE, 'host')) ||
        (await getSignedCookie(c, secret, SESSION_COOKIE))
      const [, until, id] = /^(\d+)\.(.+)$/.exec(value || '') ?? []
      if (id === undefined || !(Number(until) > now())) return undefined
      return sessionOf(id, Number(until))
    },
    forget(c) {
      // Logging out has to work however the page was reached.
      for (const prefix of [undefined, 'host'] as const)
        deleteCookie(c, SESSION_COOKIE, { ...options(c), prefix })
    },
  }
}
