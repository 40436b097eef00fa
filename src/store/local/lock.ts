/** One process owns the files. A lock file names it; a lock is taken over if its process has ended. */
import { readFileSync } from 'node:fs'
import { open, readFile, stat, unlink, writeFile } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import { StoreError } from '../store.ts'

export type Lock = { release(): Promise<void> }

type Owner = { pid: number; started: string | undefined }

/** An older guard was left by a crash. */
const GUARD_MS = 5000
const RETRY_MS = 20
const MAX_TRIES = (2 * GUARD_MS) / RETRY_MS

/** The error that says why a file cannot be used, and what to do. */
export function unusable(verb: 'use' | 'read' | 'write', path: string, cause: unknown): StoreError {
  const { code } = cause as NodeJS.ErrnoException
  const why = code === undefined ? '' : ` (${code})`
  const message = `cannot ${verb} ${path}${why}; check its permissions, or set another USAGE_FILE`
  return new StoreError(message, { cause })
}

/** Takes the lock. Throws a `StoreError` that names the process that holds it. */
export async function acquireLock(path: string): Promise<Lock> {
  const release = await acquireGuard(`${path}.guard`)
  try {
    const owner = await readOwner(path)
    if (owner && isAlive(owner)) {
      throw new StoreError(
        `process ${owner.pid} already uses these files (${path}); stop it, or set another USAGE_FILE`,
      )
    }
    await writeFile(path, JSON.stringify({ pid: process.pid, started: startTime(process.pid) }))
    return { release: () => unlink(path).catch(() => undefined) }
  } catch (cause) {
    if (cause instanceof StoreError) throw cause
    throw unusable('write', path, cause)
  } finally {
    await release()
  }
}

/** The guard makes reading and taking the lock one step, so that only one of two processes takes over a stale lock. */
async function acquireGuard(path: string): Promise<() => Promise<void>> {
  const remove = () => unlink(path).catch(() => undefined)
  for (let attempt = 0; attempt < MAX_TRIES; attempt += 1) {
    try {
      await (await open(path, 'wx')).close()
      return remove
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code !== 'EEXIST') {
        throw unusable('write', path, cause)
      }
    }
    const made = await stat(path).catch(() => undefined)
    if (made && Math.abs(Date.now() - made.mtimeMs) > GUARD_MS) await remove()
    await delay(RETRY_MS)
  }
  throw new StoreError(`${path} is in the way; remove it`)
}

async function readOwner(path: string): Promise<Owner | undefined> {
  try {
    const owner = JSON.parse(await readFile(path, 'utf8')) as Partial<Owner> | null
    return typeof owner?.pid === 'number' ? { pid: owner.pid, started: owner.started } : undefined
  } catch {
    return undefined
  }
}

function isAlive({ pid, started }: Owner): boolean {
  try {
    process.kill(pid, 0)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false
  }
  return started === undefined || started === startTime(pid)
}

/**
 * When a process started, in clock ticks since boot, if /proc exists: in a container, a new process often gets the
 * pid of the previous one. Undefined for a zombie process.
 * https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html (fields 3 and 22)
 */
function startTime(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return fields[0] === 'Z' ? undefined : fields[19]
  } catch {
    return undefined
  }
}
