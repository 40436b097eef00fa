/** A command for a first call. */
import type { TokenKind } from '../config/tokens.ts'

export type Gateway = { origin: string; kinds: TokenKind[] }

/** Whether anybody can make up a token. */
export const isAny = (kinds: TokenKind[]): boolean => kinds.includes('any')

/** A call that works without further setup, if any token is taken. */
export const firstCall = ({ origin, kinds }: Gateway): string =>
  `curl ${origin}/api/groq \\\n  -H 'x-user-token: ${isAny(kinds) ? 'my-first-user' : 'TOKEN'}' \\\n  -d '{"prompt":"Hello"}'`

export const FirstCall = (gateway: Gateway) => <pre>{firstCall(gateway)}</pre>
