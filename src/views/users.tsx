/** The page of users: their order, filters and pages, and what an admin does to one of them from the list. */
import type { Child } from 'hono/jsx'
import type { BlockLine, UserLine, UserWindow } from '../reports/dashboard.ts'
import { AdminsOnly } from './admins-only.tsx'
import { Input, closedForm, select, type Choice, type Refused } from './form.tsx'
import { exact, percent } from './format.ts'
import { Page, type Frame } from './page.tsx'
import {
  Card,
  blockedTag,
  count,
  costText,
  limitBar,
  modelName,
  name,
  scope,
  tag,
  time,
  userLink,
} from './parts.tsx'
import { table, type Column } from './table.tsx'
import { help } from './terms.tsx'
import { REASON_CHARS } from './user-blocks.tsx'
import { userMenu } from './user-menu.tsx'

/** `plan` is one that is not the default, and `blocks` are what the list of blocked users shows of them. */
export type Line = UserLine & { plan?: string; blocks?: BlockLine[] }

export const SORTS = {
  lastActive: 'Active',
  cost: 'Cost',
  tokens: 'Tokens',
  requests: 'Requests',
  limit: 'Limit used',
  failed: 'Failed',
} as const
export type Sort = keyof typeof SORTS

export const SHOWN = {
  all: 'All',
  near: 'Near a limit',
  failing: 'Failing',
  blocked: 'Blocked',
} as const
export type Shown = keyof typeof SHOWN

const WINDOWS: Record<UserWindow, string> = { day: 'Today', week: 'This week', month: 'This month' }

/** What the address of the page says. */
export type UsersQuery = {
  sort: Sort
  window: UserWindow
  shown: Shown
  /** The name of a plan; empty for all. */
  plan: string
  /** The beginning of a label or an id; empty for none. */
  q: string
}

export type UserList = UsersQuery & {
  users: Line[]
  /** What the address of the next page adds. */
  next: Record<string, string> | undefined
  /** Likewise of the page before, where there is one between this page and the first. */
  previous?: Record<string, string> | undefined
  /** How many users are on the pages before. */
  first: number
  /** Among which users these were chosen or sorted, if not among all. */
  among: string | undefined
}

type UsersPage = Frame & {
  list: UserList
  plans: string[]
  /** The id of the next key: the form creates one key, however often it is sent. Absent where no key can be made. */
  next: string | undefined
  refused?: Refused | undefined
}

const DEFAULTS: Record<string, string> = {
  sort: 'lastActive',
  window: 'day',
  shown: 'all',
  plan: '',
  q: '',
}

/** The address of a view of the list, without what is as usual. */
function usersPath(query: UsersQuery, more: Record<string, string> = {}): string {
  const fields = Object.entries({ ...query, ...more }).filter(
    ([name, value]) => value !== (DEFAULTS[name] ?? ''),
  )
  const text = String(new URLSearchParams(fields))
  return `/admin/users${text && `?${text}`}`
}

/** The page, or with a refresh only its list. */
export function usersPage({ list, plans, next, refused, ...frame }: UsersPage) {
  return (
    <Page title="Users" {...frame}>
      <h1 class="hide">Users</h1>
      {refused && newUser(plans, next, refused)}
      <Card
        id="users"
        title={list.q ? ['Found: ', name(list.q)] : 'Users'}
        live
        side={filters(list, plans)}
      >
        {list.among && <p class="soft among">{list.among}</p>}
        {usersTable(list, frame.now)}
        {pagesOf(list)}
      </Card>
      {!refused && newUser(plans, next, refused)}
    </Page>
  )
}

/** The query of a list without the list. */
const queryOf = ({ sort, window, shown, plan, q }: UserList): UsersQuery => ({
  ...{ sort, window, shown, plan, q },
})

const tabs = (label: string, of: [string, string, boolean][]) => (
  <nav aria-label={label} class="tabs">
    {of.map(([path, title, isCurrent]) => (
      <a href={path} aria-current={isCurrent ? 'true' : undefined}>
        {title}
      </a>
    ))}
  </nav>
)

function filters(list: UserList, plans: string[]) {
  const query = queryOf(list)
  const kept = (['window', 'shown', 'q'] as const).filter((name) => query[name] !== DEFAULTS[name])
  return (
    <>
      {tabs(
        'Time of the numbers',
        Object.entries(WINDOWS).map(([window, title]) => [
          usersPath({ ...query, window: window as UserWindow }),
          title,
          window === query.window,
        ]),
      )}
      {tabs(
        'Users shown',
        Object.entries(SHOWN).map(([shown, title]) => [
          usersPath({ ...query, shown: shown as Shown }),
          title,
          shown === query.shown,
        ]),
      )}
      <form action="/admin/users" class={`inline ${plans.length > 1 ? '' : 'small-only'}`}>
        {kept.map((name) => (
          <input type="hidden" name={name} value={query[name]} />
        ))}
        <label class="small-only">
          Sort by {select('sort', Object.entries(SORTS), query.sort)}
        </label>
        {plans.length > 1 && (
          <label>
            <span class="hide">Plan</span>
            {select(
              'plan',
              [['', 'Any plan'], ...plans.map((plan): Choice => [plan, plan])],
              query.plan,
            )}
          </label>
        )}
        <button class="quiet">Show</button>
      </form>
    </>
  )
}

