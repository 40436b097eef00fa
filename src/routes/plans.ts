/** `/api/admin/plans`: named sets of limits. */
import type * as z from 'zod/mini'
import type { AppContext, Deps } from '../context.ts'
import { ApiError } from '../errors.ts'
import type { Admin, Stamp } from '../http/admin.ts'
import { jsonBody } from '../http/json-body.ts'
import { PLAN } from '../identity/jwt.ts'
import { MAX_TOKENS, PLANS, RUNNING_PER_USER } from '../ledger/capacity.ts'
import type { PlanDoc } from '../ledger/documents.ts'
import { planReport, plansReport } from '../reports/people.ts'
import { storeAnswer, storeOf } from '../store/required.ts'
import { storedNames, storedRows, refusalOf } from './fields.ts'
import { planBody } from './plans-schemas.ts'

/** How the fields of a plan must be, for messages. */
export const RIGHT_PLAN = {
  name: 'must be up to 32 small letters, digits and hyphens',
  maxCompletionTokens: `must be a whole number from 1 to ${MAX_TOKENS}, or null`,
  concurrentRequests: `must be a whole number from 1 to ${RUNNING_PER_USER}, or null`,
}
export const PLAN_REFUSAL = refusalOf(Object.keys(planBody.shape), RIGHT_PLAN)

/** `GET /api/admin/plans`. */
export const plansHandler =
  (deps: Deps) =>
  async (c: AppContext): Promise<Response> => {
    const policy = await storeAnswer(storeOf(deps).policy())
    return c.json({ plans: plansReport(policy, deps.config) })
  }

/** `GET /api/admin/plans/:name`. */
export const planHandler =
  (deps: Deps) =>
  async (c: AppContext): Promise<Response> => {
    const name = planInPath(c)
    const policy = await storeAnswer(storeOf(deps).policy())
    const plan = plansReport(policy, deps.config).find((one) => one.name === name)
    if (!plan) throw noPlan(name)
    return c.json(plan)
  }

/** `PUT /api/admin/plans/:name`: stores a plan, in place of the one that has the name. */
export const storePlanHandler =
  (deps: Deps, admin: Admin) =>
  async (c: AppContext): Promise<Response> => {
    const name = planInPath(c)
    const plan = planFrom(await jsonBody(c, planBody, PLAN_REFUSAL))
    await storePlan(deps, admin.stamp(c), name, plan)
    return c.json(planReport(name, plan))
  }

/** Stores a plan, in place of the one that has the name. */
export async function storePlan(
  deps: Deps,
  stamp: Stamp,
  name: string,
  plan: Omit<PlanDoc, 'v'>,
): Promise<void> {
  const command = { op: 'plan', name, plan, ...stamp } as const
  const answer = await storeAnswer(storeOf(deps).execute(command))
  if (answer.ok) return
  throw new ApiError('invalid_request', `There are ${PLANS} plans, the maximum; delete one.`, {
    param: 'name',
  })
}

/** `DELETE /api/admin/plans/:name`: users of the plan have the default one then. */
export const deletePlanHandler =
  (deps: Deps, admin: Admin) =>
  async (c: AppContext): Promise<Response> => {
    await deletePlan(deps, admin.stamp(c), planInPath(c))
    return c.json({ success: true })
  }

export async function deletePlan(deps: Deps, stamp: Stamp, name: string): Promise<void> {
  const command = { op: 'plan', name, ...stamp } as const
  const answer = await storeAnswer(storeOf(deps).execute(command))
  if (!answer.ok) throw noPlan(name)
}

/** A plan as it is stored. */
export function planFrom(body: z.infer<typeof planBody>): Omit<PlanDoc, 'v'> {
  const { limits, models, maxCompletionTokens, concurrentRequests } = body
  const plan: Omit<PlanDoc, 'v'> = { limits: storedRows(limits) }
  if (models) plan.models = storedNames(models)
  if (typeof maxCompletionTokens === 'number') plan.maxCompletionTokens = maxCompletionTokens
  if (typeof concurrentRequests === 'number') plan.concurrentRequests = concurrentRequests
  return plan
}

/** The name in the path. Throws `invalid_request`. */
const planInPath = (c: AppContext): string => planNamed(c.req.param('name') ?? '')

/** A name, if a plan can have it. Throws `invalid_request`. */
export function planNamed(name: string): string {
  if (PLAN.test(name)) return name
  throw new ApiError(
    'invalid_request',
    'The name of a plan has 1 to 32 characters: small letters, digits and hyphens, no hyphen first.',
    { param: 'name' },
  )
}

const noPlan = (name: string) =>
  new ApiError('not_found', `There is no plan \`${name}\`; GET /api/admin/plans lists them.`)
