/**
 * Refusals that no step of the ledger has counted: those of callers who are not known, and those that were repeated
 * from memory. The next admission carries them to the ledger. What an isolate has not sent when it ends is not counted.
 */
import type { ApiError } from '../errors.ts'
import { UNUSED_MODEL, refusalName } from '../ledger/refusals.ts'
import type { RefusalCounts } from '../ledger/events.ts'
import { dateOf } from '../ledger/windows.ts'

/** The most counters that are kept. Beyond that, refusals are counted without their model. */
const MOST_COUNTERS = 100

/** The most models that are counted by name: those that were admitted, because clients make up names. */
const MOST_MODELS = 100

export type RefusalCounter = ReturnType<typeof createRefusalCounter>

/** Builds the counter of an instance. */
export function createRefusalCounter(now: () => number) {
  let counts: Record<string, RefusalCounts> = {}
  let counters = 0
  const models = new Set<string>()
  const counted = new WeakSet<ApiError>()

  function add(date: string, name: string, count: number): void {
    const day = (counts[date] ??= {})
    if (day[name] === undefined) counters += 1
    day[name] = (day[name] ?? 0) + count
  }

  return {
    /** Counts a refusal once; `model` is the one that was asked for, if that is known. */
    count(error: ApiError, model = UNUSED_MODEL): void {
      if (counted.has(error)) return
      counted.add(error)
      const isNamed = models.has(model) && counters < MOST_COUNTERS
      add(dateOf(now()), refusalName(error.code, isNamed ? model : UNUSED_MODEL), 1)
    },
    /** The ledger has counted a refusal. */
    isCounted(error: ApiError): void {
      counted.add(error)
    },
    /** A model was admitted, so its name is not made up. */
    admitted(model: string): void {
      if (models.size < MOST_MODELS) models.add(model)
    },
    /** Returns the counts so far and begins again; undefined if there are none. */
    take(): Record<string, RefusalCounts> | undefined {
      if (counters === 0) return undefined
      const taken = counts
      counts = {}
      counters = 0
      return taken
    },
    /** Takes counts back that the ledger did not get. */
    giveBack(taken: Record<string, RefusalCounts>): void {
      for (const [date, names] of Object.entries(taken)) {
        for (const [name, count] of Object.entries(names)) add(date, name, count)
      }
    },
  }
}
