/**
 * The frozen copy of a usage file: all data to be moved. It is written before anything is moved, so that a process
 * that continues after a crash moves the same data.
 *
 * It is a snapshot of the local store, with its origin.
 */
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { chmod, rename, stat } from 'node:fs/promises'
import { OLDEST, VERSION } from '../ledger/shapes.ts'
import { OWNER_ONLY } from '../store/local/private-file.ts'
import { readSnapshot, writeSnapshot } from '../store/local/snapshot.ts'
import { emptyState, type State } from '../store/local/state.ts'
import { unusable } from '../store/local/lock.ts'
import { StoreError } from '../store/store.ts'
import type { MigrationReport } from './report.ts'

/** The size and time of a file when it was read. */
export type FileStamp = { size: number; mtimeMs: number }

export type Frozen = {
  state: State
  /** The id of the migration: the digest of the file, so that the same bytes are never imported twice. */
  id: string
  source: FileStamp
  report: MigrationReport
}

/** The path of the frozen copy during the migration into a database. */
export const migratingOf = (file: string) => `${file}.migrating`

/** Its path without a database, until it replaces the old file. */
export const importedOf = (file: string) => `${file}.imported`

/** The stamp of the file at a path; undefined if there is none. Throws `StoreError`. */
export async function stampOf(path: string): Promise<FileStamp | undefined> {
  try {
    const { size, mtimeMs } = await stat(path)
    return { size, mtimeMs }
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException
    // ENOTDIR: a parent of the path is a file, so there is nothing at the path.
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined
    throw unusable('read', path, cause)
  }
}

export const isSameFile = (one: FileStamp | undefined, other: FileStamp | undefined): boolean =>
  one?.size === other?.size && one?.mtimeMs === other?.mtimeMs

/** The digest of a file's contents. */
export async function digestOf(path: string): Promise<string> {
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(path) as AsyncIterable<Buffer>) hash.update(chunk)
  return hash.digest('base64url')
}

/** Whether the file is an array of the old system; false if there is no file. */
export async function isOldFile(file: string): Promise<boolean> {
  if (!(await stampOf(file))) return false
  for await (const chunk of createReadStream(file, { end: 4095 })) {
    return /^\uFEFF?\s*\[/.test(String(chunk))
  }
  return false
}

/** Writes the copy in one atomic step. */
export async function writeFrozen(path: string, { state, ...origin }: Frozen): Promise<void> {
  await writeSnapshot(path, { seq: 0, origin }, state)
}

/** The copy; undefined if there is none. Throws `StoreError` if it cannot be read. */
export async function readFrozen(path: string): Promise<Frozen | undefined> {
  if (!(await stampOf(path))) return undefined
  try {
    const { head, state } = await readState(path, ({ v }) => {
      if (Number(v) > VERSION) {
        throw new StoreError(`${path} was written by a newer version of Weir; update this one`)
      }
      if (!(Number(v) >= OLDEST)) throw new Error('not a copy of this version')
    })
    return { ...(head.origin as Omit<Frozen, 'state'>), state }
  } catch (cause) {
    if (cause instanceof StoreError) throw cause
    const advice = 'remove it to begin the migration again'
    throw new StoreError(`${path} cannot be read; ${advice}`, { cause })
  }
}

/** What a snapshot contains. Throws if the file is not a snapshot, or if `check` throws. */
export async function readState(path: string, check = (_: Record<string, unknown>): void => {}) {
  let head: Record<string, unknown> = {}
  const state: Record<string, unknown[]> = emptyState()
  await readSnapshot(path, {
    head(found) {
      check(found)
      head = found
    },
    item: (list, item) => (state[list] ??= []).push(item),
  })
  return { head, state: state as State }
}

/** The path of damaged records during the migration. */
export const damagedOf = (copy: string) => `${copy}.damaged`

/**
 * Renames the migrated file to `.migrated` and its damaged records to `.damaged`, unless that has been done. Throws
 * `StoreError` if the file has changed.
 */
export async function retire(file: string, copy: string, frozen: Frozen): Promise<MigrationReport> {
  const found = await stampOf(file)
  if (found && !isSameFile(found, frozen.source)) {
    throw new StoreError(
      `${file} has changed since it was read; move it away, or the records in ${copy} count twice`,
    )
  }
  if (found) {
    // It may contain tokens. Another owner's file stays as it is.
    await chmod(file, OWNER_ONLY).catch(() => undefined)
    await rename(file, await freeName(`${file}.migrated`))
  }
  if (!(await stampOf(damagedOf(copy)))) return frozen.report
  const setAside = await freeName(`${file}.damaged`)
  await rename(damagedOf(copy), setAside)
  return { ...frozen.report, setAside }
}

async function freeName(path: string): Promise<string> {
  let name = path
  for (let n = 1; await stampOf(name); n += 1) name = `${path}.${n}`
  return name
}
