/** What a route says where there is no store, or where it does not answer. */
import type { Deps } from '../context.ts'
import { ApiError } from '../errors.ts'
import type { FallbackStore } from '../store/fallback.ts'
import { NewerError, StoreError } from '../store/store.ts'

/** The store, or `not_configured`. */
export function storeOf({ store }: Pick<Deps, 'store'>): FallbackStore {
  if (store) return store
  throw new ApiError('not_configured', 'This gateway has no database yet: see its start-up log.')
}

/** What the store answers, or `store_unavailable`: that it does not, or cannot, is no fault of the caller's. */
export async function answered<T>(answer: Promise<T>): Promise<T> {
  try {
    return await answer
  } catch (cause) {
    if (!(cause instanceof StoreError)) throw cause
    const message =
      cause instanceof NewerError
        ? 'A newer version of Weir has written what this would change; update this one.'
        : 'The database does not answer; try again soon.'
    throw new ApiError('store_unavailable', message, { cause })
  }
}
