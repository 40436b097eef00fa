/** `/admin/users`: the page of users, whole or as a refresh, and the form that adds one. */
import type { AppContext, Deps } from '../context.ts'
import { ApiError } from '../errors.ts'
import type { Admin } from '../http/admin.ts'
import { formOf } from '../http/form.ts'
import { fields } from '../http/json-body.ts'
import { createIds } from '../identity/ids.ts'
import { createIssuedKeys } from '../identity/issued-key.ts'
import { DEFAULT_PLAN, limitsOfUser } from '../ledger/plans.ts'
import { MINUTE_MS, dateOf } from '../ledger/windows.ts'
import type { UserWindow } from '../reports/dashboard.ts'
import { NEAR } from '../reports/look.ts'
import { inOrder } from '../reports/usage.ts'
import { formatCursor, parseCursor } from '../store/cursor.ts'
import { storeAnswer, storeOf } from '../store/required.ts'
import type { Overview, User, UserQuery } from '../store/store.ts'
import type { Refused } from '../views/form.tsx'
import { exact } from '../views/format.ts'
import type { Frame } from '../views/page.tsx'
import {
  SHOWN,
  SORTS,
  usersPage,
  type Line,
  type Shown,
  type Sort,
  type UserList,
  type UsersQuery,
} from '../views/users.tsx'
import { answerPage, seeOther } from './answer-page.ts'
import { frameOf, framed } from './dashboard-frame.tsx'
import { lineOf } from './dashboard-overview.ts'
import { isRefresh, refreshed } from './dashboard-refresh.ts'
import { answerUser } from './dashboard-user.ts'
import { NEXT } from './dashboard-user-forms.ts'
import { problemOf } from './form-fields.ts'
import { CREATE_REFUSAL, createKey, keptOf } from './keys.ts'
import { keyBody } from './keys-schemas.ts'
import { startingWith } from './user-search.ts'
import { changeUser } from './users.ts'

const PAGE = 50
/** The users among whom the list is sorted and filtered where no index has that order. */
const AMONG = 200
const BLOCKED = 100
const EVERY_AMONG_MS = MINUTE_MS / 2

const WINDOWS: UserWindow[] = ['day', 'week', 'month']

function queryOf(c: AppContext): UsersQuery {
  const { sort = '', window = '', shown = '', plan = '', q = '' } = c.req.query()
  return {
    sort: Object.hasOwn(SORTS, sort) ? (sort as Sort) : 'lastActive',
    window: WINDOWS.find((one) => one === window) ?? 'day',
    shown: Object.hasOwn(SHOWN, shown) ? (shown as Shown) : 'all',
    plan,
    q: q.trim(),
  }
}

/** Answers `?sort&window&shown&plan&q` and what the address of a next page adds. */
export const usersPageHandler =
  (deps: Deps) =>
  async (c: AppContext): Promise<Response> => {
    const query = queryOf(c)
    // These lists are read in other ways, which would cost a refresh too much.
    const isStill = query.q !== '' || query.shown === 'blocked'
    if (isRefresh(c) && isStill) return c.body(null, 304)
    return answerUsers(c, deps, query)
  }

/** What an answer to a form adds to the page. */
type Added = { refused?: Refused; search?: string }

/** Answers with the page. */
export async function answerUsers(
  c: AppContext,
  deps: Deps,
  query: UsersQuery,
  added: Added = {},
): Promise<Response> {
  const { list, overview } = await listOf(c, deps, query)
  const { policy, days } = overview
  const frame: Frame = {
    ...frameOf(c, deps, days),
    ...(list.among !== undefined && { every: EVERY_AMONG_MS }),
    ...(added.search !== undefined && { search: added.search, path: '/admin/users' }),
  }
  const plans = [...new Set([DEFAULT_PLAN, ...Object.keys(policy.plans)])].sort()
  const secret = deps.config.userHashSecret
  // The id of the next key does not depend on the user.
  const next = secret && (await createIssuedKeys(secret).make('0'.repeat(22))).id
  const page = () => usersPage({ ...frame, list, plans, next, refused: added.refused })
  if (isRefresh(c)) return refreshed(c, frame, [list, frame.counts], page)
  return answerPage(c, page(), added.refused ? 400 : 200)
}

type Listed = { list: UserList; overview: Overview }

function listOf(c: AppContext, deps: Deps, query: UsersQuery): Promise<Listed> {
  if (query.q !== '') return foundList(deps, query)
  if (query.shown === 'blocked') return blockedList(deps, query)
  const isIndexed =
    query.sort === 'lastActive' || (query.sort === 'tokens' && query.window === 'day')
  const isWhole = query.shown === 'all' && query.plan === ''
  return isIndexed && isWhole ? indexedList(c, deps, query) : sortedList(c, deps, query)
}

const read = (deps: Deps, users: UserQuery) =>
  storeAnswer(storeOf(deps).overview({ dates: [dateOf(users.now)], users, events: 0 }))

/** A page in an order that an index has. */
async function indexedList(c: AppContext, deps: Deps, query: UsersQuery): Promise<Listed> {
  const now = deps.now()
  const sort = query.sort === 'tokens' ? 'tokens' : 'lastActive'
  const from = parseCursor(c.req.query('cursor') ?? '')
  const users: UserQuery = { sort, from, limit: PAGE, now }
  const overview = await read(deps, users)
  const { page, policy } = overview
  const list: UserList = {
    ...query,
    users: inOrder(page.users, users).map((user) => lineOf(deps, user, policy, now, query.window)),
    next: page.next && { cursor: formatCursor(page.next) },
    paged: from !== undefined,
    among: undefined,
  }
  return { list, overview }
}

