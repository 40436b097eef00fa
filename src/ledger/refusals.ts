/** What is kept of refusals: how many of a day, by code and model, and the latest ones of users. */
import type { ErrorCode } from '../errors.ts'
import type { Admit } from './commands.ts'
import type { Refusal } from './answers.ts'
import { VERSION } from './shapes.ts'
import type { Refused } from './events.ts'
import { WINDOWS } from './windows.ts'

/** The code of a refusal for each reason but `limit` and `key`, as clients see it. */
export const REFUSAL_CODES = {
  blocked: 'user_blocked',
  revoked: 'expired_token',
  model: 'model_not_allowed',
  models: 'model_not_allowed',
  unpriced: 'model_not_priced',
  maximum: 'invalid_request',
  running: 'rate_limit_exceeded',
  newUsers: 'too_many_users',
} as const satisfies Record<string, ErrorCode>

/** The same for keys. */
export const KEY_CODES = {
  unknown: 'invalid_key',
  disabled: 'disabled_key',
  expired: 'expired_key',
} as const satisfies Record<string, ErrorCode>

/** Stands for models that nobody has used: clients make up names, and each would be a counter of its own. */
export const UNUSED_MODEL = '?'

/** The code of a refusal, as clients see it. */
export function codeOf(refusal: Refusal): ErrorCode {
  if (refusal.reason === 'key') return KEY_CODES[refusal.why]
  if (refusal.reason !== 'limit') return REFUSAL_CODES[refusal.reason]
  if (WINDOWS[refusal.window].waits) return 'rate_limit_exceeded'
  return refusal.of === 'user' ? 'insufficient_quota' : 'global_quota'
}

/** The entry of a refusal in the list of the latest ones. It has no address. */
export function refusedOf(
  { id, user, model, tag }: Pick<Admit, 'id' | 'user' | 'model' | 'tag'>,
  refusal: Refusal,
  at: number,
): Refused {
  const refused: Refused = { v: VERSION, id, at, user, code: codeOf(refusal), model }
  if (tag !== undefined) refused.tag = tag
  if (refusal.reason !== 'limit') return refused
  const { of, model: scope, unit, window, limit, used, asked } = refusal
  return { ...refused, limit: { of, model: scope, unit, window, limit, used, asked } }
}

/** The name of a counter of refusals: the code and the model. */
export const refusalName = (code: string, model: string): string => `${code} ${model}`
