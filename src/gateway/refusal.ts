/** The errors for requests that are refused. */
import { ApiError } from '../errors.ts'
import { MODELS_PER_USER, RUNNING_PER_USER, type Refusal } from '../ledger/commands.ts'
import { isTotal } from '../ledger/policy.ts'
import type { Unit } from '../ledger/shapes.ts'
import { WINDOWS } from '../ledger/windows.ts'
import { secondsUntil } from '../retry-after.ts'

const number = (value: number) => value.toLocaleString('en-US')
const time = (at: number) => new Date(at).toISOString().replace('.000Z', 'Z')

/** What a request asks for, by unit. */
const ASKED: Record<Unit, (amount: string) => string> = {
  requests: (amount) => `${amount} request`,
  tokens: (amount) => `up to ${amount} tokens`,
}

/** The error for one new user too many of a network in this minute. */
export const tooManyUsers = (
  { perMinute, resetAt }: { perMinute: number; resetAt: number },
  now: number,
): ApiError =>
  new ApiError(
    'too_many_users',
    `At most ${number(perMinute)} new users a minute may come from one network; try again when the minute has ended.`,
    { headers: { 'retry-after': String(secondsUntil(resetAt, now)) } },
  )

/** A refusal as an error; `now` is in epoch ms. */
export function refusalError(refusal: Refusal, model: string, now: number): ApiError {
  if (refusal.reason === 'blocked') {
    const what = isTotal(refusal.model) ? 'all models' : `the model ${refusal.model}`
    const until = refusal.until === undefined ? '' : ` until ${time(refusal.until)}`
    const why = refusal.why === undefined ? '.' : `: ${refusal.why}`
    return new ApiError('user_blocked', `You are blocked from ${what}${until}${why}`)
  }
  if (refusal.reason === 'models') {
    return new ApiError(
      'model_not_allowed',
      `You have used ${MODELS_PER_USER} different models today, the maximum; ${model} would be one more.`,
      { param: 'model' },
    )
  }
  if (refusal.reason === 'running') {
    return new ApiError(
      'rate_limit_exceeded',
      `You have ${number(RUNNING_PER_USER)} requests running, the maximum; wait until one of them has ended.`,
      { headers: { 'retry-after': '1' } },
    )
  }
  if (refusal.reason === 'newUsers') return tooManyUsers(refusal, now)
  const { of, window, unit, limit, used, asked, resetAt } = refusal
  const { waits, words } = WINDOWS[window]
  const scope = isTotal(refusal.model) ? 'all models together' : refusal.model
  const whose = of === 'user' ? 'your' : "everyone's"
  const message =
    `This request asks for ${ASKED[unit](number(asked))} of ${scope}, and ${number(Math.max(0, limit - used))} of ${whose} ${number(limit)} ${unit} ${words} are left. ` +
    `They reset at ${time(resetAt)}.`
  // Waiting does not help a request that asks for more than the whole limit.
  if (waits && asked <= limit) {
    return new ApiError('rate_limit_exceeded', message, {
      headers: { 'retry-after': String(secondsUntil(resetAt, now)) },
    })
  }
  const spent = of === 'user' ? 'insufficient_quota' : 'global_quota'
  // There is no retry-after: groq-sdk would sleep until then, even for hours.
  return new ApiError(waits ? 'rate_limit_exceeded' : spent, message, {
    headers: { 'x-should-retry': 'false' },
  })
}
