/** The page of a user: what they use against their limits, what they are blocked from, and erasing them. */
import { part, type BlockLine, type UserModel } from '../usage/dashboard.ts'
import { ALL_MODELS, type Count, type Event, type Limits } from '../usage/record.ts'
import { shortDate, usd } from './format.ts'
import { requests } from './overview.tsx'
import { Page, type Frame } from './page.tsx'
import { Card, chart, meter, modelName, name, num, scope, table, tag, time } from './parts.tsx'

/** What is kept up to date; plain data, of which the tag of a refresh is made. */
export type UserLive = Count & {
  id: string
  ip: string | undefined
  at: number
  sessions: number
  limits: Limits | undefined
  models: UserModel[]
  days: (Count & { date: string })[]
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

const against = (amount: number, limit: number | undefined, label: string) =>
  limit === undefined ? (
    num(amount)
  ) : (
    <span class="nearest" title={`${label} of today, and their limit`}>
      {meter(part(amount, limit), label)}
      <span>
        {num(amount)} / {num(limit)}
      </span>
    </span>
  )

function use({ models, limits, tokens, requests, sessions, at, ip }: UserLive, now: number) {
  const facts = {
    'Tokens today': against(tokens, limits?.tokensPerDay, 'Tokens'),
    Requests: against(requests, limits?.requestsPerDay, 'Requests'),
    Sessions: num(sessions),
    'Last active': time(at, now),
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
          ['Tokens', 'n', (row) => against(row.tokens, row.limits?.tokensPerDay, 'Tokens')],
          [
            'Reported',
            'n',
            ({ reportedTokensDay: said, differs }) =>
              said === null ? undefined : <span class={differs ? 'tag' : ''}>{num(said)}</span>,
          ],
          [
            'Requests',
            'n w',
            (row) => against(row.requests, row.limits?.requestsPerDay, 'Requests'),
          ],
          [
            'This minute',
            'n w',
            ({ minute, limits }) =>
              minute && against(minute.tokens, limits?.tokensPerMinute, 'Tokens'),
          ],
          ['Settled', 'n w', ({ settled }) => num(settled)],
          ['Partial', 'n w', ({ partial }) => num(partial)],
          ['Failed', 'n w', ({ failed }) => num(failed)],
          ['In flight', 'n w', ({ unsettled, expired }) => num(unsettled - expired)],
          ['Expired', 'n w', ({ expired }) => num(expired)],
          ['Overshoot', 'n w', ({ overshoot }) => num(overshoot)],
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
