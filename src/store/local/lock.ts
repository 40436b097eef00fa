/**
 * One process owns the files, even if processes cannot see each other: in two containers or on two machines that share
 * a volume.
 *
 * The owner's lock file has a nonce, and the owner sets its time again and again (the heartbeat). A lock is taken over
 *
 * - at once, if its process belongs to this machine and namespace and has ended; - otherwise if the heartbeat does not
 * change while this process looks at it ten times. Only changes count, never the   difference between two clocks, and a
 * pause of this process is one look, however long it is.
 *
 * An owner that was paused may be taken for dead. So it checks that the lock is still its own: after each write and
 * before it acknowledges it, before each renaming, and with each heartbeat. The next owner replaces the lock file
 * instead of changing it, so the heartbeat of the previous one cannot reach it. An owner that has lost the lock never
 * writes again.
 */
import { randomUUID } from 'node:crypto'
import { readFileSync, readlinkSync } from 'node:fs'
import { lstat, open, readFile, rename, stat, unlink, type FileHandle } from 'node:fs/promises'
import { hostname } from 'node:os'
import { setTimeout as delay } from 'node:timers/promises'
import { OWNER_ONLY, createPrivate } from './private-file.ts'
import { StoreError } from '../store.ts'

export type Lock = {
  /** Rejects with `StoreError` if the lock is no longer ours. It costs one `stat`. */
  check(): Promise<void>
  /** The same by the contents of the file, since a network file system may remember what `stat` returned. */
  verify(): Promise<void>
  /** Why the lock is no longer ours. */
  readonly lost: StoreError | undefined
  /** Removes the lock file if it is still ours. */
  release(): Promise<void>
}

export type LockOptions = {
  /** Called once if it takes seconds to find out whether the owner of the lock is alive. */
  waiting?(seconds: number): void
  /** Called once if another process has taken the lock over. */
  lost?(error: StoreError): void
  /** Ends the waiting. */
  signal?: AbortSignal | undefined
}

type Owner = { nonce: string; pid: number; started?: string; space?: string; host: string }

/** A lock file at a moment. */
type Seen = { text: string; mtimeMs: number }

const BEAT_MS = 2000
const LOOK_MS = 1000
/** A process whose heartbeat has not changed in this many looks is taken for dead. */
const LOOKS = 10

/** The guard is held for a few system calls. An older one was left by a crash. */
const GUARD_MS = 2000
const RETRY_MS = 20

/** The error that says why a file cannot be used, and what to do. */
export function unusable(verb: 'use' | 'read' | 'write', path: string, cause: unknown): StoreError {
  const { code } = cause as NodeJS.ErrnoException
  const why = code === undefined ? '' : ` (${code})`
  const message = `cannot ${verb} ${path}${why}; check its permissions, or set another USAGE_FILE`
  return new StoreError(message, { cause })
}

/** Takes the lock. Throws a `StoreError` that names the process that holds it. */
export async function acquireLock(path: string, options: LockOptions = {}): Promise<Lock> {
  const { waiting, signal } = options
  let last: Seen | undefined
  let unchanged = 0
  try {
    for (;;) {
      const seen = await look(path)
      const life = seen ? lifeOf(ownerIn(seen.text)) : 'ended'
      if (seen && life === 'runs') throw inUse(path, seen.text)
      if (seen && life === 'unclear') {
        if (last && !isSame(last, seen)) throw inUse(path, seen.text)
        unchanged = last ? unchanged + 1 : 0
        if (!last) waiting?.((LOOKS * LOOK_MS) / 1000)
        last = seen
        if (unchanged < LOOKS) {
          await delay(LOOK_MS, undefined, { signal })
          continue
        }
      }
      const nonce = randomUUID()
      const handle = await take(path, seen, nonce)
      if (handle) return await keep(path, nonce, handle, options)
      last = undefined
    }
  } catch (cause) {
    if (cause instanceof StoreError) throw cause
    throw unusable('write', path, cause)
  }
}

function inUse(path: string, text: string): StoreError {
  const owner = ownerIn(text)
  const advice = `already uses these files (${path}); stop it, or set another USAGE_FILE`
  if (!owner) return new StoreError(`another process ${advice}`)
  const where = isHere(owner) ? '' : ` of another container or machine (${owner.host})`
  return new StoreError(`process ${owner.pid}${where} ${advice}`)
}

const isSame = (one: Seen | undefined, other: Seen | undefined): boolean =>
  one?.text === other?.text && one?.mtimeMs === other?.mtimeMs

/** The lock file; undefined if there is none. Opening it makes a network file system ask the server. */
async function look(path: string): Promise<Seen | undefined> {
  let handle: FileHandle | undefined
  try {
    handle = await open(path)
    const { mtimeMs } = await handle.stat()
    return { text: await handle.readFile('utf8'), mtimeMs }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  } finally {
    await handle?.close()
  }
}

