/** The schemas of the routes for keys, users, plans, settings and policy. */
import * as z from 'zod/mini'
import { ALERT_FORMATS } from '../../src/config/alerts.ts'
import { KEY_ID } from '../../src/identity/issued-key.ts'
import { PLAN } from '../../src/identity/jwt.ts'
import { ALERT_TYPES } from '../../src/ledger/documents.ts'
import type { AlertReport } from '../../src/reports/alerts.ts'
import type {
  keyReport,
  planReport,
  profileReport,
  settingsReport,
  LimitRows,
} from '../../src/reports/people.ts'
import { limitLines } from './own-schemas.ts'
import { limitRows, userName } from '../../src/routes/fields-schemas.ts'
import { keyBody, keyChange, keysQuery, rotation } from '../../src/routes/keys-schemas.ts'
import { planBody } from '../../src/routes/plans-schemas.ts'
import { settingsBody } from '../../src/routes/settings-schemas.ts'
import { resetBody, userChange, usersQuery } from '../../src/routes/users-schemas.ts'
import { amount, count, dollars, named, say, sayOf, time, userId } from './words.ts'

const LIMITS =
  'By model, `*` for models without a row, and `total` for all models together. Null is no limit.'
const MODELS = 'Names of models, in which `*` stands for any characters. Null is all of them.'
const UNTIL = 'In the future: ISO 8601 with an offset, or epoch milliseconds.'
const LABEL = 'What admins see as the name of the user.'

const rows = (description: string): z.ZodMiniType<LimitRows> =>
  say(z.record(z.string(), z.record(z.string(), z.nullable(amount()))), description)
const models = () => say(z.nullable(z.array(z.string())), MODELS)

// Alerts.

const alertOf: z.ZodMiniType<AlertReport> = z.object({
  id: say(z.string(), 'The `webhook-id` of each attempt.'),
  type: z.enum(ALERT_TYPES),
  at: time(),
  text: say(z.string(), 'The alert as a sentence.'),
  data: say(
    z.record(z.string(), z.union([z.string(), z.number()])),
    'What the receiver gets as `data`.',
  ),
  state: z.enum(['pending', 'delivered', 'failed']),
  attempts: count(),
  lastStatus: say(z.nullable(z.number()), 'What the receiver answered last; 0 if it did not.'),
  lastAttemptAt: z.nullable(time()),
  nextAttemptAt: z.nullable(time()),
})
export const alert = named('Alert', alertOf)
export const alerts = named(
  'Alerts',
  z.object({
    format: say(z.nullable(z.enum(ALERT_FORMATS)), 'Null if no alerts are sent.'),
    alerts: z.array(alert),
  }),
)

// Requests.

named('Limits', limitRows, LIMITS)

const { user: _, userId: __, ...keyFields } = keyBody.shape
sayOf(keyBody, {
  name: 'A name for the key.',
  plan: 'The plan of the user.',
  label: LABEL,
  models: MODELS,
  expires_at: `When the key ends. ${UNTIL}`,
})
const ofName = z.strictObject({
  user: say(z.clone(userName), 'Your own name of the user.'),
  ...keyFields,
})
const ofId = z.strictObject({ userId: userId(), ...keyFields })
export const newKey = named(
  'NewKey',
  z.union([ofName, ofId]),
  'Whose key to make, and what it may do.',
)

named('KeyChange', keyChange, 'What a change does not name stays, and null clears.')
sayOf(keyChange, {
  name: 'A name for the key.',
  disabled: 'A disabled key is refused until it is enabled.',
  models: MODELS,
  expires_at: `When the key ends. ${UNTIL}`,
})
named('Rotation', rotation)
sayOf(rotation, { grace_seconds: 'How long the secret before stays valid.' })
sayOf(keysQuery, {
  userId: 'Only the keys of this user.',
  cursor: 'The `nextCursor` of an answer.',
})
sayOf(usersQuery, {
  user: 'Your own name of a user. The answer is this user.',
  q: 'The beginning of a word of a label or of an id, a whole token, your own name of a user, a key, or the id of a key.',
})
named('UserChange', userChange, 'What a change does not name stays, and null clears.')
sayOf(userChange, {
  label: LABEL,
  note: 'For admins.',
  plan: 'The plan of the user. One that is not stored counts as the default.',
  limits: `The user’s own limits, in place of all that were there. An absent limit is the plan’s. ${LIMITS}`,
  boost: 'What is added to limits, until a moment.',
  models: MODELS,
  notBefore: 'Signed tokens that were issued before this are refused; `now` is now.',
})
named('Reset', resetBody)
sayOf(resetBody, { window: 'Only this window.' })
named('NewPlan', planBody, 'A plan. It takes the place of one with the same name.')
sayOf(planBody, {
  limits: LIMITS,
  models: MODELS,
  maxCompletionTokens: 'The most completion tokens of a request.',
  concurrentRequests: 'The most requests that a user may have running.',
})
named('SettingsChange', settingsBody, 'What a change does not name stays, and null clears.')
sayOf(settingsBody, {
  globalLimits: 'The limits of everyone together, by model and `total`.',
  defaultPlan: 'The plan of users without one.',
})
export { keyChange, keysQuery, planBody, resetBody, rotation, settingsBody, userChange, usersQuery }

