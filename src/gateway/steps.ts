/** Long work in steps. A process has one event loop, and others get their turn between two steps. */

export type Steps<T> = Generator<void, T, void>

/** Does the work without a pause. */
export function atOnce<T>(steps: Steps<T>): T {
  for (;;) {
    const step = steps.next()
    if (step.done) return step.value
  }
}

/** Does each step in a turn of its own. */
export async function inTurns<T>(steps: Steps<T>): Promise<T> {
  for (;;) {
    const step = steps.next()
    if (step.done) return step.value
    await turn()
  }
}

/** `setImmediate`, which Node has, waits only for the others; a timer waits a millisecond more. */
const later = globalThis.setImmediate ?? ((run: () => void) => void setTimeout(run))

/** Resolves in another turn of the event loop. */
export const turn = (): Promise<void> => new Promise((resolve) => void later(resolve))
