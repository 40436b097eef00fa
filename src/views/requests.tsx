/** The table of requests that have ended, of everyone or of one user. */
import type { Event } from '../ledger/shapes.ts'
import { duration, exact, short } from './format.ts'
import { nanoOf } from '../ledger/money.ts'
import { costText, name, num, tag, time, userLink } from './parts.tsx'
import { table } from './table.tsx'

/** Requests that have ended, the newest first. `own` leaves out the user. */
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
            {charged > reserved && ' '}
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
      ['Cost', 'n w', ({ cost }) => costText(cost === undefined ? undefined : nanoOf(cost))],
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
