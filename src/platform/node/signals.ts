/** SIGTERM and SIGINT: the first signal ends the process in an orderly way, a later one at once. */

/**
 * npm forwards a signal that was sent to its whole process group, so one signal may arrive twice. A second signal
 * counts only after this time.
 */
const SAME_SIGNAL_MS = 1000

/** Runs `stop` at the first signal and ends the process with code 0 after it; with 1 at a signal that comes later. */
export function onStopSignal(stop: () => Promise<void>): void {
  let since: number | undefined
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    // A handler of a library would end the process at once.
    process.removeAllListeners(signal)
    process.on(signal, () => {
      if (since === undefined) {
        since = performance.now()
        void stop().then(() => process.exit(0))
      } else if (performance.now() - since >= SAME_SIGNAL_MS) process.exit(1)
    })
  }
}
