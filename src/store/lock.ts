/** One process owns the files: a lock file names it, and a lock whose process is gone is taken over. */
import { readFileSync } from 'node:fs'
import { open, readFile, unlink } from 'node:fs/promises'
import { StoreError } from './store.ts'

export type Lock = { release(): Promise<void> }

type Owner = { pid: number; started: string | undefined }

/** Takes the lock. Throws `StoreError` naming the process that has it. */
export async function acquireLock(path: string): Promise<Lock> {
  for (let attempt = 0; attempt < 3; attempt += 1) {
    try {
      const handle = await open(path, 'wx')
      await handle.writeFile(JSON.stringify({ pid: process.pid, started: startTime(process.pid) }))
      await handle.close()
      return { release: () => unlink(path).catch(() => undefined) }
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') {
        throw new StoreError(`cannot write ${path}`, { cause: error })
      }
    }
    const owner = await readOwner(path)
    if (owner && isAlive(owner)) {
      throw new StoreError(
        `process ${owner.pid} already uses these files (${path}); stop it, or set another USAGE_FILE`,
      )
    }
    await unlink(path).catch(() => undefined)
  }
  throw new StoreError(`cannot take the lock ${path}; another process is taking it too`)
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
 * When a process started, in clock ticks since boot, where /proc tells: in a container the next process
 * often has the pid of the last. https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html (field 22)
 */
function startTime(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]
  } catch {
    return undefined
  }
}
