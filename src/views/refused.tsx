/** Requests that were refused. */
import { own, type Refused } from '../ledger/shapes.ts'
import { amountTo } from '../ledger/policy.ts'
import { WINDOWS } from '../ledger/windows.ts'
import { exact, exactUsd } from './format.ts'
import { Card, modelName, name, num, time, userLink } from './parts.tsx'
import { table } from './table.tsx'

/** How many were refused today with each code, and the latest refusals of users. */
export type RefusedToday = { codes: { code: string; count: number }[]; latest: Refused[] }

export const refusedCard = ({ codes, latest }: RefusedToday, now: number) => (
  <Card id="refused" title="Refused today">
    {codes.length > 0 && (
      <dl class="facts">
        {codes.map(({ code, count }) => (
          <div>
            <dt>
              <code>{code}</code>
            </dt>
            <dd>{num(count)}</dd>
          </div>
        ))}
      </dl>
    )}
    {refusals(latest, now)}
  </Card>
)

/** The refusals of one user among the last `looked` of all users. */
export const refusedOfUser = (rows: Refused[], looked: number, now: number) => (
  <Card id="refused" title="Refused" side={<small>among the last {looked} of all users</small>}>
    {refusals(rows, now, true)}
  </Card>
)

/** Refusals, the newest first. `own` leaves out the user. */
const refusals = (rows: Refused[], now: number, own?: true) =>
  table({
    caption: 'Refused requests, the newest first',
    rows,
    key: ({ id }) => id,
    columns: [
      ['When', 'n', ({ at }) => time(at, now)],
      ['User', 'u', ({ user }) => (own ? undefined : userLink(user))],
      ['Code', '', ({ code, id }) => <code title={id}>{code}</code>],
      ['Model', 'w', ({ model }) => name(model)],
      ['Limit', 'g', ({ limit }) => limit && limitOf(limit)],
    ],
    empty: 'Nobody was refused.',
  })

const WORDS = {
  requests: 'requests',
  tokens: 'tokens',
  usd: '',
  audioSeconds: 'audio seconds',
  characters: 'characters',
}
const OF: Record<string, string> = { everyone: 'of everyone', unverified: 'of unverified callers' }

/** Which limit refused, and on hover what was used of it and asked for. */
function limitOf({ of, model, unit, window, ...amounts }: NonNullable<Refused['limit']>) {
  const text = (amount: number) =>
    unit === 'usd' ? exactUsd(amount) : exact(amountTo(unit, amount))
  const [limit, used, asked] = [amounts.limit, amounts.used, amounts.asked].map(text)
  const words = [limit, WORDS[unit], own(WINDOWS, window)?.words ?? window, OF[of]]
  return (
    <span class="what" title={`Used: ${used}. Asked for: ${asked}.`}>
      {words.filter(Boolean).join(' ')}, {name(modelName(model))}
    </span>
  )
}
