/** Calls to upstream in progress: at most a number for each user, and for all together. */
import { ApiError } from '../errors.ts'
import { createPlaces } from './places.ts'

const PER_USER = 128
const TOTAL = 1024

/** Begins a call of a user, and returns the function that ends it. Throws `rate_limit_exceeded`. */
export type Calls = (user: string) => () => void

/** Builds the counter of an instance. */
export function createCalls(limits = { perUser: PER_USER, total: TOTAL }): Calls {
  const places = createPlaces(limits)
  return function begin(user) {
    const leave = places.take(user)
    if (typeof leave === 'function') return leave
    const message =
      leave === 'user'
        ? `You have ${limits.perUser} calls in progress, the most for one user. Wait until one of them ends.`
        : `All users together have ${limits.total} calls in progress here, the most for one server. Try again in a moment.`
    throw new ApiError('rate_limit_exceeded', message, { headers: { 'retry-after': '1' } })
  }
}
