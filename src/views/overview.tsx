/** The dashboard: what everyone uses, who is blocked, and what happens now. */
import type { Child } from 'hono/jsx'
import type { StoreHealth } from '../store/fallback.ts'
import type { BlockLine, History, ModelLine, Today, UserLine } from '../usage/dashboard.ts'
import { ALL_MODELS, type Audit, type Event } from '../usage/record.ts'
import { duration, exact, percent, short, shortDate } from './format.ts'
import { FirstCall } from './home.tsx'
import { Page } from './page.tsx'
import { Chart, Meter, Name, Num, Table, Time, UserLink, type Column, type Row } from './parts.tsx'

/** What is kept up to date; plain data, of which the tag of a refresh is made. */
export type Live = {
  health: StoreHealth
  today: Today
  users: UserLine[]
  sort: Sort
  /** Where the next page of users begins, and whether this is not the first. */
  next: string | undefined
  paged: boolean
  events: Event[]
}

export type Sort = 'lastActive' | 'tokens'

export type Overview = {
  now: number
  live: Live
  history: History
  blocks: BlockLine[]
  audit: Audit[]
  place: string
  notice: Child
  origin: string
}

/** What the page's head says on every page of the dashboard. */
export const Bar = ({ place, now }: { place: string; now: number }) => (
  <>
    <span class="soft place">{place}</span>
    <span id="live" class="soft" hidden>
      <i aria-hidden="true" /> <span role="status">Live</span> · <Time at={now} now={now} />
    </span>
    <form method="post" action="/api/admin/logout">
      <button class="quiet">Log out</button>
    </form>
  </>
)

export const Notice = ({ children, bad }: { children?: Child; bad?: boolean }) => (
  <p class={bad ? 'notice bad' : 'notice'} role="status">
    {children}
  </p>
)

export const overviewPage = ({ live, now, ...props }: Overview) => {
  const { history, blocks, audit, notice } = props
  const fresh = !live.users.length && !live.paged && !history.sum.requests
  return (
    <Page title="Dashboard" bar={<Bar place={props.place} now={now} />} live>
      <h1 class="hide">Dashboard</h1>
      {notice}
      <Health {...live} />
      {fresh && (
        <section class="card hello">
          <h2>Nothing has been counted yet</h2>
          <p>This makes a first user. Their numbers appear here within seconds.</p>
          <FirstCall origin={props.origin} />
        </section>
      )}
      <Figures {...live} now={now} />
      <div class="two">
        <TodayCard {...live} />
        <HistoryCard {...history} />
      </div>
      <section class="card" id="users" aria-labelledby="users-title">
        <div class="top">
          <h2 id="users-title">Users</h2>
          <nav aria-label="Order of users" class="tabs">
            {(['lastActive', 'tokens'] as const).map((sort) => (
              <a
                href={`/admin?sort=${sort}#users`}
                aria-current={sort === live.sort ? 'true' : undefined}
              >
                {sort === 'tokens' ? 'Most tokens' : 'Last active'}
              </a>
            ))}
          </nav>
          <form method="post" action="/admin/find" class="find" role="search">
            <input
              name="q"
              aria-label="User id or token"
              placeholder="User id or token"
              autocomplete="off"
              spellcheck={'false' as unknown as boolean}
              required
            />
            <button class="quiet">Find</button>
          </form>
        </div>
        <Users {...live} now={now} />
      </section>
      <section class="card" aria-labelledby="events-title">
        <h2 id="events-title">Recent requests</h2>
        <Events id="events" events={live.events} now={now} />
      </section>
      <div class="two">
        <section class="card" aria-labelledby="blocked-title">
          <h2 id="blocked-title">Blocked</h2>
          <Blocked blocks={blocks} now={now} />
        </section>
        <section class="card" aria-labelledby="audit-title">
          <h2 id="audit-title">What admins did</h2>
          <Trail audit={audit} now={now} />
        </section>
      </div>
      <section class="card export" aria-labelledby="export-title">
        <h2 id="export-title">Export</h2>
        {['users', 'days', 'events'].map((kind) => (
          <p>
            {kind[0]?.toUpperCase() + kind.slice(1)}{' '}
            {['csv', 'ndjson'].map((format) => (
              <>
                {' '}
                <a href={`/api/admin/export?kind=${kind}&format=${format}`} download>
                  <span class="hide">{kind} as </span>
                  {format.toUpperCase()}
                </a>
              </>
            ))}
          </p>
        ))}
      </section>
    </Page>
  )
}

