/** Requests that have ended or were refused: the table of them, and the page that filters them. */
import { own } from '../ledger/records.ts'
import type { Event, Refused } from '../ledger/events.ts'
import { nanoOf } from '../ledger/money.ts'
import { duration, exact, short } from './format.ts'
import { select, type Choice } from './form.tsx'
import { Page, type Frame } from './page.tsx'
import {
  Card,
  audioText,
  clock,
  costText,
  moment,
  name,
  num,
  plainAudio,
  tag,
  userLink,
  whenHead,
  type Audio,
} from './parts.tsx'
import { refusals } from './refused.tsx'
import { table } from './table.tsx'
import { help } from './terms.tsx'

/** What the address of the page says; empty for all. */
export type RequestsQuery = {
  model: string
  outcome: string
  status: string
  user: string
  tag: string
}

/** Requests of any kind. */
export const ALL: RequestsQuery = { model: '', outcome: '', status: '', user: '', tag: '' }

/** The labels of users by their ids. */
export type Labels = Record<string, string>

type RequestsPage = Frame & {
  events: Event[]
  /** With the outcome `refused`: these instead of events. */
  refused: Refused[] | undefined
  labels: Labels
  query: RequestsQuery
  models: string[]
  /** How many requests match, how many were looked at, and when the oldest of these was admitted. */
  matching: number
  looked: number
  since: number | undefined
  /** The cursor of older requests. `paged`: these are not the newest. */
  next: string | undefined
  paged: boolean
}

const OUTCOMES: Choice[] = [
  ['', 'Any outcome'],
  ['exact', 'exact'],
  ['estimated', 'estimated'],
  ['failed', 'failed'],
  ['refused', 'refused'],
]

/** The address of a view of the list. */
export function requestsPath(query: RequestsQuery, before = ''): string {
  const fields = Object.entries({ ...query, before }).filter(([, value]) => value !== '')
  const text = String(new URLSearchParams(fields))
  return `/admin/requests${text && `?${text}`}`
}

export function requestsPage(props: RequestsPage) {
  const { events, refused, labels, query, models, matching, looked, since, next, paged, ...frame } =
    props
  return (
    <Page title="Requests" {...frame}>
      <h1 class="hide">Requests</h1>
      <Card id="events" title={refused ? 'Refused' : 'Ended'} live side={filterForm(query, models)}>
        {query.user && (
          <p class="soft among">
            Of {userLink(query.user, own(labels, query.user))}.{' '}
            <a href={requestsPath({ ...query, user: '' })}>Show those of everyone</a>
          </p>
        )}
        {(matching > 0 || looked === 0) &&
          (refused ? refusals(refused, labels) : requestsTable(events, labels))}
        {matching < looked && (
          <p class={matching > 0 ? 'soft among' : 'empty'}>
            {matching > 0 ? exact(matching) : 'None'} of{' '}
            {paged ? `${exact(looked)} older` : `the last ${exact(looked)}`}{' '}
            {refused ? 'refusals' : 'requests'} {matching > 1 ? 'match' : 'matches'}
            {since !== undefined && [' (back to ', moment(since), ')']}.
          </p>
        )}
        {refused && (
          <p class="soft among">At most one refusal a minute is kept of each user and code.</p>
        )}
        {(next ?? paged) && (
          <nav class="pages" aria-label="Pages of requests">
            {paged && <a href={requestsPath(query)}>Newest</a>}
            {next && (
              <a href={requestsPath(query, next)} rel="next">
                {matching > 0 ? 'Older' : 'Search older'}
              </a>
            )}
          </nav>
        )}
      </Card>
    </Page>
  )
}

