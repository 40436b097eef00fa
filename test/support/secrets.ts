/** Which parts of an environment, a request and an answer are secrets, for the search in `leaks.ts`. */
import { addSecret, addText } from './leaks.ts'

/** The names of variables with secrets. */
const SECRET_VARIABLE = /_(KEYS?|SECRETS?|TOKEN)$|REDIS_URL$/

export function addVariables(vars: Readonly<Record<string, string | undefined>>): void {
  for (const [name, value = ''] of Object.entries(vars)) {
    if (!SECRET_VARIABLE.test(name)) continue
    const isUrl = name.endsWith('URL')
    if (isUrl && !URL.canParse(value)) continue
    const texts = isUrl ? [new URL(value).password] : value.split(',')
    for (const text of texts) addSecret(name, text)
  }
}

/** Of an issued key: the random part and the check. What stands before names the user and the key. */
const ISSUED_KEY = /^weir_1[0-9A-Za-z]{31}([0-9A-Za-z]{30})$/

/** Headers of JSON Web Tokens are alike. */
const SIGNED_TOKEN = /^eyJ[\w-]*\.([\w-]*)\.([\w-]*)$/

/** Adds a key or a token. */
function addToken(token: string): void {
  const [, random] = ISSUED_KEY.exec(token) ?? []
  const [, claims, signature] = SIGNED_TOKEN.exec(token) ?? []
  if (random !== undefined) addSecret('an issued key', random)
  else if (claims === undefined || signature === undefined) addSecret('a key or token', token)
  else {
    addSecret('the claims of a signed token', claims)
    addSecret('the signature of a signed token', signature)
  }
}

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
  for (const [token] of text.matchAll(/weir_1[0-9A-Za-z]{61}|eyJ[\w-]+\.[\w-]+\.[\w-]+/g)) {
    addToken(token)
  }
}
