/** SIGTERM and SIGINT: the first signal ends the process in an orderly way, a later one at once. */
import type { Log } from '../../log.ts'
import { PARENT } from './parent.mjs'

/**
 * npm forwards a signal that was sent to its whole process group, so one signal may arrive twice. A second signal
 * counts only after this time.
 */
const SAME_SIGNAL_MS = 1000

/**
 * How often a process of `npm start`, `npm run dev` or `npx` looks whether its shell still runs. npm sends a signal to that shell only, and some
 * shells end without passing it on. (`exec` in the script would replace the shell, but the shells of Windows do not know it.)
 */
const SHELL_MS = 250

/**
 * At the first signal, runs all `steps` in order, even if one fails, and ends the process: with code 0, or with 1 if a
 * step failed, which is logged. A signal that comes later ends it with 1 at once. Returns a function that does the same
 * as the first signal, but ends the process with 1.
 */
export function onStopSignal(steps: (() => unknown)[], log: Pick<Log, 'error'>): () => void {
  let since: number | undefined
  async function stop(code: number): Promise<void> {
    since = performance.now()
    let ended = code
    for (const step of steps) {
      try {
        await step()
      } catch (error) {
        log.error('stop.failed', { error })
        ended = 1
      }
    }
    process.exit(ended)
  }
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    // A handler of a library would end the process at once.
    process.removeAllListeners(signal)
    process.on(signal, () => {
      if (since === undefined) void stop(0)
      else if (performance.now() - since >= SAME_SIGNAL_MS) process.exit(1)
    })
  }
  if (['start', 'dev', 'npx'].includes(process.env.npm_lifecycle_event ?? '')) {
    setInterval(() => {
      if (process.ppid !== PARENT && since === undefined) void stop(0)
    }, SHELL_MS).unref()
  }
  return () => {
    if (since === undefined) void stop(1)
  }
}
