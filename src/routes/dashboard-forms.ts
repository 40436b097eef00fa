/** The search of the dashboard. */
import type { AppContext, Deps } from '../context.ts'
import { formOf } from '../http/form.ts'
import { storeAnswer, storeOf } from '../store/required.ts'
import { foundPage } from '../views/found.tsx'
import { answerPage, seeOther } from './answer-page.ts'
import { frameOf } from './dashboard-frame.tsx'
import { lineOf } from './dashboard-overview.ts'
import { createUserSearch } from './user-search.ts'

/** Finds users. One of them is shown at once; what was searched for is in no address. */
export function findHandler(deps: Deps) {
  const search = createUserSearch(deps)

  return async (c: AppContext): Promise<Response> => {
    const { q = '' } = await formOf(c)
    const found = q === '' ? [] : await search(q)
    const [first] = found
    if (!first) return seeOther(c, '/admin?done=nobody')
    if (found.length === 1) return seeOther(c, `/admin/users/${first.profile.id}`)
    const policy = await storeAnswer(storeOf(deps).policy())
    const frame = frameOf(c, deps)
    const users = found.map((user) => lineOf(deps, user, policy, frame.now))
    return answerPage(c, foundPage({ ...frame, users }))
  }
}
