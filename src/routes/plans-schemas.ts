/** The body of a plan. */
import * as z from 'zod/mini'
import { MAX_TOKENS, RUNNING_PER_USER } from '../ledger/capacity.ts'
import { limitRows, modelList } from './fields-schemas.ts'

export const planBody = z.strictObject({
  limits: limitRows,
  models: z.optional(z.nullable(modelList)),
  maxCompletionTokens: z.optional(z.nullable(z.int().check(z.minimum(1), z.maximum(MAX_TOKENS)))),
  concurrentRequests: z.optional(
    z.nullable(z.int().check(z.minimum(1), z.maximum(RUNNING_PER_USER))),
  ),
})
