/** The frame of the dashboard's pages. It also shows the result of a form. */
import type { AppContext, Deps } from '../context.ts'
import { isViewer } from '../http/admin.ts'
import { labelOf } from '../ledger/labels.ts'
import { own } from '../ledger/records.ts'
import type { DayDoc } from '../ledger/documents.ts'
import { dateOf } from '../ledger/windows.ts'
import { blocksOf } from '../reports/dashboard.ts'
import { storeAnswer, storeOf } from '../store/required.ts'
import type { Overview, User } from '../store/store.ts'
import type { Frame } from '../views/page.tsx'
import { Notice } from '../views/parts.tsx'
import { blockedNotice } from '../views/user-blocks.tsx'
import { USER_ID } from './user-query.ts'

/** The notices after a form, by `?done`. */
const NOTICES: Record<string, string> = {
  blocked: 'Blocked. Their calls are refused within two seconds.',
  unblocked: 'Unblocked. Their calls are admitted within two seconds.',
  erased: 'Erased. Only totals still include their usage.',
  saved: 'Saved. It holds from the next request on.',
  raised: 'Raised until midnight UTC, from the next request on.',
  added: 'Added. Their first call finds what you set.',
  'signed-out': 'Saved. Signed tokens that were issued before now are refused.',
  reset: 'Reset. Usage of these limits is zero, except what running requests reserve.',
  'plan-deleted': 'Deleted. Its users have the default plan from their next request on.',
  'test-delivered': 'The receiver took the test.',
  'key-deleted': 'Deleted. Calls with the key are refused.',
}
const PROBLEMS: Record<string, string> = {
  'test-pending': 'The receiver did not take the test. It is tried again.',
  'test-failed': 'The receiver did not take the test, and it is not tried again.',
  boosted: 'Nothing was changed: this user has a boost already. Change it on their page.',
  unlimited: 'Nothing was changed: this user has no limit of a day or longer.',
}

/** The frame of a page. A form that redirects to it puts its result into `?done`, and whom it was about into `?who`. */
export function frameOf(c: AppContext, { now, environment, store }: Deps, days?: DayDoc[]): Frame {
  const { done = '', who = '' } = c.req.query()
  const problem = own(PROBLEMS, done)
  const words = problem ?? own(NOTICES, done)
  const at = now()
  return {
    now: at,
    path: c.req.path,
    place: `${environment.platform} · ${environment.storage}`,
    who: c.var.admin.name + (isViewer(c) ? ' (viewer)' : ''),
    viewer: isViewer(c),
    away: store?.health().degraded ?? false,
    ...(days && { counts: countsOf(days, at) }),
    notice: words && (
      <Notice bad={!!problem}>
        {words} {USER_ID.test(who) && <a href={`/admin/users/${who}`}>Show the user</a>}
      </Notice>
    ),
  }
}

/** The notice after a block: from what a user is blocked, and until when. */
export function noticeOfBlock(c: AppContext, user: User, now: number): Pick<Frame, 'notice'> {
  const [block] = blocksOf(user.profile, now)
  if (c.req.query('done') !== 'blocked' || !block) return {}
  return { notice: blockedNotice({ id: user.profile.id, label: labelOf(user) }, block) }
}

/** What is counted beside the names of pages: users and requests of today. */
function countsOf(days: DayDoc[], now: number): Record<string, number> {
  const { users, requests } = days.find(({ date }) => date === dateOf(now))?.total ?? NOTHING
  return { '/admin/users': users, '/admin/requests': requests }
}
const NOTHING = { users: 0, requests: 0 }

/** The current day and the policy, in one call, for pages that read nothing else of them. */
export const framed = (deps: Deps, events = 0): Promise<Overview> => {
  const now = deps.now()
  const users = { sort: 'lastActive', limit: 0, now } as const
  return storeAnswer(storeOf(deps).overview({ dates: [dateOf(now)], users, events }))
}
