/** The files that an admin can save. */
import { select } from './form.tsx'
import { Card } from './parts.tsx'

/** The days that an invoice can have, and those that its form suggests. */
export type Invoice = { oldest: string; from: string; to: string }

/** What each file has. */
const KINDS = { users: 'users, today', days: 'all kept days', events: 'all kept requests' }

export const exportCard = ({ oldest, from, to }: Invoice) => (
  <Card
    id="export"
    title="Export"
    side={Object.entries(KINDS).map(([kind, words]) => (
      <p>
        {words}
        {['csv', 'ndjson'].map((format) => (
          <a
            href={`/api/admin/export?kind=${kind}&format=${format}`}
            aria-label={`Export ${kind} as ${format}`}
            download
          >
            {format}
          </a>
        ))}
      </p>
    ))}
  >
    <form action="/api/admin/export" class="fields">
      <input type="hidden" name="kind" value="users" />
      <label>
        Invoice, one line per
        {select(
          'group',
          [
            ['user', 'user'],
            ['model', 'user and model'],
            ['day', 'user and day'],
          ],
          'user',
        )}
      </label>
      <label>
        First day (UTC)
        <input type="date" name="from" value={from} min={oldest} max={to} required />
      </label>
      <label>
        Last day (UTC)
        <input type="date" name="to" value={to} min={oldest} required />
      </label>
      <button>Download invoice</button>
    </form>
  </Card>
)
