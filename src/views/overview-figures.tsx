/** The figures at the top of the overview, each beside that of the period before. */
import type { Child } from 'hono/jsx'
import type { Unit } from '../ledger/units.ts'
import type { Cost } from '../reports/costs.ts'
import { partUsed, type Today, type Use } from '../reports/dashboard.ts'
import type { Period } from '../reports/period.ts'
import type { Range } from '../reports/range.ts'
import { whyRefused } from './codes.tsx'
import { counted, exact, many, percent, rate } from './format.ts'
import { amountOf, costText, limitBar, moment, money, num, time } from './parts.tsx'
import { help, type Term } from './terms.tsx'

export type Figures = {
  range: Range
  period: Period
  /** The numbers of the period before; the ones that are not known are left out. */
  before: Partial<Period>
  /** The numbers but the tokens are of the recent requests only, which go back to this time. */
  since: number | undefined
  /** The current day, where the range is today. */
  today: Today | undefined
}

/** How many requests were refused; undefined where it is not known. */
export type RefusedFigure = {
  count: number
  before: number | undefined
  codes: { code: string; count: number }[]
  /** It is of the day of the range. If the range has several days, it is of today, beside yesterday. */
  ofRange: boolean
}

const figure = (id: string, title: string, amount: Child, children: Child, term?: Term) => (
  <div id={`figure-${id}`} data-live>
    <h2>
      {title}
      {term && help(term)}
    </h2>
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
        {limitBar(partUsed(used, limit), `${counted(unit, window)}, of the limit for all users`)}
        <p>
          <b>{percent(partUsed(used, limit))}</b> of {amountOf(unit, limit)} per {window}
        </p>
      </>
    ))

/** The change from an earlier amount, as `+12%`. */
const change = (amount: number, before: number) =>
  before > 0 && `${amount < before ? '−' : '+'}${rate(Math.abs(amount / before - 1))}`

/** What it was before. Days of which the last one has not ended are not compared with whole ones. */
function beside(range: Range, amount: Cost, before: Cost, text: (amount: number) => Child) {
  if (before === undefined) return undefined
  const isWhole = !range.current && amount !== undefined
  return (
    <p>
      {range.beforeTitle}: {text(before)} {isWhole && <b>{change(amount, before)}</b>}
    </p>
  )
}

export function figures(props: Figures, refused: RefusedFigure | undefined, now: number) {
  const { range, period, before, since, today } = props
  const uses = today?.uses ?? []
  const running = today?.running ?? 0
  const failures = period.requests ? period.failed / period.requests : 0
  const earlier = before.requests ? (before.failed ?? 0) / before.requests : undefined
  return (
    <section class="card figures" id="figures" aria-label={range.title}>
      {figure(
        'cost',
        'Cost',
        costText(period.cost),
        <>
          {beside(range, period.cost, before.cost, money)}
          {ofLimits(uses, 'usd')}
          {today?.monthCost !== undefined && (
            <p>
              this month: <b>{money(today.monthCost)}</b>
            </p>
          )}
          {priceNote(period)}
        </>,
        'cost',
      )}
      {figure(
        'tokens',
        'Tokens',
        num(period.tokens),
        <>
          {beside(range, period.tokens, before.tokens, num)}
          {today?.trend !== undefined && (
            <p>
              <b>{`${today.trend < 0 ? '−' : '+'}${rate(Math.abs(today.trend))}`}</b> on yesterday
              until {today.hours.length - 1}:00 UTC
            </p>
          )}
          {today && running > 0 && today.reserved !== undefined && (
            <p>
              and {num(today.reserved)} reserved by {exact(running)} running
            </p>
          )}
          {ofLimits(uses, 'tokens')}
          {today && <p>resets {time(today.resetAt, now)}</p>}
        </>,
      )}
      {figure(
        'requests',
        'Requests',
        num(period.requests),
        <>
          {running > 0 && <p>ended, and {exact(running)} running</p>}
          {beside(range, period.requests, before.requests, num)}
          {ofLimits(uses, 'requests')}
          {since !== undefined && <p>of the recent ones, since {moment(since)}</p>}
          {period.users > 0 && (
            <p>
              <b>{many(period.users, 'active user')}</b>
              {range.dates.length > 1 && ' on the busiest day'}
            </p>
          )}
        </>,
      )}
      {figure(
        'failed',
        'Failed',
        num(period.failed),
        <>
          {period.requests > 0 && (
            <p>
              <b>{rate(failures)}</b> of requests
              {earlier !== undefined && `, ${range.beforeTitle}: ${rate(earlier)}`}
            </p>
          )}
          {period.failed > 0 && range.current && (
            <p>
              <a href="/admin/requests?outcome=failed">
                Show {range.dates.length > 2 && 'recent '}failed requests
              </a>
            </p>
          )}
        </>,
        'failed',
      )}
      {refused &&
        figure(
          'refused',
          refused.ofRange ? 'Refused' : 'Refused today',
          num(refused.count),
          <>
            {refused.before !== undefined && (
              <p>
                {refused.ofRange ? range.beforeTitle : 'yesterday'}: {num(refused.before)}
              </p>
            )}
            {refused.codes.slice(0, 4).map(({ code, count }) => (
              <p>
                {whyRefused(code)}
                {'\u00a0'}
                <b>{num(count)}</b>
              </p>
            ))}
            {refused.count > 0 && (
              <p>
                <a href="/admin/requests?outcome=refused">Show refused requests</a>
              </p>
            )}
          </>,
          'refused',
        )}
      {figure('outcomes', 'Outcomes', undefined, outcomes(period, today?.running), 'outcome')}
    </section>
  )
}

function priceNote({ models }: Period) {
  const known = models.filter(({ cost }) => cost !== undefined).length
  return (
    known < models.length && (
      <p>
        {known} of {many(models.length, 'model')} have a price
      </p>
    )
  )
}

/** How requests ended, as a bar and as numbers. */
function outcomes(period: Period, running: number | undefined) {
  const ended = (['exact', 'estimated', 'failed'] as const).map(
    (kind) => [kind, period[kind]] as const,
  )
  const kinds = [...ended, ...(running === undefined ? [] : [['running', running] as const])]
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
            <dt class={`o ${kind}`}>
              {kind}
              {help(kind)}
            </dt>
            <dd>{num(count)}</dd>
          </div>
        ))}
      </dl>
      {period.overReservation > 0 && (
        <p>
          <b>{num(period.overReservation)}</b> tokens over reservation
          {help('reservation')}
        </p>
      )}
    </>
  )
}
