/** Requests that were refused. */
import { own } from '../ledger/records.ts'
import type { Refused } from '../ledger/events.ts'
import { amountTo } from '../ledger/policy.ts'
import { WINDOWS } from '../ledger/windows.ts'
import { exact, exactUsd } from './format.ts'
import { Card, clock, modelName, name, userLink, whenHead } from './parts.tsx'
import { table } from './table.tsx'

/** The refusals of one user among the last `looked` of all users. */
export const refusedOfUser = (rows: Refused[], looked: number) => (
  <Card id="refused" title="Refused" side={<small>among the last {looked} of all users</small>}>
    {refusals(rows, {}, true)}
  </Card>
)

/** Refusals, the newest first, with labels of users by their ids. `isOwn` leaves out the user. */
export const refusals = (rows: Refused[], labels: Record<string, string>, isOwn?: true) =>
  table({
    caption: 'Refused requests, the newest first',
    rows,
    key: ({ id }) => id,
    columns: [
      ['When', 'n', ({ id, at }) => <a href={`/admin/requests/${id}`}>{clock(at)}</a>, whenHead()],
      ['User', 'u', ({ user }) => (isOwn ? undefined : userLink(user, own(labels, user)))],
      ['Code', '', ({ code }) => <code>{code}</code>],
      ['Model', 'x', ({ model }) => name(model)],
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
export function limitOf({ of, model, unit, window, ...amounts }: NonNullable<Refused['limit']>) {
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
