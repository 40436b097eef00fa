/** The page of a user: what they use against their limits, what they are blocked from, and erasing them. */
import type { Child } from 'hono/jsx'
import type { BlockLine, DayLine, Used } from '../usage/dashboard.ts'
import { ALL_MODELS, type Count, type Event, type Limits } from '../usage/record.ts'
import type { userReport } from '../usage/report.ts'
import { exact, shortDate } from './format.ts'
import { Bar, Events } from './overview.tsx'
import { Page } from './page.tsx'
import { Chart, Meter, Name, Num, Table, Time, type Column } from './parts.tsx'

export type UserModel = ReturnType<typeof userReport>['models'][number] & {
  used: Used
  /** The present minute, where it is limited. */
  minute: (Count & { limits: Limits }) | undefined
  /** Whether the report of the user's browser is far from what was metered. */
  differs: boolean
}

/** What is kept up to date; plain data, of which the tag of a refresh is made. */
export type UserLive = {
  id: string
  ip: string | undefined
  at: number
  sessions: number
  all: Used
  models: UserModel[]
  days: DayLine[]
}

export type UserPage = {
  now: number
  live: UserLive
  events: Event[]
  /** Among so many of everyone's were the user's looked for. */
  looked: number
  blocks: BlockLine[]
  /** What can be blocked. */
  names: string[]
  place: string
  notice: Child
}

export const REASON_CHARS = 500

/** How long a block may last, by the value in the form. */
export const DURATIONS: [minutes: string, name: string][] = [
  ['', 'until lifted'],
  ['15', '15 minutes'],
  ['60', '1 hour'],
  ['1440', '1 day'],
  ['10080', '7 days'],
]

export const userPage = ({ now, live, events, ...props }: UserPage) => {
  const path = `/admin/users/${live.id}`
  const { blocks, names } = props
  return (
    <Page title={`User ${live.id.slice(0, 6)}`} bar={<Bar place={props.place} now={now} />} live>
      <p class="crumb">
        <a href="/admin#users">Users</a> /
      </p>
      <h1 class="id">{live.id}</h1>
      {props.notice}
      <Use {...live} now={now} />
      <div class="two">
        <Days {...live} />
        <section class="card" aria-labelledby="blocks-title">
          <h2 id="blocks-title">Blocks</h2>
          {blocks.map(({ model, reason, at, until }) => (
            <form method="post" action={`${path}/unblock`} class="block">
              <p>
                <b>
                  <Name of={model === ALL_MODELS ? 'All models' : model} />
                </b>
                {reason && <Name of={reason} class="reason" />}
                <small>
                  since <Time at={at} now={now} />,{' '}
                  {until === undefined ? (
                    'until lifted'
                  ) : (
                    <>
                      until <Time at={until} now={now} />
                    </>
                  )}
                </small>
              </p>
              <input type="hidden" name="model" value={model} />
              <button
                class="quiet"
                aria-label={`Unblock ${model === ALL_MODELS ? 'all models' : model.slice(0, 200)}`}
              >
                Unblock
              </button>
            </form>
          ))}
          <form method="post" action={`${path}/block`} class="fields">
            <label>
              Block from
              <select name="model">
                <option value={ALL_MODELS}>all models</option>
                {names.map((name) => (
                  <option>{name}</option>
                ))}
              </select>
            </label>
            <label>
              For
              <select name="minutes">
                {DURATIONS.map(([value, name]) => (
                  <option value={value}>{name}</option>
                ))}
              </select>
            </label>
            <label>
              or until, in UTC
              <input name="until" type="datetime-local" step="1" />
            </label>
            <label class="wide">
              Reason, which the user is told
              <input name="reason" maxlength={REASON_CHARS} />
            </label>
            <button>Block</button>
          </form>
        </section>
      </div>
      <section class="card" aria-labelledby="events-title">
        <h2 id="events-title">
          Recent requests <small>of theirs among everyone's last {exact(props.looked)}</small>
        </h2>
        <Events id="user-events" events={events} now={now} own />
      </section>
      <section class="card" aria-labelledby="erase-title">
        <h2 id="erase-title">Erase</h2>
        <form method="post" action={`${path}/erase`} class="erase">
          <p>
            Removes the counts, blocks and events of this user for good. If they come back they are
            unblocked and begin a new day. What they used stays in the totals, without them.
          </p>
          <label>
            <input type="checkbox" name="sure" value="yes" required /> Erase them, blocks included
          </label>
          <button class="danger">Erase user</button>
        </form>
      </section>
    </Page>
  )
}

