/** What an admin does to a user by the buttons of a menu, in the list of users or on the user's page. */
import type { AppContext, Deps } from '../context.ts'
import { ApiError } from '../errors.ts'
import type { Admin, Stamp } from '../http/admin.ts'
import { formOf } from '../http/form.ts'
import { limitsOfUser } from '../ledger/plans.ts'
import { LIMITS } from '../ledger/policy.ts'
import { ALL_MODELS } from '../ledger/documents.ts'
import { own } from '../ledger/records.ts'
import { MINUTE_MS, WINDOWS, nextDay } from '../ledger/windows.ts'
import { effectiveRows } from '../reports/people.ts'
import { storeAnswer, storeOf } from '../store/required.ts'
import type { WholeUser } from '../store/store.ts'
import { alertOfBlock, deliverSoon } from './alerts.ts'
import { seeOther } from './answer-page.ts'
import { framed } from './dashboard-frame.tsx'
import { userOf } from './dashboard-user.ts'
import { pathAfter } from './dashboard-user-forms.ts'
import { listPath } from './dashboard-users.ts'
import { changeUser } from './users.ts'
import type { Deed } from '../views/user-menu.tsx'

/** What a button does to a user. It answers the name of a notice. */
type Run = (deps: Deps, stamp: Stamp, user: WholeUser) => Promise<string>

const block =
  (minutes?: number): Run =>
  async (deps, stamp, { profile }) => {
    const { now } = stamp
    const until = minutes === undefined ? undefined : now + minutes * MINUTE_MS
    const block = { at: now, until }
    const what = { user: profile.id, model: ALL_MODELS, block }
    const command = { op: 'block', ...what, ...alertOfBlock(deps), ...stamp } as const
    await storeAnswer(storeOf(deps).execute(command))
    return 'blocked'
  }

const DEEDS: Record<Deed, Run> = {
  block: block(),
  'block-60': block(60),
  'block-1440': block(1440),

  async unblock(deps, stamp, { profile }) {
    for (const model of Object.keys(profile.blocks)) {
      const lift = { op: 'block', user: profile.id, model, block: undefined, ...stamp } as const
      await storeAnswer(storeOf(deps).execute(lift))
    }
    return 'unblocked'
  },

  /** Adds to each limit of a day or longer as much as it is, until the day ends. */
  async raise(deps, stamp, user) {
    const { boost } = user.profile
    if (boost && boost.until > stamp.now) return 'boosted'
    const { policy } = await framed(deps)
    const { limits } = limitsOfUser(deps.config.limits, user, policy, stamp.now)
    const rows = Object.entries(effectiveRows(limits)).flatMap(([model, row]) => {
      const long = LONG.flatMap((name) => {
        const limit = own(row, name)
        return limit ? [[name, limit] as const] : []
      })
      return long.length > 0 ? [[model, Object.fromEntries(long)] as const] : []
    })
    if (rows.length === 0) return 'unlimited'
    const until = nextDay(stamp.now)
    const change = { boost: { limits: Object.fromEntries(rows), until } }
    await changeUser(deps, stamp, user.profile.id, change)
    return 'raised'
  },
}

/** The limits of a day or longer. */
const LONG = LIMITS.filter(({ window }) => !WINDOWS[window].waits).map(({ name }) => name)

/** Does what the button says, and leads back to the list or the user's page. */
export const quickHandler =
  (deps: Deps, admin: Admin) =>
  async (c: AppContext): Promise<Response> => {
    const typed = await formOf(c)
    const run = own<Run>(DEEDS, typed['do'] ?? '')
    if (!run) throw new ApiError('not_found', 'There is no such button.')
    const user = await userOf(c, deps)
    const done = await run(deps, admin.stamp(c), user)
    if (done === 'blocked') deliverSoon(c, deps)
    const { back = '' } = typed
    const { id } = user.profile
    if (back === `/admin/users/${id}`)
      return seeOther(c, `${await pathAfter(deps, id)}?done=${done}`)
    return seeOther(c, listPath(back, { done, who: id }))
  }
