/** Database calls whose errors reveal no data, and scripts that the database may no longer have cached. */
import type { Redis } from '@upstash/redis'
import { StoreError } from '../store.ts'

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
    throw new StoreError(`the database call failed (${kind}${code ? `, ${code}` : ''})`)
  }
}

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
