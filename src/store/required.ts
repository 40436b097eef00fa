/** The errors of a route if there is no store, or if the store does not answer. */
import { ApiError } from '../errors.ts'
import type { FallbackStore } from './fallback/store.ts'
import { NewerError, StoreError } from './store.ts'

/** Returns the store. Throws `not_configured`. */
export function storeOf({ store }: { store: FallbackStore | undefined }): FallbackStore {
  if (store) return store
  throw new ApiError('not_configured', 'This gateway has no database yet: see its start-up log.')
}

/** Returns the store's answer. Throws `store_unavailable` for any `StoreError`, since the caller did not cause it. */
export async function storeAnswer<T>(answer: Promise<T>): Promise<T> {
  try {
    return await answer
  } catch (cause) {
    if (!(cause instanceof StoreError)) throw cause
    const message =
      cause instanceof NewerError
        ? 'A newer version of Weir has written the data that this call would change; update this instance.'
        : 'The database does not answer; try again soon.'
    throw new ApiError('store_unavailable', message, { cause })
  }
}
