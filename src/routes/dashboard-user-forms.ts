/** The forms of a user's page about what the admin API has under users and keys. */
import type { AppContext, Deps } from '../context.ts'
import { ApiError } from '../errors.ts'
import type { Admin, Stamp } from '../http/admin.ts'
import { alertOfBlock, deliverSoon } from './alerts.ts'
import { formOf } from '../http/form.ts'
import { fields } from '../http/json-body.ts'
import { endOfProfile } from '../ledger/blocks.ts'
import { own } from '../ledger/records.ts'
import type { Block, ProfileDoc } from '../ledger/documents.ts'
import { MINUTE_MS } from '../ledger/windows.ts'
import { isScope } from '../metering/models.ts'
import { lastActiveOf } from '../reports/usage.ts'
import { storeAnswer, storeOf } from '../store/required.ts'
import { timeField, type Fields } from '../views/form.tsx'
import { DURATIONS, REASON_CHARS } from '../views/user-blocks.tsx'
import { seeOther } from './answer-page.ts'
import { answerUser, userOf } from './dashboard-user.ts'
import {
  modelsIn,
  numberOrNone,
  refusedForm,
  rowsIn,
  textOrNone,
  timeOrNone,
} from './form-fields.ts'
import {
  CHANGE_REFUSAL,
  CREATE_REFUSAL,
  ROTATE_REFUSAL,
  changeKey,
  createKey,
  deleteKey,
  keptOf,
  rotateKey,
} from './keys.ts'
import { keyBody, keyChange, rotation } from './keys-schemas.ts'
import { RESET_REFUSAL, USER_REFUSAL, changeUser, resetUser } from './users.ts'
import { resetBody, userChange } from './users-schemas.ts'

type Asked = {
  deps: Deps
  stamp: Stamp
  user: string
  profile: ProfileDoc
  typed: Fields
  /** The id of a key among those of the user. */
  id: string
}

/** What a form led to: a notice on the page by its name, or a key that the page shows. */
type Result = { done: string } | { secret: string }

type Run = (asked: Asked) => Promise<Result>

/** A form that changes the user by the body that it makes. */
const change =
  (done: string, bodyOf: (asked: Asked) => object): Run =>
  async (asked) => {
    const { deps, stamp, user } = asked
    await changeUser(deps, stamp, user, fields(bodyOf(asked), userChange, USER_REFUSAL))
    return { done }
  }

/** What was typed of the label, the note and the plan. What stays as it is is left out, so that the audit log tells what changed. */
function named({ typed, profile }: Asked): object {
  const fields = (['label', 'note', 'plan'] as const).filter((field) => typed[field] !== undefined)
  return Object.fromEntries(
    fields
      .map((field) => [field, textOrNone(typed[field])] as const)
      .filter(([field, text]) => text !== (profile[field] ?? null)),
  )
}

/** The forms about the user, by the end of their path. */
const FORMS: Record<string, Run> = {
  profile: change('saved', named),
  plan: change('saved', named),
  limits: change('saved', ({ typed }) => ({ limits: rowsIn(typed) })),
  boost: change('saved', ({ typed, profile }) => {
    const { until } = typed
    // A field shows minutes. An end that nobody changed stays.
    const stored = profile.boost?.until ?? null
    const isSame = stored !== null && until === timeField(stored)
    return { boost: { limits: rowsIn(typed), until: isSame ? stored : timeOrNone(until) } }
  }),
  unboost: change('saved', () => ({ boost: null })),
  models: change('saved', ({ typed }) => ({ models: modelsIn(typed) })),
  'sign-out': change('signed-out', () => ({ notBefore: 'now' })),
  'sign-in': change('saved', () => ({ notBefore: null })),

  async block({ deps, stamp, user, typed }) {
    const { model = '', reason = '' } = typed
    if (!isScope(model)) throw again('Nothing was blocked: choose a model, or all models.')
    if (reason.length > REASON_CHARS) {
      throw again(`Nothing was blocked: the reason may have at most ${REASON_CHARS} characters.`)
    }
    const until = endOfBlock(typed, stamp.now)
    const block: Block = { at: stamp.now, ...(reason && { reason }), ...(until && { until }) }
    const command = { op: 'block', user, model, block, ...alertOfBlock(deps), ...stamp } as const
    await storeAnswer(storeOf(deps).execute(command))
    return { done: 'blocked' }
  },

  async unblock({ deps, stamp, user, profile, typed }) {
    const { model = '' } = typed
    // A block that is there can be lifted, whatever an older version or a migration named it.
    if (!isScope(model) && !Object.hasOwn(profile.blocks, model)) {
      throw again('Nothing was changed: choose a block of this user.')
    }
    const lift = { op: 'block', user, model, block: undefined, ...stamp } as const
    await storeAnswer(storeOf(deps).execute(lift))
    return { done: 'unblocked' }
  },

  async erase({ deps, stamp, user, typed }) {
    if (typed['sure'] !== 'yes') throw again('Nothing was erased: tick the box first.')
    await storeAnswer(storeOf(deps).execute({ op: 'erase', user, ...stamp }))
    return { done: 'erased' }
  },

  async reset({ deps, stamp, user, typed }) {
    const { window } = typed
    await resetUser(deps, stamp, user, fields(window ? { window } : {}, resetBody, RESET_REFUSAL))
    return { done: 'reset' }
  },

  async keys({ deps, stamp, user, typed }) {
    const { name, expires, next = '' } = typed
    const models = modelsIn(typed)
    const body = { userId: user, name: textOrNone(name), models, expires_at: timeOrNone(expires) }
    const kept = keptOf(fields(body, keyBody, CREATE_REFUSAL), stamp.now)
    if (!NEXT.test(next)) throw again('The form is not complete: load the page again.')
    const made = await createKey(deps, stamp, user, kept, next)
    if (made) return { secret: made.key }
    throw again(
      'This key was created before, and its secret is shown only once. Rotate the key to get another secret.',
    )
  },
}

