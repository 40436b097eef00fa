/** Refuses a body that is too large, with or without a Content-Length. */
import type { MiddlewareHandler } from 'hono'
import { bodyLimit } from 'hono/body-limit'
import { ApiError, brokenOff } from '../errors.ts'

/** Enough for every form and every JSON body of Weir's own routes. */
export const OWN_BODY_BYTES = 64 * 1024

/** Middleware that answers `body_too_large` for more than `maxSize` bytes. */
export function limitBody(maxSize: number): MiddlewareHandler {
  const refuse = (): never => {
    throw new ApiError('body_too_large', `The body may have at most ${maxSize} bytes.`)
  }
  const counted = bodyLimit({ maxSize, onError: refuse })

  return async function limitBody(c, next) {
    const length = c.req.header('content-length')
    // With a Content-Length, no count is needed: the server reads no more than that (RFC 9112, section 6.3).
    if (length === undefined || c.req.header('transfer-encoding') !== undefined) {
      // What `next` throws does not come here: Hono has made an answer of it.
      return counted(c, next).catch((error: unknown) => {
        throw error instanceof ApiError ? error : brokenOff()
      })
    }
    if (Number(length) > maxSize) refuse()
    await next()
  }
}
