/** What callers are told about their own use, in the OpenAPI document. */
import * as z from 'zod/mini'
import { UNITS } from '../../src/ledger/units.ts'
import { WINDOW_NAMES } from '../../src/ledger/windows.ts'
import type { keyShape, ownUsage } from '../../src/reports/own-usage.ts'
import { amount, named, say, time, userId } from './words.ts'

/** A limit, with what is used and left of it. */
export const limitLines = z.array(
  z.object({
    model: say(z.string(), 'The name of a model, or `*` for all of them together.'),
    unit: z.enum(UNITS),
    window: z.enum(WINDOW_NAMES),
    limit: amount('Dollars where the unit is usd.'),
    used: amount(),
    reserved: amount('What running requests have reserved.'),
    remaining: amount(),
    resetAt: time(),
  }),
)

const usage: z.ZodMiniType<ReturnType<typeof ownUsage>> = z.object({
  userId: userId(),
  label: z.nullable(z.string()),
  plan: z.string(),
  blocked: z.array(
    z.object({
      model: say(z.string(), 'The name of a model, or `*` for all.'),
      reason: z.nullable(z.string()),
      until: z.nullable(time()),
    }),
  ),
  limits: say(
    limitLines,
    'Each limit: of all models together, of models with a row, of those that were used today, and of the default model.',
  ),
})
export const ownUsageAnswer = named('OwnUsage', usage)

const keyData: z.ZodMiniType<ReturnType<typeof keyShape>> = z.object({
  label: z.string(),
  limit: say(
    z.nullable(amount()),
    'Dollars: of the limits over all models together, the one with the least left.',
  ),
  limit_remaining: z.nullable(amount()),
  limit_reset: z.nullable(say(z.string(), 'daily, weekly or monthly.')),
  usage: amount('Dollars on the days that are kept.'),
  usage_daily: amount(),
  usage_weekly: amount(),
  usage_monthly: amount(),
  is_free_tier: z.boolean(),
  expires_at: z.nullable(z.iso.datetime()),
  byok_usage: say(
    z.number(),
    'From here on, what OpenRouter’s clients require. It is always the same.',
  ),
  byok_usage_daily: z.number(),
  byok_usage_weekly: z.number(),
  byok_usage_monthly: z.number(),
  include_byok_in_limit: z.boolean(),
  is_management_key: z.boolean(),
  is_provisioning_key: z.boolean(),
  creator_user_id: z.null(),
  organization_id: z.null(),
  workspace_id: z.null(),
  allowed_data_regions: z.array(z.string()),
  free_model_daily_requests: z.object({
    limit: z.number(),
    used: z.number(),
    remaining: z.number(),
  }),
  rate_limit: z.object({ requests: z.number(), interval: z.string(), note: z.string() }),
})
export const keyShapeAnswer = named('OwnKey', z.object({ data: keyData }))
