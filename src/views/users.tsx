/** The page of users: their order, filters and pages, and what an admin does to one of them from the list. */
import type { Child } from 'hono/jsx'
import type { UserLine, UserWindow } from '../reports/dashboard.ts'
import { AdminsOnly } from './admins-only.tsx'
import { closedForm, select, type Choice, type Refused } from './form.tsx'
import { exact, percent } from './format.ts'
import { Page, type Frame } from './page.tsx'
import { Card, count, costText, limitBar, modelName, name, tag, time, userLink } from './parts.tsx'
import { table, type Column } from './table.tsx'
import { help } from './terms.tsx'
import { userMenu } from './user-menu.tsx'

/** `plan` is one that is not the default. */
export type Line = UserLine & { plan?: string }

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
  /** This page is not the first. */
  paged: boolean
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

const tabs = (label: string, of: [string, string, boolean][]) => (
  <nav aria-label={label} class="tabs">
    {of.map(([path, title, isCurrent]) => (
      <a href={path} aria-current={isCurrent ? 'true' : undefined}>
        {title}
      </a>
    ))}
  </nav>
)

function filters(
  { users: _, next: __, paged: ___, among: ____, ...query }: UserList,
  plans: string[],
) {
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
      {plans.length > 1 && (
        <form action="/admin/users" class="inline">
          {query.sort !== 'lastActive' && <input type="hidden" name="sort" value={query.sort} />}
          {query.window !== 'day' && <input type="hidden" name="window" value={query.window} />}
          <label>
            <span class="hide">Plan</span>
            {select(
              'plan',
              [['', 'Any plan'], ...plans.map((plan): Choice => [plan, plan])],
              query.plan,
            )}
          </label>
          <button class="quiet">Show</button>
        </form>
      )}
    </>
  )
}

const pagesOf = ({ users: _, next, paged, among: __, ...query }: UserList) =>
  (next ?? paged) && (
    <nav class="pages" aria-label="Pages of users">
      {paged && <a href={usersPath(query)}>First page</a>}
      {next && (
        <a href={usersPath(query, next)} rel="next">
          Next page
        </a>
      )}
    </nav>
  )

function usersTable(list: UserList, now: number) {
  const { users: rows, next: _, paged, among: __, ...query } = list
  const sortable = (sort: Sort, more?: Child) => ({
    sorted: sort === query.sort,
    content: (
      <>
        <a href={usersPath({ ...query, sort })}>{SORTS[sort]}</a>
        {more}
      </>
    ),
  })
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
      ['User', 'g', userCell],
      ['Plan', 'x', ({ plan }) => plan && name(plan)],
      ['Cost', 'n', ({ cost }) => costText(cost), sortable('cost', help('cost'))],
      ['Tokens', 'n w', ({ tokens }) => count(tokens), sortable('tokens')],
      ['Requests', 'n w', ({ requests }) => count(requests), sortable('requests')],
      [
        'Limit used',
        '',
        ({ nearest }) => nearest && limitUsed(nearest),
        sortable('limit', help('limit')),
      ],
      ['Failed', 'n w', ({ failed }) => count(failed), sortable('failed', help('failures'))],
      ['Active', 'n w', ({ at }) => (at ? time(at, now) : 'never'), sortable('lastActive')],
      menu,
    ],
    empty: paged ? 'No more users.' : emptyText(query),
  })
}

function emptyText({ shown, plan, q }: UsersQuery): string {
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

export const userCell = ({ id, label, plan, blocked, differs, overReservation }: Line) => (
  <span class="who">
    {label && <b>{userLink(id, label)}</b>}
    {label ? <span class="id soft">{id}</span> : userLink(id)}
    {plan && tag(plan, 'plan narrow-only', 'Plan')}
    {blocked.length > 0 && tag('blocked', 'bad', blocked.join(', ').slice(0, 200))}
    {differs && tag('reports differ', '', 'Their browser reports other counts than the gateway')}
    {overReservation > 0 &&
      tag('over reservation', '', `${exact(overReservation)} tokens beyond the reservations`)}
  </span>
)

/** The form for a user who may have never called. */
const newUser = (plans: string[], next: string | undefined, refused: Refused | undefined) => (
  <AdminsOnly>
    <Card id="new" title="A user who has not called yet">
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
              Your application’s own name of the user, as in <code>sub</code> of its tokens. Weir
              stores only the id that it makes of it.
            </p>
            <label>
              Name in your application
              <input name="user" value={values['user']} autocomplete="off" required />
            </label>
            <label>
              Label
              <input name="label" value={values['label']} autocomplete="off" />
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
