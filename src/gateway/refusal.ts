/** The errors for requests that are refused. */
import { ApiError } from '../errors.ts'
import { MODELS_COUNTED, MODELS_PER_USER } from '../ledger/capacity.ts'
import type { Refusal } from '../ledger/answers.ts'
import { isTotal } from '../ledger/policy.ts'
import { secondsUntil } from '../retry-after.ts'
import { overLimit, time } from './over-limit.ts'

const number = (value: number) => value.toLocaleString('en-US')

/** The most models that a user may use. */
const MODELS_OF = {
  day: `${MODELS_PER_USER} different models today`,
  month: `${MODELS_COUNTED} different models this month`,
}

/** The error if a network has too many new users in this minute. */
export const tooManyUsers = (
  { perMinute, resetAt }: { perMinute: number; resetAt: number },
  now: number,
): ApiError =>
  new ApiError(
    'too_many_users',
    `At most ${number(perMinute)} new users a minute may come from one network; try again when the minute has ended.`,
    { headers: { 'retry-after': String(secondsUntil(resetAt, now)) } },
  )

/**
 * A refusal as an error; `now` is in epoch ms. With `isLeast`, the amount asked for is that of the smallest request
 * that could be granted.
 */
export function refusalError(
  refusal: Refusal,
  model: string,
  now: number,
  isLeast = false,
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
        `You may ask for at most ${number(refusal.limit)} completion tokens in a request; ask for fewer.`,
        { param: 'max_completion_tokens' },
      )
    case 'models':
      return new ApiError(
        'model_not_allowed',
        `You have used ${MODELS_OF[refusal.window]}, the maximum; ${model} would be one more.`,
        { param: 'model' },
      )
    case 'running':
      return new ApiError(
        'rate_limit_exceeded',
        `You have ${number(refusal.limit)} requests running, the maximum; wait until one of them has ended.`,
        { headers: { 'retry-after': '1' } },
      )
    case 'newUsers':
      return tooManyUsers(refusal, now)
    case 'limit':
      return overLimit(refusal, now, isLeast)
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