/** Only what a refresh brings. */
export const overviewLive = ({ live, now }: Pick<Overview, 'live' | 'now'>) => (
  <>
    <Health {...live} />
    <Figures {...live} now={now} />
    <TodayCard {...live} />
    <Users {...live} now={now} />
    <Events id="events" events={live.events} now={now} />
  </>
)

const Health = ({ health: { degraded, queued } }: Live) => (
  <div data-live id="health">
    {(degraded || queued > 0) && (
      <Notice bad>
        {degraded ? 'The database does not answer. ' : ''}
        {`${exact(queued)} ${queued === 1 ? 'event waits' : 'events wait'} to be counted, so these numbers are too low by that.`}
      </Notice>
    )}
  </div>
)

const Figure = ({ name, children }: { name: string; children?: Child }) => (
  <div>
    <h2>{name}</h2>
    {children}
  </div>
)

/** What of a limit of everyone is used. */
const OfLimit = ({ used, limit, unit }: { used: number; limit: number; unit: string }) => (
  <>
    <Meter of={limit ? used / limit : 1} label={`Part of everyone's ${unit} that is used`} />
    <p>
      <b>{percent(limit ? used / limit : 1)}</b> of <Num of={limit} /> a day
    </p>
  </>
)

function Figures({ today, now }: Live & { now: number }) {
  const { total, sessions, used, open, trend, resetAt } = today
  const { limits } = used
  return (
    <section class="card figures" data-live id="figures" aria-label="Today">
      <Figure name="Tokens today">
        <strong>
          <Num of={total.charged} />
        </strong>
        {limits && <OfLimit used={used.tokens} limit={limits.tokensPerDay} unit="tokens" />}
        <p>
          {trend !== undefined &&
            `${trend < 0 ? '−' : '+'}${percent(Math.abs(trend))} on yesterday by now · `}
          afresh <Time at={resetAt} now={now} />
        </p>
      </Figure>
      <Figure name="Requests">
        <strong>
          <Num of={total.requests} />
        </strong>
        {limits && <OfLimit used={used.requests} limit={limits.requestsPerDay} unit="requests" />}
      </Figure>
      <Figure name="Active users">
        <strong>
          <Num of={total.users} />
        </strong>
        <p>
          in <Num of={sessions} /> {sessions === 1 ? 'session' : 'sessions'}
        </p>
      </Figure>
      <Figure name="Outcomes">
        <Outcomes {...total} open={open} />
      </Figure>
    </section>
  )
}

/** How requests ended, as amounts and as parts of a bar. */
export function Outcomes(
  props: Pick<ModelLine, 'settled' | 'partial' | 'failed' | 'overshoot'> & {
    open?: number | undefined
  },
) {
  const kinds = (['settled', 'partial', 'failed', 'open'] as const).map((kind) => ({
    kind,
    count: props[kind],
  }))
  const all = kinds.reduce((sum, { count = 0 }) => sum + count, 0)
  let from = 0
  return (
    <>
      <svg class="parts" aria-hidden="true">
        {kinds.map(({ kind, count = 0 }) => {
          const x = from
          from += all && (count / all) * 100
          return (
            count > 0 && (
              <rect
                class={kind}
                x={`${x.toFixed(2)}%`}
                width={`${(from - x).toFixed(2)}%`}
                height="100%"
              />
            )
          )
        })}
      </svg>
      <dl class="outcomes">
        {kinds.map(
          ({ kind, count }) =>
            count !== undefined && (
              <div>
                <dt class={`o ${kind}`}>{kind === 'open' ? 'not ended' : kind}</dt>
                <dd>
                  <Num of={count} />
                </dd>
              </div>
            ),
        )}
        {props.overshoot > 0 && (
          <div title="Tokens that the provider reported beyond what a request was held at">
            <dt class="o overshoot">overshoot</dt>
            <dd>
              <Num of={props.overshoot} />
            </dd>
          </div>
        )}
      </dl>
    </>
  )
}

/** A table for those who want the numbers of a chart. */
const AsTable = ({
  id,
  ...table
}: {
  id: string
  caption: string
  columns: Column[]
  rows: Row[]
}) => (
  <details id={id}>
    <summary>As a table</summary>
    <Table {...table} />
  </details>
)

const hourOf = (hour: number) => `${String(hour).padStart(2, '0')}:00`

const Share = ({ of: share }: { of: number }) => (
  <svg class="share" aria-hidden="true">
    <rect width={`${(share * 100).toFixed(1)}%`} height="100%" />
  </svg>
)

