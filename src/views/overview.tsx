/** The dashboard: everyone's usage, blocked users, and recent requests. */
import type { TokenNotes } from '../config/tokens.ts'
import type { Event } from '../ledger/shapes.ts'
import type { StoreHealth } from '../store/fallback/store.ts'
import type { PastDays, Today } from '../reports/dashboard.ts'
import { evictionWarning } from '../reports/eviction.ts'
import { awayText, exact } from './format.ts'
import { FirstCall } from './first-call.tsx'
import { adminCards, type AdminActions } from './overview-admin.tsx'
import { figures } from './overview-figures.tsx'
import { pastCard, todayCard } from './overview-use.tsx'
import { usersCard, type UserList } from './overview-users.tsx'
import { Page, type Frame } from './page.tsx'
import { Card, Notice } from './parts.tsx'
import { requests } from './requests.tsx'

/** The data that a refresh updates. It is plain data, because the ETag of a refresh is made of it. */
export type Live = UserList & { health: StoreHealth; today: Today; events: Event[] }

/** What only a whole page shows. */
export type More = AdminActions & {
  history: PastDays
  origin: string
  tokens: TokenNotes
}

/** The page, or without `more` only the parts for a refresh. */
export function overviewPage({ live, more, ...frame }: Frame & { live: Live; more?: More }) {
  const { now } = frame
  const { health, today } = live
  return (
    <Page title="Dashboard" {...frame}>
      <h1 class="hide">Dashboard</h1>
      <div data-live id="health">
        {(health.degraded || health.queued > 0) && (
          <Notice bad>
            {health.degraded && `${awayText(health.reason)} `}
            {`Requests that are not counted yet: ${exact(health.queued)}.`}
          </Notice>
        )}
        {health.evicts !== undefined && <Notice bad>{evictionWarning(health.evicts)}</Notice>}
      </div>
      {more?.tokens.warnings.map((warning) => (
        <Notice bad>{warning}</Notice>
      ))}
      {more && <p class="soft">{more.tokens.notes.join(' ')}</p>}
      {more && !more.history.requests && !live.users.length && (
        <Card id="first" title="Nothing has been counted yet">
          <p>Make a first call. Its user appears here within seconds:</p>
          <FirstCall origin={more.origin} kinds={more.tokens.kinds} />
        </Card>
      )}
      {figures(today, now)}
      <div class="two">
        {todayCard(today)}
        {more && pastCard(more.history)}
      </div>
      <div class="two wide">
        {usersCard(live, now)}
        <Card id="events" title="Recent requests" live>
          {requests(live.events, now)}
        </Card>
      </div>
      {more && adminCards(more, now)}
    </Page>
  )
}
