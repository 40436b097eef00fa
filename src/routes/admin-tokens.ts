/** `POST /api/admin/tokens`: makes a signed token of a user, for scripts and tests. */
import type { AppContext, Deps } from '../context.ts'
import { ApiError } from '../errors.ts'
import type { Admin } from '../http/admin.ts'
import { jsonBody } from '../http/json-body.ts'
import { createIds } from '../identity/ids.ts'
import { signOwn } from '../identity/signed.ts'
import { SECOND_MS } from '../ledger/windows.ts'
import { storeAnswer, storeOf } from '../store/required.ts'
import { TOKEN_REFUSAL, tokenBody } from './admin-schemas.ts'

/** Builds the handler. A token proves who its user is until it ends. It is not stored, and only this answer has it. */
export function tokenHandler(deps: Deps, admin: Admin) {
  const { config, now } = deps
  const ids = createIds(config.userHashSecret)

  return async function mint(c: AppContext): Promise<Response> {
    const { user, plan, label, expires_in: lasts } = await jsonBody(c, tokenBody, TOKEN_REFUSAL)
    const [secret] = config.tokenSecrets
    if (secret === undefined || !config.userTokens.includes('signed')) {
      throw new ApiError(
        'not_configured',
        'To make tokens, this gateway needs USER_TOKENS with signed, and USER_TOKEN_SECRETS.',
      )
    }
    const iat = Math.floor(now() / SECOND_MS)
    const exp = iat + lasts
    const token = await signOwn({ sub: user, iat, exp, plan, label }, secret)
    const userId = await ids.ofUser(user)
    const expiresAt = exp * SECOND_MS
    const note = { op: 'note', action: 'make token', about: userId, ...admin.stamp(c) } as const
    await storeAnswer(storeOf(deps).execute(note))
    return c.json({ token, userId, expiresAt }, 201)
  }
}
