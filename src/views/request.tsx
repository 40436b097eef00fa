/** The page of one request: all that is kept of it. */
import { nanoOf } from '../ledger/money.ts'
import { amountTo } from '../ledger/policy.ts'
import { own } from '../ledger/records.ts'
import type { Event, Refused } from '../ledger/events.ts'
import { SECOND_MS } from '../ledger/windows.ts'
import type { Child } from 'hono/jsx'
import { duration, exact, exactUsd, utc } from './format.ts'
import { Page, type Frame } from './page.tsx'
import { Card, audioText, modelName, moment, name, num, tag, time, userLink } from './parts.tsx'
import { limitOf } from './refused.tsx'
import { ALL, outcomeCell, requestsPath, reservedAudioOf, type Labels } from './requests.tsx'
import { help } from './terms.tsx'

type RequestPage = Frame & { id: string; labels: Labels; found: Event | Refused }

export function requestPage({ id, labels, found, ...frame }: RequestPage) {
  const facts = 'code' in found ? refusedFacts(found) : eventFacts(found)
  const shown: [Child, Child][] = [
    ['User', userLink(found.user, own(labels, found.user))],
    ['Model', name(modelName(found.model))],
    [
      'Admitted',
      <>
        {moment(found.at)} ({time(found.at, frame.now)}, {utc(found.at)})
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
        title={'code' in found ? tag('refused', 'bad') : outcomeCell(found)}
        side={<a href={`/admin/requests?user=${found.user}`}>All requests of the user</a>}
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

const some = (amount: number | undefined) => (amount === undefined ? undefined : num(amount))

function eventFacts(event: Event): [Child, Child][] {
  const { route, status, session, key, prompt, cached, completion, reasoning } = event
  const { reserved, charged, reservedCost, cost, ttfbMs, totalMs } = event
  const reservedAudio = audioText(reservedAudioOf(event))
  const writing = totalMs - (ttfbMs ?? 0)
  const speed =
    completion !== undefined && writing > 0 ? (completion / writing) * SECOND_MS : undefined
  return [
    [
      'Outcome',
      <>
        {event.outcome} {help(event.outcome)}
      </>,
    ],
    ['Status to the client', `${status}`],
    ['Upstream’s error', event.error && <code>{event.error.slice(0, 100)}</code>],
    ['Route', <code>{route}</code>],
    ['Tag', event.tag && <a href={requestsPath({ ...ALL, tag: event.tag })}>{name(event.tag)}</a>],
    ['Tokens in', some(prompt)],
    ['of these cached', some(cached)],
    ['Tokens out', some(completion)],
    ['of these for reasoning', some(reasoning)],
    [
      <>Reserved → charged {help('reservation')}</>,
      reservedAudio ? (
        <>
          {reservedAudio} → {audioText(event) || 'nothing'}
        </>
      ) : (
        `${exact(reserved)} → ${exact(charged)} tokens`
      ),
    ],
    [
      'Reserved → charged, cost',
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

function refusedFacts({ code, limit }: Refused): [Child, Child][] {
  return [
    ['Code', <code>{code}</code>],
    ['Limit', limit && limitOf(limit)],
    ['Used, and asked for', limit && usedText(limit)],
    ['Charged', 'nothing: the model was not called'],
  ]
}

function usedText({ unit, used, asked }: NonNullable<Refused['limit']>): string {
  const text = (amount: number) =>
    unit === 'usd' ? exactUsd(amount) : exact(amountTo(unit, amount))
  return `${text(used)} used, ${text(asked)} asked for`
}