/** A page in another order, or filtered: of a bounded number of users. */
async function sortedList(c: AppContext, deps: Deps, query: UsersQuery): Promise<Listed> {
  const now = deps.now()
  // Who has used most of a limit or costs most today has tokens today. A user whose requests fail has none.
  const byTokens =
    query.shown === 'near' ||
    query.sort === 'limit' ||
    (query.window === 'day' && (query.sort === 'cost' || query.sort === 'requests'))
  const sort =
    byTokens && query.shown !== 'failing' && query.sort !== 'failed' ? 'tokens' : 'lastActive'
  const overview = await read(deps, { sort, limit: AMONG, now })
  const { page, policy } = overview
  const skipped = Math.min(AMONG, Math.max(0, Number(c.req.query('skip')) || 0))
  const plan = (user: User) => limitsOfUser(deps.config.limits, user, policy, now).plan
  const lines = page.users
    .filter((user) => query.plan === '' || plan(user) === query.plan)
    .map((user) => lineOf(deps, user, policy, now, query.window))
    .filter(FILTERS[query.shown])
    .sort(ORDERS[query.sort])
  const isCut = page.next !== undefined
  const words = sort === 'tokens' ? 'with the most tokens today' : 'who were active last'
  const list: UserList = {
    ...query,
    users: lines.slice(skipped, skipped + PAGE),
    next: lines.length > skipped + PAGE ? { skip: `${skipped + PAGE}` } : undefined,
    paged: skipped > 0,
    among: isCut ? `Among the ${exact(AMONG)} users ${words}.` : undefined,
  }
  return { list, overview }
}

const FILTERS: Record<Shown, (line: Line) => boolean> = {
  all: () => true,
  near: ({ nearest }) => (nearest?.share ?? 0) >= NEAR,
  failing: ({ failed }) => failed > 0,
  blocked: ({ blocked }) => blocked.length > 0,
}

const by =
  (of: (line: Line) => number) =>
  (a: Line, b: Line): number =>
    of(b) - of(a) || b.at - a.at || (a.id < b.id ? -1 : 1)

const ORDERS: Record<Sort, (a: Line, b: Line) => number> = {
  lastActive: by(({ at }) => at),
  cost: by(({ cost }) => cost ?? -1),
  tokens: by(({ tokens }) => tokens),
  requests: by(({ requests }) => requests),
  limit: by(({ nearest }) => nearest?.share ?? -1),
  failed: by(({ failed }) => failed),
}

/** Blocked users, the longest-lasting block first. */
async function blockedList(deps: Deps, query: UsersQuery): Promise<Listed> {
  const profiles = await storeAnswer(storeOf(deps).blockedUsers(BLOCKED))
  const users = () => storeAnswer(storeOf(deps).users(profiles.map(({ id }) => id)))
  const list = await listOfUsers(deps, query, users)
  list.list.users = list.list.users.filter(FILTERS.blocked)
  if (profiles.length >= BLOCKED) list.list.among = `Only the ${BLOCKED} longest blocks.`
  return list
}

const foundList = (deps: Deps, query: UsersQuery): Promise<Listed> =>
  listOfUsers(deps, query, () => startingWith(deps, query.q))

async function listOfUsers(
  deps: Deps,
  query: UsersQuery,
  users: () => Promise<User[]>,
): Promise<Listed> {
  const [overview, found] = await Promise.all([framed(deps), users()])
  const now = deps.now()
  const lines = found.map((user) => lineOf(deps, user, overview.policy, now, query.window))
  const list: UserList = {
    ...query,
    users: query.sort === 'lastActive' ? lines : lines.sort(ORDERS[query.sort]),
    next: undefined,
    paged: false,
    among: undefined,
  }
  return { list, overview }
}

/** Adds a user by the application's own name: a label, a plan and a key, before the first call. */
export const newUserHandler =
  (deps: Deps, admin: Admin) =>
  async (c: AppContext): Promise<Response> => {
    const typed = await formOf(c)
    const { user = '', label, plan, key, next = '' } = typed
    const stamp = admin.stamp(c)
    try {
      if (user === '') throw wrong('Write the name of the user in your application.')
      if (!label && !plan && key !== 'yes') {
        throw wrong('Nothing was added: write a label, choose a plan or make a key.')
      }
      const set = { ...(label && { label }), ...(plan && { plan }) }
      fields({ user, ...set }, keyBody, CREATE_REFUSAL)
      const id = await createIds(deps.config.userHashSecret).ofUser(user)
      if (label || plan) await changeUser(deps, stamp, id, set)
      if (key !== 'yes') return seeOther(c, `/admin/users/${id}?done=added`)
      if (!NEXT.test(next)) throw wrong('The form is not complete: load the page again.')
      const made = await createKey(deps, stamp, id, keptOf({}, stamp.now), next)
      if (made) return await answerUser(c, deps, { secret: made.key, user: id })
      throw wrong(
        'This key was created before, and its secret is shown only once. Find the user to make another key.',
      )
    } catch (error) {
      if (!(error instanceof ApiError) || error.code !== 'invalid_request') throw error
      const refused = { form: 'new', typed, problem: problemOf(error) }
      return answerUsers(c, deps, queryOf(c), { refused })
    }
  }

const wrong = (message: string) => new ApiError('invalid_request', message)

/** The view of the list that a form came from, or else the whole list, with the result of the form. */
export function listPath(back: string, result: Record<string, string>): string {
  const [path, query = ''] = back.split('?', 2)
  const fields = new URLSearchParams(path === '/admin/users' ? query : '')
  for (const [name, value] of Object.entries(result)) fields.set(name, value)
  return `/admin/users?${String(fields)}`
}
