/** `/admin/find`: one search for all that an admin has of a user or of a request. It is posted, since it may be a token. */
import type { AppContext, Deps } from '../context.ts'
import { formOf } from '../http/form.ts'
import { storeAnswer, storeOf } from '../store/required.ts'
import { answerUsers } from './dashboard-users.ts'
import { seeOther } from './answer-page.ts'
import { findRequest } from './request-search.ts'
import { createUserSearch } from './user-search.ts'

const ALL = { sort: 'lastActive', window: 'day', shown: 'all', plan: '', q: '' } as const

/** Leads to the request, the user or the users that were found. A token or a key gets into no address. */
export function findHandler(deps: Deps) {
  const search = createUserSearch(deps)

  return async (c: AppContext): Promise<Response> => {
    const { q = '' } = await formOf(c)
    const request = await storeAnswer(findRequest(storeOf(deps), q))
    if (request) return seeOther(c, `/admin/requests/${request.id}`)
    const { users, whole } = q === '' ? { users: [], whole: false } : await search(q)
    const [first] = users
    if (first && (whole || users.length === 1)) {
      return seeOther(c, `/admin/users/${first.profile.id}`)
    }
    if (first) return seeOther(c, `/admin/users?q=${encodeURIComponent(q)}`)
    return answerUsers(c, deps, ALL, { search: q })
  }
}
