/** The bodies of the admin routes. */
import * as z from 'zod/mini'
import type { Refusal } from '../http/json-body.ts'
import { REASON_CHARS } from '../views/user-blocks.tsx'
import { USER_ID } from './user-query.ts'

export const blockBody = z.strictObject({
  userId: z.string().check(z.regex(USER_ID)),
  model: z.string(),
  blocked: z.boolean(),
  // Half a surrogate pair cannot be written as UTF-8.
  reason: z.optional(z.string().check(z.maxLength(REASON_CHARS), z.regex(/^\P{Cs}*$/u))),
  until: z.optional(
    z.union([
      z.int(),
      z.iso.datetime({ offset: true }),
      // RFC 3339 requires seconds, ISO 8601 does not.
      z.iso.datetime({ offset: true, precision: -1 }),
    ]),
  ),
})

export const BLOCK_REFUSAL: Refusal = {
  param: 'userId',
  message: (param) =>
    `\`${param}\` is wrong: send {userId, model ("*" for all), blocked, reason?, until? (ISO time or epoch ms)}.`,
}

export const loginBody = z.object({ key: z.string() })

export const LOGIN_REFUSAL: Refusal = {
  param: 'key',
  message: () => 'Send the admin key: {"key": "…"}.',
}