function pagesOf(list: UserList) {
  const { users, next, previous, first } = list
  const query = queryOf(list)
  if (!next && first === 0) return undefined
  return (
    <nav class="pages" aria-label="Pages of users">
      {users.length > 0 && (
        <span class="soft">
          {exact(first + 1)}–{exact(first + users.length)}
        </span>
      )}
      {first > 0 && <a href={usersPath(query)}>First page</a>}
      {previous && (
        <a href={usersPath(query, previous)} rel="prev">
          Previous page
        </a>
      )}
      {next && (
        <a href={usersPath(query, next)} rel="next">
          Next page
        </a>
      )}
    </nav>
  )
}

/** Headings of numbers that are of now or of today, whatever the window is. */
const NOW_TITLES: Partial<Record<Sort, string>> = {
  limit: 'Limit used now',
  failed: 'Failed today',
}

function usersTable(list: UserList, now: number) {
  const { users: rows, first } = list
  const query = queryOf(list)
  /** A column that the list can be sorted by. The one that it is sorted by is on narrow cards too. */
  const sortable = (
    sort: Sort,
    kind: string,
    cell: (user: Line) => Child,
    more?: Child,
  ): Column<Line> => [
    SORTS[sort],
    sort === query.sort ? kind.replace(' w', '') : kind,
    cell,
    {
      sorted: sort === query.sort,
      content: (
        <>
          <a href={usersPath({ ...query, sort })}>
            {(query.window !== 'day' && NOW_TITLES[sort]) || SORTS[sort]}
          </a>
          {more}
        </>
      ),
    },
  ]
  const menu: Column<Line> = [
    'Actions',
    'm',
    (user) => <AdminsOnly>{userMenu(user, usersPath(query))}</AdminsOnly>,
    { content: <span class="hide">Actions</span> },
  ]
  return table({
    caption: `Users, by ${SORTS[query.sort].toLowerCase()}`,
    rows,
    key: ({ id }) => id,
    columns: [
      ['User', 'g', (user) => userCell(user, blockLines(user, now))],
      ['Plan', 'x', ({ plan }) => plan && name(plan)],
      sortable('cost', 'n', ({ cost }) => costText(cost), help('cost')),
      sortable('tokens', 'n w', ({ tokens }) => count(tokens)),
      sortable('requests', 'n w', ({ requests }) => count(requests)),
      sortable('limit', '', ({ nearest }) => nearest && limitUsed(nearest), help('limit')),
      sortable('failed', 'n w', ({ failed }) => count(failed), help('failures')),
      sortable('lastActive', 'n w', ({ at }) => (at ? time(at, now) : 'never')),
      menu,
    ],
    empty: first > 0 ? 'No more users.' : emptyText(query),
  })
}

function emptyText({ shown, plan, q }: UsersQuery): string {
  if (q && (plan || shown !== 'all')) return 'No user who begins like this is shown here.'
  if (q) return 'No user has a label or an id that begins like this.'
  if (plan) return 'None of these users has this plan.'
  if (shown === 'near') return 'Nobody is near a limit.'
  if (shown === 'failing') return 'No request of these users failed today.'
  return shown === 'blocked' ? 'Nobody is blocked.' : 'No user has called yet.'
}

export const limitUsed = (nearest: NonNullable<UserLine['nearest']>) => (
  <span class="nearest" title={modelName(nearest.model)}>
    {limitBar(nearest.share, 'Used share of the nearest limit')} {percent(nearest.share)}
  </span>
)

/** A user in a list, with `more` under the name. */
export const userCell = (
  { id, label, plan, blocked, differs, overReservation }: Line,
  more?: Child,
) => (
  <span class="who">
    {label && <b>{userLink(id, label)}</b>}
    {label ? <span class="id soft">{id}</span> : userLink(id)}
    {plan && tag(plan, 'plan narrow-only', 'Plan')}
    {blocked.length > 0 && blockedTag(blocked)}
    {differs && tag('reports differ', '', 'Their browser reports other counts than the gateway')}
    {overReservation > 0 &&
      tag('over reservation', '', `${exact(overReservation)} tokens beyond the reservations`)}
    {more}
  </span>
)

const blockLines = ({ blocks }: Line, now: number) =>
  blocks?.map(({ model, reason, until }) => (
    <small class="what">
      {scope(model)}, {until ? ['ends ', time(until, now)] : 'until unblocked'}
      {reason && [': ', name(reason, REASON_CHARS)]}
    </small>
  ))

/** The form for a user who may have never called. */
const newUser = (plans: string[], next: string | undefined, refused: Refused | undefined) => (
  <AdminsOnly>
    <Card id="new" title="New user">
      {closedForm({
        form: 'new',
        action: '/admin/users',
        title: 'Add a user',
        values: {},
        refused,
        button: 'Add user',
        fields: (values) => (
          <>
            <p class="soft wide">
              The user’s name in your application (the <code>sub</code> of its tokens). Weir stores
              only a hash. A user who has not called yet is kept with{' '}
              {next ? 'a label, a plan or a key' : 'a label or a plan'}.
            </p>
            <label>
              Name in your application
              <Input name="user" value={values['user']} required />
            </label>
            <label>
              Label
              <Input name="label" value={values['label']} />
            </label>
            <label>
              Plan
              {select(
                'plan',
                [['', 'the default'], ...plans.map((plan): Choice => [plan, plan])],
                values['plan'],
              )}
            </label>
            {next && (
              <label class="tick">
                <input type="hidden" name="next" value={next} />
                <span>
                  <input type="checkbox" name="key" value="yes" checked={values['key'] === 'yes'} />{' '}
                  Make a key
                </span>
              </label>
            )}
          </>
        ),
      })}
    </Card>
  </AdminsOnly>
)
