/**
 * Redirections of a cluster: a node says that another one has the key.
 * https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#redirection-and-resharding
 */
import { isIPv6 } from 'node:net'

export type Redirection = {
  /** Only this command goes to the other node, because the key is being moved there. Otherwise all commands do. */
  ask: boolean
  host: string
  port: string
}

/** The redirection in an error reply. */
export function redirectionOf(reply: string): Redirection | undefined {
  const [, kind, host = '', port = ''] = /^(MOVED|ASK) \d+ (\S*):(\d+)/.exec(reply) ?? []
  return kind === undefined ? undefined : { ask: kind === 'ASK', host, port }
}

/** The URL of another node. A node that does not know its own name leaves it out: then it is the host that was asked. */
export function redirected(url: string, { host, port }: Redirection): string {
  const next = new URL(url)
  if (host && host !== '?') next.hostname = isIPv6(host) ? `[${host}]` : host
  next.port = port
  return next.href
}
