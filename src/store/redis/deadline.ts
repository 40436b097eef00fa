/** The deadline of a database call. Only the database can miss it: our own work does not count. */

/**
 * A deadline is this many short timers, one after the other. A timer that fires late, because this process was busy,
 * counts only with its length, and before the next one the event loop reads what has arrived. So even in a busy
 * process, an answer that is already there is read in time.
 *
 * It needs no clock: in workerd none advances while code runs.
 */
const SLICES = 10

/** The last look, after the whole time: an answer that came during the last slice is read before the call ends. */
const LAST_LOOK_MS = 1

/**
 * Runs a call, and rejects with a `TimeoutError` if it takes the database `timeoutMs`. The signal is aborted then, with
 * the same error.
 */
export const withDeadline = <T>(
  timeoutMs: number,
  call: (signal: AbortSignal) => Promise<T>,
): Promise<T> =>
  new Promise((resolve, reject) => {
    const deadline = new AbortController()
    let slices = 0
    let timer: ReturnType<typeof setTimeout>

    function wait(): void {
      if (slices > SLICES) {
        const error = new DOMException('The database did not answer in time.', 'TimeoutError')
        reject(error)
        deadline.abort(error)
        return
      }
      timer = setTimeout(wait, slices < SLICES ? timeoutMs / SLICES : LAST_LOOK_MS)
      slices += 1
    }

    wait()
    call(deadline.signal)
      .then(resolve, reject)
      .finally(() => clearTimeout(timer))
  })
