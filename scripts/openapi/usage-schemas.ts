/** Schemas of `GET /api/admin/usage` and of the export. */
import {
  sayOf,
  userId,
  say,
  time,
  dollars,
  count,
  left,
  date,
  amount,
  named,
  type Schema,
} from './words.ts'
import { userQuery } from '../../src/routes/user-query.ts'
import { exportQuery } from '../../src/routes/export-schemas.ts'
import * as z from 'zod/mini'
import type { userReport, modelStats, daysReport } from '../../src/reports/usage.ts'
import type { Event, Audit } from '../../src/ledger/events.ts'
import { AUDIT_ID_CHARS } from '../../src/ledger/capacity.ts'
import type { StoreHealth } from '../../src/store/fallback/store.ts'
import type { refusedReport, RefusalLine } from '../../src/reports/refusals.ts'
import { UNITS } from '../../src/ledger/units.ts'
import type { TagStats } from '../../src/reports/tags.ts'

sayOf(userQuery, {
  sort: 'By last activity, or by tokens today, the largest first.',
  limit: 'How many users.',
  cursor: 'The `nextCursor` of an answer of the same `sort`.',
  q: 'The id of a user; only this user is returned.',
  tag: 'Only events with this tag, among the latest 1,000.',
})
sayOf(exportQuery, {
  kind: 'What to export. Users are exported with today’s counts, the least recently active first.',
  from: 'The first day in UTC. Without it, the first day that is kept.',
  to: 'The last day in UTC. Without it, today.',
  group:
    'Makes an invoice: sums of the days, of `kind=users` by user, by user and day or by user and model, of `kind=days` by day, by model or by tag.',
  tag: 'Only events with this tag.',
  format: 'Columns for a spreadsheet, or a JSON object a line.',
})

const userUsage: z.ZodMiniType<ReturnType<typeof userReport>> = z.object({
  userId: userId(),
  label: say(z.nullable(z.string()), 'The name that an admin or a signed token gave the user.'),
  plan: say(z.string(), 'The plan of the user.'),
  ipAddress: say(z.nullable(z.string()), 'Stored as `IP_STORAGE` says.'),
  lastActive: say(z.nullable(time()), 'When a request last began or ended; null if none ever did.'),
  monthCostUsd: dollars(
    'Dollars charged in this month, UTC, without what running requests reserve; null if no price was known.',
  ),
  models: z.array(
    z.object({
      model: say(
        z.string(),
        'The name of a model, or `*` for a block or limit of all models together.',
      ),
      tokensUsedDay: count(
        'Tokens charged today, including the reservations of requests that have not ended.',
      ),
      tokensRemainingDay: left(),
      requestsDay: count(),
      exact: count('Requests that ended with a usage report.'),
      estimated: count(
        'Requests without a usage report or with a cut answer; their charge is estimated.',
      ),
      failed: count('Requests that the provider refused or did not answer.'),
      running: count('Admitted requests that have not ended.'),
      lost: count('Requests that did not end within their time limit.'),
      reservedTokens: count(
        'Reservations of requests that have not ended, part of `tokensUsedDay`.',
      ),
      overReservation: count('Tokens that the provider reported beyond the reservations.'),
      audioSecondsDay: say(z.number(), 'Seconds of audio charged today, reservations included.'),
      charactersDay: count('Characters charged today that were spoken, reservations included.'),
      costUsd: dollars(
        'Dollars charged today, as recorded when they were charged, without what running requests reserve; null if no price was known.',
      ),
      reportedTokensDay: say(z.nullable(count()), 'Reported by the user’s browser.'),
      reportedRequestsDay: z.nullable(count()),
      blocked: z.boolean(),
      blockReason: z.nullable(z.string()),
      blockedUntil: z.nullable(time()),
    }),
  ),
})

const stats: z.ZodMiniType<ReturnType<typeof modelStats>[number]> = z.object({
  model: z.string(),
  tokensUsedDay: count(),
  tokensRemainingDay: say(z.nullable(count()), 'Tokens left under `GLOBAL_LIMITS`.'),
  requestsDay: count(),
  totalTokensUsed: count('Over the days of `STATS_RETENTION_DAYS`.'),
  totalRequests: count(),
  activeUsers: count('Users with an answer today.'),
  audioSecondsDay: say(z.number(), 'Seconds of audio charged today.'),
  charactersDay: count('Characters charged today that were spoken.'),
  costUsd: dollars('Dollars charged today; null if no price was known.'),
  totalCostUsd: dollars('Dollars charged over the days of `STATS_RETENTION_DAYS`.'),
  lastUpdated: time(),
})

const day: z.ZodMiniType<ReturnType<typeof daysReport>[number]> = z.object({
  date: date(),
  requests: count('Requests that have ended.'),
  exact: count(),
  estimated: count(),
  failed: count(),
  charged: count(),
  prompt: count(),
  cached: count('Part of `prompt`.'),
  completion: count(),
  overReservation: count(),
  costUsd: dollars('What `charged` cost, in dollars; null if no price was known.'),
  audioSeconds: say(z.number(), 'Seconds of audio that were transcribed.'),
  characters: count('Characters that were spoken.'),
  users: count('Users with an answer.'),
  hours: say(z.record(z.string(), count()), 'Tokens by hour in UTC, 0 to 23.'),
  at: time('When the day last changed.'),
})

const nano = (description: string) =>
  say(z.string().check(z.regex(/^\d+$/)), `${description} Billionths of a dollar, as digits.`)

