/** What a JSON Web Token says, before and after its signature is verified. Pure. */
import { decode, decodeHeader } from 'hono/utils/jwt/jwt'
import { ApiError } from '../errors.ts'

/** The longest signed token, in characters, which are bytes of ASCII. */
const MAX_JWT = 8192

/** What a signed token may say about its user besides the name. */
export type TokenClaims = {
  plan?: string
  label?: string
  /** Epoch ms; 0 if the token does not say. */
  issuedAt: number
}

export type Json = Record<string, unknown>

/** A name of a plan. */
export const PLAN = /^[a-z0-9][a-z0-9-]{0,31}$/

/** The longest label, in characters. */
export const LABEL_CHARS = 100

/** The longest name of a user, in characters (OpenID Connect Core 1.0, section 2). */
export const USER_CHARS = 255

/** How far the clocks of signers may differ from ours, in seconds. */
const LEEWAY = 60

/** The third segment is the signature, which `alg: none` leaves empty. */
const THREE_SEGMENTS = /^[\w-]+\.[\w-]*\.[\w-]*$/

/** Whether a value is a JSON object, and not a list. */
export const isObject = (value: unknown): value is Json =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** Whether a text has the shape of a JWT: three segments of base64url, and the first is a JSON object. */
export function isJwt(text: string): boolean {
  if (!THREE_SEGMENTS.test(text)) return false
  // A longer one counts as a signed token, and is refused for its length: no other kind is that long.
  if (text.length > MAX_JWT) return true
  try {
    return isObject(decodeHeader(text))
  } catch {
    return false
  }
}

/** The error for a token that is not taken. The message quotes nothing of the token. */
export const invalid = (what: string): ApiError =>
  new ApiError('invalid_token', `This signed token is not taken: ${what}.`)

/** The header and the payload. They prove nothing yet. Throws `invalid_token`. */
export function partsOf(token: string): { header: Json; payload: Json } {
  if (token.length > MAX_JWT) throw invalid(`it has more than ${MAX_JWT} characters`)
  let header: unknown
  let payload: unknown
  try {
    ;({ header, payload } = decode(token))
  } catch {
    // The error of the library quotes the token.
  }
  if (!isObject(header) || !isObject(payload)) throw invalid('its payload is no JSON object')
  return { header, payload }
}

const isTime = (value: unknown): value is number => Number.isFinite(value)

/** Checks `exp`, which is required, `nbf` and `iat`. `now` is in ms. Throws `invalid_token`, `expired_token`. */
export function checkTimes({ exp, nbf, iat }: Json, now: number): { exp: number; iat: number } {
  const seconds = now / 1000
  if (!isTime(exp)) throw invalid('it needs a time `exp` at which it ends')
  if (seconds >= exp + LEEWAY) {
    throw new ApiError('expired_token', 'This signed token has expired: get a new one.')
  }
  for (const [name, time] of Object.entries({ nbf, iat })) {
    if (time !== undefined && !(isTime(time) && time <= seconds + LEEWAY)) {
      throw invalid(`its \`${name}\` is no time, or in the future`)
    }
  }
  return { exp, iat: (iat ?? 0) as number }
}

/**
 * Whether a value is a name of a user. Half of a surrogate pair is not text: all such halves would have the same hash.
 */
export const isUserName = (value: unknown): value is string =>
  typeof value === 'string' && /^\P{Cs}+$/su.test(value) && value.length <= USER_CHARS

/** The plan and the label among claims. Values that are not valid are left out. */
export function claimsOf(plan: unknown, label: unknown, iat: number): TokenClaims {
  const claims: TokenClaims = { issuedAt: Math.max(0, Math.floor(iat * 1000)) }
  if (typeof plan === 'string' && PLAN.test(plan)) claims.plan = plan
  if (typeof label === 'string') {
    // The cut may leave half a surrogate pair.
    const text = label
      .trim()
      .slice(0, LABEL_CHARS)
      .replaceAll(/\p{Cs}/gu, '')
    if (text !== '') claims.label = text
  }
  return claims
}
