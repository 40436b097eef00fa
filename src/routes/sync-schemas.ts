/** The body of a browser's report. */
import * as z from 'zod/mini'
import type { Misfit } from '../http/json-body.ts'
import { MODELS_PER_USER } from '../ledger/capacity.ts'
import { MODEL_NAME } from '../metering/models.ts'

/** More than a person uses in a day; sums of such amounts stay exact. */
const amount = z.int().check(z.nonnegative(), z.maximum(1_000_000_000_000))
const window = z.object({ tokens: amount, requests: amount, resetAt: z.int() })

export const syncBody = z.object({
  userToken: z.optional(z.string()),
  // Older clients send it. It is ignored, because the platform knows the real address.
  ipAddress: z.optional(z.nullable(z.string())),
  modelUsage: z
    .record(
      z.string().check(z.regex(MODEL_NAME)),
      z.object({ minute: z.optional(window), day: window }),
    )
    .check(z.refine((usage) => Object.keys(usage).length <= MODELS_PER_USER)),
})

export const SYNC_REFUSAL: Misfit = {
  param: 'modelUsage',
  message: (param) =>
    `\`${param}\` is wrong: send JSON {userToken?, modelUsage: {MODEL: {minute?, day: {tokens, requests, resetAt}}}} ` +
    `with whole numbers and at most ${MODELS_PER_USER} models.`,
}
