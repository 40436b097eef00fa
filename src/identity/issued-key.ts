/**
 * Issued keys. A key names its user and is signed, so junk, a typo and the key of another deployment are refused without
 * a call to the store:
 *
 *     weir_ · version (1) · user (23) · id of the key (8) · random (22) · check (8)
 *
 * All of it is base62, so that a double click selects a whole key.
 */
import { base64url, createIds } from './ids.ts'

/** What a key says. `id` is its id among those of the user; `hash` is the SHA-256 of the whole key, in base64url. */
type IssuedKey = { userId: string; id: string; hash: string }

/** A key that was just made: the secret, and what is stored of it. */
type NewKey = {
  key: string
  id: string
  secret: { hash: string; start: string; last4: string }
}

export type IssuedKeys = {
  /** Makes a key. With the id of a key, it makes that key's next secret. */
  make(userId: string, id?: string): Promise<NewKey>
  /** Reads a key that this deployment made; undefined for any other text. It may be deleted, replaced or expired. */
  read(text: string): Promise<IssuedKey | undefined>
}

const PREFIX = 'weir_'

/** Whether a token claims to be an issued key. If it is not one, it is not a token of another kind either. */
export const isIssuedKey = (token: string): boolean => token.startsWith(PREFIX)

const VERSION = '1'
const BASE62 = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'
const BASE64 = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'

const USER_CHARS = 22
/** Any 22 characters of base64url fit into 23 of base62. */
const USER_DIGITS = 23
const ID_DIGITS = 8
/** 130 bits. */
const RANDOM_DIGITS = 22
const CHECK_DIGITS = 8

const SHAPE = new RegExp(
  `^${PREFIX}${VERSION}([0-9A-Za-z]{${USER_DIGITS}})([0-9A-Za-z]{${ID_DIGITS}})[0-9A-Za-z]{${RANDOM_DIGITS}}([0-9A-Za-z]{${CHECK_DIGITS}})$`,
)

/** The id of a key in the API: the user's id and the key's own, so that a key is found without an index. */
export const KEY_ID = new RegExp(`^([\\w-]{${USER_CHARS}})\\.([0-9A-Za-z]{${ID_DIGITS}})$`)

/** The first characters, for people: enough to tell a key from other secrets. */
const START_CHARS = PREFIX.length + 4

/**
 * The most keys that are remembered, by their whole text: some 3 MB. Verifying one costs three times as much as the id
 * of a token.
 */
const REMEMBERED = 10_000

/** Builds the keys of a deployment from its `USER_HASH_SECRET`. */
export function createIssuedKeys(secret: string): IssuedKeys {
  const ids = createIds(secret)
  const known = new Map<string, IssuedKey>()

  /** No token has the first character of what is hashed here. */
  async function checkOf(body: string): Promise<string> {
    const mac = await ids.user(`\0key ${body}`)
    return rebased(mac.slice(0, 10), BASE64, BASE62, CHECK_DIGITS)
  }

  async function verified(text: string): Promise<IssuedKey | undefined> {
    const [, user, id, check] = SHAPE.exec(text) ?? []
    if (user === undefined || id === undefined) return undefined
    const [own, hash] = await Promise.all([checkOf(text.slice(0, -CHECK_DIGITS)), hashOf(text)])
    // The check protects no secret, because the store compares the hash. So this comparison may take any time.
    if (own !== check) return undefined
    return { userId: rebased(user, BASE62, BASE64, USER_CHARS), id, hash }
  }

  return {
    async make(userId, id = randomDigits(ID_DIGITS)) {
      const user = rebased(userId, BASE64, BASE62, USER_DIGITS)
      const body = `${PREFIX}${VERSION}${user}${id}${randomDigits(RANDOM_DIGITS)}`
      const key = body + (await checkOf(body))
      const [start, last4] = [key.slice(0, START_CHARS), key.slice(-4)]
      return { key, id, secret: { hash: await hashOf(key), start, last4 } }
    },
    async read(text) {
      const found = known.get(text)
      if (found) return found
      const key = await verified(text)
      if (!key) return undefined
      const [oldest] = known.keys()
      if (known.size >= REMEMBERED && oldest !== undefined) known.delete(oldest)
      known.set(text, key)
      return key
    },
  }
}

async function hashOf(key: string): Promise<string> {
  return base64url(await crypto.subtle.digest('SHA-256', new TextEncoder().encode(key)))
}

/** Digits of one base as `length` digits of another; digits in front that do not fit are dropped. */
function rebased(digits: string, from: string, to: string, length: number): string {
  let value = 0n
  for (const digit of digits) value = value * BigInt(from.length) + BigInt(from.indexOf(digit))
  let text = ''
  while (text.length < length) {
    text = (to[Number(value % BigInt(to.length))] ?? '') + text
    value /= BigInt(to.length)
  }
  return text
}

/** Random digits of base62. Bytes that would make some digits likelier are drawn again. */
function randomDigits(length: number): string {
  let text = ''
  while (text.length < length) {
    const [byte = 0] = crypto.getRandomValues(new Uint8Array(1))
    if (byte < 4 * BASE62.length) text += BASE62[byte % BASE62.length] ?? ''
  }
  return text
}