const event: z.ZodMiniType<Event> = z.object({
  v: count('The version of this document.'),
  id: say(z.uuid(), 'The `x-weir-id` of the answer.'),
  at: time(),
  user: userId(),
  tag: say(z.optional(z.string()), 'The `x-weir-tag` of the request.'),
  session: z.optional(z.string()),
  key: z.optional(
    say(z.string(), 'The key by which the user was known: its own id, without that of the user.'),
  ),
  route: z.string(),
  model: z.string(),
  outcome: z.enum(['exact', 'estimated', 'failed']),
  status: say(z.int(), 'The HTTP status that the client got.'),
  prompt: z.optional(count()),
  completion: z.optional(count()),
  total: z.optional(count()),
  cached: z.optional(count()),
  reasoning: z.optional(count()),
  error: z.optional(say(z.string(), 'The code of the provider’s error, where it told one.')),
  mismatch: z.optional(
    say(z.literal(true), 'The total of the provider was not prompt + completion.'),
  ),
  reserved: count('Tokens charged in advance.'),
  charged: count('Tokens: what the provider reported, or an estimate.'),
  reservedCost: z.optional(nano('What `reserved` costs.')),
  cost: z.optional(nano('What `charged` cost; absent if no price was known.')),
  reservedAudioMs: z.optional(count('Milliseconds of audio that were reserved.')),
  audioMs: z.optional(count('Milliseconds of audio that were charged.')),
  reservedCharacters: z.optional(count('Characters that were reserved.')),
  characters: z.optional(count('Characters that were charged.')),
  ttfbMs: z.optional(count('To the first byte of the provider.')),
  totalMs: count(),
  late: z.optional(z.literal(true)),
})

const audit: z.ZodMiniType<Audit> = z.object({
  v: count('The version of this document.'),
  at: time(),
  action: z.enum([
    'login',
    'failed login',
    'logout',
    'block',
    'unblock',
    'erase',
    'clear',
    'export',
    'user',
    'reset',
    'plan',
    'delete plan',
    'settings',
    'create key',
    'change key',
    'rotate key',
    'delete key',
    'make token',
    'test alert',
  ]),
  user: z.optional(say(z.string(), `The first ${AUDIT_ID_CHARS} characters of a user id.`)),
  model: z.optional(z.string()),
  what: z.optional(
    say(z.string(), 'What was changed: names of fields, of a plan, of a window, or of a key.'),
  ),
  reason: z.optional(z.string()),
  until: z.optional(time()),
  ip: z.optional(z.string()),
  by: z.optional(say(z.string(), 'The name of the admin.')),
  times: z.optional(count('Failed logins in a row, within an hour.')),
})

export const health = {
  degraded: say(z.boolean(), 'The database is down, and the gateway works without it.'),
  queued: count('Events that wait for the database.'),
  reason: z.optional(say(z.string(), 'Why the database cannot be used, in its own words.')),
  evicts: z.optional(
    say(z.string(), 'The `maxmemory-policy` by which the database may remove counts and blocks.'),
  ),
  stopping: z.optional(say(z.literal(true), 'The instance is about to end.')),
} satisfies Record<keyof StoreHealth, Schema>

const refusedLine: z.ZodMiniType<ReturnType<typeof refusedReport>> = z.object({
  id: say(z.uuid(), 'The `x-weir-id` of the answer.'),
  at: time(),
  user: userId(),
  code: say(z.string(), 'The code of the error.'),
  model: z.string(),
  tag: z.optional(z.string()),
  limit: z.optional(
    say(
      z.object({
        of: say(z.string(), '`user`, `everyone` or `unverified`.'),
        model: say(z.string(), 'The name of a model, or `*` for all of them together.'),
        unit: z.enum(UNITS),
        window: z.string(),
        limit: amount('Dollars where the unit is usd.'),
        used: amount('With what running requests reserve.'),
        asked: amount(),
      }),
      'The limit that refused the request.',
    ),
  ),
})

const refusalCount: z.ZodMiniType<RefusalLine> = z.object({
  date: date(),
  code: say(z.string(), 'The code of the error.'),
  model: say(z.string(), 'The name of a model; `?` for one that nobody has used, or none.'),
  count: count(),
})

const tagStat: z.ZodMiniType<TagStats> = z.object({
  tag: z.string(),
  requestsDay: count(),
  tokensUsedDay: count(),
  costUsd: amount('Dollars, of models with a price.'),
  totalRequests: count(),
  totalTokensUsed: count(),
  totalCostUsd: amount(),
})
export const usageAnswer = named(
  'Usage',
  z.object({
    users: z.array(named('UserUsage', userUsage)),
    stats: z.array(named('ModelStats', stats)),
    days: say(z.array(named('Day', day)), 'The days of `STATS_RETENTION_DAYS` with usage.'),
    quotas: say(
      z.record(
        z.string(),
        z.object({
          tokens: count(),
          requests: count(),
          usd: amount('Dollars.'),
          audioSeconds: z.optional(amount('Seconds of audio.')),
          characters: z.optional(count('Characters that were spoken.')),
        }),
      ),
      'Today’s use of `GLOBAL_LIMITS` by model, and `*` for all, including the reservations of running requests.',
    ),
    tags: say(
      z.array(named('TagStats', tagStat)),
      'What requests with each `x-weir-tag` used and cost, over the same days.',
    ),
    events: say(z.array(named('Event', event)), 'The newest first.'),
    audit: say(z.array(named('Audit', audit)), 'Actions of admins, the newest first.'),
    refusals: say(
      z.array(named('RefusalCount', refusalCount)),
      'How many requests were refused on the days of `STATS_RETENTION_DAYS`, as well as it is known.',
    ),
    refused: say(
      z.array(named('RefusedRequest', refusedLine)),
      'The latest refused requests of users who have called before, at most one of a user, code and minute.',
    ),
    nextCursor: say(z.nullable(z.string()), 'The `cursor` of the next page, if there is one.'),
    ...health,
    timestamp: time(),
  }),
)
