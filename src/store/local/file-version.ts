/** The versions of the local store's files that this build can read. */
import { OLDEST, VERSION } from '../../ledger/shapes.ts'
import { StoreError } from '../store.ts'

/** Throws `StoreError` for a version that this build cannot read; the file is left unchanged. */
export function checkVersion(path: string, v: number): void {
  if (v > VERSION) throw isNewer(path)
  if (v < OLDEST) {
    throw new StoreError(
      `${path} was written by a version of Weir from before the first release; move it away to start without usage`,
    )
  }
}

export const isNewer = (path: string): StoreError =>
  new StoreError(`${path} was written by a newer version of Weir; update this one`)
