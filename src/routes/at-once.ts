/** Runs work for many items, a few at once, so that calls to a distant database take little time and little memory. */
const AT_ONCE = 16

/** Waits until the work for all items is done. Rejects with the first failure, and then starts nothing more. */
export async function forEach<T>(
  items: Iterable<T> | AsyncIterable<T>,
  work: (item: T) => Promise<unknown>,
) {
  const rest = Symbol.iterator in items ? items[Symbol.iterator]() : items[Symbol.asyncIterator]()
  let failed = false
  async function worker(): Promise<void> {
    for (let next = await rest.next(); !next.done && !failed; next = await rest.next()) {
      await work(next.value).catch((error: unknown) => {
        failed = true
        throw error
      })
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, worker))
}
