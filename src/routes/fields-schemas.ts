/** Fields that several bodies of the admin API have. */
import * as z from 'zod/mini'
import { MAX_LIMIT, MAX_SECONDS, MAX_USD, isLimit } from '../config/limits.ts'
import { LABEL_CHARS, PLAN, USER_CHARS } from '../identity/jwt.ts'
import { LIMITS } from '../ledger/policy.ts'
import type { Unit } from '../ledger/units.ts'
import { MODEL_NAME } from '../metering/models.ts'
import { USER_ID } from './user-query.ts'

/** The amounts of limits: whole numbers, and dollars. */
const amount = z.int().check(z.nonnegative(), z.maximum(MAX_LIMIT))
const seconds = z.int().check(z.nonnegative(), z.maximum(MAX_SECONDS))
const dollars = z.number().check(
  z.nonnegative(),
  z.maximum(MAX_USD),
  z.refine((usd) => isLimit(usd, 'usdPerDay')),
)

/** The units whose amounts differ. */
const AMOUNTS: Partial<Record<Unit, z.ZodMiniType<number, number>>> = {
  usd: dollars,
  audioSeconds: seconds,
}

/** The longest names and notes, in characters. */
const NAME_CHARS = 100
const NOTE_CHARS = 2000

/** A user's documents are read with each of their requests, so rows and lists stay short. */
export const MOST_ROWS = 64

/** Half a surrogate pair cannot be written as UTF-8. */
const TEXT = /^\P{Cs}*$/u
/** One line with something to see in it. */
const LINE = /^(?=.*\S)[^\p{Cc}\p{Cs}]*$/u

/** A name of a model, in which `*` stands for any characters. */
const MODEL_GLOB = /^[A-Za-z0-9*][A-Za-z0-9._:/*-]{0,127}$/

/** A name of a model, or `*`. */
const ROW_NAME = new RegExp(MODEL_NAME.source.replace(/^\^(.*)\$$/, String.raw`^(?:\*|$1)$`))

export const userId = z.string().check(z.regex(USER_ID))
/** The application's own name of a user. */
export const userName = z.string().check(z.minLength(1), z.maxLength(USER_CHARS), z.regex(TEXT))
export const planName = z.string().check(z.regex(PLAN))
export const keyName = z.string().check(z.maxLength(NAME_CHARS), z.regex(LINE))
export const label = z.string().check(z.maxLength(LABEL_CHARS), z.regex(LINE))
export const note = z.string().check(z.maxLength(NOTE_CHARS), z.regex(TEXT))
export const modelList = z
  .array(z.string().check(z.regex(MODEL_GLOB)))
  .check(z.maxLength(MOST_ROWS))

/** Epoch ms, or ISO 8601. */
export const moment = z.union([
  z.int(),
  z.iso.datetime({ offset: true }),
  // RFC 3339 requires seconds, ISO 8601 does not.
  z.iso.datetime({ offset: true, precision: -1 }),
])

const rowsOf = <T extends z.ZodMiniType<number | null>>(
  of: (amount: z.ZodMiniType<number, number>) => T,
  name: RegExp = ROW_NAME,
) =>
  z
    .record(
      z.string().check(z.regex(name)),
      z.strictObject(
        Object.fromEntries(
          LIMITS.map(({ name, unit }) => [name, z.optional(of(AMOUNTS[unit] ?? amount))]),
        ),
      ),
    )
    .check(z.refine((rows) => Object.keys(rows).length <= MOST_ROWS))

/** Limits by model, `*` for models without a row, and `total` for all models together; null is no limit. */
export const limitRows = rowsOf(z.nullable)
/** The same without `*`: everyone's use of a model is only counted where a row names it. */
export const globalRows = rowsOf(z.nullable, MODEL_NAME)
/** The same with numbers only: what a boost adds. */
export const amountRows = rowsOf((amount) => amount)
