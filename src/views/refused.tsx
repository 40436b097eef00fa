/** Requests that were refused. */
import { CODES } from '../errors.ts'
import { own } from '../ledger/records.ts'
import type { Refused } from '../ledger/events.ts'
import { amountTo } from '../ledger/policy.ts'
import { WINDOWS } from '../ledger/windows.ts'
import { exact, exactUsd } from './format.ts'
import { Card, clock, code, modelName, name, userLink, whenHead } from './parts.tsx'
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
      [
        'User',
        'u',
        ({ user, model }) =>
          isOwn ? undefined : (
            <>
              {userLink(user, own(labels, user))}
              <small class="under">{name(model)}</small>
            </>
          ),
      ],
      ['Model', isOwn ? 'x' : 'w', ({ model }) => name(model)],
      ['Tag', 'x', ({ tag: one }) => !isOwn && one && name(one)],
      ['Status', 'n v', (one) => (isOwn ? undefined : statusOf(one))],
      [
        'Code',
        '',
        (one) => (
          <>
            {code(one.code)}
            {!isOwn && one.limit && <small class="under">{limitOf(one.limit, one.model)}</small>}
          </>
        ),
      ],
      [
        'Limit',
        isOwn ? 'g' : 'g w',
        ({ limit, model }) => limit && limitOf(limit, isOwn ? undefined : model),
      ],
    ],
    empty: isOwn ? 'No request of this user is among them.' : 'Nobody was refused.',
  })

/** The HTTP status of a refusal; undefined if no code of this version is that of the refusal. */
export const statusOf = ({ code }: Refused): number | undefined => own(CODES, code)?.[0]

const WORDS = {
  requests: 'requests',
  tokens: 'tokens',
  usd: '',
  audioSeconds: 'audio seconds',
  characters: 'characters',
}
const OF: Record<string, string> = { everyone: 'of everyone', unverified: 'of unverified callers' }

type Limit = NonNullable<Refused['limit']>

/** An amount of the unit of a limit, with its unit. */
export const amountText = (unit: Limit['unit'], amount: number): string =>
  unit === 'usd' ? exactUsd(amount) : `${exact(amountTo(unit, amount))} ${WORDS[unit]}`

/** Which limit refused, and on hover what was used of it and asked for. `known` is a model that is shown beside it. */
export function limitOf({ of, model, unit, window, ...amounts }: Limit, known?: string) {
  const { limit, used, asked } = amounts
  const words = [amountText(unit, limit), own(WINDOWS, window)?.words ?? window, own(OF, of)]
  return (
    <span
      class="what"
      title={`Used: ${amountText(unit, used)}. Asked for: ${amountText(unit, asked)}.`}
    >
      {words.filter(Boolean).join(' ')}
      {model !== known && [', ', name(modelName(model))]}
    </span>
  )
}
