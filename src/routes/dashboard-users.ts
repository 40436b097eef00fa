/** `/admin/users`: the page of users, whole or as a refresh, and the form that adds one. */
import type { AppContext, Deps } from '../context.ts'
import { ApiError } from '../errors.ts'
import type { Admin } from '../http/admin.ts'
import { formOf } from '../http/form.ts'
import { fields } from '../http/json-body.ts'
import { createIds } from '../identity/ids.ts'
import { createIssuedKeys } from '../identity/issued-key.ts'
import { DEFAULT_PLAN, limitsOfUser, type Policy } from '../ledger/plans.ts'
import { MINUTE_MS, dateOf } from '../ledger/windows.ts'
import { blocksOf, type UserWindow } from '../reports/dashboard.ts'
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
import { frameOf, framed, noticeOfBlock } from './dashboard-frame.tsx'
import { lineOf } from './dashboard-overview.ts'
import { isRefresh, refreshed } from './dashboard-refresh.ts'
import { answerUser } from './dashboard-user.ts'
import { NEXT } from './dashboard-user-forms.ts'
import { refusedForm } from './form-fields.ts'
import { CREATE_REFUSAL, createKey, keptOf } from './keys.ts'
import { keyBody } from './keys-schemas.ts'
import { USER_ID } from './user-query.ts'
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
    if (isRefresh(c) && isStill(query)) return c.body(null, 304)
    return answerUsers(c, deps, query)
  }

/** A search reads too much for a refresh. */
const isStill = ({ q }: UsersQuery): boolean => q !== ''

/** What an answer to a form adds to the page. */
type Added = { refused?: Refused; search?: string }

/** Answers with the page. */
export async function answerUsers(
  c: AppContext,
  deps: Deps,
  query: UsersQuery,
  added: Added = {},
): Promise<Response> {
  const { list, overview, every } = await listOf(c, deps, query)
  const { policy, days } = overview
  const { done, who = '' } = c.req.query()
  const isBlock = done === 'blocked' && USER_ID.test(who)
  const [blocked] = isBlock ? await storeAnswer(storeOf(deps).users([who])) : []
  const frame: Frame = {
    ...frameOf(c, deps, days),
    ...(blocked && noticeOfBlock(c, blocked, deps.now())),
    ...(every !== undefined && { every }),
    ...(isStill(query) && { still: true }),
    ...(added.search !== undefined && { search: added.search, path: '/admin/users' }),
  }
  const plans = [...new Set([DEFAULT_PLAN, ...Object.keys(policy.plans)])].sort()
  const secret = deps.config.userHashSecret
  // The id of the next key does not depend on the user.
  const next =
    secret !== undefined && takesKeys(deps)
      ? (await createIssuedKeys(secret).make('0'.repeat(22))).id
      : undefined
  const page = () => usersPage({ ...frame, list, plans, next, refused: added.refused })
  if (isRefresh(c)) return refreshed(c, frame, [list, frame.counts], page)
  return answerPage(c, page(), added.refused ? 400 : 200)
}

type Listed = { list: UserList; overview: Overview; every?: number }

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
  const first = from === undefined ? 0 : skippedOf(c)
  const users: UserQuery = { sort, from, limit: PAGE, now }
  const overview = await read(deps, users)
  const { page, policy } = overview
  const list: UserList = {
    ...query,
    users: inOrder(page.users, users).map((user) => lineOf(deps, user, policy, now, query.window)),
    next: page.next && { cursor: formatCursor(page.next), skip: `${first + PAGE}` },
    first,
    among: sort === 'tokens' ? WITH_TOKENS : undefined,
  }
  return { list, overview }
}

/** How many users are on the pages before. */
function skippedOf(c: AppContext): number {
  const skip = Number(c.req.query('skip'))
  return Number.isSafeInteger(skip) && skip > 0 ? skip : 0
}

const WITH_TOKENS = 'Only users who used or reserved tokens today.'

/** A page in another order, or filtered: of a bounded number of users. */
async function sortedList(c: AppContext, deps: Deps, query: UsersQuery): Promise<Listed> {
  const now = deps.now()
  // Who has used most of a limit has tokens today, or nearly always. Audio costs money and has none, and who fails has none.
  const byTokens =
    query.shown === 'near' ||
    query.sort === 'limit' ||
    (query.window === 'day' && query.sort === 'requests')
  const sort =
    byTokens && query.shown !== 'failing' && query.sort !== 'failed' ? 'tokens' : 'lastActive'
  const overview = await read(deps, { sort, limit: AMONG, now })
  const { page, policy } = overview
  const first = Math.min(AMONG, skippedOf(c))
  const lines = linesOf(deps, page.users, policy, query)
  const words = sort === 'tokens' ? 'with the most tokens today' : 'who were active last'
  const all = sort === 'tokens' ? WITH_TOKENS : undefined
  const isCut = page.next !== undefined
  const list: UserList = {
    ...query,
    users: lines.slice(first, first + PAGE),
    next: lines.length > first + PAGE ? { skip: `${first + PAGE}` } : undefined,
    previous: first > PAGE ? { skip: `${first - PAGE}` } : undefined,
    first,
    among: isCut ? `Among the ${exact(AMONG)} users ${words}.` : all,
  }
  return { list, overview, ...(isCut && { every: EVERY_AMONG_MS }) }
}

/** Users as the list shows them: those that it is filtered for, in its order. */
function linesOf(deps: Deps, users: User[], policy: Policy, query: UsersQuery): Line[] {
  const now = deps.now()
  const plan = (user: User) => limitsOfUser(deps.config.limits, user, policy, now).plan
  return users
    .filter((user) => query.plan === '' || plan(user) === query.plan)
    .map((user) => ({
      ...lineOf(deps, user, policy, now, query.window),
      ...(query.shown === 'blocked' && { blocks: blocksOf(user.profile, now) }),
    }))
    .filter(FILTERS[query.shown])
    .sort(ORDERS[query.sort])
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

/** Blocked users. Of very many, those whose blocks last longest. */
async function blockedList(deps: Deps, query: UsersQuery): Promise<Listed> {
  const profiles = await storeAnswer(storeOf(deps).blockedUsers(BLOCKED))
  const users = () => storeAnswer(storeOf(deps).users(profiles.map(({ id }) => id)))
  const listed = await listOfUsers(deps, query, users)
  if (profiles.length >= BLOCKED) listed.list.among = `Only the ${BLOCKED} longest blocks.`
  return listed
}

const foundList = (deps: Deps, query: UsersQuery): Promise<Listed> =>
  listOfUsers(deps, query, () => startingWith(deps, query.q))

async function listOfUsers(
  deps: Deps,
  query: UsersQuery,
  users: () => Promise<User[]>,
): Promise<Listed> {
  const [overview, found] = await Promise.all([framed(deps), users()])
  const list: UserList = {
    ...query,
    users: linesOf(deps, found, overview.policy, query),
    next: undefined,
    first: 0,
    among: undefined,
  }
  return { list, overview, every: EVERY_AMONG_MS }
}

const takesKeys = ({ config }: Deps): boolean => config.userTokens.includes('issued')

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
        const ways = takesKeys(deps)
          ? 'write a label, choose a plan or make a key'
          : 'write a label or choose a plan'
        throw wrong(`Nothing was added: ${ways}.`)
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
      return answerUsers(c, deps, queryOf(c), { refused: refusedForm('new', typed, error) })
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
