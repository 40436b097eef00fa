/** The names and descriptions of schemas, and the fields that many schemas have. */
import * as z from 'zod/mini'
import { MODEL_NAME } from '../../src/metering/models.ts'
import { USER_ID } from '../../src/routes/user-query.ts'

export type Schema = z.core.$ZodType
type Words = {
  id?: string
  description?: string
  pattern?: string
  maxProperties?: number
}

/** The names of schemas, and descriptions of schemas and fields. */
export const words = z.registry<Words>()

export function say<T extends Schema>(schema: T, told: string | Words): T {
  const added = typeof told === 'string' ? { description: told } : told
  words.add(schema, { ...words.get(schema), ...added })
  return schema
}

export const sayOf = <S extends Record<string, Schema>>(
  { shape }: { shape: S },
  told: { [field in keyof S]?: string | Words },
): void => {
  for (const [field, schema] of Object.entries(shape)) say(schema, told[field] ?? {})
}

export const named = <T extends Schema>(id: string, schema: T, description?: string): T =>
  say(schema, { id, ...(description !== undefined && { description }) })

export const count = (description?: string) => {
  const schema = z.int().check(z.nonnegative())
  return description === undefined ? schema : say(schema, description)
}
/** A whole number, or dollars. */
export const amount = (description?: string) => {
  const schema = z.number().check(z.nonnegative())
  return description === undefined ? schema : say(schema, description)
}
/** Dollars with at most nine decimals; null if tokens were charged and no price was known. */
export const dollars = (description: string) => say(z.nullable(amount()), description)
export const time = (description?: string) =>
  say(z.int(), [description, 'Epoch milliseconds.'].filter(Boolean).join(' '))
export const left = () =>
  say(z.nullable(count()), 'Tokens left under the tightest limit of the day; null without a limit.')
export const date = () => say(z.iso.date(), 'A day in UTC.')
export const model = () => say(z.string().check(z.regex(MODEL_NAME)), 'The name of a model.')
export const userId = () =>
  say(
    z.string().check(z.regex(USER_ID)),
    'A keyed hash of the user token, or of the name of the user that it proves.',
  )

/** The name of a model, or `*` for all of them. */
export const ANY_MODEL = MODEL_NAME.source.replace(/^\^(.*)\$$/, String.raw`^(?:\*|$1)$`)

/** A file of lines. */
export const text = z.string()

export const success = named('Success', z.object({ success: z.literal(true) }))

export const STORAGE = z.enum(['database', 'file', 'none'])
