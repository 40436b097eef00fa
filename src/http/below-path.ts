/** Addresses within the gateway, which a proxy may serve below a path of its site. */
import { getPath } from 'hono/utils/url'
import type { AppContext } from '../context.ts'

/** The path that the router sees: that of the request without `BASE_PATH`, which a proxy may leave in or take off. */
export const pathWithin =
  (basePath: string) =>
  (request: Request): string => {
    const path = getPath(request)
    return path.startsWith(`${basePath}/`) ? path.slice(basePath.length) : path
  }

/**
 * The way from the requested address to the root of the gateway. It is relative where the gateway is below a path: that
 * is right whether the proxy takes the path off or not, and whoever sends the header.
 */
export const rootOf = (c: AppContext): string =>
  c.var.below || c.req.header('x-forwarded-prefix') !== undefined
    ? `./${'../'.repeat(c.req.path.split('/').length - 2)}`
    : '/'
