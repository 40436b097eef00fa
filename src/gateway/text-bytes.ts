/**
 * What the bytes within a text of JSON mean: an automaton that finds the end of the text, and bytes that are not UTF-8
 * or not an escape. A table takes the same time for any text; branches take five times as long where characters of all
 * kinds are mixed.
 */

/** Before a character. */
export const PLAIN = 0
/** Behind a backslash. */
export const ESCAPED = 1 << 8
/** In `\u`: this many digits are missing. */
const DIGITS_4 = 2 << 8
const DIGITS_3 = 3 << 8
const DIGITS_2 = 4 << 8
const DIGIT = 5 << 8
/** In a character: this many bytes of any value are missing. */
const BYTE = 6 << 8
const BYTES_2 = 7 << 8
const BYTES_3 = 8 << 8
/** Behind a first byte that limits the second one. */
const BEHIND_E0 = 9 << 8
const BEHIND_ED = 10 << 8
const BEHIND_F0 = 11 << 8
const BEHIND_F4 = 12 << 8
/** States from here on end the text. */
export const CLOSED = 13 << 8
const WRONG = 14 << 8

/** The next state, by the sum of a state and a byte. */
export const NEXT = new Uint16Array(CLOSED).fill(WRONG)

function next(state: number, from: number, to: number, then: number): void {
  NEXT.fill(then, state + from, state + to + 1)
}

next(PLAIN, 0x20, 0x7f, PLAIN)
next(PLAIN, 0x22, 0x22, CLOSED)
next(PLAIN, 0x5c, 0x5c, ESCAPED)

for (const character of '"\\/bfnrt') {
  const byte = character.charCodeAt(0)
  next(ESCAPED, byte, byte, PLAIN)
}
next(ESCAPED, 0x75, 0x75, DIGITS_4)
for (const [state, then] of [
  [DIGITS_4, DIGITS_3],
  [DIGITS_3, DIGITS_2],
  [DIGITS_2, DIGIT],
  [DIGIT, PLAIN],
] as const) {
  next(state, 0x30, 0x39, then)
  next(state, 0x41, 0x46, then)
  next(state, 0x61, 0x66, then)
}

// https://www.rfc-editor.org/rfc/rfc3629#section-4
next(PLAIN, 0xc2, 0xdf, BYTE)
next(PLAIN, 0xe0, 0xe0, BEHIND_E0)
next(PLAIN, 0xe1, 0xef, BYTES_2)
next(PLAIN, 0xed, 0xed, BEHIND_ED)
next(PLAIN, 0xf0, 0xf0, BEHIND_F0)
next(PLAIN, 0xf1, 0xf3, BYTES_3)
next(PLAIN, 0xf4, 0xf4, BEHIND_F4)
next(BYTE, 0x80, 0xbf, PLAIN)
next(BYTES_2, 0x80, 0xbf, BYTE)
next(BYTES_3, 0x80, 0xbf, BYTES_2)
next(BEHIND_E0, 0xa0, 0xbf, BYTE)
next(BEHIND_ED, 0x80, 0x9f, BYTE)
next(BEHIND_F0, 0x90, 0xbf, BYTES_2)
next(BEHIND_F4, 0x80, 0x8f, BYTES_2)
