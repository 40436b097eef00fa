/** `/api/admin/keys`: issued keys. A secret is shown once, when it is made. */
import type * as z from 'zod/mini'
import type { AppContext, Deps } from '../context.ts'
import { ApiError } from '../errors.ts'
import type { Admin, Stamp } from '../http/admin.ts'
import { fields, jsonBody } from '../http/json-body.ts'
import { createIds } from '../identity/ids.ts'
import { KEY_ID, createIssuedKeys } from '../identity/issued-key.ts'
import type { KeyFields, ProfileFields } from '../ledger/commands.ts'
import { KEYS_PER_USER } from '../ledger/capacity.ts'
import type { KeyRefusal } from '../ledger/answers.ts'
import { labelWords } from '../ledger/labels.ts'
import { own } from '../ledger/records.ts'
import type { Key } from '../ledger/documents.ts'
import { SECOND_MS } from '../ledger/windows.ts'
import { keyReport, keysReport } from '../reports/people.ts'
import { storeAnswer, storeOf } from '../store/required.ts'
import { changeOf, futureOf, refusalOf, storedNames } from './fields.ts'
import { MAX_GRACE_SECONDS, keyBody, keyChange, keysQuery, rotation } from './keys-schemas.ts'
import { secretOf, userNamed } from './user-name.ts'

/**
 * For the list of all keys: the profiles that are read at once, and the most reads that a page may take to find a key.
 */
const PROFILES_AT_ONCE = 100
const READS = 10

export const CREATE_REFUSAL = refusalOf(Object.keys(keyBody.shape))
export const CHANGE_REFUSAL = refusalOf(Object.keys(keyChange.shape))
export const ROTATE_REFUSAL = {
  ...refusalOf(['grace_seconds'], {
    grace_seconds: `must be a whole number from 0 to ${MAX_GRACE_SECONDS}`,
  }),
  mayBeEmpty: true,
} as const
const LIST_REFUSAL = refusalOf(['userId', 'cursor'], { cursor: 'must be a nextCursor' })

/** `POST /api/admin/keys`: creates a key. `plan` and `label` are those of the user. */
export const createKeyHandler =
  (deps: Deps, admin: Admin) =>
  async (c: AppContext): Promise<Response> => {
    const body = await jsonBody(c, keyBody, CREATE_REFUSAL)
    const secret = secretOf(deps)
    const store = storeOf(deps)
    const stamp = admin.stamp(c)
    const user = await userNamed(body, createIds(secret))
    const { plan, label } = body
    const kept = keptOf(body, stamp.now)

    const set: ProfileFields = {}
    if (plan !== undefined) set.plan = plan
    if (label !== undefined) Object.assign(set, { label, words: labelWords(label) })
    // This comes before the key: if it fails, no key is left behind that nobody has seen.
    if (Object.keys(set).length > 0) {
      await storeAnswer(store.execute({ op: 'profile', user, set, ...stamp }))
    }
    for (;;) {
      const made = await createKey(deps, stamp, user, kept)
      // The random id belongs to another key of the user. The next one does not.
      if (made)
        return c.json({ key: made.key, ...keyReport(user, made.id, made.doc, stamp.now) }, 201)
    }
  }

type Kept = Omit<Key, 'hash' | 'start' | 'last4'>

/** What is kept of a new key beside its secret. */
export function keptOf(
  { name, models, expires_at }: Pick<z.infer<typeof keyBody>, 'name' | 'models' | 'expires_at'>,
  now: number,
): Kept {
  const kept: Kept = { created: now }
  if (typeof expires_at === 'number' || typeof expires_at === 'string') {
    kept.expires = futureOf(expires_at, now, 'expires_at')
  }
  if (typeof name === 'string') kept.name = name
  if (models) kept.models = storedNames(models)
  return kept
}

/** Creates a key, with a random id or this one. Undefined if the user has a key with the id. */
export async function createKey(
  deps: Deps,
  stamp: Stamp,
  user: string,
  kept: Kept,
  wanted?: string,
) {
  const { key, id, secret } = await createIssuedKeys(secretOf(deps)).make(user, wanted)
  const command = { op: 'key', action: 'create', user, id, key: { ...secret, ...kept } } as const
  const answer = await storeAnswer(storeOf(deps).execute({ ...command, ...stamp }))
  if (answer.ok) return { key, id, doc: answer.key }
  if (answer.reason !== 'exists') throw refused(answer)
  return undefined
}