function TodayCard({ today: { hours, models, total } }: Live) {
  const limited = models.some(({ used }) => used.limits)
  return (
    <section class="card" data-live id="today" aria-labelledby="today-title">
      <h2 id="today-title">Today by hour</h2>
      <Chart
        label={`Tokens by hour of today, UTC: ${exact(total.charged)} so far`}
        bars={hours.map((tokens, hour) => ({ name: hourOf(hour), tokens }))}
        slots={24}
        marks={['00:00', '06:00', '12:00', '18:00', '24:00']}
      />
      <AsTable
        id="hours"
        caption="Tokens by hour of today, UTC"
        columns={[['Hour'], ['Tokens', 'n']]}
        rows={hours.map((tokens, hour) => ({
          key: hourOf(hour),
          cells: [hourOf(hour), exact(tokens)],
        }))}
      />
      <Table
        caption="Models today"
        columns={[
          ['Model', 'g'],
          ['Tokens', 'n'],
          ['Requests', 'n'],
          ['Users', 'n'],
          ...(limited ? [['Left', 'n'] satisfies Column] : []),
        ]}
        rows={models.map(({ model, charged, requests, users, used: { limits, tokens } }) => ({
          key: model,
          cells: [
            <>
              <Name of={model} />
              <Share of={total.charged ? charged / total.charged : 0} />
            </>,
            <Num of={charged} />,
            <Num of={requests} />,
            <Num of={users} />,
            ...(limited
              ? [limits ? <Num of={Math.max(0, limits.tokensPerDay - tokens)} /> : '–']
              : []),
          ],
        }))}
        empty="No model has answered today."
      />
    </section>
  )
}

function HistoryCard({ days, sum, models }: History) {
  const marks = [0, 1, 2, 3].map((at) => days[Math.round((at * (days.length - 1)) / 3)]?.date ?? '')
  const rows = days.map(({ date, tokens, requests, users }) => ({
    key: date,
    cells: [date, exact(tokens), exact(requests), exact(users)],
  }))
  return (
    <section class="card" aria-labelledby="history-title">
      <h2 id="history-title">
        {days.length} days{' '}
        <small>
          <Num of={sum.tokens} /> tokens, <Num of={sum.requests} /> requests
        </small>
      </h2>
      <Chart
        label={`Tokens by day over ${days.length} days: ${exact(sum.tokens)}`}
        bars={days.map(({ date, tokens, requests, users }) => ({
          name: shortDate(date),
          tokens,
          note: `${exact(requests)} requests, ${exact(users)} users`,
        }))}
        marks={[...new Set(marks)].map((date) => date && shortDate(date))}
      />
      <AsTable
        id="days"
        caption={`Everyone by day over ${days.length} days`}
        columns={[['Day'], ['Tokens', 'n'], ['Requests', 'n'], ['Users', 'n']]}
        rows={rows.reverse()}
      />
      <Table
        caption={`Models over ${days.length} days`}
        columns={[
          ['Model', 'g'],
          ['Tokens', 'n'],
          ['Requests', 'n'],
          ['Share', 'n'],
        ]}
        rows={models.map(({ model, tokens, requests }) => ({
          key: model,
          cells: [
            <>
              <Name of={model} />
              <Share of={sum.tokens ? tokens / sum.tokens : 0} />
            </>,
            <Num of={tokens} />,
            <Num of={requests} />,
            percent(sum.tokens ? tokens / sum.tokens : 0),
          ],
        }))}
        empty="Days appear here as they are counted."
      />
    </section>
  )
}

const Tag = ({ children, bad, title }: { children?: Child; bad?: boolean; title?: string }) => (
  <span class={bad ? 'tag bad' : 'tag'} title={title}>
    {children}
  </span>
)

const nameOf = (model: string) => (model === ALL_MODELS ? 'all models' : model)

