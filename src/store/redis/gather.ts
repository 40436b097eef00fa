/**
 * Combines calls that arrive close together into one.
 *
 * Only for runtimes in which a request may wait for the I/O of another request: Node allows it, workerd does not.
 */

export type BatchOptions<Item, Result> = {
  /** Called when the first item of a batch arrives. The batch is sent when it calls `go`. */
  schedule(go: () => void): void
  /** Most items of a batch. */
  size: number
  /** Returns one result per item, in order. */
  run(items: Item[]): Promise<Result[]>
}

/** Builds a function for one item whose calls are combined. If a batch fails, each of its calls fails. */
export function gather<Item, Result>(options: BatchOptions<Item, Result>) {
  type Call = { item: Item; done(result: Result): void; fail(error: unknown): void }
  let waiting: Call[] = []

  async function go(): Promise<void> {
    const calls = waiting
    waiting = []
    if (calls.length === 0) return
    try {
      const results = await options.run(calls.map((call) => call.item))
      for (const [index, call] of calls.entries()) call.done(results[index] as Result)
    } catch (error) {
      for (const call of calls) call.fail(error)
    }
  }

  return (item: Item): Promise<Result> =>
    new Promise((done, fail) => {
      waiting.push({ item, done, fail })
      if (waiting.length >= options.size) void go()
      else if (waiting.length === 1) options.schedule(() => void go())
    })
}
