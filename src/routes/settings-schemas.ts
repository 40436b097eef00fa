/** The body of the settings. */
import * as z from 'zod/mini'
import { globalRows, planName } from './fields-schemas.ts'

export const settingsBody = z.strictObject({
  globalLimits: z.optional(z.nullable(globalRows)),
  defaultPlan: z.optional(z.nullable(planName)),
})
