/** The address of a client, from the socket or from the header of trusted proxies. */

/**
 * The address at place `hops` from the end of an X-Forwarded-For: each proxy appends the address that called it. If there
 * are fewer, an inner proxy was called directly, and the first address is the client's.
 */
export function forwardedFor(header: string, hops: number): string {
  const entries = header.split(',')
  return bare(entries[Math.max(0, entries.length - hops)] ?? '')
}

/** An address without what some proxies add to it: a port, brackets, quotes, or the zone of a link-local address. */
export function bare(address: string): string {
  const text = address.trim().replace(/^"(.*)"$/, '$1')
  const [, inner] = /^\[(.*)\](?::\d+)?$/.exec(text) ?? []
  return (inner ?? text.replace(/^([\d.]+):\d+$/, '$1')).replace(/%.*$/, '')
}
