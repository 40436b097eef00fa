/** Processes that a process has started. */
import { readFile, readdir } from 'node:fs/promises'

/** The ids of children of a process with a name, on Linux. */
export async function childrenOf(parent: number, name: string): Promise<number[]> {
  const found: number[] = []
  for (const pid of (await readdir('/proc')).filter((one) => /^\d+$/.test(one))) {
    // A process may have ended meanwhile.
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '')
    const [, comm, ppid] = /^\d+ \((.*)\) \S (\d+)/.exec(stat) ?? []
    if (comm === name && Number(ppid) === parent) found.push(Number(pid))
  }
  return found
}
