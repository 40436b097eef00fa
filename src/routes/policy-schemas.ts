/** The lines of a saved policy. */
import * as z from 'zod/mini'
import { KEYS_PER_USER } from '../ledger/capacity.ts'
import { VERSION } from '../ledger/shapes.ts'
import {
  amountRows,
  keyName,
  label,
  limitRows,
  modelList,
  note,
  planName,
  userId,
} from './fields-schemas.ts'
import { planBody } from './plans-schemas.ts'
import { settingsBody } from './settings-schemas.ts'

/** A SHA-256 in base64url. */
const hash = z.string().check(z.regex(/^[\w-]{43}$/))
const time = z.int().check(z.nonnegative())
const keyPart = z.string().check(z.regex(/^[\w-]{1,16}$/))

const savedKey = z.strictObject({
  id: z.string().check(z.regex(/^[0-9A-Za-z]{8}$/)),
  hash,
  start: keyPart,
  last4: keyPart,
  name: z.optional(keyName),
  createdAt: time,
  expiresAt: z.optional(time),
  disabled: z.optional(z.literal(true)),
  models: z.optional(modelList),
  previous: z.optional(z.strictObject({ hash, until: time })),
})

/** A migration may have left other names and longer reasons than the API takes. */
const savedBlock = z.strictObject({
  model: z.string(),
  at: time,
  reason: z.optional(z.string()),
  until: z.optional(time),
})

const v = z.int().check(z.positive(), z.maximum(VERSION))

export const planLine = z.strictObject({
  v,
  kind: z.literal('plan'),
  name: planName,
  ...planBody.shape,
})
export const settingsLine = z.strictObject({
  v,
  kind: z.literal('settings'),
  ...settingsBody.shape,
})
export const userLine = z.strictObject({
  v,
  kind: z.literal('user'),
  userId,
  label: z.optional(label),
  note: z.optional(note),
  plan: z.optional(planName),
  limits: limitRows,
  boost: z.optional(z.strictObject({ limits: amountRows, until: time })),
  models: z.optional(modelList),
  notBefore: z.optional(z.int()),
  blocks: z.array(savedBlock),
  keys: z.array(savedKey).check(z.maxLength(KEYS_PER_USER)),
})

export type PlanLine = z.infer<typeof planLine>
export type SettingsLine = z.infer<typeof settingsLine>
export type UserLine = z.infer<typeof userLine>
