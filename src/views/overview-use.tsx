/** Everyone's use on the overview: by hour or day, by model, and how long it waited for the first byte. */
import type { ModelLine as ModelToday } from '../reports/dashboard.ts'
import type { Latency } from '../reports/latency.ts'
import {
  MEASURES,
  UNANSWERED,
  type Bars,
  type Measure,
  type ModelLine,
  type Period,
} from '../reports/period.ts'
import { RANGES, type Range } from '../reports/range.ts'
import { lineChart, stackedChart } from './chart.tsx'
import {
  clockText,
  duration,
  exact,
  exactUsd,
  many,
  shares,
  short,
  shortDate,
  usd,
} from './format.ts'
import { Card, audioText, costText, count, moment, name, num } from './parts.tsx'
import { ALL, requestsPath } from './requests.tsx'
import { table } from './table.tsx'
import { help } from './terms.tsx'

/** What the address of the overview says. */
export type OverviewQuery = { range: Range; measure: Measure }

/** The address of the overview with other days or another chart. */
function pathOf({ range, measure }: OverviewQuery, more: Record<string, string>): string {
  const days: Record<string, string> = range.name
    ? { range: range.name }
    : { from: range.dates.at(-1) ?? '', to: range.dates[0] ?? '' }
  const fields = { ...(more['range'] ? {} : days), chart: measure, ...more }
  const told = Object.entries(fields).filter(
    ([field, value]) =>
      `${field} ${value}` !== 'range today' && `${field} ${value}` !== 'chart tokens',
  )
  const text = String(new URLSearchParams(told))
  return `/admin${text && `?${text}`}`
}

/** The days of the overview: the first control of the page. */
export function rangeBar(query: OverviewQuery, oldest: string, today: string) {
  const { range, measure } = query
  // The last 24 hours are no days.
  const [first, last] = range.name === '24h' ? [] : [range.dates.at(-1), range.dates[0]]
  return (
    <div class="range">
      <nav class="tabs" aria-label="Days">
        {Object.entries(RANGES).map(([name, { title }]) => (
          <a
            href={pathOf(query, { range: name })}
            aria-current={name === range.name ? 'true' : undefined}
          >
            {title}
          </a>
        ))}
      </nav>
      <form action="/admin" class="inline">
        {measure !== 'tokens' && <input type="hidden" name="chart" value={measure} />}
        <label>
          <span>from</span>
          <input type="date" name="from" value={first} min={oldest} max={today} required />
        </label>
        <label>
          <span>to</span>
          <input type="date" name="to" value={last} min={oldest} max={today} required />
        </label>
        <span class="soft">UTC</span>
        <button class="quiet">Show</button>
      </form>
    </div>
  )
}

type UseProps = OverviewQuery & {
  bars: Bars
  /** A limit of everyone, in the unit of the chart. */
  limit: { amount: number; words: string } | undefined
}

export function useCard({ bars, limit, ...query }: UseProps) {
  const { range, measure } = query
  const { title, by, unit } = MEASURES[measure]
  const isMoney = measure === 'cost'
  const step = range.hourly ? 'hour' : 'day'
  return (
    <Card
      id="use"
      title={`${title} by ${step} (UTC)`}
      live
      side={
        <nav class="tabs" aria-label="What the chart shows">
          {Object.entries(MEASURES).map(([one, { title }]) => (
            <a
              href={pathOf(query, { chart: one })}
              aria-current={one === measure ? 'true' : undefined}
            >
              {title}
            </a>
          ))}
        </nav>
      }
    >
      {bars.series.every(({ amounts }) => amounts.every((amount) => amount === 0)) ? (
        <p class="empty">Nothing was counted {spanOf(range)}.</p>
      ) : (
        stackedChart({
          id: 'bars',
          caption: `${title} by ${step} and ${by}, ${range.title}, UTC`,
          heading: range.hourly ? 'Hour (UTC)' : 'Day (UTC)',
          unit,
          names: range.hourly ? bars.names : bars.names.map(shortDate),
          series: bars.series,
          mark: isMoney ? exactUsd : short,
          short: isMoney ? usd : short,
          exact: isMoney ? exactUsd : exact,
          whole: !isMoney,
          limit: range.hourly ? undefined : limit,
          ...(bars.current !== undefined && {
            current: {
              at: bars.current,
              words: range.hourly ? 'this hour, not over' : 'today, not over',
            },
          }),
        })
      )}
      {bars.since !== undefined && (
        <p class="soft">
          Complete only since {moment(bars.since)}. Older requests are not kept by the hour.
        </p>
      )}
    </Card>
  )
}

