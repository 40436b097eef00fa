/** SIGTERM and SIGINT: the first ends the process in good order, a further one at once. */

/**
 * npm passes on a signal that its terminal or supervisor has sent to the whole group, so one signal may come twice;
 * a further one counts only after so long.
 */
const SAME_SIGNAL_MS = 1000

/** Runs `stop` at the first signal and ends the process with code 0 after it; with 1 at a signal that comes later. */
export function onStopSignal(stop: () => Promise<void>): void {
  let since: number | undefined
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    // What a library has put there would end the process at once.
    process.removeAllListeners(signal)
    process.on(signal, () => {
      if (since === undefined) {
        since = performance.now()
        void stop().then(() => process.exit(0))
      } else if (performance.now() - since >= SAME_SIGNAL_MS) process.exit(1)
    })
  }
}