/** Replaces the lock that was seen by our own. Returns undefined if it has changed in the meantime. */
async function take(
  path: string,
  seen: Seen | undefined,
  nonce: string,
): Promise<FileHandle | undefined> {
  const release = await acquireGuard(`${path}.guard`)
  const temporary = `${path}.next`
  let handle: FileHandle | undefined
  try {
    if (!isSame(seen, await look(path))) return undefined
    // A crash may have left it, or someone may have planted it.
    await unlink(temporary).catch(unlessMissing)
    handle = await open(temporary, 'wx', OWNER_ONLY)
    await handle.writeFile(JSON.stringify(ourselves(nonce)))
    await rename(temporary, path)
    return handle
  } catch (error) {
    await handle?.close()
    await unlink(temporary).catch(() => undefined)
    throw error
  } finally {
    await release()
  }
}

/**
 * The guard makes looking and taking one step. If a process is paused so long in this step that its guard is removed,
 * two processes may take the lock; the first one then finds that it has lost it.
 */
async function acquireGuard(path: string): Promise<() => Promise<void>> {
  const nonce = randomUUID()
  let last: number | undefined
  let since = 0
  for (;;) {
    try {
      await createPrivate(path, nonce)
      return () => removeOwn(path, (text) => text === nonce)
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code !== 'EEXIST') {
        throw unusable('write', path, cause)
      }
    }
    // It may be a link that leads nowhere.
    const found = await lstat(path).catch(() => undefined)
    if (found?.mtimeMs !== last) since = performance.now()
    last = found?.mtimeMs
    if (found && performance.now() - since > GUARD_MS) {
      await unlink(path).catch((cause: unknown) => {
        throw unusable('write', path, cause)
      })
    }
    await delay(RETRY_MS)
  }
}

/** Removes a file if its contents are our own. */
async function removeOwn(path: string, isOurs: (text: string) => boolean): Promise<void> {
  try {
    if (isOurs(await readFile(path, 'utf8'))) await unlink(path)
  } catch {
    // It is gone, or the next process finds out that its owner is.
  }
}

/** Keeps the heartbeat of a lock that was taken. */
async function keep(
  path: string,
  nonce: string,
  handle: FileHandle,
  options: LockOptions,
): Promise<Lock> {
  const isOurs = (text: string) => ownerIn(text)?.nonce === nonce
  const own = await handle.stat({ bigint: true })
  let lost: StoreError | undefined
  let released = false

  function lose(): StoreError {
    if (lost) return lost
    clearInterval(beating)
    lost = new StoreError(
      `another process has taken over ${path}, or has removed it; this process writes nothing more`,
    )
    if (!released) options.lost?.(lost)
    return lost
  }

  async function check(): Promise<void> {
    if (lost) throw lost
    const found = await stat(path, { bigint: true }).catch(unlessMissing)
    // On some file systems a file does not keep its number.
    if (found?.ino !== own.ino || found.dev !== own.dev) await verify()
  }

  async function verify(): Promise<void> {
    if (lost) throw lost
    const text = await readFile(path, 'utf8').catch(unlessMissing)
    if (text === undefined || !isOurs(text)) throw lose()
  }

  // Steps of the system's clock do not change the distance of two heartbeats.
  const start = Date.now() - performance.now()
  async function beat(): Promise<void> {
    const at = (start + performance.now()) / 1000
    await handle.utimes(at, at)
    await verify()
  }
  // If it fails, a later one may work. A lock that was lost has been reported.
  const beating = setInterval(() => void beat().catch(() => undefined), BEAT_MS).unref()

  return {
    check,
    verify,
    get lost() {
      return lost
    },
    async release() {
      released = true
      clearInterval(beating)
      // Windows does not remove a file that is open.
      await handle.close()
      if (!lost) await removeOwn(path, isOurs)
    },
  }
}

/** Handles an error of a file that may be missing. */
export function unlessMissing(error: unknown): undefined {
  if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
}

function ownerIn(text: string): Owner | undefined {
  try {
    const owner = JSON.parse(text) as Partial<Owner> | null
    return typeof owner?.pid === 'number' ? (owner as Owner) : undefined
  } catch {
    return undefined
  }
}

/** Where pids have one meaning: a machine since its start, and on it a namespace. Undefined if that is unknown. */
const SPACE = spaceOf()

function spaceOf(): string | undefined {
  if (process.platform !== 'linux') return hostname()
  try {
    const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
    return `${hostname()} ${boot} ${readlinkSync('/proc/self/ns/pid')}`
  } catch {
    return undefined
  }
}

const ourselves = (nonce: string) => ({
  nonce,
  pid: process.pid,
  started: startTime(process.pid),
  space: SPACE,
  host: hostname(),
})

const isHere = ({ space }: Owner): boolean => space !== undefined && space === SPACE

/** Whether the owner runs. It is unclear for a process that cannot be seen from here, or that cannot be told apart. */
function lifeOf(owner: Owner | undefined): 'runs' | 'ended' | 'unclear' {
  if (!owner || !isHere(owner)) return 'unclear'
  const { pid, started } = owner
  try {
    process.kill(pid, 0)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return 'ended'
  }
  if (started === undefined) return 'unclear'
  return started === startTime(pid) ? 'runs' : 'ended'
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
