/** Finds the caller: from a user token to the user's id. The raw token is never stored and never logged. */
import { ApiError } from '../errors.ts'
import type { AppContext, Deps } from '../context.ts'
import type { Config } from '../config/config.ts'
import { TOKEN_KINDS, type TokenKind } from '../config/tokens.ts'
import { minuteOf } from '../ledger/windows.ts'
import { createIds, type Ids } from './ids.ts'
import { createIssuedKeys, isIssuedKey } from './issued-key.ts'
import { isJwt, type TokenClaims } from './jwt.ts'
import { createVerify } from './signed.ts'

/** The user of a token. */
type TokenUser = {
  id: string
  /** The issued key: its id among the user's keys, and the hash of all of it. */
  key?: { id: string; hash: string }
  /** What else a signed token says. */
  claims?: TokenClaims
  /** The token is one that anyone could make up. */
  isUnverified?: true
}

/** `network` is absent if new users of it are not limited. */
export type Caller = TokenUser & { ip?: string; session?: string; network?: string }

/**
 * Finds the caller of a request, from its headers or from a token in its body. Throws `missing_token`, `invalid_token`,
 * `expired_token`, `invalid_request`, `issuer_unavailable`.
 */
export type Identify = (c: AppContext, bodyToken?: string) => Promise<Caller>

const ADMIN_KEY_HELP =
  'somebody sends the admin key as a user token: it belongs in no page and no app; if it is in one, change it'

const PRINTABLE = /^[\x20-\x7e]{8,512}$/

/** The groups of an IPv6 address that identify a customer's network (RFC 6177). */
export const CUSTOMER_GROUPS = 4

/**
 * Takes the place of the admin key if that is sent as a token, so that no hash of the key is stored. No token has its
 * first character.
 */
const ADMIN_KEY_AS_TOKEN = '\0admin key'

type Needed = Pick<Deps, 'config' | 'clientIp' | 'claimedIp' | 'fetchKeys' | 'now' | 'log'>

/** A kind of token: which texts are of it, and who their user is. */
type Kind = { is(token: string): boolean; userOf(token: string, c: AppContext): Promise<TokenUser> }

export function createIdentify(deps: Needed): Identify {
  const { config, clientIp, claimedIp } = deps
  const ids = createIds(config.userHashSecret)
  const verify = createVerify(deps, ids)
  // In the order in which they are asked. A token belongs to the first kind that has its shape, and never to another.
  // Without signed tokens, a JWT belongs to the kind `any`; an issued key never does.
  const kinds: Record<TokenKind, Kind> = {
    issued: { is: isIssuedKey, userOf: createIssued(config) },
    signed: {
      is: isJwt,
      userOf: (token, c) => verify(token, (work) => c.executionCtx.waitUntil(work)),
    },
    any: { is: () => true, userOf: createAny(deps, ids) },
  }
  const isTaken = (name: string) => config.userTokens.includes(name as TokenKind)
  const told = Object.entries(kinds).filter(([name]) => name === 'issued' || isTaken(name))

  return async function identify(c, bodyToken) {
    const token = tokenOf(c, bodyToken)
    const [name, kind] = told.find(([, { is }]) => is(token)) ?? []
    if (name === undefined || !kind || !isTaken(name)) {
      const names = config.userTokens.map((name) => TOKEN_KINDS[name])
      throw new ApiError('invalid_token', `User tokens of this gateway are ${names.join(' or ')}.`)
    }
    const { id, key, claims, isUnverified } = await kind.userOf(token, c)
    const caller: Caller = { id }
    if (key) caller.key = key
    if (claims) caller.claims = claims
    if (isUnverified) caller.isUnverified = true
    const address = plainIp(clientIp(c))
    if (address !== undefined) {
      const ip = shortened(address, config.ipStorage)
      if (ip !== undefined) caller.ip = ip
      if (isUnverified && config.newUsersPerMinute > 0 && claimedIp(c) === undefined) {
        caller.network = await ids.network(networkOf(address, CUSTOMER_GROUPS))
      }
    }
    const session = c.req.header('x-session-id')
    if (session) caller.session = await ids.session(session)
    return caller
  }
}

/** The token of a request. Throws `missing_token`, `invalid_token`, `invalid_request`. */
function tokenOf(c: AppContext, bodyToken: string | undefined): string {
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
  return token
}

