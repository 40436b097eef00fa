/** Counts the turns of the event loop, where a time would depend on the machine. */

/** How many turns others get while this work is done. */
export async function turnsWhile(work: () => Promise<unknown>): Promise<number> {
  let turns = 0
  let next = setImmediate(function count() {
    turns += 1
    next = setImmediate(count)
  })
  try {
    await work()
  } finally {
    clearImmediate(next)
  }
  return turns
}
