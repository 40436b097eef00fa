/** For admins: blocks, the record of actions, and exports. */
import { own, type Audit } from '../ledger/shapes.ts'
import type { BlockLine } from '../reports/dashboard.ts'
import { AdminsOnly } from './admins-only.tsx'
import { select } from './form.tsx'
import { Card, name, scope, time, userLink } from './parts.tsx'
import { refusedCard, type RefusedToday } from './refused.tsx'
import { table } from './table.tsx'

export type AdminActions = {
  blocks: BlockLine[]
  /** Whether there are more blocks. */
  cut: boolean
  audit: Audit[]
  refused: RefusedToday
  /** The days that an invoice can have, and those that its form suggests. */
  invoice: { oldest: string; from: string; to: string }
}

/** The cards that a refresh does not update: refusals, blocks, actions and exports. */
export const adminCards = ({ blocks, cut, audit, refused, invoice }: AdminActions, now: number) => (
  <>
    {refusedCard(refused, now)}
    <div class="two">
      {blockedCard(blocks, cut, now)}
      {auditCard(audit, now)}
    </div>
    <AdminsOnly>{exportCard(invoice)}</AdminsOnly>
  </>
)

const blockedCard = (blocks: BlockLine[], cut: boolean, now: number) => (
  <Card id="blocked" title="Blocked" side={cut && <small>only the longest blocks</small>}>
    {table({
      caption: 'Blocked users',
      rows: blocks,
      key: ({ user, model }) => `${user} ${model}`,
      columns: [
        ['User', 'u', ({ user }) => userLink(user)],
        ['Model', '', ({ model }) => scope(model)],
        ['Reason', 'g', ({ reason }) => reason && name(reason)],
        ['Until', 'n', ({ until }) => (until ? time(until, now) : 'no end')],
      ],
      empty: 'Nobody is blocked.',
    })}
  </Card>
)

/** Actions that are shown in other words than those of the audit log. */
const AUDIT_WORDS: Record<string, string> = {
  user: 'change user',
  plan: 'store plan',
  settings: 'change settings',
}

/** Fields that are shown in other words than those of the admin API. */
const FIELD_WORDS: Record<string, string> = {
  notBefore: 'tokens refused before',
  globalLimits: 'limits of everyone',
  defaultPlan: 'default plan',
}

/** What an action was about: fields, the name of a plan, the id of a key, or a window. */
const whatOf = (what: string) =>
  name(
    what
      .split(' ')
      .map((field) => own(FIELD_WORDS, field) ?? field)
      .join(', '),
  )

const auditCard = (audit: Audit[], now: number) => (
  <Card id="audit" title="Audit log">
    {table({
      caption: 'Actions of admins, the newest first',
      rows: audit,
      key: ({ at }) => `${at}`,
      columns: [
        ['When', 'n', ({ at }) => time(at, now)],
        [
          'What',
          'g',
          ({ action, user, model, what, reason, until, times }) => (
            <span class="what">
              {own(AUDIT_WORDS, action) ?? action} {times && `${times} times `}
              {user && <code>{user}…</code>}
              {model && [' from ', scope(model)]}
              {what && [user && ': ', whatOf(what)]}
              {until && [', ends ', time(until, now)]}
              {reason && [': ', name(reason)]}
            </span>
          ),
        ],
        ['Who', '', ({ by }) => by && name(by)],
        ['Address', 'w', ({ ip }) => ip && name(ip)],
      ],
      empty: 'No actions yet.',
    })}
  </Card>
)

const exportCard = ({ oldest, from, to }: AdminActions['invoice']) => (
  <Card
    id="export"
    title="Export"
    side={['users', 'days', 'events'].map((kind) => (
      <p>
        {kind}
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
        Invoice, a line for each
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
