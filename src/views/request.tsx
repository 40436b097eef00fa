/** The page of one request: all that is kept of it. */
import { nanoOf } from '../ledger/money.ts'
import { own } from '../ledger/records.ts'
import type { Event, Refused } from '../ledger/events.ts'
import { SECOND_MS, WINDOWS } from '../ledger/windows.ts'
import type { Child } from 'hono/jsx'
import { AdminsOnly } from './admins-only.tsx'
import { whyRefused } from './codes.tsx'
import { duration, exact, exactUsd } from './format.ts'
import { Page, type Frame } from './page.tsx'
import { Card, code, modelName, moment, name, plainAudio, time, userLink } from './parts.tsx'
import { amountText, limitOf, statusOf } from './refused.tsx'
import { ALL, outcomeCell, requestsPath, reservedAudioOf, type Labels } from './requests.tsx'
import { help } from './terms.tsx'

type RequestPage = Frame & { id: string; labels: Labels; found: Event | Refused }

export function requestPage({ id, labels, found, ...frame }: RequestPage) {
  const isRefused = 'code' in found
  const facts = isRefused ? refusedFacts(found, frame.now) : eventFacts(found)
  const listed = { ...ALL, user: found.user, outcome: isRefused ? 'refused' : '' }
  const shown: [Child, Child][] = [
    ['User', userLink(found.user, own(labels, found.user))],
    ['Model', name(modelName(found.model))],
    [
      isRefused ? 'Refused at' : 'Admitted',
      <>
        {moment(found.at)} ({time(found.at, frame.now)})
      </>,
    ],
    ...facts,
  ]
  return (
    <Page title={`Request ${id.slice(0, 8)}`} {...frame}>
      <h1>
        <a href="/admin/requests">Requests</a> <span class="id">{id}</span>{' '}
        <button type="button" class="quiet" data-copy={id} hidden>
          Copy id
        </button>
      </h1>
      <Card
        id="request"
        title={titleOf(found)}
        side={
          <a href={requestsPath(listed)}>
            {isRefused ? 'All refused requests of the user' : 'All requests of the user'}
          </a>
        }
      >
        <dl class="list">
          {shown
            .filter(([, fact]) => fact !== undefined && fact !== '' && fact !== false)
            .map(([title, fact]) => (
              <div>
                <dt>{title}</dt>
                <dd>{fact}</dd>
              </div>
            ))}
        </dl>
      </Card>
    </Page>
  )
}

/** How the request ended, as a heading. */
function titleOf(found: Event | Refused): Child {
  if ('code' in found) return <span class="o failed">Refused: {whyRefused(found.code)}</span>
  const { outcome, status, error } = found
  if (outcome !== 'failed') return <span class={`o ${outcome}`}>Answered with {status}</span>
  return (
    <span class="o failed">
      Failed with {status}
      {error && [': ', code(error.slice(0, 100))]}
    </span>
  )
}

const some = (amount: number | undefined) => (amount === undefined ? undefined : exact(amount))

const tagLink = (tag: string | undefined, outcome = '') =>
  tag && <a href={requestsPath({ ...ALL, tag, outcome })}>{name(tag)}</a>

function eventFacts(event: Event): [Child, Child][] {
  const { route, status, session, key, prompt, cached, completion, reasoning } = event
  const { reserved, charged, reservedCost, cost, ttfbMs, totalMs } = event
  const reservedAudio = plainAudio(reservedAudioOf(event))
  const writing = totalMs - (ttfbMs ?? 0)
  const speed =
    completion !== undefined && writing > 0 ? (completion / writing) * SECOND_MS : undefined
  return [
    [
      'Outcome',
      <>
        {outcomeCell(event)}
        {'\u00a0'}
        {help(event.outcome)}
      </>,
    ],
    ['Status to the client', `${status}`],
    ['Upstream’s error', event.error && code(event.error.slice(0, 100))],
    ['Route', <code>{route}</code>],
    ['Tag', tagLink(event.tag)],
    ['Tokens in', some(prompt)],
    ['of these cached', some(cached)],
    ['Tokens out', some(completion)],
    ['of these for reasoning', some(reasoning)],
    [
      <>
        {reservedAudio ? 'Reserved' : 'Tokens reserved'} → charged{'\u00a0'}
        {help('reservation')}
      </>,
      reservedAudio
        ? `${reservedAudio} → ${plainAudio(event) || 'nothing'}`
        : `${exact(reserved)} → ${exact(charged)}`,
    ],
    [
      'Cost reserved → charged',
      cost === undefined
        ? 'no price of the model is known'
        : `${exactUsd(nanoOf(reservedCost))} → ${exactUsd(nanoOf(cost))}`,
    ],
    ['First byte', ttfbMs === undefined ? undefined : duration(ttfbMs)],
    ['Took', duration(totalMs)],
    ['Tokens a second', speed === undefined ? undefined : exact(Math.round(speed))],
    ['Usage', event.mismatch && 'the parts that upstream reported do not add up to its total'],
    ['Late', event.late && 'it settled after it was shown as lost'],
    ['Session', session && <code>{session}</code>],
    ['Key', key && <code>{key}</code>],
  ]
}

function refusedFacts(refused: Refused, now: number): [Child, Child][] {
  const { user, limit } = refused
  return [
    ['Status to the client', statusOf(refused)],
    ['Code', code(refused.code)],
    ['Tag', tagLink(refused.tag, 'refused')],
    ...(limit ? limitFacts(limit, user, refused.at, now) : []),
    ['Charged', 'nothing: the model was not called'],
  ]
}

const WHOSE: Record<string, string> = {
  user: 'of the user alone',
  everyone: 'of all users together',
  unverified: 'of all unverified callers together',
}

function limitFacts(
  limit: NonNullable<Refused['limit']>,
  user: string,
  at: number,
  now: number,
): [Child, Child][] {
  const { of, unit, used, asked } = limit
  const end = own(WINDOWS, limit.window)?.end(at)
  const change = of === 'user' ? `/admin/users/${user}?open=limits` : '/admin/settings'
  return [
    ['Limit', limitOf(limit)],
    [
      'Whose limit',
      <>
        {own(WHOSE, of) ?? of}{' '}
        <AdminsOnly>
          <small>
            <a href={change}>Change it</a>
          </small>
        </AdminsOnly>
      </>,
    ],
    ['Used of it', amountText(unit, used)],
    ['Asked for', amountText(unit, asked)],
    [
      'Resets',
      end !== undefined && (
        <>
          {moment(end)} ({time(end, now)})
        </>
      ),
    ],
  ]
}