function Users({ users, sort, next, paged, now }: Live & { now: number }) {
  return (
    <div data-live id="users-live">
      <Table
        caption={sort === 'tokens' ? 'Users by tokens today' : 'Users by last activity'}
        columns={[
          ['User', 'g'],
          ['Active', 'n'],
          ['Tokens today', 'n'],
          ['Requests', 'n w'],
          ['Nearest limit'],
          ['Address', 'w'],
        ]}
        rows={users.map(({ id, ip, at, tokens, requests, nearest, ...user }) => ({
          key: id,
          cells: [
            <span class="who">
              <UserLink id={id} />
              {user.blocked.length > 0 && (
                <Tag
                  bad
                  title={`Blocked from ${user.blocked.map(nameOf).join(', ').slice(0, 200)}`}
                >
                  blocked
                </Tag>
              )}
              {user.differs && (
                <Tag title="What their browser reported is far from what was metered">differs</Tag>
              )}
              {user.overshoot > 0 && (
                <Tag title={`${exact(user.overshoot)} tokens beyond what requests were held at`}>
                  overshoot
                </Tag>
              )}
            </span>,
            <Time at={at} now={now} />,
            <Num of={tokens} />,
            <Num of={requests} />,
            nearest?.used.limits && (
              <span
                class="nearest"
                title={`${nameOf(nearest.model).slice(0, 200)}: ${exact(nearest.used.tokens)} of ${exact(nearest.used.limits.tokensPerDay)} tokens, ${exact(nearest.used.requests)} of ${exact(nearest.used.limits.requestsPerDay)} requests`}
              >
                <Meter of={nearest.used.share} label="Used" /> {percent(nearest.used.share)}
              </span>
            ),
            ip && <Name of={ip} />,
          ],
        }))}
        empty={paged ? 'No more users.' : 'No user yet.'}
      />
      {(next !== undefined || paged) && (
        <nav class="pages" aria-label="Pages of users">
          {paged && <a href={`/admin?sort=${sort}#users`}>First page</a>}
          {next !== undefined && (
            <a href={`/admin?sort=${sort}&cursor=${encodeURIComponent(next)}#users`} rel="next">
              Next page
            </a>
          )}
        </nav>
      )}
    </div>
  )
}

/** Finished requests, the newest first; `own` leaves out whose they are. */
export function Events(props: { id: string; events: Event[]; now: number; own?: boolean }) {
  const { id, events, now, own } = props
  return (
    <div data-live id={id}>
      <Table
        caption="Recent requests, the newest first"
        columns={[
          ['Ended', 'n'],
          ...(own ? [] : [['User', 'u'] satisfies Column]),
          ['Model', 'g'],
          ['Outcome'],
          ['Tokens', 'n'],
          ['First byte', 'n w'],
          ['Took', 'n w'],
          ['Route', 'w'],
        ]}
        rows={events.map((event) => ({
          key: event.id,
          cells: [
            <Time at={event.at} now={now} />,
            ...(own ? [] : [<UserLink id={event.user} />]),
            <Name of={event.model} />,
            <>
              <span class={`o ${event.outcome}`}>{event.outcome}</span>
              {event.outcome === 'failed' && ` ${event.status}`}
              {event.charged > event.bound && (
                <>
                  {' '}
                  <Tag title={`Held at ${exact(event.bound)}`}>overshoot</Tag>
                </>
              )}
            </>,
            event.estimated ? (
              <span title={`Estimated: ${exact(event.charged)}`}>≈{short(event.charged)}</span>
            ) : (
              <Num of={event.charged} />
            ),
            event.ttfbMs === undefined ? '–' : duration(event.ttfbMs),
            duration(event.totalMs),
            <Name of={event.route} />,
          ],
        }))}
        empty="No requests yet."
      />
    </div>
  )
}

const Blocked = ({ blocks, now }: { blocks: BlockLine[]; now: number }) => (
  <Table
    caption="Blocked users"
    columns={[['User', 'u'], ['From'], ['Reason', 'g'], ['Until', 'n']]}
    rows={blocks.map(({ user, model, reason, until }) => ({
      key: `${user} ${model}`,
      cells: [
        <UserLink id={user} />,
        <Name of={nameOf(model)} />,
        reason ? <Name of={reason} /> : '–',
        until === undefined ? 'lifted' : <Time at={until} now={now} />,
      ],
    }))}
    empty="Nobody is blocked."
  />
)

const ACTIONS: Record<Audit['action'], string> = {
  login: 'logged in',
  logout: 'logged out',
  block: 'blocked',
  unblock: 'unblocked',
  erase: 'erased',
  clear: 'cleared days and events',
  export: 'exported',
}

const Trail = ({ audit, now }: { audit: Audit[]; now: number }) => (
  <Table
    caption="What admins did, the newest first"
    columns={[['When', 'n'], ['What', 'g'], ['From']]}
    rows={audit.map(({ at, action, user, model, reason, until, ip }) => ({
      key: `${at}`,
      cells: [
        <Time at={at} now={now} />,
        <span class="what">
          {ACTIONS[action]} {user !== undefined && <code>{user}…</code>}
          {model !== undefined && (
            <>
              {' from '}
              <Name of={nameOf(model)} />
            </>
          )}
          {until !== undefined && (
            <>
              {' until '}
              <Time at={until} now={now} />
            </>
          )}
          {reason && (
            <>
              {': '}
              <Name of={reason} />
            </>
          )}
        </span>,
        ip ? <Name of={ip} /> : '–',
      ],
    }))}
    empty="Nothing yet."
  />
)
