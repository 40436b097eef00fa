/** The answer of a route to methods that it does not support. */
import type { Handler } from 'hono'
import { ApiError } from '../errors.ts'

/** The error `method_not_allowed`, with the allowed methods. */
export const methodNotAllowed = (method: string, allowed: string[]): ApiError =>
  new ApiError(
    'method_not_allowed',
    `${method} is not possible here; use ${allowed.join(' or ')}.`,
    { headers: { allow: allowed.join(', ') } },
  )

/** A handler for all other methods of a path. */
export const allowMethods =
  (...allowed: string[]): Handler =>
  (c) => {
    throw methodNotAllowed(c.req.method, allowed)
  }
