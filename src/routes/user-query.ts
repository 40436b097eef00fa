/** The users that a request asks for: `?sort&limit&cursor&q&tag`. */
import * as z from 'zod/mini'
import { TAG } from '../gateway/tag.ts'
import { ApiError } from '../errors.ts'
import { parseCursor } from '../store/cursor.ts'
import type { Cursor } from '../store/store.ts'

const USERS = 50
const MOST_USERS = 200

export const USER_ID = /^[\w-]{22}$/

export const userQuery = z.object({
  sort: z._default(z.enum(['lastActive', 'tokens']), 'lastActive'),
  limit: z._default(z.coerce.number().check(z.int(), z.minimum(1), z.maximum(MOST_USERS)), USERS),
  cursor: z.optional(z.string()),
  q: z.optional(z.string().check(z.regex(USER_ID))),
  tag: z.optional(z.string().check(z.regex(TAG))),
})

export type AskedUsers = {
  sort: 'lastActive' | 'tokens'
  limit: number
  from: Cursor | undefined
  /** The id of a single user. */
  q?: string | undefined
  /** Of the events. */
  tag?: string | undefined
}

/** Reads the query of a URL. Throws `invalid_request`. */
export function readUserQuery(query: Record<string, string>): AskedUsers {
  const { success, data } = userQuery.safeParse(query)
  const from = data?.cursor === undefined ? undefined : parseCursor(data.cursor)
  const fits = from ? 'offset' in from === (data?.sort === 'tokens') : data?.cursor === undefined
  if (success && fits) {
    const { sort, limit, q, tag } = data
    return { sort, limit, from, q, tag }
  }
  throw new ApiError(
    'invalid_request',
    `\`sort\` must be lastActive or tokens, \`limit\` 1 to ${MOST_USERS}, \`cursor\` a nextCursor of the same sort, \`q\` a user id, and \`tag\` a tag, as in x-weir-tag.`,
  )
}
