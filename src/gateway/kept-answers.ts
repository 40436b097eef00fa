/**
 * Answers of upstream that are kept for a few seconds, so that many calls with the same address make one call to
 * upstream.
 */
import type { Meter } from '../metering/meter.ts'
import type { Bytes } from '../ports.ts'

export type KeptAnswer = { status: number; statusText: string; headers: Headers; body: Bytes }

const KEPT_MS = 5000
const MOST_KEPT = 64
const MOST_BYTES = 256 * 1024

/** Builds the memory of an instance. */
export function createKeptAnswers(now: () => number) {
  const kept = new Map<string, { answer: KeptAnswer; until: number }>()

  return {
    get(key: string): KeptAnswer | undefined {
      const found = kept.get(key)
      if (found && found.until > now()) return found.answer
      kept.delete(key)
      return undefined
    },

    /** Keeps an answer when it has ended. Returns the meter that gathers its body, and the function that ends it. */
    gather(key: string, answer: Omit<KeptAnswer, 'body'>): { meter: Meter; keep(): void } {
      const pieces: Bytes[] = []
      let length = 0
      const meter: Meter = {
        write(piece) {
          length += piece.length
          if (length <= MOST_BYTES) pieces.push(piece as Bytes)
        },
        end: () => ({ deltas: 0, bytes: length }),
      }
      return {
        meter,
        keep() {
          if (length > MOST_BYTES) return
          const body = new Uint8Array(length)
          let at = 0
          for (const piece of pieces) {
            body.set(piece, at)
            at += piece.length
          }
          const [oldest] = kept.keys()
          if (kept.size >= MOST_KEPT && oldest !== undefined) kept.delete(oldest)
          kept.set(key, { answer: { ...answer, body }, until: now() + KEPT_MS })
        },
      }
    },
  }
}
