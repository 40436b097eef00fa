/** A user's keys, and the forms that create and change them. */
import { DAY_MS, HOUR_MS, SECOND_MS } from '../ledger/windows.ts'
import type { keyReport } from '../reports/people.ts'
import {
  Input,
  closedForm,
  modelFields,
  modelList,
  openForm,
  select,
  timeField,
  type Choice,
  type Fields,
  type Refused,
} from './form.tsx'
import { AdminsOnly } from './admins-only.tsx'
import { nanoFrom } from '../ledger/money.ts'
import { Card, NAME_CHARS, money, Notice, name, tag, time } from './parts.tsx'

type Key = ReturnType<typeof keyReport>

export type UserKeys = {
  keys: Key[]
  /** The id of the next key. The form that creates it sends it, and so creates one key however often it is sent. */
  next: string | undefined
  /** Whether the gateway takes keys. */
  taken: boolean
}

/** How long the secret before a rotation may stay valid, in seconds. */
const GRACES: Choice[] = [
  ['0', 'ends at once'],
  [`${HOUR_MS / SECOND_MS}`, 'stays valid for 1 hour'],
  [`${DAY_MS / SECOND_MS}`, 'stays valid for 1 day'],
  [`${(7 * DAY_MS) / SECOND_MS}`, 'stays valid for 7 days'],
  [`${(30 * DAY_MS) / SECOND_MS}`, 'stays valid for 30 days'],
]
const DAY_GRACE = `${DAY_MS / SECOND_MS}`

/** A secret that was just made. */
export const newKey = (secret: string) => (
  <Notice>
    The key is shown only here and only now. Copy it:
    <code class="secret">{secret}</code>
    <button type="button" class="quiet" data-copy={secret} hidden>
      Copy key
    </button>
  </Notice>
)

export const keysCard = (
  path: string,
  { keys, next, taken }: UserKeys,
  refused: Refused | undefined,
  now: number,
) => (
  <Card id="keys" title="Keys">
    {!taken && (
      <p class="soft">
        This gateway does not accept issued keys. Add <code>issued</code> to USER_TOKENS.
      </p>
    )}
    {!keys.length && <p class="empty">No keys.</p>}
    {keys.map((key) => keyBlock(path, key, refused, now))}
    {taken && next === undefined && <p class="soft">Keys need USER_HASH_SECRET to be set.</p>}
    {taken &&
      next !== undefined &&
      closedForm({
        form: 'keys',
        action: `${path}/keys`,
        title: 'New key',
        values: modelFields(null),
        refused,
        button: 'Create key',
        fields: (values) => (
          <>
            <input type="hidden" name="next" value={next} />
            {keyFields(values)}
          </>
        ),
      })}
  </Card>
)

const keyFields = (values: Fields) => (
  <>
    <label>
      Name
      <Input name="name" value={values['name']} />
    </label>
    <label>
      Expires (UTC)
      <Input name="expires" type="datetime-local" value={values['expires']} />
    </label>
    {modelList(values)}
  </>
)

/** The id of a key among those of its user. */
const ownId = ({ id, userId }: Key): string => id.slice(userId.length + 1)

function keyBlock(path: string, key: Key, refused: Refused | undefined, now: number) {
  const {
    start,
    last4,
    createdAt,
    expiresAt,
    lastUsedAt,
    previousExpiresAt,
    models,
    monthCostUsd,
  } = key
  const id = ownId(key)
  const title = (key.name ?? 'Unnamed key').slice(0, NAME_CHARS)
  const form = (deed: string) => ({
    form: `${deed}-${id}`,
    action: `${path}/keys/${id}/${deed}`,
    refused,
    values: {},
  })
  const isExpired = expiresAt !== null && expiresAt <= now
  const isOpen = refused?.form.endsWith(`-${id}`)
  return (
    <div class="key">
      <p class="who">
        <b>{name(title)}</b>
        <code>
          {start}…{last4}
        </code>
        {key.disabled && tag('disabled', 'bad')}
        {isExpired && tag('expired', 'bad')}
      </p>
      <small>
        created {time(createdAt, now)},{' '}
        {expiresAt === null
          ? 'does not expire'
          : [isExpired ? 'expired ' : 'expires ', time(expiresAt, now)]}
        , {lastUsedAt ? ['last used ', time(lastUsedAt, now)] : 'never used'}
        {monthCostUsd ? [', ', money(nanoFrom(monthCostUsd)), ' this month'] : ''}
        {previousExpiresAt !== null && ['; the old secret ends ', time(previousExpiresAt, now)]}
        {models && ['; models: ', name(models.join(', ') || 'none')]}
      </small>
      <AdminsOnly>
        <details class="form" open={isOpen}>
          <summary aria-label={`Change the key ${title} ${last4}`}>Change</summary>
          {openForm({
            ...form('change'),
            values: { name: key.name ?? '', expires: timeField(expiresAt), ...modelFields(models) },
            button: 'Save',
            fields: keyFields,
          })}
          {openForm({
            ...form(key.disabled ? 'enable' : 'disable'),
            button: key.disabled ? 'Enable' : 'Disable',
            kind: 'quiet',
          })}
          {openForm({
            ...form('rotate'),
            values: { grace: DAY_GRACE },
            button: 'Rotate',
            kind: 'quiet',
            fields: ({ grace }) => (
              <>
                <input type="hidden" name="last4" value={last4} />
                <label>
                  Old secret
                  {select('grace', GRACES, grace)}
                </label>
              </>
            ),
          })}
          {openForm({
            ...form('delete'),
            button: 'Delete',
            kind: 'danger',
            fields: () => (
              <label class="tick">
                <span>
                  <input type="checkbox" name="sure" value="yes" required /> Delete {name(title)}{' '}
                  for good
                </span>
              </label>
            ),
          })}
        </details>
      </AdminsOnly>
    </div>
  )
}
