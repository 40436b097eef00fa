/** The bodies of the routes of users. */
import * as z from 'zod/mini'
import { WINDOW_NAMES } from '../ledger/windows.ts'
import {
  amountRows,
  label,
  limitRows,
  modelList,
  moment,
  note,
  planName,
  userName,
} from './fields-schemas.ts'

/** The longest search. An issued key is shorter. */
const SEARCH_CHARS = 512

export const usersQuery = z.strictObject({
  user: z.optional(userName),
  q: z.optional(z.string().check(z.minLength(1), z.maxLength(SEARCH_CHARS))),
})

const boost = z.strictObject({ limits: amountRows, until: moment })

export const userChange = z.strictObject({
  label: z.optional(z.nullable(label)),
  note: z.optional(z.nullable(note)),
  plan: z.optional(z.nullable(planName)),
  limits: z.optional(z.nullable(limitRows)),
  boost: z.optional(z.nullable(boost)),
  models: z.optional(z.nullable(modelList)),
  notBefore: z.optional(z.nullable(z.union([z.literal('now'), moment]))),
})

export const resetBody = z.strictObject({ window: z.optional(z.enum(WINDOW_NAMES)) })

/** A row of an import. An empty cell changes nothing. */
export const importRow = z.strictObject({
  user: userName,
  label: z.optional(label),
  plan: z.optional(planName),
})
