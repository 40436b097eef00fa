/** The forms of the dashboard. Each redirects to the page that shows the result. */
import type { AppContext, Deps } from '../context.ts'
import type { Admin } from '../http/admin.ts'
import { formOf } from '../http/form.ts'
import type { Block } from '../ledger/shapes.ts'
import { MINUTE_MS } from '../ledger/windows.ts'
import { isScope } from '../metering/models.ts'
import { lastActiveOf } from '../reports/usage.ts'
import { storeAnswer, storeOf } from '../store/required.ts'
import type { WholeUser } from '../store/store.ts'
import { DURATIONS, REASON_CHARS } from '../views/user-blocks.tsx'
import { foundPage } from '../views/found.tsx'
import { alertOfBlock, deliverSoon } from './alerts.ts'
import { answerPage, seeOther } from './answer-page.ts'
import { frameOf } from './dashboard-frame.tsx'
import { lineOf } from './dashboard-overview.ts'
import { userOf } from './dashboard-user.ts'
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

/** Blocks the user in the path. */
export const blockHandler =
  (deps: Deps, admin: Admin) =>
  async (c: AppContext): Promise<Response> => {
    const { model = '', reason = '', minutes = '', until } = await formOf(c)
    const at = deps.now()
    // An invalid time becomes NaN, which fails the check `end > at`.
    const lasts = minutes ? at + Number(minutes) * MINUTE_MS : undefined
    const end = until ? Date.parse(`${until}Z`) : lasts
    const right =
      isScope(model) &&
      DURATIONS.some(([lasts]) => lasts === minutes) &&
      (end === undefined || end > at) &&
      reason.length <= REASON_CHARS
    if (!right) return back(c, 'block')
    const block: Block = { at }
    if (reason) block.reason = reason
    if (end !== undefined) block.until = end
    return setBlock(c, deps, admin, await userOf(c, deps), model, block)
  }

/** Lifts a block of the user in the path. */
export const unblockHandler =
  (deps: Deps, admin: Admin) =>
  async (c: AppContext): Promise<Response> => {
    const { model = '' } = await formOf(c)
    const user = await userOf(c, deps)
    // A block that is there can be lifted, whatever an older version or a migration named it.
    const right = isScope(model) || Object.hasOwn(user.profile.blocks, model)
    return right ? setBlock(c, deps, admin, user, model) : back(c, 'unblock')
  }

async function setBlock(
  c: AppContext,
  deps: Deps,
  admin: Admin,
  { usage, profile }: WholeUser,
  model: string,
  block?: Block,
): Promise<Response> {
  const command = { op: 'block' as const, user: usage.id, model, block, ...alertOfBlock(deps) }
  await storeAnswer(storeOf(deps).execute({ ...command, ...admin.stamp(c) }))
  if (block) deliverSoon(c, deps)
  if (block) return back(c, 'blocked')
  // Without a block, a user who has never called has no page.
  const isKept =
    lastActiveOf(usage) > 0 || Object.keys(profile.blocks).some((scope) => scope !== model)
  return isKept ? back(c, 'unblocked') : seeOther(c, '/admin?done=unblocked')
}

/** Erases the user in the path. */
export const eraseHandler =
  (deps: Deps, admin: Admin) =>
  async (c: AppContext): Promise<Response> => {
    if ((await formOf(c)).sure !== 'yes') return back(c, 'sure')
    const { usage } = await userOf(c, deps)
    await storeAnswer(storeOf(deps).execute({ op: 'erase', user: usage.id, ...admin.stamp(c) }))
    return seeOther(c, '/admin?done=erased')
  }

/** Redirects to the user's page, which shows the result. */
const back = (c: AppContext, done: string) =>
  seeOther(c, `/admin/users/${encodeURIComponent(c.req.param('userId') ?? '')}?done=${done}`)
