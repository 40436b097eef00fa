/** The page of alerts: what was told, and whether it arrived. */
import type { AlertReport } from '../reports/alerts.ts'
import { AdminsOnly } from './admins-only.tsx'
import { Page, type Frame } from './page.tsx'
import { Card, num, tag, time } from './parts.tsx'
import { table } from './table.tsx'

type AlertsPage = Frame & {
  /** How alerts are sent; null if they are not. */
  format: string | null
  alerts: AlertReport[]
}

export function alertsPage({ format, alerts, ...frame }: AlertsPage) {
  return (
    <Page title="Alerts" {...frame}>
      <h1>Alerts</h1>
      {format === null ? (
        <Card id="receiver" title="No alerts are sent">
          <p>
            Set ALERT_WEBHOOK_URL and ALERT_WEBHOOK_SECRET in the environment of this gateway.
            Alerts tell of limits that are nearly used up, of blocks, of keys that are about to end,
            and of a provider or a database that fails.
          </p>
        </Card>
      ) : (
        <Card
          id="receiver"
          title="Receiver"
          side={<small>ALERT_WEBHOOK_URL, {FORMATS[format] ?? format}</small>}
        >
          <AdminsOnly>
            <form method="post" action="/admin/alerts/test">
              <button>Send a test</button>
            </form>
          </AdminsOnly>
        </Card>
      )}
      <Card id="alerts" title="Latest alerts">
        {list(alerts, frame.now)}
      </Card>
    </Page>
  )
}

const FORMATS: Record<string, string> = { standard: 'Standard Webhooks', slack: 'Slack' }

const list = (rows: AlertReport[], now: number) =>
  table({
    caption: 'Alerts, the newest first',
    rows,
    key: ({ id }) => id,
    columns: [
      ['When', 'n', ({ at }) => time(at, now)],
      ['Alert', '', ({ type, id }) => <code title={id}>{type}</code>],
      ['What', 'g', ({ text }) => <bdi class="what">{text}</bdi>],
      ['State', '', stateOf],
      ['Attempts', 'n w', ({ attempts }) => num(attempts)],
      ['Last answer', 'n w', ({ attempts, lastStatus }) => attempts > 0 && answerOf(lastStatus)],
      [
        'Next attempt',
        'n w',
        ({ nextAttemptAt: next, attempts }) =>
          next !== null && attempts > 0 && time(Math.max(next, now), now),
      ],
    ],
    empty: 'Nothing was told yet.',
  })

const stateOf = ({ state }: AlertReport) =>
  state === 'failed' ? tag('failed', 'bad', 'It is not tried again.') : state

const answerOf = (status: number | null) => (status === null || status === 0 ? 'none' : status)
