/** Moves a usage file of Weir or of the old system into the database, each record exactly once. */
import { unlink } from 'node:fs/promises'
import type { Import } from '../store/redis/import.ts'
import { openLocal } from '../store/local/store.ts'
import { acquireLock } from '../store/local/lock.ts'
import { removeTemporary } from '../store/local/private-file.ts'
import { StoreError } from '../store/store.ts'
import { backOff } from './back-off.ts'
import { CHUNK, queueOf, userPartsOf, type ChunkSize } from './chunks.ts'
import { freezeOld, type OldFileOptions } from './freeze-old.ts'
import {
  digestOf,
  importedOf,
  isOldFile,
  migratingOf,
  readFrozen,
  readState,
  retire,
  stampOf,
  writeFrozen,
  type Frozen,
} from './frozen.ts'
import { importOld } from './import-old.ts'
import type { MigrationReport } from './report.ts'

export type MigrateOptions = OldFileOptions & {
  target: Import
  warn(event: string, fields: Record<string, unknown>): void
  /** Ends the migration between two chunks. It can be continued later. */
  signal?: AbortSignal
  /** The most data that one step imports. */
  chunk?: ChunkSize
}

/** After this many failed attempts at the same chunk, a warning says that live traffic is in the way. */
const MISSES_TOLD = 20

const journalOf = (file: string) => `${file}.journal`

/** Whether there is a migration to begin or to continue. */
export async function canMigrate(file: string): Promise<boolean> {
  const paths = [file, migratingOf(file), importedOf(file)]
  if ((await Promise.all(paths.map(stampOf))).some((stamp) => stamp)) return true
  return ((await stampOf(journalOf(file)))?.size ?? 0) > 0
}

/**
 * Moves the file into the database, and continues after a crash or an error. Returns undefined if there is nothing to
 * move. The file gets the suffix `.migrated`. Nothing is written before the database has answered. Throws
 * `StoreError`.
 */
export async function migrateFile(options: MigrateOptions): Promise<MigrationReport | undefined> {
  const { file, target } = options
  const copy = migratingOf(file)
  try {
    await target.progress('none')
    if (!(await stampOf(copy))) {
      if (await stampOf(importedOf(file))) await importOld(options)
      if (!(await isOldFile(file)) && (await canMigrate(file))) await fold(options)
    }
    const lock = await acquireLock(`${file}.lock`, { signal: options.signal })
    try {
      await removeTemporary(file)
      // The previous owner of the lock may have done everything.
      if (!(await canMigrate(file))) return undefined
      const begun = await readFrozen(copy)
      const frozen = begun ?? (await freeze(options, copy))
      const known = await bringAll(options, frozen)
      await lock.verify()
      const report = await retire(file, copy, frozen)
      await unlink(copy)
      return known && !begun ? { ...report, records: 0, leftOut: 0, before: true } : report
    } finally {
      await lock.release()
    }
  } catch (cause) {
    if (cause instanceof StoreError) throw cause
    throw new StoreError(`cannot migrate ${file}`, { cause })
  }
}

/**
 * Imports everything. A chunk is read and written in two calls; if live traffic changes its users in between, smaller
 * chunks are tried. True if everything had been imported before.
 */
async function bringAll(options: MigrateOptions, { state, id }: Frozen): Promise<boolean> {
  const { file, target, warn, signal, chunk: most = CHUNK } = options
  const queue = queueOf(state)
  let done = await target.progress(id)
  const known = done > 0 && done >= queue.length
  let { items } = most
  let misses = 0
  while (done < queue.length) {
    if (signal?.aborted) throw new StoreError('the migration was stopped')
    const chunk = queue.from(done, { ...most, items })
    const isLast = done + chunk.items.length === queue.length
    const next = await target.bring(id, done, chunk, isLast)
    if (next !== done) {
      done = next
      items = Math.min(items * 2, most.items)
      misses = 0
      continue
    }
    misses += 1
    items = Math.ceil(chunk.items.length / 2)
    if (misses % MISSES_TOLD === 0) warn('migration.contended', { file, misses })
    await backOff(misses, signal)
  }
  return known
}

/**
 * Folds the journal into the snapshot. The clock is 0, so that nothing expires and the same files always give the
 * same bytes. The import leaves out expired data.
 */
async function fold({ file, retention, warn }: MigrateOptions): Promise<void> {
  await (await openLocal({ file, retention, now: () => 0, warn })).close()
}

async function freeze(options: MigrateOptions, copy: string): Promise<Frozen> {
  const { file } = options
  if (await isOldFile(file)) return freezeOld(options, copy)
  const [source, journal] = [await stampOf(file), await stampOf(journalOf(file))]
  // Another process may still write to the journal.
  if (!source || journal?.size) throw new StoreError(`${file} is in use`)
  const { state } = await readState(file)
  const records = userPartsOf(state).length + state.days.length + state.events.length
  const report: MigrationReport = { records, leftOut: 0, damaged: 0, positions: [] }
  const frozen: Frozen = { state, id: await digestOf(file), source, report }
  await writeFrozen(copy, frozen)
  return frozen
}
