/**
 * The frozen copy of a usage file: all data to be moved. It is written before anything is moved, so that a process
 * that continues after a crash moves the same data.
 *
 * It is a snapshot of the local store, with its origin.
 */
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { readFile, rename, stat } from 'node:fs/promises'
import { OLDEST, VERSION } from '../ledger/shapes.ts'
import { replaceFile } from '../store/local/snapshot.ts'
import type { State } from '../store/local/state.ts'
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

export const isSame = (one: FileStamp | undefined, other: FileStamp | undefined): boolean =>
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
export function writeFrozen(path: string, { state, ...origin }: Frozen): Promise<void> {
  return replaceFile(path, `${JSON.stringify({ v: VERSION, seq: 0, state, origin })}\n`)
}

/** The copy; undefined if there is none. Throws `StoreError` if it cannot be read. */
export async function readFrozen(path: string): Promise<Frozen | undefined> {
  if (!(await stampOf(path))) return undefined
  const unreadable = `${path} cannot be read; remove it to begin the migration again`
  let copy: { v: number; state: State; origin: Omit<Frozen, 'state'> }
  try {
    copy = JSON.parse(await readFile(path, 'utf8')) as typeof copy
  } catch (cause) {
    throw new StoreError(unreadable, { cause })
  }
  const { v, state, origin } = copy
  if (v > VERSION) {
    throw new StoreError(`${path} was written by a newer version of Weir; update this one`)
  }
  if (!(v >= OLDEST)) throw new StoreError(unreadable)
  return { ...origin, state }
}

/** The path of damaged records during the migration. */
export const damagedOf = (copy: string) => `${copy}.damaged`

/**
 * Renames the migrated file to `.migrated` and its damaged records to `.damaged`, unless that has been done. Throws
 * `StoreError` if the file has changed.
 */
export async function retire(file: string, copy: string, frozen: Frozen): Promise<MigrationReport> {
  const found = await stampOf(file)
  if (found && !isSame(found, frozen.source)) {
    throw new StoreError(
      `${file} has changed since it was read; move it away, or the records in ${copy} count twice`,
    )
  }
  if (found) await rename(file, await freeName(`${file}.migrated`))
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
