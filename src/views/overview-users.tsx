/** The list of users on the dashboard: its order, its pages and the search for one of them. */
import type { UserLine } from '../reports/dashboard.ts'
import { exact, percent } from './format.ts'
import { Card, costText, limitBar, modelName, name, num, tag, time, userLink } from './parts.tsx'
import { table } from './table.tsx'

type Sort = 'lastActive' | 'tokens'

export type Line = UserLine & { plan?: string }

/** A page of the list. */
export type UserList = {
  /** `plan` is one that is not the default. */
  users: Line[]
  sort: Sort
  /** The cursor of the next page. `paged`: whether this page is not the first. */
  next: string | undefined
  paged: boolean
}

const SORTS = { lastActive: 'Last active', tokens: 'Most tokens' }

/** The users of a page, each with the limit that they are nearest to. */
export function usersCard({ users: rows, sort, next, paged }: UserList, now: number) {
  const page = (of: string, cursor = '') => `/admin?sort=${of}${cursor}#users`
  return (
    <Card
      id="users"
      title="Users"
      live
      side={
        <>
          <nav aria-label="Order of users" class="tabs">
            {Object.entries(SORTS).map(([of, title]) => (
              <a href={page(of)} aria-current={of === sort ? 'true' : undefined}>
                {title}
              </a>
            ))}
          </nav>
          {findForm()}
        </>
      }
    >
      {usersTable(rows, SORTS[sort], paged, now)}
      {(next ?? paged) && (
        <nav class="pages" aria-label="Pages of users">
          {paged && <a href={page(sort)}>First page</a>}
          {next && (
            <a href={page(sort, `&cursor=${next}`)} rel="next">
              Next page
            </a>
          )}
        </nav>
      )}
    </Card>
  )
}

const findForm = () => (
  <form method="post" action="/admin/find" class="find" role="search">
    <input
      name="q"
      aria-label="Label, id, token or key of a user"
      placeholder="Label, id, token or key"
      autocomplete="off"
      required
    />
    <button class="quiet">Find</button>
  </form>
)

export const usersTable = (rows: Line[], order: string, paged: boolean, now: number) =>
  table({
    caption: `Users: ${order}`,
    rows,
    key: ({ id }) => id,
    columns: [
      [
        'User',
        'g',
        ({ id, label, plan, blocked, differs, overReservation }) => (
          <span class="who">
            {label && <b>{name(label)}</b>}
            {userLink(id)}
            {plan && tag(plan, 'plan', 'Plan')}
            {blocked.length > 0 && tag('blocked', 'bad', blocked.join(', ').slice(0, 200))}
            {differs &&
              tag('reports differ', '', 'Their browser reports other counts than the gateway')}
            {overReservation > 0 &&
              tag(
                'over reservation',
                '',
                `${exact(overReservation)} tokens beyond the reservations`,
              )}
          </span>
        ),
      ],
      ['Active', 'n', ({ at }) => time(at, now)],
      ['Requests', 'n w', ({ requests }) => num(requests)],
      ['Tokens', 'n', ({ tokens }) => num(tokens)],
      ['This month', 'n w', ({ monthCost }) => costText(monthCost)],
      [
        'Limit used',
        '',
        ({ nearest }) =>
          nearest && (
            <span class="nearest" title={modelName(nearest.model)}>
              {limitBar(nearest.share, 'Used share of the nearest limit')} {percent(nearest.share)}
            </span>
          ),
      ],
    ],
    empty: paged ? 'No more users.' : 'No user has called yet.',
  })
