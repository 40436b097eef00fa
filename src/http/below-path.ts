/** Addresses within the gateway, which a proxy may serve below a path of its site. */
import type { AppContext } from '../context.ts'

/** A path without `BASE_PATH`, which a proxy may leave in or take off. */
export const pathWithin =
  (basePath: string) =>
  (path: string): string =>
    path.startsWith(`${basePath}/`) ? path.slice(basePath.length) : path

/**
 * The path from the requested address to the root of the gateway. It is relative if the gateway is below a path: so it is
 * right whether the proxy removes the path or not, and a client that sends the header itself harms nobody.
 */
export const rootOf = (c: AppContext): string =>
  c.var.below || c.req.header('x-forwarded-prefix') !== undefined
    ? `./${'../'.repeat(c.req.path.split('/').length - 2)}`
    : '/'
