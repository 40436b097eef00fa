/** Finds the caller: from a user token to the user's id. The raw token is never stored and never logged. */
import { ApiError } from '../errors.ts'
import type { AppContext, Deps } from '../context.ts'
import type { Config } from '../config/config.ts'
import { createIds } from './ids.ts'

export type Caller = { id: string; ip?: string; session?: string }

/**
 * Finds the caller of a request, from its headers or from a token in its body. Throws `missing_token`, `invalid_token`,
 * `invalid_request`.
 */
export type Identify = (c: AppContext, bodyToken?: string) => Promise<Caller>

const PRINTABLE = /^[\x20-\x7e]{8,512}$/

export function createIdentify({ config, clientIp }: Pick<Deps, 'config' | 'clientIp'>): Identify {
  const ids = createIds(config.userHashSecret)
  let adminId: string | undefined

  return async function identify(c, bodyToken) {
    const tokens = new Set(
      [bearer(c.req.header('authorization')), c.req.header('x-user-token'), bodyToken]
        .map((token) => token?.trim())
        .filter((token) => token !== undefined && token !== ''),
    )
    const [token, other] = tokens
    if (other !== undefined) {
      throw new ApiError('invalid_request', 'Two different user tokens were sent; send one.')
    }
    if (token === undefined) {
      throw new ApiError(
        'missing_token',
        'No user token: send it as `Authorization: Bearer TOKEN` or in the `x-user-token` header.',
      )
    }
    if (!PRINTABLE.test(token)) {
      throw new ApiError('invalid_token', 'A user token has 8 to 512 printable ASCII characters.')
    }
    const id = await ids.user(token)
    // Hashes are compared, so the time of the comparison reveals nothing about the key.
    if (config.adminKey !== undefined) adminId ??= await ids.user(config.adminKey)
    if (id === adminId) {
      throw new ApiError('invalid_token', 'The admin key is not a user token.')
    }
    const caller: Caller = { id }
    const ip = storedIp(clientIp(c), config.ipStorage)
    if (ip !== undefined) caller.ip = ip
    const session = c.req.header('x-session-id')
    if (session) caller.session = await ids.session(session)
    return caller
  }
}

function bearer(header: string | undefined): string | undefined {
  if (header === undefined) return undefined
  const [, token] = /^bearer +(.*)$/i.exec(header) ?? []
  if (token !== undefined) return token
  if (header.trim() === '') return undefined
  throw new ApiError('invalid_token', 'The Authorization header must be `Bearer TOKEN`.')
}

/** An address as `IP_STORAGE` allows it: full, only its network (/24, /48), or not at all. */
export function storedIp(
  address: string | undefined,
  storage: Config['ipStorage'],
): string | undefined {
  // A socket for both families writes IPv4 as ::ffff:192.0.2.1.
  const ip = address
    ?.trim()
    .toLowerCase()
    .replace(/^::ffff:(?=\d+\.)/, '')
  if (!ip || storage === 'off' || !isAddress(ip)) return undefined
  if (storage === 'full') return ip
  return ip.includes(':') ? networkOf(ip, 3) : `${ip.split('.').slice(0, 3).join('.')}.0`
}

/** The first groups of an IPv6 address, 16 bits each. Any other address is unchanged. */
export function networkOf(ip: string, groups: number): string {
  if (!ip.includes(':')) return ip
  const [head = '', tail] = ip.split('::')
  const before = head === '' ? [] : head.split(':')
  const after = tail ? tail.split(':') : []
  const zeros = Array<string>(Math.max(0, 8 - before.length - after.length)).fill('0')
  return `${[...before, ...zeros, ...after].slice(0, groups).join(':')}::`
}

/** Only a plain address can be shortened. An address with a port, for example, cannot. */
const isAddress = (ip: string): boolean =>
  ip.includes(':')
    ? /^[0-9a-f.:]{2,45}$/.test(ip) && URL.canParse(`http://[${ip}]`)
    : /^\d{1,3}(\.\d{1,3}){3}$/.test(ip) && URL.canParse(`http://${ip}`)
