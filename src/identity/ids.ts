/** The ids of users and sessions: hashes of tokens and names, keyed by `USER_HASH_SECRET` if it is set. */
import { encodeBase64Url } from 'hono/utils/encode'

export type Ids = {
  /** 22 characters: the base64url of half an HMAC-SHA256 of the token. */
  user(token: string): Promise<string>
  /** The same for the application's own name of a user: in its signed tokens, and wherever else it names users. */
  ofUser(name: string): Promise<string>
  /** The same for a user of an OIDC issuer. */
  ofSubject(issuer: string, subject: string): Promise<string>
  /** 11 characters: enough to tell the sessions of one user apart. */
  session(name: string): Promise<string>
  /** 11 characters: a name for a network that does not tell its address. */
  network(address: string): Promise<string>
}

/** Applications choose the names of sessions. Only this many characters of a name count. */
const SESSION_LENGTH = 512

/** The first characters of what is hashed for names. No token begins with them, so that none gives the id of a name. */
const USER = '\x01'
const SUBJECT = '\x02'

/** Without a secret the ids are plain SHA-256. */
export function createIds(secret: string | undefined): Ids {
  const hash = createHash(secret)
  const hashNetwork = createHash(secret)
  return {
    user: hash,
    ofUser: (name) => hash(USER + name),
    // The length tells apart two pairs whose joined texts are equal.
    ofSubject: (issuer, subject) => hash(`${SUBJECT}${issuer.length} ${issuer}${subject}`),
    session: async (name) => (await hash(`session ${name.slice(0, SESSION_LENGTH)}`)).slice(0, 11),
    network: async (address) => (await hashNetwork(`network ${address}`)).slice(0, 11),
  }
}

/** Hashes that are remembered, because most users send more than one request. */
const REMEMBERED = 1000

/**
 * Only finished values are kept between requests: on workerd a request must not wait for the promise of another one.
 */
function createHash(secret: string | undefined): (text: string) => Promise<string> {
  const hash = hashOf(secret)
  const known = new Map<string, string>()
  return async (text) => {
    const found = known.get(text)
    if (found !== undefined) return found
    const id = await hash(text)
    const [oldest] = known.keys()
    if (known.size >= REMEMBERED && oldest !== undefined) known.delete(oldest)
    known.set(text, id)
    return id
  }
}

function hashOf(secret: string | undefined): (text: string) => Promise<string> {
  const encoder = new TextEncoder()
  let key: CryptoKey | undefined
  return async (text) => {
    const bytes = encoder.encode(text)
    const half = (digest: ArrayBuffer) => base64url(digest.slice(0, 16))
    if (secret === undefined) return half(await crypto.subtle.digest('SHA-256', bytes))
    key ??= await crypto.subtle.importKey(
      'raw',
      encoder.encode(secret),
      { name: 'HMAC', hash: 'SHA-256' },
      false,
      ['sign'],
    )
    return half(await crypto.subtle.sign('HMAC', key, bytes))
  }
}

/** Bytes as text for URLs and cookies (RFC 4648, section 5). */
export const base64url = (bytes: ArrayBuffer): string => encodeBase64Url(bytes).replace(/=+$/, '')
