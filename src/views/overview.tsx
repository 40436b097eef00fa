/** The dashboard: what everyone uses, who is blocked, and what happens now. */
import type { Child } from 'hono/jsx'
import type { Audit, Event, Unit } from '../ledger/shapes.ts'
import type { StoreHealth } from '../store/fallback.ts'
import {
  part,
  type BlockLine,
  type History,
  type ModelLine,
  type Today,
  type Use,
  type UserLine,
} from '../usage/dashboard.ts'
import { counted, duration, exact, percent, short, shortDate, usd } from './format.ts'
import { FirstCall } from './home.tsx'
import { Page, type Frame } from './page.tsx'
import {
  Card,
  modelName,
  chart,
  meter,
  name,
  Notice,
  num,
  scope,
  table,
  tag,
  time,
  userLink,
} from './parts.tsx'

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

/** What a whole page shows besides. */
export type More = {
  history: History
  blocks: BlockLine[]
  /** Whether there are more of them. */
  cut: boolean
  audit: Audit[]
  origin: string
}

export function overviewPage({ live, more, ...frame }: Frame & { live: Live; more?: More }) {
  const { now } = frame
  const { health, today } = live
  return (
    <Page title="Dashboard" {...frame}>
      <h1 class="hide">Dashboard</h1>
      <div data-live id="health">
        {(health.degraded || health.queued > 0) && (
          <Notice bad>
            {health.degraded && 'The database does not answer. '}
            {`Events that wait to be counted: ${exact(health.queued)}. These numbers are too low by them.`}
          </Notice>
        )}
      </div>
      {more && !more.history.requests && !live.users.length && (
        <Card id="first" title="Nothing has been counted yet">
          <p>This makes a first user, who appears here within seconds:</p>
          <FirstCall origin={more.origin} />
        </Card>
      )}
      {figures(today, now)}
      <div class="two">
        <Card id="today" title="Today by hour" live>
          {chart({
            id: 'hours',
            caption: 'Tokens by hour of today, UTC',
            columns: ['Hour', 'Tokens'],
            bars: today.hours.map((tokens, hour) => [hourOf(hour), tokens]),
            slots: 24,
            marks: [0, 6, 12, 18, 24].map(hourOf),
          })}
          {models('Models today', today.models)}
        </Card>
        {more && past(more.history)}
      </div>
      <div class="two wide">
        {users(live, now)}
        <Card id="events" title="Recent requests" live>
          {requests(live.events, now)}
        </Card>
      </div>
      {more && actions(more, now)}
    </Page>
  )
}

const figure = (title: string, amount: Child, children: Child) => (
  <div>
    <h2>{title}</h2>
    {amount !== undefined && <strong>{amount}</strong>}
    {children}
  </div>
)

/** What of everyone's limits of a unit is used. */
const ofLimits = (uses: Use[], of: Unit) =>
  uses
    .filter(({ unit }) => unit === of)
    .map(({ unit, window, used, limit }) => (
      <>
        {meter(part(used, limit), `${counted(unit, window)}, of everyone's limit`)}
        <p>
          <b>{percent(part(used, limit))}</b> of {num(limit)} per {window}
        </p>
      </>
    ))

function figures({ total, uses, trend, ...today }: Today, now: number) {
  const more = trend !== undefined && `${trend < 0 ? '−' : '+'}${percent(Math.abs(trend))}`
  return (
    <section class="card figures" data-live id="figures" aria-label="Today">
      {figure(
        'Tokens today',
        num(total.charged),
        <>
          {ofLimits(uses, 'tokens')}
          <p>
            {more && `${more} on yesterday by now, `}resets {time(today.resetAt, now)}
          </p>
        </>,
      )}
      {figure('Requests', num(total.requests), ofLimits(uses, 'requests'))}
      {figure('Active users', num(total.users), <p>sessions: {num(today.sessions)}</p>)}
      {today.cost !== undefined && figure('Cost', usd(today.cost), <p>where a price is known</p>)}
      {figure('Outcomes', undefined, outcomes({ ...total, running: today.running }))}
    </section>
  )
}

