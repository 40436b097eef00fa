/** Actions on a user: block, unblock and erase. */
import type { AppContext, Deps } from '../context.ts'
import { ApiError } from '../errors.ts'
import type { Admin } from '../http/admin.ts'
import { jsonBody } from '../http/json-body.ts'
import type { Block } from '../ledger/documents.ts'
import { isScope } from '../metering/models.ts'
import { storeAnswer, storeOf } from '../store/required.ts'
import { BLOCK_REFUSAL, blockBody } from './admin-schemas.ts'
import { alertOfBlock, deliverSoon } from './alerts.ts'
import { userInPath } from './user-name.ts'

/** `POST /api/admin/usage`: blocks a user or lifts a block. */
export const blockHandler =
  (deps: Deps, admin: Admin) =>
  async (c: AppContext): Promise<Response> => {
    const body = await jsonBody(c, blockBody, BLOCK_REFUSAL)
    const { userId, model, blocked, reason } = body
    if (!isScope(model)) {
      throw new ApiError(
        'invalid_request',
        '`model` must be the name of a model, or "*" for all.',
        {
          param: 'model',
        },
      )
    }
    const at = deps.now()
    const until = body.until === undefined ? undefined : new Date(body.until).getTime()
    if (until !== undefined && !(until > at)) {
      throw new ApiError('invalid_request', '`until` must be in the future.', { param: 'until' })
    }
    const block: Block = { at, reason, until }
    await storeAnswer(
      storeOf(deps).execute({
        op: 'block',
        ...admin.stamp(c),
        user: userId,
        model,
        block: blocked ? block : undefined,
        ...alertOfBlock(deps),
      }),
    )
    if (blocked) deliverSoon(c, deps)
    return c.json({ success: true })
  }

/** `DELETE /api/admin/users/:userId`: erases a user's data. Totals still include their usage. */
export const eraseHandler =
  (deps: Deps, admin: Admin) =>
  async (c: AppContext): Promise<Response> => {
    const user = userInPath(c)
    const store = storeOf(deps)
    const known = await storeAnswer(store.user(user))
    // Also without a user document: events and queued usage may still exist.
    await storeAnswer(store.execute({ op: 'erase', user, ...admin.stamp(c) }))
    return c.json({ success: true, found: known !== undefined })
  }
