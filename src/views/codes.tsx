/** Why requests were refused, in a few words. */
import type { ErrorCode } from '../errors.ts'
import { own } from '../ledger/records.ts'

const WORDS: Partial<Record<ErrorCode, string>> = {
  insufficient_quota: 'over the user’s limit',
  global_quota: 'over the limit of everyone',
  rate_limit_exceeded: 'rate limit reached',
  too_many_users: 'too many new users',
  user_blocked: 'user blocked',
  model_not_allowed: 'model not allowed',
  model_not_priced: 'model without a price',
  missing_token: 'no token',
  invalid_token: 'token not valid',
  expired_token: 'token expired',
  invalid_key: 'key not valid',
  expired_key: 'key expired',
  disabled_key: 'key disabled',
  invalid_json: 'body not JSON',
  invalid_request: 'request not valid',
  cost_unbounded: 'cost without a bound',
  body_too_large: 'body too large',
  store_unavailable: 'database down',
}

/** The words for a code, with the code on hover; the code itself if it has none. */
export const whyRefused = (code: string) => {
  const words = own<string>(WORDS, code)
  return words === undefined ? <code>{code}</code> : <span title={code}>{words}</span>
}
