/** The overview: what everyone used, what needs a look, and the latest requests. */
import type { TokenNotes } from '../config/tokens.ts'
import type { Event } from '../ledger/events.ts'
import type { StoreHealth } from '../store/fallback/store.ts'
import type { Look } from '../reports/look.ts'
import type { Latency } from '../reports/latency.ts'
import type { Bars, Measure } from '../reports/period.ts'
import { evictionWarning } from '../reports/eviction.ts'
import type { TagStats } from '../reports/tags.ts'
import { AdminsOnly } from './admins-only.tsx'
import { exportCard, type Invoice } from './export.tsx'
import { awayText, exact } from './format.ts'
import { FirstCall, firstCall, type Gateway } from './first-call.tsx'
import { figures, type Figures, type RefusedFigure } from './overview-figures.tsx'
import { lookCard } from './overview-look.tsx'
import { latencyCard, modelsCard, rangeBar, useCard } from './overview-use.tsx'
import { Page, type Frame } from './page.tsx'
import { Card, costText, Notice, num } from './parts.tsx'
import { requestsTable } from './requests.tsx'
import { table } from './table.tsx'
import { tagsCard } from './tags.tsx'
import { limitUsed, userCell, type Line } from './users.tsx'

/** The data that a refresh updates. It is plain data, because the ETag of a refresh is made of it. */
export type Live = Figures & {
  health: StoreHealth
  measure: Measure
  bars: Bars
  limit: { amount: number; words: string } | undefined
  looks: Look[]
  latency: Latency
  /** The recent requests that were looked at. */
  looked: number
  /** The users who cost most today. */
  top: Line[]
  events: Event[]
  labels: Record<string, string>
}

/** What only a whole page shows. */
export type More = {
  tags: TagStats[]
  refused: RefusedFigure
  looks: Look[]
  blocked: number
  invoice: Invoice
  origin: string
  tokens: TokenNotes
  /** The oldest day and the current one. */
  oldest: string
  date: string
}

/** The page, or without `more` only the parts for a refresh. */
export function overviewPage({ live, more, ...frame }: Frame & { live: Live; more?: More }) {
  const { now } = frame
  const { health, range, period } = live
  const isEmpty = period.requests === 0 && live.events.length === 0
  return (
    <Page title="Overview" {...frame}>
      <h1 class="hide">Overview</h1>
      <div data-live id="health">
        {(health.degraded || health.queued > 0) && (
          <Notice bad>
            {health.degraded && `${awayText(health.reason)} `}
            {health.queued > 0 && queuedText(health.queued)}
          </Notice>
        )}
        {health.evicts !== undefined && <Notice bad>{evictionWarning(health.evicts)}</Notice>}
      </div>
      {more?.tokens.warnings.map((warning) => (
        <Notice bad>{warning}</Notice>
      ))}
      {range.problem && <Notice bad>{range.problem}</Notice>}
      {more && isEmpty && firstCard({ origin: more.origin, kinds: more.tokens.kinds })}
      {more && rangeBar(live, more.oldest, more.date)}
      {figures(live, more?.refused, now)}
      {lookCard({ now: live.looks, more: more?.looks, blocked: more?.blocked ?? 0 }, now)}
      <div class="grid">
        {useCard(live)}
        {modelsCard(period, live.today?.models)}
        {topCard(live.top)}
        {latencyCard(live.latency, live.looked)}
        <Card
          id="events"
          title="Recent requests"
          live
          side={<a href="/admin/requests">All requests</a>}
        >
          {requestsTable(live.events, live.labels, 'short')}
        </Card>
      </div>
      {more && tagsCard(more.tags, range)}
      {more && <AdminsOnly>{exportCard(more.invoice)}</AdminsOnly>}
      {more && <p class="soft">{more.tokens.notes.join(' ')}</p>}
    </Page>
  )
}

const queuedText = (queued: number) =>
  queued === 1
    ? '1 request is not in these numbers yet; Weir adds it by itself.'
    : `${exact(queued)} requests are not in these numbers yet; Weir adds them by itself.`

const firstCard = (gateway: Gateway) => (
  <Card
    id="first"
    title="Nothing has been counted yet"
    side={
      <button type="button" class="quiet" data-copy={firstCall(gateway)} hidden>
        Copy
      </button>
    }
  >
    <p>Make a first call. Its user appears here within seconds:</p>
    <FirstCall {...gateway} />
  </Card>
)

/** The users who cost most today, among those with most tokens. */
const topCard = (users: Line[]) => (
  <Card
    id="top"
    title="Users today"
    live
    side={
      <>
        <small>with tokens</small>
        <a href="/admin/users?sort=cost&window=month">This month</a>
        <a href="/admin/users?sort=cost">All users</a>
      </>
    }
  >
    {table({
      caption: 'Users who cost most today, among those with the most tokens',
      rows: users,
      key: ({ id }) => id,
      columns: [
        ['User', 'g', (user) => userCell(user)],
        ['Cost', 'n', ({ cost }) => costText(cost)],
        ['Tokens', 'n', ({ tokens }) => num(tokens)],
        ['Limit used', 'w', ({ nearest }) => nearest && limitUsed(nearest)],
      ],
      empty: 'Nobody has used anything today.',
    })}
  </Card>
)
