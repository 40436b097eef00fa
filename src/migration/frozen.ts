/**
 * The frozen copy of a usage file: what is to be moved, written down whole before the first of it goes anywhere, so
 * that a process that goes on after a crash moves the same.
 *
 * It is a snapshot as the local store writes it, with a word on its origin.
 */
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { readFile, rename, stat } from 'node:fs/promises'
import { OLDEST, VERSION } from '../ledger/shapes.ts'
import { replaceFile } from '../store/journal.ts'
import type { State } from '../store/local.ts'
import { unusable } from '../store/lock.ts'
import { StoreError } from '../store/store.ts'
import type { Report } from './report.ts'

/** A file as it was when it was read. */
export type FileStamp = { size: number; mtimeMs: number }

export type Frozen = {
  state: State
  /** Of the migration: the digest of the file, so that the same bytes never go in twice. */
  id: string
  source: FileStamp
  report: Report
}

/** Where the frozen copy of a file is while it goes into the database. */
export const migratingOf = (file: string) => `${file}.migrating`

/** Where it is, without a database, until it can take the place of the old file. */
export const importedOf = (file: string) => `${file}.imported`

/** What is at a path, or undefined. Throws `StoreError`. */
export async function stampOf(path: string): Promise<FileStamp | undefined> {
  try {
    const { size, mtimeMs } = await stat(path)
    return { size, mtimeMs }
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException
    // Where a folder should be there is a file: so there is nothing at the path.
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined
    throw unusable('read', path, cause)
  }
}

export const isSame = (one: FileStamp | undefined, other: FileStamp | undefined): boolean =>
  one?.size === other?.size && one?.mtimeMs === other?.mtimeMs

/** The digest of what is in a file. */
export async function digestOf(path: string): Promise<string> {
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(path) as AsyncIterable<Buffer>) hash.update(chunk)
  return hash.digest('base64url')
}

/** Whether the file at the path is an array of the old system; false also when there is none. */
export async function isOldFile(file: string): Promise<boolean> {
  if (!(await stampOf(file))) return false
  for await (const chunk of createReadStream(file, { end: 4095 })) {
    return /^\uFEFF?\s*\[/.test(String(chunk))
  }
  return false
}

/** Writes the copy at once and whole. */
export function writeFrozen(path: string, { state, ...origin }: Frozen): Promise<void> {
  return replaceFile(path, `${JSON.stringify({ v: VERSION, seq: 0, state, origin })}\n`)
}

/** The copy, if there is one. Throws `StoreError` when it cannot be read. */
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

/** Where the damaged records of a file are while it is moved. */
export const damagedOf = (copy: string) => `${copy}.damaged`

/**
 * Gives the file that was moved the suffix `.migrated`, and what is damaged in it `.damaged`; what is done already stays so.
 * Throws `StoreError` when the file is another by now.
 */
export async function retire(file: string, copy: string, frozen: Frozen): Promise<Report> {
  const found = await stampOf(file)
  if (found && !isSame(found, frozen.source)) {
    throw new StoreError(
      `${file} has changed since it was read; move it away, or what ${copy} holds would count twice`,
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
