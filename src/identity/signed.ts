/** Signed tokens: the user of a JSON Web Token that the application or an OIDC issuer has signed. */
import { sign, verify, type VerifyOptions } from 'hono/utils/jwt/jwt'
import type { Config } from '../config/config.ts'
import type { Issuer } from '../config/tokens.ts'
import type { Deps } from '../context.ts'
import { MINUTE_MS, SECOND_MS } from '../ledger/windows.ts'
import type { Ids } from './ids.ts'
import {
  checkTimes,
  claimsOf,
  invalid,
  isUserName,
  partsOf,
  type TokenClaims,
  type Json,
} from './jwt.ts'
import {
  createKeySet,
  isAlgorithm,
  type PublicKey,
  type KeySet,
  type WaitUntil,
} from './key-set.ts'

type SignedUser = { id: string; claims: TokenClaims }

/** Finds the user of a signed token. Throws `invalid_token`, `expired_token`, `issuer_unavailable`. */
export type Verify = (token: string, waitUntil: WaitUntil) => Promise<SignedUser>

/** How long a token counts as verified before it is verified again. */
const REMEMBER_MS = MINUTE_MS

/**
 * How many characters of verified tokens are remembered, some thousands of tokens. They are remembered as they are: on Node
 * a hash of each would cost 3 % of a request, and the keys of the ids in memory are tokens as well.
 */
const REMEMBERED_CHARS = 2_000_000

/** What the payload says before it is verified: where to look for the key, and which user it would name. */
type Told = { token: string; header: Json; payload: Json }

/** Builds the verification. It uses no database. */
export function createVerify(
  deps: Pick<Deps, 'config' | 'fetchKeys' | 'now' | 'log'>,
  ids: Ids,
): Verify {
  const { config, now } = deps
  const isOwn = createOwn(config)
  const issuerOf = createIssuers(deps)
  const known = new Map<string, SignedUser & { until: number }>()
  /** Characters of the known tokens. */
  let size = 0

  async function verified(token: string, waitUntil: WaitUntil) {
    const { header, payload } = partsOf(token)
    const { exp, iat } = checkTimes(payload, now())
    const told = { token, header, payload }
    // The algorithm only chooses where to look: each key verifies the one that it was imported for.
    if (header.alg === 'HS256') {
      if (!(await isOwn(told))) throw invalid('no secret of USER_TOKEN_SECRETS verifies it')
      const { sub, plan, label } = payload
      if (!isUserName(sub)) throw invalid('its `sub` is no text of 1 to 255 characters')
      return { exp, user: { id: await ids.ofUser(sub), claims: claimsOf(plan, label, iat) } }
    }
    const { issuer, userClaim = 'sub', planClaim, labelClaim } = await issuerOf(told, waitUntil)
    const claim = (name: string | undefined) => (name === undefined ? undefined : payload[name])
    const subject = claim(userClaim)
    if (!isUserName(subject)) {
      throw invalid(`its \`${userClaim}\` is no text of 1 to 255 characters`)
    }
    const id = await ids.ofSubject(issuer, subject)
    return { exp, user: { id, claims: claimsOf(claim(planClaim), claim(labelClaim), iat) } }
  }

  return async function verifyToken(token, waitUntil) {
    const found = known.get(token)
    if (found && now() < found.until) return found
    if (known.delete(token)) size -= token.length
    const { exp, user } = await verified(token, waitUntil)
    for (const [oldest] of known) {
      if (size + token.length <= REMEMBERED_CHARS) break
      known.delete(oldest)
      size -= oldest.length
    }
    if (!known.has(token)) size += token.length
    known.set(token, { ...user, until: Math.min(exp * SECOND_MS, now() + REMEMBER_MS) })
    return user
  }
}

/** Times are checked by us, because the library allows no difference of clocks and requires no `exp`. */
const TIMES = { exp: false, nbf: false, iat: false } as const

/** Access tokens may say what they are (RFC 9068). */
const TYPES = ['JWT', 'at+jwt']

/** Whether a key verifies a token. Errors of the library quote the token, so they are not passed on. */
async function isVerified(
  { token, header }: Told,
  { alg, key }: { alg: PublicKey['alg'] | 'HS256'; key: CryptoKey },
  options: VerifyOptions = {},
): Promise<boolean> {
  const typ = header.typ === undefined ? {} : { typ: TYPES }
  try {
    await verify(token, key, { alg, ...TIMES, ...typ, ...options })
    return true
  } catch {
    return false
  }
}

/** A secret as a key. As a text, the library would take one with the word PUBLIC in it for another kind of key. */
const keyOf = (secret: string): Promise<CryptoKey> =>
  crypto.subtle.importKey(
    'raw',
    new TextEncoder().encode(secret),
    { name: 'HMAC', hash: 'SHA-256' },
    false,
    ['sign', 'verify'],
  )

/** Builds the check of the application's own tokens. */
function createOwn({ tokenSecrets }: Readonly<Config>): (told: Told) => Promise<boolean> {
  let keys: CryptoKey[] | undefined
  return async (told) => {
    keys ??= await Promise.all(tokenSecrets.map(keyOf))
    for (const key of keys) if (await isVerified(told, { alg: 'HS256', key })) return true
    return false
  }
}

/** Signs a token of the application's own. */
export const signOwn = async (payload: Json, secret: string): Promise<string> =>
  sign(payload, await keyOf(secret), 'HS256')

/** Builds the check of the tokens of issuers. The check returns the issuer. */
function createIssuers(deps: Pick<Deps, 'config' | 'fetchKeys' | 'now' | 'log'>) {
  const sets = new Map<string, KeySet>()
  const { jwtIssuers } = deps.config
  for (const { jwksUrl: url } of jwtIssuers) {
    if (!sets.has(url)) sets.set(url, createKeySet({ ...deps, url }))
  }

  return async function issuerOf(told: Told, waitUntil: WaitUntil): Promise<Issuer> {
    const { header, payload } = told
    const { alg, kid } = header
    if (!isAlgorithm(alg)) throw invalid('its algorithm is none that is taken here')
    const own = jwtIssuers.filter(({ issuer }) => issuer === payload.iss)
    if (!own.length) throw invalid('its `iss` is none of JWT_ISSUERS')
    const audiences = [payload.aud].flat()
    const issuer = own.find(({ audience }) => audiences.includes(audience))
    if (!issuer) throw invalid('its `aud` is not the one in JWT_ISSUERS')
    const set = sets.get(issuer.jwksUrl)
    if (!set) throw invalid('its issuer has no keys')

    const check = async (keys: PublicKey[]): Promise<boolean | undefined> => {
      const fitting = keys.filter(
        (key) => key.alg === alg && (kid === undefined || key.kid === kid),
      )
      const [key] = fitting
      if (!key || fitting.length > 1) return undefined
      const options = { iss: issuer.issuer, aud: issuer.audience }
      return isVerified(told, key, options)
    }
    const keys = await set.keys(waitUntil)
    const first = await check(keys)
    if (first) return issuer
    // Without `kid` the key that fits may be one that the issuer has replaced.
    if (first === undefined || kid === undefined) {
      const newer = await set.newer(waitUntil)
      if (newer !== keys && (await check(newer))) return issuer
    }
    throw invalid('no key of its issuer verifies it')
  }
}
