/** What a route says to methods that it does not know. */
import type { Handler } from 'hono'
import { ApiError } from '../errors.ts'

/** `method_not_allowed`, with the methods that work. */
export const methodNotAllowed = (method: string, allowed: string[]): ApiError =>
  new ApiError(
    'method_not_allowed',
    `${method} is not possible here; use ${allowed.join(' or ')}.`,
    { headers: { allow: allowed.join(', ') } },
  )

/** A handler for all other methods of a path. */
export const only =
  (...allowed: string[]): Handler =>
  (c) => {
    throw methodNotAllowed(c.req.method, allowed)
  }
