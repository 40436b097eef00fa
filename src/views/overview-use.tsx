/** Everyone's usage by hour, by day and by model. */
import type { ModelLine, PastDays, Today } from '../reports/dashboard.ts'
import { chart } from './chart.tsx'
import { percent, shortDate } from './format.ts'
import { Card, audioText, costText, money, name, num } from './parts.tsx'
import { table } from './table.tsx'

const hourOf = (hour: number) => `${String(hour).padStart(2, '0')}:00`

function models(caption: string, rows: ModelLine[]) {
  const all = rows.reduce((sum, { tokens }) => sum + tokens, 0) || 1
  return table({
    caption,
    rows,
    key: ({ model }) => model,
    columns: [
      [
        'Model',
        'g',
        ({ model, tokens }) => (
          <>
            {name(model)}
            <svg class="share" aria-hidden="true">
              <rect width={`${((tokens / all) * 100).toFixed(1)}%`} height="100%" />
            </svg>
          </>
        ),
      ],
      ['Tokens', 'n', ({ tokens }) => num(tokens)],
      ['Audio', 'n', audioText],
      ['Share', 'n w', ({ tokens }) => percent(tokens / all)],
      ['Requests', 'n', ({ requests }) => num(requests)],
      ['Users', 'n w', ({ users }) => users && num(users)],
      ['Left', 'n', ({ left }) => left !== undefined && num(left)],
      ['Cost', 'n', ({ cost }) => costText(cost)],
    ],
    empty: 'No model has answered yet.',
  })
}

/** Today's usage by hour and by model; a refresh updates it. */
export const todayCard = (today: Today) => (
  <Card id="today" title="Today by hour" live>
    {chart({
      id: 'hours',
      caption: 'Tokens by hour of today, UTC',
      columns: ['Hour', 'Tokens'],
      bars: today.hours.map((tokens, hour) => [hourOf(hour), tokens]),
      slots: 24,
      marks: [0, 6, 12, 18, 24].map(hourOf),
    })}
    {models('Models today', today.models)}
  </Card>
)

/** The past days, and their models. */
export function pastCard({ days, cost, tokens, requests, models: lines }: PastDays) {
  const last = days.length - 1
  return (
    <Card
      id="past"
      title={`${days.length} days`}
      side={
        <small>
          {num(tokens)} tokens, {num(requests)} requests
          {cost !== undefined && [', ', money(cost)]}
        </small>
      }
    >
      {chart({
        id: 'days',
        caption: `Tokens by day over ${days.length} days`,
        columns: ['Day', 'Tokens', 'Requests', 'Users'],
        bars: days.map(({ date, tokens, requests, users }) => [
          shortDate(date),
          tokens,
          requests,
          users,
        ]),
        marks: [0, last / 3, (last * 2) / 3, last].map((at) =>
          shortDate(days[Math.round(at)]?.date ?? ''),
        ),
      })}
      {models(`Models over ${days.length} days`, lines)}
    </Card>
  )
}