/** `GET /api/admin/keys`: the keys of a user, or of a page of users. */
export const listKeysHandler =
  (deps: Deps) =>
  async (c: AppContext): Promise<Response> => {
    const { userId, cursor } = fields(c.req.query(), keysQuery, LIST_REFUSAL)
    const store = storeOf(deps)
    const at = deps.now()
    if (userId !== undefined) {
      const user = await storeAnswer(store.user(userId))
      return c.json({
        keys: user ? keysReport(user.profile, at, user.usage) : [],
        nextCursor: null,
      })
    }
    const keys: ReturnType<typeof keysReport> = []
    let from = cursor
    // Most users may have no key.
    for (let reads = 0; reads < READS && keys.length === 0; reads += 1) {
      const { profiles, next } = await storeAnswer(store.listProfiles(PROFILES_AT_ONCE, from))
      keys.push(...profiles.flatMap((profile) => keysReport(profile, at)))
      from = next
      if (next === undefined) break
    }
    return c.json({ keys, nextCursor: from ?? null })
  }

/** `GET /api/admin/keys/:keyId`. */
export const keyHandler =
  (deps: Deps) =>
  async (c: AppContext): Promise<Response> => {
    const { user, id } = keyInPath(c)
    const known = await storeAnswer(storeOf(deps).user(user))
    const key = known && own(known.profile.keys, id)
    if (!key) throw noKey()
    return c.json(keyReport(user, id, key, deps.now(), known.usage))
  }

/** `PATCH /api/admin/keys/:keyId`: renames, disables, enables, sets the end or the models. */
export const changeKeyHandler =
  (deps: Deps, admin: Admin) =>
  async (c: AppContext): Promise<Response> => {
    const where = keyInPath(c)
    const body = await jsonBody(c, keyChange, CHANGE_REFUSAL)
    const stamp = admin.stamp(c)
    const key = await changeKey(deps, stamp, where, body)
    return c.json(keyReport(where.user, where.id, key, stamp.now))
  }

/** A key of a user. */
type Where = { user: string; id: string }

/** Changes what is given of a key. */
export async function changeKey(
  deps: Deps,
  stamp: Stamp,
  where: Where,
  { name, disabled, models, expires_at }: z.infer<typeof keyChange>,
): Promise<Key> {
  const change = changeOf<KeyFields>({
    name,
    disabled: disabled === undefined ? undefined : disabled ? 1 : null,
    models: models && storedNames(models),
    expires:
      typeof expires_at === 'number' || typeof expires_at === 'string'
        ? futureOf(expires_at, stamp.now, 'expires_at')
        : expires_at,
  })
  const command = { op: 'key', action: 'change', ...where, ...change } as const
  const answer = await storeAnswer(storeOf(deps).execute({ ...command, ...stamp }))
  if (!answer.ok) throw refused(answer)
  return answer.key
}

/** `POST /api/admin/keys/:keyId/rotate`: a new secret. The one before stays valid for the grace. */
export const rotateKeyHandler =
  (deps: Deps, admin: Admin) =>
  async (c: AppContext): Promise<Response> => {
    const { user, id } = keyInPath(c)
    const body = await jsonBody(c, rotation, ROTATE_REFUSAL)
    const stamp = admin.stamp(c)
    const { key, doc } = await rotateKey(deps, stamp, { user, id }, body)
    return c.json({ key, ...keyReport(user, id, doc, stamp.now) })
  }

/** Makes the next secret of a key. */
export async function rotateKey(
  deps: Deps,
  stamp: Stamp,
  { user, id }: Where,
  { grace_seconds }: z.infer<typeof rotation>,
): Promise<{ key: string; doc: Key }> {
  const { key, secret } = await createIssuedKeys(secretOf(deps)).make(user, id)
  const graceUntil = stamp.now + grace_seconds * SECOND_MS
  const command = { op: 'key', action: 'rotate', user, id, secret, graceUntil } as const
  const answer = await storeAnswer(storeOf(deps).execute({ ...command, ...stamp }))
  if (!answer.ok) throw refused(answer)
  return { key, doc: answer.key }
}

/** `DELETE /api/admin/keys/:keyId`. */
export const deleteKeyHandler =
  (deps: Deps, admin: Admin) =>
  async (c: AppContext): Promise<Response> => {
    await deleteKey(deps, admin.stamp(c), keyInPath(c))
    return c.json({ success: true })
  }

export async function deleteKey(deps: Deps, stamp: Stamp, where: Where): Promise<void> {
  const command = { op: 'key', action: 'delete', ...where, ...stamp } as const
  const answer = await storeAnswer(storeOf(deps).execute(command))
  if (!answer.ok) throw refused(answer)
}

/** The user and the key in the path. Throws `not_found`. */
function keyInPath(c: AppContext): Where {
  const [, user, id] = KEY_ID.exec(c.req.param('keyId') ?? '') ?? []
  if (user === undefined || id === undefined) throw noKey()
  return { user, id }
}

const noKey = () =>
  new ApiError(
    'not_found',
    'There is no key with this id. The id of a key is that of its user, a dot and 8 letters or digits; GET /api/admin/keys lists them.',
  )

function refused({ reason }: KeyRefusal): ApiError {
  return reason === 'keys'
    ? new ApiError(
        'invalid_request',
        `This user has ${KEYS_PER_USER} keys, the maximum; delete one of them first.`,
        { param: 'user' },
      )
    : noKey()
}
