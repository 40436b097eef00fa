/** The variables of user tokens: which kinds are taken, and who may sign them. */
import { isHttp, list, type Parse } from './parse.ts'
import { rowList } from './rows.ts'

/** The kinds of user tokens, with what each kind takes. */
export const TOKEN_KINDS = {
  any: 'any text of 8 to 512 printable ASCII characters',
  issued: 'keys that an admin has issued',
  signed: 'JSON Web Tokens (JWT) that the application or an issuer has signed',
}

export type TokenKind = keyof typeof TOKEN_KINDS

const WORDS = Object.keys(TOKEN_KINDS) as TokenKind[]

/** An OIDC issuer whose tokens are taken. A claim is the name of one at the top of the payload. */
export type Issuer = {
  /** Exactly as tokens have it in `iss`. */
  issuer: string
  /** What `aud` must be or contain. */
  audience: string
  jwksUrl: string
  userClaim?: string
  planClaim?: string
  labelClaim?: string
}

/** The least length of a secret, in bytes: that of an HMAC-SHA256 (RFC 7518, section 3.2). */
const SECRET_BYTES = 32

/** Takes a list of kinds, each once. */
export const tokenKinds: Parse<TokenKind[]> = (text) => {
  const parsed = list(text)
  const words = new Set('value' in parsed ? parsed.value : [])
  const value = WORDS.filter((word) => words.has(word))
  return value.length > 0 && value.length === words.size
    ? { value }
    : { problem: `must be a list of one or more of: ${WORDS.join(', ')}.` }
}

/** Takes one or two secrets. */
export const tokenSecrets: Parse<string[]> = (text) => {
  const parsed = list(text)
  const value = 'value' in parsed ? parsed.value : []
  const isLong = (secret: string) => new TextEncoder().encode(secret).length >= SECRET_BYTES
  return (value.length === 1 || value.length === 2) && value.every(isLong)
    ? { value }
    : {
        problem: `must be one secret or two, separated by a comma, each of at least ${SECRET_BYTES} bytes.`,
      }
}

const LOOPBACK = /^(localhost|127(\.\d+){3}|\[::1\])$/

/** An address that nobody on the way can change: https, or http on this machine. */
function isSafe(text: string): boolean {
  if (!isHttp(text)) return false
  const { protocol, hostname, username, password } = new URL(text)
  return (protocol === 'https:' || LOOPBACK.test(hostname)) && !username && !password
}

const ADDRESSES = ['issuer', 'jwksUrl']

/** Takes a JSON list of issuers. */
export const jwtIssuers: Parse<Issuer[]> = rowList(
  {
    isAmount: (value, field) =>
      typeof value === 'string' && (ADDRESSES.includes(field) ? isSafe(value) : /\S/.test(value)),
    required: [...ADDRESSES, 'audience'],
    optional: ['userClaim', 'planClaim', 'labelClaim'],
  },
  '[{"issuer":"https://auth.example","audience":"weir","jwksUrl":"https://auth.example/jwks.json"}], with https addresses and, if wanted, userClaim, planClaim and labelClaim',
)

/** What is wrong with the variables together. `isSet` says whether the environment has a variable. */
export function tokenProblems(
  kinds: TokenKind[] | undefined,
  isSet: (name: 'USER_HASH_SECRET' | 'USER_TOKEN_SECRETS' | 'JWT_ISSUERS') => boolean,
): string[] {
  const problems: string[] = []
  for (const kind of ['issued', 'signed'] as const) {
    if (!kinds?.includes(kind) || isSet('USER_HASH_SECRET')) continue
    problems.push(`USER_TOKENS with ${kind} needs USER_HASH_SECRET, from which user ids are made.`)
  }
  if (!kinds?.includes('signed')) return problems
  if (!isSet('USER_TOKEN_SECRETS') && !isSet('JWT_ISSUERS')) {
    problems.push('USER_TOKENS with signed needs USER_TOKEN_SECRETS or JWT_ISSUERS.')
  }
  return problems
}

type Tokens = { userTokens: TokenKind[]; tokenSecrets: string[]; jwtIssuers: Issuer[] }

/** Which tokens are taken, what that means, and what is risky about it. */
export type TokenNotes = { kinds: TokenKind[]; notes: string[]; warnings: string[] }

/** What admins read about the user tokens: at start, by the health route and on the dashboard. */
export function tokenNotes({ userTokens, tokenSecrets, jwtIssuers }: Tokens): TokenNotes {
  const notes = [`User tokens: ${userTokens.map((kind) => TOKEN_KINDS[kind]).join('; ')}.`]
  const warnings: string[] = []
  const [isAny, isSigned] = [userTokens.includes('any'), userTokens.includes('signed')]
  if (isAny) {
    notes.push(
      'USER_TOKENS has any: anyone can make up a token, and so a person who is blocked can come back as a new user.',
    )
  }
  if (isAny && userTokens.length > 1) {
    warnings.push(
      'USER_TOKENS has the kind any beside others: a person who is blocked, or whose token has ended, can make one up and go on. Leave out any as soon as all users have tokens of the other kinds.',
    )
  }
  if (!isSigned && (tokenSecrets.length || jwtIssuers.length)) {
    warnings.push(
      'USER_TOKEN_SECRETS or JWT_ISSUERS is set, but USER_TOKENS has no signed: a signed token is not verified.',
    )
  }
  return { kinds: userTokens, notes, warnings }
}
