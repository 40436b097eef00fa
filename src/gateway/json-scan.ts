/**
 * Looks through the bytes of a JSON body before it is parsed, in one pass: to parse a few megabytes of brackets, new keys,
 * numbers or escapes takes up to a second, and everyone waits. What is parsed afterwards is an outline, in which long texts
 * are cut, since the gateway needs no more than their beginning and their size.
 */
import { cutMark, FILLER } from '../metering/cut-text.ts'

/** The most lists and objects within each other. */
export const MAX_DEPTH = 64

/** The most characters of structure: `{ } [ ] , :` outside texts, and what takes a parser as long as these. */
export const MAX_STRUCTURE = 100_000

/** For each new key, a parser makes a new shape of objects. That takes as long as this much structure. */
export const NEW_KEY = 50

/** The longest key, in bytes: a parser keeps each of them. */
export const MAX_KEY = 1024

/** The most characters of one number: one of 700 digits takes a parser as long as a thousand short ones. */
export const MAX_NUMBER = 64

/** The most characters of all numbers. */
export const MAX_NUMBERS = 500_000

/** How much of a text is in the outline, in bytes: enough for names, types, and the beginning of an image. */
const KEPT = 32
/** The same for the texts on top, one of which is a user token. */
const KEPT_ON_TOP = 1024

/** How many bytes have to be missing, so that a mark in their place saves time. */
const WORTH_A_CUT = 128

const FILLED = FILLER.charCodeAt(0)

const QUOTE = 0x22
const BACKSLASH = 0x5c

/** Why a body may not be parsed. `malformed` is only what the pass sees: the parser finds the rest. */
export type Flaw = 'malformed' | 'depth' | 'structure' | 'key' | 'numbers'

/** What a byte outside texts is. */
const WRONG = 0
const SPACE = 1
const WORD = 2
const TEXT = 3
const OPEN = 4
const CLOSE = 5
const COMMA = 6
const COLON = 7

const KINDS = new Uint8Array(256).fill(WRONG)
mark(KINDS, ' \t\r\n', SPACE)
mark(KINDS, '0123456789+-.eEtrufalsn', WORD)
mark(KINDS, '"', TEXT)
mark(KINDS, '{[', OPEN)
mark(KINDS, '}]', CLOSE)
mark(KINDS, ',', COMMA)
mark(KINDS, ':', COLON)

/** The bytes of a text that are a character by themselves. */
const PLAIN = new Uint8Array(256).fill(1, 0x20, 0x80)
mark(PLAIN, '"\\', 0)

const ESCAPED = new Uint8Array(256)
mark(ESCAPED, '"\\/bfnrtu', 1)

const HEX = new Uint8Array(256)
mark(HEX, '0123456789abcdefABCDEF', 1)

function mark(table: Uint8Array, characters: string, value: number): void {
  for (const character of characters) table[character.charCodeAt(0)] = value
}

/** A hash tells keys apart. Its factor is random, so that nobody can send many keys with the same hash. */
let factor = 0
const SLOTS = 1 << 15

/** By hash, the last pass that found such a key. */
const SEEN = new Uint32Array(SLOTS)
let pass = 0

/** A body as the parser gets it. */
export type Outline = {
  /** JSON in ASCII: a filler takes the place of each byte outside ASCII, and a mark that of the rest of a long text. */
  text: string
  /** Where the byte at an index of `text` is in the body. For an index outside marks. */
  byteAt(index: number): number
}

/** Looks through a body. */
export function outlineOf(bytes: Uint8Array<ArrayBuffer>): Outline | Flaw {
  factor ||= crypto.getRandomValues(new Uint32Array(1))[0]! | 1
  pass = (pass + 1) >>> 0
  const { length } = bytes
  const outline = new Uint8Array(bytes)
  /** The bytes four at a time, without the last few. Those ahead are still as they were sent. */
  const words = new Int32Array(outline.buffer, 0, length >> 2)
  const cuts: Cut[] = []
  let depth = 0
  let structure = 0
  let numbers = 0
  let number = 0
  /** The text that ended last. */
  let start = 0
  let end = 0

  for (let i = 0; i < length; i += 1) {
    const kind = KINDS[bytes[i]!]!
    if (kind === WRONG) return 'malformed'
    if (kind === WORD) {
      number += 1
      numbers += 1
      if (number > MAX_NUMBER || numbers > MAX_NUMBERS) return 'numbers'
      continue
    }
    number = 0
    if (kind === SPACE) continue
    if (kind !== TEXT) {
      structure += 1
      if (kind === OPEN) {
        depth += 1
        if (depth > MAX_DEPTH) return 'depth'
      } else if (kind === CLOSE) depth -= 1
      else if (kind === COLON) {
        if (end - start > MAX_KEY) return 'key'
        let hash = end - start
        for (let k = start; k < end; k += 1) {
          hash = Math.imul(hash ^ bytes[k]!, factor)
          hash ^= hash >>> 15
        }
        const slot = hash & (SLOTS - 1)
        if (SEEN[slot] !== pass) {
          SEEN[slot] = pass
          structure += NEW_KEY
        }
        start = end
      }
      if (structure > MAX_STRUCTURE) return 'structure'
      continue
    }

    start = i + 1
    const kept = start + (depth > 1 ? KEPT : KEPT_ON_TOP)
    const near = kept + WORTH_A_CUT
    for (i = start; i < near;) {
      const byte = bytes[i]!
      if (PLAIN[byte] === 1) {
        i += 1
        if ((i & 3) === 0) i = skipPlain(words, i)
        continue
      }
      if (byte === QUOTE) break
      const size = sizeAt(bytes, i)
      if (size === 0) return 'malformed'
      const next = i + size
      if (byte === BACKSLASH && next <= kept) {
        structure += 1
        i = next
        continue
      }
      outline[i] = outline[i + 1] = FILLED
      if (size > 2) outline[i + 2] = FILLED
      if (size > 3) outline[i + 3] = FILLED
      i = next
    }
    end = bytes[i] === QUOTE ? i : closingQuoteOf(bytes, words, i)
    if (end === -1) return 'malformed'
    if (end > near) cuts.push(cutOut(outline, kept, end))
    i = end
  }
  return outlineWithout(cuts, outline)
}

