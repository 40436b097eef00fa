/** Reads the small bodies of Weir's own routes. */
import type { MiddlewareHandler } from 'hono'
import type { AppEnv } from '../context.ts'
import type { Bodies } from './bodies.ts'

/** Enough for every form and every JSON body of Weir's own routes. */
const OWN_BODY_BYTES = 64 * 1024

/** Middleware that reads the body for the methods of `c.req`, and answers `body_too_large` for more than `maxSize` bytes. */
export const limitBody = (bodies: Bodies, maxSize = OWN_BODY_BYTES): MiddlewareHandler<AppEnv> =>
  async function limitBody(c, next) {
    if (c.req.method === 'GET' || c.req.method === 'HEAD') return next()
    const { bytes, release } = await bodies(c, maxSize)
    try {
      c.req.bodyCache.arrayBuffer = Promise.resolve(new Uint8Array(bytes).buffer) as never
      await next()
    } finally {
      release()
    }
  }
