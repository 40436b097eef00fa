/** Finds each place of a text in bytes, in a time that grows only with the number of bytes. */

import type { Steps } from './steps.ts'

/** A step looks at this many bytes, which takes about a millisecond. */
export const LOOKS = 128 * 1024

/** The search takes too many steps: the text was made to slow it down. */
export class TooManySteps extends Error {
  override readonly name = 'TooManySteps'
}

/**
 * All places where `wanted` begins, also those that overlap. It skips ahead by the length of the text where it can
 * (Boyer, Moore and Horspool), so it looks at few of the bytes. Throws `TooManySteps` after half as many looks as there
 * are bytes, because one event loop serves everybody. Only a text and bytes that are made for it take so many.
 */
export function* indexesOf(wanted: Uint8Array, bytes: Uint8Array): Steps<number[]> {
  const last = wanted.length - 1
  const skips = new Uint8Array(256).fill(wanted.length)
  for (let i = 0; i < last; i += 1) skips[wanted[i]!] = last - i
  const places: number[] = []
  let steps = bytes.length / 2 + 4096
  let pause = steps - LOOKS
  for (let at = 0; at + last < bytes.length;) {
    let i = last
    while (i >= 0 && bytes[at + i] === wanted[i]) i -= 1
    steps -= last - i + 1
    if (steps < 0) throw new TooManySteps()
    if (steps < pause) {
      pause = steps - LOOKS
      yield
    }
    if (i < 0) places.push(at)
    at += i < 0 ? 1 : skips[bytes[at + last]!]!
  }
  return places
}