/** How requests ended, as parts of a bar and as amounts. */
function outcomes(
  row: Pick<Today['total'], 'exact' | 'estimated' | 'failed' | 'overReservation'> &
    Pick<Today, 'running'>,
) {
  const kinds = (['exact', 'estimated', 'failed', 'running'] as const).map(
    (kind) => [kind, row[kind]] as const,
  )
  const all = kinds.reduce((sum, [, count]) => sum + count, 0)
  let end = 0
  return (
    <>
      <svg class="parts" aria-hidden="true">
        {kinds.map(([kind, count]) => {
          const width = (count / (all || 1)) * 100
          end += width
          return <rect class={kind} x={`${end - width}%`} width={`${width}%`} height="100%" />
        })}
      </svg>
      <dl class="facts">
        {[...kinds, ['over reservation', row.overReservation] as const].map(([kind, count]) => (
          <div>
            <dt class={`o ${kind}`}>{kind}</dt>
            <dd>{num(count)}</dd>
          </div>
        ))}
      </dl>
    </>
  )
}

const hourOf = (hour: number) => `${String(hour).padStart(2, '0')}:00`

function models(caption: string, rows: ModelLine[]) {
  const all = rows.reduce((sum, { tokens }) => sum + tokens, 0) || 1
  return table({
    caption,
    rows,
    key: ({ model }) => model,
    columns: [
      [
        'Model',
        'g',
        ({ model, tokens }) => (
          <>
            {name(model)}
            <svg class="share" aria-hidden="true">
              <rect width={`${((tokens / all) * 100).toFixed(1)}%`} height="100%" />
            </svg>
          </>
        ),
      ],
      ['Tokens', 'n', ({ tokens }) => num(tokens)],
      ['Share', 'n w', ({ tokens }) => percent(tokens / all)],
      ['Requests', 'n', ({ requests }) => num(requests)],
      ['Users', 'n w', ({ users }) => users && num(users)],
      ['Left', 'n', ({ left }) => left !== undefined && num(left)],
      ['Cost', 'n', ({ cost }) => cost && usd(cost)],
    ],
    empty: 'No model has answered yet.',
  })
}

function past({ days, cost, tokens, requests, models: lines }: History) {
  const last = days.length - 1
  return (
    <Card
      id="past"
      title={`${days.length} days`}
      side={
        <small>
          {num(tokens)} tokens, {num(requests)} requests{cost !== undefined && `, ${usd(cost)}`}
        </small>
      }
    >
      {chart({
        id: 'days',
        caption: `Tokens by day over ${days.length} days`,
        columns: ['Day', 'Tokens', 'Requests', 'Users'],
        bars: days.map(({ date, tokens, requests, users }) => [
          shortDate(date),
          tokens,
          requests,
          users,
        ]),
        marks: [0, last / 3, (last * 2) / 3, last].map((at) =>
          shortDate(days[Math.round(at)]?.date ?? ''),
        ),
      })}
      {models(`Models over ${days.length} days`, lines)}
    </Card>
  )
}

const SORTS = { lastActive: 'Last active', tokens: 'Most tokens' }

function users({ users: rows, sort, next, paged }: Live, now: number) {
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
          <form method="post" action="/admin/find" class="find" role="search">
            <input
              name="q"
              aria-label="User id or token"
              placeholder="User id or token"
              autocomplete="off"
              required
            />
            <button class="quiet">Find</button>
          </form>
        </>
      }
    >
      {table({
        caption: `Users: ${SORTS[sort]}`,
        rows,
        key: ({ id }) => id,
        columns: [
          [
            'User',
            'g',
            ({ id, blocked, differs, overReservation }) => (
              <span class="who">
                {userLink(id)}
                {blocked.length > 0 && tag('blocked', 'bad', blocked.join(', ').slice(0, 200))}
                {differs &&
                  tag(
                    'reports differ',
                    '',
                    'What their browser reports is far from what was metered',
                  )}
                {overReservation > 0 &&
                  tag(
                    'over reservation',
                    '',
                    `${exact(overReservation)} tokens beyond what was reserved`,
                  )}
              </span>
            ),
          ],
          ['Active', 'n', ({ at }) => time(at, now)],
          ['Requests', 'n w', ({ requests }) => num(requests)],
          ['Tokens', 'n', ({ tokens }) => num(tokens)],
          [
            'Of limit',
            '',
            ({ nearest }) =>
              nearest && (
                <span class="nearest" title={modelName(nearest.model)}>
                  {meter(nearest.share, 'Part of the nearest limit that is used')}{' '}
                  {percent(nearest.share)}
                </span>
              ),
          ],
        ],
        empty: paged ? 'No more users.' : 'No user has called yet.',
      })}
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

