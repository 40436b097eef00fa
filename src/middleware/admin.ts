/** Lets the admin in: `Authorization: Bearer ADMIN_KEY`. */
import type { MiddlewareHandler } from 'hono'
import { timingSafeEqual } from 'hono/utils/buffer'
import type { AppEnv, Deps } from '../context.ts'
import { ApiError } from '../errors.ts'

/** Builds the middleware; it answers `not_configured`, `missing_token` or `invalid_token` to everyone else. */
export function adminOnly({ config }: Pick<Deps, 'config'>): MiddlewareHandler<AppEnv> {
  return async function adminOnly(c, next) {
    if (config.adminKey === undefined) {
      throw new ApiError('not_configured', 'The admin routes need ADMIN_KEY to be set.')
    }
    const [, key] = /^bearer +(.*)$/i.exec(c.req.header('authorization') ?? '') ?? []
    if (key === undefined) {
      throw new ApiError(
        'missing_token',
        'Send the admin key as `Authorization: Bearer ADMIN_KEY`.',
      )
    }
    if (!(await timingSafeEqual(key, config.adminKey))) {
      throw new ApiError('invalid_token', 'That is not the admin key.')
    }
    c.header('cache-control', 'no-store')
    await next()
  }
}
