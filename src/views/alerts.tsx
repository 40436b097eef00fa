/** The page of alerts: what was told, and whether it arrived. */
import type { AlertReport } from '../reports/alerts.ts'
import { AdminsOnly } from './admins-only.tsx'
import { Page, type Frame } from './page.tsx'
import { Card, code, num, tag, time } from './parts.tsx'
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
            Set <code>ALERT_WEBHOOK_URL</code> and <code>ALERT_WEBHOOK_SECRET</code> in the
            environment of this gateway. Alerts tell of limits that are nearly used up, of blocks,
            of keys that are about to end, and of a provider or a database that fails.
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
      <Card id="alerts" title="Latest alerts" live>
        {list(alerts, format !== null, frame.now)}
      </Card>
    </Page>
  )
}

const FORMATS: Record<string, string> = { standard: 'Standard Webhooks', slack: 'Slack' }

const list = (rows: AlertReport[], isSent: boolean, now: number) =>
  table({
    caption: 'Alerts, the newest first',
    rows,
    key: ({ id }) => id,
    columns: [
      ['When', 'n', ({ at }) => time(at, now)],
      ['Alert', 'v', ({ type }) => code(type)],
      ['What', 'g', textOf],
      [
        'State',
        '',
        ({ state }) =>
          state === 'failed'
            ? tag('failed', 'bad', 'It is not tried again.')
            : state === 'pending' && !isSent
              ? 'not sent'
              : state,
      ],
      ['Attempts', 'n v', ({ attempts }) => num(attempts)],
      ['Last answer', 'n w', ({ attempts, lastStatus }) => attempts > 0 && answerOf(lastStatus)],
      [
        'Next attempt',
        'n w',
        ({ nextAttemptAt: next, attempts }) =>
          isSent && next !== null && attempts > 0 && time(Math.max(next, now), now),
      ],
    ],
    empty: 'Nothing was told yet.',
  })

/** The sentence of an alert, in which the id of the user is a link. */
function textOf({ text, data: { userId } }: AlertReport) {
  const at = userId === undefined ? -1 : text.lastIndexOf(`${userId}`)
  if (at < 0) return <bdi class="told">{text}</bdi>
  return (
    <bdi class="told">
      {text.slice(0, at)}
      <a href={`/admin/users/${userId}`}>{userId}</a>
      {text.slice(at + `${userId}`.length)}
    </bdi>
  )
}

const answerOf = (status: number | null) => (status === null || status === 0 ? 'none' : status)