/** Only what a refresh brings. */
export const userLive = ({ now, live, events }: Pick<UserPage, 'now' | 'live' | 'events'>) => (
  <>
    <Use {...live} now={now} />
    <Days {...live} />
    <Events id="user-events" events={events} now={now} own />
  </>
)

const Against = ({
  of: amount,
  limit,
  label,
}: {
  of: number
  limit: number | undefined
  label: string
}) =>
  limit === undefined ? (
    <Num of={amount} />
  ) : (
    <span class="nearest">
      <Meter of={limit ? amount / limit : 1} label={label} /> <Num of={amount} /> /{' '}
      <Num of={limit} />
    </span>
  )

function Use({ all, models, at, ip, sessions, now }: UserLive & { now: number }) {
  const some = (pick: (model: UserModel) => unknown) => models.some(pick)
  const reported = some((model) => model.reportedTokensDay !== null)
  const minute = some((model) => model.minute)
  const overshoot = some((model) => model.overshoot)
  const optional = <T,>(shown: boolean, value: T): T[] => (shown ? [value] : [])
  return (
    <section class="card" data-live id="use" aria-label="Today">
      <dl class="facts">
        <div>
          <dt>Tokens today</dt>
          <dd>
            <Num of={all.tokens} />
            {all.limits && (
              <small>
                {' '}
                of <Num of={all.limits.tokensPerDay} />
              </small>
            )}
          </dd>
        </div>
        <div>
          <dt>Requests</dt>
          <dd>
            <Num of={all.requests} />
            {all.limits && (
              <small>
                {' '}
                of <Num of={all.limits.requestsPerDay} />
              </small>
            )}
          </dd>
        </div>
        <div>
          <dt>Sessions</dt>
          <dd>{sessions}</dd>
        </div>
        <div>
          <dt>Last active</dt>
          <dd>
            <Time at={at} now={now} />
          </dd>
        </div>
        {ip && (
          <div>
            <dt>Address</dt>
            <dd>
              <Name of={ip} />
            </dd>
          </div>
        )}
      </dl>
      <Table
        caption="Models today, against their limits"
        columns={[
          ['Model', 'g'],
          ['Tokens', 'n'],
          ...optional<Column>(reported, ['Reported', 'n']),
          ['Requests', 'n'],
          ...optional<Column>(minute, ['This minute', 'n w']),
          ['Settled', 'n w'],
          ['Partial', 'n w'],
          ['Failed', 'n w'],
          ['In flight', 'n w'],
          ['Expired', 'n w'],
          ...optional<Column>(overshoot, ['Overshoot', 'n w']),
        ]}
        rows={models.map((row) => ({
          key: row.model,
          cells: [
            <span class="who">
              <Name of={row.model} />
              {row.blocked && <span class="tag bad">blocked</span>}
            </span>,
            <Against of={row.tokensUsedDay} limit={row.used.limits?.tokensPerDay} label="Tokens" />,
            ...optional(
              reported,
              row.reportedTokensDay === null ? (
                '–'
              ) : (
                <span class={row.differs ? 'tag' : undefined}>
                  <Num of={row.reportedTokensDay} />
                </span>
              ),
            ),
            <Against
              of={row.requestsDay}
              limit={row.used.limits?.requestsPerDay}
              label="Requests"
            />,
            ...optional(
              minute,
              row.minute ? `${exact(row.minute.tokens)} / ${exact(row.minute.requests)}` : '–',
            ),
            <Num of={row.settled} />,
            <Num of={row.partial} />,
            <Num of={row.failed} />,
            <Num of={row.unsettled - row.expired} />,
            <Num of={row.expired} />,
            ...optional(overshoot, <Num of={row.overshoot} />),
          ],
        }))}
        empty="Nothing today."
      />
    </section>
  )
}

const Days = ({ days }: UserLive) => (
  <section class="card" data-live id="user-days" aria-labelledby="days-title">
    <h2 id="days-title">{days.length} days</h2>
    <Chart
      label={`Tokens by day: ${days.map(({ date, tokens }) => `${shortDate(date)} ${exact(tokens)}`).join(', ')}`}
      bars={days.map(({ date, tokens, requests }) => ({
        name: shortDate(date),
        tokens,
        note: `${exact(requests)} requests`,
      }))}
      marks={days.map(({ date }) => shortDate(date))}
    />
  </section>
)
