/** Without a database: the old system's file becomes one of ours, in its place. */
import { rename } from 'node:fs/promises'
import { acquireLock } from '../store/lock.ts'
import { StoreError } from '../store/store.ts'
import { freezeOld, type OldFileOptions } from './freeze-old.ts'
import {
  importedOf,
  isOldFile,
  isSame,
  migratingOf,
  readFrozen,
  retire,
  stampOf,
} from './frozen.ts'
import type { Report } from './report.ts'

/**
 * Turns an array of the old system at `file` into a snapshot, which the local store can open then; the array gets the suffix
 * `.migrated`. Goes on where a crash has left it; undefined when there is nothing to do. Throws `StoreError`.
 */
export async function importOld(options: OldFileOptions): Promise<Report | undefined> {
  const { file } = options
  if (await stampOf(migratingOf(file))) {
    throw new StoreError(
      `${file} is half way into a database; configure that again, or remove ${migratingOf(file)}`,
    )
  }
  const copy = importedOf(file)
  if (!(await stampOf(copy)) && !(await isOldFile(file))) return undefined
  const lock = await acquireLock(`${file}.lock`)
  try {
    let frozen = await readFrozen(copy)
    const old = await isOldFile(file)
    if (old && !(frozen && isSame(frozen.source, await stampOf(file)))) {
      frozen = await freezeOld(options, copy)
    }
    // The one that had the lock before may have done it all.
    if (!frozen) return undefined
    const report = await retire(file, copy, frozen)
    await rename(copy, file)
    return report
  } catch (cause) {
    if (cause instanceof StoreError) throw cause
    throw new StoreError(`cannot import ${file}`, { cause })
  } finally {
    await lock.release()
  }
}
