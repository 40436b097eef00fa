/** The bodies of the admin routes. */
import * as z from 'zod/mini'
import type { Misfit } from '../http/json-body.ts'
import { LABEL_CHARS, PLAN, USER_CHARS } from '../identity/jwt.ts'
import { REASON_CHARS } from '../views/user-blocks.tsx'
import { moment, userId } from './fields-schemas.ts'

/** Half a surrogate pair cannot be written as UTF-8. */
const WHOLE = /^\P{Cs}*$/u

export const blockBody = z.strictObject({
  userId,
  model: z.string(),
  blocked: z.boolean(),
  reason: z.optional(z.string().check(z.maxLength(REASON_CHARS), z.regex(WHOLE))),
  until: z.optional(moment),
})

export const BLOCK_REFUSAL: Misfit = {
  param: 'userId',
  message: (param) =>
    `\`${param}\` is wrong: send {userId, model ("*" for all), blocked, reason?, until? (ISO time or epoch ms)}.`,
}

/** How long a token may last, in seconds. */
const LASTS = { least: 60, most: 86_400 }

export const tokenBody = z.strictObject({
  user: z.string().check(z.minLength(1), z.maxLength(USER_CHARS), z.regex(WHOLE)),
  plan: z.optional(z.string().check(z.regex(PLAN))),
  label: z.optional(z.string().check(z.maxLength(LABEL_CHARS), z.regex(WHOLE))),
  expires_in: z.int().check(z.minimum(LASTS.least), z.maximum(LASTS.most)),
})

export const TOKEN_REFUSAL: Misfit = {
  param: 'user',
  message: (param) =>
    `\`${param}\` is wrong: send {user (1 to ${USER_CHARS} characters), plan? (a-z, 0-9 and -, at most 32), ` +
    `label? (at most ${LABEL_CHARS} characters), expires_in (${LASTS.least} to ${LASTS.most} seconds)}.`,
}

export const loginBody = z.object({ key: z.string() })

export const LOGIN_REFUSAL: Misfit = {
  param: 'key',
  message: () => 'Send the admin key: {"key": "…"}.',
}
