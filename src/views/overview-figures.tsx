/** The figures of today at the top of the dashboard. */
import type { Child } from 'hono/jsx'
import type { Unit } from '../ledger/shapes.ts'
import { shareOf, type Today, type Use } from '../reports/dashboard.ts'
import { counted, percent } from './format.ts'
import { amountOf, costText, limitBar, money, num, time } from './parts.tsx'

const figure = (title: string, amount: Child, children: Child) => (
  <div>
    <h2>{title}</h2>
    {amount !== undefined && <strong>{amount}</strong>}
    {children}
  </div>
)

/** How much is used of everyone's limits of a unit. */
const ofLimits = (uses: Use[], of: Unit) =>
  uses
    .filter(({ unit }) => unit === of)
    .map(({ unit, window, used, limit }) => (
      <>
        {limitBar(shareOf(used, limit), `${counted(unit, window)}, of the limit for all users`)}
        <p>
          <b>{percent(shareOf(used, limit))}</b> of {amountOf(unit, limit)} per {window}
        </p>
      </>
    ))

/** Everyone's usage today, and everyone's limits. */
export function figures({ total, uses, trend, ...today }: Today, now: number) {
  const more = trend !== undefined && `${trend < 0 ? '−' : '+'}${percent(Math.abs(trend))}`
  return (
    <section class="card figures" data-live id="figures" aria-label="Today">
      {figure(
        'Tokens today',
        num(total.charged),
        <>
          {ofLimits(uses, 'tokens')}
          <p>
            {more && `${more} on yesterday at this time, `}resets {time(today.resetAt, now)}
          </p>
        </>,
      )}
      {figure('Requests', num(total.requests), ofLimits(uses, 'requests'))}
      {figure('Active users', num(total.users), <p>sessions: {num(today.sessions)}</p>)}
      {figure(
        'Cost today',
        costText(today.cost),
        <>
          {ofLimits(uses, 'usd')}
          {today.monthCost !== undefined && (
            <p>
              <b>{money(today.monthCost)}</b> this month so far
            </p>
          )}
          {today.models.some(({ cost }) => cost === undefined) && (
            <p>without models whose price is not known</p>
          )}
        </>,
      )}
      {figure('Outcomes', undefined, outcomes({ ...total, running: today.running }))}
    </section>
  )
}

/** How requests ended, as a bar and as numbers. */
function outcomes(
  row: Pick<Today['total'], 'exact' | 'estimated' | 'failed' | 'overReservation'> &
    Pick<Today, 'running'>,
) {
  const kinds = (['exact', 'estimated', 'failed', 'running'] as const).map(
    (kind) => [kind, row[kind]] as const,
  )
  const all = kinds.reduce((sum, [, count]) => sum + count, 0)
  let end = 0
  return (
    <>
      <svg class="parts" aria-hidden="true">
        {kinds.map(([kind, count]) => {
          const width = (count / (all || 1)) * 100
          end += width
          return <rect class={kind} x={`${end - width}%`} width={`${width}%`} height="100%" />
        })}
      </svg>
      <dl class="facts">
        {kinds.map(([kind, count]) => (
          <div>
            <dt class={`o ${kind}`}>{kind}</dt>
            <dd>{num(count)}</dd>
          </div>
        ))}
      </dl>
      {row.overReservation > 0 && (
        <p>
          <b>{num(row.overReservation)}</b> tokens over reservation
        </p>
      )}
    </>
  )
}
