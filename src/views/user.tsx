/** The page of a user: what they use against their limits, what they are blocked from, and erasing them. */
import { LIMITS } from '../ledger/policy.ts'
import { ALL_MODELS, type Amounts, type Event, type Unit } from '../ledger/shapes.ts'
import type { Window } from '../ledger/windows.ts'
import { part, type BlockLine, type Use, type UserModel } from '../usage/dashboard.ts'
import { counted, shortDate, usd } from './format.ts'
import { requests } from './overview.tsx'
import { Page, type Frame } from './page.tsx'
import {
  Card,
  chart,
  meter,
  modelName,
  name,
  num,
  scope,
  table,
  tag,
  time,
  type Column,
} from './parts.tsx'

/** What is kept up to date; plain data, of which the tag of a refresh is made. */
export type UserLive = Amounts & {
  id: string
  ip: string | undefined
  /** Last active; 0 of one who never called. */
  at: number
  sessions: number
  /** The limits of all models together. */
  uses: Use[]
  models: UserModel[]
  days: (Amounts & { date: string })[]
}

/** What a whole page shows besides: blocks, and names that can be blocked. */
export type UserMore = { blocks: BlockLine[]; names: string[] }

export const REASON_CHARS = 500

/** How long a block may last, by minutes as the form says them. */
export const DURATIONS = [
  ['', 'until lifted'],
  ['15', '15 minutes'],
  ['60', '1 hour'],
  ['1440', '1 day'],
  ['10080', '7 days'],
]

export type UserPage = Frame & { live: UserLive; events: Event[]; looked: number; more?: UserMore }

export function userPage({ live, events, looked, more, ...frame }: UserPage) {
  const { now } = frame
  const { id, days } = live
  return (
    <Page title={`User ${id.slice(0, 6)}`} {...frame}>
      <h1>
        <a href="/admin#users">Users</a> <span class="id">{id}</span>
      </h1>
      {use(live, now)}
      <div class="two">
        <div>
          <Card id="week" title={`${days.length} days`} live>
            {chart({
              id: 'days',
              caption: `Tokens by day over ${days.length} days`,
              columns: ['Day', 'Tokens', 'Requests'],
              bars: days.map(({ date, tokens, requests }) => [shortDate(date), tokens, requests]),
              marks: days.map(({ date }) => date.slice(8)),
            })}
          </Card>
          {more && blocking(`/admin/users/${id}`, more, now)}
        </div>
        <Card
          id="events"
          title="Recent requests"
          side={<small>among the last {looked} of everyone</small>}
          live
        >
          {requests(events, now, true)}
        </Card>
      </div>
      {more && (
        <Card id="erase" title="Erase">
          <form method="post" action={`/admin/users/${id}/erase`} class="erase">
            <p>
              Their counts, blocks and events go for good, so they would come back unblocked, to a
              new day. Totals keep what they used, without saying whose it was.
            </p>
            <label>
              <input type="checkbox" name="sure" value="yes" required /> Erase them, blocks too
            </label>
            <button class="danger">Erase user</button>
          </form>
        </Card>
      )}
    </Page>
  )
}

type Used = Amounts & { uses: Use[] }

/** What is used of a limit, if there is one. */
function against({ uses }: Used, unit: Unit, window: Window) {
  const use = uses.find((one) => one.unit === unit && one.window === window)
  if (!use) return undefined
  const { used, limit } = use
  const label = counted(unit, window)
  return (
    <span class="nearest" title={`${label}, and their limit`}>
      {meter(part(used, limit), label)}
      <span>
        {num(used)} / {num(limit)}
      </span>
    </span>
  )
}

/** An amount of today, against its limit if it has one. */
const ofDay = (of: Used, unit: Unit) => against(of, unit, 'day') ?? num(of[unit])

/** What is limited in other windows than the day, which is shown with or without a limit. */
const OTHERS = LIMITS.filter(({ window }) => window !== 'day').map(({ unit, window }) => ({
  title: counted(unit, window),
  cell: (of: Used) => against(of, unit, window),
}))

function use(live: UserLive, now: number) {
  const { models, sessions, at, ip } = live
  const others = OTHERS.map(({ title, cell }) => [title, cell(live)] as const)
  const facts = {
    'Tokens today': ofDay(live, 'tokens'),
    Requests: ofDay(live, 'requests'),
    ...Object.fromEntries(others.filter(([, fact]) => fact)),
    Sessions: num(sessions),
    'Last active': at ? time(at, now) : 'never',
    ...(ip && { Address: name(ip) }),
  }
  return (
    <section class="card" data-live id="use" aria-label="Today">
      <dl class="facts">
        {Object.entries(facts).map(([title, fact]) => (
          <div>
            <dt>{title}</dt>
            <dd>{fact}</dd>
          </div>
        ))}
      </dl>
      {table({
        caption: 'Models today, against their limits',
        rows: models,
        key: ({ model }) => model,
        columns: [
          [
            'Model',
            'g',
            ({ model, blocked }) => (
              <span class="who">
                {name(model)}
                {blocked && tag('blocked', 'bad')}
              </span>
            ),
          ],
          ['Tokens', 'n', (row) => ofDay(row, 'tokens')],
          [
            'Reported',
            'n',
            ({ reportedTokensDay: said, differs }) =>
              said === null ? undefined : <span class={differs ? 'tag' : ''}>{num(said)}</span>,
          ],
          ['Requests', 'n w', (row) => ofDay(row, 'requests')],
          ...OTHERS.map(({ title, cell }): Column<UserModel> => [title, 'n w', cell]),
          ['Exact', 'n w', ({ exact }) => num(exact)],
          ['Estimated', 'n w', ({ estimated }) => num(estimated)],
          ['Failed', 'n w', ({ failed }) => num(failed)],
          ['Running', 'n w', ({ running }) => num(running)],
          ['Lost', 'n w', ({ lost }) => num(lost)],
          ['Over reservation', 'n w', ({ overReservation }) => num(overReservation)],
          ['Cost', 'n w', ({ cost }) => cost && usd(cost)],
        ],
        empty: 'No request today.',
      })}
    </section>
  )
}

const blocking = (path: string, { blocks, names }: UserMore, now: number) => (
  <Card id="blocks" title="Blocks">
    {blocks.map(({ model, reason, at, until }) => (
      <form method="post" action={`${path}/unblock`} class="block">
        <p>
          <b>{scope(model)}</b>
          {reason && name(reason)}
          <small>
            since {time(at, now)}, {until ? ['ends ', time(until, now)] : 'until lifted'}
          </small>
        </p>
        <input type="hidden" name="model" value={model} />
        <button class="quiet" aria-label={`Unblock ${modelName(model)}`}>
          Unblock
        </button>
      </form>
    ))}
    <form method="post" action={`${path}/block`} class="fields">
      <label>
        Block from
        <select name="model">
          <option value={ALL_MODELS}>all models</option>
          {names.map((model) => (
            <option>{model}</option>
          ))}
        </select>
      </label>
      <label>
        For
        <select name="minutes">
          {DURATIONS.map(([minutes, words]) => (
            <option value={minutes}>{words}</option>
          ))}
        </select>
      </label>
      <label>
        or until (UTC)
        <input name="until" type="datetime-local" step="1" />
      </label>
      <label class="wide">
        Reason, which the user is told
        <input name="reason" maxlength={REASON_CHARS} />
      </label>
      <button>Block</button>
    </form>
  </Card>
)
