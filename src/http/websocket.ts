/** The answer to WebSocket handshakes. */
import type { MiddlewareHandler } from 'hono'
import { ApiError } from '../errors.ts'

/** Middleware that throws `upgrade_required`: clients that try a WebSocket first then go on with HTTP at once. */
export const noWebSocket: MiddlewareHandler = async function noWebSocket(c, next) {
  if (c.req.method === 'GET' && /\bwebsocket\b/i.test(c.req.header('upgrade') ?? '')) {
    throw new ApiError('upgrade_required', 'There are no WebSockets here; use HTTP requests.')
  }
  await next()
}
