/** The errors for requests that are refused. */
import { ApiError } from '../errors.ts'
import { MODELS_COUNTED, MODELS_PER_USER } from '../ledger/capacity.ts'
import type { Refusal } from '../ledger/answers.ts'
import { isTotal } from '../ledger/policy.ts'
import { WINDOWS } from '../ledger/windows.ts'
import { secondsUntil } from '../retry-after.ts'
import { number, time, type OverLimit } from './over-limit.ts'

/** The most models that a user may use in a window. */
const MODELS_IN = { day: MODELS_PER_USER, month: MODELS_COUNTED }

/** The error if a network has too many new users in this minute. */
export const tooManyUsers = (
  { perMinute, resetAt }: { perMinute: number; resetAt: number },
  now: number,
): ApiError =>
  new ApiError(
    'too_many_users',
    `New users of one network are limited to ${number(perMinute)} a minute; try again in a minute.`,
    { headers: { 'retry-after': String(secondsUntil(resetAt, now)) } },
  )

/** A refusal for another reason than a limit, as an error; `now` is in epoch ms. */
export function refusalError(
  refusal: Exclude<Refusal, OverLimit>,
  model: string,
  now: number,
): ApiError {
  switch (refusal.reason) {
    case 'blocked':
      return blocked(refusal)
    case 'key':
      return keyError(refusal)
    case 'revoked':
      return new ApiError('expired_token', 'This token was revoked; ask for a new one.')
    case 'model':
      return new ApiError('model_not_allowed', `You may not call the model ${model}.`, {
        param: 'model',
      })
    case 'unpriced':
      return new ApiError(
        'model_not_priced',
        `The price of the model ${model} is not known here, and your limits are in dollars; use another model, or ask for a price of this one.`,
        { param: 'model' },
      )
    case 'maximum':
      return new ApiError(
        'invalid_request',
        `The maximum of completion tokens in a request of yours is ${number(refusal.limit)}; ask for fewer.`,
        { param: 'max_completion_tokens' },
      )
    case 'models':
      return new ApiError(
        'model_not_allowed',
        `You have used ${MODELS_IN[refusal.window]} different models, the maximum of ${WINDOWS[refusal.window].words}; ${model} would be one more.`,
        { param: 'model' },
      )
    case 'running':
      return new ApiError(
        'rate_limit_exceeded',
        `At most ${number(refusal.limit)} of your requests may run at once; wait until one has ended.`,
        { headers: { 'retry-after': '1' } },
      )
    case 'newUsers':
      return tooManyUsers(refusal, now)
  }
}

const KEY_ERRORS = {
  unknown: ['invalid_key', 'This key is not valid: it was deleted or replaced.'],
  disabled: ['disabled_key', 'This key is disabled.'],
  expired: ['expired_key', 'This key has expired.'],
} as const

function keyError({ why }: Refusal & { reason: 'key' }): ApiError {
  const [code, message] = KEY_ERRORS[why]
  return new ApiError(code, message)
}

function blocked({ model, until, why }: Refusal & { reason: 'blocked' }): ApiError {
  const what = isTotal(model) ? 'all models' : `the model ${model}`
  const end = until === undefined ? '' : ` until ${time(until)}`
  const reason = why === undefined ? '.' : `: ${why}`
  return new ApiError('user_blocked', `You are blocked from ${what}${end}${reason}`)
}
