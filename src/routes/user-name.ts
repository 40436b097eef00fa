/** Which user a request is about: an id, or the application's own name. */
import type { AppContext, Deps } from '../context.ts'
import { ApiError } from '../errors.ts'
import type { Ids } from '../identity/ids.ts'
import { USER_ID } from './user-query.ts'

/** The id of the user in the path. Throws `invalid_request`. */
export function userInPath(c: AppContext): string {
  const user = c.req.param('userId') ?? ''
  if (USER_ID.test(user)) return user
  throw new ApiError(
    'invalid_request',
    'A user id has 22 characters: letters, digits, _ and -. GET /api/admin/users?user=NAME tells the id of a user by your own name.',
    { param: 'userId' },
  )
}

/** The id of the user that a body names. Throws `invalid_request`. */
export async function userNamed(
  { user, userId }: { user?: string | undefined; userId?: string | undefined },
  ids: Pick<Ids, 'ofUser'>,
): Promise<string> {
  if (userId !== undefined && user === undefined) return userId
  if (user !== undefined && userId === undefined) return ids.ofUser(user)
  throw new ApiError(
    'invalid_request',
    'Send one of `user`, your own name of a user, and `userId`, the id of a user.',
    { param: 'user' },
  )
}

/** The secret of the deployment. Throws `not_configured`. */
export function secretOf({ config }: Pick<Deps, 'config'>): string {
  if (config.userHashSecret !== undefined) return config.userHashSecret
  throw new ApiError(
    'not_configured',
    'Keys need USER_HASH_SECRET to be set: they are signed with it, and users that have names of your own are known by it.',
  )
}
