/** Database calls whose errors reveal no data, and scripts that the database may no longer have cached. */
import type { Redis } from '@upstash/redis'
import { RefusedError, StoreError } from '../store.ts'
import { withoutValues } from './words.ts'

/**
 * Rejects only with a `StoreError`. The client's errors contain the whole command with its values, so only their kind
 * is kept.
 */
export async function guard<T>(call: () => Promise<T>): Promise<T> {
  try {
    return await call()
  } catch (error) {
    if (error instanceof StoreError) throw error
    const kind = error instanceof Error ? error.name : 'unknown'
    const code = error instanceof Error && /^[A-Z][A-Z\d_]*\b/.exec(error.message)?.[0]
    throw new StoreError(`the database call failed (${kind}${code ? `, ${code}` : ''})`, {
      reason: code || kind,
    })
  }
}

/**
 * The same as `guard`, for a call that contains no data of a user: if the database answers with an error, it rejects
 * with a `RefusedError` that has the text of the answer.
 */
export const guardInWords = <T>(call: () => Promise<T>): Promise<T> =>
  guard(async () => {
    try {
      return await call()
    } catch (error) {
      throw (isReply(error) && new RefusedError(withoutValues(error.message))) || error
    }
  })

/** Whether an error is an answer of the database: a code, and a text. */
const isReply = (error: unknown): error is Error =>
  error instanceof Error &&
  (error.name === 'UpstashError' || error.name === 'ConnectionError') &&
  /^[A-Z][A-Z\d_]* ./.test(error.message)

/** A guarded call whose answer is a list. */
export const list = <T>(call: () => Promise<T[]>): Promise<T[]> =>
  guard(async () => {
    const items = await call()
    if (!Array.isArray(items)) throw new Error('not a list')
    return items
  })

/** The part of a client that runs scripts. */
export type Scripts = Pick<Redis, 'evalsha' | 'eval'>

/** A script that is sent by its digest. The whole text is sent only if the database does not know the digest. */
export function scriptOf(text: string) {
  let sha: string | undefined
  return async <T>(redis: Scripts, keys: string[], args: string[]): Promise<T> => {
    sha ??= await sha1(text)
    try {
      return await redis.evalsha<string[], T>(sha, keys, args)
    } catch (error) {
      if (!(error instanceof Error && error.message.includes('NOSCRIPT'))) throw error
      return redis.eval<string[], T>(text, keys, args)
    }
  }
}

async function sha1(text: string): Promise<string> {
  const digest = await crypto.subtle.digest('SHA-1', new TextEncoder().encode(text))
  return [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, '0')).join('')
}
