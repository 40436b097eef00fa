/** A user's page: usage and limits, blocks, and erasure. */
import type { Counts } from '../ledger/units.ts'
import type { Event, Refused as RefusedRequest } from '../ledger/events.ts'
import { AdminsOnly } from './admins-only.tsx'
import { stackedChart } from './chart.tsx'
import { exact, short, shortDate } from './format.ts'
import { Page, type Frame } from './page.tsx'
import { openForm, type Refused } from './form.tsx'
import { Card, blockedTag, name } from './parts.tsx'
import { refusedOfUser } from './refused.tsx'
import { requestsTable } from './requests.tsx'
import { blocksCard, type UserBlocks } from './user-blocks.tsx'
import { keysCard, newKey, type UserKeys } from './user-keys.tsx'
import { profileCard, type UserProfile } from './user-profile.tsx'
import { userMenu } from './user-menu.tsx'
import { usedToday, type UserToday } from './user-use.tsx'

/** The data that a refresh updates. It is plain data, because the ETag of a refresh is made of it. */
export type UserLive = UserToday & { id: string; days: (Counts & { date: string })[] }

/** `refused` are the user's among the last `refusedLooked` refusals of everyone. */
type UserRefusals = { refused: RefusedRequest[]; refusedLooked: number }

/** `events` are the user's latest among the last `looked` events of everyone. `more` is what only a whole page shows. */
export type UserPage = Frame & {
  live: UserLive
  events: Event[]
  looked: number
  more?: UserBlocks & UserProfile & UserKeys & UserRefusals
  /** A form of the page that was refused. */
  refused?: Refused | undefined
  /** A key that was just made. */
  secret?: string | undefined
}

/** Who it is, whether they are blocked, and what an admin does most. */
const userHead = (path: string, id: string, { profile, blocks }: NonNullable<UserPage['more']>) => (
  <div class="top">
    <h1>
      <a href="/admin/users">Users</a> {profile.label && [name(profile.label), ' ']}
      <span class="id">{id}</span>
    </h1>
    {blocks.length > 0 && <a href="#blocks">{blockedTag(blocks.map(({ model }) => model))}</a>}
    <button type="button" class="quiet" data-copy={id} hidden>
      Copy id
    </button>
    <AdminsOnly>
      {userMenu(
        { id, label: profile.label ?? undefined, blocked: blocks.map(({ model }) => model) },
        path,
      )}
    </AdminsOnly>
  </div>
)

/** The page, or without `more` only the parts for a refresh. */
export function userPage({ live, events, looked, more, refused, secret, ...frame }: UserPage) {
  const { now } = frame
  const { id, days } = live
  const path = `/admin/users/${id}`
  return (
    <Page title={`User ${id.slice(0, 6)}`} {...frame}>
      {secret !== undefined && newKey(secret)}
      {more && userHead(path, id, more)}
      {usedToday(live, now)}
      <div class="two of-user">
        <div>
          {more && blocksCard(path, more, refused, now)}
          {more && keysCard(path, more, refused, now)}
        </div>
        <div>{more && profileCard(path, more, refused, now)}</div>
        <div>
          <Card id="week" title="Tokens by day (UTC)" live>
            {!days.some(({ tokens }) => tokens > 0) && (
              <p class="empty">No tokens in these {days.length} days.</p>
            )}
            {days.some(({ tokens }) => tokens > 0) &&
              stackedChart({
                id: 'days',
                caption: `Tokens by day in UTC, over ${days.length} days`,
                heading: 'Day (UTC)',
                unit: 'tokens',
                names: days.map(({ date }) => shortDate(date)),
                series: [{ name: 'tokens', amounts: days.map(({ tokens }) => tokens) }],
                mark: short,
                short,
                exact,
                whole: true,
                current: { at: days.length - 1, words: 'today, not over' },
              })}
          </Card>
          <Card
            id="events"
            title="Recent requests"
            side={
              <small>
                The latest of the last {looked} of all users.{' '}
                <a href={`/admin/requests?user=${id}`}>Show all of this user</a>
              </small>
            }
            live
          >
            {requestsTable(events, {}, 'own')}
          </Card>
          {more && refusedOfUser(more.refused, more.refusedLooked)}
        </div>
      </div>
      {more && (
        <AdminsOnly>
          <Card id="erase" title="Erase">
            {openForm({
              form: 'erase',
              action: `${path}/erase`,
              values: {},
              refused,
              button: 'Erase user',
              kind: 'danger',
              fields: () => (
                <>
                  <p class="soft wide">
                    This deletes for good all that is kept of this user: counts, requests, label,
                    note, plan, own limits, boost, blocks and keys. If they call again, they are a
                    new user. Totals keep their usage, without their id.
                  </p>
                  <label class="tick">
                    <span>
                      <input type="checkbox" name="sure" value="yes" required /> I understand: their
                      keys stop working, and their blocks are gone
                    </span>
                  </label>
                </>
              ),
            })}
          </Card>
        </AdminsOnly>
      )}
    </Page>
  )
}