const filterForm = ({ model, outcome, status, user, tag }: RequestsQuery, models: string[]) => (
  <form action="/admin/requests" class="inline">
    {user && <input type="hidden" name="user" value={user} />}
    <label>
      <span class="hide">Model</span>
      {select('model', [['', 'Any model'], ...models.map((one): Choice => [one, one])], model)}
    </label>
    <label>
      <span class="hide">Outcome</span>
      {select('outcome', OUTCOMES, outcome)}
    </label>
    <label>
      Status
      <input
        name="status"
        value={status}
        inputmode="numeric"
        pattern="[0-9]{3}"
        title="A status of three digits, such as 429"
      />
    </label>
    <label>
      Tag
      <input
        name="tag"
        value={tag}
        maxlength={32}
        title="What the application sent as x-weir-tag"
      />
    </label>
    <button class="quiet">Show</button>
    {(model || outcome || status || tag) && <a href={requestsPath({ ...ALL, user })}>Clear</a>}
  </form>
)

/** Requests that have ended, the newest first. `own` leaves out the user; `short` has fewer columns. */
export const requestsTable = (
  rows: Event[],
  labels: Labels,
  kind: 'whole' | 'own' | 'short' = 'whole',
) =>
  table({
    caption: 'Requests, the newest first',
    rows,
    key: ({ id }) => id,
    columns: [
      ['When', 'n', ({ id, at }) => <a href={`/admin/requests/${id}`}>{clock(at)}</a>, whenHead()],
      [
        'User',
        'u',
        ({ user, model }) =>
          kind === 'own' ? undefined : (
            <>
              {userLink(user, own(labels, user))}
              <small class="under">{name(model)}</small>
            </>
          ),
      ],
      ['Model', kind === 'own' ? 'g' : 'g w', ({ model }) => name(model)],
      [
        'Outcome',
        'e',
        outcomeCell,
        kind === 'whole' ? { content: ['Outcome', help('outcome')] } : undefined,
      ],
      ['Tag', 'x', ({ tag: one }) => kind === 'whole' && one && name(one)],
      ['Tokens in', 'n x', ({ prompt }) => kind === 'whole' && some(prompt)],
      ['Tokens out', 'n x', ({ completion }) => kind === 'whole' && some(completion)],
      [
        'Tokens',
        'n',
        tokensCell,
        rows.every((row) => audioText(row) !== false) ? { content: ['Audio'] } : undefined,
      ],
      ['Cost', 'n w', ({ cost }) => costText(cost === undefined ? undefined : nanoOf(cost))],
      [
        'First byte',
        'n x',
        ({ ttfbMs }) =>
          kind === 'short' ? undefined : ttfbMs === undefined ? '–' : duration(ttfbMs),
      ],
      ['Took', 'n v', ({ totalMs }) => duration(totalMs)],
    ],
    empty: kind === 'own' ? 'No request of this user is among them.' : 'No request has ended yet.',
  })

const some = (amount: number | undefined) => amount !== undefined && num(amount)

export const outcomeCell = (event: Event) => {
  const { outcome, status, error } = event
  return (
    <>
      <span class={`o ${outcome}`}>{outcome === 'failed' ? `failed ${status}` : outcome}</span>
      {error && <small class="x"> {name(error)}</small>}
      {isOver(event) && ' '}
      {isOver(event) && tag('over reservation', '', `Reserved: ${reservedText(event)}`)}
    </>
  )
}

/** What was reserved of audio. */
export const reservedAudioOf = ({ reservedAudioMs, reservedCharacters }: Event): Audio => ({
  ...(reservedAudioMs !== undefined && { audioMs: reservedAudioMs }),
  ...(reservedCharacters !== undefined && { characters: reservedCharacters }),
})

const isOver = ({ charged, reserved, audioMs = 0, reservedAudioMs = 0 }: Event): boolean =>
  charged > reserved || audioMs > reservedAudioMs

const reservedText = (event: Event): string =>
  plainAudio(reservedAudioOf(event)) || exact(event.reserved)

const tokensCell = (event: Event) => {
  const { outcome, charged } = event
  const isEstimate = outcome === 'estimated'
  const audio = audioText(event)
  if (audio) {
    return (
      <span title={isEstimate ? `Estimated: ${plainAudio(event)}` : undefined}>
        {isEstimate && '≈'}
        {audio}
      </span>
    )
  }
  return isEstimate ? (
    <span title={`Estimated: ${exact(charged)}`}>≈{short(charged)}</span>
  ) : (
    num(charged)
  )
}