/** When the block of a form ends; undefined for no end. */
function endOfBlock({ minutes = '', until }: Fields, now: number): number | undefined {
  if (!DURATIONS.some(([lasts]) => lasts === minutes)) {
    throw again('Nothing was blocked: choose one of the durations.')
  }
  if (!until) return minutes ? now + Number(minutes) * MINUTE_MS : undefined
  const end = Date.parse(`${until}Z`)
  if (end > now) return end
  throw again('Nothing was blocked: the end must be a time in the future, in UTC.')
}

/** The id of a key that is to be created. */
export const NEXT = /^[0-9A-Za-z]{8}$/

const again = (message: string) => new ApiError('invalid_request', message)

/** A form that changes a key by the body that it makes. */
const changeOfKey =
  (bodyOf: (asked: Asked) => object): Run =>
  async (asked) => {
    const { deps, stamp, user, id } = asked
    await changeKey(deps, stamp, { user, id }, fields(bodyOf(asked), keyChange, CHANGE_REFUSAL))
    return { done: 'saved' }
  }

/** The forms about a key. */
const KEY_FORMS: Record<string, Run> = {
  change: changeOfKey(({ id, profile, typed }) => {
    const { name, expires } = typed
    const end = timeOrNone(expires)
    // A field shows minutes. An end that nobody changed stays, also one that has passed.
    const shown = timeOrNone(timeField(own(profile.keys, id)?.expires ?? null))
    const isSame = end === shown || (end && shown && Date.parse(end) === Date.parse(shown))
    return {
      name: textOrNone(name),
      models: modelsIn(typed),
      ...(!isSame && { expires_at: end }),
    }
  }),
  disable: changeOfKey(() => ({ disabled: true })),
  enable: changeOfKey(() => ({ disabled: false })),

  async rotate({ deps, stamp, user, id, profile, typed }) {
    const body = { grace_seconds: numberOrNone(typed['grace']) ?? 0 }
    const asked = fields(body, rotation, ROTATE_REFUSAL)
    const key = own(profile.keys, id)
    if (key && key.last4 !== typed['last4']) {
      throw again(
        'This key was rotated before, and its secret is shown only once. Rotate it again to get another secret.',
      )
    }
    return { secret: (await rotateKey(deps, stamp, { user, id }, asked)).key }
  },

  async delete({ deps, stamp, user, id, typed }) {
    if (typed['sure'] !== 'yes') throw again('Nothing was deleted: tick the box first.')
    await deleteKey(deps, stamp, { user, id })
    return { done: 'key-deleted' }
  },
}

/** Runs a form of the page: leads back to the page, or shows it with a new key or with what is wrong. */
export const userFormHandler =
  (deps: Deps, admin: Admin) =>
  async (c: AppContext): Promise<Response> => {
    const { form = '', key: id } = c.req.param() as Record<string, string | undefined>
    const run = own(id === undefined ? FORMS : KEY_FORMS, form)
    if (!run) throw new ApiError('not_found', 'There is no such form.')
    const typed = await formOf(c)
    const { usage, profile } = await userOf(c, deps)
    const user = usage.id
    let result: Result
    try {
      result = await run({ deps, stamp: admin.stamp(c), user, profile, typed, id: id ?? '' })
    } catch (error) {
      const isWrong = error instanceof ApiError && error.code === 'invalid_request'
      if (!isWrong) throw error
      const name = id === undefined ? form : `${form}-${id}`
      return answerUser(c, deps, { refused: refusedForm(name, typed, error) })
    }
    if ('secret' in result) return answerUser(c, deps, result)
    if (result.done === 'blocked') deliverSoon(c, deps)
    return seeOther(c, `${await pathAfter(deps, user)}?done=${result.done}`)
  }

/** Where a form about a user leads. A user who has never called, and of whom nothing is left, has no page. */
export async function pathAfter(deps: Deps, user: string): Promise<string> {
  const left = await storeAnswer(storeOf(deps).user(user))
  const isKept = left && (lastActiveOf(left.usage) > 0 || endOfProfile(left.profile) > deps.now())
  return isKept ? `/admin/users/${user}` : '/admin'
}

/** The page of a form, whose address is below that of the user's page. */
export const toUserHandler = (c: AppContext): Response =>
  seeOther(c, `/admin/users/${encodeURIComponent(c.req.param('userId') ?? '')}`)
