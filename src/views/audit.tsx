/** The page of what admins did. */
import { own } from '../ledger/records.ts'
import type { Audit, AuditAction } from '../ledger/events.ts'
import { select, type Choice } from './form.tsx'
import { Page, type Frame } from './page.tsx'
import { Card, clock, moment, name, scope, time, whenHead } from './parts.tsx'
import { table } from './table.tsx'

/** What is shown: who did it and what; empty for all. */
type AuditQuery = { by: string; action: string }

type AuditPage = Frame & {
  audit: Audit[]
  query: AuditQuery
  /** What there is to choose from. */
  names: string[]
  actions: string[]
  /** Older actions are not shown. */
  cut: boolean
}

export const auditPage = ({ audit, query, names, actions, cut, ...frame }: AuditPage) => (
  <Page title="Audit" {...frame}>
    <h1 class="hide">Audit</h1>
    <Card
      id="audit"
      title="Audit log"
      live
      side={
        <form action="/admin/audit" class="inline">
          <label>
            <span class="hide">Who</span>
            {select('by', [['', 'Everyone'], ...names.map((one): Choice => [one, one])], query.by)}
          </label>
          <label>
            <span class="hide">What</span>
            {select(
              'action',
              [
                ['', 'All actions'],
                ...actions.map((one): Choice => [one, own(AUDIT_WORDS, one) ?? one]),
              ],
              query.action,
            )}
          </label>
          <button class="quiet">Show</button>
        </form>
      }
    >
      {auditTable(audit, frame.now)}
      {cut && (
        <nav class="pages" aria-label="More actions">
          <a href={`/admin/audit?${String(new URLSearchParams({ ...query, all: 'yes' }))}`}>
            Show all that are kept
          </a>
        </nav>
      )}
    </Card>
  </Page>
)

/** What was done, by the actions of the audit log. */
const AUDIT_WORDS: Record<AuditAction, string> = {
  login: 'logged in',
  'failed login': 'failed to log in',
  logout: 'logged out',
  block: 'blocked',
  unblock: 'unblocked',
  erase: 'erased',
  clear: 'deleted days and requests',
  export: 'exported',
  user: 'changed user',
  reset: 'reset',
  plan: 'saved plan',
  'delete plan': 'deleted plan',
  settings: 'changed settings',
  'create key': 'created key of',
  'change key': 'changed key of',
  'rotate key': 'rotated key of',
  'delete key': 'deleted key of',
  'make token': 'made token of',
  'test alert': 'sent a test alert',
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

/** The beginning of a user's id, which is all that is kept here, and leads to the user. Nobody is left of one who was erased. */
const userStart = (start: string, action: AuditAction) =>
  action === 'erase' ? (
    <code>{start}…</code>
  ) : (
    <a href={`/admin/users?q=${start}`}>
      <code>{start}…</code>
    </a>
  )

const auditTable = (audit: Audit[], now: number) =>
  table({
    caption: 'Actions of admins, the newest first',
    rows: audit,
    key: ({ at }) => `${at}`,
    columns: [
      ['When', 'n', ({ at }) => clock(at), whenHead()],
      ['Ago', 'n w', ({ at }) => time(at, now)],
      [
        'What',
        'g',
        ({ action, user, model, what, reason, until, times }) => (
          <span class="told">
            {own(AUDIT_WORDS, action) ?? action}
            {times && ` ${times} times`}
            {user && [' ', userStart(user, action)]}
            {model && [action === 'unblock' ? ' for ' : ' from ', scope(model)]}
            {until && [' until ', moment(until)]}
            {what && [user || action === 'settings' ? ': ' : ' ', whatOf(what)]}
            {reason && [': ', name(reason)]}
          </span>
        ),
      ],
      ['Who', '', ({ by }) => by && name(by)],
      ['Address', 'w', ({ ip }) => ip && name(ip)],
    ],
    empty: 'No such actions.',
  })