/** In an outline, the bytes from an index to another are left out. */
type Cut = { from: number; to: number }

/** Writes a mark in place of the rest of a text. */
function cutOut(outline: Uint8Array, from: number, to: number): Cut {
  const mark = cutMark(to - from)
  for (let k = 0; k < mark.length; k += 1) outline[from + k] = mark.charCodeAt(k)
  return { from: from + mark.length, to }
}

function outlineWithout(cuts: readonly Cut[], bytes: Uint8Array): Outline {
  let length = cuts[0]?.from ?? bytes.length
  const pieces = cuts.map(({ to }, index) => {
    const from = length
    const next = cuts[index + 1]?.from ?? bytes.length
    bytes.copyWithin(from, to, next)
    length += next - to
    return { from, missing: to - from }
  })
  const byteAt = (index: number) => index + (lastFrom(index, pieces)?.missing ?? 0)
  return { text: ASCII.decode(bytes.subarray(0, length)), byteAt }
}

/** The last of the pieces that begins at an index or before it. The pieces are in order. */
function lastFrom<T extends { from: number }>(index: number, pieces: readonly T[]): T | undefined {
  let low = 0
  let high = pieces.length
  while (low < high) {
    const middle = (low + high) >> 1
    if (pieces[middle]!.from <= index) low = middle + 1
    else high = middle
  }
  return pieces[low - 1]
}

/** Outlines are in ASCII, which is UTF-8 too. */
const ASCII = new TextDecoder()

/** The index of the quote that closes a text; -1 if the text is malformed before it, or has none. */
function closingQuoteOf(bytes: Uint8Array, words: Int32Array, from: number): number {
  for (let i = from; ;) {
    if (bytes[i] === QUOTE) return i
    const size = sizeAt(bytes, i)
    if (size === 0) return -1
    i += size
    if ((i & 7) === 0) i = skipPlain(words, i)
  }
}

/** Where the bytes end that can be skipped four at a time, from a multiple of 4. */
function skipPlain(words: Int32Array, from: number): number {
  let at = from >> 2
  for (; at < words.length; at += 1) {
    const word = words[at]!
    // A byte is below n if taking n from it borrows: https://graphics.stanford.edu/~seander/bithacks.html#HasLessInWord
    const quote = word ^ 0x22222222
    const backslash = word ^ 0x5c5c5c5c
    const stop =
      word |
      ((word - 0x20202020) & ~word) |
      ((quote - 0x01010101) & ~quote) |
      ((backslash - 0x01010101) & ~backslash)
    if ((stop & 0x80808080) !== 0) break
  }
  return at << 2
}

// These are plain functions, since a closure in the loop takes longer than all else there.

/** How many bytes a character of a text has, or the escape of one; 0 if it is malformed. */
function sizeAt(bytes: Uint8Array, at: number): number {
  const byte = bytes[at]!
  if (byte >= 0x80) return characterAt(bytes, at)
  if (byte === BACKSLASH) return escapeAt(bytes, at)
  return byte >= 0x20 ? 1 : 0
}

function escapeAt(bytes: Uint8Array, at: number): number {
  const escaped = bytes[at + 1]!
  if (escaped !== 0x75) return ESCAPED[escaped] === 1 ? 2 : 0
  for (let i = at + 2; i < at + 6; i += 1) if (HEX[bytes[i]!] !== 1) return 0
  return 6
}

/** https://www.rfc-editor.org/rfc/rfc3629#section-4 */
function characterAt(bytes: Uint8Array, at: number): number {
  const first = bytes[at]!
  const second = bytes[at + 1]!
  if ((second & 0xc0) !== 0x80 || first < 0xc2) return 0
  if (first < 0xe0) return 2
  if ((bytes[at + 2]! & 0xc0) !== 0x80) return 0
  if (first < 0xf0) {
    if (first === 0xe0) return second >= 0xa0 ? 3 : 0
    return first === 0xed && second >= 0xa0 ? 0 : 3
  }
  if (first > 0xf4 || (bytes[at + 3]! & 0xc0) !== 0x80) return 0
  if (first === 0xf0) return second >= 0x90 ? 4 : 0
  return first === 0xf4 && second >= 0x90 ? 0 : 4
}
