/**
 * Combines calls that arrive close together into one.
 *
 * Only for runtimes in which a request may wait for the I/O of another request: Node allows it, workerd does not.
 */

export type BatchOptions<Item, Result> = {
  /** Called when the first item of a batch arrives. The batch is sent when it calls `go`. */
  schedule(go: () => void): void
  /** The most items of a batch. */
  size: number
  /**
   * The most items that are sent and have no result yet, at least `size`. Further items wait here, because too many at
   * once would make the other side seem slow.
   */
  atOnce: number
  /** Returns one result per item, in order. */
  run(items: Item[]): Promise<Result[]>
}

/**
 * Builds a function for one item whose calls are combined. If a batch fails, each of its calls fails, and so do the
 * calls that wait for results of others.
 */
export function gather<Item, Result>(options: BatchOptions<Item, Result>) {
  type Call = { item: Item; done(result: Result): void; fail(error: unknown): void }
  let waiting: Call[] = []
  let sent = 0
  /** Whether items wait for the results of others, instead of for the schedule. */
  let held = false

  function go(): void {
    while (waiting.length > 0 && sent + Math.min(options.size, waiting.length) <= options.atOnce) {
      void send(waiting.splice(0, options.size))
    }
    held = waiting.length > 0
  }

  async function send(calls: Call[]): Promise<void> {
    sent += calls.length
    try {
      const results = await options.run(calls.map((call) => call.item))
      for (const [index, call] of calls.entries()) call.done(results[index] as Result)
    } catch (error) {
      for (const call of calls) call.fail(error)
      // They would wait for the same failure.
      if (held) for (const call of waiting.splice(0)) call.fail(error)
    }
    sent -= calls.length
    if (held) go()
  }

  return (item: Item): Promise<Result> =>
    new Promise((done, fail) => {
      waiting.push({ item, done, fail })
      if (held) return
      if (waiting.length >= options.size) go()
      else if (waiting.length === 1) options.schedule(go)
    })
}
