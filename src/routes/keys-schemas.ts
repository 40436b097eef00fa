/** The bodies of the routes of keys. */
import * as z from 'zod/mini'
import { DAY_MS, SECOND_MS } from '../ledger/windows.ts'
import { keyName, label, modelList, moment, planName, userId, userName } from './fields-schemas.ts'

/** How long the previous secret may stay valid after a rotation. */
export const MAX_GRACE_SECONDS = (30 * DAY_MS) / SECOND_MS

export const keyBody = z.strictObject({
  user: z.optional(userName),
  userId: z.optional(userId),
  name: z.optional(z.nullable(keyName)),
  plan: z.optional(planName),
  label: z.optional(label),
  models: z.optional(z.nullable(modelList)),
  expires_at: z.optional(z.nullable(moment)),
})

export const keyChange = z.strictObject({
  name: z.optional(z.nullable(keyName)),
  disabled: z.optional(z.boolean()),
  models: z.optional(z.nullable(modelList)),
  expires_at: z.optional(z.nullable(moment)),
})

export const rotation = z.strictObject({
  grace_seconds: z._default(z.int().check(z.nonnegative(), z.maximum(MAX_GRACE_SECONDS)), 0),
})

/** `cursor` is the user of the last key. */
export const keysQuery = z.strictObject({
  userId: z.optional(userId),
  cursor: z.optional(userId),
})
