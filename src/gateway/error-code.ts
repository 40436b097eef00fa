/** The code of the provider's error, from the beginning of a failed answer that passes. */
import type { Meter } from '../metering/meter.ts'

/** How much of an answer is read, in characters. Errors are short. */
const MOST = 4096

/** A code is a word. Anything else is not kept, since it may quote the request. */
const CODE = /^[\w.-]{1,64}$/

export type ErrorReader = Meter & {
  /** The code of an error, or its type if it has none. */
  code(): string | undefined
}

export function createErrorReader(): ErrorReader {
  const decoder = new TextDecoder()
  let text = ''
  return {
    write(chunk) {
      if (text.length <= MOST) text += decoder.decode(chunk.subarray(0, MOST + 1), { stream: true })
    },
    end: () => ({ deltas: 0, bytes: 0 }),
    code: () => (text.length > MOST ? undefined : codeIn(text)),
  }
}

function codeIn(text: string): string | undefined {
  try {
    const { error } = JSON.parse(text) as { error?: { code?: unknown; type?: unknown } | null }
    return [error?.code, error?.type].find(
      (code): code is string => typeof code === 'string' && CODE.test(code),
    )
  } catch {
    return undefined
  }
}
