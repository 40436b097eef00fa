/** The address of a client, from the socket or from the header of trusted proxies. */

/**
 * The address that is `hops` from the end of an X-Forwarded-For: each proxy adds the one that called it. Where there are
 * fewer, an inner proxy was asked directly, and the first is the client's.
 */
export function forwardedFor(header: string, hops: number): string {
  const entries = header.split(',')
  return bare(entries[Math.max(0, entries.length - hops)] ?? '')
}

/** An address without what some write around it: a port, brackets, quotes, the zone of a link-local one. */
export function bare(address: string): string {
  const text = address.trim().replace(/^"(.*)"$/, '$1')
  const [, inner] = /^\[(.*)\](?::\d+)?$/.exec(text) ?? []
  return (inner ?? text.replace(/^([\d.]+):\d+$/, '$1')).replace(/%.*$/, '')
}
