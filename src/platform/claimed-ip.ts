/**
 * Detects a proxy that is not configured. All clients behind it have its address, while headers that are not trusted name
 * other addresses.
 */
import type { Config } from '../config/config.ts'
import type { Log } from '../log.ts'

const HELP =
  'if a proxy of yours stands before Weir, set TRUST_PROXY; until then all of its clients share one address, and new users are not limited by address. Without a proxy, set TRUST_PROXY=off.'

/** Reads a header of a request; names are in lower case. */
type Header = (name: string) => string | undefined

/**
 * Builds `claimedIp` for the headers that a proxy would send. It warns about the first of them. With `TRUST_PROXY` set,
 * nothing is a claim: such a header is either trusted, or made up by a client.
 */
export function claimReader(
  { trustProxy, proxySaid }: Pick<Config, 'trustProxy' | 'proxySaid'>,
  names: readonly string[],
  log: Log,
): (header: Header) => string | undefined {
  let told = false
  return (header) => {
    if (trustProxy) return undefined
    const name = names.find((one) => header(one) !== undefined)
    if (name === undefined) return undefined
    if (!told) log.warn('proxy.not_trusted', { header: name, help: HELP })
    told = true
    return proxySaid ? undefined : lastAddress(header(name) ?? '')
  }
}

/** The last address of a list, as in `a, b` or, of the header `Forwarded`, `for=a;proto=https, for="[b]"`. */
function lastAddress(list: string): string {
  const last = list.split(',').at(-1) ?? ''
  const [, named] = /for="?\[?([^\]";]+)/i.exec(last) ?? []
  return (named ?? last).trim()
}
