/** Whether the provider refuses since its own limit of spending is reached: reads the beginning of an error as it passes. */
import type { Meter } from '../metering/meter.ts'
import { SPEND_BLOCKED } from '../providers/groq.ts'

/** Errors are short, in characters. */
const MOST = 4096

export function createSpendReader(): Meter & { isBlocked(): boolean } {
  const decoder = new TextDecoder()
  let text = ''
  return {
    write(chunk) {
      if (text.length < MOST) text += decoder.decode(chunk.subarray(0, MOST), { stream: true })
    },
    end: () => ({ deltas: 0, bytes: 0 }),
    isBlocked: () => text.includes(`"${SPEND_BLOCKED}"`),
  }
}
