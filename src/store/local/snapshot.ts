/** The snapshot of the local store: a state, and the sequence number of the last command in it. */
import { open, rename, unlink } from 'node:fs/promises'
import { NewerVersion } from '../../ledger/reading.ts'
import { VERSION } from '../../ledger/shapes.ts'
import { checkVersion, isNewer } from './file-version.ts'
import { StoreError } from '../store.ts'

/** A snapshot as text. */
export const formatSnapshot = (seq: number, state: unknown): string =>
  `${JSON.stringify({ v: VERSION, seq, state })}\n`

/** Passes the state on and returns the sequence number. Throws `StoreError` if the bytes are not a snapshot of Weir. */
export function restoreSnapshot(
  file: string,
  bytes: Buffer,
  restore: (state: unknown) => void,
): number {
  if (bytes.length === 0) {
    throw new StoreError(
      `${file} is empty; restore a copy, or move it away to continue with ${file}.journal`,
    )
  }
  try {
    const { v, seq, state } = JSON.parse(bytes.toString()) as Record<string, unknown>
    if (typeof v !== 'number' || typeof seq !== 'number') throw new Error('not a snapshot')
    checkVersion(file, v)
    restore(state)
    return seq
  } catch (cause) {
    if (cause instanceof StoreError) throw cause
    if (cause instanceof NewerVersion) throw isNewer(file)
    const advice = 'move it away to start without usage'
    throw new StoreError(`${file} is not a usage file of Weir; ${advice}`, { cause })
  }
}

/** Replaces a file by a text. After a crash the file has either the old or the new text. */
export async function replaceFile(path: string, text: string): Promise<void> {
  const temporary = `${path}.tmp`
  const handle = await open(temporary, 'w')
  try {
    try {
      await handle.writeFile(text)
      await handle.sync()
    } finally {
      await handle.close()
    }
    await rename(temporary, path)
  } catch (error) {
    // On a full disk, the temporary file would take the space that the journal needs.
    await unlink(temporary).catch(() => undefined)
    throw error
  }
}
