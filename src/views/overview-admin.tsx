/** For admins: blocks, the record of actions, and exports. */
import { own, type Audit } from '../ledger/shapes.ts'
import type { BlockLine } from '../reports/dashboard.ts'
import { Card, name, scope, time, userLink } from './parts.tsx'
import { table } from './table.tsx'

export type AdminActions = {
  blocks: BlockLine[]
  /** Whether there are more blocks. */
  cut: boolean
  audit: Audit[]
}

/** The cards that a refresh does not update: blocks, actions and exports. */
export const adminCards = ({ blocks, cut, audit }: AdminActions, now: number) => (
  <>
    <div class="two">
      {blockedCard(blocks, cut, now)}
      {auditCard(audit, now)}
    </div>
    {exportCard()}
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
        ['Address', 'w', ({ ip }) => ip && name(ip)],
      ],
      empty: 'No actions yet.',
    })}
  </Card>
)

const exportCard = () => (
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
  />
)