export const keyPath = z.object({
  keyId: say(
    z.string().check(z.regex(KEY_ID)),
    'The id of a key: that of its user, a dot, and its own.',
  ),
})
export const planPath = z.object({
  name: say(z.string().check(z.regex(PLAN)), 'The name of a plan.'),
})
export const userPath = z.object({ userId: userId() })

// Answers.

const keyShape = {
  id: say(z.string(), 'The id of the key. It stays through rotations.'),
  userId: userId(),
  name: z.nullable(z.string()),
  start: say(z.string(), 'The first characters of the key.'),
  last4: say(z.string(), 'The last characters of the key.'),
  createdAt: time(),
  expiresAt: z.nullable(time()),
  disabled: z.boolean(),
  models: models(),
  previousExpiresAt: say(
    z.nullable(time()),
    'Until when the secret before the last rotation is valid.',
  ),
  lastUsedAt: z.optional(
    say(z.nullable(time()), 'When it was used last; absent where only keys were read.'),
  ),
  monthCostUsd: z.optional(
    dollars(
      'Dollars that ended requests with the key were charged in this month, UTC; null if no price was known; absent where only keys were read.',
    ),
  ),
}
const keyAnswer: z.ZodMiniType<ReturnType<typeof keyReport>> = z.object(keyShape)
export const key = named('Key', keyAnswer, 'A key, without its secret.')
export const secretKey = named(
  'SecretKey',
  z.object({ key: say(z.string(), 'The key. No other answer has it.'), ...keyShape }),
  'A key that was just made.',
)
export const keys = named(
  'Keys',
  z.object({
    keys: z.array(key),
    nextCursor: say(z.nullable(z.string()), 'The `cursor` of the next page, if there is one.'),
  }),
)

const userAnswer: z.ZodMiniType<ReturnType<typeof profileReport>> = z.object({
  userId: userId(),
  label: say(z.nullable(z.string()), 'The name that an admin or a signed token gave the user.'),
  ownLabel: say(z.nullable(z.string()), 'The name that an admin gave the user.'),
  note: z.nullable(z.string()),
  plan: say(z.nullable(z.string()), 'The plan that an admin gave the user.'),
  effectivePlan: say(
    z.string(),
    'The plan that holds: that of an admin, else that of the token, else the default.',
  ),
  limits: rows('The user’s own limits.'),
  effectiveLimits: rows(
    'The limits that hold: those of the plan, with the user’s own and the boost.',
  ),
  boost: z.nullable(z.object({ limits: rows('What is added.'), until: time() })),
  models: models(),
  notBefore: say(z.nullable(time()), 'Signed tokens that were issued before are refused.'),
  blocks: z.array(
    z.object({
      model: say(z.string(), 'The name of a model, or `*` for all.'),
      at: time(),
      reason: z.nullable(z.string()),
      until: z.nullable(time()),
    }),
  ),
  keys: z.array(key),
  costs: say(
    z.record(z.string(), dollars('Null if no price was known.')),
    'Dollars charged in the current `month`, `week` and `day`, UTC, without what running requests reserve.',
  ),
  windows: say(
    limitLines,
    'What is left of each limit: of all models together, of models with a row, and of those that were used today.',
  ),
  ipAddress: say(z.nullable(z.string()), 'Stored as `IP_STORAGE` says.'),
  lastActive: say(z.nullable(time()), 'When a request last began or ended; null if none ever did.'),
})
export const user = named('User', userAnswer)
const found = named('FoundUsers', z.object({ users: say(z.array(user), 'At most 20.') }))
export const userOrFound = named('UserOrFound', z.union([user, found]))
export const imported = named(
  'ImportedUsers',
  z.object({
    success: z.literal(true),
    users: z.array(z.object({ user: z.string(), userId: userId() })),
  }),
)

const planAnswer: z.ZodMiniType<ReturnType<typeof planReport>> = z.object({
  name: z.string(),
  limits: rows(LIMITS),
  models: models(),
  maxCompletionTokens: z.nullable(count()),
  concurrentRequests: z.nullable(count()),
  stored: say(z.boolean(), 'False for `default` while it has the limits of the environment.'),
})
export const plan = named('Plan', planAnswer)
export const plans = named('Plans', z.object({ plans: z.array(plan) }))

const settingsAnswer: z.ZodMiniType<ReturnType<typeof settingsReport>> = z.object({
  globalLimits: say(z.nullable(rows('')), 'As an admin stored them.'),
  defaultPlan: say(z.nullable(z.string()), 'As an admin stored it.'),
  effectiveGlobalLimits: rows('What holds: those that are stored, else those of the environment.'),
  effectiveDefaultPlan: z.string(),
})
export const settings = named('Settings', settingsAnswer)

export const restored = named(
  'RestoredPolicy',
  z.object({ success: z.literal(true), plans: count(), users: count() }),
)
