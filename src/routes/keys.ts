/** `/api/admin/keys`: issued keys. A secret is shown once, when it is made. */
import type { AppContext, Deps } from '../context.ts'
import { ApiError } from '../errors.ts'
import type { Admin } from '../http/admin.ts'
import { fields, jsonBody } from '../http/json-body.ts'
import { createIds } from '../identity/ids.ts'
import { KEY_ID, createIssuedKeys } from '../identity/issued-key.ts'
import {
  KEYS_PER_USER,
  type KeyFields,
  type KeyRefusal,
  type ProfileFields,
} from '../ledger/commands.ts'
import { labelWords } from '../ledger/labels.ts'
import { own, type Key } from '../ledger/shapes.ts'
import { SECOND_MS } from '../ledger/windows.ts'
import { keyReport, keysReport } from '../reports/people.ts'
import { storeAnswer, storeOf } from '../store/required.ts'
import { changeOf, futureOf, refusalOf, storedNames } from './fields.ts'
import { MAX_GRACE_SECONDS, keyBody, keyChange, keysQuery, rotation } from './keys-schemas.ts'
import { secretOf, userIn } from './user-name.ts'

/** Where all keys are listed: the profiles that are read at once, and how many reads a page may take to have a key. */
const PROFILES_AT_ONCE = 100
const READS = 10

const CREATE_REFUSAL = refusalOf(Object.keys(keyBody.shape))
const CHANGE_REFUSAL = refusalOf(Object.keys(keyChange.shape))
const ROTATE_REFUSAL = {
  ...refusalOf(['grace_seconds'], {
    grace_seconds: `must be a whole number from 0 to ${MAX_GRACE_SECONDS}`,
  }),
  mayBeEmpty: true,
} as const
const LIST_REFUSAL = refusalOf(['userId', 'cursor'], { cursor: 'must be a nextCursor' })

/** `POST /api/admin/keys`: creates a key. `plan` and `label` are the user's. */
export const createKeyHandler =
  (deps: Deps, admin: Admin) =>
  async (c: AppContext): Promise<Response> => {
    const body = await jsonBody(c, keyBody, CREATE_REFUSAL)
    const secret = secretOf(deps)
    const store = storeOf(deps)
    const stamp = admin.stamp(c)
    const user = await userIn(body, createIds(secret))
    const { name, models, plan, label } = body
    const expires = body.expires_at ?? undefined
    const kept: Omit<Key, 'hash' | 'start' | 'last4'> = { created: stamp.now }
    if (expires !== undefined) kept.expires = futureOf(expires, stamp.now, 'expires_at')
    if (typeof name === 'string') kept.name = name
    if (models) kept.models = storedNames(models)

    const set: ProfileFields = {}
    if (plan !== undefined) set.plan = plan
    if (label !== undefined) Object.assign(set, { label, words: labelWords(label) })
    // Before the key: if this fails, no key is left behind that nobody has seen.
    if (Object.keys(set).length > 0) {
      await storeAnswer(store.execute({ op: 'profile', user, set, ...stamp }))
    }
    const keys = createIssuedKeys(secret)
    for (;;) {
      const { key, id, secret: made } = await keys.make(user)
      const command = { op: 'key', action: 'create', user, id, key: { ...made, ...kept } } as const
      const answer = await storeAnswer(store.execute({ ...command, ...stamp }))
      if (answer.ok) return c.json({ key, ...keyReport(user, id, answer.key, stamp.now) }, 201)
      // The random id is that of another key of the user: the next one is not.
      if (answer.reason !== 'exists') throw refused(answer)
    }
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
    const { name, disabled, models, expires_at } = await jsonBody(c, keyChange, CHANGE_REFUSAL)
    const stamp = admin.stamp(c)
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
    return c.json(keyReport(where.user, where.id, answer.key, stamp.now))
  }

/** `POST /api/admin/keys/:keyId/rotate`: a new secret. The one before stays valid for the grace. */
export const rotateKeyHandler =
  (deps: Deps, admin: Admin) =>
  async (c: AppContext): Promise<Response> => {
    const { user, id } = keyInPath(c)
    const { grace_seconds } = await jsonBody(c, rotation, ROTATE_REFUSAL)
    const stamp = admin.stamp(c)
    const { key, secret } = await createIssuedKeys(secretOf(deps)).make(user, id)
    const graceUntil = stamp.now + grace_seconds * SECOND_MS
    const command = { op: 'key', action: 'rotate', user, id, secret, graceUntil } as const
    const answer = await storeAnswer(storeOf(deps).execute({ ...command, ...stamp }))
    if (!answer.ok) throw refused(answer)
    return c.json({ key, ...keyReport(user, id, answer.key, stamp.now) })
  }

/** `DELETE /api/admin/keys/:keyId`. */
export const deleteKeyHandler =
  (deps: Deps, admin: Admin) =>
  async (c: AppContext): Promise<Response> => {
    const command = { op: 'key', action: 'delete', ...keyInPath(c), ...admin.stamp(c) } as const
    const answer = await storeAnswer(storeOf(deps).execute(command))
    if (!answer.ok) throw refused(answer)
    return c.json({ success: true })
  }

/** The user and the key in the path. Throws `not_found`. */
function keyInPath(c: AppContext): { user: string; id: string } {
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