/**
 * Builds the function that finds the user of an issued key. It refuses junk without the store; the store checks the other
 * keys.
 */
function createIssued({ userHashSecret }: Pick<Config, 'userHashSecret'>) {
  const keys = userHashSecret === undefined ? undefined : createIssuedKeys(userHashSecret)
  return async function userOfKey(text: string): Promise<TokenUser> {
    const found = await keys?.read(text)
    if (found) return { id: found.userId, key: { id: found.id, hash: found.hash } }
    throw new ApiError(
      'invalid_key',
      'This key is not valid: it is mistyped, or from another gateway.',
    )
  }
}

/** Builds the function that finds the user of any token. */
function createAny({ config, now, log }: Pick<Deps, 'config' | 'now' | 'log'>, ids: Ids) {
  let adminIds: Set<string> | undefined
  let warnedIn = 0

  /** Warns once a minute. The answer is that of any token, because another one would confirm a guess. */
  async function idOfAdminKey(): Promise<string> {
    const user = await ids.user(ADMIN_KEY_AS_TOKEN)
    const minute = minuteOf(now())
    if (minute !== warnedIn) log.warn('admin_key.as_token', { user, help: ADMIN_KEY_HELP })
    warnedIn = minute
    return user
  }

  return async function userOfAny(token: string): Promise<TokenUser> {
    if (!PRINTABLE.test(token)) {
      throw new ApiError('invalid_token', 'A user token has 8 to 512 printable ASCII characters.')
    }
    const own = await ids.user(token)
    // Hashes are compared, so the time of the comparison reveals nothing about the key.
    adminIds ??= new Set(await Promise.all(config.admins.map(({ key }) => ids.user(key))))
    return { id: adminIds.has(own) ? await idOfAdminKey() : own, isUnverified: true }
  }
}

function bearer(header: string | undefined): string | undefined {
  if (header === undefined) return undefined
  const [, token] = /^bearer +(.*)$/i.exec(header) ?? []
  if (token !== undefined) return token
  // A proxy in front may ask for a name and a password; browsers then send them with each request of the site.
  if (header.trim() === '' || /^basic /i.test(header)) return undefined
  throw new ApiError('invalid_token', 'The Authorization header must be `Bearer TOKEN`.')
}

/** An address as `IP_STORAGE` allows it: full, only its network (/24, /48), or not at all. */
export function storedIp(
  address: string | undefined,
  storage: Config['ipStorage'],
): string | undefined {
  const ip = plainIp(address)
  return ip === undefined ? undefined : shortened(ip, storage)
}

/** An address in lower case; undefined if it is not an address. */
function plainIp(address: string | undefined): string | undefined {
  // A socket for both families writes IPv4 as ::ffff:192.0.2.1.
  const ip = address
    ?.trim()
    .toLowerCase()
    .replace(/^::ffff:(?=\d+\.)/, '')
  return ip && isAddress(ip) ? ip : undefined
}

function shortened(ip: string, storage: Config['ipStorage']): string | undefined {
  if (storage === 'off') return undefined
  if (storage === 'full') return ip
  return ip.includes(':') ? networkOf(ip, 3) : `${ip.split('.').slice(0, 3).join('.')}.0`
}

/** The first groups of an IPv6 address, 16 bits each, without leading zeros. Any other address is unchanged. */
export function networkOf(ip: string, groups: number): string {
  if (!ip.includes(':')) return ip
  const [head = '', tail] = ip.split('::')
  const before = head === '' ? [] : head.split(':')
  const after = tail ? tail.split(':') : []
  const zeros = Array<string>(Math.max(0, 8 - before.length - after.length)).fill('0')
  const all = [...before, ...zeros, ...after].slice(0, groups)
  return `${all.map((group) => group.replace(/^0+(?=.)/, '')).join(':')}::`
}

/** Only a plain address can be shortened. An address with a port, for example, cannot. */
const isAddress = (ip: string): boolean =>
  ip.includes(':')
    ? /^[0-9a-f.:]{2,45}$/.test(ip) && URL.canParse(`http://[${ip}]`)
    : /^\d{1,3}(\.\d{1,3}){3}$/.test(ip) && URL.canParse(`http://${ip}`)
