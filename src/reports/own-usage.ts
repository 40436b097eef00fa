/** What a caller is told of their own use: pure functions from documents to answers. */
import type { Config } from '../config/config.ts'
import { filter } from '../ledger/records.ts'
import { isInForce } from '../ledger/blocks.ts'
import { rowsOf, whole } from '../ledger/rows.ts'
import { labelOf } from '../ledger/labels.ts'
import { usdOf } from '../ledger/money.ts'
import { limitsOfUser, type Policy } from '../ledger/plans.ts'
import { usedIn } from '../ledger/policy.ts'
import { ALL_MODELS, type Key } from '../ledger/documents.ts'
import type { Window } from '../ledger/windows.ts'
import type { WholeUser } from '../store/store.ts'
import { heldBy } from './costs.ts'
import { windowsReport } from './people.ts'

type Terms = {
  config: Pick<Config, 'limits' | 'defaultModel'>
  policy: Policy
  /** What the caller's signed token says. */
  claims?: { plan?: string; label?: string } | undefined
}

/** The user with what their token says now, which holds for their next request. */
const withClaims = <T extends WholeUser>(user: T, claims: Terms['claims']): T =>
  claims
    ? {
        ...user,
        usage: {
          ...user.usage,
          ...(claims.plan !== undefined && { plan: claims.plan }),
          ...(claims.label !== undefined && { label: claims.label }),
        },
      }
    : user

/**
 * The use against each limit: of all models together (`*`), of models with a row, of those that were used today, and of the
 * default model. What running requests reserve is apart from what is used.
 */
export function ownUsage(known: WholeUser, { config, policy, claims }: Terms, at: number) {
  const user = withClaims(known, claims)
  const { usage, profile } = user
  const { plan, limits } = limitsOfUser(config.limits, user, policy, at)
  const blocks = filter(profile.blocks, (block) => isInForce(block, at))
  return {
    userId: profile.id,
    label: labelOf(user) ?? null,
    plan,
    blocked: Object.entries(blocks).map(([model, { reason, until }]) => ({
      model,
      reason: reason ?? null,
      until: until ?? null,
    })),
    limits: windowsReport(usage, limits, at, [config.defaultModel]),
  }
}

/** How OpenRouter names windows: https://openrouter.ai/docs/api-reference/limits */
const RESETS: Partial<Record<Window, string>> = { month: 'monthly', week: 'weekly', day: 'daily' }

/** What OpenRouter's clients require, and Weir does not have. */
const NOT_OURS = {
  byok_usage: 0,
  byok_usage_daily: 0,
  byok_usage_weekly: 0,
  byok_usage_monthly: 0,
  include_byok_in_limit: false,
  is_management_key: false,
  is_provisioning_key: false,
  creator_user_id: null,
  organization_id: null,
  workspace_id: null,
  allowed_data_regions: ['global'],
  free_model_daily_requests: { limit: 0, used: 0, remaining: 0 },
  rate_limit: { requests: -1, interval: '10s', note: 'This field is deprecated.' },
}

/**
 * The same in the shape of OpenRouter's `GET /api/v1/key`, which meters read:
 * https://openrouter.ai/docs/api/api-reference/api-keys/get-current-key Amounts are dollars. There is one limit in it,
 * over all models: of those of the caller, the one with the least left, since that one stops them. If the caller has no
 * such limit, it is null, even if limits of single models are in dollars.
 */
export function keyShape(
  known: WholeUser,
  { config, policy, claims, key }: Terms & { key?: Key | undefined },
  at: number,
) {
  const user = withClaims(known, claims)
  const { usage, past } = user
  const { limits } = limitsOfUser(config.limits, user, policy, at)
  const held = heldBy(usage, ALL_MODELS, at)
  const spent = (window: Window) =>
    usdOf(usedIn(usage.windows, window, at).usd - (held[window]?.usd ?? 0))
  const [limit] = windowsReport(usage, limits, at)
    .filter(({ model, unit, window }) => model === ALL_MODELS && unit === 'usd' && RESETS[window])
    .sort((a, b) => a.remaining - b.remaining)
  const days = [rowsOf(usage), ...Object.values(past.days)].flatMap(Object.values).map(whole)
  const all = days.reduce((sum, { cost, reservedCost }) => sum + cost - reservedCost, 0)
  return {
    label: key ? `${key.start}...${key.last4}` : (labelOf(user) ?? user.profile.id),
    limit: limit?.limit ?? null,
    limit_remaining: limit?.remaining ?? null,
    limit_reset: (limit && RESETS[limit.window]) ?? null,
    usage: usdOf(all),
    usage_daily: spent('day'),
    usage_weekly: spent('week'),
    usage_monthly: spent('month'),
    is_free_tier: false,
    expires_at: key?.expires === undefined ? null : new Date(key.expires).toISOString(),
    ...NOT_OURS,
  }
}
