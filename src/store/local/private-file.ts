/**
 * Files that only their owner may read. They are created exclusively under names that cannot be guessed, so a link
 * that someone planted is never followed.
 */
import { randomUUID } from 'node:crypto'
import { constants } from 'node:fs'
import { open, readdir, rename, unlink, writeFile, type FileHandle } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'

/** Read and written by the owner, and by nobody else. */
export const OWNER_ONLY = 0o600

/** Data is written in pieces of about this many characters or bytes, so that nothing needs to be in one string. */
export const PIECE = 64 * 1024

export type Pieces = Iterable<string | Buffer> | AsyncIterable<string | Buffer>

const UUID = '[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}'
// Windows has no such flag.
const NO_FOLLOW = (constants.O_NOFOLLOW as number | undefined) ?? 0
const APPEND = constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT | NO_FOLLOW

/** Creates a file. Rejects with `EEXIST` if there is anything at its path. */
export const createPrivate = (path: string, text: string): Promise<void> =>
  writeFile(path, text, { flag: 'wx', mode: OWNER_ONLY })

/** Appends to a file. Rejects with `ELOOP` if the file is a symbolic link. */
export async function appendPrivate(path: string, data: string | Buffer): Promise<void> {
  const handle = await open(path, APPEND, OWNER_ONLY)
  try {
    await handle.writeFile(data)
  } finally {
    await handle.close()
  }
}

/**
 * Replaces a file in one step, and returns the open new one. After a crash the path has either the old or the new
 * file. `ready` runs when everything is written; if it rejects, the old file stays.
 */
export async function replaceOpen(
  path: string,
  pieces: Pieces,
  ready?: () => Promise<void>,
): Promise<FileHandle> {
  const temporary = `${path}.${randomUUID()}.tmp`
  const handle = await open(temporary, 'wx+', OWNER_ONLY)
  try {
    for await (const piece of pieces) await handle.writeFile(piece)
    await handle.sync()
    await ready?.()
    await rename(temporary, path)
  } catch (error) {
    await handle.close()
    // On a full disk, the temporary file would take the space that the journal needs.
    await unlink(temporary).catch(() => undefined)
    throw error
  }
  await syncFolder(dirname(path))
  return handle
}

/** Like `replaceOpen`, and closes the new file. */
export async function replaceFile(...args: Parameters<typeof replaceOpen>): Promise<void> {
  await (await replaceOpen(...args)).close()
}

/** Without this, a power failure could undo the renaming and keep what was done after it. */
async function syncFolder(path: string): Promise<void> {
  try {
    const folder = await open(path)
    try {
      await folder.sync()
    } finally {
      await folder.close()
    }
  } catch {
    // Not every system can do this.
  }
}

/**
 * Removes temporary files beside `file` that were not renamed. If their process has not ended but was paused, it can
 * no longer replace anything by them.
 */
export async function removeTemporary(file: string): Promise<void> {
  const folder = dirname(file)
  const temporary = new RegExp(`^(?:\\.[a-z]+)*\\.${UUID}\\.tmp$`)
  const name = basename(file)
  for (const found of await readdir(folder)) {
    if (!found.startsWith(name) || !temporary.test(found.slice(name.length))) continue
    await unlink(join(folder, found)).catch(() => undefined)
  }
}

/** Joins lines into pieces. */
export function* piecesOf(lines: Iterable<string>): Generator<string> {
  let piece = ''
  for (const line of lines) {
    piece += line
    if (piece.length < PIECE) continue
    yield piece
    piece = ''
  }
  if (piece) yield piece
}
