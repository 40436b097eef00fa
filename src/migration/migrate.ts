/** A usage file into the database: ours or the old system's, each record exactly once. */
import { readFile, unlink } from 'node:fs/promises'
import type { Import } from '../store/import.ts'
import { openLocal, type State } from '../store/local.ts'
import { acquireLock } from '../store/lock.ts'
import { StoreError } from '../store/store.ts'
import { backOff } from './back-off.ts'
import { CHUNK, queueOf, usersOf, type ChunkSize } from './chunks.ts'
import { freezeOld, type OldFileOptions } from './freeze-old.ts'
import {
  digestOf,
  importedOf,
  isOldFile,
  migratingOf,
  readFrozen,
  retire,
  stampOf,
  writeFrozen,
  type Frozen,
} from './frozen.ts'
import { importOld } from './import-old.ts'
import type { Report } from './report.ts'

export type MigrateOptions = OldFileOptions & {
  target: Import
  warn(event: string, fields: Record<string, unknown>): void
  /** Ends the migration between two chunks; it can be gone on with later. */
  signal?: AbortSignal
  /** How much goes into the database at once, at most. */
  chunk?: ChunkSize
}

/** After so many attempts in a row at the same part it is said that live traffic is in the way. */
const MISSES_TOLD = 20

const journalOf = (file: string) => `${file}.journal`

/** Whether there is anything to move, or to go on moving. */
export async function canMigrate(file: string): Promise<boolean> {
  const paths = [file, migratingOf(file), importedOf(file)]
  if ((await Promise.all(paths.map(stampOf))).some((stamp) => stamp)) return true
  return ((await stampOf(journalOf(file)))?.size ?? 0) > 0
}

/**
 * Moves the file into the database, going on where a crash or an error has left it; undefined when there is nothing to move.
 * The file gets the suffix `.migrated`. Nothing is written anywhere before the database has answered. Throws `StoreError`.
 */
export async function migrateFile(options: MigrateOptions): Promise<Report | undefined> {
  const { file, target } = options
  const copy = migratingOf(file)
  try {
    await target.progress('none')
    if (!(await stampOf(copy))) {
      if (await stampOf(importedOf(file))) await importOld(options)
      if (!(await isOldFile(file)) && (await canMigrate(file))) await fold(options)
    }
    const lock = await acquireLock(`${file}.lock`)
    try {
      // The one that had the lock before may have done it all.
      if (!(await canMigrate(file))) return undefined
      const begun = await readFrozen(copy)
      const frozen = begun ?? (await freeze(options, copy))
      const known = await bringAll(options, frozen)
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
 * Brings all of it into the database. Where live traffic is faster, less goes in at once: a part is read and written in
 * two calls, and the fewer users it has, the fewer requests come in between. True when all of it was there already.
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
 * Takes the journal into the snapshot. By its clock nothing has aged, so that the same files become the same bytes
 * whenever that is done; what has aged is left out on the way into the database.
 */
async function fold({ file, retention, warn }: MigrateOptions): Promise<void> {
  await (await openLocal({ file, retention, now: () => 0, warn })).close()
}

async function freeze(options: MigrateOptions, copy: string): Promise<Frozen> {
  const { file } = options
  if (await isOldFile(file)) return freezeOld(options, copy)
  const [source, journal] = [await stampOf(file), await stampOf(journalOf(file))]
  // Only the one that has the lock may say that a journal is empty.
  if (!source || journal?.size) throw new StoreError(`${file} is in use`)
  const { state } = JSON.parse(await readFile(file, 'utf8')) as { state: State }
  const records = usersOf(state).length + state.days.length + state.events.length
  const report: Report = { records, leftOut: 0, damaged: 0, positions: [] }
  const frozen: Frozen = { state, id: await digestOf(file), source, report }
  await writeFrozen(copy, frozen)
  return frozen
}