/** Finished requests, the newest first; `own` leaves out whose they are. */
export const requests = (rows: Event[], now: number, own?: true) =>
  table({
    caption: 'Recent requests, the newest first',
    rows,
    key: ({ id }) => id,
    columns: [
      ['When', 'n', ({ at }) => time(at, now)],
      ['User', 'u', ({ user }) => (own ? undefined : userLink(user))],
      ['Model', 'g', ({ model }) => name(model)],
      [
        'Outcome',
        'e',
        ({ outcome, status, charged, reserved }) => (
          <>
            <span class={`o ${outcome}`}>
              {outcome === 'failed' ? `failed ${status}` : outcome}
            </span>
            {charged > reserved && tag('over reservation', '', `Reserved: ${exact(reserved)}`)}
          </>
        ),
      ],
      [
        'Tokens',
        'n',
        ({ outcome, charged }) =>
          outcome === 'estimated' ? (
            <span title={`Estimated: ${exact(charged)}`}>≈{short(charged)}</span>
          ) : (
            num(charged)
          ),
      ],
      [
        'Took',
        'n w',
        ({ route, ttfbMs, totalMs }) => (
          <span
            title={`${route}${ttfbMs === undefined ? '' : `, first byte after ${duration(ttfbMs)}`}`}
          >
            {duration(totalMs)}
          </span>
        ),
      ],
    ],
    empty: 'No request has ended yet.',
  })

const actions = ({ blocks, cut, audit }: More, now: number) => (
  <>
    <div class="two">
      <Card id="blocked" title="Blocked" side={cut && <small>the longest; there are more</small>}>
        {table({
          caption: 'Blocked users',
          rows: blocks,
          key: ({ user, model }) => `${user} ${model}`,
          columns: [
            ['User', 'u', ({ user }) => userLink(user)],
            ['From', '', ({ model }) => scope(model)],
            ['Reason', 'g', ({ reason }) => reason && name(reason)],
            ['Until', 'n', ({ until }) => (until ? time(until, now) : 'lifted')],
          ],
          empty: 'Nobody is blocked.',
        })}
      </Card>
      <Card id="audit" title="What admins did">
        {table({
          caption: 'What admins did, the newest first',
          rows: audit,
          key: ({ at }) => `${at}`,
          columns: [
            ['When', 'n', ({ at }) => time(at, now)],
            [
              'What',
              'g',
              ({ action, user, model, reason, until }) => (
                <span class="what">
                  {action} {user && <code>{user}…</code>}
                  {model && [' from ', scope(model)]}
                  {until && [', end: ', time(until, now)]}
                  {reason && [': ', name(reason)]}
                </span>
              ),
            ],
            ['From', 'w', ({ ip }) => ip && name(ip)],
          ],
          empty: 'Nothing yet.',
        })}
      </Card>
    </div>
    <Card
      id="export"
      title="Export"
      side={['users', 'days', 'events'].map((kind) => (
        <p>
          {kind}
          {['csv', 'ndjson'].map((format) => (
            <a
              href={`/api/admin/export?kind=${kind}&format=${format}`}
              aria-label={`Export ${kind} as ${format}`}
              download
            >
              {format}
            </a>
          ))}
        </p>
      ))}
    />
  </>
)
