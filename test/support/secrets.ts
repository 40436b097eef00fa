/** Which parts of an environment, a request and an answer are secrets, for the search in `leaks.ts`. */
import { addSecret, addText, allowSecret, type Text } from './leaks.ts'

/** The names of variables with secrets. */
const SECRET_VARIABLE = /_(KEYS?|SECRETS?|TOKEN)$|REDIS_URL$/

export function addVariables(vars: Readonly<Record<string, string | undefined>>): void {
  for (const [name, value = ''] of Object.entries(vars)) {
    if (!SECRET_VARIABLE.test(name)) continue
    const isUrl = name.endsWith('URL')
    if (isUrl && !URL.canParse(value)) continue
    const texts = isUrl ? [new URL(value).password] : value.split(',')
    for (const text of texts) addToken(text, name)
  }
}

/** Of an issued key: the random part and the check. What stands before names the user and the key. */
const ISSUED_KEY = /^weir_1[0-9A-Za-z]{31}([0-9A-Za-z]{30})$/

/** Headers of JSON Web Tokens are alike. */
const SIGNED_TOKEN = /^eyJ[\w-]*\.([\w-]*)\.([\w-]*)$/

/** The parts of a key or a token that are secret, each with its kind. */
function partsOf(token: string, kind = 'a key or token'): [kind: string, text: string][] {
  const [, random] = ISSUED_KEY.exec(token) ?? []
  if (random !== undefined) return [['an issued key', random]]
  const [, claims, signature] = SIGNED_TOKEN.exec(token) ?? []
  if (claims === undefined || signature === undefined) return [[kind, token]]
  return [
    // Tokens of an issuer or a user begin alike.
    ['the claims of a signed token', claims.slice(-23)],
    ['the signature of a signed token', signature],
  ]
}

function addToken(token: string, named?: string): void {
  for (const [kind, text] of partsOf(token, named)) addSecret(kind, text)
}

/** Lets these places have a key or a token in this test file. Each caller says why. */
export function mayBeIn(places: Text['place'][], token: string): void {
  for (const [, text] of partsOf(token)) allowSecret(places, text)
}

/** The keys and signed tokens that a text shows. */
export const tokensIn = (text: string): string[] =>
  text.match(/weir_1[0-9A-Za-z]{61}|eyJ[\w-]+\.[\w-]+\.[\w-]+/g) ?? []

/** The random part of a session's cookie and its signature. What stands before them says when it ends. */
const SESSION = /weir_session=\d+\.([^;]+)/

/** The fields of bodies whose texts are secrets: tokens, and what users write. */
const FIELDS = /"(userToken|key|token|prompt|content|input)"\s*:\s*"([^"\\]+)"/g

/** Adds what a request must not leave behind: its credentials and its prompts. */
export function addRequest(headers: Headers, body: unknown): void {
  const bearer = headers.get('authorization')?.replace(/^bearer\s+/i, '')
  const session = SESSION.exec(headers.get('cookie') ?? '')?.[1]
  for (const token of [bearer, session, headers.get('x-user-token')]) {
    if (token) addToken(token)
  }
  if (typeof body !== 'string') return
  for (const [, field = '', text = ''] of body.slice(0, 10_000).matchAll(FIELDS)) {
    if (/^(userToken|key|token)$/.test(field)) addToken(text)
    else addSecret('a prompt', text)
  }
}

/** Adds the session that an answer gives. */
export function addSession(headers: Headers): void {
  for (const cookie of headers.getSetCookie()) {
    const [, session] = SESSION.exec(cookie) ?? []
    if (session) addToken(session)
  }
}

/** Adds the keys and tokens that an answer shows, or its error. */
export function addAnswer(status: number, text: string): void {
  if (status >= 400) return addText({ place: 'an error', text })
  for (const token of tokensIn(text)) addToken(token)
}
