/** `/admin/plans`: the page of all plans, and its forms. */
import type { AppContext, Deps } from '../context.ts'
import { ApiError } from '../errors.ts'
import type { Admin, Stamp } from '../http/admin.ts'
import { formOf } from '../http/form.ts'
import { fields } from '../http/json-body.ts'
import { DEFAULT_PLAN } from '../ledger/plans.ts'
import { own } from '../ledger/records.ts'
import { plansReport } from '../reports/people.ts'
import { storeAnswer, storeOf } from '../store/required.ts'
import type { Fields, Refused } from '../views/form.tsx'
import { plansPage } from '../views/plans.tsx'
import { answerPage, seeOther } from './answer-page.ts'
import { frameOf, framed } from './dashboard-frame.tsx'
import { isRefresh } from './dashboard-refresh.ts'
import { knownModels, modelsIn, numberOrNone, refusedForm, rowsIn } from './form-fields.ts'
import { PLAN_REFUSAL, deletePlan, planNamed, planFrom, storePlan } from './plans.ts'
import { planBody } from './plans-schemas.ts'

/** Answers with the page. */
export const plansPageHandler =
  (deps: Deps) =>
  (c: AppContext): Response | Promise<Response> =>
    isRefresh(c) ? c.body(null, 304) : answerPlans(c, deps)

async function answerPlans(c: AppContext, deps: Deps, refused?: Refused): Promise<Response> {
  const { policy, days } = await framed(deps)
  const page = plansPage({
    ...frameOf(c, deps, days),
    still: true,
    plans: plansReport(policy, deps.config),
    defaultPlan: policy.settings?.defaultPlan ?? DEFAULT_PLAN,
    names: knownModels(deps.config),
    refused,
  })
  return answerPage(c, page, refused ? 400 : 200)
}

type Run = (deps: Deps, stamp: Stamp, typed: Fields) => Promise<string>

/** Stores the plan that was typed. */
async function save(deps: Deps, stamp: Stamp, typed: Fields): Promise<string> {
  const name = planNamed(typed['name'] ?? '')
  const body = {
    limits: rowsIn(typed),
    models: modelsIn(typed),
    maxCompletionTokens: numberOrNone(typed['maxCompletionTokens']),
    concurrentRequests: numberOrNone(typed['concurrentRequests']),
  }
  await storePlan(deps, stamp, name, planFrom(fields(body, planBody, PLAN_REFUSAL)))
  return 'saved'
}

/** The forms of the page. Each answers the name of a notice. */
const FORMS: Record<string, Run> = {
  save,

  async new(deps, stamp, typed) {
    const { plans } = await storeAnswer(storeOf(deps).policy())
    const { name = '' } = typed
    if (name === DEFAULT_PLAN || Object.hasOwn(plans, name)) {
      throw new ApiError(
        'invalid_request',
        `There is a plan ${name}: edit it, or choose another name.`,
      )
    }
    return save(deps, stamp, typed)
  },

  async delete(deps, stamp, { name = '', sure }) {
    if (sure !== 'yes') {
      throw new ApiError('invalid_request', 'Nothing was deleted: tick the box first.')
    }
    await deletePlan(deps, stamp, planNamed(name))
    return 'plan-deleted'
  },
}

/** Runs a form of the page: leads back to the page, or shows it with what is wrong. */
export const plansFormHandler =
  (deps: Deps, admin: Admin) =>
  async (c: AppContext): Promise<Response> => {
    const form = c.req.param('form') ?? ''
    const run = own(FORMS, form)
    if (!run) throw new ApiError('not_found', 'There is no such form.')
    const typed = await formOf(c)
    try {
      return seeOther(c, `/admin/plans?done=${await run(deps, admin.stamp(c), typed)}`)
    } catch (error) {
      if (!(error instanceof ApiError) || error.code !== 'invalid_request') throw error
      const name = form === 'new' ? form : `${form}-${typed['name'] ?? ''}`
      return answerPlans(c, deps, refusedForm(name, typed, error))
    }
  }
