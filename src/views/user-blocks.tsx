/** A user's blocks, and the form that adds one. */
import { AdminsOnly } from './admins-only.tsx'
import { Input, openForm, select, type Choice, type Refused } from './form.tsx'
import { ALL_MODELS } from '../ledger/documents.ts'
import type { BlockLine } from '../reports/dashboard.ts'
import { Card, modelName, moment, name, scope, time } from './parts.tsx'

export const REASON_CHARS = 500

/** The durations of a block: minutes as the form sends them, and their labels. */
export const DURATIONS: Choice[] = [
  ['', 'until unblocked'],
  ['15', '15 minutes'],
  ['60', '1 hour'],
  ['1440', '1 day'],
  ['10080', '7 days'],
]

/** A user's blocks, and the models that can be blocked. */
export type UserBlocks = { blocks: BlockLine[]; names: string[] }

/** The card with the blocks of the user whose page is at `path`. */
export const blocksCard = (
  path: string,
  { blocks, names }: UserBlocks,
  refused: Refused | undefined,
  now: number,
) => (
  <Card id="blocks" title="Blocks">
    {!blocks.length && <p class="empty">Not blocked.</p>}
    {blocks.map(({ model, reason, at, until }) => (
      <form method="post" action={`${path}/unblock`} class="block">
        <p>
          <b>{scope(model)}</b>
          {reason && name(reason, REASON_CHARS)}
          <small>
            blocked {time(at, now)}, {until ? ['ends ', time(until, now)] : 'until unblocked'}
          </small>
        </p>
        <input type="hidden" name="model" value={model} />
        <AdminsOnly>
          <button class="quiet" aria-label={`Unblock ${modelName(model)}`}>
            Unblock
          </button>
        </AdminsOnly>
      </form>
    ))}
    {openForm({
      form: 'block',
      action: `${path}/block`,
      values: {},
      refused,
      button: 'Block',
      fields: ({ model, minutes, until, reason }) => (
        <>
          <label>
            Model
            {select(
              'model',
              [[ALL_MODELS, 'all models'], ...names.map((one): Choice => [one, one])],
              model,
            )}
          </label>
          <label>
            For
            {select('minutes', DURATIONS, minutes)}
          </label>
          <label>
            Or until (UTC) instead
            <Input name="until" type="datetime-local" value={until} />
          </label>
          <label class="wide">
            Reason, shown to the user
            <Input name="reason" maxlength={REASON_CHARS} value={reason} />
          </label>
        </>
      ),
    })}
  </Card>
)

/** What a block did, and how to lift it. */
export const blockedNotice = (
  { id, label }: { id: string; label: string | undefined },
  { model, until }: BlockLine,
) => (
  <div class="notice top" role="status">
    <span>
      {scope(model)} {model === ALL_MODELS ? 'are' : 'is'} blocked for{' '}
      <a href={`/admin/users/${id}`}>{name(label ?? id)}</a>{' '}
      {until ? ['until ', moment(until)] : 'until unblocked'}. Calls are refused within two seconds.
      Running requests go on.
    </span>
    <form method="post" action={`/admin/users/${id}/unblock`}>
      <input type="hidden" name="model" value={model} />
      <button class="quiet">Unblock</button>
    </form>
  </div>
)
