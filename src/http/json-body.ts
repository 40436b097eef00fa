/**
 * The JSON bodies of our own routes. Bodies for upstream are read by src/gateway/body-json.ts, because their bytes must
 * not change.
 */
import { zValidator } from '@hono/zod-validator'
import type * as z from 'zod/mini'
import type { AppContext } from '../context.ts'
import { ApiError } from '../errors.ts'
import { checkJson, parseBody } from '../gateway/body-json.ts'
import { uncompressed } from './uncompressed.ts'

/** The `invalid_request` for a body that does not fit its schema. */
export type Misfit = {
  /** The `param` if the schema names no field. */
  param: string
  message: (param: string) => string
  /** No body at all counts as `{}`. */
  mayBeEmpty?: true
}

/** The longest `param`, in characters: the names in it may come from the client. */
const PARAM_CHARS = 200

/**
 * Reads the body of an admin's request: an object in UTF-8 with each top-level key once. Its Content-Type is ignored,
 * because curl sends the one of a form by default. Throws `invalid_json`, `invalid_request`, `unsupported_encoding`.
 */
export async function jsonBody<T>(
  c: AppContext,
  schema: z.ZodMiniType<T>,
  refusal: Misfit,
): Promise<T> {
  uncompressed(c)
  const bytes = new Uint8Array(await c.req.arrayBuffer())
  const isNone = bytes.length === 0 && refusal.mayBeEmpty === true
  return fields(isNone ? {} : parseBody(bytes), schema, refusal)
}

/** A value in its schema. Throws an `invalid_request` that names the first wrong or unknown field. */
export function fields<T>(value: unknown, schema: z.ZodMiniType<T>, refusal: Misfit): T {
  const read = schema.safeParse(value)
  if (read.success) return read.data
  throw refused(read.error, refusal)
}

/**
 * Middleware that reads the body of a page's request, for `c.req.valid('json')`. A body with a Content-Type other
 * than JSON counts as `{}`, so that pages of other origins need a preflight. Throws `invalid_request`,
 * `unsupported_encoding`; JSON that is malformed becomes `invalid_json` in src/errors.ts.
 */
export function pageJsonBody<S extends z.ZodMiniType>(schema: S, refusal: Misfit) {
  const validate = zValidator('json', schema, (result) => {
    if (!result.success) throw refused(result.error, refusal)
  })
  const checked: typeof validate = async function pageJsonBody(c, next) {
    uncompressed(c)
    const isJson = /json/i.test(c.req.header('content-type') ?? '')
    if (isJson) checkJson(new Uint8Array(await c.req.arrayBuffer()))
    return validate(c, next)
  }
  return checked
}

function refused(error: z.core.$ZodError, { param: byDefault, message }: Misfit): ApiError {
  const [issue] = error.issues
  const unknown = issue?.code === 'unrecognized_keys' ? issue.keys.slice(0, 1) : []
  const path = [...(issue?.path ?? []), ...unknown].map(String).join('.')
  const param = (path || byDefault).slice(0, PARAM_CHARS)
  return new ApiError('invalid_request', message(param), { param })
}
