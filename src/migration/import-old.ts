/** Without a database: replaces the old system's file by a file of Weir. */
import { rename } from 'node:fs/promises'
import { acquireLock } from '../store/local/lock.ts'
import { removeTemporary } from '../store/local/private-file.ts'
import { StoreError } from '../store/store.ts'
import { freezeOld, type OldFileOptions } from './freeze-old.ts'
import {
  importedOf,
  isOldFile,
  isSameFile,
  migratingOf,
  readFrozen,
  retire,
  stampOf,
} from './frozen.ts'
import type { MigrationReport } from './report.ts'

/**
 * Replaces the old system's array at `file` by a snapshot for the local store. The array gets the suffix `.migrated`.
 * Continues after a crash. Returns undefined if there is nothing to do. Throws `StoreError`.
 */
export async function importOld(options: OldFileOptions): Promise<MigrationReport | undefined> {
  const { file } = options
  if (await stampOf(migratingOf(file))) {
    throw new StoreError(
      `${file} is partly migrated to a database; configure that database again, or remove ${migratingOf(file)}`,
    )
  }
  const copy = importedOf(file)
  if (!(await stampOf(copy)) && !(await isOldFile(file))) return undefined
  const lock = await acquireLock(`${file}.lock`)
  try {
    await removeTemporary(file)
    let frozen = await readFrozen(copy)
    const old = await isOldFile(file)
    if (old && !(frozen && isSameFile(frozen.source, await stampOf(file)))) {
      frozen = await freezeOld(options, copy)
    }
    // The previous owner of the lock may have done everything.
    if (!frozen) return undefined
    await lock.verify()
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
