/** Schemas of what admins do first: log in, block a user, make a token. */
import { named, say, time, sayOf, ANY_MODEL, userId } from './words.ts'
import * as z from 'zod/mini'
import { blockBody, tokenBody } from '../../src/routes/admin-schemas.ts'

// The admin.

export const login = named('Login', z.object({ key: say(z.string(), 'The admin key.') }))
export const loggedIn = named('LoggedIn', z.object({ success: z.literal(true), expiresAt: time() }))
export const session = named(
  'Session',
  z.object({
    authenticated: z.boolean(),
    expiresAt: z.optional(time()),
    name: z.optional(say(z.string(), 'The name of the admin.')),
    role: z.optional(z.enum(['admin', 'viewer'])),
  }),
)

export const erased = named(
  'Erased',
  z.object({
    success: z.literal(true),
    found: say(z.boolean(), 'Whether any data of that user was stored.'),
  }),
)

named('Block', blockBody, 'Blocks a user; with `blocked: false` unblocks them.')
sayOf(blockBody, {
  userId: 'The id in the list of users.',
  model: { description: 'The name of a model, or `*` for all.', pattern: ANY_MODEL },
  reason: 'Told to the user.',
  until:
    'In the future: ISO 8601 with an offset, or epoch milliseconds. Without it, the block has no end.',
})

named('TokenOfUser', tokenBody, 'Whose token to make.')
sayOf(tokenBody, {
  user: 'The application’s own name of the user.',
  plan: 'The plan of the user.',
  label: 'What admins see as the user’s name.',
  expires_in: 'Seconds until the token ends.',
})

export const tokenAnswer = named(
  'Token',
  z.object({
    token: say(z.string(), 'A user token. Nothing else ever has it.'),
    userId: userId(),
    expiresAt: time(),
  }),
)
