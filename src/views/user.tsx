/** A user's page: usage and limits, blocks, and erasure. */
import type { Counts } from '../ledger/units.ts'
import type { Event, Refused as RefusedRequest } from '../ledger/events.ts'
import { AdminsOnly } from './admins-only.tsx'
import { stackedChart } from './chart.tsx'
import { exact, short, shortDate } from './format.ts'
import { Page, type Frame } from './page.tsx'
import { openForm, type Refused } from './form.tsx'
import { Card, name } from './parts.tsx'
import { refusedOfUser } from './refused.tsx'
import { requestsTable } from './requests.tsx'
import { blocksCard, type UserBlocks } from './user-blocks.tsx'
import { keysCard, newKey, type UserKeys } from './user-keys.tsx'
import { profileCard, type UserProfile } from './user-profile.tsx'
import { usedToday, type UserToday } from './user-use.tsx'

/** The data that a refresh updates. It is plain data, because the ETag of a refresh is made of it. */
export type UserLive = UserToday & { id: string; days: (Counts & { date: string })[] }

/** `refused` are the user's among the last `refusedLooked` refusals of everyone. */
type UserRefusals = { refused: RefusedRequest[]; refusedLooked: number }

/** `events` are the user's among the last `looked` events of everyone. `more` is what only a whole page shows. */
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

/** The page, or without `more` only the parts for a refresh. */
export function userPage({ live, events, looked, more, refused, secret, ...frame }: UserPage) {
  const { now } = frame
  const { id, days } = live
  const path = `/admin/users/${id}`
  return (
    <Page title={`User ${id.slice(0, 6)}`} {...frame}>
      {secret !== undefined && newKey(secret)}
      <h1>
        <a href="/admin/users">Users</a> {more?.profile.label && [name(more.profile.label), ' ']}
        <span class="id">{id}</span>{' '}
        <button type="button" class="quiet" data-copy={id} hidden>
          Copy id
        </button>
      </h1>
      {usedToday(live, now)}
      <div class="two">
        <div>
          <Card id="week" title={`${days.length} days`} live>
            {stackedChart({
              id: 'days',
              caption: `Tokens by day over ${days.length} days`,
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
          {more && profileCard(path, more, refused, now)}
          {more && keysCard(path, more, refused, now)}
          {more && blocksCard(path, more, refused, now)}
        </div>
        <div>
          <Card
            id="events"
            title="Recent requests"
            side={
              <small>
                among the last {looked} of all users,{' '}
                <a href={`/admin/requests?user=${id}`}>show more</a>
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
                    This deletes their counts, blocks and events for good. If they call again, they
                    start unblocked, with a full day. Totals keep their usage, without their id.
                  </p>
                  <label class="tick wide">
                    <span>
                      <input type="checkbox" name="sure" value="yes" required /> I understand: their
                      blocks are deleted too
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
