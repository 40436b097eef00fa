/** `/api/admin/users`: what is known about users, what an admin decides about them, and resets. */
import type * as z from 'zod/mini'
import type { AppContext, Deps } from '../context.ts'
import { ApiError } from '../errors.ts'
import { withoutAddress, type Admin, type Stamp } from '../http/admin.ts'
import { fields, jsonBody } from '../http/json-body.ts'
import { createIds } from '../identity/ids.ts'
import type { ProfileFields } from '../ledger/commands.ts'
import { newProfile, newUsage } from '../ledger/new-documents.ts'
import { labelWords } from '../ledger/labels.ts'
import { WINDOW_NAMES } from '../ledger/windows.ts'
import { profileReport } from '../reports/people.ts'
import { storeAnswer, storeOf } from '../store/required.ts'
import type { User } from '../store/store.ts'
import {
  changeOf,
  futureOf,
  refusalOf,
  storedNames,
  storedRows,
  momentFrom,
  type Change,
} from './fields.ts'
import { resetBody, userChange, usersQuery } from './users-schemas.ts'
import { userInPath } from './user-name.ts'
import { createUserSearch } from './user-search.ts'

const QUERY_REFUSAL = refusalOf(['user', 'q'], {
  q: 'must be 1 to 512 characters: the beginning of a word of a label or of an id, a whole token, a key or the id of a key',
})
export const USER_REFUSAL = refusalOf(Object.keys(userChange.shape))
export const RESET_REFUSAL = {
  ...refusalOf(['window'], { window: `must be one of: ${WINDOW_NAMES.join(', ')}` }),
  mayBeEmpty: true,
} as const

/** `GET /api/admin/users`: `?user=` the user by the application's own name, `?q=` a search. */
export function usersHandler(deps: Deps) {
  const { config } = deps
  const ids = createIds(config.userHashSecret)
  const search = createUserSearch(deps)

  return async (c: AppContext): Promise<Response> => {
    const { user, q } = fields(c.req.query(), usersQuery, QUERY_REFUSAL)
    if (user !== undefined && q === undefined) {
      const id = await ids.ofUser(user)
      return c.json(await reportOf(c, deps, id, await storeAnswer(storeOf(deps).user(id))))
    }
    if (q !== undefined && user === undefined) {
      const [{ users: found }, policy] = await Promise.all([
        search(q.trim()),
        storeAnswer(storeOf(deps).policy()),
      ])
      const at = deps.now()
      return c.json({
        users: found.map((one) => withoutAddress(c, profileReport(one, config, policy, at))),
      })
    }
    throw new ApiError(
      'invalid_request',
      'Send `user`, your own name of a user, or `q`, a search. GET /api/admin/usage lists all users.',
      { param: 'q' },
    )
  }
}

/** `GET /api/admin/users/:userId`. */
export const userHandler =
  (deps: Deps) =>
  async (c: AppContext): Promise<Response> => {
    const id = userInPath(c)
    const user = await storeAnswer(storeOf(deps).user(id))
    if (!user) throw new ApiError('not_found', 'Nothing is stored about a user with this id.')
    return c.json(await reportOf(c, deps, id, user))
  }

/** `PATCH /api/admin/users/:userId`: changes what is given, also for a user who has never called. */
export const changeUserHandler =
  (deps: Deps, admin: Admin) =>
  async (c: AppContext): Promise<Response> => {
    const id = userInPath(c)
    const body = await jsonBody(c, userChange, USER_REFUSAL)
    await changeUser(deps, admin.stamp(c), id, body)
    return c.json(await reportOf(c, deps, id, await storeAnswer(storeOf(deps).user(id))))
  }

/** Changes what is given of a user. */
export async function changeUser(
  deps: Deps,
  stamp: Stamp,
  user: string,
  body: z.infer<typeof userChange>,
): Promise<void> {
  const change = profileOf(body, stamp.now)
  if (body.boost) futureOf(body.boost.until, stamp.now, 'boost.until')
  await storeAnswer(storeOf(deps).execute({ op: 'profile', user, ...change, ...stamp }))
}

/** `POST /api/admin/users/:userId/reset`: takes back what was used of the limits, in one window or in all. */
export const resetHandler =
  (deps: Deps, admin: Admin) =>
  async (c: AppContext): Promise<Response> => {
    const user = userInPath(c)
    await resetUser(deps, admin.stamp(c), user, await jsonBody(c, resetBody, RESET_REFUSAL))
    return c.json({ success: true })
  }

/** Takes back what a user has used of the limits. */
export async function resetUser(
  deps: Deps,
  stamp: Stamp,
  user: string,
  { window }: z.infer<typeof resetBody>,
): Promise<void> {
  const command = { op: 'reset', user, ...(window && { window }), ...stamp } as const
  await storeAnswer(storeOf(deps).execute(command))
}

/** What a body changes in the profile. */
export function profileOf(
  { label, note, plan, limits, boost, models, notBefore }: z.infer<typeof userChange>,
  now: number,
): Change<ProfileFields> {
  return changeOf<ProfileFields>({
    label,
    words: typeof label === 'string' ? labelWords(label) : label,
    note,
    plan,
    limits: limits && storedRows(limits),
    boost: boost && {
      limits: storedRows(boost.limits),
      until: momentFrom(boost.until, 'boost.until'),
    },
    models: models && storedNames(models),
    notBefore:
      typeof notBefore === 'number' || typeof notBefore === 'string'
        ? momentFrom(notBefore === 'now' ? now : notBefore, 'notBefore')
        : notBefore,
  })
}

/** The answer about a user. It is empty for a user about whom nothing is stored. */
async function reportOf(c: AppContext, deps: Deps, id: string, user: User | undefined) {
  const policy = await storeAnswer(storeOf(deps).policy())
  const known = user ?? { usage: newUsage(id, 0), profile: newProfile(id) }
  return withoutAddress(c, profileReport(known, deps.config, policy, deps.now()))
}