const spanOf = ({ name, hourly }: Range): string =>
  name === 'today' ? 'today' : hourly ? 'in these hours' : 'in these days'

/** Where a row has no value. */
const none = () => <span class="soft">–</span>

/** The models of a range. `today` are those of the current day, which know what is left. */
export function modelsCard(
  { models: answered, unanswered }: Pick<Period, 'models' | 'unanswered'>,
  today: ModelToday[] | undefined,
) {
  const rest = { model: UNANSWERED, tokens: 0, requests: unanswered, failed: unanswered, cost: 0 }
  const models: ModelLine[] = unanswered > 0 ? [...answered, rest] : answered
  const parts = shares(models.map(({ tokens }) => tokens))
  const most = Math.max(1, ...models.map(({ tokens }) => tokens))
  const isLimited = today?.some(({ left }) => left !== undefined)
  const leftOf = (model: string) => today?.find((one) => one.model === model)?.left
  return (
    <Card id="models" title="Models" live>
      {table({
        caption: 'Models, the most used first',
        rows: models,
        key: ({ model }) => model,
        columns: [
          [
            'Model',
            'g',
            ({ model, tokens }) => (
              <>
                {model === UNANSWERED ? (
                  model
                ) : (
                  <a href={requestsPath({ ...ALL, model })}>{name(model)}</a>
                )}
                <svg class="share" aria-hidden="true">
                  <rect width={`${((tokens / most) * 100).toFixed(1)}%`} height="100%" />
                </svg>
              </>
            ),
          ],
          ['Tokens', 'n', ({ tokens }) => count(tokens)],
          ['Share', 'n w', (row) => parts[models.indexOf(row)]],
          ['Cost', 'n', ({ cost }) => costText(cost)],
          ['Audio', 'n w', audioText],
          ['Requests', 'n', ({ requests }) => num(requests)],
          ['Failed', 'n w', ({ failed }) => count(failed)],
          ['Users', 'n w', ({ users }) => (users === undefined ? none() : count(users))],
          [
            'Tokens left',
            'n w',
            ({ model }) => {
              const left = leftOf(model)
              if (left !== undefined) return num(left)
              return isLimited && none()
            },
          ],
        ],
        empty: 'No model has answered.',
      })}
    </Card>
  )
}

/** The waits of recent requests, as a chart and by model. */
export function latencyCard({ all, models, parts }: Latency, events: number) {
  const lines = (
    [
      ['p50', ({ p50 }) => p50],
      ['p95', ({ p95 }) => p95],
    ] as [string, (waits: { p50: number; p95: number }) => number][]
  ).map(([name, of]) => ({
    name,
    amounts: parts.map(({ waits }) => (waits ? of(waits) : Number.NaN)),
  }))
  return (
    <Card
      id="latency"
      title={['First byte', help('firstByte')]}
      live
      side={events > 0 && <small>of the last {many(events, 'request')}; times in UTC</small>}
    >
      {all ? (
        <>
          <dl class="facts">
            <div>
              <dt>p50</dt>
              <dd>{duration(all.p50)}</dd>
            </div>
            <div>
              <dt>p95</dt>
              <dd>{duration(all.p95)}</dd>
            </div>
          </dl>
          {lineChart({
            id: 'waits',
            caption: 'Time to the first byte of recent requests, times in UTC: p50 and p95',
            names: parts.map(({ from }) => clockText(from).slice(0, -3)),
            series: lines,
            heading: 'From (UTC)',
            mark: duration,
            short: duration,
            exact: duration,
            whole: false,
          })}
          <details id="waits-models">
            <summary>By model</summary>
            {table({
              caption: 'Time to the first byte by model',
              rows: models,
              key: ({ model }) => model,
              columns: [
                ['Model', 'g', ({ model }) => name(model)],
                ['p50', 'n', ({ p50 }) => duration(p50)],
                ['p95', 'n', ({ p95 }) => duration(p95)],
                ['Requests', 'n w', ({ requests }) => num(requests)],
              ],
            })}
          </details>
        </>
      ) : (
        <p class="empty">No request has been answered yet.</p>
      )}
    </Card>
  )
}
